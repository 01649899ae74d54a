//! Names: what parses, what does not, and that both directions agree.

use proptest::prelude::*;

use super::*;

#[test]
fn repository_follows_the_grammar_of_the_specification() {
    for good in ["a", "shop/api", "a.b_c__d-e---f/0", "library/nginx", &"a".repeat(255)] {
        assert_eq!(good.parse::<Repository>().unwrap().as_str(), good);
    }
    for bad in ["", "/", "a/", "/a", "a//b", "A", "a..b", "a___b", "-a", "a-", "a._b", "a b", "../a", "ä", "a%2fb"] {
        assert!(bad.parse::<Repository>().is_err(), "{bad}");
    }
    assert!("a".repeat(256).parse::<Repository>().is_err());
}

#[test]
fn tag_follows_the_grammar_of_the_specification() {
    for good in ["latest", "1.4.2", "_x", "A-b.C", &"t".repeat(128)] {
        assert_eq!(good.parse::<Tag>().unwrap().as_str(), good);
    }
    for bad in ["", ".a", "-a", "a b", "a/b", "a:b", "a@b", "ü", &"t".repeat(129)] {
        assert!(bad.parse::<Tag>().is_err(), "{bad}");
    }
}

#[test]
fn host_needs_a_mark_that_no_repository_has() {
    for good in ["localhost", "localhost:5000", "a.example", "127.0.0.1:1", "[::1]:5000", "[fe80::1]", "registry:443"] {
        assert_eq!(good.parse::<RegistryHost>().unwrap().as_str(), good);
    }
    for bad in [
        "",
        "shop",
        "a..b",
        "-a.b",
        "a.b-",
        "a.b:",
        "a.b:0",
        "a.b:080",
        "a.b:+1",
        "a.b:65536",
        "a.b:1:2",
        "[::1",
        "::1",
        "a_b.c",
        "a@b.c",
        "a.b/c",
    ] {
        assert!(bad.parse::<RegistryHost>().is_err(), "{bad}");
    }
    assert_eq!("Registry.Example:5000".parse::<RegistryHost>().unwrap().as_str(), "registry.example:5000");
    assert_eq!("[::1]:5000".parse::<RegistryHost>().unwrap().host(), "::1");
    assert_eq!("[::1]:5000".parse::<RegistryHost>().unwrap().port(), Some(5000));
    assert_eq!("[::1]".parse::<RegistryHost>().unwrap().port(), None);
}

#[test]
fn loopback_is_decided_by_the_text_alone() {
    for near in ["localhost", "localhost:1", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000"] {
        assert!(near.parse::<RegistryHost>().unwrap().is_loopback(), "{near}");
    }
    for far in ["127.0.0.1.example", "localhost.example", "10.0.0.1", "[::2]", "localhosts:1", "0.0.0.0:1"] {
        assert!(!far.parse::<RegistryHost>().unwrap().is_loopback(), "{far}");
    }
}

#[test]
fn reference_keeps_port_tag_and_digest_apart() {
    let digest = Digest::sha256(b"x");
    let text = format!("127.0.0.1:5000/shop/api:1.4.2@{digest}");
    let reference: Reference = text.parse().unwrap();
    assert_eq!(reference.address().to_string(), "127.0.0.1:5000/shop/api");
    assert_eq!(reference.tag().unwrap().as_str(), "1.4.2");
    assert_eq!(reference.digest(), Some(&digest));
    assert_eq!(reference.to_string(), text);

    let bare: Reference = "localhost:5000/a".parse().unwrap();
    assert_eq!((bare.tag(), bare.digest()), (None, None));
}

#[test]
fn reference_without_a_registry_says_so() {
    for text in ["nginx", "shop/api", "shop/api:1"] {
        let error = text.parse::<Reference>().unwrap_err();
        assert!(matches!(error, NameError::NoRegistry(_)), "{text}: {error}");
    }
    assert!(matches!("a.example/A".parse::<Reference>(), Err(NameError::Repository(_))));
    assert!(matches!("a.example/a:".parse::<Reference>(), Err(NameError::Tag(_))));
    assert!(matches!("a.example/a@sha256:1".parse::<Reference>(), Err(NameError::Digest(_))));
    assert!(matches!("a.example/a@b@c".parse::<Reference>(), Err(NameError::Digest(_))));
}

#[test]
fn tags_derived_from_digests_are_tags() {
    let short = Digest::sha256(b"x");
    assert_eq!(Tag::referrers_of(&short).as_str(), format!("sha256-{}", short.hex()));
    assert_eq!(Tag::signatures_of(&short).unwrap().as_str(), format!("sha256-{}.sig", short.hex()));
    let long = Digest::of(crate::digest::Algorithm::Sha512, b"x");
    assert!(Tag::referrers_of(&long).as_str().parse::<Tag>().is_ok());
    assert!(Tag::signatures_of(&long).is_none());
}

proptest! {
    #[test]
    fn reference_parse_of_display_is_identity(
        host in "([a-z]{1,8}\\.[a-z]{1,8}|localhost|[a-z]{1,5}:[1-9][0-9]{0,3}|\\[::[1-9a-f]\\]:80)",
        repository in "[a-z0-9]{1,6}((\\.|_|__|-)[a-z0-9]{1,4}){0,2}(/[a-z0-9]{1,5}){0,2}",
        tag in prop::option::of("[A-Za-z0-9_][A-Za-z0-9._-]{0,20}"),
        bytes in prop::option::of(any::<Vec<u8>>()),
    ) {
        let address = RepositoryAddress::new(host.parse().unwrap(), repository.parse().unwrap());
        let tag = tag.map(|tag| tag.parse().unwrap());
        let reference = Reference::new(address, tag, bytes.map(|bytes| Digest::sha256(&bytes)));
        prop_assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
    }

    #[test]
    fn any_text_that_parses_survives_a_round_trip(text in "[a-zA-Z0-9.:/@_\\[\\]-]{0,40}") {
        if let Ok(reference) = text.parse::<Reference>() {
            prop_assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
        }
    }
}
