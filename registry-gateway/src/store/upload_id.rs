//! The name of an upload session: random, and with one spelling, since it is part of a file's name. Pure.

use std::fmt;
use std::str::FromStr;

/// The name of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UploadId(uuid::Uuid);

impl UploadId {
    /// A new one, of random bytes.
    pub(super) fn of(random: [u8; 16]) -> Self {
        // Random, not v7: an upload's address must not be guessed from another's.
        Self(uuid::Builder::from_random_bytes(random).into_uuid())
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// A text that names no session.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not the name of an upload")]
pub struct UploadIdError(String);

impl FromStr for UploadId {
    type Err = UploadIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // One spelling only: the id becomes a file name.
        match uuid::Uuid::try_parse(text) {
            Ok(id) if id.hyphenated().to_string() == text => Ok(Self(id)),
            _ => Err(UploadIdError(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upload_id_has_one_spelling() {
        let id = "01890a5d-ac96-774b-bcce-b302099a8057";
        assert_eq!(id.parse::<UploadId>().unwrap().to_string(), id);
        for wrong in ["", "..", "01890A5D-AC96-774B-BCCE-B302099A8057", "01890a5dac96774bbcceb302099a8057", "../../x"] {
            assert!(wrong.parse::<UploadId>().is_err(), "{wrong}");
        }
    }
}
