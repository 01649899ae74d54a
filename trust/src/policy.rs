//! The trust policy: which keys play which role, and what each repository demands. Pure.
//!
//! One file (`trust.yaml`), the same for gateway, builder and host. Parsing is where it is made safe: a policy that
//! exists has at least one rule, every rule names roles that exist, every role has at least as many *distinct* keys
//! as its threshold, and no key plays two roles. All keys are loaded before any is used, so a broken key file is an
//! error even where another key would have matched.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use jiff::Timestamp;
use nebh_face::document;
use nebh_face::{Exit, Failure};
use nebh_oci::digest::Digest;
use nebh_oci::names::Repository;
use serde::Deserialize;

use crate::key::{KeyId, PublicKey};
use crate::pattern::Pattern;

/// Keys of one role: every signature is tried with each of them.
const KEYS_MAX: usize = 64;
/// The role that signs data snapshots where a rule names none.
const NODE_ROLE: &str = "node";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyFile {
    roles: BTreeMap<String, RoleFile>,
    rules: Vec<RuleFile>,
    #[serde(default)]
    revoked: RevokedFile,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RoleFile {
    keys: Vec<String>,
    #[serde(default = "one")]
    threshold: usize,
    #[serde(default)]
    expires: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleFile {
    r#match: String,
    image: String,
    #[serde(default)]
    release: Option<String>,
    #[serde(default)]
    channel: Option<String>,
    #[serde(default)]
    data: Option<String>,
    #[serde(default)]
    provenance: Option<ProvenanceFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProvenanceFile {
    #[serde(default)]
    source: Option<String>,
    #[serde(default)]
    builder: Option<String>,
    #[serde(default, rename = "custom-steps")]
    custom_steps: CustomSteps,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RevokedFile {
    #[serde(default)]
    keys: Vec<String>,
    #[serde(default)]
    digests: Vec<String>,
}

fn one() -> usize {
    1
}

/// What a rule thinks of build steps that run a program of the project's own choosing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CustomSteps {
    /// They may be there.
    #[default]
    Allow,
    /// An image with one is refused.
    Refuse,
}

/// Keys that may speak, and how many of them have to.
#[derive(Clone, Debug)]
pub struct Role {
    name: String,
    keys: Vec<PublicKey>,
    threshold: usize,
    expires: Option<Timestamp>,
}

impl Role {
    /// As the policy calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All its keys, revoked ones too: a signature by a revoked key is to be named as such.
    pub fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    /// How many distinct keys have to sign.
    pub fn threshold(&self) -> usize {
        self.threshold
    }

    /// When the role ends, if it does.
    pub fn expires(&self) -> Option<Timestamp> {
        self.expires
    }
}

/// What a rule demands of an image's provenance.
#[derive(Clone, Debug)]
pub struct ProvenanceDemand {
    /// Where the source has to come from.
    pub source: Option<Pattern>,
    /// Which builder has to have made it, by its builder ID.
    pub builder: Option<String>,
    /// Whether steps of the project's own are accepted.
    pub custom_steps: CustomSteps,
}

/// One line of the policy: for these repositories, these roles.
#[derive(Clone, Debug)]
pub struct Rule {
    number: usize,
    pattern: Pattern,
    image: String,
    release: Option<String>,
    channel: Option<String>,
    data: Option<String>,
    provenance: Option<ProvenanceDemand>,
}

impl Rule {
    /// For messages: ``rule 2 (`shop/*`)``.
    pub fn describe(&self) -> String {
        format!("rule {} (`{}`)", self.number, self.pattern)
    }

    /// What images have to prove about their making.
    pub fn provenance(&self) -> Option<&ProvenanceDemand> {
        self.provenance.as_ref()
    }
}

/// What is being signed; each has its own role in a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// An image or an index of images.
    Image,
    /// A release index.
    Release,
    /// The head of a channel.
    Channel,
    /// A data snapshot's manifest.
    Data,
}

impl Purpose {
    /// The field of a rule that names its role.
    pub fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Release => "release",
            Self::Channel => "channel",
            Self::Data => "data",
        }
    }
}

/// A policy that was read and holds together.
#[derive(Clone, Debug)]
pub struct TrustPolicy {
    roles: BTreeMap<String, Role>,
    rules: Vec<Rule>,
    revoked_keys: BTreeSet<KeyId>,
    revoked_digests: BTreeSet<Digest>,
    fingerprint: Digest,
}

impl TrustPolicy {
    /// Reads `trust.yaml`. `load_key` turns a path, as written in the file, into the text of that key file.
    pub fn parse(
        file: &str,
        text: &str,
        load_key: &mut dyn FnMut(&str) -> Result<String, String>,
    ) -> Result<Self, Failure> {
        let raw: PolicyFile = document::parse(file, text)?;
        let wrong = |what: String| Failure::new(Exit::Usage, format!("{file}: {what}"));
        let mut identity = text.as_bytes().to_vec();
        let mut load = |path: &str| -> Result<PublicKey, Failure> {
            let pem = load_key(path).map_err(|why| wrong(format!("cannot read key `{path}`")).why(why))?;
            let key = PublicKey::from_pem(&pem).map_err(|error| wrong(format!("key `{path}`")).because(&error))?;
            identity.extend_from_slice(key.id().as_bytes());
            Ok(key)
        };
        let mut by_name = BTreeMap::new();
        for (name, role) in raw.roles {
            by_name.insert(name.clone(), parse_role(&name, &role, &mut load, &wrong)?);
        }
        separate(&by_name, &wrong)?;
        let mut revoked_keys = BTreeSet::new();
        for text in &raw.revoked.keys {
            revoked_keys.insert(match KeyId::from_str(text) {
                Ok(id) => id,
                Err(_) => load(text)?.id(),
            });
        }
        let revoked_digests = raw
            .revoked
            .digests
            .iter()
            .map(|digest| digest.parse().map_err(|_| wrong(format!("revoked: `{digest}` is not a digest"))))
            .collect::<Result<_, _>>()?;
        if raw.rules.is_empty() {
            return Err(wrong("no rule: this policy would refuse everything".to_owned())
                .next("add one, e.g.  rules: [{ match: shop/*, image: builder }]"));
        }
        let rules = raw
            .rules
            .into_iter()
            .enumerate()
            .map(|(at, rule)| parse_rule(at + 1, rule, &by_name, &wrong))
            .collect::<Result<_, _>>()?;
        Ok(Self { roles: by_name, rules, revoked_keys, revoked_digests, fingerprint: Digest::sha256(&identity) })
    }

    /// The first rule whose pattern matches. What no rule matches is refused.
    pub fn rule(&self, repository: &Repository) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.pattern.matches(repository.as_str()))
    }

    /// Which role speaks for `purpose` under `rule`.
    pub fn role(&self, rule: &Rule, purpose: Purpose) -> Option<&Role> {
        let name = match purpose {
            Purpose::Image => Some(&rule.image),
            Purpose::Release => rule.release.as_ref(),
            Purpose::Channel => rule.channel.as_ref().or(rule.release.as_ref()),
            Purpose::Data => return self.roles.get(rule.data.as_deref().unwrap_or(NODE_ROLE)),
        };
        self.roles.get(name?)
    }

    /// A role by its name.
    pub fn role_named(&self, name: &str) -> Option<&Role> {
        self.roles.get(name)
    }

    /// The key of any role for which `signed` holds, and that role's name.
    pub(crate) fn find_key(&self, signed: &dyn Fn(&PublicKey) -> bool) -> Option<(&str, KeyId)> {
        self.roles
            .values()
            .find_map(|role| role.keys.iter().find(|key| signed(key)).map(|key| (role.name.as_str(), key.id())))
    }

    /// Whether the policy takes this key's word no longer.
    pub fn is_key_revoked(&self, id: KeyId) -> bool {
        self.revoked_keys.contains(&id)
    }

    /// Whether this artifact is refused whoever signed it.
    pub fn is_digest_revoked(&self, digest: &Digest) -> bool {
        self.revoked_digests.contains(digest)
    }

    /// Identity of the policy, its keys included: for receipts of what was verified under which policy.
    pub fn fingerprint(&self) -> Digest {
        self.fingerprint
    }
}

fn parse_role(
    name: &str,
    raw: &RoleFile,
    load: &mut dyn FnMut(&str) -> Result<PublicKey, Failure>,
    wrong: &dyn Fn(String) -> Failure,
) -> Result<Role, Failure> {
    let keys = raw.keys.iter().map(|path| load(path)).collect::<Result<Vec<_>, _>>()?;
    let distinct: BTreeSet<KeyId> = keys.iter().map(PublicKey::id).collect();
    if distinct.len() != keys.len() {
        return Err(wrong(format!("role `{name}` lists the same key twice; a threshold counts distinct keys")));
    }
    if keys.len() > KEYS_MAX {
        return Err(wrong(format!("role `{name}` has {} keys, more than {KEYS_MAX}", keys.len())));
    }
    if raw.threshold == 0 || raw.threshold > keys.len() {
        return Err(wrong(format!(
            "role `{name}`: threshold {} with {} key(s); it has to be between 1 and the number of keys",
            raw.threshold,
            keys.len()
        )));
    }
    let expires = raw
        .expires
        .as_deref()
        .map(|text| {
            text.parse().map_err(|_| wrong(format!("role `{name}`: `{text}` is not a time, e.g. 2027-01-31T00:00:00Z")))
        })
        .transpose()?;
    Ok(Role { name: name.to_owned(), keys, threshold: raw.threshold, expires })
}

/// A key in two roles would let a builder's signature pass for a releaser's.
fn separate(roles: &BTreeMap<String, Role>, wrong: &dyn Fn(String) -> Failure) -> Result<(), Failure> {
    let mut owner: BTreeMap<KeyId, &str> = BTreeMap::new();
    for role in roles.values() {
        for key in &role.keys {
            if let Some(other) = owner.insert(key.id(), &role.name) {
                return Err(wrong(format!("key {} plays two roles, `{other}` and `{}`", key.id().short(), role.name))
                    .why("a signature would count for either")
                    .next("make a key for each role:  nebh key new NAME --role ROLE"));
            }
        }
    }
    Ok(())
}

fn parse_rule(
    number: usize,
    raw: RuleFile,
    roles: &BTreeMap<String, Role>,
    wrong: &dyn Fn(String) -> Failure,
) -> Result<Rule, Failure> {
    let pattern = Pattern::parse(&raw.r#match)
        .map_err(|error| wrong(format!("rule {number}: `match: {}`", raw.r#match)).because(&error))?;
    for name in [Some(&raw.image), raw.release.as_ref(), raw.channel.as_ref(), raw.data.as_ref()].into_iter().flatten()
    {
        if !roles.contains_key(name) {
            let known: Vec<&str> = roles.keys().map(String::as_str).collect();
            let failure = wrong(format!("rule {number}: there is no role `{name}`"));
            return Err(match document::nearest(name, &known) {
                Some(close) => failure.next(format!("did you mean `{close}`?")),
                None => failure.next(format!("roles of this policy: {}", known.join(", "))),
            });
        }
    }
    let provenance = raw
        .provenance
        .map(|demand| -> Result<_, Failure> {
            let source = demand
                .source
                .map(|text| {
                    Pattern::parse(&text)
                        .map_err(|error| wrong(format!("rule {number}: `source: {text}`")).because(&error))
                })
                .transpose()?;
            Ok(ProvenanceDemand { source, builder: demand.builder, custom_steps: demand.custom_steps })
        })
        .transpose()?;
    Ok(Rule {
        number,
        pattern,
        image: raw.image,
        release: raw.release,
        channel: raw.channel,
        data: raw.data,
        provenance,
    })
}

#[cfg(test)]
mod tests;
