//! Properties: readers never fall over whatever they are given, and what is written is read back.

use nebh_oci::digest::Digest;
use nebh_trust::bundle::Bundle;
use nebh_trust::dsse::{Envelope, pae};
use nebh_trust::key::PublicKey;
use nebh_trust::pattern::Pattern;
use nebh_trust::release::{ByteSize, ReleaseSpec, Span};
use nebh_trust::simple::{Payload, repository_of};
use nebh_trust::statement::Statement;
use proptest::prelude::*;

use super::support::{PEOPLE, check, document_of, image, signed};

/// JSON with the right names in it, and anything else between: it gets further into the readers than noise.
fn almost_json() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "null",
        "1",
        "1e400",
        "\"\"",
        "\"critical\"",
        "\"optional\"",
        "\"identity\"",
        "\"docker-reference\"",
        "\"image\"",
        "\"docker-manifest-digest\"",
        "\"type\"",
        "\"payload\"",
        "\"payloadType\"",
        "\"signatures\"",
        "\"sig\"",
        "\"_type\"",
        "\"subject\"",
        "\"digest\"",
        "\"mediaType\"",
        "\"dsseEnvelope\"",
        "\"\\ud800\"",
        "\u{feff}",
        " ",
    ]);
    prop::collection::vec(words, 0..40).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn readers_survive_noise(bytes in prop::collection::vec(any::<u8>(), 0..300), text in ".{0,200}") {
        drop(Bundle::parse(&bytes));
        drop(Envelope::parse(&bytes));
        drop(Payload::parse(&bytes));
        drop(Statement::parse(&bytes));
        drop(PublicKey::from_pem(&text));
        drop(ReleaseSpec::parse("release.yaml", &text));
        let _: &str = repository_of(&text);
    }

    #[test]
    fn readers_survive_almost_json(text in almost_json()) {
        drop(Bundle::parse(text.as_bytes()));
        drop(Envelope::parse(text.as_bytes()));
        drop(Payload::parse(text.as_bytes()));
        drop(Statement::parse(text.as_bytes()));
    }

    #[test]
    fn one_changed_byte_is_never_accepted(at in any::<prop::sample::Index>(), bit in 0_u8..8, form in 0_usize..2) {
        let image = image("a");
        let good = signed(&image, &PEOPLE.builder).swap_remove(form);
        let mut bytes = good.layers[0].1.clone();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let changed = document_of(&good, bytes);
        // What is not covered by the signature (the bundle's hint, its member names) may change and still be accepted,
        // but then only as a signature by the builder of this very image.
        if let Ok(verified) = check(&image, &[changed]) {
            prop_assert_eq!(form, 1);
            prop_assert_eq!(verified.signers(), [PEOPLE.builder.id()]);
        }
    }

    #[test]
    fn encoding_before_signing_is_unambiguous(one in (".{0,20}", ".{0,20}"), other in (".{0,20}", ".{0,20}")) {
        prop_assume!(one != other);
        prop_assert_ne!(pae(&one.0, one.1.as_bytes()), pae(&other.0, other.1.as_bytes()));
    }

    #[test]
    fn spans_and_sizes_survive_their_text(number in 1_u64..600_000, unit in prop::sample::select(vec!["ms", "s", "B", "KiB", "MiB"])) {
        let text = format!("{number}{unit}");
        if let Ok(span) = text.parse::<Span>() {
            prop_assert_eq!(span.to_string().parse::<Span>().unwrap(), span);
        }
        if let Ok(size) = text.parse::<ByteSize>() {
            prop_assert_eq!(size.to_string().parse::<ByteSize>().unwrap(), size);
        }
    }

    #[test]
    fn pattern_without_stars_matches_itself_alone(text in "[a-z/]{1,20}", other in "[a-z/]{1,20}") {
        let pattern = Pattern::parse(&text).unwrap();
        prop_assert_eq!(pattern.matches(&other), text == other);
        prop_assert!(Pattern::parse("**").unwrap().matches(&other));
        prop_assert_eq!(Pattern::parse("*").unwrap().matches(&other), !other.contains('/'));
    }

    #[test]
    fn document_survives_its_bytes(seed in any::<u64>(), reference in "[a-z]{1,8}:[0-9]{2,4}/[a-z/]{1,20}(:[a-z0-9]{1,8})?") {
        let payload = Payload { digest: Digest::sha256(&seed.to_be_bytes()), docker_reference: reference };
        prop_assert_eq!(Payload::parse(&payload.to_bytes().unwrap()).unwrap(), payload);
    }
}
