//! Handing out blobs: whole ones hashed on the way unless that was done lately or is being done, parts only of what was
//! compared before.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::Stream;
use jiff::Timestamp;
use nebh_oci::digest::Digest;
use nebh_oci::names::Repository;

use super::error::{Code, Refusal};
use super::permit::Permit;
use super::range::{Wanted, wanted};
use super::{digest_value, text_value};
use crate::compared::Turn;
use crate::gateway::Gateway;
use crate::store::read::{FileState, PIECE_BYTES};
use crate::store::{BlobReader, ReadError, StoreError, blocking, read};
use crate::{crash, db};

fn unknown(repository: &Repository, digest: &Digest) -> Refusal {
    Refusal::new(Code::BlobUnknown, format!("`{repository}` has no blob {digest}"))
}

/// GET and HEAD of a blob.
pub async fn get(
    gateway: &Arc<Gateway>,
    repository: &Repository,
    digest: Digest,
    head: bool,
    range: Option<&str>,
) -> Result<Response, Refusal> {
    let row = gateway.db.blob(repository, &digest).await?.ok_or_else(|| unknown(repository, &digest))?;
    if head {
        // A pusher that hears "it is here" will not send it: from now on it must not be swept away.
        let now = Timestamp::now();
        if row.is_stale(gateway.settings.grace, now) {
            let mut tx = gateway.db.write().await?;
            let there = db::blobs::touch(&mut tx, &digest, now).await?;
            db::commit(tx).await?;
            if !there {
                return Err(unknown(repository, &digest));
            }
        }
        return Ok((StatusCode::OK, headers(&digest, row.size)).into_response());
    }
    match wanted(range, row.size) {
        Wanted::Whole => {
            let (file, state) = open(gateway, digest).await?;
            let body = body(whole(gateway, file, digest, row.size, state));
            Ok((StatusCode::OK, headers(&digest, row.size), body).into_response())
        }
        Wanted::Part { start, length } => {
            let reader = part(gateway, digest, row.size, start, length).await?;
            let range = format!("bytes {start}-{}/{}", start + length - 1, row.size);
            let body = body(Flow { gateway: Arc::clone(gateway), digest, reader, proof: Proof::Given });
            let mut response = (StatusCode::PARTIAL_CONTENT, headers(&digest, length), body).into_response();
            response.headers_mut().insert(header::CONTENT_RANGE, text_value(&range));
            Ok(response)
        }
        Wanted::Unsatisfiable => Err(Refusal::new(Code::SizeInvalid, format!("the blob has {} bytes", row.size))
            .status(StatusCode::RANGE_NOT_SATISFIABLE)
            .header(header::CONTENT_RANGE, text_value(&format!("bytes */{}", row.size)))),
    }
}

fn headers(digest: &Digest, length: u64) -> [(header::HeaderName, HeaderValue); 6] {
    [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (header::CONTENT_LENGTH, HeaderValue::from(length)),
        (header::ACCEPT_RANGES, HeaderValue::from_static("bytes")),
        (header::HeaderName::from_static("docker-content-digest"), digest_value(digest)),
        (header::ETAG, text_value(&format!("\"{digest}\""))),
        (header::CACHE_CONTROL, HeaderValue::from_static("max-age=31536000, immutable")),
    ]
}

/// A file that is gone under a row is damage too: said, taken out of service, and healed by the next push.
async fn open(gateway: &Arc<Gateway>, digest: Digest) -> Result<(File, FileState), Refusal> {
    let store = Arc::clone(&gateway.store);
    let opened = blocking(move || {
        let file = store.open_blob(&digest)?;
        let state = read::state(&file).map_err(StoreError::io("look at", store.tree().blob(&digest)))?;
        Ok((file, state))
    });
    match opened.await? {
        Ok(opened) => Ok(opened),
        Err(error) => {
            if let StoreError::Io { source, .. } = &error
                && source.kind() == std::io::ErrorKind::NotFound
            {
                gateway.quarantine(digest, "the file is gone").await;
            }
            Err(error.into())
        }
    }
}

async fn part(
    gateway: &Arc<Gateway>,
    digest: Digest,
    size: u64,
    start: u64,
    length: u64,
) -> Result<BlobReader, Refusal> {
    let (file, state) = open(gateway, digest).await?;
    let copy = file.try_clone().map_err(|source| ReadError::Io { digest, source })?;
    prove(gateway, copy, Claim { digest, size, state }, Duration::MAX).await?;
    Ok(BlobReader::compared(file, digest, start, length, state))
}

/// That a file in this state has the bytes of its name.
#[derive(Clone, Copy)]
struct Claim {
    digest: Digest,
    size: u64,
    state: FileState,
}

impl Claim {
    fn is_known(&self, gateway: &Gateway, age_max: Duration) -> bool {
        gateway.compared.ago(&self.digest, self.state).is_some_and(|age| age < age_max)
    }
}

/// Compares a blob with its name, unless that was done lately: many who wait for it at once pay for it once.
async fn prove(gateway: &Arc<Gateway>, file: File, claim: Claim, age_max: Duration) -> Result<(), Refusal> {
    if claim.is_known(gateway, age_max) {
        return Ok(());
    }
    let Claim { digest, size, state } = claim;
    let _one = gateway.compared.one_at_a_time(&digest).await;
    if claim.is_known(gateway, age_max) {
        return Ok(());
    }
    if gateway.db.is_quarantined(&digest).await? {
        return Err(Refusal::new(Code::BlobUnknown, format!("blob {digest} is damaged and was taken out of service")));
    }
    if let Err(error) = blocking(move || BlobReader::check(file, digest, size)).await? {
        damaged(gateway, digest, &error).await;
        return Err(error.into());
    }
    gateway.compared.remember(digest, state);
    Ok(())
}

/// Read errors mean keep: only bytes that were read and are wrong are taken out of service.
async fn damaged(gateway: &Arc<Gateway>, digest: Digest, error: &ReadError) {
    match error {
        ReadError::Corrupt { .. } | ReadError::Short(_) => gateway.quarantine(digest, &error.to_string()).await,
        ReadError::Changed(_) | ReadError::Io { .. } => {
            tracing::error!(%digest, error = nebh_face::failure::chain(error), "cannot read a blob");
        }
    }
}

/// How it becomes known that the bytes of a response are those of the name.
enum Proof {
    /// It is known.
    Given,
    /// They are hashed on the way.
    OnTheWay { _turn: Turn },
    /// They are hashed on somebody else's way, or will be before the last piece.
    Owed(Claim),
}

struct Flow {
    gateway: Arc<Gateway>,
    digest: Digest,
    reader: BlobReader,
    proof: Proof,
}

fn whole(gateway: &Arc<Gateway>, file: File, digest: Digest, size: u64, state: FileState) -> Flow {
    let claim = Claim { digest, size, state };
    let proof = if claim.is_known(gateway, gateway.settings.rehash_after) {
        Proof::Given
    } else {
        gateway.compared.turn(digest).map_or(Proof::Owed(claim), |turn| Proof::OnTheWay { _turn: turn })
    };
    let reader = match proof {
        Proof::OnTheWay { .. } => BlobReader::whole(file, digest, size, state),
        Proof::Given | Proof::Owed(_) => BlobReader::compared(file, digest, 0, size, state),
    };
    Flow { gateway: Arc::clone(gateway), digest, reader, proof }
}

fn body(flow: Flow) -> Body {
    Body::from_stream(stream(flow))
}

/// What is in memory is read here and now; what is not, on the blocking pool. Nothing is read before the client took
/// what came before, so a slow one holds one piece and no thread.
fn stream(flow: Flow) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send {
    futures_util::stream::try_unfold(flow, |mut flow| async move {
        if flow.reader.left() == 0 {
            return Ok(None);
        }
        if let Proof::Owed(claim) = flow.proof
            && flow.reader.left() <= PIECE_BYTES as u64
        {
            let file = flow.reader.file().map_err(std::io::Error::other)?;
            let proven = prove(&flow.gateway, file, claim, flow.gateway.settings.rehash_after).await;
            // The response breaks off: its length was announced, so no client can take it for whole.
            proven.map_err(|refusal| std::io::Error::other(refusal.message))?;
            flow.proof = Proof::Given;
        }
        let compares = flow.reader.compares();
        let piece = if let Some(piece) = flow.reader.piece_at_hand() {
            piece
        } else {
            let mut reader = flow.reader;
            let task = tokio::task::spawn_blocking(move || (reader.piece(), reader));
            let (piece, reader) = task.await.map_err(std::io::Error::other)?;
            flow.reader = reader;
            piece
        };
        match piece {
            Ok(bytes) => {
                flow.gateway.metrics.bytes_out.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                if flow.reader.left() == 0
                    && let Some(state) = compares
                {
                    flow.gateway.compared.remember(flow.digest, state);
                }
                Ok(Some((bytes, flow)))
            }
            Err(error) => {
                damaged(&flow.gateway, flow.digest, &error).await;
                // Broken off, as above.
                Err(std::io::Error::other(error))
            }
        }
    })
}

/// DELETE of a blob: the repository no longer hands it out; the sweep removes the bytes once nothing needs them.
pub async fn delete(
    gateway: &Arc<Gateway>,
    _permit: &Permit,
    repository: &Repository,
    digest: &Digest,
) -> Result<Response, Refusal> {
    let mut tx = gateway.db.write().await?;
    if let Some(manifest) = db::blobs::needed_by(&mut tx, repository, digest).await? {
        let message = format!("blob {digest} is part of manifest {manifest}; delete that first");
        return Err(Refusal::new(Code::Denied, message));
    }
    if !db::blobs::withdraw(&mut tx, repository, digest).await? {
        return Err(unknown(repository, digest));
    }
    db::events::record(&mut tx, "deleted", Some(repository), &digest.to_string(), "blob", Timestamp::now()).await?;
    crash::point("withdraw-written");
    db::commit(tx).await?;
    crash::point("withdraw-recorded");
    Ok(StatusCode::ACCEPTED.into_response())
}
