//! `nebh verify`: the host's check, by hand. Asks the registry, changes nothing.

use std::path::{Path, PathBuf};

use clap::Args;
use nebh_face::{Exit, Failure, Globals, Out};
use nebh_oci::client::{Client, ClientError, ClientSettings};
use nebh_oci::digest::Digest;
use nebh_oci::layout::Layout;
use nebh_oci::manifest::{Document, RawManifest};
use nebh_oci::media_type::NEBH_RELEASE;
use nebh_oci::names::{Reference, RegistryHost, RepositoryAddress};
use nebh_trust::policy::TrustPolicy;
use nebh_trust::release::read_release;
use nebh_trust::verify::{Verified, verify_image, verify_release};
use serde::Serialize;

use super::state_default;
use crate::settings::Settings;

/// What is verified, and by what.
#[derive(Debug, Args)]
pub struct Verify {
    /// `host:port/repository:tag` or `…@sha256:…`.
    reference: Reference,
    /// The trust policy. Left out: that of the node's settings, else `trust.yaml` here.
    #[arg(long, value_name = "FILE", env = "NEBH_POLICY")]
    policy: Option<PathBuf>,
    /// Check the signatures only, and do not read what they are about byte by byte.
    #[arg(long)]
    signatures_only: bool,
    /// Registries besides loopback ones that are spoken to without TLS.
    #[arg(long, value_name = "HOST:PORT")]
    plain_http: Vec<RegistryHost>,
}

/// One line of the answer.
#[derive(Serialize)]
struct Line<'a> {
    version: u32,
    kind: &'static str,
    what: &'static str,
    digest: Digest,
    role: &'a str,
    signers: Vec<String>,
}

struct Check<'a> {
    client: Client,
    address: &'a RepositoryAddress,
    policy: TrustPolicy,
    out: Out,
    signatures_only: bool,
}

/// Verifies.
pub(super) async fn run(verify: Verify, globals: &Globals) -> Result<(), Failure> {
    let mut settings = ClientSettings { plain_http: verify.plain_http.iter().cloned().collect(), ..Default::default() };
    let policy = match (&verify.policy, &globals.settings) {
        (Some(policy), _) => policy.clone(),
        (None, Some(file)) => {
            let node = Settings::read(file, &state_default(globals))?;
            settings.plain_http.extend(node.plain_http);
            settings.docker_config = node.credentials;
            node.trust
        }
        (None, None) => PathBuf::from("trust.yaml"),
    };
    let client = Client::new(settings)
        .map_err(|error| Failure::new(Exit::Usage, "cannot set up the registry client").because(&error))?;
    let check = Check {
        client,
        address: verify.reference.address(),
        policy: read_policy(&policy)?,
        out: Out::new(globals),
        signatures_only: verify.signatures_only,
    };
    let manifest = check.client.resolve(&verify.reference).await.map_err(|error| unfetched(&error))?;
    let digest = *manifest.digest();
    if manifest.artifact_type() == Some(NEBH_RELEASE) {
        check.release(manifest).await?;
    } else {
        check.image(manifest).await?;
    }
    check.content(&digest).await
}

fn read_policy(path: &Path) -> Result<TrustPolicy, Failure> {
    crate::policy::read(path).map_err(|failure| failure.next("name the policy with --policy FILE"))
}

impl Check<'_> {
    /// The release itself, and each image in it: their signers are others.
    async fn release(&self, manifest: RawManifest) -> Result<(), Failure> {
        let attached = self.attached(manifest.digest()).await?;
        let now = jiff::Timestamp::now();
        let verified = verify_release(&self.policy, self.address.repository(), &manifest, &attached, now)?;
        self.say("release", &verified);
        let parts = read_release(&manifest).map_err(|error| {
            Failure::new(Exit::Refused, format!("{} is malformed", manifest.digest())).because(&error)
        })?;
        for image in &parts.images {
            let image = self.client.manifest(self.address, &image.digest).await.map_err(|error| unfetched(&error))?;
            self.image(image).await?;
        }
        Ok(())
    }

    async fn image(&self, manifest: RawManifest) -> Result<(), Failure> {
        let attached = self.attached(manifest.digest()).await?;
        let now = jiff::Timestamp::now();
        let verified = verify_image(&self.policy, self.address.repository(), &manifest, &attached, now)?;
        self.say("image", &verified);
        Ok(())
    }

    async fn attached(&self, digest: &Digest) -> Result<Vec<nebh_oci::manifest::Attached>, Failure> {
        self.client.attached(self.address, digest).await.map_err(|error| unfetched(&error))
    }

    /// Reads everything that the digest stands for, as a host does before it unpacks.
    async fn content(&self, digest: &Digest) -> Result<(), Failure> {
        if self.signatures_only {
            return Ok(());
        }
        let cannot =
            |error: &dyn std::error::Error| Failure::new(Exit::Failed, "cannot read the content").because(error);
        let folder = tempfile::tempdir().map_err(|error| cannot(&error))?;
        let layout = Layout::create(folder.path()).map_err(|error| cannot(&error))?;
        let pulled = self.client.pull_to_layout(self.address, digest, &layout).await;
        let manifest = pulled.map_err(|error| {
            // A registry that sets damaged bytes aside answers "not found".
            if error.is_not_found() { tampered(&error, "tampered with, or lost") } else { unfetched(&error) }
        })?;
        let parts = match manifest.document() {
            Document::Image(image) => image.layers.len() + 1,
            Document::Index(index) => index.manifests.len(),
        };
        self.out.note(&format!("content    {digest}: all {parts} parts are what their digests say"));
        Ok(())
    }

    fn say(&self, what: &'static str, verified: &Verified<RawManifest>) {
        let digest = *verified.value().digest();
        let line = Line {
            version: 1,
            kind: "verified",
            what,
            digest,
            role: verified.role(),
            signers: verified.signers().iter().map(ToString::to_string).collect(),
        };
        let text = format!("verified   {what} {}@{digest}, signed by {}", self.address, verified.signed_by());
        self.out.result(&text, &line, &digest.to_string());
    }
}

/// A registry that does not answer, one that lies, and one that has no such thing are three different answers.
fn unfetched(error: &ClientError) -> Failure {
    if error.is_tampered() {
        Failure::new(Exit::Refused, format!("{}: tampered with", error.address()))
            .because(error)
            .next("do not run it; compare with another copy, and ask the registry's operator to look at its disk")
    } else if error.is_unreachable() {
        Failure::new(Exit::Unreachable, format!("{} does not answer", error.address().registry()))
            .because(error)
            .next("what runs and what is prepared on a host does not need it")
    } else {
        Failure::new(Exit::Failed, format!("cannot verify anything in {}", error.address())).because(error)
    }
}

fn tampered(error: &ClientError, how: &str) -> Failure {
    Failure::new(Exit::Refused, format!("{}: {how}", error.address()))
        .because(error)
        .next("do not run it; compare with another copy, and ask the registry's operator to look at its disk")
}
