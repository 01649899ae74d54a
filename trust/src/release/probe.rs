//! Probes: how a release says that it is alive. Pure.

use serde::{Deserialize, Serialize};

use super::units::Span;

/// Failures in a row that a live probe forgives unless told otherwise.
const FAILURES_DEFAULT: u32 = 3;
const WITHIN_DEFAULT: Span = Span::seconds(30);
const EVERY_DEFAULT: Span = Span::seconds(5);

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// `GET` answers with 2xx or 3xx.
    Http {
        /// Port inside the container.
        port: u16,
        /// Path with its leading slash.
        path: String,
    },
    /// The port accepts a connection.
    Tcp {
        /// Port inside the container.
        port: u16,
    },
    /// A program inside the container ends with 0.
    Exec {
        /// Program and arguments.
        argv: Vec<String>,
    },
}

/// The check after a switch: it has to succeed once, in time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "AliveFile", into = "AliveFile")]
pub struct Alive {
    /// What is asked.
    pub probe: Probe,
    /// How long it may take.
    pub within: Span,
}

/// The check while the release runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "LiveFile", into = "LiveFile")]
pub struct Live {
    /// What is asked.
    pub probe: Probe,
    /// How often.
    pub every: Span,
    /// How many failures in a row mean that it is dead.
    pub failures: u32,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AliveFile {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    http: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tcp: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exec: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    within: Option<Span>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LiveFile {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    http: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tcp: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exec: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    every: Option<Span>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failures: Option<u32>,
}

fn probe(http: Option<String>, tcp: Option<String>, exec: Option<Vec<String>>) -> Result<Probe, String> {
    match (http, tcp, exec) {
        (Some(text), None, None) => http_probe(&text),
        (None, Some(text), None) => Ok(Probe::Tcp { port: port(&text)? }),
        (None, None, Some(argv)) if !argv.is_empty() => Ok(Probe::Exec { argv }),
        (None, None, Some(_)) => Err("`exec` needs a program".to_owned()),
        _ => Err("a probe is exactly one of `http`, `tcp` and `exec`".to_owned()),
    }
}

fn http_probe(text: &str) -> Result<Probe, String> {
    let (port_text, path) = text.split_at(text.find('/').unwrap_or(text.len()));
    if path.chars().any(|character| character.is_control() || character == ' ') {
        return Err(format!("`{text}`: no blanks in a path"));
    }
    Ok(Probe::Http { port: port(port_text)?, path: if path.is_empty() { "/".to_owned() } else { path.to_owned() } })
}

/// `:8080`; the colon says that the host is not up for choice.
fn port(text: &str) -> Result<u16, String> {
    text.strip_prefix(':')
        .and_then(|digits| digits.parse().ok())
        .filter(|port| *port != 0)
        .ok_or_else(|| format!("`{text}` is not a port, e.g. `:8080`"))
}

type Parts = (Option<String>, Option<String>, Option<Vec<String>>);

fn written(probe: Probe) -> Parts {
    match probe {
        Probe::Http { port, path } => (Some(format!(":{port}{path}")), None, None),
        Probe::Tcp { port } => (None, Some(format!(":{port}")), None),
        Probe::Exec { argv } => (None, None, Some(argv)),
    }
}

impl TryFrom<AliveFile> for Alive {
    type Error = String;

    fn try_from(raw: AliveFile) -> Result<Self, String> {
        let within = raw.within.unwrap_or(WITHIN_DEFAULT);
        if within.duration().is_zero() {
            return Err("`within` has to be more than zero".to_owned());
        }
        Ok(Self { probe: probe(raw.http, raw.tcp, raw.exec)?, within })
    }
}

impl From<Alive> for AliveFile {
    fn from(alive: Alive) -> Self {
        let (http, tcp, exec) = written(alive.probe);
        Self { http, tcp, exec, within: Some(alive.within) }
    }
}

impl TryFrom<LiveFile> for Live {
    type Error = String;

    fn try_from(raw: LiveFile) -> Result<Self, String> {
        let failures = raw.failures.unwrap_or(FAILURES_DEFAULT);
        let every = raw.every.unwrap_or(EVERY_DEFAULT);
        if failures == 0 || every.duration().is_zero() {
            return Err("`failures` and `every` have to be more than zero".to_owned());
        }
        Ok(Self { probe: probe(raw.http, raw.tcp, raw.exec)?, every, failures })
    }
}

impl From<Live> for LiveFile {
    fn from(live: Live) -> Self {
        let (http, tcp, exec) = written(live.probe);
        Self { http, tcp, exec, every: Some(live.every), failures: Some(live.failures) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_read_and_written() {
        for text in [
            r#"{"http":":8080/healthz","within":"30s"}"#,
            r#"{"tcp":":8080","within":"1s"}"#,
            r#"{"exec":["/bin/check","-q"],"within":"5s"}"#,
        ] {
            let alive: Alive = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&alive).unwrap(), text);
        }
    }

    #[test]
    fn probe_is_exactly_one_thing() {
        for text in [r"{}", r#"{"http":":1/","tcp":":1"}"#, r#"{"exec":[]}"#, r#"{"http":"8080/"}"#, r#"{"tcp":":0"}"#]
        {
            assert!(serde_json::from_str::<Alive>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn probe_that_could_never_succeed_is_refused() {
        assert!(serde_json::from_str::<Alive>(r#"{"tcp":":1","within":"0s"}"#).is_err());
        assert!(serde_json::from_str::<Live>(r#"{"tcp":":1","every":"0s"}"#).is_err());
        assert!(serde_json::from_str::<Live>(r#"{"tcp":":1","failures":0}"#).is_err());
    }
}
