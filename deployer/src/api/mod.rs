//! The agent's API: JSON over HTTP on a Unix socket. `wire` is shared by both ends, so that a path and a form are
//! written once.

pub mod client;
pub mod server;
pub mod wire;
