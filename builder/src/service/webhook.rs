//! One webhook request in GitHub's form: is it signed, is it new enough to look at, which reference does it speak of.
//! Pure.
//!
//! The order is the point: the signature is checked over the raw bytes before anything in them is parsed, and what is
//! parsed is only a hint. Repository and commit are never taken from the payload: the project names its repository,
//! and the commit is what that repository says the reference points to.
//!
//! GitHub signs neither the delivery id nor a time, so a captured request can be sent again under a new id. That is
//! harmless here: the reference is read again, and a commit that was built for it is not built twice.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::reference::{RefKind, RefName};

/// Bytes of one webhook body. GitHub's largest pushes (2048 commits) stay below; memory of a request is bounded by it.
pub const BODY_BYTES_MAX: usize = 4 << 20;
/// A delivery id is a UUID of 36 characters at GitHub; others write longer ones.
const DELIVERY_BYTES_MAX: usize = 128;
/// A shorter secret can be guessed from one captured request.
pub const SECRET_BYTES_MIN: usize = 16;
/// The event by which `nebh builder trigger` asks for a build, and asks again after a failed one.
pub const TRIGGER_EVENT: &str = "nebh-trigger";

/// The headers that a decision depends on, as they came.
#[derive(Clone, Copy, Debug, Default)]
pub struct Headers<'a> {
    /// `X-Hub-Signature-256`.
    pub signature: Option<&'a str>,
    /// `X-Hub-Signature`, the SHA-1 form.
    pub sha1_signature: Option<&'a str>,
    /// `X-GitHub-Delivery`.
    pub delivery: Option<&'a str>,
    /// `X-GitHub-Event`.
    pub event: Option<&'a str>,
    /// `Content-Type`.
    pub content_type: Option<&'a str>,
}

/// What a genuine request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The forge tries the webhook.
    Ping,
    /// A reference changed, or somebody asks for a build of it.
    Changed(Change),
    /// Genuine, and nothing that builds.
    Ignored {
        /// Why.
        reason: String,
    },
}

/// A reference that may have something to build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Id of the delivery, unique per project.
    pub delivery: String,
    /// Event name.
    pub event: String,
    /// The reference.
    pub reference: RefName,
    /// True if a failed build of the same commit shall run again.
    pub again: bool,
}

/// Why a request is refused. Every variant has its HTTP status in `http.rs`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The project has no usable secret: fail closed.
    #[error("no webhook secret is set up for this project")]
    NoSecret,
    /// No signature at all.
    #[error("header `X-Hub-Signature-256` is missing")]
    MissingSignature,
    /// Only the SHA-1 form.
    #[error("only the SHA-1 signature was sent; `X-Hub-Signature-256` is required")]
    WeakSignature,
    /// The signature does not match the body.
    #[error("the signature does not match the body")]
    BadSignature,
    /// Not JSON.
    #[error("content type `{0}` is not `application/json`: choose JSON where the webhook is set up")]
    WrongContentType(String),
    /// No usable delivery id.
    #[error("header `X-GitHub-Delivery` is missing or malformed")]
    BadDelivery,
    /// No event name.
    #[error("header `X-GitHub-Event` is missing or malformed")]
    BadEvent,
    /// Signed, but not what it says it is.
    #[error("malformed payload: {0}")]
    Malformed(String),
}

/// Decides about one request. `secrets` are the active secrets of the project; any of them may have signed.
pub fn accept(secrets: &[Vec<u8>], headers: &Headers<'_>, body: &[u8]) -> Result<Notice, Refusal> {
    check_signature(secrets, headers, body)?;
    let content_type = headers.content_type.unwrap_or("");
    if content_type.split(';').next().is_none_or(|essence| !essence.trim().eq_ignore_ascii_case("application/json")) {
        return Err(Refusal::WrongContentType(content_type.chars().take(80).collect()));
    }
    let plain = |text: &&str| {
        !text.is_empty() && text.len() <= DELIVERY_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let delivery = headers.delivery.filter(plain).ok_or(Refusal::BadDelivery)?;
    let event = headers.event.filter(plain).ok_or(Refusal::BadEvent)?;
    match event {
        "ping" => Ok(Notice::Ping),
        "push" | "create" | TRIGGER_EVENT => changed(delivery, event, body),
        other => Ok(Notice::Ignored { reason: format!("event `{other}` builds nothing") }),
    }
}

/// The value of `X-Hub-Signature-256` for a body.
pub fn signature(secret: &[u8], body: &[u8]) -> Option<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
    mac.update(body);
    Some(format!("sha256={}", hex::encode(mac.finalize().into_bytes())))
}

/// Active secrets from a secret file: each line that is not empty is one, so that a new one can be put in beside the old.
pub fn secrets(text: &[u8]) -> Vec<Vec<u8>> {
    text.split(|byte| *byte == b'\n')
        .map(|line| line.trim_ascii().to_vec())
        .filter(|line| line.len() >= SECRET_BYTES_MIN)
        .collect()
}

fn check_signature(secrets: &[Vec<u8>], headers: &Headers<'_>, body: &[u8]) -> Result<(), Refusal> {
    if secrets.is_empty() {
        return Err(Refusal::NoSecret);
    }
    let Some(signature) = headers.signature else {
        return Err(if headers.sha1_signature.is_some() { Refusal::WeakSignature } else { Refusal::MissingSignature });
    };
    let claimed =
        signature.strip_prefix("sha256=").and_then(|hex| hex::decode(hex).ok()).ok_or(Refusal::BadSignature)?;
    // All secrets are tried, whichever matches, and each comparison takes the same time.
    let matches = secrets.iter().fold(false, |found, secret| {
        let good = Hmac::<Sha256>::new_from_slice(secret).is_ok_and(|mut mac| {
            mac.update(body);
            mac.verify_slice(&claimed).is_ok()
        });
        found | good
    });
    if matches { Ok(()) } else { Err(Refusal::BadSignature) }
}

/// The few fields that are read. Everything else in the payload is of no interest, on purpose.
#[derive(serde::Deserialize)]
struct Payload {
    #[serde(rename = "ref")]
    reference: Option<String>,
    ref_type: Option<String>,
    #[serde(default)]
    deleted: bool,
    /// `trigger` signs its delivery id, so that a captured one cannot ask again and again.
    delivery: Option<String>,
}

fn changed(delivery: &str, event: &str, body: &[u8]) -> Result<Notice, Refusal> {
    let payload: Payload =
        nebh_oci::json::parse_strict(body).map_err(|error| Refusal::Malformed(nebh_face::failure::chain(&error)))?;
    let text = payload.reference.ok_or_else(|| Refusal::Malformed("no `ref`".to_owned()))?;
    let reference = match (event, payload.ref_type.as_deref()) {
        ("create", Some("tag")) => RefName::tag(&text),
        ("create", Some("branch")) => RefName::branch(&text),
        _ => text.parse(),
    };
    let reference = reference.map_err(|error| Refusal::Malformed(error.to_string()))?;
    let again = event == TRIGGER_EVENT;
    if again && payload.delivery.as_deref() != Some(delivery) {
        return Err(Refusal::Malformed("a trigger signs its own delivery id".to_owned()));
    }
    if payload.deleted {
        let kind = if reference.kind() == RefKind::Branch { "branch" } else { "tag" };
        return Ok(Notice::Ignored { reason: format!("{kind} `{}` was deleted", reference.short()) });
    }
    Ok(Notice::Changed(Change { delivery: delivery.to_owned(), event: event.to_owned(), reference, again }))
}

#[cfg(test)]
mod tests;
