//! Units as people write them in `release.yaml`: `10s`, `512MiB`, `1.5`, `TERM`. Pure.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest time that a release can ask for: a week. More is a slip of the pen.
const SPAN_MAX: Duration = Duration::from_hours(7 * 24);
/// The largest memory: 1 EiB stays far from overflow.
const SIZE_MAX: u64 = 1 << 60;
/// Processors of the largest machine.
const CPUS_MAX: f64 = 4096.0;

/// Why a text is no such unit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum UnitError {
    #[error("`{0}` is not a time: write a whole number and `ms`, `s`, `m` or `h`, e.g. `10s`, at most a week")]
    Span(String),
    #[error("`{0}` is not a size: write a whole number and `B`, `KiB`, `MiB` or `GiB`, e.g. `512MiB`")]
    Size(String),
    #[error("`{0}` is not a number of processors, e.g. `1.5`")]
    Cpus(String),
    #[error("`{0}` is not a signal to stop with: TERM, INT, QUIT, HUP, USR1, USR2 or WINCH")]
    Signal(String),
}

/// A length of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(Duration);

impl Span {
    /// Whole seconds, for defaults.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// As the standard library has it.
    pub fn duration(self) -> Duration {
        self.0
    }
}

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = || UnitError::Span(text.to_owned());
        let (number, unit) = split(text);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let milliseconds = match unit {
            "ms" => Some(number),
            "s" => number.checked_mul(1000),
            "m" => number.checked_mul(60_000),
            "h" => number.checked_mul(3_600_000),
            _ => None,
        };
        let span = Duration::from_millis(milliseconds.ok_or_else(wrong)?);
        if span > SPAN_MAX { Err(wrong()) } else { Ok(Self(span)) }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.0.as_millis();
        if milliseconds.is_multiple_of(1000) {
            write!(f, "{}s", milliseconds / 1000)
        } else {
            write!(f, "{milliseconds}ms")
        }
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(u64);

impl ByteSize {
    /// The number.
    pub fn bytes(self) -> u64 {
        self.0
    }
}

/// Units of [`ByteSize`], largest first.
const SIZE_UNITS: [(&str, u64); 5] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = || UnitError::Size(text.to_owned());
        let (number, unit) = split(text);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let (_, factor) = SIZE_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        number.checked_mul(*factor).filter(|bytes| *bytes <= SIZE_MAX && *bytes > 0).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = SIZE_UNITS.iter().find(|(_, factor)| self.0.is_multiple_of(*factor));
        let (unit, factor) = exact.copied().unwrap_or(("B", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

/// A share of processors, kept in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cpus(u32);

impl Cpus {
    /// Thousandths of one processor.
    pub fn thousandths(self) -> u32 {
        self.0
    }
}

impl Serialize for Cpus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(f64::from(self.0) / 1000.0)
    }
}

impl<'de> Deserialize<'de> for Cpus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = f64::deserialize(deserializer)?;
        if !(0.001..=CPUS_MAX).contains(&number) {
            return Err(serde::de::Error::custom(UnitError::Cpus(number.to_string())));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 4 096 000")]
        Ok(Self((number * 1000.0).round() as u32))
    }
}

/// A signal that asks a program to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM.
    Term,
    /// SIGINT.
    Int,
    /// SIGQUIT, nginx's graceful end.
    Quit,
    /// SIGHUP.
    Hup,
    /// SIGUSR1.
    Usr1,
    /// SIGUSR2.
    Usr2,
    /// SIGWINCH, httpd's graceful end.
    Winch,
}

impl Signal {
    const ALL: [(Self, &'static str); 7] = [
        (Self::Term, "TERM"),
        (Self::Int, "INT"),
        (Self::Quit, "QUIT"),
        (Self::Hup, "HUP"),
        (Self::Usr1, "USR1"),
        (Self::Usr2, "USR2"),
        (Self::Winch, "WINCH"),
    ];

    /// The name, without `SIG`, as runtimes take it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Term => "TERM",
            Self::Int => "INT",
            Self::Quit => "QUIT",
            Self::Hup => "HUP",
            Self::Usr1 => "USR1",
            Self::Usr2 => "USR2",
            Self::Winch => "WINCH",
        }
    }
}

impl FromStr for Signal {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let bare = text.strip_prefix("SIG").unwrap_or(text);
        let known = Self::ALL.iter().find(|(_, name)| *name == bare);
        known.map(|(signal, _)| *signal).ok_or_else(|| UnitError::Signal(text.to_owned()))
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Digits, and what follows them.
fn split(text: &str) -> (&str, &str) {
    text.split_at(text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len()))
}

macro_rules! by_text {
    ($($name:ty),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
by_text!(Span, ByteSize, Signal);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_written() {
        for (text, written) in [("10s", "10s"), ("1500ms", "1500ms"), ("2m", "120s"), ("1h", "3600s"), ("0s", "0s")] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), written);
        }
        for wrong in ["10", "s", "-1s", "1.5s", "10 s", "8000000s", "99999999999999999999h", "1d"] {
            assert!(wrong.parse::<Span>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_are_read_and_written() {
        for (text, bytes, written) in
            [("512MiB", 512 << 20, "512MiB"), ("1024KiB", 1 << 20, "1MiB"), ("7B", 7, "7B"), ("3GiB", 3 << 30, "3GiB")]
        {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!((size.bytes(), size.to_string().as_str()), (bytes, written));
        }
        for wrong in ["512", "512MB", "0MiB", "99999999999TiB", "MiB", "1.5GiB"] {
            assert!(wrong.parse::<ByteSize>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn cpus_are_thousandths() {
        let cpus: Cpus = serde_json::from_str("1.5").unwrap();
        assert_eq!(cpus.thousandths(), 1500);
        assert_eq!(serde_json::to_string(&cpus).unwrap(), "1.5");
        for wrong in ["0", "-1", "5000", "1e400"] {
            assert!(serde_json::from_str::<Cpus>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn signals_have_both_spellings() {
        assert_eq!("SIGTERM".parse::<Signal>().unwrap(), "TERM".parse().unwrap());
        assert!("KILL".parse::<Signal>().is_err());
    }
}
