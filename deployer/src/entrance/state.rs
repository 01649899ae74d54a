//! `entrance.json`: what an entrance that was killed needs to come back as it was. A note, not a truth: the agent's
//! journal decides, and says it again when it re-attaches. Therefore it is renamed into place, but not synced, and one
//! that a power cut left unreadable is as good as none: the processes that it named are gone as well.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::wire::Port;
use crate::crash;
use crate::process::Process;

/// Version of the file.
const VERSION: u32 = 1;

/// The file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    version: u32,
    pub(super) gates: Vec<GateState>,
}

/// One gate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct GateState {
    pub(super) gate: String,
    pub(super) ports: Vec<Port>,
    pub(super) held: bool,
    pub(super) target: Option<Process>,
}

impl State {
    /// The state of these gates.
    pub(super) fn new(gates: Vec<GateState>) -> Self {
        Self { version: VERSION, gates }
    }

    /// Reads the file; a missing or unreadable one is an empty state.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::new(Vec::new())),
            Err(error) => return Err(error),
        };
        let why = match serde_json::from_slice::<Self>(&bytes) {
            Ok(state) if state.version == VERSION => return Ok(state),
            Ok(state) => format!("version {} is not known here", state.version),
            Err(error) => error.to_string(),
        };
        tracing::warn!(path = %path.display(), why, "the entrance's note is not used; its gates open when the agent says so");
        Ok(Self::new(Vec::new()))
    }

    /// Writes the file.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let half = path.with_extension("json.half");
        std::fs::write(&half, serde_json::to_vec(self)?)?;
        crash::entrance("entrance-note-half");
        std::fs::rename(&half, path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1_is_read() {
        let text = r#"{"version":1,"gates":[{"gate":"shop/api","ports":[{"listen":"127.0.0.1:18080","port":8080}],"held":true,"target":{"pid":7,"started":9}}]}"#;
        let state: State = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&state).unwrap(), text);
    }

    #[test]
    fn a_note_that_a_power_cut_left_is_as_good_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("entrance.json");
        for bytes in [&b""[..], b"\0\0\0\0", br#"{"version":1,"gates":[{"ga"#, br#"{"version":9,"gates":[]}"#] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(State::read(&path).unwrap(), State::new(Vec::new()));
        }
    }
}
