//! The only door: policy, manifest, what is attached to it, and the time go in; `Verified` or a rejection comes out.
//! Pure.
//!
//! ```text
//!   repository ─► rule ─► role (keys, threshold)          no rule ─► NoRule
//!   attached   ─► evidence ─► judge, one by one ─► distinct keys that signed *this* digest for *this* repository
//!                                                  ≥ threshold?   no ─► Unsigned, Untrusted, WrongSubject, …
//!   rule demands provenance? ─► a statement by the same role that says what the rule accepts
//! ```
//!
//! Ignoring an attached thing can never turn a refusal into an acceptance: nothing that is attached is ever *needed
//! to refuse*, so whoever hides or adds attachments gains nothing but a refusal.

use std::collections::BTreeSet;

use jiff::Timestamp;
use nebh_oci::digest::Digest;
use nebh_oci::manifest::{Attached, RawManifest};
use nebh_oci::names::Repository;

use crate::evidence::{self, CANDIDATES_MAX, Evidence};
use crate::key::KeyId;
use crate::policy::{CustomSteps, ProvenanceDemand, Purpose, Role, Rule, TrustPolicy};
use crate::provenance::{BUILD_TYPE, Provenance};
use crate::rejection::{Rejection, RejectionKind as Kind, quote};
use crate::release;
use crate::statement::{SLSA_PROVENANCE_V1, Statement};

mod judge;

use judge::{Finding, Judge};

/// A value whose signatures were checked against a policy. Only this crate makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified<T> {
    value: T,
    signers: Vec<KeyId>,
    role: String,
}

impl<T> Verified<T> {
    pub(crate) fn new(value: T, signers: impl IntoIterator<Item = KeyId>, role: &Role) -> Self {
        Self { value, signers: signers.into_iter().collect(), role: role.name().to_owned() }
    }

    /// What was verified.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// What was verified, by value.
    pub fn into_value(self) -> T {
        self.value
    }

    /// The distinct keys that signed.
    pub fn signers(&self) -> &[KeyId] {
        &self.signers
    }

    /// The role that they play.
    pub fn role(&self) -> &str {
        &self.role
    }

    /// For messages: `builder 7d41f0a1b2c3`.
    pub fn signed_by(&self) -> String {
        let keys: Vec<String> = self.signers.iter().map(KeyId::short).collect();
        format!("{} {}", self.role, keys.join(", "))
    }
}

/// One question to the policy, with all that the answer and its message need.
pub(crate) struct Question<'a> {
    pub(crate) policy: &'a TrustPolicy,
    pub(crate) repository: &'a Repository,
    pub(crate) digest: &'a Digest,
    pub(crate) rule: &'a Rule,
    pub(crate) role: &'a Role,
    purpose: Purpose,
}

impl<'a> Question<'a> {
    pub(crate) fn new(
        policy: &'a TrustPolicy,
        repository: &'a Repository,
        digest: &'a Digest,
        purpose: Purpose,
    ) -> Result<Self, Rejection> {
        let rejection = |kind| Rejection::new(kind, repository, digest);
        if policy.is_digest_revoked(digest) {
            return Err(rejection(Kind::Revoked).note("the trust policy lists this digest as revoked"));
        }
        let rule = policy.rule(repository).ok_or_else(|| rejection(Kind::NoRule))?;
        let speaker = policy.role(rule, purpose).ok_or_else(|| {
            rejection(Kind::NoRule).note(format!("{} names no role for `{}`", rule.describe(), purpose.name()))
        })?;
        Ok(Self { policy, repository, digest, rule, role: speaker, purpose })
    }

    /// A rejection that says what was demanded.
    pub(crate) fn rejection(&self, kind: Kind) -> Rejection {
        let keys: Vec<String> = self.role.keys().iter().map(|key| key.id().short()).collect();
        let demanded = format!(
            "{} demands for `{}` {} signature{} of role `{}` ({})",
            self.rule.describe(),
            self.purpose.name(),
            self.role.threshold(),
            if self.role.threshold() == 1 { "" } else { "s of distinct keys" },
            self.role.name(),
            keys.join(", ")
        );
        Rejection::new(kind, self.repository, self.digest).demand(demanded)
    }

    /// Refuses a role that is past its end.
    pub(crate) fn role_is_valid(&self, now: Timestamp) -> Result<(), Rejection> {
        match self.role.expires() {
            Some(end) if end <= now => Err(self
                .rejection(Kind::Expired)
                .note(format!("role `{}` ended at {end}, and it is {now}", self.role.name()))),
            _ => Ok(()),
        }
    }
}

/// Verifies an image or an index of images: signatures by the rule's image role, and the provenance it demands.
///
/// An index's signature says nothing about its children: whoever runs a child verifies the child.
pub fn verify_image(
    policy: &TrustPolicy,
    repository: &Repository,
    manifest: &RawManifest,
    attached: &[Attached],
    now: Timestamp,
) -> Result<Verified<RawManifest>, Rejection> {
    let question = Question::new(policy, repository, manifest.digest(), Purpose::Image)?;
    let evidence = evidence::gather(attached);
    let signers = signers(&question, &evidence, now)?;
    if let Some(demand) = question.rule.provenance() {
        provenance(&question, demand, &evidence)?;
    }
    Ok(Verified::new(manifest.clone(), signers, question.role))
}

/// Verifies a release index: its form, and signatures by the rule's release role. The images in it are verified
/// one by one with [`verify_image`], because their role is another.
pub fn verify_release(
    policy: &TrustPolicy,
    repository: &Repository,
    manifest: &RawManifest,
    attached: &[Attached],
    now: Timestamp,
) -> Result<Verified<RawManifest>, Rejection> {
    let question = Question::new(policy, repository, manifest.digest(), Purpose::Release)?;
    let signers = signers(&question, &evidence::gather(attached), now)?;
    release::read_release(manifest).map_err(|error| question.rejection(Kind::Malformed).note(error.to_string()))?;
    Ok(Verified::new(manifest.clone(), signers, question.role))
}

/// Every statement with this predicate that the rule's image role made about the manifest.
pub fn verify_attestations(
    policy: &TrustPolicy,
    repository: &Repository,
    manifest: &RawManifest,
    attached: &[Attached],
    predicate_type: &str,
    now: Timestamp,
) -> Result<Vec<Verified<Statement>>, Rejection> {
    let question = Question::new(policy, repository, manifest.digest(), Purpose::Image)?;
    question.role_is_valid(now)?;
    let (statements, _) = Judge::new(&question).attestations(&evidence::gather(attached), predicate_type);
    Ok(statements.into_iter().map(|(key, statement)| Verified::new(statement, [key], question.role)).collect())
}

/// The provenance of an image as its builder attested it, whether or not the rule demands one. This is what a
/// rebuild starts from.
pub fn verify_provenance(
    policy: &TrustPolicy,
    repository: &Repository,
    manifest: &RawManifest,
    attached: &[Attached],
    now: Timestamp,
) -> Result<Verified<Provenance>, Rejection> {
    let question = Question::new(policy, repository, manifest.digest(), Purpose::Image)?;
    question.role_is_valid(now)?;
    let anything = ProvenanceDemand { source: None, builder: None, custom_steps: CustomSteps::Allow };
    let demand = question.rule.provenance().unwrap_or(&anything);
    let (key, provenance) = provenance(&question, demand, &evidence::gather(attached))?;
    Ok(Verified::new(provenance, [key], question.role))
}

/// The distinct keys of the role that signed, if there are enough.
fn signers(question: &Question<'_>, evidence: &Evidence, now: Timestamp) -> Result<BTreeSet<KeyId>, Rejection> {
    let judge = Judge::new(question);
    let mut good = BTreeSet::new();
    let mut findings = Vec::new();
    for candidate in &evidence.candidates {
        match judge.signature(candidate) {
            Finding::Signed(key) => {
                good.insert(key);
            }
            other => findings.push(other),
        }
    }
    if good.len() >= question.role.threshold() {
        question.role_is_valid(now)?;
        return Ok(good);
    }
    Err(refusal(question, evidence, &good, findings))
}

/// Words for what was found instead of enough signatures. The gravest finding names the rejection.
fn refusal(question: &Question<'_>, evidence: &Evidence, good: &BTreeSet<KeyId>, findings: Vec<Finding>) -> Rejection {
    let mut remarks: Vec<(Kind, Option<KeyId>, String)> = Vec::new();
    if !good.is_empty() {
        let keys: Vec<String> = good.iter().map(KeyId::short).collect();
        remarks.push((
            Kind::BelowThreshold,
            None,
            format!("{} of {} signed ({})", good.len(), question.role.threshold(), keys.join(", ")),
        ));
    }
    for finding in findings {
        match finding {
            Finding::Signed(_) => {}
            Finding::Wrong { kind, key, text } => remarks.push((kind, key, text)),
            Finding::NotASignature(text) => remarks.push((Kind::Unsigned, None, text)),
        }
    }
    for fault in &evidence.faults {
        let kind = if fault.too_large { Kind::TooLarge } else { Kind::Malformed };
        remarks.push((kind, None, fault.text.clone()));
    }
    if evidence.left_out > 0 {
        let text = format!("{} more signatures were not looked at, after {CANDIDATES_MAX}", evidence.left_out);
        remarks.push((Kind::TooLarge, None, text));
    }
    remarks.sort_by_key(|(kind, key, _)| gravity(*kind, key.is_some()));
    let kind = remarks.first().map_or(Kind::Unsigned, |(kind, _, _)| *kind);
    let mut rejection = question.rejection(kind);
    let keys = good.iter().copied().chain(remarks.iter().filter_map(|(_, key, _)| *key));
    for key in keys {
        rejection = rejection.key(key);
    }
    for (_, _, text) in remarks {
        rejection = rejection.note(text);
    }
    rejection
}

/// Smaller is graver, and names the whole: what a trusted key did comes before what strangers attached.
fn gravity(kind: Kind, by_trusted_key: bool) -> u8 {
    match kind {
        Kind::BelowThreshold => 0,
        Kind::Revoked => 1,
        Kind::WrongSubject => 2,
        Kind::Malformed if by_trusted_key => 3,
        Kind::TooLarge => 4,
        Kind::Untrusted => 5,
        Kind::Malformed => 6,
        Kind::Unsigned
        | Kind::Expired
        | Kind::Regressed
        | Kind::Equivocal
        | Kind::NoRule
        | Kind::MissingProvenance
        | Kind::UnacceptableProvenance => 7,
    }
}

/// A provenance by the role that says what the rule accepts. One is enough; what others say does not hurt.
fn provenance(
    question: &Question<'_>,
    demand: &ProvenanceDemand,
    evidence: &Evidence,
) -> Result<(KeyId, Provenance), Rejection> {
    let (statements, remarks) = Judge::new(question).attestations(evidence, SLSA_PROVENANCE_V1);
    if statements.is_empty() {
        let mut rejection = question.rejection(Kind::MissingProvenance);
        for remark in remarks {
            rejection = rejection.note(remark);
        }
        return Err(rejection.note(format!(
            "{} demands a provenance by role `{}`",
            question.rule.describe(),
            question.role.name()
        )));
    }
    let mut refused = question.rejection(Kind::UnacceptableProvenance);
    for (key, statement) in statements {
        match acceptable(demand, &statement) {
            Ok(provenance) => return Ok((key, provenance)),
            Err(why) => refused = refused.note(format!("by key {}: {why}", key.short())).key(key),
        }
    }
    Err(refused)
}

fn acceptable(demand: &ProvenanceDemand, statement: &Statement) -> Result<Provenance, String> {
    let provenance = Provenance::from_predicate(statement.predicate()).map_err(|error| error.to_string())?;
    if provenance.build_definition.build_type != BUILD_TYPE {
        return Err(format!("its build type is `{}`", quote(&provenance.build_definition.build_type)));
    }
    let parameters = &provenance.build_definition.external_parameters;
    if let Some(pattern) = &demand.source
        && !pattern.matches(&parameters.source.uri)
    {
        return Err(format!("built from `{}`, and the rule accepts `{pattern}`", quote(&parameters.source.uri)));
    }
    if let Some(builder) = &demand.builder
        && *builder != provenance.run_details.builder.id
    {
        return Err(format!(
            "made by builder `{}`, and the rule accepts `{builder}`",
            quote(&provenance.run_details.builder.id)
        ));
    }
    if demand.custom_steps == CustomSteps::Refuse
        && let Some(step) = parameters.custom_step()
    {
        return Err(format!("it has a `{}` step, and the rule refuses custom steps", quote(step)));
    }
    Ok(provenance)
}
