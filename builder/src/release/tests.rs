//! Releases made from a commit, read back as a host reads them.

use std::path::Path;
use std::process::Command;

use nebh_oci::manifest::Attached;

use super::*;
use crate::publish::tests::{Sample, client};
use crate::publish::twin::Twin;

const RELEASE: &str = "\
name: shop/api
config: { from: config, mount: /etc/shop }
data:
  ledger: { mount: /var/lib/shop, class: ledger, schema: { writes: 1, reads: [1] } }
run:
  ports: [8080]
  alive: { http: \":8080/healthz\", within: 30s }
";

pub(crate) struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    pub(crate) fn new() -> Self {
        let site = Self { dir: tempfile::tempdir().unwrap() };
        site.git(&["init", "-q", "-b", "main"]);
        site.write("release.yaml", RELEASE);
        site.write("config/shop.toml", "greeting = \"hello\"\n");
        site.commit();
        site
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let file = self.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }

    pub(crate) fn commit(&self) {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", "x"]);
    }

    fn git(&self, arguments: &[&str]) {
        let done = Command::new("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@example.test", "-c", "commit.gpgsign=false"])
            .args(arguments)
            .current_dir(self.path())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("HOME", self.path())
            .status()
            .unwrap();
        assert!(done.success(), "git {arguments:?}");
    }

    /// Publishes an image for the commit, and makes the release.
    pub(crate) async fn release(&self, twin: &Twin, version: &str, keys: &[PrivateKey]) -> Result<Made, Failure> {
        let source = Source::open(self.path()).unwrap();
        let commit = source.commit("HEAD").unwrap();
        let tag = commit_tag(commit.id.as_str()).unwrap();
        Sample::of("image", commit.id.as_str()).publish(twin, &[tag.as_str()], keys).await.unwrap();
        make(self.path(), twin, version, keys).await
    }
}

/// Makes a release of the newest commit of a repository, whose image is what the registry has for it.
pub(crate) async fn make(path: &Path, twin: &Twin, version: &str, keys: &[PrivateKey]) -> Result<Made, Failure> {
    let source = Source::open(path).unwrap();
    let commit = source.commit("HEAD").unwrap();
    let version = version.parse().unwrap();
    let request = Request { source: &source, commit: &commit, version, image: None, to: &twin.address, keys };
    create(&client(), &request).await
}

fn keys() -> [PrivateKey; 1] {
    [PrivateKey::generate().unwrap()]
}

#[tokio::test]
async fn release_is_read_back_with_image_config_and_statement() {
    let (twin, site, keys) = (Twin::start().await, Site::new(), keys());
    let made = site.release(&twin, "1.0.0", &keys).await.unwrap();
    let client = client();
    let reference = format!("{}:1.0.0", twin.address).parse().unwrap();
    let (release, statement) = show(&client, &reference).await.unwrap();
    assert_eq!(release, made.release);
    let commit = Source::open(site.path()).unwrap().commit("HEAD").unwrap();
    assert_eq!(statement.images[0].digest, *Sample::of("image", commit.id.as_str()).image.digest());
    assert_eq!(statement.data.len(), 1);

    let config = client.manifest(&twin.address, &release.config.digest).await.unwrap();
    let mut layers = Vec::new();
    for layer in &config.image().unwrap().layers {
        layers.push((layer.clone(), registry::part(&client, &twin.address, layer).await.unwrap()));
    }
    let config = ConfigSnapshot::read(&Attached { manifest: config, layers }).unwrap();
    assert_eq!(config.layers[0].files[0].bytes, b"greeting = \"hello\"\n");
    assert_eq!(config.layers[0].origin, format!("git+shop/api@{}#config", commit.id));

    let attached = client.attached(&twin.address, &release.digest).await.unwrap();
    let index = client.manifest(&twin.address, &release.digest).await.unwrap();
    let policy = crate::publish::tests::policy(&keys[0]);
    let now = jiff::Timestamp::now();
    nebh_trust::verify::verify_release(&policy, twin.address.repository(), &index, &attached, now).unwrap();
    assert_eq!(list(&client, &twin.address).await.unwrap(), [release]);
}

#[tokio::test]
async fn index_is_signed_before_the_release_tag_is_put() {
    let (twin, site) = (Twin::start().await, Site::new());
    let made = site.release(&twin, "1.0.0", &keys()).await.unwrap();
    let order = twin.order();
    let at = |what: String| order.iter().position(|entry| *entry == what).unwrap();
    let index = at(format!("manifest {}", made.release.digest));
    assert!(at(format!("manifest sha256-{}.sig", made.release.digest.hex())) < index);
    assert_eq!(at("manifest 1.0.0".to_owned()), index + 1);
}

#[tokio::test]
async fn same_commit_gives_the_same_release_and_another_one_cannot_take_its_tag() {
    let (twin, site, keys) = (Twin::start().await, Site::new(), keys());
    let first = site.release(&twin, "1.0.0", &keys).await.unwrap();
    let again = site.release(&twin, "1.0.0", &keys).await.unwrap();
    assert_eq!((again.release.digest, first.is_new, again.is_new), (first.release.digest, true, false));

    site.write("config/shop.toml", "greeting = \"bye\"\n");
    site.commit();
    let refused = site.release(&twin, "1.0.0", &keys).await.unwrap_err();
    assert!(refused.to_string().contains("release 1.0.0 of "), "{refused}");
    assert!(refused.to_string().contains("exists with other content"), "{refused}");
    assert_eq!(twin.tag("1.0.0"), Some(first.release.digest.to_string()));
}

#[tokio::test]
async fn release_of_a_clone_elsewhere_is_the_same_one() {
    let (twin, site, keys) = (Twin::start().await, Site::new(), keys());
    let first = site.release(&twin, "1.0.0", &keys).await.unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let clone = elsewhere.path().join("clone");
    site.git(&["clone", "-q", ".", clone.to_str().unwrap()]);
    let again = make(&clone, &twin, "1.0.0", &keys).await.unwrap();
    assert_eq!((again.release.digest, again.is_new), (first.release.digest, false));
}

#[tokio::test]
async fn foreign_image_under_the_short_name_of_the_commit_is_not_released() {
    let (twin, site, keys) = (Twin::start().await, Site::new(), keys());
    let commit = Source::open(site.path()).unwrap().commit("HEAD").unwrap();
    let tag = commit_tag(commit.id.as_str()).unwrap();
    // Another commit with the same first digits, or a branch of that name: signed by the same builder all the same.
    let other = format!("{}{}", tag.as_str(), "0".repeat(28));
    Sample::of("evil", &other).publish(&twin, &[tag.as_str()], &keys).await.unwrap();
    let refused = make(site.path(), &twin, "1.0.0", &keys).await.unwrap_err();
    assert!(refused.to_string().contains("is not the image of commit"), "{refused}");
    assert!(refused.to_string().contains(&format!("made of {other}")), "{refused}");
    assert_eq!(twin.tag("1.0.0"), None);
}

#[tokio::test]
async fn what_stands_only_on_disk_is_not_released() {
    let (twin, site, keys) = (Twin::start().await, Site::new(), keys());
    let first = site.release(&twin, "1.0.0", &keys).await.unwrap();
    site.write("config/secret.toml", "x = 1\n");
    site.write("config/shop.toml", "greeting = \"changed\"\n");
    let again = site.release(&twin, "1.0.0", &keys).await.unwrap();
    assert_eq!(again.release.digest, first.release.digest);
}

#[tokio::test]
async fn link_in_the_config_folder_is_refused() {
    let (twin, site) = (Twin::start().await, Site::new());
    std::os::unix::fs::symlink("shop.toml", site.path().join("config/link.toml")).unwrap();
    site.commit();
    let refused = site.release(&twin, "1.0.0", &keys()).await.unwrap_err();
    assert!(refused.to_string().contains("config file config/link.toml: is a link"), "{refused}");
}

#[tokio::test]
async fn misspelt_field_of_the_release_file_names_its_place() {
    let (twin, site) = (Twin::start().await, Site::new());
    site.write("release.yaml", &RELEASE.replace("alive:", "alife:"));
    site.commit();
    let refused = site.release(&twin, "1.0.0", &keys()).await.unwrap_err();
    assert_eq!(refused.exit, Exit::Usage);
    assert!(refused.to_string().starts_with("release.yaml:7:3: unknown field `alife`"), "{refused}");
}

#[tokio::test]
async fn release_without_an_image_says_how_to_get_one() {
    let (twin, site) = (Twin::start().await, Site::new());
    let failure = make(site.path(), &twin, "1.0.0", &keys()).await.unwrap_err();
    assert!(failure.to_string().contains("build it first (nebh build --to "), "{failure}");
}
