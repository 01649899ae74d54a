//! Tests of the client and the layout against peers: Debian's docker-registry, skopeo, and a registry that lies.

#[cfg(test)]
#[path = "runner/faults.rs"]
mod faults;
#[cfg(test)]
#[path = "runner/hostile.rs"]
mod hostile;
#[cfg(test)]
#[path = "runner/liar.rs"]
mod liar;
#[cfg(test)]
#[path = "runner/peer.rs"]
mod peer;
#[cfg(test)]
#[path = "runner/referrers.rs"]
mod referrers;
#[cfg(test)]
#[path = "runner/registry.rs"]
mod registry;
