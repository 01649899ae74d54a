//! The head of a channel: read, counted up, signed, put. Side effects: the registry.

use jiff::{SignedDuration, Timestamp};
use nebh_face::{Exit, Failure};
use nebh_oci::client::Client;
use nebh_oci::manifest::Attached;
use nebh_oci::names::{Repository, RepositoryAddress};
use nebh_trust::channel::{self, ChannelHead, Floor, HeadRelease};
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
    let failed = |error: &dyn std::error::Error| {
        Failure::new(Exit::Failed, format!("cannot sign the head of channel `{}`", request.channel)).because(error)
    };
    let [first, others @ ..] = request.keys else {
        return Err(Failure::new(Exit::Usage, "a head needs a key").next("give --sign-with KEY"));
    };
    let mut artifact = channel::sign_head(&head, first).map_err(|error| failed(&error))?;
    for key in others {
        let signed = Attached::from_artifact(&artifact);
        artifact = channel::cosign_head(&signed, request.channel, key).map_err(|error| failed(&error))?;
    }
    client.push_artifact(request.to, &artifact).await.map_err(|error| registry::failure(&error))?;
    crash::point("head-pushed");
    Ok(head)
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
    let tag = channel::tag(channel).map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
    let standing = registry::attached_at(client, address, &tag).await.map_err(|error| registry::failure(&error))?;
    let Some(standing) = standing else { return Ok(None) };
    let policy = policy_of(keys)?;
    // As of the beginning of time: a head that has expired is exactly the one to be replaced.
    let (floor, then) = (Floor::default(), Timestamp::UNIX_EPOCH);
    let verified = channel::verify_head(&policy, address.repository(), channel, &standing, &floor, then);
    match verified {
        Ok(head) => Ok(Some(head.into_value())),
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
