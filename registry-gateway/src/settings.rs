//! `gateway.yaml`: what a person writes, and the checked value that the rest of the gateway works with.
//! Pure: text in, settings or failure out; reading the file is the caller's business.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nebh_face::{Exit, Failure, document};
use nebh_oci::names::Repository;
use nebh_trust::pattern::Pattern;
use serde::Deserialize;

/// Where a gateway listens unless told otherwise: this machine only.
pub const LISTEN_DEFAULT: &str = "127.0.0.1:5000";
/// How long what retention or a person dropped can be restored.
pub const RESTORABLE_DEFAULT: Duration = Duration::from_hours(14 * 24);
/// How long bytes that nothing refers to stay: longer than the slowest push between its first blob and its manifest.
pub const GRACE_DEFAULT: Duration = Duration::from_hours(24);
/// A retention plan that drops more than this part of a repository's versions needs confirmation, in percent.
pub const SHARE_MAX_DEFAULT: u32 = 50;
/// Open connections. Each costs a few tens of KiB; a fleet's hosts come one after another.
pub const CONNECTIONS_DEFAULT: usize = 1024;
/// Upload sessions that were begun and not finished. Each holds at most one write buffer.
pub const UPLOADS_DEFAULT: usize = 256;
/// An upload session without activity is thrown away after this long.
pub const UPLOAD_AGE_DEFAULT: Duration = Duration::from_hours(48);
/// A request that sends no byte for this long is ended.
pub const STALL_DEFAULT: Duration = Duration::from_mins(1);
/// One blob at most. Layers of several GiB exist; a body without an end must stop somewhere.
pub const BLOB_BYTES_DEFAULT: u64 = 64 << 30;

/// A blob that was compared with its digest this long ago is compared again when it is pulled. Hashing at every pull
/// would more than double what a pull costs, and every client hashes too; a day is soon enough to find a rotten disk.
pub const REHASH_AFTER_DEFAULT: Duration = Duration::from_hours(24);

/// What may be given a tag in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Anything; signatures are not looked at.
    Open,
    /// What the trust policy's image or release rule accepts.
    Signed,
    /// Releases and channel heads only.
    Release,
}

/// How many versions of a repository retention keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Keep {
    /// The most recent versions that stay; pins, and what hosts use, are kept beside them.
    pub recent: usize,
}

/// What holds for the repositories that a pattern matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// `*` stands for one path component or a part of it, `**` for any number of them.
    pub pattern: Pattern,
    /// What may be tagged.
    pub admit: Mode,
    /// What retention keeps; without it, everything.
    pub keep: Option<Keep>,
}

/// Bounds of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections.
    pub connections: usize,
    /// Unfinished upload sessions.
    pub uploads: usize,
    /// Age of an abandoned upload session.
    pub upload_age_max: Duration,
    /// Silence on a connection that is in the middle of a request.
    pub stall_max: Duration,
    /// One blob.
    pub blob_bytes_max: u64,
}

/// Checked settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Files and SQLite.
    pub state: PathBuf,
    /// How commands reach the gateway.
    pub url: String,
    /// The trust policy's file.
    pub trust: Option<PathBuf>,
    /// First match wins; a repository that no rule matches takes no pushes.
    pub rules: Vec<Rule>,
    /// How long dropped things can be restored.
    pub restorable: Duration,
    /// How long unreferenced bytes stay.
    pub grace: Duration,
    /// Percent of a repository's versions that one plan may drop without confirmation.
    pub share_max: u32,
    /// Between two passes of the sweep while serving.
    pub sweep_every: Duration,
    /// Age of a comparison at which a pull makes a new one; zero: at every pull.
    pub rehash_after: Duration,
    /// Bounds of the service.
    pub limits: Limits,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Raw {
    listen: Option<String>,
    state: Option<PathBuf>,
    url: Option<String>,
    trust: Option<PathBuf>,
    repositories: Option<Vec<RawRule>>,
    rehash_after: Option<String>,
    #[serde(default)]
    retention: RawRetention,
    #[serde(default)]
    limits: RawLimits,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    #[serde(rename = "match")]
    pattern: String,
    admit: Mode,
    keep: Option<Keep>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawRetention {
    restorable: Option<String>,
    grace: Option<String>,
    share_max: Option<u32>,
    sweep_every: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawLimits {
    connections: Option<usize>,
    uploads: Option<usize>,
    upload_age: Option<String>,
    stall: Option<String>,
    blob_bytes: Option<u64>,
}

impl Settings {
    /// Parses `gateway.yaml`. `folder` is where the file lies: relative paths in it start there.
    pub fn parse(file: &str, text: &str, folder: &Path, state: &Path) -> Result<Self, Failure> {
        let raw: Raw = document::parse(file, text)?;
        let wrong = |message: String| Failure::new(Exit::Usage, format!("{file}: {message}"));
        let listen = raw.listen.as_deref().unwrap_or(LISTEN_DEFAULT);
        let listen: SocketAddr =
            listen.parse().map_err(|_| wrong(format!("`listen: {listen}` is not an address and a port")))?;
        // Without `repositories:`, everything is open.
        let open = || vec![RawRule { pattern: "**".to_owned(), admit: Mode::Open, keep: None }];
        let rules = raw
            .repositories
            .unwrap_or_else(open)
            .into_iter()
            .map(|RawRule { pattern, admit, keep }| {
                let pattern =
                    Pattern::parse(&pattern).map_err(|error| wrong(format!("`match: {pattern}`")).because(&error))?;
                Ok(Rule { pattern, admit, keep })
            })
            .collect::<Result<Vec<Rule>, Failure>>()?;
        if let Some(rule) = rules.iter().find(|rule| rule.admit != Mode::Open)
            && raw.trust.is_none()
        {
            let failure =
                wrong(format!("repositories `{}` admit what is signed, but there is no `trust:`", rule.pattern));
            return Err(failure.next("name the trust policy's file: `trust: trust.yaml`"));
        }
        if let Some(rule) = rules.iter().find(|rule| rule.keep.is_some_and(|keep| keep.recent == 0)) {
            return Err(wrong(format!(
                "repositories `{}` keep no recent version: `recent` is at least 1",
                rule.pattern
            )));
        }
        let span = |text: Option<&String>, default: Duration| match text {
            None => Ok(default),
            Some(text) => {
                duration(text).ok_or_else(|| wrong(format!("`{text}` is not a duration such as 30s, 15m, 12h, 14d")))
            }
        };
        let share_max = raw.retention.share_max.unwrap_or(SHARE_MAX_DEFAULT);
        if share_max > 100 {
            return Err(wrong(format!("`share-max: {share_max}` is more than all: it is a percentage")));
        }
        let limits = Limits {
            connections: raw.limits.connections.unwrap_or(CONNECTIONS_DEFAULT).max(1),
            uploads: raw.limits.uploads.unwrap_or(UPLOADS_DEFAULT).max(1),
            upload_age_max: span(raw.limits.upload_age.as_ref(), UPLOAD_AGE_DEFAULT)?,
            stall_max: span(raw.limits.stall.as_ref(), STALL_DEFAULT)?,
            blob_bytes_max: raw.limits.blob_bytes.unwrap_or(BLOB_BYTES_DEFAULT),
        };
        Ok(Self {
            url: raw.url.unwrap_or_else(|| format!("http://{listen}")).trim_end_matches('/').to_owned(),
            listen,
            state: folder.join(raw.state.unwrap_or_else(|| state.to_owned())),
            trust: raw.trust.map(|path| folder.join(path)),
            rules,
            restorable: span(raw.retention.restorable.as_ref(), RESTORABLE_DEFAULT)?,
            grace: span(raw.retention.grace.as_ref(), GRACE_DEFAULT)?,
            share_max,
            sweep_every: span(raw.retention.sweep_every.as_ref(), Duration::from_hours(1))?,
            rehash_after: span(raw.rehash_after.as_ref(), REHASH_AFTER_DEFAULT)?,
            limits,
        })
    }

    /// What a gateway without a settings file does: everything is open, on this machine only.
    pub fn embedded(state: &Path) -> Result<Self, Failure> {
        Self::parse("(built in)", "{}", Path::new(""), state)
    }

    /// The rule of a repository; first match wins.
    pub fn rule(&self, repository: &Repository) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.pattern.matches(repository.as_str()))
    }
}

/// `90s`, `15m`, `12h`, `14d`.
fn duration(text: &str) -> Option<Duration> {
    let unit = text.bytes().last()?;
    let number: u64 = text[..text.len() - 1].parse().ok()?;
    let seconds = match unit {
        b's' => 1,
        b'm' => 60,
        b'h' => 3600,
        b'd' => 86400,
        _ => return None,
    };
    Some(Duration::from_secs(number.checked_mul(seconds)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings, Failure> {
        Settings::parse("gateway.yaml", text, Path::new("/etc/nebh"), Path::new("/var/lib/nebh/gateway"))
    }

    #[test]
    fn settings_of_the_interface_page_parse() {
        let settings = parse(
            "listen: 127.0.0.1:5000\nstate: /srv/gw\ntrust: trust.yaml\nrepositories:\n  - { match: shop/*, admit: signed, keep: { recent: 2 } }\n",
        )
        .unwrap();
        assert_eq!(settings.trust.as_deref(), Some(Path::new("/etc/nebh/trust.yaml")));
        assert_eq!(settings.url, "http://127.0.0.1:5000");
        let rule = settings.rule(&"shop/api".parse().unwrap()).unwrap();
        assert_eq!((rule.admit, rule.keep), (Mode::Signed, Some(Keep { recent: 2 })));
        assert!(settings.rule(&"other".parse().unwrap()).is_none());
    }

    #[test]
    fn settings_that_demand_signatures_without_a_policy_are_refused() {
        let failure = parse("repositories: [{ match: a, admit: signed }]\n").unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.to_string().contains("no `trust:`"), "{failure}");
    }

    #[test]
    fn settings_with_a_misspelt_field_name_the_place() {
        let failure = parse("listne: 127.0.0.1:1\n").unwrap_err();
        assert!(failure.to_string().starts_with("gateway.yaml:1:1: unknown field `listne`"), "{failure}");
        assert!(failure.to_string().contains("did you mean `listen`?"), "{failure}");
    }

    #[test]
    fn settings_that_keep_nothing_are_refused() {
        assert!(parse("repositories: [{ match: a, admit: open, keep: { recent: 0 } }]\n").is_err());
    }

    #[test]
    fn duration_takes_four_units_and_nothing_else() {
        assert_eq!(duration("90s"), Some(Duration::from_secs(90)));
        assert_eq!(duration("14d"), Some(Duration::from_hours(14 * 24)));
        for wrong in ["", "s", "5", "-1s", "1w", "99999999999999999999d"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }
}
