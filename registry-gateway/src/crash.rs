//! The gateway's crash points (see `nebh_face::crash`): before and after everything of a request that lasts.
//!
//! `…-written` stands between the rows and their commit, `…-recorded` between the commit and the answer.

/// The points, in the order in which pushes, orders and the sweep pass them.
pub const POINTS: [&str; 46] = [
    "upload-made",
    "upload-appended",
    "upload-closed",
    "blob-complete",
    "blob-synced",
    "blob-folder-made",
    "blob-linked",
    "blob-folder-synced",
    "blob-unlinked",
    "blob-written",
    "blob-recorded",
    "mount-written",
    "mount-recorded",
    "manifest-begun",
    "manifest-written",
    "tag-written",
    "manifest-recorded",
    "delete-written",
    "delete-recorded",
    "withdraw-written",
    "withdraw-recorded",
    "pin-written",
    "pin-recorded",
    "unpin-written",
    "unpin-recorded",
    "report-written",
    "report-recorded",
    "retention-begun",
    "retention-written",
    "retention-recorded",
    "restore-written",
    "restore-recorded",
    "sweep-uploads-gone",
    "sweep-forgotten-written",
    "sweep-forgotten-recorded",
    "sweep-condemned-written",
    "sweep-condemned-recorded",
    "sweep-row-written",
    "sweep-row-recorded",
    "sweep-bytes-gone",
    "sweep-orphan-gone",
    "damage-written",
    "damage-recorded",
    "damage-kept",
    "damage-unlinked",
    "heal-set-aside",
];

/// Dies here if a test asked for it. Nothing in builds for use.
pub(crate) fn point(name: &'static str) {
    debug_assert!(POINTS.contains(&name), "{name} is not listed");
    nebh_face::crash::point(name);
}
