//! Locks made from a small signed mirror on loopback. Its four suites were signed once by gpg, on 2026-06-01; all but
//! `trixie` are valid until 2026-06-08.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nebh_face::{Exit, Failure};

use super::*;
use crate::fetch::tests::{http, server};
use crate::upstream::UpstreamSettings;

const CARGO_LOCK: &str = "version = 4\n\n[[package]]\nname = \"mine\"\nversion = \"0.1.0\"\n";

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/debian/fixtures/mirror").join(name)
}

struct Mirror {
    _state: tempfile::TempDir,
    archive: InputArchive,
    upstreams: Upstreams,
    asked: Arc<AtomicUsize>,
}

/// The mirror; `change` may answer a path in another way.
async fn mirror(change: impl Fn(&str) -> Option<Vec<u8>> + Send + Sync + 'static) -> Mirror {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let address = server(move |request, _| {
        counted.fetch_add(1, Ordering::SeqCst);
        let path = request.split(' ').nth(1).unwrap();
        if let Some(changed) = change(path) {
            return changed;
        }
        let parts: Vec<&str> = path.split('/').collect();
        let Some(at) = parts.iter().position(|part| *part == "dists") else { return http("404 Not Found", "", b"") };
        let file = if path.ends_with("InRelease") { "InRelease" } else { "Packages.xz" };
        match std::fs::read(fixture(&format!("{}.{file}", parts[at + 1]))) {
            Ok(bytes) => http("200 OK", "", &bytes),
            Err(_) => http("404 Not Found", "", b""),
        }
    })
    .await;
    let state = tempfile::tempdir().unwrap();
    let settings = format!(
        "upstreams:\n  debian: {{ mirror: \"{address}/d\", security: \"{address}/s\", keyrings: [\"{}\"] }}\n",
        fixture("keyring.gpg").display()
    );
    Mirror {
        archive: InputArchive::open(state.path()).unwrap(),
        upstreams: Upstreams::from_machine(UpstreamSettings::parse("s", &settings).unwrap()),
        _state: state,
        asked,
    }
}

const IN_TIME: &str = "2026-06-02T00:00:00Z";
const LATE: &str = "2026-06-09T00:00:00Z";
const WEB: &str = "name: web\nimage: { base: debian/trixie, packages: [nginx] }\n";
const RUST: &str = "name: api\nbuild:\n  rust: { bins: [api] }\nimage: { base: debian/trixie }\n";

async fn made(
    mirror: &Mirror,
    spec: &str,
    previous: Option<&Lock>,
    update: Update,
    now: &str,
) -> Result<Lock, ResolveError> {
    let question = Question {
        buildspec: &Buildspec::parse("buildspec.yaml", spec).unwrap(),
        cargo_lock: Some(CARGO_LOCK.as_bytes()),
        previous,
        update,
        architecture: "amd64",
        now: now.parse().unwrap(),
    };
    lock(&question, &mirror.upstreams, &mirror.archive).await
}

async fn refused(mirror: &Mirror, spec: &str, now: &str) -> Failure {
    made(mirror, spec, None, Update::Nothing, now).await.unwrap_err().into()
}

fn versions(packages: &[LockedPackage]) -> String {
    packages.iter().map(|one| format!("{}={}", one.name, one.version)).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn image_has_base_request_and_what_they_need_with_updates_and_security() {
    let mirror = mirror(|_| None).await;
    let lock = made(&mirror, WEB, None, Update::Nothing, IN_TIME).await.unwrap();
    assert_eq!(
        versions(&lock.image_packages),
        "base-files=13 base-passwd=3 libc6=2.41 libssl=3.0-1+deb13u1 mawk=1 nginx=1.1"
    );
    let suites: Vec<&str> = lock.suites.iter().map(|suite| suite.suite.as_str()).collect();
    assert_eq!(suites, ["trixie", "trixie-security", "trixie-updates"]);
    assert!(lock.toolchain.is_empty() && lock.language.is_none());
    for suite in &lock.suites {
        let kept = mirror.archive.read(&suite.release, 1 << 20).unwrap();
        assert_eq!(kept, std::fs::read(fixture(&format!("{}.InRelease", suite.suite))).unwrap());
    }
    assert_eq!(Lock::parse("l", &lock.to_text()).unwrap(), lock);
    let again = made(&mirror, WEB, None, Update::Nothing, IN_TIME).await.unwrap();
    assert_eq!(again.to_text(), lock.to_text());
}

#[tokio::test]
async fn toolchain_takes_the_compiler_from_backports_and_the_rest_from_the_suite() {
    let mirror = mirror(|_| None).await;
    let lock = made(&mirror, RUST, None, Update::Nothing, IN_TIME).await.unwrap();
    let toolchain = versions(&lock.toolchain);
    assert!(toolchain.contains("cargo=1.96") && toolchain.contains("rustc=1.96"), "{toolchain}");
    assert!(toolchain.contains("gcc=1") && toolchain.contains("libllvm=22"), "{toolchain}");
    assert_eq!(versions(&lock.image_packages), "base-files=13 base-passwd=3 libc6=2.41 mawk=1");
}

#[tokio::test]
async fn toolchain_of_a_suite_without_backports_is_its_own() {
    let mirror = mirror(|path| path.contains("-backports").then(|| http("404 Not Found", "", b""))).await;
    let lock = made(&mirror, RUST, None, Update::Nothing, IN_TIME).await.unwrap();
    assert!(versions(&lock.toolchain).contains("rustc=1.85"));
}

#[tokio::test]
async fn missing_security_suite_is_no_reason_to_go_without() {
    let mirror = mirror(|path| path.contains("-security").then(|| http("404 Not Found", "", b""))).await;
    let failure = refused(&mirror, WEB, IN_TIME).await;
    assert_eq!(failure.to_string(), "suite `trixie-security` is not on the mirror");
}

#[tokio::test]
async fn expired_index_is_refused_unless_the_buildspec_accepts_it() {
    let mirror = mirror(|_| None).await;
    let failure = refused(&mirror, WEB, LATE).await;
    assert_eq!(failure.exit, Exit::Refused);
    assert_eq!(
        failure.to_string(),
        "the signed index of suite `trixie-security` was valid until 2026-06-08T08:00:00Z\n  \
         next: use a mirror that is up to date, or accept it: `accept-expired: [trixie-security]` in the buildspec"
    );
    let accepting = format!("{WEB}accept-expired: [trixie-security, trixie-updates]\n");
    let lock = made(&mirror, &accepting, None, Update::Nothing, LATE).await.unwrap();
    let expired: Vec<bool> = lock.suites.iter().map(|suite| suite.expired).collect();
    assert_eq!(expired, [false, true, true]);
}

#[tokio::test]
async fn changed_index_is_refused_as_changed() {
    let mirror = mirror(|path| {
        (path == "/d/dists/trixie/InRelease").then(|| {
            let text = std::fs::read_to_string(fixture("trixie.InRelease")).unwrap();
            http("200 OK", "", text.replace("Origin: Test", "Origin: Evil").as_bytes())
        })
    })
    .await;
    let failure = refused(&mirror, WEB, IN_TIME).await;
    assert_eq!(failure.exit, Exit::Refused);
    assert!(failure.to_string().contains("the text was changed"), "{failure}");
}

#[tokio::test]
async fn list_with_other_bytes_than_signed_is_refused() {
    let mirror = mirror(|path| {
        path.contains("/by-hash/").then(|| {
            let mut bytes = std::fs::read(fixture("trixie.Packages.xz")).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            http("200 OK", "", &bytes)
        })
    })
    .await;
    let failure = refused(&mirror, WEB, IN_TIME).await;
    assert!(failure.to_string().contains("package list of suite trixie"), "{failure}");
}

#[tokio::test]
async fn another_suites_index_is_refused() {
    let mirror = mirror(|path| {
        path.contains("trixie-security/InRelease")
            .then(|| http("200 OK", "", &std::fs::read(fixture("trixie.InRelease")).unwrap()))
    })
    .await;
    let failure = refused(&mirror, WEB, IN_TIME).await;
    assert!(failure.to_string().contains("with the signed index of `trixie, x-trixie`"), "{failure}");
}

#[tokio::test]
async fn only_a_changed_cargo_lock_asks_no_mirror() {
    let mirror = mirror(|_| None).await;
    let before = made(&mirror, RUST, None, Update::Nothing, IN_TIME).await.unwrap();
    let asked = mirror.asked.load(Ordering::SeqCst);
    let stale = Lock { language: None, ..before.clone() };
    let after = made(&mirror, RUST, Some(&stale), Update::Nothing, LATE).await.unwrap();
    assert_eq!(after, before);
    assert_eq!(mirror.asked.load(Ordering::SeqCst), asked);
}

#[tokio::test]
async fn locked_versions_stay_until_an_update_names_them() {
    let mirror = mirror(|_| None).await;
    let spec = "name: web\nimage: { base: debian/trixie, packages: [libssl] }\n";
    let mut before = made(&mirror, spec, None, Update::Nothing, IN_TIME).await.unwrap();
    for package in &mut before.image_packages {
        if package.name == "libssl" {
            package.version = "3.0".to_owned();
        }
    }
    let find = |lock: &Lock| versions(&lock.image_packages);
    let added = made(&mirror, WEB, Some(&before), Update::Nothing, IN_TIME).await.unwrap();
    assert!(find(&added).contains("libssl=3.0 "), "{}", find(&added));
    let only = |name: &str| Update::Only([name.to_owned()].into());
    let other = made(&mirror, WEB, Some(&before), only("nginx"), IN_TIME).await.unwrap();
    assert!(find(&other).contains("libssl=3.0 "));
    for update in [only("libssl"), Update::Everything] {
        let updated = made(&mirror, WEB, Some(&before), update, IN_TIME).await.unwrap();
        assert!(find(&updated).contains("libssl=3.0-1+deb13u1"));
    }
}

#[tokio::test]
async fn mirror_that_went_back_in_time_is_refused() {
    let mirror = mirror(|_| None).await;
    let mut before = made(&mirror, WEB, None, Update::Nothing, IN_TIME).await.unwrap();
    before.suites[0].date = IN_TIME.parse().unwrap();
    let failure: Failure = made(&mirror, WEB, Some(&before), Update::Everything, IN_TIME).await.unwrap_err().into();
    assert_eq!(failure.exit, Exit::Refused);
    assert!(failure.to_string().contains("older than the lock's"), "{failure}");
}

#[tokio::test]
async fn unknown_package_names_the_nearest() {
    let mirror = mirror(|_| None).await;
    let failure = refused(&mirror, &WEB.replace("[nginx]", "[ngnix]"), IN_TIME).await;
    assert_eq!(failure.exit, Exit::Usage);
    let text = failure.to_string();
    assert!(
        text.contains("package `ngnix` is in none of the suites trixie") && text.ends_with("did you mean `nginx`?"),
        "{text}"
    );
}

#[test]
fn crates_without_a_digest_of_the_registry_are_refused_by_name() {
    let with = |source: &str, checksum: &str| {
        let text = format!(
            "{CARGO_LOCK}\n[[package]]\nname = \"odd\"\nversion = \"1.2.3\"\nsource = \"{source}\"\n{checksum}"
        );
        crates(text.as_bytes()).map(|crates| crates.len()).map_err(|error| error.to_string())
    };
    let git = with("git+https://example.org/odd#0123456789012345678901234567890123456789", "");
    assert_eq!(git.unwrap_err(), "crate `odd 1.2.3` comes from git, which has no digest in Cargo.lock");
    let digest = format!("checksum = \"{}\"\n", "ab".repeat(32));
    let other = with("registry+https://example.org/index", &digest).unwrap_err();
    assert!(other.starts_with("crate `odd 1.2.3` comes from another registry"), "{other}");
    let standard = cargo_lock::package::SourceId::default().to_string();
    assert_eq!(with(&standard, &digest).unwrap(), 1);
    assert_eq!(with(&standard, "").unwrap_err(), "crate `odd 1.2.3` has no SHA-256 in Cargo.lock");
}

#[test]
fn checksum_of_long_letters_is_malformed_and_no_panic() {
    // As many bytes as a digest has, with a letter across the border of two of them; both forms of the file.
    let checksum = format!("aä{}", "a".repeat(61));
    let package = "[[package]]\nname = \"odd\"\nversion = \"1.2.3\"\n";
    let source = cargo_lock::package::SourceId::default();
    for text in [
        format!("{package}source = \"{source}\"\nchecksum = \"{checksum}\"\n"),
        format!("{package}source = \"{source}\"\n[metadata]\n\"checksum odd 1.2.3 ({source})\" = \"{checksum}\"\n"),
    ] {
        let malformed = nebh_face::failure::chain(&crates(text.as_bytes()).unwrap_err());
        assert!(malformed.ends_with(&format!("`{checksum}` is no checksum")), "{malformed}");
    }
}
