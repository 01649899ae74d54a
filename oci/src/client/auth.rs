//! Authorization: what a registry asks for (`WWW-Authenticate`), and what it gets.
//!
//! Credentials go to the registry that they were given for and to the token service that this registry names over TLS
//! (or on its own host); never to where a redirect or an upload location points.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;
use url::Url;

use super::credentials::Credentials;
use super::error::{ClientErrorKind, chain, tame};
use super::transport::{Transport, read_capped};
use crate::names::{RegistryHost, RepositoryAddress};

/// What we are about to do in a repository; tokens are narrower than people think.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Access {
    Pull,
    Push,
    Delete,
}

impl Access {
    fn scope(self, address: &RepositoryAddress) -> String {
        let actions = match self {
            Self::Pull => "pull",
            Self::Push => "pull,push",
            Self::Delete => "delete",
        };
        format!("repository:{}:{actions}", address.repository())
    }
}

/// The credentials, and the answers that registries have accepted.
#[derive(Debug)]
pub(super) struct Keyring {
    credentials: BTreeMap<RegistryHost, Credentials>,
    accepted: Mutex<BTreeMap<(RepositoryAddress, Access), Secret>>,
}

/// A header value that does not show itself in logs.
#[derive(Clone)]
pub(super) struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

impl Secret {
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

/// A token response larger than this is no token.
const TOKEN_SIZE_MAX: usize = 1 << 20;

impl Keyring {
    pub(super) fn new(credentials: BTreeMap<RegistryHost, Credentials>) -> Self {
        Self { credentials, accepted: Mutex::new(BTreeMap::new()) }
    }

    /// What this repository accepted last time for this access.
    pub(super) fn known(&self, address: &RepositoryAddress, access: Access) -> Option<Secret> {
        let accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        accepted.get(&(address.clone(), access)).cloned()
    }

    /// Answers a 401: finds the challenge that we can meet, fetches a token if need be, and remembers the answer.
    pub(super) async fn answer(
        &self,
        transport: &Transport,
        address: &RepositoryAddress,
        access: Access,
        challenges: &[String],
    ) -> Result<Secret, ClientErrorKind> {
        let own = self.credentials.get(address.registry());
        let mut answer = None;
        for challenge in challenges.iter().filter_map(|text| Challenge::parse(text)) {
            answer = match (challenge.scheme.as_str(), own) {
                ("bearer", Some(Credentials::Bearer(_))) | ("basic", Some(Credentials::Basic { .. })) => {
                    own.map(|own| Secret(own.header()))
                }
                ("bearer", _) => Some(fetch_token(transport, address, access, &challenge, own).await?),
                _ => None,
            };
            if answer.is_some() {
                break;
            }
        }
        let answer = answer.ok_or_else(|| ClientErrorKind::Denied {
            message: format!("`{}` wants credentials, and none that fit are set for it", address.registry()),
        })?;
        let mut accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        accepted.insert((address.clone(), access), answer.clone());
        Ok(answer)
    }
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

async fn fetch_token(
    transport: &Transport,
    address: &RepositoryAddress,
    access: Access,
    challenge: &Challenge,
    own: Option<&Credentials>,
) -> Result<Secret, ClientErrorKind> {
    let realm = challenge.parameter("realm").and_then(|realm| Url::parse(realm).ok());
    let mut url = realm.ok_or_else(|| ClientErrorKind::protocol("bearer challenge without a realm"))?;
    transport.permit(&url)?;
    if let Some(service) = challenge.parameter("service") {
        url.query_pairs_mut().append_pair("service", service);
    }
    let scope = challenge.parameter("scope").map_or_else(|| access.scope(address), str::to_owned);
    url.query_pairs_mut().append_pair("scope", &scope);
    let trusted = url.scheme() == "https" || transport.is_of(&url, address.registry());
    let header = own.filter(|_| trusted).map(Credentials::header);
    let response = transport.get(&url, header.as_deref()).await?;
    let status = response.status();
    let body = read_capped(response, TOKEN_SIZE_MAX, transport.idle_timeout()).await?;
    if !status.is_success() {
        let message = format!("token service answered {status}: {}", tame(&String::from_utf8_lossy(&body)));
        return Err(match status.as_u16() {
            400..=499 => ClientErrorKind::Denied { message },
            _ => ClientErrorKind::Unreachable { message },
        });
    }
    let token: Token = serde_json::from_slice(&body)
        .map_err(|error| ClientErrorKind::protocol(format!("token service answered nonsense: {}", chain(&error))))?;
    let token = token.token.or(token.access_token).filter(|token| !token.is_empty());
    let token = token.ok_or_else(|| ClientErrorKind::protocol("token service answered without a token"))?;
    Ok(Secret(format!("Bearer {token}")))
}

/// One `WWW-Authenticate` challenge: `Bearer realm="…",service="…",scope="…"`.
#[derive(Debug, PartialEq, Eq)]
struct Challenge {
    scheme: String,
    parameters: BTreeMap<String, String>,
}

impl Challenge {
    fn parse(text: &str) -> Option<Self> {
        let (scheme, mut rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        let mut parameters = BTreeMap::new();
        while let Some((name, value)) = rest.split_once('=') {
            let name = name.trim_matches([' ', ',']).to_ascii_lowercase();
            let (value, after) = match value.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => value.split_once(',').unwrap_or((value, "")),
            };
            parameters.insert(name, value.trim().to_owned());
            rest = after;
        }
        Some(Self { scheme: scheme.to_ascii_lowercase(), parameters })
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenge_is_read_with_commas_inside_quotes() {
        let text = r#"Bearer realm="https://auth.example/token",service="r.example", scope="repository:a/b:pull,push""#;
        let challenge = Challenge::parse(text).unwrap();
        assert_eq!(challenge.scheme, "bearer");
        assert_eq!(challenge.parameter("realm"), Some("https://auth.example/token"));
        assert_eq!(challenge.parameter("scope"), Some("repository:a/b:pull,push"));
        assert_eq!(Challenge::parse("Basic realm=plain").unwrap().parameter("realm"), Some("plain"));
        assert_eq!(Challenge::parse("Negotiate").unwrap().scheme, "negotiate");
        assert_eq!(Challenge::parse(r#"Bearer realm="open"#), None);
    }

    #[test]
    fn secret_does_not_show_itself() {
        assert_eq!(format!("{:?}", Secret("Bearer abc".into())), "…");
    }
}
