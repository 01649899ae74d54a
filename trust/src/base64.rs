//! The two readings of base64 that signatures need. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Standard alphabet, with padding.
pub(crate) fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Standard alphabet, padding demanded, no white space, no stray bits.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// As [`decode`], and the URL alphabet as well: the JSON form of protocol buffers permits both.
pub(crate) fn decode_protobuf(text: &str) -> Option<Vec<u8>> {
    decode(&text.replace('-', "+").replace('_', "/"))
}
