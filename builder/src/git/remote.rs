//! Repositories somewhere else: which refs they have, and one commit of them fetched into a bare cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nebh_oci::digest::Digest;

use super::command::{Bounds, Git, GitError, Transports};
use super::source::{Commit, CommitId, Source};
use super::tree::ObjectId;

/// Bytes of an address.
const ADDRESS_BYTES_MAX: usize = 2000;
/// The longest that a repository may take to list its refs.
const LIST_WITHIN: Duration = Duration::from_mins(1);
/// Refs that one repository may list.
const REFS_MAX: usize = 200_000;

/// A ref of a remote repository and the commit it stands for; of an annotated tag, the commit it was put on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteRef {
    /// Full name, such as `refs/heads/main`.
    pub name: String,
    /// The commit.
    pub commit: CommitId,
}

/// A repository at an address that we fetch from: `https:`, `ssh:`, `file:`, or `http:` on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    url: String,
    scheme: &'static str,
    bounds: Bounds,
}

impl Remote {
    /// Parses an address. What git would take for an option, another program or a file to read is refused.
    pub fn parse(text: &str) -> Result<Self, GitError> {
        let wrong = |rule| GitError::Address { url: text.escape_debug().collect(), rule };
        if text.len() > ADDRESS_BYTES_MAX || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(wrong("it has no spaces and no control characters"));
        }
        let url = url::Url::parse(text).map_err(|_| wrong("write https://…, ssh://… or file:///…"))?;
        let scheme = match url.scheme() {
            "https" => "https",
            "ssh" => "ssh",
            "file" => "file",
            "http" if is_loopback(&url) => "http",
            "http" => return Err(wrong("http without TLS is for this machine only; use https")),
            _ => return Err(wrong("it starts with https, ssh or file")),
        };
        if url.password().is_some() {
            return Err(wrong("it holds a password; use a key, or a credential file of the service"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("it has no query and no fragment"));
        }
        // `ssh` takes a host or a user that starts with a dash for an option.
        let host = url.host_str().unwrap_or_default();
        if url.username().starts_with(['-', '%']) || host.starts_with(['-', '%']) || host.contains('%') {
            return Err(wrong("user and host do not start with a dash"));
        }
        if scheme != "file" && host.is_empty() {
            return Err(wrong("it names a host"));
        }
        if scheme == "file" && (!host.is_empty() || url.path().len() < 2) {
            return Err(wrong("write file:///PATH"));
        }
        Ok(Self { url: text.to_owned(), scheme, bounds: Bounds::DEFAULT })
    }

    /// The same, held to other bounds.
    #[cfg(test)]
    pub(super) fn within(self, bounds: Bounds) -> Self {
        Self { bounds, ..self }
    }

    /// The address as it was written: what provenance names.
    pub fn as_str(&self) -> &str {
        &self.url
    }

    /// The refs of the repository, with the commits they stand for.
    pub fn refs(&self, cache: &Path) -> Result<Vec<RemoteRef>, GitError> {
        let repository = self.repository(cache)?;
        // A list is short, and other projects wait for it.
        let hasty =
            Self { bounds: Bounds { within: self.bounds.within.min(LIST_WITHIN), ..self.bounds }, ..self.clone() };
        let answer = hasty.ask(&repository, &["ls-remote", "--heads", "--tags", "--", &self.url])?;
        let mut refs: Vec<RemoteRef> = Vec::new();
        for line in String::from_utf8_lossy(&answer).lines() {
            let (id, name) = line.split_once('\t').ok_or(GitError::Answer("ls-remote"))?;
            let commit = ObjectId::parse(id).ok_or(GitError::Answer("ls-remote"))?;
            match name.strip_suffix("^{}") {
                // The line after an annotated tag names what it was put on.
                Some(tag) => {
                    if let Some(last) = refs.last_mut().filter(|last| last.name == tag) {
                        last.commit = commit;
                    }
                }
                None => refs.push(RemoteRef { name: name.to_owned(), commit }),
            }
            if refs.len() > REFS_MAX {
                return Err(GitError::TooMuch { what: "refs of a repository", max: REFS_MAX as u64 });
            }
        }
        Ok(refs)
    }

    /// Fetches one commit (a full id, a branch, a tag, or `HEAD`) into the bare cache, without its history.
    pub fn fetch(&self, revision: &str, cache: &Path) -> Result<(Source, Commit), GitError> {
        let repository = self.repository(cache)?;
        let source = Source::bare(repository.clone());
        let full_id = ObjectId::parse(revision);
        if full_id.is_some()
            && let Ok(commit) = source.commit(revision)
        {
            return Ok((source, commit));
        }
        let wanted = match &full_id {
            Some(id) => id.to_string(),
            None => self.find(revision, cache)?.to_string(),
        };
        let fetch = [
            "fetch",
            "--quiet",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-recurse-submodules",
            "--no-auto-gc",
            "--depth",
            "1",
            "--",
            &self.url,
            &wanted,
        ];
        self.ask(&repository, &fetch)?;
        let commit = source.commit(&wanted)?;
        Ok((source, commit))
    }

    /// Takes away what a fetch that failed left; whether it failed because there was too much.
    fn sweep(&self, repository: &Path) -> bool {
        let Ok(entries) = fs::read_dir(repository.join("objects/pack")) else { return false };
        let mut too_much = false;
        for entry in entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with("tmp_")) {
            let Ok(there) = entry.metadata() else { continue };
            let is_full = there.len() >= self.bounds.file_bytes;
            // A young one may be another fetch's.
            let is_old =
                there.modified().is_ok_and(|time| time.elapsed().is_ok_and(|elapsed| elapsed > self.bounds.within));
            if is_full || is_old {
                drop(fs::remove_file(entry.path()));
            }
            too_much |= is_full;
        }
        too_much
    }

    fn find(&self, revision: &str, cache: &Path) -> Result<CommitId, GitError> {
        let repository = self.repository(cache)?;
        if revision == "HEAD" {
            let answer = self.ask(&repository, &["ls-remote", "--", &self.url, "HEAD"])?;
            let text = String::from_utf8_lossy(&answer);
            let id = text.split_ascii_whitespace().next().and_then(ObjectId::parse);
            return id.ok_or_else(|| GitError::NoCommit("HEAD".to_owned()));
        }
        let names = [revision.to_owned(), format!("refs/tags/{revision}"), format!("refs/heads/{revision}")];
        let refs = self.refs(cache)?;
        let found = names.iter().find_map(|name| refs.iter().find(|one| one.name == *name));
        found.map(|found| found.commit.clone()).ok_or_else(|| GitError::NoCommit(revision.escape_debug().collect()))
    }

    /// The bare repository that keeps what was fetched from this address.
    fn repository(&self, cache: &Path) -> Result<PathBuf, GitError> {
        let io = |action, path: &Path| {
            let path = path.to_owned();
            move |cause| GitError::Io { action, path, cause }
        };
        fs::create_dir_all(cache).map_err(io("create", cache))?;
        let cache = fs::canonicalize(cache).map_err(io("open", cache))?;
        let folder = cache.join(format!("{}.git", Digest::sha256(self.url.as_bytes()).short()));
        if !folder.join("HEAD").is_file() {
            fs::create_dir_all(&folder).map_err(io("create", &folder))?;
            // The repository may belong to another user than the service: the one path that git may then still read.
            let path = self.url.strip_prefix("file://").unwrap_or_default();
            let trusted = format!(
                "[safe]\n\tdirectory = {}\n\tdirectory = {}\n",
                quoted(path),
                quoted(&format!("{}/.git", path.trim_end_matches('/')))
            );
            let config = folder.join("nebh.gitconfig");
            fs::write(&config, trusted).map_err(io("write", &config))?;
            Git::local(&folder).ask(["init", "--quiet", "--bare", "--template=", "."])?;
        }
        Ok(folder)
    }

    fn ask(&self, repository: &Path, arguments: &[&str]) -> Result<Vec<u8>, GitError> {
        let config = repository.join("nebh.gitconfig");
        let git = Git {
            transports: Transports::Of(self.scheme),
            config: Some(&config),
            bounds: self.bounds,
            ..Git::local(repository)
        };
        let answer = git.ask(arguments);
        if arguments.first() == Some(&"fetch") && answer.is_err() && self.sweep(repository) {
            return Err(GitError::TooMuch { what: "bytes of a pack", max: self.bounds.file_bytes });
        }
        answer
    }
}

/// A value of a git configuration file. Quoted, so that `#` and `;` begin no comment; there are no control characters.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn is_loopback(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}
