//! The compressor of the contract: independent gzip members of 1 MiB, so that the bytes depend neither on how many
//! threads worked nor on how the writer cut its data. Spawns threads that end before `write` returns.

use std::io::{self, Write};

use libdeflater::{CompressionLvl, Compressor};
use nebh_oci::digest::{Algorithm, DiffId, Hasher};

/// Names the compressor in provenance and cache keys: the compressed digest is a function of diff ID and this.
pub const COMPRESSOR: &str = "libdeflate-1.26.1/level-6/members-1MiB";

const MEMBER: usize = 1 << 20;
const LEVEL: i32 = 6;
/// Members compressed together; bounds memory, and has no influence on the bytes.
const BATCH: usize = 8;

/// Hashes what is written, compresses it, and passes it on.
#[derive(Debug)]
pub struct LayerSink<W: Write> {
    to: W,
    pending: Vec<u8>,
    hasher: Hasher,
    size: u64,
}

impl<W: Write> LayerSink<W> {
    /// A sink that writes members to `to`.
    pub fn new(to: W) -> Self {
        Self { to, pending: Vec::with_capacity(BATCH * MEMBER), hasher: Hasher::new(Algorithm::Sha256), size: 0 }
    }

    /// Writes what is left; gives the inner writer, the digest of the uncompressed bytes, and their number.
    pub fn finish(mut self) -> io::Result<(W, DiffId, u64)> {
        self.compress()?;
        if self.size == 0 {
            self.to.write_all(&member(&[])?)?;
        }
        Ok((self.to, DiffId(self.hasher.finish()), self.size))
    }

    fn compress(&mut self) -> io::Result<()> {
        let chunks: Vec<&[u8]> = self.pending.chunks(MEMBER).collect();
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(chunks.len());
        let members = if threads < 2 {
            chunks.into_iter().map(member).collect::<io::Result<Vec<_>>>()?
        } else {
            parallel(&chunks, threads)?
        };
        self.pending.clear();
        members.iter().try_for_each(|member| self.to.write_all(member))
    }
}

impl<W: Write> Write for LayerSink<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let take = bytes.len().min(BATCH * MEMBER - self.pending.len());
        self.pending.extend_from_slice(&bytes[..take]);
        self.hasher.update(&bytes[..take]);
        self.size += take as u64;
        if self.pending.len() == BATCH * MEMBER {
            self.compress()?;
        }
        Ok(take)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn parallel(chunks: &[&[u8]], threads: usize) -> io::Result<Vec<Vec<u8>>> {
    let mut results: Vec<Option<io::Result<Vec<u8>>>> = chunks.iter().map(|_| None).collect();
    let share = chunks.len().div_ceil(threads);
    std::thread::scope(|scope| {
        for (results, chunks) in results.chunks_mut(share).zip(chunks.chunks(share)) {
            scope.spawn(move || {
                for (result, chunk) in results.iter_mut().zip(chunks) {
                    *result = Some(member(chunk));
                }
            });
        }
    });
    results
        .into_iter()
        .map(|result| result.unwrap_or_else(|| Err(io::Error::other("a compressor thread ended"))))
        .collect()
}

fn member(chunk: &[u8]) -> io::Result<Vec<u8>> {
    let level = CompressionLvl::new(LEVEL).map_err(|_| io::Error::other("the compressor has no such level"))?;
    let mut compressor = Compressor::new(level);
    let mut out = vec![0; compressor.gzip_compress_bound(chunk.len())];
    let size = compressor.gzip_compress(chunk, &mut out).map_err(io::Error::other)?;
    out.truncate(size);
    Ok(out)
}
