//! Whole images between a layout on disk and a registry: blobs in parallel, manifests after what they name.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt};

use super::Client;
use super::error::{ClientError, ClientErrorKind, chain};
use super::manifests::ManifestName;
use crate::digest::Digest;
use crate::layout::{Layout, LayoutError};
use crate::manifest::{Descriptor, RawManifest};
use crate::names::{RepositoryAddress, Tag};

/// An index of indexes of images; nobody nests deeper.
const NESTING_MAX: usize = 3;
/// Manifests of one image, at all levels together: platforms and attestations, or the parts of a release.
const FAMILY_MAX: usize = 1024;
/// And all their bytes: they are held until everything below is moved.
const FAMILY_SIZE_MAX: u64 = 64 << 20;

/// Where manifests are read.
#[derive(Clone, Copy)]
enum Source<'a> {
    Layout(&'a Layout),
    Registry,
}

impl Client {
    /// Pushes an image, or an index with all of its children, from a layout; `tag` goes on the outermost manifest, last.
    pub async fn push_image_from_layout(
        &self,
        address: &RepositoryAddress,
        layout: &Layout,
        digest: &Digest,
        tag: Option<&Tag>,
    ) -> Result<RawManifest, ClientError> {
        let (manifest, below) = self.family(address, Source::Layout(layout), digest).await?;
        let push = |blob: Descriptor| async move {
            self.push_blob_file(address, &blob, &layout.blob_path(&blob.digest)).await
        };
        for child in &below {
            self.each(blobs(child), push).await?;
            self.put_manifest(address, child, ManifestName::Digest(child.digest())).await?;
        }
        self.each(blobs(&manifest), push).await?;
        self.push_manifest(address, &manifest, tag).await?;
        Ok(manifest)
    }

    /// Pulls an image, or an index with all of its children, into a layout. What is there is not fetched again; the
    /// manifest appears in the layout after all that it names.
    pub async fn pull_to_layout(
        &self,
        address: &RepositoryAddress,
        digest: &Digest,
        layout: &Layout,
    ) -> Result<RawManifest, ClientError> {
        let (manifest, below) = self.family(address, Source::Registry, digest).await?;
        let missing = |manifest: &RawManifest| {
            blobs(manifest).into_iter().filter(|blob| layout.has(&blob.digest) != Some(blob.size)).collect()
        };
        let fetch = |blob: Descriptor| async move {
            let (temporary, dest) = (layout.temporary(), layout.blob_path(&blob.digest));
            self.fetch_blob_by_way_of(address, &blob, &temporary, &dest).await
        };
        for child in below {
            self.each(missing(&child), fetch).await?;
            let (layout, digest) = (layout.clone(), *child.digest());
            let store = move || layout.put_stream(child.bytes(), &child.descriptor());
            on_disk("pull image", address, &digest, store).await?;
        }
        self.each(missing(&manifest), fetch).await?;
        let (layout, stored) = (layout.clone(), manifest.clone());
        on_disk("pull image", address, digest, move || layout.put_manifest(&stored, None)).await?;
        Ok(manifest)
    }

    /// A manifest, and all that are below it: each once, however many indexes name it, and each after what it names.
    async fn family(
        &self,
        address: &RepositoryAddress,
        source: Source<'_>,
        top: &Digest,
    ) -> Result<(RawManifest, Vec<RawManifest>), ClientError> {
        let manifest = self.read_manifest(address, source, top).await?;
        let mut found: BTreeMap<Digest, RawManifest> = BTreeMap::new();
        // Level by level; what is named at two levels belongs to the deeper one.
        let mut order: Vec<Digest> = Vec::new();
        let mut size = manifest.size();
        let mut level = children(&manifest);
        for _ in 0..NESTING_MAX {
            let mut next = BTreeSet::new();
            for digest in &level {
                if !found.contains_key(digest) {
                    if found.len() == FAMILY_MAX {
                        return Err(too_large("manifests of one image", FAMILY_MAX as u64, address, top));
                    }
                    let child = self.read_manifest(address, source, digest).await?;
                    size += child.size();
                    if size > FAMILY_SIZE_MAX {
                        let what = "bytes of the manifests of one image";
                        return Err(too_large(what, FAMILY_SIZE_MAX, address, top));
                    }
                    found.insert(*digest, child);
                }
                next.extend(found.get(digest).map(children).unwrap_or_default());
            }
            order.retain(|digest| !level.contains(digest));
            order.extend(level);
            level = next;
        }
        if !level.is_empty() {
            return Err(too_large("nesting of indexes", NESTING_MAX as u64, address, top));
        }
        let below = order.iter().rev().filter_map(|digest| found.remove(digest)).collect();
        Ok((manifest, below))
    }

    async fn read_manifest(
        &self,
        address: &RepositoryAddress,
        source: Source<'_>,
        digest: &Digest,
    ) -> Result<RawManifest, ClientError> {
        match source {
            Source::Layout(layout) => {
                layout.manifest(digest).map_err(|error| local("push image", address, digest, &error))
            }
            Source::Registry => self.manifest(address, digest).await,
        }
    }

    /// Moves blobs, several at once.
    async fn each<F>(&self, blobs: Vec<Descriptor>, work: impl Fn(Descriptor) -> F) -> Result<(), ClientError>
    where
        F: Future<Output = Result<(), ClientError>> + Send,
    {
        // Boxed: the compiler cannot see that futures made by a closure over references may go to another thread.
        let moves: Vec<BoxFuture<'_, _>> = blobs.into_iter().map(|blob| work(blob).boxed()).collect();
        futures_util::stream::iter(moves).buffer_unordered(self.parallel()).try_collect().await
    }

    fn parallel(&self) -> usize {
        self.inner.settings.parallel.max(1)
    }
}

fn children(manifest: &RawManifest) -> BTreeSet<Digest> {
    let children = manifest.index().map(|index| index.manifests.iter().map(|child| child.digest).collect());
    children.unwrap_or_default()
}

/// Config and layers, each digest once: the empty layer stands in many images twice.
fn blobs(manifest: &RawManifest) -> Vec<Descriptor> {
    let mut seen = BTreeSet::new();
    let named = manifest.image().into_iter().flat_map(|image| std::iter::once(&image.config).chain(&image.layers));
    named.filter(|blob| seen.insert(blob.digest)).cloned().collect()
}

fn too_large(what: &'static str, limit: u64, address: &RepositoryAddress, top: &Digest) -> ClientError {
    ClientError::new(ClientErrorKind::TooLarge { what, limit }, "walk through", address, top)
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
