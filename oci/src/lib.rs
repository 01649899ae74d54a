//! Nouns of the OCI specifications: digests, names, manifests, layouts, the distribution client, runtime bundles.

pub mod client;
pub mod digest;
pub mod image_config;
pub mod json;
pub mod layout;
pub mod manifest;
pub mod media_type;
pub mod names;
pub mod runtime;
pub mod unpack;
