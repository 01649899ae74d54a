//! Requests that are genuine, and those that only look so.
//!
//! | attack | test |
//! |---|---|
//! | no secret, empty secret, secret that others can read: does the door stand open? | `no_secret_fails_closed_whatever_is_sent`, `http::tests::secret_that_is_missing_empty_or_readable_by_others_closes_the_door` |
//! | wrong, missing, doubled, SHA-1, differently written signatures; a changed body | `bad_hmac`, `missing_signature`, `sha1_only`, `http::tests::unsigned_and_wrongly_signed_requests_change_nothing` |
//! | the same delivery again, under the same id and under another | `http::tests::replayed_delivery`, `trigger_asks_again_only_under_the_delivery_id_that_it_signed` |
//! | huge bodies, announced or not; deep and doubled JSON | `http::tests::huge_body`, `signed_but_malformed_payloads_are_refused` |
//! | delivery ids and references that mean something to a shell, a path or git | `delivery_ids_that_could_not_be_stored_plainly_are_refused`, `signed_but_malformed_payloads_are_refused`, `reference::tests` |
//! | a branch named like a release, a commit, a signature or a channel | `maker::tests::branch_named_like_a_release…` |
//! | another repository or commit in the payload; a commit of a fork | `http::tests::push_builds_the_commit_that_the_repository_names`, `payload_commit_not_in_repository`; pull requests are no reference that builds: `ref_not_listed` |
//! | unknown projects, paths among their names | `http::tests::project_unknown` |
//! | deleted branches | `deleted_branch`, `http::tests::deleted_branch` |
//! | a flood for a repository that is away | `queue::tests::flood_of_deliveries…`, `http::tests::delivery_waits_for_a_repository_that_does_not_answer` |
//! | a registry that serves an old head to have it signed anew | `channel::tests::old_head_that_is_served_again_is_not_made_young`, `maker::tests::service_signs_the_head_anew…` |
//! | rate by source | not here: the service listens on this machine, and a proxy in front counts; senders without a signature get 16 places for ten seconds each |

use super::*;

const SECRET: &[u8] = b"a secret of decent length";

fn secrets_of_test() -> Vec<Vec<u8>> {
    vec![SECRET.to_vec()]
}

fn decide(body: &[u8], change: impl FnOnce(&mut Headers<'_>)) -> Result<Notice, Refusal> {
    let signed = signature(SECRET, body).unwrap();
    let mut headers = Headers {
        signature: Some(&signed),
        sha1_signature: None,
        delivery: Some("0190-aa"),
        event: Some("push"),
        content_type: Some("application/json; charset=utf-8"),
    };
    change(&mut headers);
    accept(&secrets_of_test(), &headers, body)
}

const PUSH: &[u8] = br#"{"ref":"refs/heads/main","after":"0000","repository":{"url":"https://elsewhere.example/x"}}"#;

#[test]
fn push_of_a_branch_names_the_reference_and_nothing_else() {
    let Notice::Changed(change) = decide(PUSH, |_| ()).unwrap() else { panic!("not a change") };
    assert_eq!((change.reference.full(), change.again), ("refs/heads/main", false));
}

#[test]
fn create_of_a_tag_is_a_change_of_that_tag() {
    let body = br#"{"ref":"v1.0.0","ref_type":"tag"}"#;
    let Notice::Changed(change) = decide(body, |headers| headers.event = Some("create")).unwrap() else {
        panic!("not a change")
    };
    assert_eq!(change.reference.full(), "refs/tags/v1.0.0");
}

#[test]
fn ping_and_unknown_events_build_nothing() {
    assert_eq!(decide(b"{}", |headers| headers.event = Some("ping")), Ok(Notice::Ping));
    assert!(matches!(decide(b"{}", |headers| headers.event = Some("issues")), Ok(Notice::Ignored { .. })));
}

#[test]
fn bad_hmac() {
    let other = signature(b"another secret, as long", PUSH).unwrap();
    let upper = signature(SECRET, PUSH).unwrap().replace("sha256=", "SHA256=");
    for wrong in [other.as_str(), upper.as_str(), "sha256=", "sha256=zz", "", "sha256=00"] {
        let accepted = accept(
            &secrets_of_test(),
            &Headers { signature: Some(wrong), delivery: Some("d"), event: Some("push"), ..Headers::default() },
            PUSH,
        );
        assert_eq!(accepted, Err(Refusal::BadSignature), "{wrong}");
    }
    let good = signature(SECRET, PUSH).unwrap();
    let mut tampered = PUSH.to_vec();
    tampered[10] ^= 1;
    let headers = Headers { signature: Some(&good), ..Headers::default() };
    assert_eq!(accept(&secrets_of_test(), &headers, &tampered), Err(Refusal::BadSignature));
}

#[test]
fn missing_signature() {
    assert_eq!(decide(PUSH, |headers| headers.signature = None), Err(Refusal::MissingSignature));
}

#[test]
fn sha1_only() {
    let refused = decide(PUSH, |headers| {
        headers.signature = None;
        headers.sha1_signature = Some("sha1=0123");
    });
    assert_eq!(refused, Err(Refusal::WeakSignature));
}

#[test]
fn wrong_content_type() {
    for wrong in [Some("application/x-www-form-urlencoded"), Some("text/plain"), None] {
        let refused = decide(PUSH, |headers| headers.content_type = wrong);
        assert!(matches!(refused, Err(Refusal::WrongContentType(_))), "{wrong:?}");
    }
}

#[test]
fn no_secret_fails_closed_whatever_is_sent() {
    let empty_key = signature(b"", PUSH).unwrap();
    let headers = Headers { signature: Some(&empty_key), ..Headers::default() };
    assert_eq!(accept(&[], &headers, PUSH), Err(Refusal::NoSecret));
    assert!(secrets(b"\n  \nshort\n").is_empty());
}

#[test]
fn two_secrets_are_active_while_one_is_replaced() {
    let active = secrets(b"the old secret, still in use\nthe new secret, already in use\n");
    assert_eq!(active.len(), 2);
    for secret in &active {
        let signed = signature(secret, PUSH).unwrap();
        let headers = Headers {
            signature: Some(&signed),
            delivery: Some("d"),
            event: Some("push"),
            content_type: Some("application/json"),
            sha1_signature: None,
        };
        assert!(matches!(accept(&active, &headers, PUSH), Ok(Notice::Changed(_))));
    }
}

#[test]
fn signed_but_malformed_payloads_are_refused() {
    let deep = format!("{{\"ref\":\"refs/heads/main\",\"x\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
    for body in [
        "",
        "null",
        "[]",
        "{}",
        r#"{"ref":7}"#,
        r#"{"ref":"refs/heads/--upload-pack=touch"}"#,
        r#"{"ref":"refs/heads/main","ref":"refs/heads/other"}"#,
        r#"{"ref":"refs/heads/main"} trailing"#,
        deep.as_str(),
    ] {
        assert!(matches!(decide(body.as_bytes(), |_| ()), Err(Refusal::Malformed(_))), "{body:.60}");
    }
}

#[test]
fn delivery_ids_that_could_not_be_stored_plainly_are_refused() {
    static LONG: [u8; 200] = [b'x'; 200];
    let long = std::str::from_utf8(&LONG).unwrap();
    for wrong in [None, Some(""), Some("a b"), Some("a\u{7f}"), Some(long)] {
        assert_eq!(decide(PUSH, |headers| headers.delivery = wrong), Err(Refusal::BadDelivery), "{wrong:?}");
    }
}

#[test]
fn deleted_branch() {
    let body = br#"{"ref":"refs/heads/main","after":"0000000000000000000000000000000000000000","deleted":true}"#;
    assert_eq!(decide(body, |_| ()), Ok(Notice::Ignored { reason: "branch `main` was deleted".to_owned() }));
}

#[test]
fn trigger_asks_again_only_under_the_delivery_id_that_it_signed() {
    let body = br#"{"ref":"refs/heads/main","delivery":"0190-aa"}"#;
    let Notice::Changed(change) = decide(body, |headers| headers.event = Some(TRIGGER_EVENT)).unwrap() else {
        panic!("not a change")
    };
    assert!(change.again);
    let replayed = decide(body, |headers| {
        headers.event = Some(TRIGGER_EVENT);
        headers.delivery = Some("another");
    });
    assert!(matches!(replayed, Err(Refusal::Malformed(_))));
}
