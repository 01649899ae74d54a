//! The list of referrers that clients keep under a tag, for registries that keep none themselves.
//!
//! The specification leaves a race open: two clients read, add and write, and one entry is lost. After writing we
//! read again and repeat until our entry stays, which makes the window small; it closes only with the referrers API.

use serde_json::{Value, json};

use super::Client;
use super::error::{ClientError, ClientErrorKind, chain};
use super::manifests::ManifestName;
use crate::digest::Digest;
use crate::json;
use crate::manifest::{Descriptor, ImageIndex, RawManifest};
use crate::media_type;
use crate::names::{RepositoryAddress, Tag};

/// Losing the race this often in a row means that something else is wrong.
const ROUNDS_MAX: usize = 8;

impl Client {
    /// The entries under the fallback tag; none when there is no such tag.
    pub(super) async fn fallback_referrers(
        &self,
        address: &RepositoryAddress,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>, ClientError> {
        let current = self.fallback_list(address, subject).await?;
        Ok(current.and_then(|list| list.index().cloned()).map(|index| index.manifests).unwrap_or_default())
    }

    /// Enters `referrer` into the fallback list of `subject`, keeping all that stands there.
    pub(super) async fn add_to_fallback(
        &self,
        address: &RepositoryAddress,
        subject: &Digest,
        referrer: &RawManifest,
    ) -> Result<(), ClientError> {
        let tag = Tag::referrers_of(subject);
        let failed = |kind| ClientError::new(kind, "enter a referrer into the fallback list", address, &tag);
        let _turn = self.inner.fallback.lock().await;
        for _ in 0..ROUNDS_MAX {
            let current = self.fallback_list(address, subject).await?;
            if current.as_ref().and_then(RawManifest::index).is_some_and(|index| lists(index, referrer)) {
                return Ok(());
            }
            let next = with_entry(current.as_ref(), &referrer.referrer_descriptor())
                .map_err(|message| failed(ClientErrorKind::Malformed { message }))?;
            self.put_manifest(address, &next, ManifestName::Tag(&tag)).await?;
        }
        Err(failed(ClientErrorKind::protocol(
            "what is written does not stay: another writer, or a registry without memory",
        )))
    }

    async fn fallback_list(
        &self,
        address: &RepositoryAddress,
        subject: &Digest,
    ) -> Result<Option<RawManifest>, ClientError> {
        let tag = Tag::referrers_of(subject);
        match self.manifest_by_tag(address, &tag).await {
            Ok(list) if list.index().is_some() => Ok(Some(list)),
            Ok(_) => {
                let kind = ClientErrorKind::protocol("the fallback tag does not hold an index");
                Err(ClientError::new(kind, "list the referrers", address, tag))
            }
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn lists(index: &ImageIndex, referrer: &RawManifest) -> bool {
    index.manifests.iter().any(|entry| entry.digest == *referrer.digest())
}

/// The list with one entry more. Edited as JSON, so that members which only other tools know stay.
fn with_entry(current: Option<&RawManifest>, entry: &Descriptor) -> Result<RawManifest, String> {
    let mut list: Value = match current {
        Some(current) => json::parse_strict(current.bytes()).map_err(|error| chain(&error))?,
        None => json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": []}),
    };
    let entries = list.get_mut("manifests").and_then(Value::as_array_mut).ok_or("`manifests` is no list")?;
    entries.push(serde_json::to_value(entry).map_err(|error| chain(&error))?);
    let bytes = json::canonical(&list).map_err(|error| chain(&error))?;
    RawManifest::parse(bytes, Some(media_type::OCI_INDEX)).map_err(|error| chain(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_is_added_and_foreign_members_stay() {
        let first = with_entry(None, &Descriptor::empty()).unwrap();
        let text = String::from_utf8(first.bytes().to_vec()).unwrap().replace("\"size\":2", "\"size\":2,\"x\":[1]");
        let foreign = RawManifest::parse(text.into_bytes(), None).unwrap();
        let second = with_entry(Some(&foreign), &Descriptor::of("a/b", b"two")).unwrap();
        assert_eq!(second.index().unwrap().manifests.len(), 2);
        assert!(String::from_utf8_lossy(second.bytes()).contains("\"x\":[1]"));
    }
}
