//! Whole images between a layout on disk and a registry: blobs in parallel, manifests after what they name.

// Boxed: the compiler cannot see that futures made by a closure over references may go to another thread.
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt};

use super::Client;
use super::error::{ClientError, ClientErrorKind, chain};
use super::manifests::ManifestName;
use crate::digest::Digest;
use crate::layout::{Layout, LayoutError};
use crate::manifest::{Descriptor, Document, RawManifest};
use crate::names::{RepositoryAddress, Tag};

/// An index of indexes of images; nobody nests deeper.
const NESTING_MAX: usize = 3;

impl Client {
    /// Pushes an image, or an index with all of its children, from a layout; `tag` goes on the outermost manifest, last.
    pub async fn push_image_from_layout(
        &self,
        address: &RepositoryAddress,
        layout: &Layout,
        digest: &Digest,
        tag: Option<&Tag>,
    ) -> Result<RawManifest, ClientError> {
        let manifest = layout.manifest(digest).map_err(|error| local("push image", address, digest, &error))?;
        self.push_parts(address, layout, &manifest, NESTING_MAX).await?;
        self.push_manifest(address, &manifest, tag).await?;
        Ok(manifest)
    }

    async fn push_parts(
        &self,
        address: &RepositoryAddress,
        layout: &Layout,
        manifest: &RawManifest,
        nesting: usize,
    ) -> Result<(), ClientError> {
        match manifest.document() {
            Document::Image(image) => {
                let blobs = distinct(std::iter::once(&image.config).chain(&image.layers));
                let mut pushes: Vec<BoxFuture<'_, _>> = Vec::with_capacity(blobs.len());
                for blob in blobs {
                    let push = async move { self.push_blob_file(address, blob, &layout.blob_path(&blob.digest)).await };
                    pushes.push(push.boxed());
                }
                futures_util::stream::iter(pushes).buffer_unordered(self.parallel()).try_collect().await
            }
            Document::Index(index) => {
                let nesting = deeper(nesting, address, manifest)?;
                for child in distinct(&index.manifests) {
                    let read = layout.manifest(&child.digest);
                    let child = read.map_err(|error| local("push image", address, &child.digest, &error))?;
                    Box::pin(self.push_parts(address, layout, &child, nesting)).await?;
                    self.put_manifest(address, &child, ManifestName::Digest(child.digest())).await?;
                }
                Ok(())
            }
        }
    }

    /// Pulls an image, or an index with all of its children, into a layout. What is there is not fetched again; the
    /// manifest appears in the layout after all that it names.
    pub async fn pull_to_layout(
        &self,
        address: &RepositoryAddress,
        digest: &Digest,
        layout: &Layout,
    ) -> Result<RawManifest, ClientError> {
        let manifest = self.manifest(address, digest).await?;
        self.pull_parts(address, layout, &manifest, NESTING_MAX).await?;
        let (layout, stored) = (layout.clone(), manifest.clone());
        on_disk("pull image", address, digest, move || layout.put_manifest(&stored, None)).await?;
        Ok(manifest)
    }

    async fn pull_parts(
        &self,
        address: &RepositoryAddress,
        layout: &Layout,
        manifest: &RawManifest,
        nesting: usize,
    ) -> Result<(), ClientError> {
        match manifest.document() {
            Document::Image(image) => {
                let blobs = distinct(std::iter::once(&image.config).chain(&image.layers));
                let missing = blobs.into_iter().filter(|blob| layout.has(&blob.digest) != Some(blob.size));
                let mut fetches: Vec<BoxFuture<'_, _>> = Vec::new();
                for blob in missing {
                    let fetch = async move {
                        let (temporary, dest) = (layout.temporary(), layout.blob_path(&blob.digest));
                        self.fetch_blob_by_way_of(address, blob, &temporary, &dest).await
                    };
                    fetches.push(fetch.boxed());
                }
                futures_util::stream::iter(fetches).buffer_unordered(self.parallel()).try_collect().await
            }
            Document::Index(index) => {
                let nesting = deeper(nesting, address, manifest)?;
                for child in distinct(&index.manifests) {
                    let child = self.manifest(address, &child.digest).await?;
                    Box::pin(self.pull_parts(address, layout, &child, nesting)).await?;
                    let (layout, digest) = (layout.clone(), *child.digest());
                    let store = move || layout.put_stream(child.bytes(), &child.descriptor());
                    on_disk("pull image", address, &digest, store).await?;
                }
                Ok(())
            }
        }
    }

    fn parallel(&self) -> usize {
        self.inner.settings.parallel.max(1)
    }
}

/// Each digest once: the empty layer stands in many images twice.
fn distinct<'a>(blobs: impl IntoIterator<Item = &'a Descriptor>) -> Vec<&'a Descriptor> {
    let mut seen = std::collections::BTreeSet::new();
    blobs.into_iter().filter(|blob| seen.insert(blob.digest)).collect()
}

fn deeper(nesting: usize, address: &RepositoryAddress, manifest: &RawManifest) -> Result<usize, ClientError> {
    nesting.checked_sub(1).ok_or_else(|| {
        let kind = ClientErrorKind::TooLarge { what: "nesting of indexes", limit: NESTING_MAX as u64 };
        ClientError::new(kind, "walk through", address, manifest.digest())
    })
}

fn local(action: &'static str, address: &RepositoryAddress, digest: &Digest, error: &LayoutError) -> ClientError {
    ClientError::new(ClientErrorKind::Local { message: chain(error) }, action, address, digest)
}

async fn on_disk(
    action: &'static str,
    address: &RepositoryAddress,
    digest: &Digest,
    work: impl FnOnce() -> Result<(), LayoutError> + Send + 'static,
) -> Result<(), ClientError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| local(action, address, digest, &error)),
        Err(error) => {
            let kind = ClientErrorKind::Local { message: error.to_string() };
            Err(ClientError::new(kind, action, address, digest))
        }
    }
}
