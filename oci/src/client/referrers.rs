//! What is attached to a manifest: its referrers, and the older `.sig` tag.
//!
//! An error is never "nothing attached": only a registry that answers "not found" has nothing.

use futures_util::{StreamExt, TryStreamExt};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, StatusCode};

use super::Client;
use super::auth::Access;
use super::error::{ClientError, ClientErrorKind, chain};
use super::manifests::next_page;
use crate::digest::Digest;
use crate::manifest::{Attached, Descriptor, Document, RawManifest};
use crate::media_type;
use crate::names::{RepositoryAddress, Tag};

/// More referrers than this under one subject are a flood, not signatures.
const REFERRERS_MAX: usize = 4096;
/// A registry that sends more pages than this goes in circles.
const PAGES_MAX: usize = 256;
/// How many attached manifests are looked into.
pub const ATTACHED_MANIFESTS_MAX: usize = 64;
/// Signatures and attestations are small; a larger layer is something else and is passed over.
pub const ATTACHED_LAYER_MAX: u64 = 4 << 20;
/// All layers of everything attached together, in bytes.
const ATTACHED_TOTAL_MAX: u64 = 64 << 20;
/// cosign itself stops at a thousand signatures in one manifest.
const ATTACHED_LAYERS_MAX: usize = 1000;

impl Client {
    /// What refers to `subject`: from the registry's own list, or from the fallback tag where it keeps none.
    pub async fn referrers(
        &self,
        address: &RepositoryAddress,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>, ClientError> {
        let path = format!("referrers/{subject}");
        let mut call = self.call("list the referrers", subject, address, (Access::Pull, Method::GET), &path)?;
        call.accept = Some(media_type::OCI_INDEX.to_owned());
        let mut found = Vec::new();
        for _ in 0..PAGES_MAX {
            let response = self.send(&call).await?;
            let response = match self.expect(&call, response, &[StatusCode::OK]).await {
                Ok(response) => response,
                Err(error) if error.is_not_found() && found.is_empty() => {
                    return self.fallback_referrers(address, subject).await;
                }
                Err(error) => return Err(error),
            };
            let next = next_page(&call, &response, &self.inner.http)?;
            let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()?.parse().ok());
            let content_type: Option<String> = content_type;
            let body = self.manifest_body(&call, response).await?;
            let page = RawManifest::parse(body, content_type.as_deref())
                .map_err(|error| call.fail(ClientErrorKind::Malformed { message: chain(&error) }))?;
            let Document::Index(index) = page.document() else {
                return Err(call.fail(ClientErrorKind::protocol("a list of referrers that is no index")));
            };
            found.extend(index.manifests.iter().cloned());
            if found.len() > REFERRERS_MAX {
                let what = "a list of referrers";
                return Err(call.fail(ClientErrorKind::TooLarge { what, limit: REFERRERS_MAX as u64 }));
            }
            match next {
                Some(url) => call.url = url,
                // An image that came here by a copy of its tags has its list only there.
                None if found.is_empty() => return self.fallback_referrers(address, subject).await,
                None => return Ok(found),
            }
        }
        Err(call.fail(ClientErrorKind::TooLarge { what: "pages of referrers", limit: PAGES_MAX as u64 }))
    }

    /// Everything attached to `subject` that may be a signature or an attestation: each referrer, and the manifest
    /// under the tag `sha256-<hex>.sig`, with their small layers. Data snapshots, which pile up under a release, are
    /// passed over.
    pub async fn attached(&self, address: &RepositoryAddress, subject: &Digest) -> Result<Vec<Attached>, ClientError> {
        let may_sign = |entry: &Descriptor| entry.artifact_type.as_deref() != Some(media_type::NEBH_DATA_SNAPSHOT);
        self.attached_where(address, subject, may_sign).await
    }

    /// The same for the referrers that `wanted` picks by their entry in the list, and the `.sig` tag.
    pub async fn attached_where(
        &self,
        address: &RepositoryAddress,
        subject: &Digest,
        wanted: impl Fn(&Descriptor) -> bool,
    ) -> Result<Vec<Attached>, ClientError> {
        let mut listed = self.referrers(address, subject).await?;
        listed.retain(wanted);
        listed.sort_by_key(|entry| entry.digest);
        listed.dedup_by_key(|entry| entry.digest);
        if listed.len() > ATTACHED_MANIFESTS_MAX {
            let kind = ClientErrorKind::TooLarge { what: "attached manifests", limit: ATTACHED_MANIFESTS_MAX as u64 };
            return Err(ClientError::new(kind, "read what is attached to", address, subject));
        }
        let mut manifests = Vec::new();
        for entry in &listed {
            match self.manifest(address, &entry.digest).await {
                // The list is a hint: only the manifest itself says what it is about.
                Ok(manifest) if manifest.subject().is_some_and(|about| about.digest == *subject) => {
                    manifests.push(manifest);
                }
                Ok(_) => tracing::warn!(referrer = %entry.digest, %subject, "listed, but about something else"),
                // A list that outlived its entry; whoever needs that signature will miss it and say so.
                Err(error) if error.is_not_found() => tracing::warn!(referrer = %entry.digest, "listed, but gone"),
                Err(error) => return Err(error),
            }
        }
        if let Some(tag) = Tag::signatures_of(subject) {
            match self.manifest_by_tag(address, &tag).await {
                Ok(manifest) => manifests.push(manifest),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        self.with_layers(address, subject, manifests).await
    }

    async fn with_layers(
        &self,
        address: &RepositoryAddress,
        subject: &Digest,
        manifests: Vec<RawManifest>,
    ) -> Result<Vec<Attached>, ClientError> {
        let wanted: Vec<Vec<Descriptor>> = manifests.iter().map(small_layers).collect();
        let total: u64 = wanted.iter().flatten().map(|layer| layer.size).sum();
        let count = wanted.iter().map(Vec::len).sum::<usize>();
        if total > ATTACHED_TOTAL_MAX || count > ATTACHED_LAYERS_MAX {
            let kind = ClientErrorKind::TooLarge { what: "bytes of attached layers", limit: ATTACHED_TOTAL_MAX };
            return Err(ClientError::new(kind, "read what is attached to", address, subject));
        }
        let mut attached = Vec::new();
        for (manifest, descriptors) in manifests.into_iter().zip(wanted) {
            let fetches = descriptors.into_iter().map(|descriptor| async move {
                let bytes = self.blob_bytes(address, &descriptor, ATTACHED_LAYER_MAX).await?;
                Ok::<_, ClientError>((descriptor, bytes))
            });
            let parallel = self.inner.settings.parallel.max(1);
            let layers = futures_util::stream::iter(fetches).buffered(parallel).try_collect().await?;
            attached.push(Attached { manifest, layers });
        }
        Ok(attached)
    }
}

fn small_layers(manifest: &RawManifest) -> Vec<Descriptor> {
    match manifest.document() {
        Document::Image(image) => {
            image.layers.iter().filter(|layer| layer.size <= ATTACHED_LAYER_MAX).cloned().collect()
        }
        Document::Index(_) => Vec::new(),
    }
}
