//! Locks written, read again, compared with buildspecs, and refused.

use super::*;

pub(crate) fn sample() -> (Buildspec, Lock) {
    let spec = Buildspec::parse(
        "buildspec.yaml",
        "name: shop/api\nbuild:\n  rust: { bins: [api] }\nimage: { base: debian/trixie, packages: [nginx] }\n",
    )
    .unwrap();
    let package = |name: &str, suite: &str| LockedPackage {
        name: name.to_owned(),
        version: "1:2.0~rc1+dfsg-3".to_owned(),
        architecture: "amd64".to_owned(),
        suite: suite.parse().unwrap(),
        size: 1234,
        sha256: Digest::sha256(name.as_bytes()),
        path: format!("pool/main/x/{name}_2.0~rc1+dfsg-3_amd64.deb"),
    };
    let suite = |name: &str, archive, expired| LockedSuite {
        suite: name.parse().unwrap(),
        archive,
        release: Digest::sha256(name.as_bytes()),
        date: jiff::Timestamp::from_second(1_700_000_000).unwrap(),
        signed_by: vec!["ABCD".to_owned()],
        expired,
    };
    let lock = Lock {
        request: Request::of(&spec),
        architecture: "amd64".to_owned(),
        suites: vec![
            suite("trixie", DebianArchive::Debian, false),
            suite("trixie-security", DebianArchive::DebianSecurity, true),
        ],
        image_packages: vec![package("libc6", "trixie"), package("nginx", "trixie-security")],
        toolchain: vec![package("gcc", "trixie"), package("libc6", "trixie")],
        language: Some(LockedLanguage::Rust {
            cargo_lock: Digest::sha256(b"cargo lock"),
            crates: vec![LockedCrate {
                name: "serde".to_owned(),
                version: "1.0.229".to_owned(),
                sha256: Digest::sha256(b"serde"),
            }],
        }),
    };
    (spec, lock)
}

#[test]
fn text_and_lock_are_the_same_thing() {
    let (_, lock) = sample();
    let text = lock.to_text();
    assert_eq!(Lock::parse("l", &text).unwrap(), lock, "{text}");
    assert_eq!(Lock::parse("l", &text).unwrap().to_text(), text);
}

#[test]
fn text_has_one_line_an_input() {
    let text = sample().1.to_text();
    let line = "  { name = \"gcc\", version = \"1:2.0~rc1+dfsg-3\", architecture = \"amd64\", suite = \"trixie\", size = 1234, sha256 = \"sha256:";
    assert!(text.contains(line), "{text}");
}

#[test]
fn fresh_lock_passes() {
    let (spec, lock) = sample();
    lock.check_fresh(&spec, Some(b"cargo lock")).unwrap();
}

#[test]
fn stale_lock_names_the_input() {
    let (spec, lock) = sample();
    let again = |from: &str, to: &str| {
        let text =
            "name: shop/api\nbuild:\n  rust: { bins: [api] }\nimage: { base: debian/trixie, packages: [nginx] }\n";
        let spec = Buildspec::parse("b", &text.replace(from, to)).unwrap();
        lock.check_fresh(&spec, Some(b"cargo lock")).unwrap_err().to_string()
    };
    assert_eq!(
        again("[nginx]", "[nginx, curl]"),
        "buildspec.lock is stale: package `curl` is asked for, but the lock was made without it\n  next: run `nebh lock` and commit its result"
    );
    assert!(again("[nginx]", "[]").contains("package `nginx` is asked for no more"));
    assert!(again("debian/trixie", "debian/forky").contains("`base` is `debian/forky`"));
    assert!(again("[api]", "[api], toolchain: debian/forky").contains("`toolchain` is `debian/forky`"));
    assert!(again("[api]", "[api], packages: [cmake]").contains("package `cmake` is asked for"));
    let stale = lock.stale(&spec, Some(b"other")).unwrap_err();
    assert!(matches!(stale, Stale::CargoLock { .. }), "{stale}");
    assert_eq!(lock.stale(&spec, None).unwrap_err(), Stale::CargoLockMissing);
}

#[test]
fn what_does_not_decide_inputs_leaves_a_lock_fresh() {
    let (_, lock) = sample();
    let text = "name: other\nbuild:\n  rust: { bins: [b], features: [x] }\nimage: { base: debian/trixie, packages: [nginx], cmd: [x] }\n";
    lock.check_fresh(&Buildspec::parse("b", text).unwrap(), Some(b"cargo lock")).unwrap();
}

#[test]
fn inputs_are_listed_once_each() {
    let inputs = sample().1.inputs();
    let names: Vec<String> = inputs.iter().map(|input| input.name.to_string()).collect();
    let version = "1:2.0~rc1+dfsg-3";
    assert_eq!(
        names,
        [
            format!("package gcc {version}"),
            format!("package libc6 {version}"),
            format!("package nginx {version}"),
            "crate serde 1.0.229".to_owned()
        ]
    );
    assert!(matches!(inputs[2].place, Place::Pool { archive: DebianArchive::DebianSecurity, .. }));
}

#[test]
fn malformed_locks_are_refused() {
    let text = sample().1.to_text();
    for (from, to, expected) in [
        ("version = 1\n", "version = 2\n", "version 2 of the lock format"),
        ("pool/main/x/gcc", "pool/../../x/gcc", "malformed path"),
        ("pool/main/x/gcc", "/pool/main/x/gcc", "malformed path"),
        ("pool/main/x/gcc", "pool/%2e%2E/.%2e/x/gcc", "malformed path"),
        ("name = \"nginx\"", "name = \"libc6\"", "locked twice"),
        ("suite = \"trixie\", size", "suite = \"sid\", size", "from suite `sid`"),
        ("architecture = \"amd64\", suite", "architecture = \"arm64\", suite", "is for `arm64`"),
        ("name = \"serde\"", "name = \"../serde\"", "malformed"),
        ("[rust]\n", "[rust]\nextra = 1\n", "not a lock"),
        ("[[suites]]\n", "[[suites]]\nextra = 1\n", "not a lock"),
    ] {
        assert!(text.contains(from), "{from}");
        let error = Lock::parse("buildspec.lock", &text.replace(from, to)).unwrap_err().to_string();
        assert!(error.starts_with("buildspec.lock: ") && error.contains(expected), "{error}");
    }
}
