//! Who we are, for each registry: given by the caller, or read from docker's own file.
//!
//! Owns: reading that one file. Credential helpers (`credsStore`) are programs and are not run.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::ClientSettingsError;
use crate::names::RegistryHost;

/// How we show a registry who we are.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A name and a password, for HTTP basic authentication or for the token service.
    Basic {
        /// The name.
        username: String,
        /// The password.
        password: String,
    },
    /// A token that is sent as it is.
    Bearer(String),
}

impl Credentials {
    /// The value of an `Authorization` header.
    pub(super) fn header(&self) -> String {
        match self {
            Self::Basic { username, password } => {
                format!("Basic {}", STANDARD.encode(format!("{username}:{password}")))
            }
            Self::Bearer(token) => format!("Bearer {token}"),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Basic { username, .. } => write!(f, "Basic({username}, …)"),
            Self::Bearer(_) => f.write_str("Bearer(…)"),
        }
    }
}

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, DockerAuth>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct DockerAuth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    registrytoken: Option<String>,
}

/// Reads `auths` of a docker `config.json`. Entries for what is no registry host (old URLs) are passed over.
pub(super) fn read_docker_config(path: &Path) -> Result<BTreeMap<RegistryHost, Credentials>, ClientSettingsError> {
    let failed = |why: String| ClientSettingsError::Credentials { path: path.to_owned(), why };
    let bytes = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    let config: DockerConfig = serde_json::from_slice(&bytes).map_err(|error| failed(error.to_string()))?;
    let mut found = BTreeMap::new();
    for (name, entry) in config.auths {
        let bare = name.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
        let Ok(host) = bare.parse::<RegistryHost>() else { continue };
        if let Some(credentials) = entry_credentials(entry).map_err(|why| failed(format!("entry `{name}` {why}")))? {
            found.insert(host, credentials);
        }
    }
    Ok(found)
}

fn entry_credentials(entry: DockerAuth) -> Result<Option<Credentials>, &'static str> {
    if let Some(token) = entry.registrytoken.filter(|token| !token.is_empty()) {
        return Ok(Some(Credentials::Bearer(token)));
    }
    if let (Some(username), Some(password)) = (entry.username, entry.password) {
        return Ok(Some(Credentials::Basic { username, password }));
    }
    let Some(encoded) = entry.auth.filter(|auth| !auth.is_empty()) else { return Ok(None) };
    let decoded = STANDARD.decode(encoded).map_err(|_| "has an `auth` that is not base64")?;
    let text = String::from_utf8(decoded).map_err(|_| "has an `auth` that is not text")?;
    let (username, password) = text.split_once(':').ok_or("has an `auth` without a colon")?;
    Ok(Some(Credentials::Basic { username: username.to_owned(), password: password.trim_end_matches('\0').to_owned() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<BTreeMap<RegistryHost, Credentials>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read_docker_config(file.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn docker_config_gives_credentials_for_each_host() {
        let auth = STANDARD.encode("me:se:cret");
        let text = format!(
            r#"{{"auths":{{"localhost:5000":{{"auth":"{auth}"}},"https://a.example/":{{"username":"u","password":"p"}},
                "https://index.example/v1/":{{"auth":"{auth}"}},"b.example":{{}}}},"credsStore":"x"}}"#
        );
        let found = read(&text).unwrap();
        assert_eq!(found.len(), 2);
        let credentials = &found[&"localhost:5000".parse().unwrap()];
        assert_eq!(*credentials, Credentials::Basic { username: "me".into(), password: "se:cret".into() });
        assert_eq!(credentials.header(), format!("Basic {auth}"));
        assert!(!format!("{found:?}").contains("cret"));
    }

    #[test]
    fn broken_docker_config_is_an_error_that_names_file_and_entry() {
        let error = read(r#"{"auths":{"localhost:5000":{"auth":"%"}}}"#).unwrap_err();
        assert!(error.contains("entry `localhost:5000` has an `auth` that is not base64"), "{error}");
        assert!(read("{").unwrap_err().contains("credentials file `"));
    }
}
