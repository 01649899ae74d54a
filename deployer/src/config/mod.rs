//! Config on the host: the release's snapshot, then the node's own folders over it, rendered with the node's facts.
//!
//! ```text
//!   release's layers ◄ config/defaults ◄ config/cluster ◄ config/nodes/n1
//!        └──────── same path: the later layer's file counts, whole ────────┘
//!                              │ files ending in `.j2` are templates (minijinja)
//!                              ▼
//!                render (Pure) ─► Rendered{files, digest} ─► <state>/config/<digest>/
//! ```
//!
//! Invariants:
//! * an undefined name in a template is an error, never an empty text;
//! * the digest covers paths, contents and modes of what the program will see, and nothing else;
//! * a folder under a digest's name is whole: it is renamed into place when everything in it is durable.

mod folder;
mod render;

pub use folder::{ConfigError, place, read_folder};
pub use render::{Facts, RenderError, Rendered, RenderedFile, render};
