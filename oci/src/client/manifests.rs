//! Manifests and tags over the wire. A manifest is hashed here; what a header says of its digest is compared, not
//! believed.

use std::fmt;

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, LINK};
use reqwest::{Method, Response, StatusCode};

use super::Client;
use super::auth::Access;
use super::error::{ClientError, ClientErrorKind, chain};
use super::http::{Call, Payload};
use super::transport::{Transport, read_capped};
use crate::digest::Digest;
use crate::manifest::{Artifact, MANIFEST_SIZE_MAX, RawManifest};
use crate::media_type;
use crate::names::{Reference, RepositoryAddress, Tag};

/// A repository with more tags than this is not listed.
const TAGS_MAX: usize = 100_000;
/// One page of a list of tags: names only.
const TAGS_PAGE_SIZE_MAX: usize = 4 << 20;

/// What a manifest is asked for by.
#[derive(Clone, Copy, Debug)]
pub enum ManifestName<'a> {
    /// A name that may move.
    Tag(&'a Tag),
    /// The name of the bytes.
    Digest(&'a Digest),
}

impl<'a> From<&'a Tag> for ManifestName<'a> {
    fn from(tag: &'a Tag) -> Self {
        Self::Tag(tag)
    }
}

impl<'a> From<&'a Digest> for ManifestName<'a> {
    fn from(digest: &'a Digest) -> Self {
        Self::Digest(digest)
    }
}

impl fmt::Display for ManifestName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => fmt::Display::fmt(tag, f),
            Self::Digest(digest) => fmt::Display::fmt(digest, f),
        }
    }
}

impl Client {
    /// What `tag` points to right now.
    pub async fn manifest_by_tag(&self, address: &RepositoryAddress, tag: &Tag) -> Result<RawManifest, ClientError> {
        self.get_manifest(address, tag.into()).await
    }

    /// The manifest of this digest, its bytes hashed.
    pub async fn manifest(&self, address: &RepositoryAddress, digest: &Digest) -> Result<RawManifest, ClientError> {
        self.get_manifest(address, digest.into()).await
    }

    /// The manifest that a person means: by digest where one is written, else by tag. Nothing stands for `latest`.
    pub async fn resolve(&self, reference: &Reference) -> Result<RawManifest, ClientError> {
        match (reference.digest(), reference.tag()) {
            (Some(digest), _) => self.manifest(reference.address(), digest).await,
            (None, Some(tag)) => self.manifest_by_tag(reference.address(), tag).await,
            (None, None) => {
                let address = reference.address();
                let message = "the reference has neither tag nor digest".to_owned();
                Err(ClientError::new(ClientErrorKind::Malformed { message }, "resolve", address, reference))
            }
        }
    }

    /// What the registry claims to have under this name: good for saving a transfer, not for trusting.
    pub async fn head_manifest<'n>(
        &self,
        address: &RepositoryAddress,
        name: impl Into<ManifestName<'n>>,
    ) -> Result<Option<Digest>, ClientError> {
        let name = name.into();
        let call = self.manifest_call("look for manifest", address, name, (Access::Pull, Method::HEAD))?;
        let response = self.send(&call).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let response = self.expect(&call, response, &[StatusCode::OK]).await?;
        if let Some(digest) = content_digest(&response) {
            return Ok(Some(digest));
        }
        match self.get_manifest(address, name).await {
            Ok(manifest) => Ok(Some(*manifest.digest())),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Pushes a manifest whose blobs are there: under `tag` if one is given, else by digest. A referrer is entered into
    /// the fallback list of its subject when the registry does not keep such lists itself.
    pub async fn push_manifest(
        &self,
        address: &RepositoryAddress,
        manifest: &RawManifest,
        tag: Option<&Tag>,
    ) -> Result<(), ClientError> {
        let name = tag.map_or(ManifestName::Digest(manifest.digest()), ManifestName::Tag);
        let listed = self.put_manifest(address, manifest, name).await?;
        match manifest.subject() {
            Some(subject) if !listed => self.add_to_fallback(address, &subject.digest, manifest).await,
            _ => Ok(()),
        }
    }

    /// Pushes something small whole: blobs, then manifest, then tag.
    pub async fn push_artifact(&self, address: &RepositoryAddress, artifact: &Artifact) -> Result<(), ClientError> {
        for (descriptor, bytes) in &artifact.blobs {
            self.push_blob_bytes(address, descriptor, bytes).await?;
        }
        self.push_manifest(address, &artifact.manifest, artifact.tag.as_ref()).await
    }

    /// Deletes a manifest by digest, and with it every tag on it. `NotFound` when it was not there.
    pub async fn delete_manifest(&self, address: &RepositoryAddress, digest: &Digest) -> Result<(), ClientError> {
        let call = self.manifest_call("delete manifest", address, digest.into(), (Access::Delete, Method::DELETE))?;
        let response = self.send(&call).await?;
        self.expect(&call, response, &[StatusCode::ACCEPTED, StatusCode::OK, StatusCode::NO_CONTENT]).await?;
        Ok(())
    }

    /// All tags of a repository, sorted.
    pub async fn tags(&self, address: &RepositoryAddress) -> Result<Vec<Tag>, ClientError> {
        #[derive(serde::Deserialize)]
        struct Page {
            tags: Option<Vec<Tag>>,
        }
        let (action, access) = ("list the tags", (Access::Pull, Method::GET));
        let mut call = self.call(action, "", address, access, "tags/list?n=1000")?;
        let mut found = Vec::new();
        loop {
            let response = self.send(&call).await?;
            let response = self.expect(&call, response, &[StatusCode::OK]).await?;
            let next = next_page(&call, &response, &self.inner.http)?;
            let body = read_capped(response, TAGS_PAGE_SIZE_MAX, self.inner.http.idle_timeout()).await;
            let body = body.map_err(|kind| call.fail(kind))?;
            let page: Page = serde_json::from_slice(&body)
                .map_err(|error| call.fail(ClientErrorKind::Malformed { message: chain(&error) }))?;
            let gained = found.len();
            found.extend(page.tags.unwrap_or_default());
            if found.len() > TAGS_MAX {
                return Err(call.fail(ClientErrorKind::TooLarge { what: "a list of tags", limit: TAGS_MAX as u64 }));
            }
            match next {
                // A page that brings nothing and points on is a registry that goes in circles.
                Some(url) if found.len() > gained => call.url = url,
                _ => break,
            }
        }
        found.sort();
        found.dedup();
        Ok(found)
    }

    async fn get_manifest(
        &self,
        address: &RepositoryAddress,
        name: ManifestName<'_>,
    ) -> Result<RawManifest, ClientError> {
        let mut call = self.manifest_call("fetch manifest", address, name, (Access::Pull, Method::GET))?;
        call.accept = Some(media_type::MANIFESTS.join(", "));
        let response = self.send(&call).await?;
        let response = self.expect(&call, response, &[StatusCode::OK]).await?;
        let content_type = header(&response, CONTENT_TYPE.as_str());
        let body = self.manifest_body(&call, response).await?;
        if let ManifestName::Digest(expected) = name {
            // Before parsing: of foreign bytes nothing is worth telling but that they are foreign.
            let actual = Digest::of(expected.algorithm(), &body);
            if actual != *expected {
                return Err(call.fail(ClientErrorKind::DigestMismatch { expected: *expected, actual }));
            }
        }
        let manifest = RawManifest::parse(body, content_type.as_deref())
            .map_err(|error| call.fail(ClientErrorKind::Malformed { message: chain(&error) }))?;
        let ManifestName::Digest(expected) = name else { return Ok(manifest) };
        let mismatch = |actual| call.fail(ClientErrorKind::DigestMismatch { expected: *expected, actual });
        manifest.named(expected).map_err(mismatch)
    }

    /// A body of at most a manifest's size; a connection that breaks in the middle is tried again.
    pub(super) async fn manifest_body(&self, call: &Call<'_>, first: Response) -> Result<Vec<u8>, ClientError> {
        let idle = self.inner.http.idle_timeout();
        let mut tries = self.tries();
        let mut response = first;
        loop {
            match read_capped(response, MANIFEST_SIZE_MAX, idle).await.map_err(|kind| call.fail(kind)) {
                Ok(body) => return Ok(body),
                Err(error) => tries.pause(error.into()).await?,
            }
            let again = self.send(call).await?;
            response = self.expect(call, again, &[StatusCode::OK]).await?;
        }
    }

    /// Puts a manifest; says whether the registry entered it into its own list of referrers.
    pub(super) async fn put_manifest(
        &self,
        address: &RepositoryAddress,
        manifest: &RawManifest,
        name: ManifestName<'_>,
    ) -> Result<bool, ClientError> {
        let mut call = self.manifest_call("push manifest", address, name, (Access::Push, Method::PUT))?;
        call.payload = Payload::Bytes(Bytes::copy_from_slice(manifest.bytes()), manifest.media_type());
        let response = self.send(&call).await?;
        let response = self.expect(&call, response, &[StatusCode::CREATED]).await?;
        match content_digest(&response) {
            Some(actual) if actual.algorithm() == manifest.digest().algorithm() && actual != *manifest.digest() => {
                let expected = *manifest.digest();
                Err(call.fail(ClientErrorKind::DigestMismatch { expected, actual }))
            }
            _ => Ok(response.headers().contains_key("oci-subject")),
        }
    }

    fn manifest_call<'a>(
        &self,
        action: &'static str,
        address: &'a RepositoryAddress,
        name: ManifestName<'_>,
        access: (Access, Method),
    ) -> Result<Call<'a>, ClientError> {
        let mut call = self.call(action, name, address, access, &format!("manifests/{name}"))?;
        call.accept = Some(media_type::MANIFESTS.join(", "));
        Ok(call)
    }
}

fn header(response: &Response, name: &str) -> Option<String> {
    response.headers().get(name)?.to_str().ok().map(str::to_owned)
}

fn content_digest(response: &Response) -> Option<Digest> {
    header(response, "docker-content-digest")?.parse().ok()
}

/// The next page of a list (`Link: <…>; rel="next"`), which must be on the same host.
pub(super) fn next_page(
    call: &Call<'_>,
    response: &Response,
    transport: &Transport,
) -> Result<Option<url::Url>, ClientError> {
    let Some(link) = header(response, LINK.as_str()) else { return Ok(None) };
    let next = link.split(',').find(|part| part.contains("rel=\"next\"") || part.contains("rel=next"));
    let target = next.and_then(|part| part.split_once('<')?.1.split_once('>')).map(|(target, _)| target);
    let Some(target) = target else { return Ok(None) };
    let url = response.url().join(target);
    let url = url.map_err(|error| call.fail(ClientErrorKind::protocol(format!("`Link` is no URL: {error}"))))?;
    if url.scheme() == call.url.scheme() && transport.is_of(&url, call.address.registry()) {
        Ok(Some(url))
    } else {
        Err(call.fail(ClientErrorKind::protocol("the next page of a list is on another host")))
    }
}
