//! Tests of the client and the layout against peers: Debian's docker-registry, skopeo, and a registry that lies.

#[path = "runner/faults.rs"]
mod faults;
#[path = "runner/peer.rs"]
mod peer;
#[path = "runner/registry.rs"]
mod registry;
