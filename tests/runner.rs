//! The one binary of the workspace's own tests: tidiness of the tree, and stories across the parts.

#![expect(
    clippy::expect_used,
    clippy::print_stderr,
    reason = "what cannot be set up ends the test and says why; a skip is loud"
)]

mod build_service;
mod clients;
mod corpus;
mod crash;
mod docs;
mod failures;
mod peers;
mod storm;
mod support;
mod tidy;
