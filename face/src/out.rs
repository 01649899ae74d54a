//! The two standard streams: results to stdout, everything else to stderr. The only room that prints.

use std::io::{IsTerminal, Write};

use serde::Serialize;

use crate::Failure;
use crate::failure::tame;

/// How results are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum OutputMode {
    /// For a person.
    #[default]
    Text,
    /// One JSON object a line, each with a version.
    Json,
}

/// Flags that every command takes.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Globals {
    /// How results are written.
    #[arg(long, short = 'o', global = true, value_enum, default_value = "text", env = "NEBH_OUTPUT")]
    pub output: OutputMode,
    /// Settings file of the command.
    #[arg(long, global = true, value_name = "FILE", env = "NEBH_SETTINGS")]
    pub settings: Option<std::path::PathBuf>,
    /// Print the one result alone (a digest, an id).
    #[arg(long, short = 'q', global = true)]
    pub quiet: bool,
    /// Say why.
    #[arg(long, short = 'v', global = true)]
    pub verbose: bool,
    /// Answer questions with yes.
    #[arg(long, short = 'y', global = true)]
    pub yes: bool,
}

impl Globals {
    /// Where a command without settings keeps what it needs: `NEBH_STATE`, else `/var/lib/nebh` for root,
    /// else the XDG data folder.
    pub fn state(&self, is_root: bool) -> std::path::PathBuf {
        let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        if let Some(state) = from("NEBH_STATE") {
            return state.into();
        }
        if is_root {
            return "/var/lib/nebh".into();
        }
        match from("XDG_DATA_HOME") {
            Some(data) => std::path::PathBuf::from(data).join("nebh"),
            None => std::path::PathBuf::from(from("HOME").unwrap_or_else(|| ".".into())).join(".local/share/nebh"),
        }
    }
}

/// Writes results, progress and failures as the global flags ask.
#[derive(Clone, Copy, Debug)]
pub struct Out {
    mode: OutputMode,
    quiet: bool,
}

impl Out {
    /// The writer for these flags.
    pub fn new(globals: &Globals) -> Self {
        Self { mode: globals.output, quiet: globals.quiet }
    }

    /// True for `--output json`.
    pub fn is_json(&self) -> bool {
        self.mode == OutputMode::Json
    }

    /// True where a person watches: text mode, not quiet, stderr a terminal, `NO_COLOR` and `TERM=dumb` respected by callers.
    pub fn is_live(&self) -> bool {
        self.mode == OutputMode::Text && !self.quiet && std::io::stderr().is_terminal()
    }

    /// One result: `text` for a person, `value` for `--output json`, `bare` alone for `-q`.
    pub fn result<T: Serialize>(&self, text: &str, value: &T, bare: &str) {
        match self.mode {
            OutputMode::Json => self.json(value),
            OutputMode::Text if self.quiet => line(&mut std::io::stdout(), bare),
            OutputMode::Text => line(&mut std::io::stdout(), text),
        }
    }

    /// One JSON object on stdout, in JSON mode only.
    pub fn json<T: Serialize>(&self, value: &T) {
        if self.mode == OutputMode::Json
            && let Ok(text) = serde_json::to_string(value)
        {
            line(&mut std::io::stdout(), &text);
        }
    }

    /// A line about what is going on, to stderr; nothing if quiet or JSON.
    pub fn note(&self, text: &str) {
        if self.mode == OutputMode::Text && !self.quiet {
            line(&mut std::io::stderr(), text);
        }
    }

    /// A failure: text to stderr, and in JSON mode also as an object on stdout.
    pub fn failure(&self, failure: &Failure) {
        #[derive(Serialize)]
        struct Wire<'a> {
            version: u32,
            kind: &'static str,
            exit: u8,
            what: &'a str,
            why: Option<&'a str>,
            next: Option<&'a str>,
        }
        self.json(&Wire {
            version: 1,
            kind: "failure",
            exit: failure.exit.code(),
            what: &failure.what,
            why: failure.why.as_deref(),
            next: failure.next.as_deref(),
        });
        line(&mut std::io::stderr(), &format!("error: {failure}"));
    }
}

/// A closed pipe on the other side is the reader's choice, not a failure of ours.
fn line(to: &mut impl Write, text: &str) {
    drop(writeln!(to, "{}", tame(text)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_printed_speaks_to_the_terminal() {
        let mut printed = Vec::new();
        line(&mut printed, "release 1.0\u{1b}]0;owned\u{7}\n  two lines");
        assert_eq!(printed, b"release 1.0\\u{1b}]0;owned\\u{7}\n  two lines\n");
    }
}
