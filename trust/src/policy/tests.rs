//! Policies that hold together, and the words for those that do not.

use super::*;
use crate::key::PrivateKey;

/// Keys by path, made on first use.
#[derive(Default)]
struct Keys(BTreeMap<String, String>);

impl Keys {
    fn load(&mut self, path: &str) -> Result<String, String> {
        if path.contains("missing") {
            return Err("no such file".to_owned());
        }
        let make = || PrivateKey::generate().unwrap().public().to_pem().unwrap();
        Ok(self.0.entry(path.to_owned()).or_insert_with(make).clone())
    }
}

fn parse(text: &str) -> Result<TrustPolicy, Failure> {
    let mut keys = Keys::default();
    TrustPolicy::parse("trust.yaml", text, &mut |path| keys.load(path))
}

fn refused(text: &str, expected: &str) {
    let failure = parse(text).unwrap_err();
    assert_eq!(failure.exit, Exit::Usage);
    assert!(failure.to_string().contains(expected), "{failure}");
}

/// The example of the interface, to the letter.
const EXAMPLE: &str = r#"
roles:
  builder:  { keys: [keys/builder.pub] }
  releaser: { keys: [keys/alice.pub, keys/bob.pub], threshold: 2 }
rules:                               # first match wins; what no rule matches is refused
  - match: shop/*
    image: builder
    release: releaser
    provenance: { source: "https://git.example/shop/*", custom-steps: refuse }
revoked: { keys: [], digests: [] }
"#;

#[test]
fn example_of_the_interface_is_read() {
    let policy = parse(EXAMPLE).unwrap();
    let rule = policy.rule(&"shop/api".parse().unwrap()).unwrap();
    assert_eq!(rule.describe(), "rule 1 (`shop/*`)");
    assert_eq!(policy.role(rule, Purpose::Image).unwrap().name(), "builder");
    assert_eq!(policy.role(rule, Purpose::Release).unwrap().threshold(), 2);
    assert_eq!(policy.role(rule, Purpose::Channel).unwrap().name(), "releaser");
    assert!(policy.role(rule, Purpose::Data).is_none());
    assert_eq!(rule.provenance().unwrap().custom_steps, CustomSteps::Refuse);
    assert!(policy.rule(&"other/api".parse().unwrap()).is_none());
}

#[test]
fn first_matching_rule_wins() {
    let text = EXAMPLE.replace("  - match: shop/*", "  - { match: shop/api, image: releaser }\n  - match: \"**\"");
    let policy = parse(&text).unwrap();
    let role = |name: &str| {
        let rule = policy.rule(&name.parse().unwrap()).unwrap();
        policy.role(rule, Purpose::Image).unwrap().name().to_owned()
    };
    assert_eq!(role("shop/api"), "releaser");
    assert_eq!(role("shop/web"), "builder");
}

#[test]
fn policy_that_would_refuse_everything_is_refused_itself() {
    refused("roles: {}\nrules: []\n", "no rule");
    refused("{}", "trust.yaml:");
    refused("", "trust.yaml");
}

#[test]
fn misspelt_names_are_guessed() {
    refused(&EXAMPLE.replace("threshold", "treshold"), "did you mean `threshold`?");
    refused(&EXAMPLE.replace("image: builder", "image: bilder"), "did you mean `builder`?");
    refused(&EXAMPLE.replace("custom-steps: refuse", "custom-steps: reject"), "unknown value `reject`");
}

#[test]
fn roles_have_enough_distinct_keys() {
    refused(&EXAMPLE.replace("threshold: 2", "threshold: 3"), "threshold 3 with 2 key(s)");
    refused(&EXAMPLE.replace("threshold: 2", "threshold: 0"), "threshold 0");
    refused(&EXAMPLE.replace("keys: [keys/builder.pub]", "keys: []"), "threshold 1 with 0 key(s)");
    refused(&EXAMPLE.replace("keys/bob.pub", "keys/alice.pub"), "the same key twice");
}

#[test]
fn key_in_two_roles_is_refused() {
    refused(&EXAMPLE.replace("keys/bob.pub", "keys/builder.pub"), "plays two roles");
}

#[test]
fn unreadable_key_is_named_even_where_another_would_do() {
    refused(&EXAMPLE.replace("keys/bob.pub", "keys/missing.pub"), "cannot read key `keys/missing.pub`");
    let mut keys = Keys::default();
    let failure = TrustPolicy::parse("trust.yaml", EXAMPLE, &mut |path| {
        if path.contains("bob") { Ok("junk".to_owned()) } else { keys.load(path) }
    });
    assert!(failure.unwrap_err().to_string().contains("key `keys/bob.pub`: not a PEM key file"));
}

#[test]
fn revocations_are_ids_files_and_digests() {
    let id = "0".repeat(64);
    let digest = Digest::sha256(b"x");
    let revoked = format!("revoked: {{ keys: [\"{id}\", keys/alice.pub], digests: [\"{digest}\"] }}");
    let policy = parse(&EXAMPLE.replace("revoked: { keys: [], digests: [] }", &revoked)).unwrap();
    assert!(policy.is_key_revoked(id.parse().unwrap()));
    assert!(policy.is_key_revoked(policy.role_named("releaser").unwrap().keys()[0].id()));
    assert!(policy.is_digest_revoked(&digest));
    refused(&EXAMPLE.replace("digests: []", "digests: [latest]"), "`latest` is not a digest");
}

#[test]
fn fingerprint_follows_text_and_keys() {
    let mut keys = Keys::default();
    let one = TrustPolicy::parse("trust.yaml", EXAMPLE, &mut |path| keys.load(path)).unwrap();
    let same = TrustPolicy::parse("trust.yaml", EXAMPLE, &mut |path| keys.load(path)).unwrap();
    assert_eq!(one.fingerprint(), same.fingerprint());
    assert_ne!(one.fingerprint(), parse(EXAMPLE).unwrap().fingerprint());
}
