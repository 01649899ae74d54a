//! The build service's crash points (see `nebh_face::crash`): around every row of the queue, and behind every part of a
//! build that others can see.

/// The points, in the order in which a delivery passes them.
pub const POINTS: [&str; 25] = [
    "delivery-entering",
    "delivery-entered",
    "delivery-ignoring",
    "delivery-ignored",
    "build-queueing",
    "build-queued",
    "build-claimed",
    "events-writing",
    "events-written",
    "commit-read",
    "image-made",
    "image-kept",
    "blob-pushed",
    "signature-pushed",
    "attestation-pushed",
    "manifest-pushed",
    "tag-pushed",
    "release-part-pushed",
    "head-pushed",
    "build-ending",
    "build-ended",
    "build-giving-back",
    "build-given-back",
    "builds-recovering",
    "builds-recovered",
];

/// Dies here if a test asked for it. Nothing in builds for use.
pub(crate) fn point(name: &'static str) {
    debug_assert!(POINTS.contains(&name), "{name} is not listed");
    nebh_face::crash::point(name);
}
