//! Collecting what admission decides on: what is attached to a manifest, its children, its small layers. Reads only.
//!
//! Whoever may push may attach, so everything is bounded. What lies beyond the bounds is left out, which can only turn
//! a grant into a refusal.

use std::io::Read;
use std::sync::Arc;

use nebh_oci::digest::Digest;
use nebh_oci::manifest::{Attached, Descriptor, Document, RawManifest};
use nebh_oci::media_type::{COSIGN_SIMPLE_SIGNING, DSSE_ENVELOPE, SIGSTORE_BUNDLE_V03};
use nebh_oci::names::{Repository, Tag};

use crate::admit::{self, Known};
use crate::db::DbError;
use crate::db::manifests::StoredManifest;
use crate::gateway::Gateway;
use crate::store::StoreError;
use crate::store::write::blocking;

/// Attached manifests that are looked at, for each manifest. The trust policy tries as many signatures.
const ATTACHED_MAX: u32 = 256;
/// Bytes of one small layer: a signature, a statement, a channel head.
const LAYER_BYTES_MAX: u64 = 4 << 20;
/// Bytes of all small layers that one decision looks at.
const TOTAL_BYTES_MAX: u64 = 32 << 20;
/// Children of an index that are looked at, at all levels together.
const CHILDREN_MAX: usize = 256;

/// Why the facts could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The disk failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A blob holds other bytes than its name says.
    #[error("blob {0} is damaged")]
    Damaged(Digest),
}

/// A manifest with what is attached to it, and with its children.
#[derive(Debug)]
pub struct Gathered {
    /// The manifest.
    pub subject: Known,
    /// Its own small layers.
    pub layers: Vec<(Descriptor, Vec<u8>)>,
    /// Its children at all levels, as far as they are here.
    pub children: Vec<Known>,
}

struct Reader<'a> {
    gateway: &'a Gateway,
    repository: &'a Repository,
    left: u64,
}

/// Gathers everything about one manifest.
pub async fn gather(
    gateway: &Gateway,
    repository: &Repository,
    name: &Digest,
    manifest: &RawManifest,
) -> Result<Gathered, FactsError> {
    let mut reader = Reader { gateway, repository, left: TOTAL_BYTES_MAX };
    let layers = reader.layers(manifest).await?;
    let subject = Known { manifest: manifest.clone(), attached: reader.attached(name, manifest).await? };
    let mut children: Vec<Known> = Vec::new();
    let mut wanted = parts(manifest);
    // Indexes may hold indexes: all levels count, and each manifest once, however often it is named.
    while let Some(name) = wanted.pop() {
        let known = children.iter().any(|child| admit::is_named(&child.manifest, &name));
        if known || children.len() >= CHILDREN_MAX {
            continue;
        }
        if let Some(child) = gateway.db.manifest(repository, &name).await?.and_then(parse) {
            wanted.extend(parts(&child));
            let attached = reader.attached(&name, &child).await?;
            children.push(Known { manifest: child, attached });
        }
    }
    Ok(Gathered { subject, layers, children })
}

fn parts(manifest: &RawManifest) -> Vec<Digest> {
    let parts = manifest.index().map(|index| index.manifests.iter().map(|part| part.digest).collect());
    parts.unwrap_or_default()
}

/// What was stored was parsed once already; what cannot be parsed any more counts as absent.
fn parse(stored: StoredManifest) -> Option<RawManifest> {
    RawManifest::parse(stored.bytes, Some(&stored.media_type)).ok()
}

impl Reader<'_> {
    async fn attached(&mut self, name: &Digest, manifest: &RawManifest) -> Result<Vec<Attached>, FactsError> {
        let mut found: Vec<RawManifest> = Vec::new();
        let mut names = vec![*name];
        if name != manifest.digest() {
            names.push(*manifest.digest());
        }
        for name in names {
            for line in self.gateway.db.referrers(self.repository, &name, None, None, ATTACHED_MAX).await? {
                if let Some(stored) = self.gateway.db.manifest(self.repository, &line.digest).await? {
                    found.extend(parse(stored));
                }
            }
            for suffix in [".sig", ".att"] {
                let tag = format!("{}-{}{suffix}", name.algorithm(), name.hex());
                if let Ok(tag) = tag.parse::<Tag>()
                    && let Some(stored) = self.gateway.db.manifest_by_tag(self.repository, &tag).await?
                {
                    found.extend(parse(stored));
                }
            }
        }
        let mut attached: Vec<Attached> = Vec::new();
        for manifest in found {
            if attached.iter().any(|known| known.manifest.digest() == manifest.digest()) {
                continue;
            }
            let layers = self.layers(&manifest).await?;
            attached.push(Attached { manifest, layers });
        }
        Ok(attached)
    }

    /// The layers that may be signatures or statements; all others are somebody's content.
    async fn layers(&mut self, manifest: &RawManifest) -> Result<Vec<(Descriptor, Vec<u8>)>, FactsError> {
        let Document::Image(image) = manifest.document() else {
            return Ok(Vec::new());
        };
        let signing = [COSIGN_SIMPLE_SIGNING, DSSE_ENVELOPE, SIGSTORE_BUNDLE_V03];
        let mut layers: Vec<(Descriptor, Vec<u8>)> = Vec::new();
        for layer in image.layers.iter().filter(|layer| signing.contains(&layer.media_type.as_str())) {
            let known = layers.iter().any(|(held, _)| held.digest == layer.digest);
            if known || layer.size > LAYER_BYTES_MAX || layer.size > self.left {
                continue;
            }
            if let Some(bytes) = self.blob(layer).await? {
                self.left -= layer.size;
                layers.push((layer.clone(), bytes));
            }
        }
        Ok(layers)
    }

    async fn blob(&self, layer: &Descriptor) -> Result<Option<Vec<u8>>, FactsError> {
        match self.gateway.db.blob(self.repository, &layer.digest).await? {
            Some(row) if row.size == layer.size => {}
            _ => return Ok(None),
        }
        let (store, digest, size) = (Arc::clone(&self.gateway.store), layer.digest, layer.size);
        let bytes = blocking(move || {
            let file = store.open_blob(&digest)?;
            let mut bytes = Vec::new();
            file.take(size + 1).read_to_end(&mut bytes).map_err(StoreError::io("read", store.tree().blob(&digest)))?;
            Ok::<_, StoreError>(bytes)
        })
        .await??;
        if Digest::of(digest.algorithm(), &bytes) != digest {
            return Err(FactsError::Damaged(digest));
        }
        Ok(Some(bytes))
    }
}
