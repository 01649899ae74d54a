//! What a registry call can fail with, kept apart by what a caller should do about it. Pure.

use std::fmt;
use std::io;

use crate::digest::Digest;
use crate::names::RepositoryAddress;

/// A failed call: what kind, with which repository, about what, at which URL.
#[derive(Debug)]
pub struct ClientError(Box<Parts>);

#[derive(Debug)]
struct Parts {
    kind: ClientErrorKind,
    action: &'static str,
    address: RepositoryAddress,
    subject: String,
    url: Option<String>,
}

/// The kinds of failure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientErrorKind {
    /// The registry answered: there is no such thing (or it will not say that there is).
    #[error("not found")]
    NotFound,
    /// The registry answered: you may not.
    #[error("denied: {message}")]
    Denied {
        /// The registry's own words.
        message: String,
    },
    /// No answer, or only "later", through all tries.
    #[error("registry is unreachable: {message}")]
    Unreachable {
        /// What happened at the last try.
        message: String,
    },
    /// More bytes, pages or parts than we are ready to take.
    #[error("too large: {what} is limited to {limit}")]
    TooLarge {
        /// What was counted.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// Tampered with: the bytes have another digest.
    #[error("content is not what its digest says: expected {expected}, got {actual}")]
    DigestMismatch {
        /// What was asked for.
        expected: Digest,
        /// What the bytes hash to.
        actual: Digest,
    },
    /// Tampered with: more or fewer bytes than announced.
    #[error("content is not what was announced: expected {expected} bytes, got {actual}")]
    SizeMismatch {
        /// From the descriptor.
        expected: u64,
        /// From the registry, or counted until there was one too many.
        actual: u64,
    },
    /// The bytes are the right ones and make no sense: not a manifest.
    #[error("content is malformed: {message}")]
    Malformed {
        /// Why.
        message: String,
    },
    /// The other side does not keep to the distribution specification.
    #[error("registry breaks the protocol: {message}")]
    Protocol {
        /// How.
        message: String,
    },
    /// This machine's own files.
    #[error("local file cannot be used: {message}")]
    Local {
        /// Which, and why.
        message: String,
    },
}

impl ClientError {
    pub(super) fn new(
        kind: ClientErrorKind,
        action: &'static str,
        address: &RepositoryAddress,
        subject: impl fmt::Display,
    ) -> Self {
        let subject = subject.to_string();
        Self(Box::new(Parts { kind, action, address: address.clone(), subject, url: None }))
    }

    /// Adds where it happened. Queries are left out: they carry signatures and session states.
    pub(super) fn at(mut self, url: &url::Url) -> Self {
        let mut url = url.clone();
        url.set_query(None);
        url.set_fragment(None);
        self.0.url.get_or_insert(url.into());
        self
    }

    /// What kind of failure.
    pub fn kind(&self) -> &ClientErrorKind {
        &self.0.kind
    }

    /// The repository that was spoken to.
    pub fn address(&self) -> &RepositoryAddress {
        &self.0.address
    }

    /// The digest or tag that it was about.
    pub fn subject(&self) -> &str {
        &self.0.subject
    }

    /// Whether the registry answered that there is no such thing.
    pub fn is_not_found(&self) -> bool {
        matches!(self.0.kind, ClientErrorKind::NotFound)
    }

    /// Whether the registry could not be asked.
    pub fn is_unreachable(&self) -> bool {
        matches!(self.0.kind, ClientErrorKind::Unreachable { .. })
    }

    /// Whether the bytes were not those that were asked for.
    pub fn is_tampered(&self) -> bool {
        matches!(self.0.kind, ClientErrorKind::DigestMismatch { .. } | ClientErrorKind::SizeMismatch { .. })
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts { kind, action, address, subject, url } = &*self.0;
        write!(f, "cannot {action} {subject} of `{address}`: {kind}")?;
        url.as_ref().map_or(Ok(()), |url| write!(f, " ({url})"))
    }
}

impl std::error::Error for ClientError {}

impl ClientErrorKind {
    pub(super) fn local(path: &std::path::Path, error: &io::Error) -> Self {
        Self::Local { message: format!("`{}`: {error}", path.display()) }
    }

    pub(super) fn protocol(message: impl Into<String>) -> Self {
        Self::Protocol { message: message.into() }
    }
}

/// An error with its causes, in one line: reqwest hides the telling half in its sources.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}

/// Words from the other side, made fit for a terminal and a log: no control characters, not endless.
pub(super) fn tame(text: &str) -> String {
    const LENGTH_MAX: usize = 500;
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LENGTH_MAX).collect();
    clean.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_names_action_repository_subject_and_url_without_query() {
        let address = "localhost:5000/shop/api".parse().unwrap();
        let digest = Digest::sha256(b"x");
        let url = "http://localhost:5000/v2/shop/api/blobs/x?X-Signature=secret#f".parse().unwrap();
        let kind = ClientErrorKind::Denied { message: "ask the owner".into() };
        let error = ClientError::new(kind, "fetch blob", &address, digest).at(&url);
        let text = format!(
            "cannot fetch blob {digest} of `localhost:5000/shop/api`: denied: ask the owner (http://localhost:5000/v2/shop/api/blobs/x)"
        );
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn words_of_the_registry_cannot_move_the_cursor() {
        assert_eq!(tame("a\u{1b}[2Jb\r\nc"), "a [2Jb c");
        assert_eq!(tame(&"x".repeat(9000)).len(), 500);
    }
}
