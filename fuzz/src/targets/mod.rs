//! The fuzz targets: one for each parser that reads what others wrote, each with what must always hold.
//!
//! ```text
//!   fuzz/corpus/<target>/* ─► hack/fuzz (libFuzzer, guided by coverage) ─┐
//!                          └► tests/corpus.rs (every seed, a short run) ─┴─► Target::run ─► a panic is a finding
//! ```
//!
//! The one list, used by both: `tests/corpus.rs` includes this file by its path, so that a target cannot rot between two
//! long runs. "Does not fall over" is the least of it; a target also states a property, such as *what was read, written
//! and read again is the same*, or *what verifies was signed*.

mod debian;
mod files;
mod http;
mod layers;
mod oci;
mod trust;

/// One parser.
pub(crate) struct Target {
    /// Its name, which is that of its corpus.
    pub(crate) name: &'static str,
    /// Reads the bytes; panics where a property does not hold.
    pub(crate) run: fn(&[u8]),
    /// Runs of a short run, for each seed: fewer where one costs more.
    pub(crate) short: usize,
}

const fn target(name: &'static str, run: fn(&[u8]), short: usize) -> Target {
    Target { name, run, short }
}

/// A run takes some ten microseconds.
const CHEAP: usize = 400;
/// A run takes up to a millisecond: it signs, writes files or unpacks.
const DEAR: usize = 40;
/// A run takes up to a tenth of a second: it derives a key from a passphrase.
const DEAREST: usize = 1;

/// All of them.
pub(crate) const TARGETS: &[Target] = &[
    target("json", oci::json, CHEAP),
    target("manifest", oci::manifest, CHEAP),
    target("image-config", oci::image_config, CHEAP),
    target("names", oci::names, CHEAP),
    target("layer", layers::layer, DEAR),
    target("config-snapshot", layers::config_snapshot, CHEAP),
    target("envelope", trust::envelope, CHEAP),
    target("statement", trust::statement, CHEAP),
    target("simple-signing", trust::simple_signing, CHEAP),
    target("public-key", trust::public_key, CHEAP),
    target("private-key", trust::private_key, DEAREST),
    target("trust-policy", trust::policy, DEAR),
    target("channel-head", trust::channel_head, DEAR),
    target("release-index", trust::release_index, CHEAP),
    target("release-statement", trust::release_statement, CHEAP),
    target("pattern", trust::pattern, CHEAP),
    target("yaml", files::yaml, DEAR),
    target("buildspec", files::buildspec, DEAR),
    target("release-spec", files::release_spec, DEAR),
    target("lock", files::lock, DEAR),
    target("cargo-lock", files::cargo_lock, DEAR),
    target("deb", debian::deb, DEAR),
    target("ar", debian::ar, CHEAP),
    target("tar-tree", debian::tar_tree, DEAR),
    target("packages", debian::packages, CHEAP),
    target("relations", debian::relations, CHEAP),
    target("inrelease", debian::inrelease, DEAR),
    target("suite-index", debian::suite_index, CHEAP),
    target("request", http::request, CHEAP),
    target("range", http::range, CHEAP),
];
