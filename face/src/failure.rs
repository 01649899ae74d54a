//! Failures as a person reads them: what happened, why, what to do next; and the exit code that a script reads.
//! Pure.

use std::borrow::Cow;
use std::fmt;

/// The published exit codes (`docs/`, "Exit codes").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Failed, and nothing was changed.
    Failed = 1,
    /// Wrong use, or a file that a person wrote is wrong.
    Usage = 2,
    /// Refused by trust: unsigned, untrusted, malformed, expired, regressed, tampered.
    Refused = 3,
    /// A server that is needed does not answer.
    Unreachable = 4,
    /// The switch failed and the old release serves again.
    ChangedBack = 5,
    /// Both data states are intact, and an operator has to choose.
    NeedsOperator = 6,
    /// Interrupted by a signal.
    Interrupted = 130,
}

impl Exit {
    /// The number that the process ends with.
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// One failure in three parts. `what` holds the nouns (file, digest, field), `why` the cause, `next` what to do.
#[derive(Debug)]
pub struct Failure {
    /// Exit code of the process.
    pub exit: Exit,
    /// What happened.
    pub what: String,
    /// Why, if more is known than `what` says.
    pub why: Option<String>,
    /// What to do next.
    pub next: Option<String>,
}

impl Failure {
    /// A failure with its first part; add the others with [`Failure::why`] and [`Failure::next`].
    pub fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, what: what.into(), why: None, next: None }
    }

    /// Adds the cause; an error's whole chain of sources is written out.
    #[must_use]
    pub fn why(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }

    /// Adds the cause from an error and its sources.
    #[must_use]
    pub fn because(self, error: &dyn std::error::Error) -> Self {
        self.why(chain(error))
    }

    /// Adds what to do next.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }
}

/// An error and its sources in one line, each message once.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let message = inner.to_string();
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        source = inner.source();
    }
    text
}

/// Text for a terminal. Part of it may come from a registry, a repository or a file of somebody else, and must not
/// move the cursor, colour the screen or turn the reading direction: such characters are written as escapes.
pub fn tame(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_wild) {
        return Cow::Borrowed(text);
    }
    let mut tamed = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if is_wild(character) {
            tamed.extend(character.escape_default());
        } else {
            tamed.push(character);
        }
    }
    Cow::Owned(tamed)
}

/// Control characters but for line end and tabulator, and those that reorder what is shown (bidirectional overrides).
fn is_wild(character: char) -> bool {
    let reorders = matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    reorders || (character.is_control() && !matches!(character, '\n' | '\t'))
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&tame(&self.what))?;
        if let Some(why) = &self.why {
            write!(f, ": {}", tame(why))?;
        }
        if let Some(next) = &self.next {
            write!(f, "\n  next: {}", tame(next))?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_an_attacker_cannot_speak_to_the_terminal() {
        let failure = Failure::new(Exit::Failed, "a\u{1b}[2Jb").why("c\u{7}\r").next("d\u{202e}e\n  f\tg é");
        assert_eq!(
            failure.to_string(),
            "a\\u{1b}[2Jb: c\\u{7}\\r\n  next: d\\u{202e}e\n  f\tg é",
            "escaped, and what is harmless is left alone"
        );
    }

    #[test]
    fn chain_says_each_message_once() {
        let inner = std::io::Error::other("no route");
        let failure = Failure::new(Exit::Failed, "x").because(&inner);
        assert_eq!(failure.why.as_deref(), Some("no route"));
    }
}
