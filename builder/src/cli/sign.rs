//! `nebh sign`: one more signature, in both forms, on something that is pushed already.

use nebh_face::{Exit, Failure, Globals, Out};
use nebh_oci::client::Client;
use nebh_oci::manifest::{Document, RawManifest};
use nebh_oci::media_type;
use nebh_oci::names::{Reference, Tag};
use nebh_trust::key::PrivateKey;
use nebh_trust::release::read_release;
use serde_json::json;

use super::signer::{SignArgs, names};
use crate::{publish, registry, release};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to sign: HOST/REPOSITORY:TAG, HOST/REPOSITORY@DIGEST, or both.
    pub reference: Reference,
    /// Keys.
    #[command(flatten)]
    pub keys: SignArgs,
    /// It is a release, and the key speaks for releases. With tag and digest given, the release tag is put afterwards.
    #[arg(long)]
    pub release: bool,
}

/// Runs it.
pub async fn run(args: &Args, globals: &Globals) -> Result<(), Failure> {
    let keys = args.keys.open_some()?;
    let client = registry::client()?;
    let manifest = registry::resolve(&client, &args.reference).await?;
    let is_release = read_release(&manifest).is_ok();
    if is_release != args.release {
        let failure = Failure::new(
            Exit::Usage,
            format!("{} is {}a release", args.reference, if is_release { "" } else { "not " }),
        );
        return Err(if is_release { failure.next("say --release, if it shall be signed as one") } else { failure });
    }
    let tags: Vec<Tag> = args.reference.tag().cloned().into_iter().collect();
    let mut signed = vec![manifest.clone()];
    if !is_release {
        signed.extend(images_of(&client, &args.reference, &manifest).await?);
    }
    for one in &signed {
        publish::sign(&client, args.reference.address(), one, &tags, &keys).await?;
    }
    if let (true, Some(tag), Some(_)) = (is_release, args.reference.tag(), args.reference.digest()) {
        release::put(&client, args.reference.address(), &manifest, tag).await?;
    }
    report(args, &manifest, &keys, globals);
    Ok(())
}

/// The images of an index: podman and skopeo look at the signature of the one that they pull, not at the index's.
async fn images_of(client: &Client, reference: &Reference, index: &RawManifest) -> Result<Vec<RawManifest>, Failure> {
    let Document::Index(index) = index.document() else { return Ok(Vec::new()) };
    let mut images = Vec::new();
    for child in index.manifests.iter().filter(|child| media_type::is_image(&child.media_type)) {
        let image = client.manifest(reference.address(), &child.digest).await;
        images.push(image.map_err(|error| registry::failure(&error))?);
    }
    Ok(images)
}

fn report(args: &Args, manifest: &RawManifest, keys: &[PrivateKey], globals: &Globals) {
    let digest = manifest.digest();
    let ids: Vec<String> = keys.iter().map(|key| key.id().to_string()).collect();
    let value = json!({ "version": 1, "kind": "signed", "digest": digest, "keys": ids });
    let text = format!("signed   {}@{digest} with {}  (simple signing, bundle)", args.reference.address(), names(keys));
    Out::new(globals).result(&text, &value, &digest.to_string());
}
