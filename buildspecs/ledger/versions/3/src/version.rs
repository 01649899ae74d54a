//! The version that this program calls itself.

/// Shown by `/version` and at the start.
pub const VERSION: &str = "1.2.0";
