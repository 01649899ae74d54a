//! The outer shell of a `.deb`: an `ar` archive of three members, read strictly. Reads from what it is given.

use std::io::{self, Read};

const MAGIC: &[u8; 8] = b"!<arch>\n";
const HEADER: usize = 60;

/// Reads the members of an archive one after another.
#[derive(Debug)]
pub struct ArReader<R> {
    from: R,
    /// Unread bytes of the current member, its padding included.
    left: u64,
    /// Unread bytes of the current member's content.
    content: u64,
}

/// Why the bytes are no archive.
#[derive(Debug, thiserror::Error)]
pub enum ArError {
    /// Reading failed or ended early.
    #[error("the archive cannot be read")]
    Read(#[source] io::Error),
    /// The bytes are not what the format says.
    #[error("not an `ar` archive: {0}")]
    Format(&'static str),
}

impl<R: Read> ArReader<R> {
    /// Begins an archive.
    pub fn new(mut from: R) -> Result<Self, ArError> {
        let mut magic = [0; MAGIC.len()];
        from.read_exact(&mut magic).map_err(ArError::Read)?;
        if &magic != MAGIC {
            return Err(ArError::Format("it does not begin as one"));
        }
        Ok(Self { from, left: 0, content: 0 })
    }

    /// Goes to the next member; its name and size. The reader then gives its content.
    pub fn next_member(&mut self) -> Result<Option<(String, u64)>, ArError> {
        let rest = io::copy(&mut (&mut self.from).take(self.left), &mut io::sink()).map_err(ArError::Read)?;
        if rest != self.left {
            return Err(ArError::Format("a member ends early"));
        }
        (self.left, self.content) = (0, 0);
        let mut header = [0; HEADER];
        let first = self.from.read(&mut header[..1]).map_err(ArError::Read)?;
        if first == 0 {
            return Ok(None);
        }
        self.from.read_exact(&mut header[1..]).map_err(ArError::Read)?;
        if &header[58..60] != b"`\n" {
            return Err(ArError::Format("a member's header does not end as one"));
        }
        let text = |range: std::ops::Range<usize>| {
            std::str::from_utf8(&header[range]).map(str::trim_end).map_err(|_| ArError::Format("a header is no text"))
        };
        let name = text(0..16)?.trim_end_matches('/').to_owned();
        let size = text(48..58)?;
        if size.is_empty() || !size.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(ArError::Format("a member's size is no number"));
        }
        let size: u64 = size.parse().map_err(|_| ArError::Format("a member's size is no number"))?;
        (self.content, self.left) = (size, size + size % 2);
        Ok(Some((name, size)))
    }
}

impl<R: Read> Read for ArReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = buffer.len().min(usize::try_from(self.content).unwrap_or(usize::MAX));
        let count = self.from.read(&mut buffer[..want])?;
        self.content -= count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}
