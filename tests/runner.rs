//! The one binary of the workspace's own tests: tidiness of the tree, and stories across the parts.

mod build_service;
mod crash;
mod peers;
mod support;
mod tidy;
