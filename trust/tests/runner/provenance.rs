//! Provenance: what is read as ours, and what a rule asks for: taken away, by the wrong role, or of something else.

use std::collections::BTreeMap;

use jiff::Timestamp;
use nebh_oci::manifest::RawManifest;
use nebh_trust::provenance::{
    BUILD_TYPE, BuildDefinition, Builder, ExternalParameters, InternalParameters, Provenance, ProvenanceError,
    RunDetails, RunMetadata, Source,
};
use nebh_trust::statement::SLSA_PROVENANCE_V1;
use nebh_trust::verify::verify_image;
use nebh_trust::{Rejection, RejectionKind as Kind, Verified, signing};
use serde_json::{Value, json};

use super::support::{PEOPLE, POLICY, attach, image, now, policy, refused, repository, signed};

fn provenance() -> Provenance {
    Provenance {
        build_definition: BuildDefinition {
            build_type: BUILD_TYPE.to_owned(),
            external_parameters: ExternalParameters {
                source: Source {
                    uri: "https://git.example/shop/api".to_owned(),
                    commit: "0".repeat(40),
                    reference: Some("refs/heads/main".to_owned()),
                    directory: String::new(),
                },
                buildspec: "buildspec.yaml".to_owned(),
                platform: "linux/amd64".to_owned(),
                steps: vec!["rust".to_owned()],
                configure: false,
            },
            internal_parameters: InternalParameters::default(),
            resolved_dependencies: Vec::new(),
        },
        run_details: RunDetails {
            builder: Builder { id: "https://builder.example".to_owned(), version: BTreeMap::new() },
            metadata: Some(RunMetadata {
                invocation_id: None,
                started_on: Some(Timestamp::UNIX_EPOCH),
                finished_on: None,
            }),
            byproducts: Vec::new(),
        },
    }
}

#[test]
fn provenance_survives_its_predicate() {
    let predicate = provenance().to_predicate().unwrap();
    assert_eq!(Provenance::from_predicate(&predicate).unwrap(), provenance());
    assert_eq!(predicate["buildDefinition"]["externalParameters"]["source"]["ref"], "refs/heads/main");
}

#[test]
fn unknown_external_parameter_is_refused() {
    let mut predicate = provenance().to_predicate().unwrap();
    predicate["buildDefinition"]["externalParameters"]["extra"] = Value::Bool(true);
    assert!(matches!(Provenance::from_predicate(&predicate), Err(ProvenanceError::Shape(_))));
}

#[test]
fn other_build_type_is_named() {
    let mut predicate = provenance().to_predicate().unwrap();
    predicate["buildDefinition"]["buildType"] = Value::String("https://example.test/v1".to_owned());
    assert!(matches!(Provenance::from_predicate(&predicate), Err(ProvenanceError::BuildType(_))));
}

#[test]
fn step_that_the_builder_does_not_know_is_custom() {
    let mut parameters = provenance().build_definition.external_parameters;
    assert_eq!(parameters.custom_step(), None);
    parameters.steps.push("exec".to_owned());
    assert_eq!(parameters.custom_step(), Some("exec"));
}

/// An image signed by the builder, with these provenances, under a rule that demands one.
fn with_provenance(predicates: &[(&Value, &nebh_trust::key::PrivateKey)]) -> Result<Verified<RawManifest>, Rejection> {
    let demand = r#", provenance: { source: "https://git.example/shop/*", builder: "https://builder.example", custom-steps: refuse } }"#;
    let text = POLICY.replace("release: releaser }", &format!("release: releaser{demand}"));
    let image = image("a");
    let mut all = signed(&image, &PEOPLE.builder);
    for (predicate, key) in predicates {
        all.extend(attach(&[signing::attest(&image, SLSA_PROVENANCE_V1, predicate, key).unwrap()]));
    }
    verify_image(&policy(&text), &repository(), &image, &all, now())
}

#[test]
fn provenance_that_the_rule_accepts() {
    let good = provenance().to_predicate().unwrap();
    assert!(with_provenance(&[(&good, &PEOPLE.builder)]).is_ok());
    let bad = json!({});
    assert!(with_provenance(&[(&bad, &PEOPLE.builder), (&good, &PEOPLE.builder)]).is_ok());
}

#[test]
fn stripped_provenance() {
    refused(with_provenance(&[]), Kind::MissingProvenance);
}

#[test]
fn provenance_by_another_role() {
    let good = provenance().to_predicate().unwrap();
    refused(with_provenance(&[(&good, &PEOPLE.alice)]), Kind::MissingProvenance);
    refused(with_provenance(&[(&good, &PEOPLE.stranger)]), Kind::MissingProvenance);
}

#[test]
fn provenance_of_another_source_builder_or_build_type() {
    let changes: [(&str, Value, &str); 5] = [
        ("/buildDefinition/externalParameters/source/uri", json!("https://git.example/evil/api"), "git.example/evil"),
        ("/buildDefinition/externalParameters/steps", json!(["rust", "exec"]), "`exec` step"),
        ("/buildDefinition/externalParameters/buildspec", json!(1), "cannot be read"),
        ("/buildDefinition/buildType", json!("https://example.test/v1"), "build type"),
        ("/runDetails/builder/id", json!("https://other.example"), "other.example"),
    ];
    for (pointer, value, expected) in changes {
        let mut predicate = provenance().to_predicate().unwrap();
        *predicate.pointer_mut(pointer).unwrap() = value;
        let text = refused(with_provenance(&[(&predicate, &PEOPLE.builder)]), Kind::UnacceptableProvenance);
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn provenance_of_another_image() {
    let demand = ", provenance: { custom-steps: refuse } }";
    let text = POLICY.replace("release: releaser }", &format!("release: releaser{demand}"));
    let mut all = signed(&image("a"), &PEOPLE.builder);
    let predicate = provenance().to_predicate().unwrap();
    all.extend(attach(&[signing::attest(&image("b"), SLSA_PROVENANCE_V1, &predicate, &PEOPLE.builder).unwrap()]));
    let result = verify_image(&policy(&text), &repository(), &image("a"), &all, now());
    let text = refused(result, Kind::MissingProvenance);
    assert!(text.contains("a statement about something else"), "{text}");
}
