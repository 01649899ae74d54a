//! Settings of the build service, `builder.yaml`: raw YAML in, checked values out. Pure.
//!
//! Paths in the file are relative to the file. Nothing is opened here.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use nebh_face::{Exit, Failure};
use nebh_oci::names::{Repository, RepositoryAddress};
use serde::Deserialize;
use url::Url;

use super::reference::{RefKind, RefName};
use crate::upstream::UpstreamSettings;

/// Stands for the version in a pattern of release tags.
const VERSION: &str = "{version}";

/// The settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// URI that provenance names as the builder; else one made of the builder's key.
    pub id: Option<String>,
    /// Where webhooks and the API listen.
    pub listen: SocketAddr,
    /// Queue, mirrors of the repositories, input archive.
    pub state: PathBuf,
    /// What may build, by name.
    pub projects: BTreeMap<Repository, Project>,
    /// Keys.
    pub sign: SignSettings,
    /// Where inputs come from, where that is not what this machine's clients use.
    pub upstreams: UpstreamSettings,
}

/// One project.
#[derive(Clone, Debug)]
pub struct Project {
    /// Name.
    pub name: Repository,
    /// Address of its git repository, the only place where commits are read.
    pub source: String,
    /// Folder with the buildspec and the release file, below the root of the repository; empty for the root.
    pub directory: PathBuf,
    /// File with the secrets of its webhook, one a line.
    pub secret_file: PathBuf,
    /// Branches that build.
    pub branches: Vec<Pattern>,
    /// Tags that become releases.
    pub releases: Option<ReleaseTags>,
    /// Where images and releases go.
    pub to: RepositoryAddress,
    /// Channel whose head each release becomes.
    pub channel: Option<String>,
}

/// Key files.
#[derive(Clone, Debug)]
pub struct SignSettings {
    /// Signs images.
    pub builder: PathBuf,
    /// Signs releases and channel heads.
    pub releaser: Option<PathBuf>,
    /// File with the passphrase of both; else the environment says it.
    pub passphrase_file: Option<PathBuf>,
}

/// The name of a branch, or its beginning followed by `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    stem: String,
    open: bool,
}

/// Which tags are releases: what stands before and after the version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseTags {
    before: String,
    after: String,
}

/// What a reference of a project stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// A branch that builds.
    Image,
    /// A tag that becomes a release.
    Release {
        /// Its version.
        version: String,
    },
}

impl Project {
    /// What this reference stands for, if for anything.
    pub fn wish(&self, reference: &RefName) -> Option<Wish> {
        match reference.kind() {
            RefKind::Branch => {
                self.branches.iter().any(|pattern| pattern.matches(reference.short())).then_some(Wish::Image)
            }
            RefKind::Tag => {
                let version = self.releases.as_ref()?.version(reference.short())?;
                Some(Wish::Release { version: version.to_owned() })
            }
        }
    }
}

impl Pattern {
    fn parse(text: &str) -> Option<Self> {
        let (stem, open) = match text.strip_suffix('*') {
            Some(stem) => (stem, true),
            None => (text, false),
        };
        let probe = if open { format!("{stem}x") } else { stem.to_owned() };
        RefName::branch(&probe).ok().map(|_| Self { stem: stem.to_owned(), open })
    }

    fn matches(&self, name: &str) -> bool {
        if self.open { name.starts_with(&self.stem) } else { name == self.stem }
    }
}

impl ReleaseTags {
    fn parse(text: &str) -> Option<Self> {
        let (before, after) = text.split_once(VERSION)?;
        let probe = format!("{before}1{after}");
        let good = !after.contains(VERSION) && RefName::tag(&probe).is_ok();
        good.then(|| Self { before: before.to_owned(), after: after.to_owned() })
    }

    /// The version in a tag. It begins with a digit, so that `v{version}` does not take `vendor`.
    pub fn version<'a>(&self, tag: &'a str) -> Option<&'a str> {
        let version = tag.strip_prefix(&self.before)?.strip_suffix(self.after.as_str())?;
        (version.starts_with(|c: char| c.is_ascii_digit()) && version.parse::<nebh_oci::names::Tag>().is_ok())
            .then_some(version)
    }
}

impl Settings {
    /// Where copies of the projects' repositories are kept.
    pub fn mirrors(&self) -> PathBuf {
        self.state.join("git")
    }

    /// Reads the text of `file`.
    pub fn parse(file: &Path, text: &str) -> Result<Self, Failure> {
        let shown = file.display().to_string();
        let raw: RawSettings = nebh_face::document::parse(&shown, text)?;
        let base = file.parent().unwrap_or(Path::new(""));
        if !raw.listen.ip().is_loopback() && !raw.listen_beyond_this_machine {
            return Err(wrong(&shown, &format!("`listen` {} is reachable from other machines", raw.listen)).next(
                "the API tells anybody what was built: put a proxy with access control in front, \
                 and then say `listen-beyond-this-machine: true`",
            ));
        }
        // Kept as it was written: policies compare texts, and a parser would add a slash.
        if let Some(id) = &raw.id
            && let Err(error) = Url::parse(id)
        {
            return Err(wrong(&shown, &format!("`id`: `{id}` is no URI: {error}")));
        }
        let mut projects = BTreeMap::new();
        for project in raw.projects {
            let project = project.check(&shown, base)?;
            if let Some(twice) = projects.insert(project.name.clone(), project) {
                return Err(wrong(&shown, &format!("project `{}` stands there twice", twice.name)));
            }
        }
        if raw.sign.releaser.is_none()
            && let Some(project) = projects.values().find(|project| project.releases.is_some())
        {
            return Err(wrong(
                &shown,
                &format!("project `{}` makes releases, and `sign.releaser` is not set", project.name),
            ));
        }
        Ok(Self {
            id: raw.id,
            listen: raw.listen,
            state: base.join(raw.state),
            projects,
            sign: SignSettings {
                builder: base.join(raw.sign.builder),
                releaser: raw.sign.releaser.map(|path| base.join(path)),
                passphrase_file: raw.sign.passphrase_file.map(|path| base.join(path)),
            },
            upstreams: raw.upstreams,
        })
    }
}

fn wrong(file: &str, what: &str) -> Failure {
    Failure::new(Exit::Usage, format!("{file}: {what}"))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawSettings {
    id: Option<String>,
    listen: SocketAddr,
    #[serde(default)]
    listen_beyond_this_machine: bool,
    state: PathBuf,
    projects: Vec<RawProject>,
    sign: RawSign,
    #[serde(default)]
    upstreams: UpstreamSettings,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawProject {
    name: String,
    source: String,
    #[serde(default)]
    directory: PathBuf,
    webhook: RawWebhook,
    #[serde(default)]
    refs: Vec<String>,
    releases: Option<String>,
    to: String,
    channel: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawWebhook {
    #[expect(dead_code, reason = "one form is known; serde refuses the others by name")]
    kind: RawKind,
    secret_file: PathBuf,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawKind {
    Github,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawSign {
    builder: PathBuf,
    releaser: Option<PathBuf>,
    passphrase_file: Option<PathBuf>,
}

impl RawProject {
    fn check(self, file: &str, base: &Path) -> Result<Project, Failure> {
        let bad = |what: String| wrong(file, &format!("project `{}`: {what}", self.name));
        let name: Repository = self.name.parse().map_err(|error| bad(format!("{error}")))?;
        if self.source.starts_with('-') || self.source.is_empty() {
            return Err(bad(format!("`source` `{}` is no address of a repository", self.source)));
        }
        let below = |part| matches!(part, std::path::Component::Normal(_));
        if !self.directory.components().all(below) {
            return Err(bad(format!("`directory` `{}` leaves the repository", self.directory.display())));
        }
        let pattern = |text: &String| {
            Pattern::parse(text)
                .ok_or_else(|| bad(format!("`refs`: `{text}` is no branch name, nor one ending in `*`")))
        };
        let releases = |text: String| {
            ReleaseTags::parse(&text)
                .ok_or_else(|| bad(format!("`releases`: `{text}` is no tag name with `{VERSION}` in it")))
        };
        let channel = |name: String| match nebh_trust::channel::tag(&name) {
            Ok(_) => Ok(name),
            Err(error) => Err(bad(format!("`channel`: {error}"))),
        };
        Ok(Project {
            branches: self.refs.iter().map(pattern).collect::<Result<_, _>>()?,
            releases: self.releases.clone().map(releases).transpose()?,
            to: self.to.parse().map_err(|error| bad(format!("`to`: {error}")))?,
            channel: self.channel.clone().map(channel).transpose()?,
            secret_file: base.join(&self.webhook.secret_file),
            source: self.source.clone(),
            directory: self.directory.clone(),
            name,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
listen: 127.0.0.1:5010
state: state
projects:
  - name: shop/api
    source: file:///srv/git/shop.git
    webhook: { kind: github, secret-file: webhook.secret }
    refs: [main, release/*]
    releases: \"v{version}\"
    to: 127.0.0.1:5000/shop/api
    channel: stable
sign: { builder: keys/builder.key, releaser: /keys/alice.key }
";

    fn parse(text: &str) -> Result<Settings, Failure> {
        Settings::parse(Path::new("/etc/nebh/builder.yaml"), text)
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let settings = parse(GOOD).unwrap();
        assert_eq!(settings.state, Path::new("/etc/nebh/state"));
        assert_eq!(settings.sign.releaser.as_deref(), Some(Path::new("/keys/alice.key")));
        let project = settings.projects.values().next().unwrap();
        assert_eq!(project.secret_file, Path::new("/etc/nebh/webhook.secret"));
    }

    #[test]
    fn references_stand_for_images_releases_or_nothing() {
        let settings = parse(GOOD).unwrap();
        let project = settings.projects.values().next().unwrap();
        let wish = |text: &str| project.wish(&text.parse().unwrap());
        assert_eq!(wish("refs/heads/main"), Some(Wish::Image));
        assert_eq!(wish("refs/heads/release/1.x"), Some(Wish::Image));
        assert_eq!(wish("refs/heads/mainline"), None);
        assert_eq!(wish("refs/tags/v1.4.2"), Some(Wish::Release { version: "1.4.2".to_owned() }));
        for nothing in ["refs/tags/main", "refs/tags/1.4.2", "refs/tags/vendor", "refs/tags/v", "refs/tags/v1/2"] {
            assert_eq!(wish(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn wrong_settings_name_the_field() {
        for (from, to, expected) in [
            ("sign: {", "sing: {", "builder.yaml:11:1: unknown field `sing`"),
            ("kind: github", "kind: githob", "unknown value `githob`"),
            ("refs: [main", "refs: [\"ma in\"", "`refs`: `ma in`"),
            ("v{version}", "v", "`releases`: `v`"),
            ("127.0.0.1:5000/shop/api", "shop/api", "`to`:"),
            ("channel: stable", "channel: \"a b\"", "`channel`:"),
            ("channel: stable", "directory: ../other", "leaves the repository"),
            ("source: file", "source: --upload-pack=file", "is no address"),
            (", releaser: /keys/alice.key", "", "`sign.releaser` is not set"),
            ("listen: 127.0.0.1", "listen: 0.0.0.0", "reachable from other machines"),
            ("state: state", "state: state\nid: builder", "`id`: `builder` is no URI"),
        ] {
            let failure = parse(&GOOD.replace(from, to)).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage);
            assert!(failure.to_string().contains(expected), "{expected}: {failure}");
        }
    }
}
