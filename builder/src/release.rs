//! Making a release: what a commit says about running an image, bound to that image by one signed index.
//!
//! ```text
//!   commit ─► release.yaml + config folder ─► assemble (trust, PURE) ─► children ─► signatures ─► index ─► release tag
//!   registry ─► image(s) by digest ──────────────┘
//! ```
//!
//! Everything is read from the commit, never from the work tree. The release tag is a pin: it is put once, and a second
//! release of the same version with other content is refused. Side effects: processes of git, the registry.

use nebh_face::{Exit, Failure};
use nebh_oci::client::Client;
use nebh_oci::image_config::ImageConfig;
use nebh_oci::manifest::{Descriptor, Document, Platform, RawManifest};
use nebh_oci::names::{Reference, RepositoryAddress, Tag};
use nebh_trust::key::PrivateKey;
use nebh_trust::release::{
    CommitId, ConfigFile, ConfigLayer, ConfigSnapshot, ReleaseIndex, ReleaseSpec, ReleaseStatement, assemble,
    read_release,
};

use crate::git::{Commit, EntryKind, GitError, Source};
use crate::{crash, image, publish, registry};

/// The file beside the buildspec.
pub const RELEASE_FILE: &str = "release.yaml";
/// Name of the snapshot's first layer; cluster, group and node put theirs on top.
const DEFAULTS: &str = "defaults";
/// Bytes of an image configuration.
const IMAGE_CONFIG_BYTES_MAX: u64 = 4 << 20;
/// Digits of a commit in the tag of its image.
pub const SHORT_COMMIT: usize = 12;

/// One release to make.
#[derive(Debug)]
pub struct Request<'a> {
    /// Repository on this machine, at the folder with the release file.
    pub source: &'a Source,
    /// The commit.
    pub commit: &'a Commit,
    /// Its version.
    pub version: Tag,
    /// The image; else the one that was pushed for the commit.
    pub image: Option<&'a Reference>,
    /// Where it goes.
    pub to: &'a RepositoryAddress,
    /// The releasers' keys.
    pub keys: &'a [PrivateKey],
}

/// A release that was made.
#[derive(Clone, Debug)]
pub struct Made {
    /// What it is.
    pub release: ReleaseIndex,
    /// False if it stood there already, with the same content.
    pub is_new: bool,
}

/// The tag of the image of a commit, as the build service puts it.
pub fn commit_tag(commit: &str) -> Result<Tag, Failure> {
    let short = commit.get(..SHORT_COMMIT).unwrap_or(commit);
    short.parse().map_err(|error| Failure::new(Exit::Failed, format!("commit {commit} makes no tag: {error}")))
}

/// Makes, signs and pushes a release. Doing it again finishes what broke off.
pub async fn create(client: &Client, request: &Request<'_>) -> Result<Made, Failure> {
    let (spec, config) = read(request)?;
    let images = images(client, request).await?;
    let commit: CommitId = request.commit.id.as_str().parse().map_err(|error| {
        Failure::new(Exit::Failed, format!("commit {} cannot be named in a release: {error}", request.commit.id))
    })?;
    // Later commits make later releases, and one commit always makes the same one.
    let counter = u64::try_from(request.commit.time.as_second()).unwrap_or(0);
    let failed = |error: &dyn std::error::Error| {
        Failure::new(Exit::Failed, format!("cannot make release {}", request.version)).because(error)
    };
    let parts =
        assemble(&spec, &request.version, &commit, counter, &images, &config).map_err(|error| failed(&error))?;
    let release = read_release(parts.index()).map_err(|error| failed(&error))?;
    let is_new = is_free(client, request, &release).await?;
    for artifact in parts.artifacts().iter().filter(|artifact| artifact.manifest.digest() != parts.index().digest()) {
        client.push_artifact(request.to, artifact).await.map_err(|error| registry::failure(&error))?;
        crash::point("release-part-pushed");
    }
    let tag = std::slice::from_ref(parts.tag());
    publish::sign(client, request.to, parts.index(), tag, request.keys).await?;
    put(client, request.to, parts.index(), parts.tag()).await?;
    Ok(Made { release, is_new })
}

/// The index, and its release tag.
pub async fn put(client: &Client, to: &RepositoryAddress, index: &RawManifest, tag: &Tag) -> Result<(), Failure> {
    publish::put(client, to, index, std::slice::from_ref(tag)).await.map_err(|failure| match failure.exit {
        Exit::Refused => failure.next(format!(
            "if another releaser has to sign: nebh release sign {to}:{tag}@{} --sign-with KEY",
            index.digest()
        )),
        _ => failure,
    })
}

/// A release tag is never moved.
async fn is_free(client: &Client, request: &Request<'_>, release: &ReleaseIndex) -> Result<bool, Failure> {
    let Request { to, version, .. } = request;
    let standing = match client.manifest_by_tag(to, version).await {
        Ok(standing) => *standing.digest(),
        Err(error) if error.is_not_found() => return Ok(true),
        Err(error) => return Err(registry::failure(&error)),
    };
    if standing == release.digest {
        return Ok(false);
    }
    Err(Failure::new(Exit::Failed, format!("release {version} of {to} exists with other content"))
        .why(format!("it is {standing}, and this one would be {}", release.digest))
        .next("a release is never replaced: choose the next version"))
}

/// Reads the release file and the config folder from the commit.
fn read(request: &Request<'_>) -> Result<(ReleaseSpec, ConfigSnapshot), Failure> {
    let Request { source, commit, .. } = request;
    let failed = |error: GitError| {
        let failure = Failure::new(Exit::Failed, format!("cannot read commit {}", commit.id)).because(&error);
        match error {
            GitError::NoFile(_) => {
                failure.next(format!("commit {RELEASE_FILE}: what stands only on disk is not released"))
            }
            _ => failure,
        }
    };
    let tree = source.tree(commit).map_err(failed)?;
    let text = source.read(&tree, RELEASE_FILE).map_err(failed)?;
    let text = String::from_utf8(text)
        .map_err(|_| Failure::new(Exit::Usage, format!("{RELEASE_FILE} of commit {} is not UTF-8", commit.id)))?;
    let spec = ReleaseSpec::parse(RELEASE_FILE, &text)?;
    let Some(config) = &spec.config else { return Ok((spec, ConfigSnapshot::default())) };
    let folder = format!("{}/", config.from.as_str());
    let mut files = Vec::new();
    for entry in tree.entries() {
        let Some(path) = entry.path.strip_prefix(&folder) else { continue };
        let wrong =
            |what: String| Failure::new(Exit::Usage, format!("{RELEASE_FILE}: config file {}: {what}", entry.path));
        if entry.kind == EntryKind::Link {
            return Err(wrong("is a link, and a config snapshot holds plain files".to_owned()));
        }
        files.push(ConfigFile {
            path: path.parse().map_err(|error| wrong(format!("{error}")))?,
            bytes: source.read(&tree, &entry.path).map_err(failed)?,
            executable: entry.kind == EntryKind::Executable,
        });
    }
    if files.is_empty() {
        return Err(Failure::new(
            Exit::Usage,
            format!("{RELEASE_FILE}: `config.from: {}` holds no file in commit {}", config.from, commit.id),
        ));
    }
    let within = source.folder_in_repository();
    let path = if within.is_empty() { config.from.to_string() } else { format!("{within}/{}", config.from) };
    // The name that the commit itself gives: an address would be another one for each clone, and the release another one.
    let origin = format!("git+{}@{}#{path}", spec.name, commit.id);
    let layers = vec![ConfigLayer { name: DEFAULTS.to_owned(), origin, files }];
    Ok((spec, ConfigSnapshot { layers }))
}

/// The image of each platform, by digest.
async fn images(client: &Client, request: &Request<'_>) -> Result<Vec<Descriptor>, Failure> {
    let Request { to, commit, image, .. } = request;
    let reference = match image {
        Some(reference) if reference.address() != *to => {
            return Err(Failure::new(Exit::Usage, format!("image {reference} is not in repository {to}"))
                .why("a release and its images live in one repository, so that they are kept and copied together")
                .next(format!("push the image to {to}")));
        }
        Some(reference) => (*reference).clone(),
        None => Reference::new((*to).clone(), Some(commit_tag(commit.id.as_str())?), None),
    };
    let manifest = client.resolve(&reference).await.map_err(|error| {
        let failure = registry::failure(&error);
        match image {
            None if error.is_not_found() => {
                failure.next(format!("build it first (nebh build --to {reference}), or name it with --image"))
            }
            _ => failure,
        }
    })?;
    match manifest.document() {
        Document::Index(index) if manifest.artifact_type().is_none() => Ok(index.manifests.clone()),
        Document::Index(_) => Err(Failure::new(Exit::Usage, format!("{reference} is a release, not an image"))),
        Document::Image(image) => {
            if request.image.is_none() {
                is_of_commit(&manifest, &reference, commit)?;
            }
            let bytes = client.blob_bytes(to, &image.config, IMAGE_CONFIG_BYTES_MAX).await;
            let bytes = bytes.map_err(|error| registry::failure(&error))?;
            let config = ImageConfig::parse(&bytes).map_err(|error| {
                Failure::new(Exit::Failed, format!("the configuration of image {reference} cannot be read"))
                    .because(&error)
            })?;
            Ok(vec![manifest.descriptor().with_platform(Platform::new(config.os, config.architecture))])
        }
    }
}

/// Twelve digits of a commit can be met by another commit, or by a branch of that name: the image itself says whose it is.
fn is_of_commit(manifest: &RawManifest, reference: &Reference, commit: &Commit) -> Result<(), Failure> {
    let made_of = manifest.annotations().get(image::REVISION).map_or("no commit", String::as_str);
    if made_of == commit.id.as_str() {
        return Ok(());
    }
    Err(Failure::new(Exit::Failed, format!("{reference} is not the image of commit {}", commit.id))
        .why(format!("it says that it was made of {}", made_of.escape_debug()))
        .next("build the commit again, or name its image with --image"))
}

/// A release as a registry has it: form only. Whether to believe it is `nebh verify`'s.
pub async fn show(client: &Client, reference: &Reference) -> Result<(ReleaseIndex, ReleaseStatement), Failure> {
    let index = registry::resolve(client, reference).await?;
    let failed = |error: &dyn std::error::Error| {
        Failure::new(Exit::Failed, format!("{reference} is no release that can be read")).because(error)
    };
    let release = read_release(&index).map_err(|error| failed(&error))?;
    let address = reference.address();
    let fetched =
        client.manifest(address, &release.statement.digest).await.map_err(|error| registry::failure(&error))?;
    let layer = fetched
        .image()
        .and_then(|image| image.layers.first().cloned())
        .ok_or_else(|| Failure::new(Exit::Failed, format!("the release statement of {reference} is empty")))?;
    let bytes = registry::part(client, address, &layer).await.map_err(|error| registry::failure(&error))?;
    let statement = ReleaseStatement::parse(&bytes, &release).map_err(|error| failed(&error))?;
    Ok((release, statement))
}

/// The releases of a repository: what stands under a tag and says that it is a release of this version.
pub async fn list(client: &Client, address: &RepositoryAddress) -> Result<Vec<ReleaseIndex>, Failure> {
    let failed = |error| registry::failure(&error);
    let mut releases = Vec::new();
    for tag in client.tags(address).await.map_err(failed)? {
        // Signatures, attestations and heads have tags of their own; a version begins with a digit.
        if !tag.as_str().starts_with(|c: char| c.is_ascii_digit()) {
            continue;
        }
        let manifest = match client.manifest_by_tag(address, &tag).await {
            Ok(manifest) => manifest,
            Err(error) if error.is_not_found() => continue,
            Err(error) => return Err(failed(error)),
        };
        if let Ok(release) = read_release(&manifest)
            && release.version == tag
        {
            releases.push(release);
        }
    }
    releases.sort_by(|one, other| (other.counter, &other.version).cmp(&(one.counter, &one.version)));
    Ok(releases)
}

#[cfg(test)]
pub(crate) mod tests;
