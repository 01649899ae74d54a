//! One test binary for the gateway as clients see it.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests: a failure is a failed test, a skip is said loudly"
)]

mod admission;
mod attacks;
mod commands;
mod disk_full;
mod durability;
mod fleet;
mod hostile_content;
mod hostile_http;
mod hostile_trust;
mod protocol;
mod retention;
mod revocation;
mod support;
