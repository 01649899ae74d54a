//! A manifest as it comes in: its bytes within bounds, and what the database keeps of it.

use axum::body::Body;
use axum::http::StatusCode;
use futures_util::StreamExt;
use nebh_oci::digest::Digest;
use nebh_oci::manifest::{Document, MANIFEST_SIZE_MAX, RawManifest};
use tokio::sync::SemaphorePermit;

use crate::db::manifests::{NewManifest, Part, StoredManifest};
use crate::gateway::Gateway;
use crate::http::error::{Code, Refusal};

/// A manifest of up to so many bytes needs no place of its own: a thousand of these are nothing.
const SMALL_BYTES: usize = 64 << 10;

/// The bytes, and the place that they take if there are many.
pub(super) async fn read_body(
    gateway: &Gateway,
    length: Option<u64>,
    body: Body,
) -> Result<(Vec<u8>, Option<SemaphorePermit<'_>>), Refusal> {
    let too_large = || {
        Refusal::new(Code::SizeInvalid, format!("a manifest has at most {MANIFEST_SIZE_MAX} bytes"))
            .status(StatusCode::PAYLOAD_TOO_LARGE)
    };
    if length.is_some_and(|length| length > MANIFEST_SIZE_MAX as u64) {
        return Err(too_large());
    }
    let stall = gateway.settings.limits.stall_max;
    let (mut bytes, mut place) = (Vec::new(), None);
    let mut stream = body.into_data_stream();
    // One deadline for all of it: a manifest is small, and drip-feeding it has no honest use.
    let reading = async {
        while let Some(piece) = stream.next().await {
            let piece = piece.map_err(|_| Refusal::new(Code::ManifestInvalid, "the request's body broke off"))?;
            if bytes.len() + piece.len() > MANIFEST_SIZE_MAX {
                return Err(too_large());
            }
            if place.is_none() && bytes.len() + piece.len() > SMALL_BYTES {
                place = gateway.large.acquire().await.ok();
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(())
    };
    tokio::time::timeout(stall, reading).await.unwrap_or_else(|_| {
        let message = format!("the manifest did not arrive within {} seconds", stall.as_secs());
        Err(Refusal::new(Code::ManifestInvalid, message).status(StatusCode::REQUEST_TIMEOUT))
    })?;
    Ok((bytes, place))
}

/// What the database keeps of a manifest, beside its bytes.
pub(super) fn described(digest: Digest, manifest: &RawManifest) -> Result<NewManifest, Refusal> {
    let mut parts = Vec::new();
    match manifest.document() {
        Document::Image(image) => {
            for part in image.layers.iter().chain([&image.config]) {
                check_data(part)?;
                // Layers that must not be distributed need not be here.
                if !part.media_type.contains("nondistributable") && !part.media_type.contains(".foreign.") {
                    parts.push(Part::Blob(part.digest, part.size));
                }
            }
        }
        Document::Index(index) => {
            for part in &index.manifests {
                check_data(part)?;
                parts.push(Part::Manifest(part.digest));
            }
        }
    }
    parts.sort_unstable();
    parts.dedup();
    let referrer = manifest.referrer_descriptor();
    Ok(NewManifest {
        stored: StoredManifest {
            digest,
            media_type: manifest.media_type().to_owned(),
            bytes: manifest.bytes().to_vec(),
        },
        artifact_type: referrer.artifact_type,
        subject: manifest.subject().map(|subject| subject.digest),
        annotations: referrer.annotations,
        parts,
    })
}

/// Embedded data must be the bytes that the descriptor names: some readers take it instead of the blob.
fn check_data(part: &nebh_oci::manifest::Descriptor) -> Result<(), Refusal> {
    use base64::Engine;
    let Some(data) = &part.data else {
        return Ok(());
    };
    let matches = base64::engine::general_purpose::STANDARD.decode(data).is_ok_and(|bytes| {
        bytes.len() as u64 == part.size && Digest::of(part.digest.algorithm(), &bytes) == part.digest
    });
    if matches {
        return Ok(());
    }
    Err(Refusal::new(Code::ManifestInvalid, format!("the `data` of part {} is not what its digest names", part.digest)))
}
