//! What a request under `/v2/` asks for: the URL grammar of the distribution specification, read once. Pure.
//!
//! Repository names contain `/`, so the path is read from its end. Nothing is decoded but `%3A` (some clients encode
//! the colon of a digest): every other escape could hide a separator, and no name needs one.

use std::collections::BTreeSet;

use axum::http::{self, Method};
use nebh_oci::digest::{Algorithm, Digest};
use nebh_oci::names::{Repository, Tag};

use super::error::{Code, Refusal};
use crate::Name;
use crate::store::UploadId;

/// Entries of one page, if the client asks for none or for more.
pub const PAGE_MAX: u32 = 1000;
/// Entries of one page of referrers: each carries annotations.
pub const REFERRERS_PAGE: u32 = 500;
/// Tags set by one push of a manifest. The specification asks for at least ten.
pub const TAGS_MAX: usize = 64;
/// Length of a query: a hundred tags of full length.
const QUERY_BYTES_MAX: usize = 16 << 10;

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// At most so many entries.
    pub limit: u32,
    /// Only what comes after this one.
    pub after: Option<String>,
}

/// How an upload begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// A session, of which the bytes follow.
    Session {
        /// What the client will name the blob by.
        algorithm: Algorithm,
    },
    /// The whole blob is in this request.
    Whole {
        /// Its digest.
        digest: Digest,
    },
    /// No bytes, if the gateway has them already.
    Mount {
        /// The digest.
        digest: Digest,
        /// Where it is.
        from: Option<Repository>,
    },
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Is this a registry?
    Ping,
    /// Which repositories are there?
    Catalog(Page),
    /// Which tags?
    Tags(Repository, Page),
    /// A manifest, or whether it is there.
    GetManifest(Repository, Name),
    /// Store a manifest; by tag, or by digest with further tags.
    PutManifest(Repository, Name, Vec<Tag>),
    /// Drop a manifest or a tag.
    DeleteManifest(Repository, Name),
    /// A blob, or whether it is there.
    GetBlob(Repository, Digest),
    /// Take a blob from a repository.
    DeleteBlob(Repository, Digest),
    /// Begin an upload.
    Begin(Repository, Start),
    /// How much arrived?
    UploadStatus(Repository, UploadId),
    /// More bytes.
    Append(Repository, UploadId),
    /// The last bytes, and what they are.
    Finish(Repository, UploadId, Digest),
    /// Throw an upload away.
    Cancel(Repository, UploadId),
    /// What is attached to a manifest?
    Referrers {
        /// In this repository.
        repository: Repository,
        /// Attached to this.
        subject: Digest,
        /// Of this type only.
        artifact_type: Option<String>,
        /// After this one.
        after: Option<Digest>,
    },
}

impl Action {
    /// Reads a request. `path` is the raw path, beginning with `/v2`.
    pub fn parse(method: &Method, path: &str, query: Option<&str>) -> Result<Self, Refusal> {
        let query = Query::parse(query)?;
        if path == "/v2" || path == "/v2/" {
            return allow(method, &[Method::GET, Method::HEAD]).map(|()| Self::Ping);
        }
        let nowhere = || Refusal::new(Code::NotFound, format!("`{path}` is no address of a registry"));
        let rest = path.strip_prefix("/v2/").ok_or_else(nowhere)?;
        let decoded = rest.replace("%3A", ":").replace("%3a", ":");
        if decoded.contains('%') || decoded.contains('\\') {
            return Err(Refusal::new(Code::NameInvalid, format!("`{path}` is escaped where no name needs it")));
        }
        let segments: Vec<&str> = decoded.split('/').collect();
        match segments.as_slice() {
            ["_catalog"] => allow(method, &[Method::GET, Method::HEAD]).map(|()| Self::Catalog(query.page())),
            [name @ .., "tags", "list"] => {
                allow(method, &[Method::GET, Method::HEAD])?;
                Ok(Self::Tags(repository(name)?, query.page()))
            }
            [name @ .., "manifests", reference] => manifest(method, &repository(name)?, reference, &query),
            [name @ .., "blobs", "uploads"] | [name @ .., "blobs", "uploads", ""] => {
                allow(method, &[Method::POST])?;
                Ok(Self::Begin(repository(name)?, query.start()?))
            }
            [name @ .., "blobs", "uploads", id] => upload(method, &repository(name)?, id, &query),
            [name @ .., "blobs", digest] => {
                let (repository, digest) = (repository(name)?, parse_digest(digest)?);
                match *method {
                    Method::GET | Method::HEAD => Ok(Self::GetBlob(repository, digest)),
                    Method::DELETE => Ok(Self::DeleteBlob(repository, digest)),
                    _ => Err(Refusal::method(method)),
                }
            }
            [name @ .., "referrers", subject] => {
                allow(method, &[Method::GET, Method::HEAD])?;
                Ok(Self::Referrers {
                    repository: repository(name)?,
                    subject: parse_digest(subject)?,
                    artifact_type: query.first("artifactType").map(str::to_owned),
                    after: query.first("last").map(parse_digest).transpose()?,
                })
            }
            _ => Err(nowhere()),
        }
    }
}

fn allow(method: &Method, allowed: &[Method]) -> Result<(), Refusal> {
    if allowed.contains(method) { Ok(()) } else { Err(Refusal::method(method)) }
}

fn repository(segments: &[&str]) -> Result<Repository, Refusal> {
    let name = segments.join("/");
    name.parse().map_err(|_| Refusal::new(Code::NameInvalid, format!("`{name}` is not the name of a repository")))
}

fn parse_digest(text: &str) -> Result<Digest, Refusal> {
    text.parse().map_err(|error| Refusal::new(Code::DigestInvalid, format!("{error}")))
}

fn parse_tag(text: &str) -> Result<Tag, Refusal> {
    text.parse().map_err(|_| Refusal::new(Code::TagInvalid, format!("`{text}` is not a tag")))
}

fn manifest(method: &Method, repository: &Repository, reference: &str, query: &Query) -> Result<Action, Refusal> {
    // A colon makes it a digest: a malformed one must not be taken for a tag.
    let name = if reference.contains(':') {
        Name::Digest(parse_digest(reference)?)
    } else {
        match parse_tag(reference) {
            Ok(tag) => Name::Tag(tag),
            // Asking for what cannot exist is answered like asking for what does not.
            Err(_) if matches!(*method, Method::GET | Method::HEAD) => {
                return Err(Refusal::new(Code::ManifestUnknown, format!("`{reference}` is not a tag")));
            }
            Err(refusal) => return Err(refusal),
        }
    };
    match *method {
        Method::GET | Method::HEAD => Ok(Action::GetManifest(repository.clone(), name)),
        Method::PUT => {
            let tags: BTreeSet<Tag> = query.all("tag").map(parse_tag).collect::<Result<_, _>>()?;
            if tags.len() > TAGS_MAX {
                let message = format!("{} tags in one request, more than {TAGS_MAX}", tags.len());
                return Err(Refusal::new(Code::TagInvalid, message).status(http::StatusCode::URI_TOO_LONG));
            }
            Ok(Action::PutManifest(repository.clone(), name, tags.into_iter().collect()))
        }
        Method::DELETE => Ok(Action::DeleteManifest(repository.clone(), name)),
        _ => Err(Refusal::method(method)),
    }
}

fn upload(method: &Method, repository: &Repository, id: &str, query: &Query) -> Result<Action, Refusal> {
    let id = id
        .parse()
        .map_err(|_| Refusal::new(Code::BlobUploadUnknown, format!("`{id}` is not the name of an upload")))?;
    let repository = repository.clone();
    match *method {
        Method::GET => Ok(Action::UploadStatus(repository, id)),
        Method::PATCH => Ok(Action::Append(repository, id)),
        Method::PUT => {
            let digest = query
                .first("digest")
                .ok_or_else(|| Refusal::new(Code::DigestInvalid, "the last request of an upload needs `?digest=`"))?;
            Ok(Action::Finish(repository, id, parse_digest(digest)?))
        }
        Method::DELETE => Ok(Action::Cancel(repository, id)),
        _ => Err(Refusal::method(method)),
    }
}

/// The query string, decoded.
struct Query(Vec<(String, String)>);

impl Query {
    fn parse(query: Option<&str>) -> Result<Self, Refusal> {
        let query = query.unwrap_or_default();
        if query.len() > QUERY_BYTES_MAX {
            let refusal = Refusal::new(Code::Unsupported, "the query is too long");
            return Err(refusal.status(http::StatusCode::URI_TOO_LONG));
        }
        Ok(Self(url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()))
    }

    fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    fn first(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    fn page(&self) -> Page {
        let asked = self.first("n").and_then(|text| text.parse().ok()).unwrap_or(PAGE_MAX);
        Page { limit: asked.min(PAGE_MAX), after: self.first("last").map(str::to_owned) }
    }

    fn start(&self) -> Result<Start, Refusal> {
        if let Some(digest) = self.first("mount") {
            // An unreadable `from` is no reason to fail: the answer is then an ordinary session.
            let from = self.first("from").and_then(|name| name.parse().ok());
            return Ok(Start::Mount { digest: parse_digest(digest)?, from });
        }
        if let Some(digest) = self.first("digest") {
            return Ok(Start::Whole { digest: parse_digest(digest)? });
        }
        match self.first("digest-algorithm") {
            None | Some("sha256") => Ok(Start::Session { algorithm: Algorithm::Sha256 }),
            Some("sha512") => Ok(Start::Session { algorithm: Algorithm::Sha512 }),
            Some(other) => {
                Err(Refusal::new(Code::DigestInvalid, format!("digest algorithm `{other}` is not supported")))
            }
        }
    }
}

#[cfg(test)]
mod tests;
