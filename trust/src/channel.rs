//! The head of a channel: the signed, counted, expiring statement of what hosts shall run. Pure.
//!
//! A signature binds bytes, not time. Without a head, whoever controls the registry can serve last year's release
//! under today's name (rollback), or keep answering with today's forever (freeze), and never needs a key. The counter
//! ends the first, the expiry the second; a deliberate return to an old release is a *new* head. Two heads with one
//! counter (equivocation) would let two hosts follow two truths: whoever has seen one refuses the other.

use jiff::Timestamp;
use nebh_oci::digest::Digest;
use nebh_oci::json;
use nebh_oci::manifest::{Artifact, Attached, Descriptor, Document, EMPTY_BLOB, ImageManifest, RawManifest};
use nebh_oci::media_type::{DSSE_ENVELOPE, NEBH_CHANNEL_HEAD};
use nebh_oci::names::{Repository, Tag};
use serde::{Deserialize, Serialize};

use crate::document::{self, DocumentError};
use crate::dsse::Envelope;
use crate::key::PrivateKey;
use crate::policy::{Purpose, TrustPolicy};
use crate::rejection::{Rejection, RejectionKind as Kind, quote};
use crate::verify::{Question, Verified};

/// Payload type of the signed head.
pub const PAYLOAD_TYPE: &str = "application/vnd.nebh.channel.head.v1+json";
/// Version of the format.
const VERSION: u32 = 1;
/// Releases that one head names.
const RELEASES_MAX: usize = 256;
/// How far a counter may run ahead of what was seen. Heads count by one; a head with the largest number there is
/// (a fast-forward attack) would shut the channel for ever, because nothing could follow it.
const COUNTER_STEP_MAX: u64 = 1 << 20;
/// The largest integer that canonical JSON can carry: a head with a larger counter could not be written by us, nor
/// followed by another.
const COUNTER_MAX: u64 = (1 << 53) - 1;

/// One release, as a head names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadRelease {
    /// Its version, which is its tag.
    pub version: String,
    /// The digest of its index.
    pub digest: Digest,
}

/// What hosts follow. Unknown members are refused: a newer head may carry a demand that this reader would skip.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelHead {
    /// Version of the format, 1.
    pub version: u32,
    /// Name of the channel.
    pub channel: String,
    /// Repository that the releases live in.
    pub repository: Repository,
    /// Grows by every head of this channel.
    pub counter: u64,
    /// When it was signed.
    #[serde(with = "timestamp")]
    pub issued: Timestamp,
    /// When it stops being believed.
    #[serde(with = "timestamp")]
    pub expires: Timestamp,
    /// What hosts shall run.
    pub current: HeadRelease,
    /// What was current before, newest first.
    #[serde(default)]
    pub recent: Vec<HeadRelease>,
    /// What nobody may drop.
    #[serde(default)]
    pub pinned: Vec<HeadRelease>,
}

impl ChannelHead {
    /// The first head, or the next one, for a channel.
    pub fn new(
        channel: &str,
        repository: Repository,
        counter: u64,
        current: HeadRelease,
        issued: Timestamp,
        expires: Timestamp,
    ) -> Self {
        Self {
            version: VERSION,
            channel: channel.to_owned(),
            repository,
            counter,
            issued,
            expires,
            current,
            recent: Vec::new(),
            pinned: Vec::new(),
        }
    }

    /// The digest of what it says: the same for two documents that say the same, whoever signed them.
    pub fn digest(&self) -> Result<Digest, DocumentError> {
        Ok(Digest::sha256(&json::canonical(self)?))
    }
}

/// How far a follower of a channel has come; kept durably by the follower. Nothing from before it is believed, and
/// nothing beside it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Floor {
    /// The highest counter ever seen; 0 when none was.
    pub counter: u64,
    /// The digest of the head that had it, where that was noted.
    pub head: Option<Digest>,
}

impl Floor {
    /// A floor whose head was not noted.
    pub fn at(counter: u64) -> Self {
        Self { counter, head: None }
    }
}

/// The tag under which a channel's head stands, `channel.<name>`.
pub fn tag(channel: &str) -> Result<Tag, DocumentError> {
    format!("channel.{channel}").parse().map_err(|_| DocumentError::Name(quote(channel)))
}

/// Signs a head: an artifact to push under [`tag`].
pub fn sign_head(head: &ChannelHead, key: &PrivateKey) -> Result<Artifact, DocumentError> {
    let payload = json::canonical(head).map_err(|error| DocumentError::Json(error.to_string()))?;
    artifact(&Envelope::sign(PAYLOAD_TYPE, payload, &[key]), &head.channel)
}

/// Adds the signature of another holder of the role to a head that is not published yet.
pub fn cosign_head(head: &Attached, channel: &str, key: &PrivateKey) -> Result<Artifact, DocumentError> {
    let mut envelope = document::only_envelope(head)?;
    envelope.add_signature(key);
    artifact(&envelope, channel)
}

fn artifact(envelope: &Envelope, channel: &str) -> Result<Artifact, DocumentError> {
    let bytes = envelope.to_bytes()?;
    let layer = Descriptor::of(DSSE_ENVELOPE, &bytes);
    let manifest = RawManifest::from_image(&ImageManifest::artifact(NEBH_CHANNEL_HEAD, vec![layer.clone()]))?;
    Ok(Artifact {
        manifest,
        blobs: vec![(Descriptor::empty(), EMPTY_BLOB.to_vec()), (layer, bytes)],
        tag: Some(tag(channel)?),
    })
}

/// Whether a manifest is that of a channel head. Says nothing about its truth.
pub fn is_head(manifest: &RawManifest) -> bool {
    matches!(manifest.document(), Document::Image(image) if image.artifact_type.as_deref() == Some(NEBH_CHANNEL_HEAD))
}

/// Verifies the head that a registry served for `channel`, against the [`Floor`] of whoever follows it.
pub fn verify_head(
    policy: &TrustPolicy,
    repository: &Repository,
    channel: &str,
    head: &Attached,
    floor: &Floor,
    now: Timestamp,
) -> Result<Verified<ChannelHead>, Rejection> {
    let question = Question::new(policy, repository, head.manifest.digest(), Purpose::Channel)?;
    let (payload, signers) = document::signed_payload(&question, head, PAYLOAD_TYPE, now)?;
    let malformed = |text: String| question.rejection(Kind::Malformed).note(text);
    let head: ChannelHead = json::parse_strict(&payload).map_err(|error| malformed(quote(&error.to_string())))?;
    if head.version != VERSION {
        return Err(malformed(format!("channel head of version {}; only {VERSION} is read", head.version)));
    }
    if head.recent.len() + head.pinned.len() > RELEASES_MAX {
        return Err(question
            .rejection(Kind::TooLarge)
            .note(format!("the head names more than {RELEASES_MAX} releases")));
    }
    if head.expires <= head.issued {
        return Err(malformed(format!("it expires at {}, before it was issued at {}", head.expires, head.issued)));
    }
    if head.repository != *repository || head.channel != channel {
        return Err(question.rejection(Kind::WrongSubject).note(format!(
            "it is the head of channel `{}` of {}, and channel `{channel}` was asked for",
            quote(&head.channel),
            head.repository
        )));
    }
    forward(&question, &head, floor)?;
    if head.expires <= now {
        return Err(question.rejection(Kind::Expired).note(format!(
            "head {} of channel `{channel}` expired at {}, and it is {now}",
            head.counter, head.expires
        )));
    }
    if policy.is_digest_revoked(&head.current.digest) {
        let HeadRelease { version, digest } = &head.current;
        return Err(question
            .rejection(Kind::Revoked)
            .note(format!("it points to {digest} ({}), which is revoked", quote(version))));
    }
    Ok(Verified::new(head, signers, question.role))
}

/// Not behind the floor, not beside it, and not out of sight ahead of it.
fn forward(question: &Question<'_>, head: &ChannelHead, floor: &Floor) -> Result<(), Rejection> {
    let malformed = |text: String| Err(question.rejection(Kind::Malformed).note(text));
    let (counter, seen, channel) = (head.counter, floor.counter, quote(&head.channel));
    if counter > COUNTER_MAX {
        return malformed(format!("its counter is {counter}, beyond {COUNTER_MAX}: nothing could follow it"));
    }
    if counter < seen {
        return Err(question
            .rejection(Kind::Regressed)
            .note(format!("head {counter} of channel `{channel}` was served, and head {seen} was seen before")));
    }
    if seen > 0 && counter - seen > COUNTER_STEP_MAX {
        return malformed(format!("its counter is {counter}, and {seen} was seen before: it has run away"));
    }
    let Some(known) = floor.head.filter(|_| counter == seen) else { return Ok(()) };
    let served = head.digest().map_err(|error| question.rejection(Kind::Malformed).note(quote(&error.to_string())))?;
    if served == known {
        return Ok(());
    }
    Err(question.rejection(Kind::Equivocal).note(format!(
        "head {counter} of channel `{channel}` was served as {served}, and was {known} before: both are signed"
    )))
}

/// RFC 3339.
pub(crate) mod timestamp {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(time)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
