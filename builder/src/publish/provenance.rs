//! Provenance and components of one build, from what was asked for and what was locked. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use nebh_oci::digest::Digest;
use nebh_oci::manifest::Attached;
use nebh_trust::bundle::Bundle;
use nebh_trust::key::PublicKey;
use nebh_trust::provenance::{
    BUILD_TYPE, BuildDefinition, Builder, ExternalParameters, InternalParameters, Provenance, ResourceDescriptor,
    RunDetails, RunMetadata, Source,
};
use nebh_trust::sbom::Component;
use nebh_trust::statement::{SLSA_PROVENANCE_V1, Statement};

use crate::lock::{DebianArchive, Lock, LockedPackage};

/// What one build was.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// Where the commit was read.
    pub source: Source,
    /// Path of the buildspec, from the top of the repository.
    pub buildspec: String,
    /// `os/architecture`.
    pub platform: String,
    /// Kinds of its steps, in order.
    pub steps: Vec<String>,
    /// Whether packages ran their own scripts.
    pub configure: bool,
    /// Digest of the plan.
    pub plan: Digest,
    /// Number of the assembly contract.
    pub assembly: u32,
    /// Every input.
    pub lock: &'a Lock,
    /// Who built.
    pub builder: String,
    /// Which run.
    pub invocation: String,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
}

/// The URI of a build platform that is known by its key alone.
pub fn builder_id(key: &PublicKey) -> String {
    format!("urn:nebh:builder:{}", key.id())
}

/// The provenance to attest.
pub fn provenance(facts: &Facts<'_>) -> Provenance {
    let mut dependencies = vec![commit(&facts.source)];
    dependencies.extend(facts.lock.suites.iter().map(|suite| ResourceDescriptor {
        name: Some(format!("InRelease of {}", suite.suite)),
        digest: sha256(&suite.release),
        annotations: BTreeMap::from([("expired".to_owned(), suite.expired.into())]),
        ..ResourceDescriptor::default()
    }));
    let image = components(facts.lock);
    let toolchain = facts.lock.toolchain.iter().map(|package| package_component(facts.lock, package));
    for component in image.into_iter().chain(toolchain) {
        let resource = ResourceDescriptor {
            uri: Some(component.purl),
            digest: component.sha256.as_ref().map(sha256).unwrap_or_default(),
            ..ResourceDescriptor::default()
        };
        if !dependencies.contains(&resource) {
            dependencies.push(resource);
        }
    }
    Provenance {
        build_definition: BuildDefinition {
            build_type: BUILD_TYPE.to_owned(),
            external_parameters: ExternalParameters {
                source: facts.source.clone(),
                buildspec: facts.buildspec.clone(),
                platform: facts.platform.clone(),
                steps: facts.steps.clone(),
                configure: facts.configure,
            },
            internal_parameters: InternalParameters {
                plan: Some(facts.plan.to_string()),
                assembly: Some(facts.assembly),
                compressor: None,
            },
            resolved_dependencies: dependencies,
        },
        run_details: RunDetails {
            builder: Builder {
                id: facts.builder.clone(),
                version: BTreeMap::from([("nebh".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]),
            },
            metadata: Some(RunMetadata {
                invocation_id: Some(facts.invocation.clone()),
                started_on: Some(facts.started),
                finished_on: Some(facts.finished),
            }),
            byproducts: Vec::new(),
        },
    }
}

/// What is in the image: its packages, and the crates that were compiled into it. The toolchain is not.
pub fn components(lock: &Lock) -> Vec<Component> {
    let packages = lock.image_packages.iter().map(|package| package_component(lock, package));
    let crates = lock.crates().iter().map(|one| Component {
        name: one.name.clone(),
        version: one.version.clone(),
        purl: format!("pkg:cargo/{}@{}", escaped(&one.name), escaped(&one.version)),
        sha256: Some(one.sha256),
    });
    packages.chain(crates).collect()
}

/// Whether the same build of the same manifest was attested by this key before: then only the times would differ.
pub fn is_known(provenance: &Provenance, image: &Digest, attached: &[Attached], key: &PublicKey) -> bool {
    attached.iter().flat_map(|one| &one.layers).any(|(_, bytes)| {
        let Ok(bundle) = Bundle::parse(bytes) else { return false };
        if bundle.envelope().signers(std::slice::from_ref(key)).is_empty() {
            return false;
        }
        let Ok(statement) = Statement::parse(bundle.envelope().payload()) else { return false };
        statement.predicate_type() == SLSA_PROVENANCE_V1
            && statement.subject(image).is_some()
            && Provenance::from_predicate(statement.predicate())
                .is_ok_and(|known| known.build_definition == provenance.build_definition)
    })
}

fn commit(source: &Source) -> ResourceDescriptor {
    let reference = source.reference.as_deref().map(|name| format!("@{name}")).unwrap_or_default();
    ResourceDescriptor {
        uri: Some(format!("git+{}{reference}", source.uri)),
        digest: BTreeMap::from([("gitCommit".to_owned(), source.commit.clone())]),
        ..ResourceDescriptor::default()
    }
}

fn package_component(lock: &Lock, package: &LockedPackage) -> Component {
    let suite = lock.suites.iter().find(|suite| suite.suite == package.suite);
    let vendor = match suite.map(|suite| suite.archive) {
        None | Some(DebianArchive::Debian | DebianArchive::DebianSecurity) => "debian",
    };
    Component {
        name: package.name.clone(),
        version: package.version.clone(),
        purl: format!(
            "pkg:deb/{vendor}/{}@{}?arch={}&distro={}",
            escaped(&package.name),
            escaped(&package.version),
            package.architecture,
            package.suite
        ),
        sha256: Some(package.sha256),
    }
}

fn sha256(digest: &Digest) -> BTreeMap<String, String> {
    BTreeMap::from([(digest.algorithm().name().to_owned(), digest.hex())])
}

/// Package URLs escape what is no letter, digit or one of `.-_~:`; so do their users when they compare.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_~:".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
