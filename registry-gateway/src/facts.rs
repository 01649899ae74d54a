//! Collecting what admission decides on: what is attached to a manifest, its children, its small layers. Reads only.
//!
//! Whoever may push may attach, so everything is bounded. What lies beyond the bounds is left out, which can only turn
//! a grant into a refusal.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::Arc;

use nebh_oci::digest::Digest;
use nebh_oci::manifest::{Attached, Descriptor, Document, RawManifest};
use nebh_oci::media_type::{COSIGN_SIMPLE_SIGNING, DSSE_ENVELOPE, SIGSTORE_BUNDLE_V03};
use nebh_oci::names::{Repository, Tag};

use crate::Name;
use crate::admit::Known;
use crate::db::DbError;
use crate::gateway::Gateway;
use crate::store::{StoreError, blocking};

/// Attached manifests that are looked at, for each manifest. The trust policy tries as many signatures.
const ATTACHED_MAX: usize = 256;
/// Bytes of one attached manifest: a few descriptors and annotations; cosign's with a thousand signatures has less.
const ATTACHED_BYTES_MAX: u64 = 1 << 20;
/// Bytes of one small layer: a signature, a statement, a channel head.
const LAYER_BYTES_MAX: u64 = 4 << 20;
/// Bytes of all manifests and small layers that one decision looks at, and so what it holds in memory.
const TOTAL_BYTES_MAX: u64 = 32 << 20;
/// Children of an index that are looked at, at all levels together.
const CHILDREN_MAX: usize = 256;
/// Manifests and small layers that one decision reads. cosign's largest list of signatures has a thousand.
const READS_MAX: usize = 4096;

/// What a decision says of these bounds.
const CUT: &str = "256 children, 256 attached manifests of each, 4096 manifests and signatures of 32 MiB together";

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
    /// Its children at all levels, as far as they are here, by the names under which they are listed.
    pub children: BTreeMap<Digest, Known>,
    /// The bounds, if there was more than they let in.
    pub cut: Option<&'static str>,
}

impl Gathered {
    /// Nothing but the manifest: for decisions that hang on nothing else.
    pub fn bare(manifest: &RawManifest) -> Self {
        let subject = Known { manifest: manifest.clone(), attached: Vec::new() };
        Self { subject, layers: Vec::new(), children: BTreeMap::new(), cut: None }
    }
}

struct Reader<'a> {
    gateway: &'a Gateway,
    repository: &'a Repository,
    left: u64,
    reads: usize,
    cut: bool,
}

/// Gathers everything about one manifest.
pub async fn gather(
    gateway: &Gateway,
    repository: &Repository,
    name: &Digest,
    manifest: &RawManifest,
) -> Result<Gathered, FactsError> {
    let mut reader = Reader { gateway, repository, left: TOTAL_BYTES_MAX, reads: 0, cut: false };
    let layers = reader.layers(manifest).await?;
    let subject = Known { manifest: manifest.clone(), attached: reader.attached(name, manifest).await? };
    let mut children = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut wanted = BTreeSet::new();
    reader.want(manifest, &seen, &mut wanted);
    // Indexes may hold indexes: all levels count, and each manifest once, however often it is named.
    while let Some(name) = wanted.pop_first() {
        seen.insert(name);
        if let Some(child) = reader.manifest(&name, reader.left).await? {
            reader.want(&child, &seen, &mut wanted);
            let attached = reader.attached(&name, &child).await?;
            children.insert(name, Known { manifest: child, attached });
        }
    }
    Ok(Gathered { subject, layers, children, cut: reader.cut.then_some(CUT) })
}

impl Reader<'_> {
    /// Puts the children of an index on the list, as far as they are not on it and there is room.
    fn want(&mut self, manifest: &RawManifest, seen: &BTreeSet<Digest>, wanted: &mut BTreeSet<Digest>) {
        let children = manifest.index().map(|index| index.manifests.as_slice()).unwrap_or_default();
        for child in children.iter().filter(|child| !seen.contains(&child.digest)) {
            if seen.len() + wanted.len() < CHILDREN_MAX {
                wanted.insert(child.digest);
            } else if !wanted.contains(&child.digest) {
                self.cut = true;
                return;
            }
        }
    }

    /// Whether so many bytes more may be read; if so, they are counted.
    fn may_read(&mut self, bytes: u64, bytes_max: u64) -> bool {
        if self.reads == READS_MAX || bytes > bytes_max.min(self.left) {
            self.cut = true;
            return false;
        }
        self.reads += 1;
        self.left -= bytes;
        true
    }

    /// A manifest by its name, if it has no more than `bytes_max`. One whose bytes do not match its name (a rotten row)
    /// counts as absent, and so does one that cannot be parsed any more.
    async fn manifest(&mut self, name: &Digest, bytes_max: u64) -> Result<Option<RawManifest>, FactsError> {
        let name_of_row = Name::Digest(*name);
        let Some(head) = self.gateway.db.manifest_head(self.repository, &name_of_row).await? else {
            return Ok(None);
        };
        if !self.may_read(head.size, bytes_max) {
            return Ok(None);
        }
        let Some(stored) = self.gateway.db.manifest(self.repository, &name_of_row).await? else {
            return Ok(None);
        };
        let manifest = RawManifest::parse(stored.bytes, Some(&stored.media_type)).ok();
        Ok(manifest.filter(|manifest| Digest::of(name.algorithm(), manifest.bytes()) == *name))
    }

    async fn attached(&mut self, name: &Digest, manifest: &RawManifest) -> Result<Vec<Attached>, FactsError> {
        let mut names = vec![*name];
        if name != manifest.digest() {
            names.push(*manifest.digest());
        }
        let mut found = BTreeSet::new();
        for name in names {
            found.extend(self.referrers(&name).await?);
            for suffix in [".sig", ".att"] {
                let tag = format!("{}-{}{suffix}", name.algorithm(), name.hex());
                if let Ok(tag) = tag.parse::<Tag>()
                    && let Some(head) = self.gateway.db.manifest_head(self.repository, &Name::Tag(tag)).await?
                {
                    found.insert(head.digest);
                }
            }
        }
        let mut attached = Vec::new();
        for name in found {
            if let Some(manifest) = self.manifest(&name, ATTACHED_BYTES_MAX).await? {
                let layers = self.layers(&manifest).await?;
                attached.push(Attached { manifest, layers });
            }
        }
        Ok(attached)
    }

    /// What says that it is attached. Bundles have a place of their own: whoever attaches a thousand other things must
    /// not be able to push the signatures out.
    async fn referrers(&mut self, subject: &Digest) -> Result<Vec<Digest>, FactsError> {
        let mut found = Vec::new();
        for artifact_type in [Some(SIGSTORE_BUNDLE_V03), None] {
            let limit = u32::try_from(ATTACHED_MAX).unwrap_or(u32::MAX) + 1;
            let lines = self.gateway.db.referrers(self.repository, subject, artifact_type, None, limit).await?;
            self.cut |= lines.len() > ATTACHED_MAX;
            found.extend(lines.into_iter().take(ATTACHED_MAX).map(|line| line.digest));
        }
        Ok(found)
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
            if known || !self.may_read(layer.size, LAYER_BYTES_MAX) {
                continue;
            }
            if let Some(bytes) = self.blob(layer).await? {
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
