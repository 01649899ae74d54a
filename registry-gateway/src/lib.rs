//! The registry that grants a tag only to what trusted keys signed, keeps what is recent, pinned or in use, and hands
//! out only bytes that match their names.
//!
//! ```text
//!   HTTP ─► http::action ─► http::permit ─► http::{blobs, uploads, manifests, lists}
//!           parsed once     who may          │ facts ─► admit (PURE) ─► one transaction
//!                                            ▼
//!                                   db (truth: SQLite)    store (immutable bytes: files)
//!                                            ▲                      ▲
//!           retention plan, apply ─► retain (PURE)      sweep: condemned ─► grace ─► gone
//! ```
//!
//! Invariants:
//! * whether something exists is decided by the database alone; files hold bytes, never facts;
//! * no answer of 201 before the bytes, their name and their row are durable, in this order;
//! * a tag is set in one place (`http::manifests`), and only with a grant of `admit`; `retention::restore` brings back one that
//!   had its grant and was dropped, without asking again: hosts verify for themselves;
//! * nothing is dropped but by a verdict of `retain` or a request by name, and neither reaches a pin;
//! * bytes are removed in one place (`sweep`), never in a request, and never because reading something failed;
//! * the last piece of a blob leaves only after all of it was compared with its digest: now, or lately and its file was
//!   not changed since;
//! * `admit`, `retain`, `settings`, `http::action`, `http::range` and `http::permit` know no clock, file or socket.

pub mod admit;
pub mod cli;
pub mod compared;
pub mod crash;
pub mod db;
pub mod facts;
pub mod gateway;
pub mod http;
pub mod retain;
pub mod retention;
pub mod serve;
pub mod settings;
pub mod store;
pub mod sweep;
pub mod trust;

use nebh_oci::digest::Digest;
use nebh_oci::names::Tag;

use retain::TagKind;

/// What a manifest is asked for by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// A name that admission granted, and that may move.
    Tag(Tag),
    /// The name of the bytes.
    Digest(Digest),
}

/// What kind of name a tag is: a version's, a channel's, or attached to a digest (`sha256-<hex>`, with or without a
/// suffix such as `.sig`, as cosign and the fallback for registries without a referrers list write them).
pub fn tag_kind(name: &str) -> TagKind {
    if name.strip_prefix("channel.").is_some_and(|channel| !channel.is_empty()) {
        return TagKind::Channel;
    }
    attached_to(name).map_or(TagKind::Version, TagKind::Attached)
}

fn attached_to(name: &str) -> Option<Digest> {
    let (algorithm, rest) = name.split_once('-')?;
    let hex = rest.split('.').next()?;
    format!("{algorithm}:{hex}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tag_kinds_are_told_apart_by_name() {
        let digest = Digest::sha256(b"x");
        for suffix in ["", ".sig", ".att", ".sbom"] {
            assert_eq!(tag_kind(&format!("sha256-{}{suffix}", digest.hex())), TagKind::Attached(digest));
        }
        assert_eq!(tag_kind("channel.stable"), TagKind::Channel);
        for version in ["v1", "sha256-abc", "channel.", "channel", "latest", "sha256-abc.sig"] {
            assert_eq!(tag_kind(version), TagKind::Version, "{version}");
        }
    }
}
