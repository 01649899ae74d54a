//! Attacks by name. Each is refused with its own kind, and with a text that names what matters.

use nebh_oci::manifest::{Attached, Descriptor, ImageIndex, Platform, RawManifest};
use nebh_oci::media_type::DSSE_ENVELOPE;
use nebh_trust::dsse::Envelope;
use nebh_trust::statement::{CYCLONEDX_BOM, SLSA_PROVENANCE_V1};
use nebh_trust::verify::{verify_image, verify_release};
use nebh_trust::{Rejection, RejectionKind as Kind, Verified, signing};
use serde_json::json;

use super::support::{
    PEOPLE, POLICY, address, attach, attached, check, document, good_document, image, now, policy, raw_bundle, refused,
    repository, sign_statement, signed, simple_document, tags,
};

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

#[test]
fn sbom_by_the_releasers_is_no_release_signature() {
    let image = image("a");
    let sbom = |key| signing::attest(&image, CYCLONEDX_BOM, &json!({}), key).unwrap();
    let both = attach(&[sbom(&PEOPLE.alice), sbom(&PEOPLE.bob)]);
    let text = refused(verify_release(&policy(POLICY), &repository(), &image, &both, now()), Kind::Unsigned);
    assert!(text.contains("is no signature"), "{text}");
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
