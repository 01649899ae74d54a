//! Why a tag is not granted: the words that every client prints. Pure.

use nebh_oci::digest::Digest;
use nebh_oci::names::{Repository, Tag};
use nebh_trust::rejection::Rejection;

/// Why a tag is not granted.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Refused {
    /// Its tag is a pin.
    #[error(
        "tag `{tag}` of `{repository}` is pinned to {pinned} and cannot be moved to {wanted}; `nebh unpin {repository}:{tag}` first"
    )]
    Pinned {
        /// Where.
        repository: Repository,
        /// Which.
        tag: Tag,
        /// What the pin holds.
        pinned: Digest,
        /// What was pushed.
        wanted: Digest,
    },
    /// The trust policy says no.
    #[error("tag `{tag}` is not granted: {rejection} [{}]", rejection.kind)]
    Trust {
        /// Which tag.
        tag: Tag,
        /// Why.
        rejection: Box<Rejection>,
    },
    /// The settings say no.
    #[error(
        "tag `{tag}` is not granted: the gateway's rule `{rule}` takes releases and channel heads only, and {digest} is neither"
    )]
    NotARelease {
        /// Which tag.
        tag: Tag,
        /// The settings' rule.
        rule: String,
        /// What was pushed.
        digest: Digest,
    },
    /// A release under another name than its own.
    #[error("tag `{tag}` is not granted: release {digest} is version `{version}` and belongs under that tag alone")]
    OtherVersion {
        /// Which tag.
        tag: Tag,
        /// What was pushed.
        digest: Digest,
        /// What it says of itself.
        version: String,
    },
    /// A channel head that does not lead forward.
    #[error(
        "tag `{tag}` is not granted: channel head {counter} does not follow head {present} ({held}), which is here [regressed]"
    )]
    Regressed {
        /// Which tag.
        tag: Tag,
        /// Its counter.
        counter: u64,
        /// The counter that is here.
        present: u64,
        /// The head that is here.
        held: Digest,
    },
    /// A name for attachments on something that is none.
    #[error(
        "tag `{tag}` is not granted: that name is for signatures and attestations of {subject}, and {digest} has not their form: {why}"
    )]
    NoAttachment {
        /// Which tag.
        tag: Tag,
        /// What it should be attached to.
        subject: Digest,
        /// What was pushed.
        digest: Digest,
        /// What does not fit.
        why: String,
    },
    /// A signature list that lacks what the present one has, of something pinned.
    #[error(
        "tag `{tag}` is not granted: {digest} lacks {lost}, which is here and belongs to {subject}, and that is pinned: to what is pinned, signatures are only added"
    )]
    Strips {
        /// Which tag.
        tag: Tag,
        /// What was pushed.
        digest: Digest,
        /// What is signed.
        subject: Digest,
        /// What would be lost.
        lost: Digest,
    },
    /// Layers that would be fetched from elsewhere.
    #[error(
        "tag `{tag}` is not granted: part {part} of {digest} is to be fetched from other addresses (`urls`), past all that is verified here"
    )]
    Elsewhere {
        /// Which tag.
        tag: Tag,
        /// What was pushed.
        digest: Digest,
        /// Its part.
        part: Digest,
    },
    /// An index of which a part is not here.
    #[error("tag `{tag}` is not granted: child {child} of {digest} is not here, so nobody can verify it")]
    ChildMissing {
        /// Which tag.
        tag: Tag,
        /// What was pushed.
        digest: Digest,
        /// Its child.
        child: Digest,
    },
    /// Signatures are demanded, and there is nothing to judge them by.
    #[error("tag `{tag}` is not granted: the gateway has no trust policy")]
    NoPolicy {
        /// Which tag.
        tag: Tag,
    },
    /// Signatures are demanded, and what they are to be judged by cannot be read.
    #[error(
        "tag `{tag}` is not granted: the gateway's trust policy cannot be read, and until it can, nothing is verified: {why}"
    )]
    PolicyUnreadable {
        /// Which tag.
        tag: Tag,
        /// What is wrong with it.
        why: String,
    },
    /// Refused on what was looked at, and there was more.
    #[error("{refused} (there is more than is looked at: {bound})")]
    Cut {
        /// Why, by what was seen.
        refused: Box<Refused>,
        /// Where looking ended.
        bound: &'static str,
    },
}

impl Refused {
    /// One word for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Pinned { .. } => "pinned",
            Self::Trust { rejection, .. } => rejection.kind.name(),
            Self::NotARelease { .. } => "not-a-release",
            Self::OtherVersion { .. } => "other-version",
            Self::Regressed { .. } => "regressed",
            Self::NoAttachment { .. } => "no-attachment",
            Self::Strips { .. } => "strips",
            Self::Elsewhere { .. } => "elsewhere",
            Self::ChildMissing { .. } => "child-missing",
            Self::NoPolicy { .. } => "no-policy",
            Self::PolicyUnreadable { .. } => "policy-unreadable",
            Self::Cut { refused, .. } => refused.kind(),
        }
    }
}
