//! Turns a buildspec and a commit into a signed image, the same bytes every time.
//!
//! ```text
//!   nebh lock    buildspec + signed indexes + Cargo.lock ─► resolve ─► lock
//!   nebh build   source ─► spec, lock ─► plan (Pure) ─► known? ──────────────────────────► image
//!                                          └─► fetch ─► step in sandbox ─► assembly ─► image ─► publish
//!                                              inputs    root, runc          layers             provenance, signatures
//!   nebh rebuild provenance ─► the same again with nothing kept ─► compared byte for byte
//! ```
//!
//! Read `plan` first, then `pipeline`, then `assembly`.
//!
//! Invariants:
//! * nothing but `fetch`, `git`, `registry` and `service` opens a connection, and none of them runs anybody's code;
//! * a step sees its declared inputs, no network, no clock of the commit and nothing of the machine;
//! * an input is taken by its digest or not at all; there is no other way to obtain bytes;
//! * layers are written from declared trees, never from what is on a disk;
//! * what is kept between builds is keyed by all that it follows from, and may be deleted at any time but for the inputs;
//! * no script of a package ever runs.

pub mod archive;
pub mod assembly;
mod blocking;
pub mod channel;
pub mod cli;
pub mod crash;
pub mod debian;
pub mod event;
pub mod fetch;
pub mod git;
pub mod image;
pub mod inputs;
pub mod keys;
pub mod lock;
pub mod packages;
pub mod pipeline;
pub mod plan;
pub mod publish;
pub mod rebuild;
pub mod registry;
pub mod release;
pub mod resolve;
pub mod root;
pub mod sandbox;
pub mod service;
pub mod source;
pub mod spec;
pub mod step;
pub mod store;
pub mod upstream;
