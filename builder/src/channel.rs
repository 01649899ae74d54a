//! The head of a channel: read, counted up, signed, put. Side effects: the registry.

use jiff::{SignedDuration, Timestamp};
use nebh_face::{Exit, Failure};
use nebh_oci::client::Client;
use nebh_oci::manifest::Attached;
use nebh_oci::names::{Repository, RepositoryAddress};
use nebh_trust::channel::{self, ChannelHead, Floor, HeadRelease};
use nebh_trust::dsse::Envelope;
use nebh_trust::key::{PrivateKey, PublicKey};
use nebh_trust::policy::TrustPolicy;

use crate::{crash, registry};

/// Releases that a head remembers besides the current one: what hosts may have to go back to.
const RECENT_MAX: usize = 10;
/// How long a head is believed when nobody says otherwise.
pub const EXPIRY: SignedDuration = SignedDuration::from_hours(30 * 24);

/// One head to set.
#[derive(Debug)]
pub struct Request<'a> {
    /// Repository of the releases and of the head.
    pub to: &'a RepositoryAddress,
    /// Name of the channel.
    pub channel: &'a str,
    /// What hosts shall run.
    pub release: HeadRelease,
    /// The releasers' keys.
    pub keys: &'a [PrivateKey],
    /// How long it is believed.
    pub expiry: SignedDuration,
    /// Now.
    pub now: Timestamp,
    /// Leave a head alone that points to this release already and is young: asking again must do no harm.
    pub if_changed: bool,
}

/// Sets the head; its counter is one more than that of the head before, which has to be signed by one of these keys.
pub async fn set(client: &Client, request: &Request<'_>) -> Result<ChannelHead, Failure> {
    let publics: Vec<PublicKey> = request.keys.iter().map(|key| key.public().clone()).collect();
    let before = show(client, request.to, request.channel, &publics).await?;
    if let Some(before) = &before
        && request.if_changed
        && before.current == request.release
        && before.expires > later(request.now, request.expiry / 2)
    {
        return Ok(before.clone());
    }
    let head = next(request, before.as_ref());
    put(client, request.to, &head, request.keys).await?;
    Ok(head)
}

/// Signs a head with every key, and puts it.
async fn put(client: &Client, to: &RepositoryAddress, head: &ChannelHead, keys: &[PrivateKey]) -> Result<(), Failure> {
    let failed = |error: &dyn std::error::Error| {
        Failure::new(Exit::Failed, format!("cannot sign the head of channel `{}`", head.channel)).because(error)
    };
    let [first, others @ ..] = keys else {
        return Err(Failure::new(Exit::Usage, "a head needs a key").next("give --sign-with KEY"));
    };
    let mut artifact = channel::sign_head(head, first).map_err(|error| failed(&error))?;
    for key in others {
        let signed = Attached::from_artifact(&artifact);
        artifact = channel::cosign_head(&signed, &head.channel, key).map_err(|error| failed(&error))?;
    }
    client.push_artifact(to, &artifact).await.map_err(|error| registry::failure(&error))?;
    crash::point("head-pushed");
    Ok(())
}

/// A head to keep alive.
#[derive(Debug)]
pub struct Renewal<'a> {
    /// Repository of the head.
    pub to: &'a RepositoryAddress,
    /// Name of the channel.
    pub channel: &'a str,
    /// Who signed it, and signs it again.
    pub keys: &'a [PrivateKey],
    /// What was seen of this channel before. A registry that serves an old head must not get it signed anew.
    pub floor: &'a Floor,
    /// Now.
    pub now: Timestamp,
}

/// What became of a head that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Renewed {
    /// The channel has no head.
    None,
    /// It is not time yet.
    Young(ChannelHead),
    /// Others signed it too, whose signatures we cannot give again.
    Shared(ChannelHead),
    /// The same for as long again, under the next counter.
    Again(ChannelHead),
}

impl Renewed {
    /// The head that stands now.
    pub fn head(&self) -> Option<&ChannelHead> {
        match self {
            Self::None => None,
            Self::Young(head) | Self::Shared(head) | Self::Again(head) => Some(head),
        }
    }
}

/// Signs the head anew when a third of its life is left: the same content, believed for as long again.
pub async fn renew(client: &Client, renewal: &Renewal<'_>) -> Result<Renewed, Failure> {
    let Renewal { to, channel, keys, floor, now } = *renewal;
    let publics: Vec<PublicKey> = keys.iter().map(|key| key.public().clone()).collect();
    let Some((head, signatures)) = read(client, to, channel, &publics, floor).await? else { return Ok(Renewed::None) };
    if !is_due(&head, now) {
        return Ok(Renewed::Young(head));
    }
    if signatures != keys.len() {
        return Ok(Renewed::Shared(head));
    }
    let life = head.expires.duration_since(head.issued);
    let again = ChannelHead { counter: head.counter.saturating_add(1), issued: now, expires: later(now, life), ..head };
    put(client, to, &again, keys).await?;
    Ok(Renewed::Again(again))
}

/// True once no more than a third of a head's life is left.
fn is_due(head: &ChannelHead, now: Timestamp) -> bool {
    let life = head.expires.duration_since(head.issued);
    head.expires.duration_since(now) <= life / 3
}

/// The head that follows `before`.
fn next(request: &Request<'_>, before: Option<&ChannelHead>) -> ChannelHead {
    let counter = before.map_or(1, |before| before.counter.saturating_add(1));
    let repository: Repository = request.to.repository().clone();
    let expires = later(request.now, request.expiry);
    let mut head =
        ChannelHead::new(request.channel, repository, counter, request.release.clone(), request.now, expires);
    if let Some(before) = before {
        let earlier = [&before.current].into_iter().chain(&before.recent);
        head.recent = earlier.filter(|release| **release != head.current).take(RECENT_MAX).cloned().collect();
        head.pinned.clone_from(&before.pinned);
    }
    head
}

fn later(now: Timestamp, span: SignedDuration) -> Timestamp {
    now.saturating_add(span).unwrap_or(Timestamp::MAX)
}

/// The head that stands there, if there is one; signed by one of `keys`, expired or not.
pub async fn show(
    client: &Client,
    address: &RepositoryAddress,
    channel: &str,
    keys: &[PublicKey],
) -> Result<Option<ChannelHead>, Failure> {
    Ok(read(client, address, channel, keys, &Floor::default()).await?.map(|(head, _)| head))
}

/// The head that stands there, and how many signed it.
async fn read(
    client: &Client,
    address: &RepositoryAddress,
    channel: &str,
    keys: &[PublicKey],
    floor: &Floor,
) -> Result<Option<(ChannelHead, usize)>, Failure> {
    let tag = channel::tag(channel).map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
    let standing = registry::attached_at(client, address, &tag).await.map_err(|error| registry::failure(&error))?;
    let Some(standing) = standing else { return Ok(None) };
    let policy = policy_of(keys)?;
    // As of the beginning of time: a head that has expired is exactly the one to be replaced.
    let then = Timestamp::UNIX_EPOCH;
    match channel::verify_head(&policy, address.repository(), channel, &standing, floor, then) {
        Ok(head) => {
            let envelope = standing.layers.first().and_then(|(_, bytes)| Envelope::parse(bytes).ok());
            Ok(Some((head.into_value(), envelope.map_or(0, |envelope| envelope.signature_count()))))
        }
        Err(rejection) => Err(Failure::from(rejection)
            .next("its counter cannot be believed: sign with a key that signed it, or find out who put it there")),
    }
}

/// A policy that believes each of these keys about channels, and nobody about anything else.
fn policy_of(keys: &[PublicKey]) -> Result<TrustPolicy, Failure> {
    let names: Vec<String> = (0..keys.len()).map(|number| number.to_string()).collect();
    let text = format!(
        "roles: {{ releaser: {{ keys: [{}] }} }}\nrules: [{{ match: \"**\", image: releaser, release: releaser }}]\n",
        names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
    );
    TrustPolicy::parse("keys", &text, &mut |name| {
        let key = name.parse().ok().and_then(|number: usize| keys.get(number));
        key.ok_or_else(|| "no such key".to_owned())?.to_pem().map_err(|error| error.to_string())
    })
}

#[cfg(test)]
mod tests;
