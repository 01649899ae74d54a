//! Taking blobs: whole, in chunks, or by reference to one that is here. The work on a session runs in a task of its
//! own, joined by the handler: when the client goes away the handler is dropped, and the task still leaves the session
//! in order.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use nebh_oci::digest::Digest;
use nebh_oci::names::Repository;
use tokio::sync::OwnedMutexGuard;

use super::action::Start;
use super::error::{Code, Refusal};
use super::permit::Permit;
use super::range::chunk;
use super::{Asked, digest_value, text_value};
use crate::gateway::Gateway;
use crate::store::upload::UploadError;
use crate::store::{Session, StoreError, UploadId, blocking};
use crate::{crash, db};

const UPLOAD_ID: header::HeaderName = header::HeaderName::from_static("docker-upload-uuid");

/// POST: begins an upload, takes a whole blob, or mounts one.
pub async fn begin(
    gateway: &Arc<Gateway>,
    _permit: &Permit,
    repository: Repository,
    start: Start,
    asked: Asked,
) -> Result<Response, Refusal> {
    let algorithm = match start {
        Start::Session { algorithm } => algorithm,
        Start::Whole { digest } => {
            let session = gateway.uploads.begin(&repository, digest.algorithm()).await?;
            // Nobody was told of this session: what fails leaves none.
            return complete(gateway, repository, session, digest, Upload { promised: None, known: false }, asked)
                .await;
        }
        Start::Mount { digest, from } => {
            if mount(gateway, &repository, &digest, from.as_ref()).await? {
                return Ok(created(&repository, &digest));
            }
            // Not here: the client sends it. Never 403, which ends the push of some clients.
            digest.algorithm()
        }
    };
    let session = gateway.uploads.begin(&repository, algorithm).await?;
    Ok(progress(StatusCode::ACCEPTED, &repository, session.id(), session.size()))
}

async fn mount(
    gateway: &Arc<Gateway>,
    repository: &Repository,
    digest: &Digest,
    from: Option<&Repository>,
) -> Result<bool, Refusal> {
    let found = match from {
        Some(from) => gateway.db.blob(from, digest).await?.is_some(),
        None => gateway.db.blob_anywhere(digest).await?.is_some(),
    };
    if !found {
        return Ok(false);
    }
    let now = Timestamp::now();
    let mut tx = gateway.db.write().await?;
    if !db::blobs::touch(&mut tx, digest, now).await? {
        return Ok(false);
    }
    db::blobs::grant(&mut tx, repository, digest, now).await?;
    crash::point("mount-written");
    db::commit(tx).await?;
    crash::point("mount-recorded");
    Ok(true)
}

/// GET: how much arrived.
pub async fn status(
    gateway: &Arc<Gateway>,
    _permit: &Permit,
    repository: &Repository,
    id: UploadId,
) -> Result<Response, Refusal> {
    let session = gateway.uploads.resume(repository, id).await?;
    Ok(progress(StatusCode::NO_CONTENT, repository, id, session.size()))
}

/// PATCH: more bytes.
pub async fn append(
    gateway: &Arc<Gateway>,
    _permit: &Permit,
    repository: Repository,
    id: UploadId,
    asked: Asked,
) -> Result<Response, Refusal> {
    let session = gateway.uploads.resume(&repository, id).await?;
    let promised = promised(&session, &repository, &asked)?;
    let owner = Arc::clone(gateway);
    let task = tokio::spawn(async move {
        let mut session = session;
        receive(&owner, &mut session, promised, asked.body).await?;
        crash::point("upload-appended");
        Ok::<u64, UploadError>(session.size())
    });
    let size = task.await.map_err(|_| StoreError::Ended)??;
    Ok(progress(StatusCode::ACCEPTED, &repository, id, size))
}

/// PUT: the last bytes, if any, and what all of them are.
pub async fn finish(
    gateway: &Arc<Gateway>,
    _permit: &Permit,
    repository: Repository,
    id: UploadId,
    digest: Digest,
    asked: Asked,
) -> Result<Response, Refusal> {
    let session = gateway.uploads.resume(&repository, id).await?;
    let promised = promised(&session, &repository, &asked)?;
    complete(gateway, repository, session, digest, Upload { promised, known: true }, asked).await
}

/// DELETE: throws the session away.
pub async fn cancel(
    gateway: &Arc<Gateway>,
    _permit: &Permit,
    repository: &Repository,
    id: UploadId,
) -> Result<Response, Refusal> {
    let session = gateway.uploads.resume(repository, id).await?;
    gateway.uploads.close(session).await?;
    crash::point("upload-closed");
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// How many bytes the request says it brings, if it says so; refused if they do not continue the session.
fn promised(session: &Session, repository: &Repository, asked: &Asked) -> Result<Option<u64>, Refusal> {
    let Some(text) = asked.header(&header::CONTENT_RANGE) else {
        return Ok(None);
    };
    let out_of_order = || {
        Refusal::new(
            Code::BlobUploadInvalid,
            format!("chunk `{text}` does not continue the {} bytes that are here", session.size()),
        )
        .status(StatusCode::RANGE_NOT_SATISFIABLE)
        .header(header::LOCATION, location(repository, session.id()))
        .header(header::RANGE, text_value(&held(session.size())))
    };
    let (first, last) = chunk(text).ok_or_else(|| {
        Refusal::new(Code::BlobUploadInvalid, format!("`{text}` is not the range of a chunk, such as `0-1023`"))
    })?;
    if first != session.size() {
        return Err(out_of_order());
    }
    let promised = last - first + 1;
    match asked.length() {
        Some(length) if length != promised => Err(Refusal::new(
            Code::SizeInvalid,
            format!("the chunk's range `{text}` has {promised} bytes and its body {length}"),
        )),
        _ => Ok(Some(promised)),
    }
}

async fn receive(
    gateway: &Gateway,
    session: &mut Session,
    promised: Option<u64>,
    body: Body,
) -> Result<(), UploadError> {
    let limits = &gateway.settings.limits;
    let before = session.size();
    let stream = body.into_data_stream();
    match promised {
        Some(promised) => session.append_exact(stream, promised, limits.stall_max, limits.blob_bytes_max).await?,
        None => drop(session.append(stream, limits.stall_max, limits.blob_bytes_max).await?),
    }
    gateway.metrics.bytes_in.fetch_add(session.size() - before, Ordering::Relaxed);
    Ok(())
}

/// What is known of the last request of an upload.
#[derive(Clone, Copy)]
struct Upload {
    /// How many bytes it says that it brings.
    promised: Option<u64>,
    /// Whether the client has the session's address, and may continue it after a failure.
    known: bool,
}

async fn complete(
    gateway: &Arc<Gateway>,
    repository: Repository,
    session: OwnedMutexGuard<Session>,
    digest: Digest,
    upload: Upload,
    asked: Asked,
) -> Result<Response, Refusal> {
    let owner = Arc::clone(gateway);
    let name = repository.clone();
    let task = tokio::spawn(async move {
        let mut session = session;
        let outcome = take(&owner, &name, &mut session, digest, upload.promised, asked.body).await;
        // Stored, or bytes that are not what they should be and are of no use to anybody, or nobody's, or published
        // already and not recorded: then the next upload of the digest adopts them.
        let of_use = upload.known && session.path().exists();
        if !matches!(&outcome, Err(refusal) if of_use && refusal.code != Code::DigestInvalid) {
            owner.uploads.close(session).await?;
        }
        outcome
    });
    task.await.map_err(|_| StoreError::Ended)??;
    Ok(created(&repository, &digest))
}

async fn take(
    gateway: &Gateway,
    repository: &Repository,
    session: &mut Session,
    digest: Digest,
    promised: Option<u64>,
    body: Body,
) -> Result<(), Refusal> {
    receive(gateway, session, promised, body).await?;
    session.compare(digest).await?;
    store(gateway, repository, session, digest).await
}

/// Bytes, name, row: in this order, each durable before the next.
async fn store(gateway: &Gateway, repository: &Repository, session: &Session, digest: Digest) -> Result<(), Refusal> {
    let size = session.size();
    let _guard = gateway.store.lock(&digest).await;
    let damaged = gateway.db.is_quarantined(&digest).await?;
    let (store, path, file) = (Arc::clone(&gateway.store), session.path().clone(), session.file());
    let state = blocking(move || {
        if damaged {
            store.set_aside(&digest)?;
            crash::point("heal-set-aside");
        }
        store.publish(&path, &file, size, &digest)?;
        Ok::<_, StoreError>(store.published(&file, &digest))
    })
    .await??;
    let mut tx = gateway.db.write().await?;
    db::blobs::record(&mut tx, repository, &digest, size, Timestamp::now()).await?;
    crash::point("blob-written");
    db::commit(tx).await?;
    crash::point("blob-recorded");
    // It was hashed while it was written: that is a comparison too.
    if let Some(state) = state {
        gateway.compared.remember(digest, state);
    }
    Ok(())
}

fn location(repository: &Repository, id: UploadId) -> HeaderValue {
    text_value(&format!("/v2/{repository}/blobs/uploads/{id}"))
}

fn held(size: u64) -> String {
    format!("0-{}", size.saturating_sub(1))
}

fn progress(status: StatusCode, repository: &Repository, id: UploadId, size: u64) -> Response {
    let headers = [
        (header::LOCATION, location(repository, id)),
        (header::RANGE, text_value(&held(size))),
        (UPLOAD_ID, text_value(&id.to_string())),
    ];
    (status, headers).into_response()
}

fn created(repository: &Repository, digest: &Digest) -> Response {
    let headers = [
        (header::LOCATION, text_value(&format!("/v2/{repository}/blobs/{digest}"))),
        (header::HeaderName::from_static("docker-content-digest"), digest_value(digest)),
    ];
    (StatusCode::CREATED, headers).into_response()
}
