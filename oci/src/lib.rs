//! Nouns of the OCI specifications: digests, names, manifests, layouts, the distribution client, runtime bundles.
//!
//! ```text
//!   text  ─► names, digest, media_type          parsed once, at the edge
//!   bytes ─► json (strict) ─► manifest, image_config ─► json (canonical) ─► bytes
//!                                 │
//!   registry ◄─► client ◄─────────┼──────────────► layout (files by digest)
//!                                 │                   │
//!                                 │                   ▼
//!                                 └──────────────► unpack ─► root directory ─► runtime ─► runc | crun
//! ```
//!
//! Invariants:
//! * `digest`, `names`, `media_type`, `json`, `manifest` and `image_config` are pure: no file, no socket, no clock;
//! * only `client` opens sockets; only `layout`, `locked_file`, `small_file`, `unpack`, `runtime` and what `client` half
//!   fetched touch files;
//! * a digest is computed from bytes here, never believed from a header or a file name;
//! * bytes that were hashed are kept as bytes: a manifest from elsewhere is never written again from its struct;
//! * what streams in is counted against what was announced, and one byte more ends it;
//! * a file appears under its name whole, hashed and synced, or not at all;
//! * nothing here decides trust: an attached signature is handed on as found, an error is never "no signature".

pub mod client;
pub mod digest;
pub mod image_config;
pub mod json;
pub mod layout;
pub mod locked_file;
pub mod manifest;
pub mod media_type;
pub mod names;
pub mod runtime;
pub mod small_file;
mod text;
pub mod unpack;
