//! The runtime program: which one, where it lies, and where it keeps its containers. What it can be asked for is in `driver`.

use std::path::{Path, PathBuf};

/// The runtime programs that are known, in the order in which they are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuntimeKind {
    /// The reference implementation.
    Runc,
    /// The one in C.
    Crun,
}

impl std::fmt::Display for RuntimeKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Runc => "runc",
            Self::Crun => "crun",
        })
    }
}

/// A runtime program that was seen to work on this machine.
#[derive(Clone, Debug)]
pub struct Runtime {
    pub(super) kind: RuntimeKind,
    pub(super) program: PathBuf,
    pub(super) state: PathBuf,
    why: String,
}

impl Runtime {
    pub(super) fn new(kind: RuntimeKind, program: PathBuf, state: PathBuf, why: String) -> Self {
        Self { kind, program, state, why }
    }

    /// The program that an earlier probe chose, at its path; it is not tried again.
    pub fn chosen(kind: RuntimeKind, program: PathBuf, state: PathBuf) -> Self {
        Self::new(kind, program, state, format!("{kind} was chosen before"))
    }

    /// Where the program lies.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Where it keeps its containers.
    pub fn state_folder(&self) -> &Path {
        &self.state
    }

    /// Which program.
    pub fn kind(&self) -> RuntimeKind {
        self.kind
    }

    /// Why this one, in a sentence.
    pub fn why(&self) -> &str {
        &self.why
    }
}
