//! Files of a few lines that a person named: a policy, a key. Read with a bound, since a device or a log that is named by
//! mistake has no end.
//!
//! Side effects: reads.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Bytes of such a file.
const BYTES_MAX: u64 = 1 << 20;

/// The text of a file of at most a MiB.
pub fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > BYTES_MAX {
        return Err(io::Error::other(format!("it has more than {BYTES_MAX} bytes")));
    }
    Ok(text)
}
