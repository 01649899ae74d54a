//! Attacks by name. Each is refused with its own kind, and with a text that names what matters.

use nebh_oci::digest::Digest;
use nebh_oci::manifest::{Attached, Descriptor, ImageIndex, Platform, RawManifest};
use nebh_oci::media_type::{COSIGN_SIMPLE_SIGNING, DSSE_ENVELOPE, SIGSTORE_BUNDLE_V03};
use nebh_trust::dsse::{self, Envelope};
use nebh_trust::provenance::{
    BUILD_TYPE, BuildDefinition, Builder, ExternalParameters, InternalParameters, Provenance, RunDetails, Source,
};
use nebh_trust::statement::{COSIGN_SIGN_V1, CYCLONEDX_BOM, SLSA_PROVENANCE_V1, Statement, Subject};
use nebh_trust::verify::{verify_image, verify_release};
use nebh_trust::{Rejection, RejectionKind as Kind, Verified, signing};
use serde_json::{Value, json};

use super::support::{
    PEOPLE, POLICY, address, attach, attached, bundle_with, check, image, now, policy, raw_bundle, refused, repository,
    signed, simple_document, simple_layer, tags,
};

fn sign_statement(digest: &Digest) -> Statement {
    Statement::new(Subject::new(digest), COSIGN_SIGN_V1, json!({}))
}

fn envelope(statement: &Statement) -> Envelope {
    Envelope::sign(dsse::IN_TOTO, statement.to_bytes().unwrap(), &[&PEOPLE.builder])
}

/// One document of simple signing by the builder, as the only thing attached.
fn document(text: &str) -> Vec<Attached> {
    vec![attached(vec![simple_layer(text.as_bytes(), &PEOPLE.builder)])]
}

fn good_document(manifest: &RawManifest) -> String {
    simple_document(manifest.digest(), "127.0.0.1:5000/shop/api:v1")
}

#[test]
fn good_image_is_accepted_by_either_form() {
    let image = image("a");
    let both = signed(&image, &PEOPLE.builder);
    let verified = check(&image, &both).unwrap();
    assert_eq!(verified.signers(), [PEOPLE.builder.id()]);
    assert_eq!(verified.role(), "builder");
    assert!(check(&image, &both[..1]).is_ok());
    assert!(check(&image, &both[1..]).is_ok());
    assert!(check(&image, &document(&good_document(&image))).is_ok());
}

#[test]
fn unsigned() {
    let text = refused(check(&image("a"), &[]), Kind::Unsigned);
    assert!(text.contains("rule 1 (`shop/*`)") && text.contains("role `builder`"), "{text}");
    assert!(text.contains(&PEOPLE.builder.id().short()) && text.contains(&image("a").digest().to_string()), "{text}");
}

#[test]
fn wrong_key() {
    refused(check(&image("a"), &signed(&image("a"), &PEOPLE.stranger)), Kind::Untrusted);
}

#[test]
fn key_of_another_role() {
    let text = refused(check(&image("a"), &signed(&image("a"), &PEOPLE.alice)), Kind::Untrusted);
    assert!(text.contains(&format!("key {} of role `releaser`", PEOPLE.alice.id().short())), "{text}");
}

#[test]
fn signature_for_other_digest() {
    let text = refused(check(&image("b"), &signed(&image("a"), &PEOPLE.builder)), Kind::WrongSubject);
    assert!(text.contains(&image("a").digest().to_string()), "{text}");
    let bundle_only = &signed(&image("a"), &PEOPLE.builder)[1..];
    refused(check(&image("b"), bundle_only), Kind::WrongSubject);
}

#[test]
fn signature_for_other_repository() {
    let elsewhere = "127.0.0.1:5000/shop/debug".parse().unwrap();
    let artifacts = signing::sign_both(None, &image("a"), &elsewhere, &tags(), &PEOPLE.builder).unwrap();
    for attached in attach(&artifacts) {
        let text = refused(check(&image("a"), &[attached]), Kind::WrongSubject);
        assert!(text.contains("shop/debug"), "{text}");
    }
}

#[test]
fn registry_may_have_another_address() {
    let other_address = "registry.example.test/shop/api".parse().unwrap();
    let artifacts = signing::sign_both(None, &image("a"), &other_address, &tags(), &PEOPLE.builder).unwrap();
    for attached in attach(&artifacts) {
        assert!(check(&image("a"), &[attached]).is_ok());
    }
}

#[test]
fn no_rule_matches() {
    let result = verify_image(
        &policy(POLICY),
        &"other/api".parse().unwrap(),
        &image("a"),
        &signed(&image("a"), &PEOPLE.builder),
        now(),
    );
    refused(result, Kind::NoRule);
}

#[test]
fn revoked_key() {
    let revoked = policy(&format!("{POLICY}revoked: {{ keys: [\"{}\"] }}\n", PEOPLE.builder.id()));
    let image = image("a");
    let both = signed(&image, &PEOPLE.builder);
    let check = |attached: &[Attached]| verify_image(&revoked, &repository(), &image, attached, now());
    for attached in &both {
        let text = refused(check(std::slice::from_ref(attached)), Kind::Revoked);
        assert!(text.contains(&PEOPLE.builder.id().short()), "{text}");
    }
    // The role's other key still speaks.
    let mut more = both;
    more.extend(signed(&image, &PEOPLE.second_builder));
    assert_eq!(check(&more).unwrap().signers(), [PEOPLE.second_builder.id()]);
}

#[test]
fn revoked_digest() {
    let image = image("a");
    let revoked = policy(&format!("{POLICY}revoked: {{ digests: [\"{}\"] }}\n", image.digest()));
    let result = verify_image(&revoked, &repository(), &image, &signed(&image, &PEOPLE.builder), now());
    refused(result, Kind::Revoked);
}

#[test]
fn expired_role() {
    let text = POLICY.replace("second-builder] }", "second-builder], expires: 2026-06-01T12:00:00Z }");
    let image = image("a");
    let result = verify_image(&policy(&text), &repository(), &image, &signed(&image, &PEOPLE.builder), now());
    let text = refused(result, Kind::Expired);
    assert!(text.contains("role `builder` ended at 2026-06-01T12:00:00Z"), "{text}");
}

/// A policy in which two builders have to sign.
fn two_of_two(manifest: &RawManifest, attached: &[Attached]) -> Result<Verified<RawManifest>, Rejection> {
    let text = POLICY.replace("second-builder] }", "second-builder], threshold: 2 }");
    verify_image(&policy(&text), &repository(), manifest, attached, now())
}

#[test]
fn same_key_twice_does_not_meet_threshold() {
    let image = image("a");
    let mut twice = signed(&image, &PEOPLE.builder);
    twice.extend(signed(&image, &PEOPLE.builder));
    let other_tags = ["v1".parse().unwrap(), "v2".parse().unwrap()];
    let more = signing::simple_signing(None, &image, &address(), &other_tags, &PEOPLE.builder).unwrap();
    twice.extend(attach(&[more]));
    let text = refused(two_of_two(&image, &twice), Kind::BelowThreshold);
    assert!(text.contains("1 of 2 signed"), "{text}");
}

#[test]
fn two_keys_meet_threshold_through_one_sig_tag() {
    let image = image("a");
    let first = signing::simple_signing(None, &image, &address(), &tags(), &PEOPLE.builder).unwrap();
    let existing = Attached::from_artifact(&first);
    let second = signing::simple_signing(Some(&existing), &image, &address(), &tags(), &PEOPLE.second_builder).unwrap();
    let verified = two_of_two(&image, &attach(std::slice::from_ref(&second))).unwrap();
    assert_eq!(verified.signers().len(), 2);
    // Signing once more adds nothing.
    let existing = Attached::from_artifact(&second);
    let again = signing::simple_signing(Some(&existing), &image, &address(), &tags(), &PEOPLE.builder).unwrap();
    assert_eq!(again.manifest, second.manifest);
}

#[test]
fn any_predicate_is_not_a_signature() {
    let image = image("a");
    for predicate_type in [CYCLONEDX_BOM, SLSA_PROVENANCE_V1, "https://sigstore.dev/cosign/sign/v2", ""] {
        let artifact = signing::attest(&image, predicate_type, &json!({}), &PEOPLE.builder).unwrap();
        let text = refused(check(&image, &attach(&[artifact])), Kind::Unsigned);
        assert!(text.contains("is no signature"), "{text}");
    }
}

#[test]
fn document_of_our_own_is_not_a_signature() {
    let image = image("a");
    let payload = sign_statement(image.digest()).to_bytes().unwrap();
    let bytes =
        Envelope::sign("application/vnd.nebh.channel.head.v1+json", payload, &[&PEOPLE.builder]).to_bytes().unwrap();
    let other = attached(vec![(Descriptor::of(DSSE_ENVELOPE, &bytes), bytes)]);
    refused(check(&image, &[other]), Kind::Unsigned);
}

#[test]
fn duplicate_json_keys() {
    let image = image("a");
    let text = good_document(&image).replace(r#""type":"#, r#""type":"x","type":"#);
    refused(check(&image, &document(&text)), Kind::Malformed);
    let digest = image.digest().hex();
    let good = String::from_utf8(sign_statement(image.digest()).to_bytes().unwrap()).unwrap();
    let twice = good.replace(&format!(r#""sha256":"{digest}""#), &format!(r#""sha256":"00","sha256":"{digest}""#));
    let signed = Envelope::sign(dsse::IN_TOTO, twice.into_bytes(), &[&PEOPLE.builder]);
    refused(check(&image, &[bundle_with(signed, |_| {})]), Kind::Malformed);
}

#[test]
fn trailing_bytes() {
    let image = image("a");
    refused(check(&image, &document(&format!("{} {{}}", good_document(&image)))), Kind::Malformed);
    let bundle = signing::bundle(&image, &address(), &tags(), &PEOPLE.builder).unwrap();
    let mut bytes = bundle.blobs[1].1.clone();
    bytes.extend_from_slice(b"{}");
    refused(check(&image, &[raw_bundle(&bytes)]), Kind::Malformed);
}

#[test]
fn bom() {
    let image = image("a");
    refused(check(&image, &document(&format!("\u{feff}{}", good_document(&image)))), Kind::Malformed);
}

#[test]
fn unknown_critical_key() {
    let image = image("a");
    let text = good_document(&image).replace(r#""critical":{"#, r#""critical":{"until":"2020","#);
    let text = refused(check(&image, &document(&text)), Kind::Malformed);
    assert!(text.contains(&PEOPLE.builder.id().short()), "{text}");
}

#[test]
fn other_document_type() {
    let image = image("a");
    let text = good_document(&image).replace("cosign container image signature", "atomic container signature");
    refused(check(&image, &document(&text)), Kind::Malformed);
}

#[test]
fn order_and_white_space_are_free() {
    let image = image("a");
    let text = good_document(&image).replace(',', " ,\n ").replace("\"optional\":null", "\"optional\": {\"a\": 1}");
    assert!(check(&image, &document(&text)).is_ok());
}

#[test]
fn bundle_payload_type_confusion() {
    let image = image("a");
    let payload = sign_statement(image.digest()).to_bytes().unwrap();
    // Signed as something else, shown as a statement: the signature covers the type.
    let other = Envelope::sign("application/json", payload, &[&PEOPLE.builder]);
    let shown = bundle_with(other.clone(), |value| value["dsseEnvelope"]["payloadType"] = json!(dsse::IN_TOTO));
    refused(check(&image, &[shown]), Kind::Untrusted);
    // Shown as what it was signed as: no bundle of ours.
    refused(check(&image, &[bundle_with(other, |_| {})]), Kind::Malformed);
}

#[test]
fn bundle_with_two_signatures_or_two_contents() {
    let image = image("a");
    let good = || envelope(&sign_statement(image.digest()));
    let two = bundle_with(good(), |value| {
        let one = value["dsseEnvelope"]["signatures"][0].clone();
        value["dsseEnvelope"]["signatures"] = json!([one, one]);
    });
    refused(check(&image, &[two]), Kind::Malformed);
    let none = bundle_with(good(), |value| value["dsseEnvelope"]["signatures"] = json!([]));
    refused(check(&image, &[none]), Kind::Malformed);
    let both = bundle_with(good(), |value| value["messageSignature"] = json!({}));
    refused(check(&image, &[both]), Kind::Malformed);
    let version =
        bundle_with(good(), |value| value["mediaType"] = json!("application/vnd.dev.sigstore.bundle+json;version=0.1"));
    refused(check(&image, &[version]), Kind::Malformed);
}

#[test]
fn hint_and_key_id_decide_nothing() {
    let image = image("a");
    let lying = bundle_with(envelope(&sign_statement(image.digest())), |value| {
        value["verificationMaterial"]["publicKey"]["hint"] = json!("nobody");
        value["dsseEnvelope"]["signatures"][0]["keyid"] = json!("somebody");
    });
    assert!(check(&image, &[lying]).is_ok());
    let stranger =
        Envelope::sign(dsse::IN_TOTO, sign_statement(image.digest()).to_bytes().unwrap(), &[&PEOPLE.stranger]);
    // `bundle_with` writes the builder's hint.
    refused(check(&image, &[bundle_with(stranger, |_| {})]), Kind::Untrusted);
}

#[test]
fn statement_about_nothing_or_with_sha512_alone() {
    let image = image("a");
    let mut value: Value = serde_json::from_slice(&sign_statement(image.digest()).to_bytes().unwrap()).unwrap();
    value["subject"] = json!([]);
    let empty = Envelope::sign(dsse::IN_TOTO, value.to_string().into_bytes(), &[&PEOPLE.builder]);
    refused(check(&image, &[bundle_with(empty, |_| {})]), Kind::Malformed);
    value["subject"] = json!([{ "digest": { "sha512": image.digest().hex() } }]);
    let other = Envelope::sign(dsse::IN_TOTO, value.to_string().into_bytes(), &[&PEOPLE.builder]);
    refused(check(&image, &[bundle_with(other, |_| {})]), Kind::WrongSubject);
}

#[test]
fn signature_that_is_no_base64_or_no_der() {
    let image = image("a");
    let text = good_document(&image);
    let (descriptor, bytes) = simple_layer(text.as_bytes(), &PEOPLE.builder);
    let key = nebh_trust::simple::SIGNATURE_ANNOTATION;
    let signature = descriptor.annotations[key].clone();
    for wrong in [format!(" {signature}"), signature[..20].to_owned() + "!", String::new(), "x".repeat(5_000)] {
        let changed = descriptor.clone().with_annotation(key, wrong);
        let kind = check(&image, &[attached(vec![(changed, bytes.clone())])]).unwrap_err().kind;
        assert!(matches!(kind, Kind::Malformed | Kind::Untrusted), "{kind}");
    }
    let without = Descriptor::of(COSIGN_SIMPLE_SIGNING, &bytes);
    refused(check(&image, &[attached(vec![(without, bytes)])]), Kind::Malformed);
}

#[test]
fn bytes_that_are_not_those_of_their_descriptor() {
    let image = image("a");
    let mut tampered = signed(&image, &PEOPLE.builder);
    for attached in &mut tampered {
        for (_, bytes) in &mut attached.layers {
            bytes[20] ^= 1;
        }
    }
    refused(check(&image, &tampered), Kind::Malformed);
    let mut missing = signed(&image, &PEOPLE.builder);
    for attached in &mut missing {
        attached.layers.clear();
    }
    refused(check(&image, &missing), Kind::Malformed);
}

#[test]
fn index_signature_does_not_cover_child() {
    let child = image("a");
    let mut index = ImageIndex::default();
    index.manifests.push(child.descriptor().with_platform(Platform::new("linux", "amd64")));
    let index = RawManifest::from_index(&index).unwrap();
    let attached = signed(&index, &PEOPLE.builder);
    assert!(check(&index, &attached).is_ok());
    refused(check(&child, &[]), Kind::Unsigned);
    refused(check(&child, &attached), Kind::WrongSubject);
}

#[test]
fn oversized() {
    let image = image("a");
    let huge = vec![b' '; (4 << 20) + 1];
    for media_type in [SIGSTORE_BUNDLE_V03, DSSE_ENVELOPE, COSIGN_SIMPLE_SIGNING] {
        let layer = (Descriptor::of(media_type, &huge), huge.clone());
        refused(check(&image, &[attached(vec![layer])]), Kind::TooLarge);
    }
}

#[test]
fn three_thousand_bad_layers_are_bounded() {
    let image = image("a");
    let text = good_document(&image);
    let bad = simple_layer(text.as_bytes(), &PEOPLE.stranger);
    let crowd = || attached(vec![bad.clone(); 1_000]);
    let good = attached(vec![simple_layer(text.as_bytes(), &PEOPLE.builder)]);
    let text = refused(check(&image, &[crowd(), crowd(), crowd(), good.clone()]), Kind::TooLarge);
    assert!(text.contains("2745 more signatures were not looked at, after 256"), "{text}");
    // A crowd behind a good signature hides nothing.
    assert!(check(&image, &[good, crowd(), crowd(), crowd()]).is_ok());
}

#[test]
fn bad_signatures_beside_a_good_one_do_not_hurt() {
    let image = image("a");
    let mut all = signed(&image, &PEOPLE.stranger);
    all.push(raw_bundle(b"junk"));
    all.extend(signed(&super::support::image("b"), &PEOPLE.builder));
    all.extend(signed(&image, &PEOPLE.builder));
    assert!(check(&image, &all).is_ok());
}

#[test]
fn text_of_an_attacker_is_shown_without_control_characters() {
    let image = image("a");
    let text = simple_document(image.digest(), "h:1/\\u001b[2Jgotcha");
    let shown = refused(check(&image, &document(&text)), Kind::WrongSubject);
    assert!(!shown.contains('\u{1b}') && shown.contains("\\u{1b}[2Jgotcha"), "{shown}");
}

#[test]
fn release_needs_both_releasers_and_the_form_of_a_release() {
    let image = image("a");
    let verify = |attached: &[Attached]| verify_release(&policy(POLICY), &repository(), &image, attached, now());
    refused(verify(&signed(&image, &PEOPLE.alice)), Kind::BelowThreshold);
    refused(verify(&signed(&image, &PEOPLE.builder)), Kind::Untrusted);
    let mut both = signed(&image, &PEOPLE.alice);
    both.extend(signed(&image, &PEOPLE.bob));
    let text = refused(verify(&both), Kind::Malformed);
    assert!(text.contains("not a release"), "{text}");
}

fn provenance() -> Provenance {
    Provenance {
        build_definition: BuildDefinition {
            build_type: BUILD_TYPE.to_owned(),
            external_parameters: ExternalParameters {
                source: Source {
                    uri: "https://git.example/shop/api".to_owned(),
                    commit: "0".repeat(40),
                    reference: None,
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
            builder: Builder {
                id: "https://builder.example".to_owned(),
                version: std::collections::BTreeMap::default(),
            },
            metadata: None,
            byproducts: Vec::new(),
        },
    }
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

#[test]
fn sbom_by_the_releasers_is_no_release_signature() {
    let image = image("a");
    let sbom = |key| signing::attest(&image, CYCLONEDX_BOM, &json!({}), key).unwrap();
    let both = attach(&[sbom(&PEOPLE.alice), sbom(&PEOPLE.bob)]);
    let text = refused(verify_release(&policy(POLICY), &repository(), &image, &both, now()), Kind::Unsigned);
    assert!(text.contains("is no signature"), "{text}");
}

#[test]
fn signature_in_another_spelling() {
    let image = image("a");
    let key = nebh_trust::simple::SIGNATURE_ANNOTATION;
    // A signature whose base64 has a character that the URL alphabet writes otherwise.
    let (descriptor, bytes) = (0..64)
        .map(|number| good_document(&image).replace("optional\":null", &format!("optional\":{{\"n\":{number}}}")))
        .map(|text| simple_layer(text.as_bytes(), &PEOPLE.builder))
        .find(|(descriptor, _)| descriptor.annotations[key].contains(['+', '/']))
        .unwrap();
    let written = descriptor.annotations[key].clone();
    let check =
        |text: String| check(&image, &[attached(vec![(descriptor.clone().with_annotation(key, text), bytes.clone())])]);
    assert!(check(written.clone()).is_ok());
    for other in [
        written.replace('+', "-").replace('/', "_"),
        format!("{written}\n"),
        written.replacen('M', "\tM", 1),
        format!("{written}===="),
        written.trim_end_matches('=').to_owned() + "=A==",
    ] {
        refused(check(other), Kind::Malformed);
    }
}

#[test]
fn document_that_two_readers_would_read_differently() {
    let image = image("a");
    let good = good_document(&image);
    let claims = |claims: &str| good.replace(r#""optional":null"#, &format!(r#""optional":{claims}"#)).into_bytes();
    let deep = |depth: usize| claims(&format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth)));
    let mut latin = claims(r#"{"a":"b"}"#);
    let at = latin.iter().rposition(|byte| *byte == b'b').unwrap();
    latin[at] = 0xe9;
    let signed = |bytes: &[u8]| check(&image, &[attached(vec![simple_layer(bytes, &PEOPLE.builder)])]);
    assert!(signed(&deep(20)).is_ok(), "depth alone is no fault");
    for wrong in [
        claims("NaN"),
        claims(r#"{"a":NaN}"#),
        claims(r#"{"a":1e400}"#),
        claims(r#"{"a":01}"#),
        claims(r#"{"a":"\ud800"}"#),
        claims(r#"{"a":1,"\u0061":2}"#),
        claims("[]"),
        deep(10_000),
        latin,
    ] {
        refused(signed(&wrong), Kind::Malformed);
    }
}

#[test]
fn statement_about_a_hundred_thousand_things() {
    let image = image("a");
    let mut value: Value = serde_json::from_slice(&sign_statement(image.digest()).to_bytes().unwrap()).unwrap();
    let one = value["subject"][0].clone();
    value["subject"] = json!(vec![one; 20_000]);
    let crowd = Envelope::sign(dsse::IN_TOTO, value.to_string().into_bytes(), &[&PEOPLE.builder]);
    let text = refused(check(&image, &[bundle_with(crowd, |_| {})]), Kind::Malformed);
    assert!(text.contains("20000 subjects"), "{text}");
    value["subject"] = json!(vec![value["subject"][0].clone(); 100_000]);
    let crowd = Envelope::sign(dsse::IN_TOTO, value.to_string().into_bytes(), &[&PEOPLE.builder]);
    refused(check(&image, &[bundle_with(crowd, |_| {})]), Kind::TooLarge);
}

#[test]
fn words_of_a_manifest_about_itself_prove_nothing() {
    let config = Descriptor::of(nebh_oci::media_type::OCI_CONFIG, b"{}");
    let layer = Descriptor::of(nebh_oci::media_type::OCI_LAYER, b"a").with_annotation("nebh.verified", "true");
    let boasting = nebh_oci::manifest::ImageManifest::image(config, vec![layer])
        .with_annotation("nebh.verified-by", PEOPLE.builder.id().to_string())
        .with_annotation("dev.cosignproject.cosign/signature", "MEUCIQDn2SOw");
    let boasting = RawManifest::from_image(&boasting).unwrap();
    refused(check(&boasting, &[]), Kind::Unsigned);
    // The manifest as its own attachment is none either.
    let itself = Attached { manifest: boasting.clone(), layers: Vec::new() };
    refused(check(&boasting, &[itself]), Kind::Unsigned);
}

#[test]
fn copy_without_its_signatures_is_unsigned_and_told_why() {
    let rejection = check(&image("a"), &[]).unwrap_err();
    assert_eq!(rejection.kind, Kind::Unsigned);
    let failure = nebh_face::Failure::from(rejection);
    assert!(failure.next.unwrap().contains("a copy made without its signatures has to be copied whole"));
}
