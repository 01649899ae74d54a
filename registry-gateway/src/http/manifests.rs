//! Manifests and tags: read, stored, admitted, dropped.
//!
//! A push with tags is decided and written so: gather facts ─► admit, for every tag ─► in one transaction look again at
//! what holds of the tags ─► store, tag, pin, record ─► commit ─► 201. If a tag changed between the two looks, the
//! decision is made anew; nothing is ever written on an old one.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use nebh_oci::digest::{Algorithm, Digest};
use nebh_oci::manifest::RawManifest;
use nebh_oci::names::{Repository, Tag};

use super::error::{Code, Refusal};
use super::permit::Permit;
use super::{Asked, digest_value, text_value};
use crate::Name;
use crate::admit::{self, Facts, Grant};
use crate::db::manifests::{Lack, NewManifest, StoredManifest};
use crate::db::pins::PinKind;
use crate::db::tags::TagState;
use crate::db::{self, Write};
use crate::facts::{self, FactsError, Gathered};
use crate::gateway::Gateway;
use crate::retain::TagKind;
use crate::settings::Mode;
use crate::{crash, store::StoreError, tag_kind};

mod body;

use body::{described, read_body};

/// How often a decision is made anew because a tag changed meanwhile.
const ATTEMPTS: usize = 4;
/// Parts named in one message.
const NAMED_MAX: usize = 8;

fn unknown(repository: &Repository, name: &Name) -> Refusal {
    let name = match name {
        Name::Tag(tag) => format!("{repository}:{tag}"),
        Name::Digest(digest) => format!("{repository}@{digest}"),
    };
    Refusal::new(Code::ManifestUnknown, format!("there is no manifest `{name}`"))
}

/// GET and HEAD of a manifest.
pub async fn get(
    gateway: &Arc<Gateway>,
    repository: &Repository,
    name: &Name,
    head: bool,
) -> Result<Response, Refusal> {
    if head {
        let found = gateway.db.manifest_head(repository, name).await?.ok_or_else(|| unknown(repository, name))?;
        return Ok(headers(&found.digest, &found.media_type, found.size).into_response());
    }
    let found = gateway.db.manifest(repository, name).await?;
    let StoredManifest { digest, media_type, bytes } = found.ok_or_else(|| unknown(repository, name))?;
    if Digest::of(digest.algorithm(), &bytes) != digest {
        tracing::error!(%digest, "a manifest in the database is damaged; push it again to heal it");
        return Err(Refusal::new(Code::Unknown, format!("manifest {digest} is damaged on the gateway")));
    }
    Ok((headers(&digest, &media_type, bytes.len() as u64), bytes).into_response())
}

fn headers(digest: &Digest, media_type: &str, length: u64) -> [(header::HeaderName, HeaderValue); 4] {
    [
        (header::CONTENT_TYPE, text_value(media_type)),
        (header::CONTENT_LENGTH, HeaderValue::from(length)),
        (header::HeaderName::from_static("docker-content-digest"), digest_value(digest)),
        (header::ETAG, text_value(&format!("\"{digest}\""))),
    ]
}

/// PUT of a manifest, with the tags it is to get.
pub async fn put(
    gateway: &Arc<Gateway>,
    permit: &Permit,
    repository: &Repository,
    name: Name,
    mut tags: Vec<Tag>,
    asked: Asked,
) -> Result<Response, Refusal> {
    let content_type = asked.header(&header::CONTENT_TYPE).map(str::to_owned);
    let (bytes, _place) = read_body(gateway, asked.length(), asked.body).await?;
    let digest = match &name {
        Name::Tag(tag) => {
            tags.push(tag.clone());
            Digest::of(Algorithm::Sha256, &bytes)
        }
        Name::Digest(expected) => {
            let actual = Digest::of(expected.algorithm(), &bytes);
            if actual != *expected {
                return Err(Refusal::new(
                    Code::DigestInvalid,
                    format!("the manifest has digest {actual}, not {expected}"),
                ));
            }
            actual
        }
    };
    tags.sort();
    tags.dedup();
    let manifest = RawManifest::parse(bytes, content_type.as_deref())
        .map_err(|error| Refusal::new(Code::ManifestInvalid, nebh_face::failure::chain(&error)))?;
    let new = described(digest, &manifest)?;
    let task = {
        let (gateway, permit, repository, tags) =
            (Arc::clone(gateway), permit.clone(), repository.clone(), tags.clone());
        tokio::spawn(async move { store(&gateway, &permit, &repository, &new, &manifest, &tags).await })
    };
    let subject = task.await.map_err(|_| StoreError::Ended)??;
    let reference = match name {
        Name::Tag(tag) => tag.to_string(),
        Name::Digest(digest) => digest.to_string(),
    };
    let location = text_value(&format!("/v2/{repository}/manifests/{reference}"));
    let mut response = (StatusCode::CREATED, [(header::LOCATION, location)]).into_response();
    let headers = response.headers_mut();
    headers.insert("docker-content-digest", digest_value(&digest));
    if let Some(subject) = subject {
        headers.insert("oci-subject", digest_value(&subject));
    }
    for tag in &tags {
        headers.append("oci-tag", text_value(tag.as_str()));
    }
    Ok(response)
}

/// Decides and writes. Returns the subject, if there is one.
async fn store(
    gateway: &Gateway,
    permit: &Permit,
    repository: &Repository,
    new: &NewManifest,
    manifest: &RawManifest,
    tags: &[Tag],
) -> Result<Option<Digest>, Refusal> {
    for _ in 0..ATTEMPTS {
        let decided = decide(gateway, permit, repository, new.stored.digest, manifest, tags).await?;
        let now = Timestamp::now();
        let mut tx = gateway.db.write().await?;
        let mut same = true;
        for (tag, state, _) in &decided {
            same &= db::tags::state_locked(&mut tx, repository, tag).await? == *state;
        }
        if !same {
            continue;
        }
        crash::point("manifest-begun");
        let lacks = db::manifests::put(&mut tx, repository, new, now).await?;
        refuse_lacks(permit, &new.stored.digest, &lacks)?;
        crash::point("manifest-written");
        for (tag, state, grant) in &decided {
            write_tag(&mut tx, repository, tag, state, grant, &new.stored.digest, now).await?;
            crash::point("tag-written");
        }
        db::commit(tx).await?;
        crash::point("manifest-recorded");
        gateway.metrics.admitted.fetch_add(decided.len() as u64, Ordering::Relaxed);
        return Ok(new.subject);
    }
    Err(Refusal::new(Code::Denied, "the tag is being moved by others at the same time; try again")
        .status(StatusCode::CONFLICT))
}

type Decided = (Tag, TagState, Grant);

async fn decide(
    gateway: &Gateway,
    permit: &Permit,
    repository: &Repository,
    name: Digest,
    manifest: &RawManifest,
    tags: &[Tag],
) -> Result<Vec<Decided>, Refusal> {
    if tags.is_empty() {
        return Ok(Vec::new());
    }
    // Where nothing is asked of a signature, none is looked for.
    let gathered = match permit.mode() {
        Mode::Open if gateway.trust.is_none() => Gathered::bare(manifest),
        _ => facts::gather(gateway, repository, &name, manifest).await.map_err(facts_refusal)?,
    };
    let judge = gateway.judge().await?;
    let facts = Facts {
        mode: permit.mode(),
        rule: permit.rule(),
        repository,
        name,
        subject: &gathered.subject,
        layers: &gathered.layers,
        children: &gathered.children,
        cut: gathered.cut,
        judge: &judge,
    };
    let mut decided = Vec::new();
    for tag in tags {
        let state = gateway.db.tag_state(repository, tag).await?;
        let now = Timestamp::now();
        match admit::admit(&facts, tag, &state, now) {
            Ok(grant) => decided.push((tag.clone(), state, grant)),
            Err(refused) => {
                let message = refused.to_string();
                gateway.metrics.refused.fetch_add(1, Ordering::Relaxed);
                let mut tx = gateway.db.write().await?;
                db::events::refused(&mut tx, repository, tag.as_str(), &message, now).await?;
                db::commit(tx).await?;
                let detail = serde_json::json!({ "kind": refused.kind(), "tag": tag, "digest": name });
                return Err(Refusal::new(Code::Denied, message).detail(detail));
            }
        }
    }
    Ok(decided)
}

pub(super) fn facts_refusal(error: FactsError) -> Refusal {
    match error {
        FactsError::Db(error) => error.into(),
        FactsError::Store(error) => error.into(),
        FactsError::Damaged(digest) => {
            Refusal::new(Code::Unknown, format!("blob {digest} is damaged on the gateway; push it again"))
        }
    }
}

/// An open repository takes manifests whose parts it lacks (a copy of one platform out of many); elsewhere what is
/// stored is whole. A wrong size is wrong everywhere.
fn refuse_lacks(permit: &Permit, digest: &Digest, lacks: &[Lack]) -> Result<(), Refusal> {
    let mut missing = Vec::new();
    for lack in lacks {
        match lack {
            Lack::Size { digest: part, said, actual } => {
                let message = format!("manifest {digest} says that blob {part} has {said} bytes; it has {actual}");
                return Err(Refusal::new(Code::ManifestInvalid, message));
            }
            Lack::Missing(part) => missing.push(part.to_string()),
        }
    }
    if missing.is_empty() || permit.mode() == Mode::Open {
        return Ok(());
    }
    let more = missing.len().saturating_sub(NAMED_MAX);
    missing.truncate(NAMED_MAX);
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    let message = format!("manifest {digest} consists of parts that are not here: {}{tail}", missing.join(", "));
    Err(Refusal::new(Code::ManifestBlobUnknown, message))
}

async fn write_tag(
    tx: &mut Write<'_>,
    repository: &Repository,
    tag: &Tag,
    state: &TagState,
    grant: &Grant,
    to: &Digest,
    now: Timestamp,
) -> Result<(), Refusal> {
    db::tags::set(tx, repository, tag, to, state.present.as_ref(), now).await?;
    let words = grant.to_string();
    match grant {
        Grant::Open | Grant::Attachment | Grant::Signed(_) => {}
        Grant::Release { .. } => {
            db::pins::pin(tx, repository, tag.as_str(), to, PinKind::Release, &words, now).await?;
        }
        Grant::Channel { counter, lists, .. } => {
            db::pins::raise_head(tx, repository, tag, *counter, to, lists).await?;
        }
    }
    let detail = format!("{to}: {words}");
    db::events::record(tx, "admitted", Some(repository), tag.as_str(), &detail, now).await?;
    Ok(())
}

/// DELETE of a tag, or of a manifest with its tags. Both can be restored for a time; neither reaches what is pinned.
pub async fn delete(
    gateway: &Arc<Gateway>,
    _permit: &Permit,
    repository: &Repository,
    name: &Name,
) -> Result<Response, Refusal> {
    let now = Timestamp::now();
    let pinned = |pin: &str| {
        let message = format!("`{repository}` is held by pin `{pin}`; `nebh unpin {repository}:{pin}` first");
        Refusal::new(Code::Denied, message)
    };
    let mut tx = gateway.db.write().await?;
    let subject = match name {
        Name::Tag(tag) => {
            if db::tags::state_locked(&mut tx, repository, tag).await?.pinned.is_some() {
                return Err(pinned(tag.as_str()));
            }
            // The signatures of what is pinned stay with it: without them no host would take it.
            if let TagKind::Attached(subject) = tag_kind(tag.as_str())
                && let Some(pin) = db::pins::holding(&mut tx, repository, &subject).await?
            {
                return Err(pinned(&pin));
            }
            if !db::tags::drop_tag(&mut tx, repository, tag, "deleted", now).await? {
                return Err(unknown(repository, name));
            }
            tag.to_string()
        }
        Name::Digest(digest) => {
            if let Some(pin) = db::pins::holding(&mut tx, repository, digest).await? {
                return Err(pinned(&pin));
            }
            for tag in db::tags::of_digest(&mut tx, repository, digest).await? {
                db::tags::drop_tag(&mut tx, repository, &tag, "deleted with its manifest", now).await?;
            }
            if !db::dropped::drop_manifest(&mut tx, repository, digest, "deleted", now).await? {
                return Err(unknown(repository, name));
            }
            digest.to_string()
        }
    };
    db::events::record(&mut tx, "deleted", Some(repository), &subject, "by request", now).await?;
    crash::point("delete-written");
    db::commit(tx).await?;
    crash::point("delete-recorded");
    Ok(StatusCode::ACCEPTED.into_response())
}
