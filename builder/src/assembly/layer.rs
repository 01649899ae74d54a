//! One layer: a tree written through the compressor into a layout. Owns the blob it writes.

use nebh_oci::digest::DiffId;
use nebh_oci::layout::{Layout, LayoutError};
use nebh_oci::manifest::Descriptor;
use nebh_oci::media_type;

use super::gzip::LayerSink;
use super::tarball::write_tarball;
use super::tree::FileTree;

/// A layer whose blob is in a layout.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Layer {
    /// The compressed blob.
    pub descriptor: Descriptor,
    /// The digest of the uncompressed tar: the reproducibility claim.
    pub diff_id: DiffId,
    /// Bytes of the uncompressed tar.
    pub size: u64,
}

/// Why a layer was not written.
#[derive(Debug, thiserror::Error)]
pub enum AssemblyError {
    /// The layout did not take the blob.
    #[error("cannot store the layer `{layer}`")]
    Store {
        /// What the layer is.
        layer: String,
        /// Cause.
        #[source]
        cause: LayoutError,
    },
    /// The content could not be read, or there is no room for the compressed bytes.
    #[error("cannot write the layer `{layer}`")]
    Write {
        /// What the layer is.
        layer: String,
        /// Cause.
        #[source]
        cause: std::io::Error,
    },
}

/// Writes `tree` as the layer that is called `name` in messages. Times after `latest` become `latest`.
pub fn write_layer(layout: &Layout, name: &str, tree: &FileTree, latest: u64) -> Result<Layer, AssemblyError> {
    let store = |cause| AssemblyError::Store { layer: name.to_owned(), cause };
    let write = |cause| AssemblyError::Write { layer: name.to_owned(), cause };
    let mut sink = LayerSink::new(layout.writer().map_err(store)?);
    write_tarball(tree, latest, &mut sink).map_err(write)?;
    let (blob, diff_id, size) = sink.finish().map_err(write)?;
    let descriptor = blob.finish(media_type::OCI_LAYER_GZIP).map_err(store)?;
    Ok(Layer { descriptor, diff_id, size })
}
