//! Fetching blobs: streamed to disk, counted, hashed, continued where the line broke.
//!
//! ```text
//!   GET, Range from where we are ─► chunk ─► channel ─► thread: write + hash ─► size? digest? ─► fsync ─► rename
//!        ▲                            │
//!        └── back-off, next try ◄─────┘ broken
//! ```
//!
//! The descriptor's size is a wall: one byte more ends the fetch. `urls` of a descriptor are never followed.

use std::path::Path;

use bytes::Bytes;
use reqwest::header::CONTENT_RANGE;
use reqwest::{Method, Response, StatusCode};
use tokio::sync::mpsc;

use super::Client;
use super::auth::Access;
use super::error::{ClientError, ClientErrorKind};
use super::http::Call;
use super::partial::Partial;
use super::retry::Setback;
use super::transport::{Pace, next_chunk, read_capped};
use crate::digest::Digest;
use crate::manifest::Descriptor;
use crate::names::RepositoryAddress;

/// A try that brought this much counts as a success: the next failure is a first one again.
const PROGRESS: u64 = 1 << 20;
/// Chunks between network and disk: enough to keep both busy, little enough to forget.
const CHUNKS_IN_FLIGHT: usize = 32;

impl Client {
    /// Fetches a blob to `dest`, which appears whole and right or not at all. What was fetched before a failure waits
    /// beside it and is continued by the next call.
    pub async fn fetch_blob(
        &self,
        address: &RepositoryAddress,
        descriptor: &Descriptor,
        dest: &Path,
    ) -> Result<(), ClientError> {
        let beside = dest.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        self.fetch_blob_by_way_of(address, descriptor, beside, dest).await
    }

    /// The same with the unfinished file in another directory of the same file system.
    pub(super) async fn fetch_blob_by_way_of(
        &self,
        address: &RepositoryAddress,
        descriptor: &Descriptor,
        temporary: &Path,
        dest: &Path,
    ) -> Result<(), ClientError> {
        let mut call = self.blob_call(address, descriptor)?;
        let (digest, size) = (descriptor.digest, descriptor.size);
        let local = |error: std::io::Error, call: &Call<'_>| call.fail(ClientErrorKind::local(dest, &error));
        let directory = temporary.to_owned();
        let mut partial = blocking(&call, move || Partial::open(&directory, digest, size))
            .await?
            .map_err(|error| local(error, &call))?;
        let mut tries = self.tries();
        loop {
            let before = partial.length();
            let (returned, outcome) = self.continue_fetch(&mut call, partial, size).await?;
            partial = returned;
            match outcome {
                Ok(()) if partial.digest() == digest => break,
                // What an earlier process left may have rotted; once more, from the first byte.
                Ok(()) if partial.inherited() => partial.restart().map_err(|error| local(error, &call))?,
                Ok(()) => {
                    let actual = partial.digest();
                    partial.discard();
                    return Err(call.fail(ClientErrorKind::DigestMismatch { expected: digest, actual }));
                }
                Err(Setback::Final(error)) if error.is_tampered() => {
                    partial.discard();
                    return Err(error);
                }
                Err(setback) => {
                    if partial.length() >= before + PROGRESS {
                        tries.renew();
                    }
                    tries.pause(setback).await?;
                }
            }
        }
        let to = dest.to_owned();
        blocking(&call, move || partial.publish(&to)).await?.map_err(|error| local(error, &call))
    }

    /// One request for what is missing. The partial file always comes back, with whatever it gained.
    async fn continue_fetch(
        &self,
        call: &mut Call<'_>,
        mut partial: Partial,
        size: u64,
    ) -> Result<(Partial, Result<(), Setback>), ClientError> {
        if partial.length() == size {
            return Ok((partial, Ok(())));
        }
        call.range_from = partial.length();
        let response = match self.send_once(call).await {
            Ok(response) => response,
            Err(setback) => return Ok((partial, Err(setback))),
        };
        let has = partial.length();
        let misfit = match response.status() {
            StatusCode::PARTIAL_CONTENT => range_start(&response) != Some(has),
            StatusCode::RANGE_NOT_SATISFIABLE => true,
            // Everything again: the server does not know parts.
            StatusCode::OK if has > 0 => {
                partial.restart().map_err(|error| call.fail(ClientErrorKind::local(partial.path(), &error)))?;
                false
            }
            _ => false,
        };
        if misfit && has > 0 {
            // Another part than asked for, or none: from the first byte, without asking for a part.
            partial.restart().map_err(|error| call.fail(ClientErrorKind::local(partial.path(), &error)))?;
            let message = format!("it answered {} to a request for the rest", response.status());
            return Ok((partial, Err(Setback::Later(call.fail(ClientErrorKind::Unreachable { message }), None))));
        }
        let expected = [StatusCode::OK, StatusCode::PARTIAL_CONTENT];
        let response = match self.expect(call, response, &expected).await {
            Ok(response) => response,
            Err(error) => return Ok((partial, Err(error.into()))),
        };
        let announced = response.content_length().map(|length| partial.length().saturating_add(length));
        if let Some(actual) = announced.filter(|announced| *announced != size) {
            let error = call.fail(ClientErrorKind::SizeMismatch { expected: size, actual });
            return Ok((partial, Err(error.into())));
        }
        self.drain(call, response, partial, size).await
    }

    async fn drain(
        &self,
        call: &Call<'_>,
        mut response: Response,
        partial: Partial,
        size: u64,
    ) -> Result<(Partial, Result<(), Setback>), ClientError> {
        let mut received = partial.length();
        let (sender, chunks) = mpsc::channel(CHUNKS_IN_FLIGHT);
        // Dropping this future closes the channel, and with that the thread ends too.
        let writer = tokio::task::spawn_blocking(move || write_all(partial, chunks));
        let mut pace = Pace::new(self.inner.http.idle_timeout());
        let outcome = loop {
            match next_chunk(&mut response, &mut pace).await {
                Ok(Some(chunk)) => {
                    received += chunk.len() as u64;
                    if received > size {
                        break Err(ClientErrorKind::SizeMismatch { expected: size, actual: received });
                    }
                    if sender.send(chunk).await.is_err() {
                        break Ok(());
                    }
                }
                Ok(None) if received < size => {
                    break Err(ClientErrorKind::SizeMismatch { expected: size, actual: received });
                }
                Ok(None) => break Ok(()),
                Err(kind) => break Err(kind),
            }
        };
        drop(sender);
        let joined = writer.await.map_err(|error| call.fail(ClientErrorKind::Local { message: error.to_string() }))?;
        let (partial, written) = joined;
        if let Err(error) = written {
            // A full disk is not the registry's fault, and no second try empties it.
            return Err(call.fail(ClientErrorKind::local(partial.path(), &error)));
        }
        Ok((partial, outcome.map_err(|kind| call.fail(kind).into())))
    }

    /// A small blob, whole: at most `cap` bytes, its size and digest checked.
    pub async fn blob_bytes(
        &self,
        address: &RepositoryAddress,
        descriptor: &Descriptor,
        cap: u64,
    ) -> Result<Vec<u8>, ClientError> {
        let call = self.blob_call(address, descriptor)?;
        if descriptor.size > cap {
            return Err(call.fail(ClientErrorKind::TooLarge { what: "a blob that is read whole", limit: cap }));
        }
        let mut tries = self.tries();
        loop {
            match self.blob_bytes_once(&call, descriptor).await {
                Ok(bytes) => return Ok(bytes),
                Err(setback) => tries.pause(setback).await?,
            }
        }
    }

    async fn blob_bytes_once(&self, call: &Call<'_>, descriptor: &Descriptor) -> Result<Vec<u8>, Setback> {
        let response = self.send_once(call).await?;
        let response = self.expect(call, response, &[StatusCode::OK]).await?;
        let expected = descriptor.size;
        let mismatch = |actual| call.fail(ClientErrorKind::SizeMismatch { expected, actual });
        if let Some(actual) = response.content_length().filter(|length| *length != expected) {
            return Err(mismatch(actual).into());
        }
        let limit = usize::try_from(expected).unwrap_or(usize::MAX);
        let bytes = match read_capped(response, limit, self.inner.http.idle_timeout()).await {
            Ok(bytes) if bytes.len() == limit => bytes,
            Ok(bytes) => return Err(mismatch(bytes.len() as u64).into()),
            Err(ClientErrorKind::TooLarge { .. }) => return Err(mismatch(expected.saturating_add(1)).into()),
            Err(kind) => return Err(call.fail(kind).into()),
        };
        let actual = Digest::of(descriptor.digest.algorithm(), &bytes);
        if actual != descriptor.digest {
            let expected = descriptor.digest;
            return Err(call.fail(ClientErrorKind::DigestMismatch { expected, actual }).into());
        }
        Ok(bytes)
    }

    fn blob_call<'a>(&self, address: &'a RepositoryAddress, descriptor: &Descriptor) -> Result<Call<'a>, ClientError> {
        let path = format!("blobs/{}", descriptor.digest);
        let call = self.call("fetch blob", descriptor.digest, address, (Access::Pull, Method::GET), &path)?;
        let limit = self.inner.settings.blob_size_max;
        if descriptor.size > limit {
            return Err(call.fail(ClientErrorKind::TooLarge { what: "a blob", limit }));
        }
        Ok(call)
    }
}

fn write_all(mut partial: Partial, mut chunks: mpsc::Receiver<Bytes>) -> (Partial, std::io::Result<()>) {
    while let Some(chunk) = chunks.blocking_recv() {
        if let Err(error) = partial.append(&chunk) {
            return (partial, Err(error));
        }
    }
    (partial, Ok(()))
}

/// `Content-Range: bytes <start>-<end>/<total>`
fn range_start(response: &Response) -> Option<u64> {
    let value = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    value.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()
}

async fn blocking<T: Send + 'static>(
    call: &Call<'_>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ClientError> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.map_err(|error| call.fail(ClientErrorKind::Local { message: error.to_string() }))
}
