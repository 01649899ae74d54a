//! Other people's registry clients against our gateway: crane, oras, regctl. Each pulls what we signed, pushes what it
//! may, and hears a refusal in words it can print.

use std::path::{Path, PathBuf};
use std::process::Command;

use nebh_oci::manifest::{Artifact, RawManifest};
use nebh_oci::names::Tag;

use crate::support::release::sign;
use crate::support::{Site, client, fail, peer, peers, small_image, succeed};

/// A signed-only site, with one signed image under the tag `1.0.0` of `shop/hello`; `open/` takes everything.
struct Stage {
    site: Site,
    image: RawManifest,
}

impl Stage {
    async fn set() -> Self {
        let site = Site::start("signed");
        let address = site.address("shop/hello");
        let image = small_image("hello");
        client().push_artifact(&address, &image).await.expect("the image is stored");
        let tag: Tag = "1.0.0".parse().expect("a tag");
        let signed = sign(&client(), &address, &image.manifest, std::slice::from_ref(&tag), &site.builder).await;
        signed.expect("signatures are stored");
        client().push_manifest(&address, &image.manifest, Some(&tag)).await.expect("the tag is granted");
        Self { site, image: image.manifest }
    }

    fn name(&self, repository: &str, tag: &str) -> String {
        format!("127.0.0.1:{}/{repository}:{tag}", self.site.port)
    }

    /// What a foreign client pushed is ours to read, byte by byte the same.
    async fn holds(&self, repository: &str, tag: &str) -> RawManifest {
        let tag: Tag = tag.parse().expect("a tag");
        client().manifest_by_tag(&self.site.address(repository), &tag).await.expect("the manifest is there")
    }
}

/// A program of one of the extracted Debian roots, and a scratch folder for it.
struct Peer {
    root: PathBuf,
    folder: tempfile::TempDir,
}

impl Peer {
    fn find(suite: &str, program: &str) -> Option<Self> {
        let root = peers().join(suite);
        peer(&format!("{program} of {suite}"), root.join("usr/bin").join(program).exists()).then(|| {
            let folder = tempfile::tempdir().expect("a scratch folder");
            Self { root, folder }
        })
    }

    /// The program with the libraries of its own Debian, started in the scratch folder.
    fn run(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.root.join("usr/lib64/ld-linux-x86-64.so.2"));
        command.arg("--library-path").arg(self.root.join("usr/lib/x86_64-linux-gnu"));
        command.arg(self.root.join("usr/bin").join(program)).args(arguments);
        command.env("HOME", self.folder.path()).current_dir(&self.folder);
        command
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn crane_pulls_pushes_copies_and_is_refused_an_unsigned_tag() {
    let Some(crane) = Peer::find("sid", "crane") else { return };
    let stage = Stage::set().await;
    let signed = stage.name("shop/hello", "1.0.0");
    let run = |arguments: &[&str]| crane.run("crane", &[arguments, &["--insecure"]].concat());
    assert_eq!(succeed(&mut run(&["digest", &signed])).trim(), stage.image.digest().to_string());
    assert_eq!(succeed(&mut run(&["ls", &stage.site.address("shop/hello").to_string()])).lines().next(), Some("1.0.0"));
    succeed(&mut run(&["validate", "--remote", &signed]));
    succeed(&mut run(&["pull", "--format", "oci", &signed, "pulled"]));

    let copied = stage.name("open/hello", "copied");
    succeed(&mut run(&["copy", &signed, &copied]));
    assert_eq!(stage.holds("open/hello", "copied").await.bytes(), stage.image.bytes());
    let pushed = stage.name("open/hello", "pushed");
    succeed(&mut run(&["push", "pulled", &pushed]));
    assert_eq!(stage.holds("open/hello", "pushed").await.digest(), stage.image.digest());

    let other = Artifact { tag: "1".parse().ok(), ..small_image("nobody signed this") };
    client().push_artifact(&stage.site.address("open/other"), &other).await.expect("open takes everything");
    let refused = fail(1, &mut run(&["copy", &stage.name("open/other", "1"), &stage.name("shop/hello", "1.0.1")]));
    assert!(refused.contains("DENIED") && refused.contains("is unsigned"), "{refused}");
    assert!(refused.contains(&other.manifest.digest().to_string()), "{refused}");
}

async fn oras_attaches_and_finds(suite: &str) {
    let Some(oras) = Peer::find(suite, "oras") else { return };
    let stage = Stage::set().await;
    std::fs::write(oras.file("report.txt"), "nothing found\n").expect("a file");
    let artifact = stage.name("open/report", "1");
    let typed = ["--artifact-type", "application/vnd.example.report"];
    succeed(&mut oras.run("oras", &[&["push", "--plain-http"], &typed[..], &[&artifact, "report.txt"]].concat()));
    let subject = stage.name("shop/hello", "1.0.0");
    succeed(&mut oras.run("oras", &[&["attach", "--plain-http"], &typed[..], &[&subject, "report.txt"]].concat()));

    let found = client().referrers(&stage.site.address("shop/hello"), stage.image.digest()).await.expect("referrers");
    let ours = found.iter().filter(|entry| entry.artifact_type.as_deref() == Some(typed[1])).count();
    assert_eq!(ours, 1, "{found:?}");
    let listed = succeed(&mut oras.run("oras", &["discover", "--plain-http", "--format", "json", &subject]));
    assert!(listed.contains(typed[1]) && listed.contains("application/vnd.dev.sigstore.bundle.v0.3+json"), "{listed}");

    succeed(&mut oras.run("oras", &["pull", "--plain-http", "--output", "back", &artifact]));
    assert_eq!(std::fs::read_to_string(oras.file("back/report.txt")).expect("a file"), "nothing found\n");
    let refused =
        fail(1, &mut oras.run("oras", &["push", "--plain-http", &stage.name("shop/hello", "2"), "report.txt"]));
    assert!(refused.to_lowercase().contains("denied") && refused.contains("is unsigned"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn oras_of_trixie_attaches_and_finds_it_again() {
    oras_attaches_and_finds("trixie").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn oras_of_sid_attaches_and_finds_it_again() {
    oras_attaches_and_finds("sid").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn regctl_copies_with_referrers_and_lists_tags() {
    let regctl = peers().join("regctl");
    if !peer("regctl", regctl.exists()) {
        return;
    }
    let stage = Stage::set().await;
    let home = tempfile::tempdir().expect("a scratch folder");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&regctl);
        command.env("HOME", home.path()).args(arguments);
        command
    };
    let registry = format!("127.0.0.1:{}", stage.site.port);
    succeed(&mut run(&["registry", "set", "--tls", "disabled", "--skip-check", &registry]));
    let (signed, copied) = (stage.name("shop/hello", "1.0.0"), stage.name("open/hello", "copied"));
    assert_eq!(succeed(&mut run(&["image", "digest", &signed])).trim(), stage.image.digest().to_string());
    succeed(&mut run(&["image", "copy", "--referrers", &signed, &copied]));
    let found = client().referrers(&stage.site.address("open/hello"), stage.image.digest()).await.expect("referrers");
    assert!(!found.is_empty(), "the signature came along");
    assert_eq!(succeed(&mut run(&["tag", "ls", &format!("{registry}/open/hello")])).lines().next(), Some("copied"));
    let layout = format!("ocidir://{}:kept", Path::new(home.path()).join("layout").display());
    succeed(&mut run(&["image", "copy", &signed, &layout]));
    let refused = fail(1, &mut run(&["image", "copy", &signed, &stage.name("shop/elsewhere", "1.0.0")]));
    assert!(refused.contains("is unsigned"), "{refused}");
}
