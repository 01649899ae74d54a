//! The grammar, and what must not pass it.

use proptest::prelude::*;

use super::*;

fn get(path: &str) -> Result<Action, Refusal> {
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    Action::parse(&Method::GET, path, query)
}

fn with(method: &Method, path: &str, query: &str) -> Result<Action, Refusal> {
    Action::parse(method, path, (!query.is_empty()).then_some(query))
}

fn name(text: &str) -> Repository {
    text.parse().unwrap()
}

#[test]
fn addresses_of_the_specification_are_read() {
    let digest = Digest::sha256(b"x");
    assert_eq!(get("/v2/").unwrap(), Action::Ping);
    assert_eq!(get("/v2").unwrap(), Action::Ping);
    assert_eq!(
        get("/v2/a/b/manifests/latest").unwrap(),
        Action::GetManifest(name("a/b"), Name::Tag("latest".parse().unwrap()))
    );
    assert_eq!(get(&format!("/v2/a/blobs/{digest}")).unwrap(), Action::GetBlob(name("a"), digest));
    let encoded = digest.to_string().replace(':', "%3A");
    assert_eq!(get(&format!("/v2/a/blobs/{encoded}")).unwrap(), Action::GetBlob(name("a"), digest));
    assert_eq!(
        get("/v2/a/tags/list?n=5&last=b").unwrap(),
        Action::Tags(name("a"), Page { limit: 5, after: Some("b".to_owned()) })
    );
}

#[test]
fn repository_named_like_a_keyword_is_still_a_repository() {
    assert_eq!(
        get("/v2/a/blobs/uploads/manifests/v1").unwrap(),
        Action::GetManifest(name("a/blobs/uploads"), Name::Tag("v1".parse().unwrap()))
    );
    assert!(matches!(with(&Method::POST, "/v2/manifests/blobs/uploads/", "").unwrap(), Action::Begin(..)));
}

#[test]
fn path_traversal_in_every_spelling_is_refused() {
    let digest = Digest::sha256(b"x");
    for repository in [
        "..", "a/..", "../a", "a//b", "a/./b", "%2e%2e", "a%2fb", "a%2Fb", "a%00", "a%2500", "a\\b", "a.", ".a", "A",
        "é", "a/", "", "a%3A..", "_uploads",
    ] {
        for path in [
            format!("/v2/{repository}/blobs/{digest}"),
            format!("/v2/{repository}/manifests/v1"),
            format!("/v2/{repository}/tags/list"),
        ] {
            assert!(get(&path).is_err(), "{path}");
        }
    }
    let long = "a".repeat(256);
    assert!(get(&format!("/v2/{long}/tags/list")).is_err());
}

#[test]
fn one_repository_has_one_address() {
    assert!(get("/v2/a/tags/list").is_ok());
    for other in
        ["/v2a/tags/list", "/va/tags/list", "a/tags/list", "/v2//a/tags/list", "/v2/a//tags/list", "//v2/a/tags/list"]
    {
        assert!(get(other).is_err(), "{other}");
    }
}

#[test]
fn digest_that_is_no_digest_is_not_taken_for_a_tag() {
    let hex = Digest::sha256(b"x").hex();
    for wrong in
        ["sha256:baddigeststring", "sha256:..", &format!("sha256:{}", hex.to_uppercase()), "md5:abc", ":", "a:"]
    {
        assert_eq!(get(&format!("/v2/a/manifests/{wrong}")).unwrap_err().code, Code::DigestInvalid, "{wrong}");
        assert_eq!(get(&format!("/v2/a/blobs/{wrong}")).unwrap_err().code, Code::DigestInvalid, "{wrong}");
    }
}

#[test]
fn upload_begins_in_four_ways() {
    let digest = Digest::sha256(b"x");
    let begin = |query: &str| match with(&Method::POST, "/v2/a/blobs/uploads/", query).unwrap() {
        Action::Begin(_, start) => start,
        other => panic!("{other:?}"),
    };
    assert_eq!(begin(""), Start::Session { algorithm: Algorithm::Sha256 });
    assert_eq!(begin("digest-algorithm=sha512"), Start::Session { algorithm: Algorithm::Sha512 });
    assert_eq!(begin(&format!("digest={digest}")), Start::Whole { digest });
    assert_eq!(begin(&format!("mount={digest}&from=b")), Start::Mount { digest, from: Some(name("b")) });
    assert_eq!(begin(&format!("mount={digest}&from=../b")), Start::Mount { digest, from: None });
    assert!(with(&Method::POST, "/v2/a/blobs/uploads/", "digest=md5:x").is_err());
}

#[test]
fn page_is_bounded_whatever_is_asked() {
    for (query, limit) in [("n=99999999", PAGE_MAX), ("n=-1", PAGE_MAX), ("n=x", PAGE_MAX), ("n=0", 0), ("n=3", 3)] {
        let Action::Catalog(page) = get(&format!("/v2/_catalog?{query}")).unwrap() else { panic!() };
        assert_eq!(page.limit, limit, "{query}");
    }
}

#[test]
fn upload_name_cannot_leave_the_folder() {
    for id in ["..", "x", "../../etc/passwd", "%2e%2e"] {
        assert!(with(&Method::PATCH, &format!("/v2/a/blobs/uploads/{id}"), "").is_err(), "{id}");
    }
}

#[test]
fn method_that_an_address_does_not_know_is_405() {
    let refusal = with(&Method::POST, "/v2/a/tags/list", "").unwrap_err();
    assert_eq!(refusal.status, http::StatusCode::METHOD_NOT_ALLOWED);
}

#[test]
fn too_many_tags_are_refused() {
    let digest = Digest::sha256(b"x");
    let query: Vec<String> = (0..=TAGS_MAX).map(|n| format!("tag=t{n}")).collect();
    let refusal = with(&Method::PUT, &format!("/v2/a/manifests/{digest}"), &query.join("&")).unwrap_err();
    assert_eq!(refusal.status, http::StatusCode::URI_TOO_LONG);
}

proptest! {
    #[test]
    fn no_path_makes_the_parser_panic(path in "/v2/[a-z%/.:_0-9A-Z~-]{0,80}", query in "[a-z=&%0-9:]{0,40}") {
        for method in [Method::GET, Method::PUT, Method::POST, Method::PATCH, Method::DELETE] {
            drop(Action::parse(&method, &path, Some(&query)));
        }
    }
}
