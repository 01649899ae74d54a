//! What the worker's builds do: the same pipeline as `nebh build`, then publish; for a version tag also the release, and
//! the head of the project's channel.
//!
//! ```text
//!   commit ─► pipeline ─► publish (tags: branch, short commit) ─┬─ branch: done
//!                                                               └─ version tag: release ─► channel head
//! ```
//!
//! Every part finds what it did before, so a build that broke off anywhere is finished by doing it again. Side effects:
//! those of the parts.

use jiff::Timestamp;
use nebh_face::{Exit, Failure};
use nebh_oci::client::Client;
use nebh_oci::names::Tag;
use nebh_trust::channel::{Floor, HeadRelease};
use nebh_trust::key::PrivateKey;
use nebh_trust::release::{ReleaseIndex, read_release};

use super::queue::Build;
use super::settings::{Project, Settings, Wish};
use super::worker::{EventSink, Maker, Outcome, ReleaseOutcome};
use crate::channel::Renewed;
use crate::event::{BuildEvent, Events};
use crate::git::{GitError, Remote, Source};
use crate::keys::{self, Passphrase};
use crate::pipeline::{BuildOptions, BuiltImage, build};
use crate::publish::{self, Publication, provenance};
use crate::source::{Checkout, Revision};
use crate::store::Store;
use crate::{channel, crash, registry, release};

/// Longest tag that a branch gives: what a registry takes.
const TAG_LENGTH_MAX: usize = 128;
/// Goes before the name of a branch that reads as a version, a commit, a signature or a channel.
const SET_APART: &str = "branch-";

/// The pipeline with its keys.
#[derive(Debug)]
pub struct Pipeline {
    store: Store,
    client: Client,
    options: BuildOptions,
    /// What provenance calls us.
    id: String,
    builder: [PrivateKey; 1],
    releaser: Option<[PrivateKey; 1]>,
    mirrors: std::path::PathBuf,
}

impl Pipeline {
    /// Opens the state folder and the keys: a key that does not open is found out at the start, not at the first push.
    pub fn open(settings: &Settings) -> Result<Self, Failure> {
        let passphrase = Passphrase { file: settings.sign.passphrase_file.clone() };
        let open = |file: &std::path::PathBuf| keys::open(file, &passphrase).map(|key| [key]);
        let builder = open(&settings.sign.builder)?;
        let [key] = &builder;
        let id = settings.id.clone().unwrap_or_else(|| provenance::builder_id(key.public()));
        Ok(Self {
            id,
            store: Store::open(&settings.state)?,
            client: registry::client()?,
            options: BuildOptions { offline: false, again: false, upstreams: settings.upstreams.clone() },
            builder,
            releaser: settings.sign.releaser.as_ref().map(open).transpose()?,
            mirrors: settings.mirrors(),
        })
    }

    async fn checkout(&self, project: &Project, build: &Build) -> Result<Checkout, Failure> {
        let remote = Remote::parse(&project.source).map_err(|error| unreadable(build, &error))?;
        let (mirrors, commit) = (self.mirrors.clone(), build.commit.clone());
        let directory = project.directory.to_string_lossy().into_owned();
        let read = move || -> Result<Result<Checkout, Failure>, GitError> {
            let (source, commit): (Source, _) = remote.fetch(&commit, &mirrors)?;
            let revision = Revision::Commit { revision: commit.id.to_string(), clean: false };
            Ok(Checkout::open(source.at(&directory), &revision))
        };
        match tokio::task::spawn_blocking(read).await {
            Ok(read) => read.map_err(|error| unreadable(build, &error))?,
            Err(error) => Err(Failure::new(Exit::Failed, "reading the commit broke off").because(&error)),
        }
    }

    async fn publish(&self, made: &Made<'_>, image: &BuiltImage, names: &[Tag]) -> Result<Vec<Tag>, Failure> {
        let Made { project, build, started, events } = *made;
        let begun = Timestamp::now();
        let mut tags = vec![release::commit_tag(&build.commit)?];
        if names.is_empty() {
            tags.push(branch_tag(build.reference.short())?);
        }
        let [key] = &self.builder;
        let reference = Some(build.reference.full().to_owned());
        let told = publish::built::provenance(image, &project.source, reference, &self.id, started, begun);
        let publication = Publication {
            layout: &image.layout,
            image: &image.manifest,
            to: &project.to,
            tags: &tags,
            names,
            provenance: &told,
            components: &provenance::components(&image.lock),
            committed: image.checkout.timestamp(),
            keys: &self.builder,
        };
        publish::publish(&self.client, &publication).await?;
        let key = format!("builder {}", key.id().short());
        events.send(BuildEvent::Signed { key, forms: "simple signing, bundle".to_owned() });
        let reference = format!("{}@{}", project.to, image.manifest.digest());
        events.send(BuildEvent::Pushed { reference, millis: millis_since(begun) });
        Ok(tags)
    }

    async fn release(&self, made: &Made<'_>, image: &BuiltImage, version: Tag) -> Result<ReleaseOutcome, Failure> {
        let Made { project, events, .. } = *made;
        let keys = self.releaser.as_ref().ok_or_else(|| {
            Failure::new(Exit::Failed, format!("no key to release {} with", project.name)).next("set `sign.releaser`")
        })?;
        let request = release::Request {
            source: image.checkout.source(),
            commit: image.checkout.commit(),
            version,
            image: None,
            to: &project.to,
            keys,
        };
        let release = release::create(&self.client, &request).await?.release;
        events.note(format!("release {}  {}  signed and pinned", release.version, release.digest));
        let head = match &project.channel {
            Some(channel) => Some(self.head(made, channel, &release, keys).await?),
            None => None,
        };
        Ok(ReleaseOutcome { version: release.version.to_string(), digest: release.digest.to_string(), head })
    }

    /// Points the channel to the release, unless it points to one of a later commit: an old build that ran late, or
    /// again, must not take hosts back.
    async fn head(
        &self,
        made: &Made<'_>,
        name: &str,
        release: &ReleaseIndex,
        keys: &[PrivateKey],
    ) -> Result<String, Failure> {
        let Made { project, events, .. } = *made;
        let publics: Vec<_> = keys.iter().map(|key| key.public().clone()).collect();
        if let Some(before) = channel::show(&self.client, &project.to, name, &publics).await? {
            let current = self.client.manifest(&project.to, &before.current.digest).await;
            let current = current.ok().and_then(|index| read_release(&index).ok());
            if let Some(later) = current.filter(|current| current.counter > release.counter) {
                events.note(format!("channel {name} stays at {}, which is of a later commit", later.version));
                return Ok(format!("{name}#{}", before.counter));
            }
        }
        let request = channel::Request {
            to: &project.to,
            channel: name,
            release: HeadRelease { version: release.version.to_string(), digest: release.digest },
            keys,
            expiry: channel::EXPIRY,
            now: Timestamp::now(),
            if_changed: true,
        };
        let head = channel::set(&self.client, &request).await?;
        events.note(format!("channel {name} #{} → {}, believed until {}", head.counter, release.version, head.expires));
        Ok(format!("{name}#{}", head.counter))
    }

    async fn run(&self, made: &Made<'_>) -> Result<Outcome, Failure> {
        let Made { project, build: asked, events, .. } = *made;
        let wish = project.wish(&asked.reference).ok_or_else(|| {
            Failure::new(Exit::Failed, format!("`{}` is no longer among the references that build", asked.reference))
        })?;
        let names: Vec<Tag> = match &wish {
            Wish::Image => Vec::new(),
            Wish::Release { version } => vec![
                version
                    .parse()
                    .map_err(|error| Failure::new(Exit::Failed, format!("`{version}` is no version: {error}")))?,
            ],
        };
        let checkout = self.checkout(project, asked).await?;
        crash::point("commit-read");
        let image = build(checkout, &self.store, &self.options, events).await?;
        let tags = self.publish(made, &image, &names).await?;
        let release = match names.into_iter().next() {
            Some(version) => Some(self.release(made, &image, version).await?),
            None => None,
        };
        let digest = image.manifest.digest().to_string();
        Ok(Outcome {
            reference: format!("{}@{digest}", project.to),
            image: digest,
            tags: tags.iter().map(Tag::to_string).collect(),
            release,
        })
    }
}

/// One build on its way.
#[derive(Clone, Copy)]
struct Made<'a> {
    project: &'a Project,
    build: &'a Build,
    started: Timestamp,
    events: &'a Events,
}

impl Maker for Pipeline {
    async fn make(&self, project: &Project, build: &Build, sink: EventSink) -> Result<Outcome, Failure> {
        let (events, mut received) = Events::new();
        let telling = async move {
            while let Some(event) = received.recv().await {
                sink.say(&event).await;
            }
        };
        let running = async {
            // Moved in, so that the telling ends with the build.
            let events = events;
            self.run(&Made { project, build, started: Timestamp::now(), events: &events }).await
        };
        tokio::join!(running, telling).0
    }

    async fn renew(&self, project: &Project, name: &str, floor: &Floor, now: Timestamp) -> Result<Renewed, Failure> {
        let Some(keys) = &self.releaser else { return Ok(Renewed::None) };
        let renewal = channel::Renewal { to: &project.to, channel: name, keys, floor, now };
        channel::renew(&self.client, &renewal).await
    }
}

fn unreadable(build: &Build, error: &GitError) -> Failure {
    Failure::new(Exit::Unreachable, format!("cannot read commit {} from its repository", build.commit)).because(error)
}

fn millis_since(begun: Timestamp) -> u64 {
    u64::try_from(Timestamp::now().duration_since(begun).as_millis()).unwrap_or(0)
}

/// The tag of a branch: its name, with `-` for what a tag cannot hold, and set apart where that reads as something else.
fn branch_tag(branch: &str) -> Result<Tag, Failure> {
    let held = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let length = TAG_LENGTH_MAX - SET_APART.len();
    let text: String = branch.chars().take(length).map(|c| if held(c) { c } else { '-' }).collect();
    let mut text = text.trim_start_matches(['.', '-']).to_owned();
    if means_something_else(&text) {
        text.insert_str(0, SET_APART);
    }
    text.parse().map_err(|error| Failure::new(Exit::Failed, format!("branch `{branch}` makes no tag: {error}")))
}

/// Whether a tag would be taken for a release's, a commit's, a signature's or a channel's: whoever may push a branch may
/// choose its name, and must not choose those with it.
fn means_something_else(tag: &str) -> bool {
    let short_commit = tag.len() == release::SHORT_COMMIT && tag.bytes().all(|byte| byte.is_ascii_hexdigit());
    short_commit
        || tag.starts_with(|c: char| c.is_ascii_digit())
        || ["sha256-", "sha512-", "channel."].iter().any(|reserved| tag.starts_with(reserved))
}

#[cfg(test)]
mod tests;
