//! Who may do what. No clock, file or socket: a peer is an address here, nothing more.
//!
//! There are no users yet: everybody whom the gateway's address lets in may read and push, within the rules of the
//! settings. The door is here already, so that users come in one place: a handler cannot be called without a permit,
//! and only this file makes one.

use std::net::SocketAddr;

use super::action::Action;
use super::error::{Code, Refusal};
use crate::settings::{Mode, Rule, Settings};

/// The right to perform one action.
#[derive(Clone, Debug)]
pub struct Permit {
    mode: Mode,
    rule: String,
}

impl Permit {
    /// What may be tagged in the action's repository.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The pattern of the rule that speaks for the repository.
    pub fn rule(&self) -> &str {
        &self.rule
    }
}

/// Decides about one action.
pub fn permits(settings: &Settings, _peer: Option<SocketAddr>, action: &Action) -> Result<Permit, Refusal> {
    let (repository, writes) = match action {
        Action::Ping | Action::Catalog(_) => return Ok(Permit { mode: Mode::Open, rule: String::new() }),
        Action::Tags(repository, _)
        | Action::GetManifest(repository, _)
        | Action::GetBlob(repository, _)
        | Action::Referrers { repository, .. } => (repository, false),
        Action::PutManifest(repository, ..)
        | Action::DeleteManifest(repository, _)
        | Action::DeleteBlob(repository, _)
        | Action::Begin(repository, _)
        | Action::UploadStatus(repository, _)
        | Action::Append(repository, _)
        | Action::Finish(repository, ..)
        | Action::Cancel(repository, _) => (repository, true),
    };
    match settings.rule(repository) {
        Some(Rule { pattern, admit, .. }) => Ok(Permit { mode: *admit, rule: pattern.to_string() }),
        None if writes => Err(Refusal::new(
            Code::Denied,
            format!(
                "no rule under `repositories:` in the gateway's settings matches `{repository}`; add one to push here"
            ),
        )),
        // To a reader, what nobody may push to does not exist.
        None => Err(Refusal::new(Code::NameUnknown, format!("there is no repository `{repository}`"))),
    }
}

/// Decides about the administrative API. Until there are users, it takes orders from this machine only; reports of
/// hosts come from anywhere: a report says what its host uses, and one in another host's name could let retention drop
/// (restorably) what that one uses, until it reports again. Hosts keep what they run whatever the gateway drops.
pub fn permits_administration(peer: Option<SocketAddr>) -> Result<(), Refusal> {
    match peer {
        Some(peer) if peer.ip().to_canonical().is_loopback() => Ok(()),
        _ => Err(Refusal::new(Code::Denied, "orders to the gateway are taken from its own machine only")),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn push_to_a_repository_without_a_rule_is_denied_and_reading_finds_nothing() {
        let text = "repositories: [{ match: shop/*, admit: open }]\n";
        let settings = Settings::parse("g", text, Path::new(""), Path::new("/s")).unwrap();
        let of = |method: axum::http::Method, path: &str| {
            permits(&settings, None, &Action::parse(&method, path, None).unwrap())
        };
        assert!(of(axum::http::Method::PUT, "/v2/shop/api/manifests/v1").is_ok());
        assert_eq!(of(axum::http::Method::PUT, "/v2/other/manifests/v1").unwrap_err().code, Code::Denied);
        assert_eq!(of(axum::http::Method::GET, "/v2/other/manifests/v1").unwrap_err().code, Code::NameUnknown);
    }

    #[test]
    fn orders_come_from_this_machine_only() {
        assert!(permits_administration(Some("127.0.0.1:9".parse().unwrap())).is_ok());
        assert!(permits_administration(Some("[::ffff:127.0.0.1]:9".parse().unwrap())).is_ok());
        assert!(permits_administration(Some("192.0.2.1:9".parse().unwrap())).is_err());
        assert!(permits_administration(None).is_err());
    }
}
