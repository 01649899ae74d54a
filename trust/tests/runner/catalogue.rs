//! Every known way to make a verifier believe what it should not, and the test that holds the line.
//!
//! The table names tests of the whole tree, by file and function; a test reads the files and sees that they are there. A
//! case that cannot be met says why.

use std::path::Path;

/// One way, and what holds it.
struct Case {
    attack: &'static str,
    held: Held,
}

enum Held {
    /// `path/of/file.rs function`, from the root of the tree.
    By(&'static [&'static str]),
    /// It cannot be met here.
    NotMet(&'static str),
}

use Held::{By, NotMet};

const fn case(attack: &'static str, held: Held) -> Case {
    Case { attack, held }
}

const CASES: &[Case] = &[
    case(
        "signed by another key",
        By(&["trust/tests/runner/attacks.rs wrong_key", "trust/tests/runner/attacks.rs key_of_another_role"]),
    ),
    case(
        "key of another curve, point off the curve",
        By(&["trust/src/key/tests.rs key_of_another_curve_and_point_off_the_curve_are_refused"]),
    ),
    case("no signature at all", By(&["trust/tests/runner/attacks.rs unsigned"])),
    case(
        "only attestations, or a bill of materials by the right key (CVE-2022-35929)",
        By(&[
            "trust/tests/runner/attacks.rs any_predicate_is_not_a_signature",
            "trust/tests/runner/attacks.rs sbom_by_the_releasers_is_no_release_signature",
            "trust/tests/runner/cosign.rs attestation_of_cosign_is_not_a_signature",
        ]),
    ),
    case(
        "signature of A moved to B (CVE-2022-36056)",
        By(&["trust/tests/runner/attacks.rs signature_for_other_digest"]),
    ),
    case(
        "right digest, another repository",
        By(&[
            "trust/tests/runner/attacks.rs signature_for_other_repository",
            "trust/tests/runner/cosign.rs simple_signature_of_cosign_is_refused_in_another_repository",
        ]),
    ),
    case(
        "right digest, another tag",
        By(&["registry-gateway/tests/runner/admission.rs release_under_the_name_of_another_version_is_refused"]),
    ),
    case(
        "index signed, child not; child of another index",
        By(&[
            "trust/tests/runner/attacks.rs index_signature_does_not_cover_child",
            "registry-gateway/tests/runner/admission.rs index_with_an_unsigned_child_gets_no_tag",
        ]),
    ),
    case(
        "index whose entry lies about the platform, lists a foreign child, or hides an index",
        By(&[
            "deployer/src/host/tests.rs image_that_is_listed_for_a_platform_it_was_not_made_for_is_wrong",
            "trust/src/release/tests.rs foreign_child_missing_child_and_wrong_order_are_refused",
            "trust/src/release/tests.rs image_needs_a_platform_of_its_own",
        ]),
    ),
    case(
        "document that is an image and an index (CVE-2021-41190)",
        By(&[
            "oci/src/manifest/tests.rs document_that_is_two_things_is_neither",
            "oci/src/manifest/tests.rs media_types_of_header_body_and_shape_must_agree",
        ]),
    ),
    case(
        "signature cut short, in other base64, with white space, in BER, with r or s of 0",
        By(&[
            "trust/tests/runner/malformed.rs signature_that_is_no_base64_or_no_der",
            "trust/tests/runner/malformed.rs signature_in_another_spelling",
            "trust/tests/runner/vectors.rs ecdsa_p256_sha256_vectors_are_judged_as_expected",
        ]),
    ),
    case("signed document with duplicate keys", By(&["trust/tests/runner/malformed.rs duplicate_json_keys"])),
    case("signed document with an unknown critical key", By(&["trust/tests/runner/malformed.rs unknown_critical_key"])),
    case("signed document of another type", By(&["trust/tests/runner/malformed.rs other_document_type"])),
    case(
        "signed document that two readers read differently",
        By(&[
            "trust/tests/runner/malformed.rs bom",
            "trust/tests/runner/malformed.rs trailing_bytes",
            "trust/tests/runner/malformed.rs document_that_two_readers_would_read_differently",
        ]),
    ),
    case(
        "valid JSON in another order or spelling is no attack",
        By(&["trust/tests/runner/malformed.rs order_and_white_space_are_free"]),
    ),
    case(
        "several signatures, one of them good",
        By(&["trust/tests/runner/attacks.rs bad_signatures_beside_a_good_one_do_not_hurt"]),
    ),
    case(
        "one key signs twice for a threshold of two (GHSA-9vcr-p3rj-q5q6)",
        By(&["trust/tests/runner/attacks.rs same_key_twice_does_not_meet_threshold"]),
    ),
    case(
        "envelope of another payload type; type and payload shifted",
        By(&[
            "trust/tests/runner/malformed.rs bundle_payload_type_confusion",
            "trust/tests/runner/properties.rs encoding_before_signing_is_unambiguous",
        ]),
    ),
    case(
        "bundle with two signatures or two contents",
        By(&["trust/tests/runner/malformed.rs bundle_with_two_signatures_or_two_contents"]),
    ),
    case(
        "key id of one key on the signature of another",
        By(&["trust/tests/runner/malformed.rs hint_and_key_id_decide_nothing"]),
    ),
    case(
        "statement about nothing, or by sha512 alone",
        By(&["trust/tests/runner/malformed.rs statement_about_nothing_or_with_sha512_alone"]),
    ),
    case(
        "statement about a hundred thousand things",
        By(&["trust/tests/runner/malformed.rs statement_about_a_hundred_thousand_things"]),
    ),
    case(
        "thousands of signatures (CVE-2024-29903, CVE-2023-33958)",
        By(&[
            "trust/tests/runner/malformed.rs three_thousand_bad_layers_are_bounded",
            "oci/tests/runner/referrers.rs flood_of_referrers_is_an_error_and_data_snapshots_are_none",
        ]),
    ),
    case(
        "bundle of a hundred megabytes, endless answer (CVE-2023-46737, CVE-2020-1702)",
        By(&[
            "trust/tests/runner/malformed.rs oversized",
            "oci/tests/runner/faults.rs caps_are_kept_before_and_while_reading",
        ]),
    ),
    case(
        "registry answers an error where signatures are asked for",
        By(&["oci/tests/runner/referrers.rs error_is_never_nothing_attached"]),
    ),
    case("referrers cut short by paging", By(&["oci/tests/runner/referrers.rs referrers_are_read_page_by_page"])),
    case(
        "fallback list names what is not attached, or is lost",
        By(&["oci/tests/runner/referrers.rs listed_referrers_of_another_subject_and_lost_ones_are_passed_over"]),
    ),
    case(
        "certificates: expired, of another purpose, endless chain (CVE-2026-24122)",
        NotMet("trust comes from the keys of the policy alone; certificates in a bundle are not read"),
    ),
    case(
        "key revoked",
        By(&[
            "trust/tests/runner/attacks.rs revoked_key",
            "deployer/src/host/tests.rs program_that_dies_at_once_is_not_alive_and_todays_policy_counts_at_start",
        ]),
    ),
    case(
        "digest revoked, or a head that points to it",
        By(&[
            "trust/tests/runner/attacks.rs revoked_digest",
            "trust/tests/runner/documents.rs head_that_points_to_a_revoked_release_is_refused",
        ]),
    ),
    case("role past its end", By(&["trust/tests/runner/attacks.rs expired_role"])),
    case("attestation taken away, signature left", By(&["trust/tests/runner/provenance.rs stripped_provenance"])),
    case(
        "provenance by another role, builder or source, or of another image (CVE-2026-39395)",
        By(&[
            "trust/tests/runner/provenance.rs provenance_by_another_role",
            "trust/tests/runner/provenance.rs provenance_of_another_source_builder_or_build_type",
            "trust/tests/runner/provenance.rs provenance_of_another_image",
        ]),
    ),
    case(
        "provenance with a parameter that the reader does not know",
        By(&["trust/tests/runner/provenance.rs unknown_external_parameter_is_refused"]),
    ),
    case(
        "older release under today's name; older head (CVE-2022-29173, CVE-2024-23332)",
        By(&[
            "trust/tests/runner/documents.rs regressed_head_is_refused",
            "deployer/src/host/tests.rs channel_head_is_followed_forward_only_and_the_floor_outlives_the_agent",
        ]),
    ),
    case(
        "two heads with one counter",
        By(&[
            "trust/tests/runner/documents.rs two_heads_with_one_counter_are_told_apart",
            "registry-gateway/tests/runner/admission.rs channel_head_goes_forward_only_and_its_floor_outlives_the_tag",
        ]),
    ),
    case("expired head served for ever", By(&["trust/tests/runner/documents.rs expired_head_is_refused"])),
    case(
        "counter jumps to the end of all numbers",
        By(&[
            "trust/tests/runner/documents.rs counter_that_ran_away_is_refused",
            "trust/tests/runner/documents.rs counter_that_nothing_could_follow_is_refused_even_by_who_never_saw_a_head",
        ]),
    ),
    case(
        "head of another channel or repository",
        By(&["trust/tests/runner/documents.rs head_of_another_channel_or_repository_is_refused"]),
    ),
    case(
        "one signed document shown as another",
        By(&[
            "trust/tests/runner/documents.rs one_signed_document_is_never_taken_for_another",
            "trust/tests/runner/attacks.rs document_of_our_own_is_not_a_signature",
        ]),
    ),
    case(
        "tag moved between check and pull; a header lies (CVE-2022-47633, CVE-2023-33959)",
        By(&[
            "oci/tests/runner/faults.rs registry_that_stored_something_else_is_caught",
            "oci/tests/runner/faults.rs other_bytes_are_tampering_and_leave_no_file",
        ]),
    ),
    case(
        "other bytes, too few, too many for a verified digest",
        By(&[
            "oci/tests/runner/faults.rs other_bytes_are_tampering_and_leave_no_file",
            "oci/tests/runner/faults.rs more_or_fewer_bytes_are_tampering",
            "trust/tests/runner/malformed.rs bytes_that_are_not_those_of_their_descriptor",
        ]),
    ),
    case(
        "digest that is a path (CVE-2024-3727)",
        By(&[
            "registry-gateway/src/http/action/tests.rs path_traversal_in_every_spelling_is_refused",
            "oci/src/digest.rs digest_with_another_spelling_is_refused",
        ]),
    ),
    case(
        "descriptor that sends the reader elsewhere, with credentials (CVE-2020-15157)",
        By(&[
            "oci/tests/runner/faults.rs urls_of_a_descriptor_are_never_followed",
            "oci/tests/runner/faults.rs credentials_do_not_go_along_with_a_redirect_or_an_upload",
        ]),
    ),
    case(
        "file changed on disk after it was verified",
        By(&[
            "oci/src/layout/tests.rs rotten_blob_is_noticed_when_read",
            "oci/tests/runner/registry.rs byte_flipped_on_the_registry_disk_is_tampering",
        ]),
    ),
    case(
        "layer that unpacks to something else, or to very much",
        By(&[
            "oci/src/unpack/tests.rs layer_with_another_diff_id_is_an_error",
            "oci/src/unpack/tests/attacks.rs attack_size_bomb",
        ]),
    ),
    case(
        "layer that reaches out of its root",
        By(&[
            "oci/src/unpack/tests/attacks.rs attack_path_traversal",
            "oci/src/unpack/tests/attacks.rs attack_symlink_escape_then_write_through_it",
            "oci/src/unpack/tests/attacks.rs attack_hard_link_outside",
            "oci/src/unpack/tests/attacks.rs attack_whiteout_escape",
            "oci/src/unpack/tests/attacks.rs attack_pax_and_ustar_sizes_disagree",
        ]),
    ),
    case(
        "policy that is empty, unreadable, misspelt, or without keys",
        By(&[
            "trust/src/policy/tests.rs policy_that_would_refuse_everything_is_refused_itself",
            "trust/src/policy/tests.rs misspelt_names_are_guessed",
            "trust/src/policy/tests.rs roles_have_enough_distinct_keys",
            "trust/src/policy/tests.rs unreadable_key_is_named_even_where_another_would_do",
        ]),
    ),
    case(
        "annotation or note that says `verified`",
        By(&[
            "trust/tests/runner/attacks.rs words_of_a_manifest_about_itself_prove_nothing",
            "deployer/src/host/tests.rs program_that_dies_at_once_is_not_alive_and_todays_policy_counts_at_start",
        ]),
    ),
    case("clock set back", By(&["trust/tests/runner/documents.rs clock_set_back_does_not_lower_the_floor"])),
    case(
        "power cut between the note of a head and what follows",
        By(&["deployer/src/host/tests.rs channel_head_is_followed_forward_only_and_the_floor_outlives_the_agent"]),
    ),
    case(
        "builder asks a signer to sign what it did not make",
        NotMet("there is no remote signer: a key is a file of the process that makes what it signs"),
    ),
    case("transparency log shows two histories (CVE-2026-22703)", NotMet("no log is asked or believed")),
    case(
        "key file that makes its reader work for ever",
        By(&["trust/src/key/tests.rs key_file_cannot_make_its_reader_work_or_fall"]),
    ),
    case(
        "words of a registry or an attacker on the terminal",
        By(&[
            "trust/tests/runner/attacks.rs text_of_an_attacker_is_shown_without_control_characters",
            "oci/src/client/error.rs words_of_the_registry_cannot_move_the_cursor",
            "face/src/out.rs nothing_that_is_printed_speaks_to_the_terminal",
        ]),
    ),
    case(
        "image copied to a mirror without its signatures",
        By(&["trust/tests/runner/attacks.rs copy_without_its_signatures_is_unsigned_and_told_why"]),
    ),
];

#[test]
fn every_case_is_held_by_tests_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut lost = Vec::new();
    for Case { attack, held } in CASES {
        let tests = match held {
            By(tests) => *tests,
            NotMet(why) => {
                assert!(!why.is_empty(), "{attack}");
                continue;
            }
        };
        assert!(!tests.is_empty(), "{attack}");
        for test in tests {
            let (file, function) = test.split_once(' ').unwrap();
            let text = std::fs::read_to_string(root.join(file)).unwrap_or_default();
            if !is_test(&text, function) {
                lost.push(format!("{attack}: {test}"));
            }
        }
    }
    assert!(lost.is_empty(), "tests that the catalogue names and the tree has not:\n  {}", lost.join("\n  "));
}

/// Whether a function of this name stands below an attribute that makes it a test, or inside `proptest!`.
fn is_test(text: &str, function: &str) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let begins = |line: &str| {
        line.strip_prefix("async ")
            .unwrap_or(line)
            .strip_prefix("fn ")
            .is_some_and(|rest| rest.strip_prefix(function).is_some_and(|rest| rest.starts_with('(')))
    };
    let Some(at) = lines.iter().position(|line| begins(line)) else { return false };
    lines[..at]
        .iter()
        .rev()
        .take_while(|line| line.starts_with("#[") || line.starts_with("//"))
        .any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
}

#[test]
fn a_test_is_one_only_with_its_attribute() {
    let text = "#[test]\nfn a() {}\n\n#[tokio::test(flavor = \"x\")]\n#[expect(y)]\nasync fn b() {}\n\nfn c() {}\n";
    assert!(is_test(text, "a") && is_test(text, "b"));
    assert!(!is_test(text, "c") && !is_test(text, "d"));
}
