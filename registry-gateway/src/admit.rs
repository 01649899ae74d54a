//! Whether a manifest gets a tag. Pure: facts and the time go in, a grant or a refusal comes out.
//!
//! ```text
//!   tag held by a pin, elsewhere  ─► refused
//!   sha256-<hex>…                 ─► granted, if it has the form of a signature, an attestation or a list of them
//!   channel.<name>                ─► a verified head, with a higher counter than any before
//!   a release index               ─► verified by the release role, its images by the image role, tag = version: a pin
//!   anything else                 ─► open: granted │ signed: verified by the image role │ release: refused
//! ```
//!
//! Content is stored by digest without asking; only names are granted here. Signatures may come before what they
//! sign, so a push needs no quarantine: blobs, signatures, manifest, and the tag last.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use nebh_oci::digest::Digest;
use nebh_oci::manifest::{Attached, Descriptor, Document, RawManifest};
use nebh_oci::media_type::{self, COSIGN_SIMPLE_SIGNING, DSSE_ENVELOPE, NEBH_RELEASE, SIGSTORE_BUNDLE_V03};
use nebh_oci::names::{Repository, Tag};
use nebh_trust::policy::TrustPolicy;
use nebh_trust::rejection::Rejection;
use nebh_trust::{channel, release, verify};

use crate::db::tags::TagState;
use crate::retain::TagKind;
use crate::settings::Mode;
use crate::tag_kind;

mod refused;

pub use refused::Refused;

/// By what signatures are judged.
#[derive(Clone, Debug)]
pub enum Judge {
    /// There is no policy.
    Nobody,
    /// This one.
    Policy(Arc<TrustPolicy>),
    /// There is one, and it cannot be read: nothing that needs a signature is granted.
    Unreadable(String),
}

/// A manifest with what is attached to it.
#[derive(Clone, Debug)]
pub struct Known {
    /// The manifest; its bytes were compared with the name under which it is known.
    pub manifest: RawManifest,
    /// Its signatures and attestations.
    pub attached: Vec<Attached>,
}

/// All that the decision hangs on, beside the tag.
#[derive(Debug)]
pub struct Facts<'a> {
    /// What the repository's rule admits.
    pub mode: Mode,
    /// The pattern of that rule.
    pub rule: &'a str,
    /// The repository.
    pub repository: &'a Repository,
    /// The name under which the manifest is stored.
    pub name: Digest,
    /// The manifest, what is attached to it, and its own small layers (a channel head is one).
    pub subject: &'a Known,
    /// The layers of the manifest itself, as far as they are small.
    pub layers: &'a [(Descriptor, Vec<u8>)],
    /// The children that are here, at all levels, by the names under which indexes list them.
    pub children: &'a BTreeMap<Digest, Known>,
    /// The bound beyond which nothing was looked at, if there was more.
    pub cut: Option<&'static str>,
    /// What signatures are judged by.
    pub judge: &'a Judge,
}

/// Why a tag is granted, and what follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// The repository is open.
    Open,
    /// A signature, an attestation, or a list of them.
    Attachment,
    /// Verified; by whom.
    Signed(String),
    /// A release: the tag becomes a pin.
    Release {
        /// By whom it was signed.
        by: String,
    },
    /// A channel head: the floor of the channel rises.
    Channel {
        /// By whom it was signed.
        by: String,
        /// Its counter.
        counter: u64,
        /// The releases that it names.
        lists: Vec<Digest>,
    },
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("the repository is open: signatures are not looked at"),
            Self::Attachment => f.write_str("a signature, an attestation or a list of them: these are always stored"),
            Self::Signed(by) => write!(f, "signed by {by}"),
            Self::Release { by } => write!(f, "a release signed by {by}; its tag is a pin"),
            Self::Channel { by, counter, .. } => write!(f, "channel head {counter} signed by {by}"),
        }
    }
}

/// Decides whether `tag`, of which `state` holds, may lead to the manifest.
pub fn admit(facts: &Facts<'_>, tag: &Tag, state: &TagState, now: Timestamp) -> Result<Grant, Refused> {
    let outcome = decide(facts, tag, state, now);
    match facts.cut {
        Some(bound) => outcome.map_err(|refused| Refused::Cut { refused: Box::new(refused), bound }),
        None => outcome,
    }
}

fn decide(facts: &Facts<'_>, tag: &Tag, state: &TagState, now: Timestamp) -> Result<Grant, Refused> {
    if let Some(pinned) = state.pinned
        && pinned != facts.name
    {
        let (repository, tag) = (facts.repository.clone(), tag.clone());
        return Err(Refused::Pinned { repository, tag, pinned, wanted: facts.name });
    }
    match tag_kind(tag.as_str()) {
        TagKind::Attached(subject) => attachment(facts, tag, state, &subject),
        TagKind::Channel if facts.mode != Mode::Open => head(facts, tag, state, now),
        TagKind::Version if is_release(&facts.subject.manifest) => release_tag(facts, tag, now),
        TagKind::Channel | TagKind::Version => match facts.mode {
            Mode::Open => Ok(Grant::Open),
            Mode::Signed => image(facts, tag, now),
            Mode::Release => {
                let (tag, rule) = (tag.clone(), facts.rule.to_owned());
                Err(Refused::NotARelease { tag, rule, digest: facts.name })
            }
        },
    }
}

fn is_release(manifest: &RawManifest) -> bool {
    manifest.index().is_some() && manifest.artifact_type() == Some(NEBH_RELEASE)
}

fn policy<'a>(facts: &Facts<'a>, tag: &Tag) -> Result<&'a TrustPolicy, Refused> {
    let tag = tag.clone();
    match facts.judge {
        Judge::Policy(policy) => Ok(policy),
        Judge::Nobody => Err(Refused::NoPolicy { tag }),
        Judge::Unreadable(why) => Err(Refused::PolicyUnreadable { tag, why: why.clone() }),
    }
}

fn trust(tag: &Tag) -> impl Fn(Rejection) -> Refused + '_ {
    |rejection| Refused::Trust { tag: tag.clone(), rejection: Box::new(rejection) }
}

fn image(facts: &Facts<'_>, tag: &Tag, now: Timestamp) -> Result<Grant, Refused> {
    let policy = policy(facts, tag)?;
    let Known { manifest, attached } = facts.subject;
    let verified = verify::verify_image(policy, facts.repository, manifest, attached, now).map_err(trust(tag))?;
    local(tag, manifest)?;
    children(facts, tag, policy, now)?;
    Ok(Grant::Signed(verified.signed_by()))
}

/// An index's signature says nothing about its children, and clients pull the child: each image is verified, at every
/// level.
fn children(facts: &Facts<'_>, tag: &Tag, policy: &TrustPolicy, now: Timestamp) -> Result<(), Refused> {
    let mut seen = BTreeSet::new();
    let mut waiting = vec![&facts.subject.manifest];
    while let Some(parent) = waiting.pop() {
        for descriptor in parent.index().map(|index| index.manifests.as_slice()).unwrap_or_default() {
            if !seen.insert(descriptor.digest) {
                continue;
            }
            let child = facts.children.get(&descriptor.digest).ok_or_else(|| Refused::ChildMissing {
                tag: tag.clone(),
                digest: facts.name,
                child: descriptor.digest,
            })?;
            if is_runnable(&child.manifest) {
                verify::verify_image(policy, facts.repository, &child.manifest, &child.attached, now)
                    .map_err(trust(tag))?;
            }
            local(tag, &child.manifest)?;
            waiting.push(&child.manifest);
        }
    }
    Ok(())
}

/// What a runtime would start. Judged by the manifest itself: what an index says of a child is only its word.
fn is_runnable(manifest: &RawManifest) -> bool {
    match manifest.document() {
        Document::Index(_) => true,
        Document::Image(image) => {
            [media_type::OCI_CONFIG, media_type::DOCKER_CONFIG].contains(&image.config.media_type.as_str())
        }
    }
}

fn release_tag(facts: &Facts<'_>, tag: &Tag, now: Timestamp) -> Result<Grant, Refused> {
    let Known { manifest, attached } = facts.subject;
    if facts.mode == Mode::Open {
        // An open repository takes everything; what verifies all the same is a release.
        let verified = policy(facts, tag)
            .ok()
            .and_then(|policy| verify::verify_release(policy, facts.repository, manifest, attached, now).ok());
        let named = release::read_release(manifest).is_ok_and(|index| index.version == *tag);
        return Ok(verified
            .filter(|_| named)
            .map_or(Grant::Open, |verified| Grant::Release { by: verified.signed_by() }));
    }
    let policy = policy(facts, tag)?;
    let verified = verify::verify_release(policy, facts.repository, manifest, attached, now).map_err(trust(tag))?;
    let version = release::read_release(manifest).map(|index| index.version.to_string()).unwrap_or_default();
    if version != tag.as_str() {
        return Err(Refused::OtherVersion { tag: tag.clone(), digest: facts.name, version });
    }
    children(facts, tag, policy, now)?;
    Ok(Grant::Release { by: verified.signed_by() })
}

fn head(facts: &Facts<'_>, tag: &Tag, state: &TagState, now: Timestamp) -> Result<Grant, Refused> {
    let policy = policy(facts, tag)?;
    let name = tag.as_str().strip_prefix("channel.").unwrap_or_default();
    let own = Attached { manifest: facts.subject.manifest.clone(), layers: facts.layers.to_vec() };
    // Which head has the counter is compared below, by the manifest's digest: here it may not even be signed anew.
    let floor = channel::Floor::at(state.head.map_or(0, |(counter, _)| counter));
    let verified = channel::verify_head(policy, facts.repository, name, &own, &floor, now).map_err(trust(tag))?;
    let by = verified.signed_by();
    let head = verified.into_value();
    if let Some((present, held)) = state.head
        && held != facts.name
        && head.counter <= present
    {
        return Err(Refused::Regressed { tag: tag.clone(), counter: head.counter, present, held });
    }
    let named = std::iter::once(&head.current).chain(&head.recent).chain(&head.pinned);
    let lists = named.map(|release| release.digest).collect();
    Ok(Grant::Channel { by, counter: head.counter, lists })
}

/// Attachments are stored whoever signed them, but the name must not become a way to tag something else, or to take
/// signatures away from what is pinned.
fn attachment(facts: &Facts<'_>, tag: &Tag, state: &TagState, subject: &Digest) -> Result<Grant, Refused> {
    if facts.mode == Mode::Open {
        return Ok(Grant::Attachment);
    }
    let parts = facts.subject.manifest.parts();
    if let Some(lost) = state.guarded.iter().find(|guarded| parts.iter().all(|part| part.digest != **guarded)) {
        let (tag, digest) = (tag.clone(), facts.name);
        return Err(Refused::Strips { tag, digest, subject: *subject, lost: *lost });
    }
    let refused = |why: String| {
        let tag = tag.clone();
        Err(Refused::NoAttachment { tag, subject: *subject, digest: facts.name, why })
    };
    match facts.subject.manifest.document() {
        Document::Image(image) => {
            let known =
                [COSIGN_SIMPLE_SIGNING, DSSE_ENVELOPE, SIGSTORE_BUNDLE_V03, media_type::CYCLONEDX, media_type::SPDX];
            match image.layers.iter().find(|layer| !known.contains(&layer.media_type.as_str())) {
                Some(layer) => refused(format!("it has a layer of type `{}`", layer.media_type)),
                None if image.layers.is_empty() => refused("it has no layer".to_owned()),
                None => Ok(Grant::Attachment),
            }
        }
        Document::Index(index) => {
            for descriptor in &index.manifests {
                let about = facts.children.get(&descriptor.digest).and_then(|child| child.manifest.subject());
                if about.is_none_or(|about| about.digest != *subject) {
                    return refused(format!("its child {} is not attached to it", descriptor.digest));
                }
            }
            Ok(Grant::Attachment)
        }
    }
}

/// Refuses parts that a client would fetch from elsewhere.
fn local(tag: &Tag, manifest: &RawManifest) -> Result<(), Refused> {
    let config = manifest.image().map(|image| &image.config);
    match manifest.parts().iter().chain(config).find(|part| !part.urls.is_empty()) {
        Some(part) => Err(Refused::Elsewhere { tag: tag.clone(), digest: *manifest.digest(), part: part.digest }),
        None => Ok(()),
    }
}
