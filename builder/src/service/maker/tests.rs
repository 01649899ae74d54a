//! The whole way in one process: a push, its webhook, the real pipeline, a registry, and what a host would find there.

use jiff::Timestamp;
use nebh_trust::verify::{verify_image, verify_provenance, verify_release};
use serde_json::json;

use super::super::queue::{BuildState, Delivery};
use super::super::reference::RefName;
use super::super::tests::Site;
use super::super::worker;
use super::super::{Service, queue, renewal};
use super::*;
use crate::lock::{LOCK_FILE, Lock, Request};
use crate::publish::tests::{client, policy};
use crate::publish::twin::Twin;
use crate::spec::{BUILDSPEC_FILE, Buildspec};

const SPEC: &str = "\
name: shop/api
build:
  files: { copy: [ { from: www, to: /srv/www } ] }
image: { base: debian/trixie, entrypoint: [/srv/www/run] }
";

/// A project whose image needs no package, so that nothing is fetched and nothing is run.
struct Shop {
    site: Site,
    twin: Twin,
    service: std::sync::Arc<Service>,
    pipeline: std::sync::Arc<Pipeline>,
}

impl Shop {
    async fn new() -> Self {
        use std::os::unix::fs::PermissionsExt;
        let (site, twin) = (Site::new(), Twin::start().await);
        let passphrase = site.path().join("passphrase");
        std::fs::write(&passphrase, "pw").unwrap();
        std::fs::set_permissions(&passphrase, std::fs::Permissions::from_mode(0o600)).unwrap();
        for name in ["b", "r"] {
            keys::create(site.path(), name, &Passphrase { file: Some(passphrase.clone()) }).unwrap();
        }
        let spec = Buildspec::parse(BUILDSPEC_FILE, SPEC).unwrap();
        let lock = Lock {
            request: Request::of(&spec),
            architecture: "amd64".to_owned(),
            suites: Vec::new(),
            image_packages: Vec::new(),
            toolchain: Vec::new(),
            language: None,
        };
        let release = "name: shop/api\nrun: { ports: [8080] }\n";
        let lock = lock.to_text();
        for (file, text) in
            [(BUILDSPEC_FILE, SPEC), (LOCK_FILE, lock.as_str()), ("release.yaml", release), ("www/index.html", "hello")]
        {
            let path = site.path().join("work/app").join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        site.git("work", &["add", "-A"]);
        site.push("app");
        let mut settings = site.settings();
        settings.sign.passphrase_file = Some(passphrase);
        for project in settings.projects.values_mut() {
            project.to = twin.address.clone();
            project.directory = "app".into();
            project.channel = Some("stable".to_owned());
        }
        let pipeline = std::sync::Arc::new(Pipeline::open(&settings).unwrap());
        let service = std::sync::Arc::new(Service::open(settings).await.unwrap());
        Self { site, twin, service, pipeline }
    }

    fn tag(&self, name: &str) {
        self.site.git("work", &["tag", name]);
        self.site.git("work", &["push", "-q", "origin", name]);
    }

    /// Lets a reference be built, and waits for the end.
    async fn build(&self, reference: RefName) -> queue::Build {
        let commit = self.site.git("work", &["rev-parse", "HEAD"]);
        let id = uuid::Uuid::now_v7().to_string();
        let delivery = Delivery {
            project: "shop/api".to_owned(),
            delivery: id,
            event: "push".to_owned(),
            reference,
            again: false,
        };
        let queue = &self.service.queue;
        queue.receive(&delivery, Timestamp::now()).await.unwrap();
        let build = queue.enqueue(&delivery, &commit, "r.example/shop", Timestamp::now()).await.unwrap();
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let worker = tokio::spawn(worker::run(self.service.clone(), self.pipeline.clone(), stopped));
        let mut changes = queue.changes();
        let ended = loop {
            changes.mark_unchanged();
            let now = queue.build(&build).await.unwrap().unwrap();
            if now.state.is_final() {
                break now;
            }
            changes.changed().await.unwrap();
        };
        stop.send(true).unwrap();
        worker.await.unwrap();
        ended
    }

    fn keys(&self) -> (PrivateKey, PrivateKey) {
        let passphrase = Passphrase { file: Some(self.site.path().join("passphrase")) };
        let open = |name: &str| keys::open(&self.site.path().join(name), &passphrase).unwrap();
        (open("b.key"), open("r.key"))
    }
}

fn outcome(build: &queue::Build) -> serde_json::Value {
    assert_eq!((build.state, &build.failure), (BuildState::Done, &None));
    serde_json::from_str(build.outcome.as_deref().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn pushed_branch_becomes_a_signed_image_with_provenance() {
    let shop = Shop::new().await;
    let build = shop.build(RefName::branch("main").unwrap()).await;
    let made = outcome(&build);
    assert_eq!(made["tags"], json!([&build.commit[..12], "main"]));
    assert_eq!(shop.twin.tag("main").as_deref(), made["image"].as_str());

    let client = client();
    let repository = shop.twin.address.repository();
    let manifest = client.manifest_by_tag(&shop.twin.address, &"main".parse().unwrap()).await.unwrap();
    let attached = client.attached(&shop.twin.address, manifest.digest()).await.unwrap();
    let (builder, releaser) = shop.keys();
    let believes = |key: &PrivateKey| {
        let text = "roles: { builder: { keys: [k] } }\nrules: [{ match: shop/*, image: builder }]\n";
        let pem = key.public().to_pem().unwrap();
        nebh_trust::policy::TrustPolicy::parse("t", text, &mut |_| Ok(pem.clone())).unwrap()
    };
    let now = Timestamp::now();
    verify_image(&believes(&builder), repository, &manifest, &attached, now).unwrap();
    verify_image(&believes(&releaser), repository, &manifest, &attached, now).unwrap_err();
    let provenance = verify_provenance(&believes(&builder), repository, &manifest, &attached, now).unwrap();
    let asked = &provenance.value().build_definition.external_parameters;
    assert_eq!((asked.source.commit.as_str(), asked.source.directory.as_str()), (build.commit.as_str(), "app"));
    assert_eq!(asked.source.reference.as_deref(), Some("refs/heads/main"));
    assert!(asked.source.uri.starts_with("file:///"), "{}", asked.source.uri);
}

#[tokio::test(flavor = "multi_thread")]
async fn pushed_version_tag_becomes_a_release_and_the_head_of_the_channel() {
    let shop = Shop::new().await;
    shop.tag("v1.0.0");
    let build = shop.build(RefName::tag("v1.0.0").unwrap()).await;
    let made = outcome(&build);
    assert_eq!((&made["release"]["version"], &made["release"]["head"]), (&json!("1.0.0"), &json!("stable#1")));
    assert_eq!(shop.twin.tag("1.0.0").as_deref(), made["release"]["digest"].as_str());

    let client = client();
    let (_, releaser) = shop.keys();
    let index = client.manifest_by_tag(&shop.twin.address, &"1.0.0".parse().unwrap()).await.unwrap();
    let attached = client.attached(&shop.twin.address, index.digest()).await.unwrap();
    let repository = shop.twin.address.repository();
    verify_release(&policy(&releaser), repository, &index, &attached, Timestamp::now()).unwrap();
    let release = read_release(&index).unwrap();
    assert_eq!(release.images[0].digest.to_string(), made["image"].as_str().unwrap());
    let head = channel::show(&client, &shop.twin.address, "stable", &[releaser.public().clone()]).await.unwrap();
    assert_eq!(head.unwrap().current.digest, *index.digest());
}

#[tokio::test(flavor = "multi_thread")]
async fn build_that_is_done_again_changes_nothing() {
    let shop = Shop::new().await;
    shop.tag("v1.0.0");
    shop.build(RefName::tag("v1.0.0").unwrap()).await;
    let before = shop.twin.order();
    // As after a crash between the last push and the queue's last row: the same build, from its beginning.
    let again = Pipeline::open(&shop.service.settings).unwrap();
    let build = shop.service.queue.builds(None).await.unwrap().remove(0);
    let project = shop.service.project("shop/api").unwrap();
    let (events, _received) = Events::new();
    let made = Made { project, build: &build, started: Timestamp::now(), events: &events };
    let outcome = again.run(&made).await.unwrap();
    assert_eq!(outcome.release.unwrap().head.as_deref(), Some("stable#1"));
    let new: Vec<_> = shop.twin.order().split_off(before.len());
    // The same names are put on the same digests; nothing is added under a digest of its own.
    assert!(new.iter().all(|entry| before.contains(entry)), "{new:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn older_release_that_runs_late_does_not_take_the_channel_back() {
    let shop = Shop::new().await;
    shop.tag("v1.0.0");
    let release = |version: &str, counter: u64| ReleaseIndex {
        digest: nebh_oci::digest::Digest::sha256(version.as_bytes()),
        images: Vec::new(),
        config: nebh_oci::manifest::Descriptor::empty(),
        statement: nebh_oci::manifest::Descriptor::empty(),
        version: version.parse().unwrap(),
        commit: "0".repeat(40).parse().unwrap(),
        counter,
    };
    shop.build(RefName::tag("v1.0.0").unwrap()).await;
    let project = shop.service.project("shop/api").unwrap();
    let build = shop.service.queue.builds(None).await.unwrap().remove(0);
    let (events, _received) = Events::new();
    let made = Made { project, build: &build, started: Timestamp::now(), events: &events };
    let (_, releaser) = shop.keys();
    let keys = [releaser];
    let stays = shop.pipeline.head(&made, "stable", &release("0.9.0", 1), &keys).await.unwrap();
    assert_eq!(stays, "stable#1");
    let moves = shop.pipeline.head(&made, "stable", &release("2.0.0", u64::MAX >> 12), &keys).await.unwrap();
    assert_eq!(moves, "stable#2");
}

#[tokio::test(flavor = "multi_thread")]
async fn service_signs_the_head_anew_and_does_not_make_an_old_one_young() {
    let shop = Shop::new().await;
    shop.tag("v1.0.0");
    shop.build(RefName::tag("v1.0.0").unwrap()).await;
    let (now, day) = (Timestamp::now(), jiff::SignedDuration::from_hours(24));
    let to = shop.twin.address.to_string();
    let first = shop.twin.tag("channel.stable").unwrap();
    let pass = async |days: i32| renewal::pass(&shop.service, &*shop.pipeline, now + day * days).await;
    pass(10).await;
    assert_eq!(shop.twin.tag("channel.stable").unwrap(), first);
    assert_eq!(shop.service.queue.floor(&to, "stable").await.unwrap().counter, 1);
    pass(21).await;
    let second = shop.twin.tag("channel.stable").unwrap();
    assert_ne!(second, first);
    assert_eq!(shop.service.queue.floor(&to, "stable").await.unwrap().counter, 2);
    // Whoever holds the registry puts the first head back, and waits.
    shop.twin.state.lock().unwrap().tags.insert("channel.stable".to_owned(), first.clone());
    pass(60).await;
    assert_eq!(shop.twin.tag("channel.stable").unwrap(), first);
    assert_eq!(shop.service.queue.floor(&to, "stable").await.unwrap().counter, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn release_of_the_service_and_of_a_person_are_the_same_one() {
    let shop = Shop::new().await;
    let app = shop.site.path().join("work/app");
    let release = "name: shop/api\nconfig: { from: config, mount: /etc/shop }\nrun: { ports: [8080] }\n";
    std::fs::write(app.join("release.yaml"), release).unwrap();
    std::fs::create_dir(app.join("config")).unwrap();
    std::fs::write(app.join("config/shop.toml"), "greeting = \"hello\"\n").unwrap();
    shop.site.git("work", &["add", "-A"]);
    shop.site.push("config");
    shop.tag("v1.0.0");
    let made = outcome(&shop.build(RefName::tag("v1.0.0").unwrap()).await);
    let by_hand = release::tests::make(&app, &shop.twin, "1.0.0", &[shop.keys().1]).await.unwrap();
    assert_eq!(made["release"]["digest"], by_hand.release.digest.to_string());
    assert!(!by_hand.is_new);
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_lock_fails_the_build_and_names_the_input() {
    let shop = Shop::new().await;
    let spec = SPEC.replace("entrypoint", "packages: [nginx], entrypoint");
    std::fs::write(shop.site.path().join("work/app").join(BUILDSPEC_FILE), spec).unwrap();
    shop.site.git("work", &["add", "-A"]);
    shop.site.push("stale");
    let build = shop.build(RefName::branch("main").unwrap()).await;
    assert_eq!(build.state, BuildState::Failed);
    let failure = build.failure.unwrap();
    assert!(failure.contains("nginx") && failure.contains("nebh lock"), "{failure}");
}

#[test]
fn branch_names_become_tags() {
    for (branch, tag) in [("main", "main"), ("feature/a b", "feature-a-b"), (".x", "x"), ("üx", "x")] {
        assert_eq!(branch_tag(branch).unwrap().as_str(), tag);
    }
    assert!(branch_tag("ü").is_err());
    assert!(branch_tag(&"x".repeat(300)).unwrap().as_str().len() <= TAG_LENGTH_MAX);
}

#[test]
fn branch_named_like_a_release_a_commit_a_signature_or_a_channel_takes_no_tag_of_those() {
    let signature = format!("sha256-{}.sig", "a".repeat(64));
    for branch in ["1.0.0", "deadbeefcafe", "DEADBEEFCAFE", "channel.stable", "/channel.stable", &signature] {
        let tag = branch_tag(branch).unwrap();
        assert_eq!(tag.as_str(), format!("branch-{}", branch.trim_start_matches('/')));
    }
    let long = format!("sha256-{}", "b".repeat(200));
    assert!(branch_tag(&long).unwrap().as_str().starts_with("branch-sha256-"));
}
