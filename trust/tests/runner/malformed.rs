//! Signed things that are written wrongly, in a second spelling, so that two readers differ, or without an end: the right key
//! does not help them.

use nebh_oci::manifest::Descriptor;
use nebh_oci::media_type::{COSIGN_SIMPLE_SIGNING, DSSE_ENVELOPE, SIGSTORE_BUNDLE_V03};
use nebh_trust::dsse::{self, Envelope};
use nebh_trust::{RejectionKind as Kind, signing};
use serde_json::{Value, json};

use super::support::{
    PEOPLE, address, attached, bundle_with, check, document, envelope, good_document, image, raw_bundle, refused,
    sign_statement, signed, simple_layer, tags,
};

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
