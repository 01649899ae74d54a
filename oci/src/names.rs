//! Names of registries, repositories, tags and images, each parsed once at the edge. Pure.
//!
//! ```text
//!   registry.example:5000/shop/api:1.4.2@sha256:…
//!   ╰──── host ─────────╯ ╰─repo─╯ ╰tag╯ ╰digest╯
//!   ╰──── RepositoryAddress ─────╯
//!   ╰──────────────── Reference ────────────────╯
//! ```
//!
//! A registry host is always required. There is no default registry: a name that means one image here and
//! another one there cannot be signed for.

use core::net::{Ipv4Addr, Ipv6Addr};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::{Digest, DigestError};
use crate::text::from_text;

/// The specification leaves the bound to the registries; all of the large ones use 255 for the repository name.
pub const REPOSITORY_LENGTH_MAX: usize = 255;
/// From the distribution specification's grammar of a tag.
pub const TAG_LENGTH_MAX: usize = 128;
/// The longest name that DNS can carry.
pub const HOST_LENGTH_MAX: usize = 253;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a host, or a host that could as well be the first part of a repository.
    #[error(
        "`{0}` is not a registry host: write `host.domain`, `host:port`, `localhost` or an address, all without `/`"
    )]
    Host(String),
    /// Not a repository.
    #[error(
        "`{0}` is not a repository: lower-case letters and digits, joined by `.`, `_`, `__` or `-`, in parts separated by `/`, at most {REPOSITORY_LENGTH_MAX} characters"
    )]
    Repository(String),
    /// Not a tag.
    #[error(
        "`{0}` is not a tag: letters, digits, `_`, `.` and `-`, not beginning with `.` or `-`, at most {TAG_LENGTH_MAX}"
    )]
    Tag(String),
    /// No `/`, so no registry.
    #[error("`{0}` names no registry: there is no default one, write `host:port/repository`")]
    NoRegistry(String),
    /// The part after `@`.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

/// `host[:port]` of a registry.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegistryHost(String);

impl RegistryHost {
    /// The text, as it stands in URLs and references.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host without the port, without the brackets of an IPv6 address.
    pub fn host(&self) -> &str {
        let (host, _) = split_port(&self.0);
        host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The port, where one is written.
    pub fn port(&self) -> Option<u16> {
        split_port(&self.0).1.and_then(|port| port.parse().ok())
    }

    /// Whether the bytes stay on this machine. Decided by the text alone, so that no resolver has a say.
    pub fn is_loopback(&self) -> bool {
        let host = self.host();
        host == "localhost"
            || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
            || host.parse::<Ipv6Addr>().is_ok_and(|address| address.is_loopback())
    }
}

fn split_port(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        // A colon inside brackets belongs to the address.
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    }
}

impl FromStr for RegistryHost {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || NameError::Host(text.to_owned());
        let (host, port) = split_port(text);
        if let Some(port) = port {
            // No sign, no leading zero: one port, one spelling.
            let number: u16 = port.parse().map_err(|_| wrong())?;
            if number == 0 || number.to_string() != port {
                return Err(wrong());
            }
        }
        if let Some(inner) = host.strip_prefix('[') {
            let address = inner.strip_suffix(']').and_then(|inner| inner.parse::<Ipv6Addr>().ok()).ok_or_else(wrong)?;
            let port = port.map(|port| format!(":{port}")).unwrap_or_default();
            return Ok(Self(format!("[{address}]{port}")));
        }
        let marked = host.contains('.') || port.is_some() || host.eq_ignore_ascii_case("localhost");
        if !marked || host.len() > HOST_LENGTH_MAX || !host.split('.').all(is_host_label) {
            return Err(wrong());
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

fn is_host_label(label: &str) -> bool {
    !label.is_empty()
        && label.len() <= 63
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// The path of a repository inside its registry, as the distribution specification spells it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository(String);

impl Repository {
    /// The text, as it stands in URLs.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Repository {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() <= REPOSITORY_LENGTH_MAX && text.split('/').all(is_path_component) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Repository(text.to_owned()))
        }
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(part: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    if !is_word(*first) || !is_word(*last) {
        return false;
    }
    part.split(|c: char| c.is_ascii() && is_word(c as u8))
        .filter(|separator| !separator.is_empty())
        .all(|separator| matches!(separator, "." | "_" | "__") || separator.bytes().all(|b| b == b'-'))
}

/// A tag: a name inside a repository that may be moved.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(String);

impl Tag {
    /// The text, as it stands in URLs.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where a registry without the referrers API keeps the list of what refers to `subject`:
    /// `sha256-<hex>` (`sha512-` is cut to the length of a tag, as the specification says).
    pub fn referrers_of(subject: &Digest) -> Self {
        Self(format!("{}-{}", subject.algorithm(), subject.hex()).chars().take(TAG_LENGTH_MAX).collect())
    }

    /// Where cosign keeps simple signatures of `subject`: `sha256-<hex>.sig`.
    ///
    /// Only for SHA-256: with SHA-512 the name would not fit into a tag.
    pub fn signatures_of(subject: &Digest) -> Option<Self> {
        format!("{}-{}.sig", subject.algorithm(), subject.hex()).parse().ok()
    }
}

impl FromStr for Tag {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let starts_well = text.bytes().next().is_some_and(is_word);
        let is_clean = text.bytes().all(|b| is_word(b) || b == b'.' || b == b'-');
        if starts_well && is_clean && text.len() <= TAG_LENGTH_MAX {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Tag(text.to_owned()))
        }
    }
}

/// `host:port/repository`: where a repository is reached.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryAddress {
    registry: RegistryHost,
    repository: Repository,
}

impl RepositoryAddress {
    /// Puts the two halves together.
    pub fn new(registry: RegistryHost, repository: Repository) -> Self {
        Self { registry, repository }
    }

    /// The registry half.
    pub fn registry(&self) -> &RegistryHost {
        &self.registry
    }

    /// The repository half.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }
}

impl FromStr for RepositoryAddress {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, repository) = text.split_once('/').ok_or_else(|| NameError::NoRegistry(text.to_owned()))?;
        // `shop/api` has a slash and yet no registry; say that instead of scolding the word `shop`.
        let registry = host.parse().map_err(|error| match error {
            NameError::Host(host) if host.parse::<Repository>().is_ok() => NameError::NoRegistry(text.to_owned()),
            error => error,
        })?;
        Ok(Self { registry, repository: repository.parse()? })
    }
}

/// An image as a person names it: a repository with a tag, a digest, both, or neither.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    address: RepositoryAddress,
    tag: Option<Tag>,
    digest: Option<Digest>,
}

impl Reference {
    /// Puts the parts together.
    pub fn new(address: RepositoryAddress, tag: Option<Tag>, digest: Option<Digest>) -> Self {
        Self { address, tag, digest }
    }

    /// Where it lives.
    pub fn address(&self) -> &RepositoryAddress {
        &self.address
    }

    /// The tag, where one is written.
    pub fn tag(&self) -> Option<&Tag> {
        self.tag.as_ref()
    }

    /// The digest, where one is written; it decides, the tag then only tells people something.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }
}

impl FromStr for Reference {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse()?)),
            None => (text, None),
        };
        // A colon after the last slash starts a tag; before it, a port.
        let tag_at = name.rfind(':').filter(|colon| name.rfind('/').is_some_and(|slash| slash < *colon));
        let (address, tag) = match tag_at {
            Some(colon) => (&name[..colon], Some(name[colon + 1..].parse()?)),
            None => (name, None),
        };
        Ok(Self { address: address.parse()?, tag, digest })
    }
}

impl fmt::Display for RepositoryAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        self.tag.as_ref().map_or(Ok(()), |tag| write!(f, ":{tag}"))?;
        self.digest.as_ref().map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

macro_rules! display_of_text {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}
display_of_text!(RegistryHost, Repository, Tag);

macro_rules! text_in_serde {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                from_text(deserializer)
            }
        }
    )*};
}
text_in_serde!(RegistryHost, Repository, Tag, RepositoryAddress, Reference);

#[cfg(test)]
mod tests;
