//! What an auditor reads: envelopes, statements, keys, trust policy, verify. No I/O, no async, no clock.
//!
//! ```text
//!  making                                              believing
//!  ──────                                              ─────────
//!  key ─► signing ─► sign_both ─┬─ .sig (simple)  ─┐
//!                               └─ bundle (DSSE)  ─┤        trust.yaml ─► policy ─┐
//!  provenance, sbom ─► attest ──── bundle (DSSE)  ─┼─► Attached ─► evidence ─► judge ─► verify ─► Verified<T>
//!  release.yaml ─► release ─► assemble ─► index   ─┤                              │            └─► Rejection
//!  channel head ─► sign_head ───── DSSE artifact  ─┤        time, floor ──────────┘                  kind, rule,
//!  data snapshot ─► sign_data_snapshot ── DSSE    ─┘        (arguments)                              key, digest
//! ```
//!
//! Invariants:
//!
//! 1. Nothing here opens a file or a socket, waits, or asks the time. The one side effect is the random source that
//!    makes a new key and seals a key file ([`key`]).
//! 2. [`verify::Verified`] is made only by the `verify_*` functions. What was not verified has another type.
//! 3. What was signed is kept and compared as bytes; it is read only after a trusted key has been found, and then
//!    strictly. Nothing is written again before it is hashed or verified.
//! 4. A signature counts only if it names *this* digest, and *this* repository where it names one. An attestation is
//!    never a signature, whoever signed it.
//! 5. Thresholds count distinct keys. No key plays two roles. A policy without rules, and a role without keys, do not
//!    parse.
//! 6. Ignoring something attached can turn an acceptance into a refusal, never the reverse; and everything attached is
//!    bounded in number and size.
//! 7. A refusal has one kind and names rule, key and digest. "Unreachable" is not among the kinds: who fetches, says so.
//! 8. The same input gives the same bytes: signatures (RFC 6979), artifacts, releases and bills of materials.

mod base64;
pub mod bundle;
pub mod channel;
pub mod data;
mod document;
pub mod dsse;
mod evidence;
pub mod key;
pub mod pattern;
pub mod policy;
pub mod provenance;
pub mod rejection;
pub mod release;
pub mod sbom;
pub mod signing;
pub mod simple;
pub mod statement;
pub mod verify;

pub use document::DocumentError;
pub use rejection::{Rejection, RejectionKind};
pub use verify::Verified;
