//! How the builder speaks with registries: one client as the machine is set up, and what a failed call means to a person.

use std::path::PathBuf;

use nebh_face::{Exit, Failure};
use nebh_oci::client::{Client, ClientError, ClientErrorKind, ClientSettings};
use nebh_oci::manifest::{Attached, Descriptor, RawManifest};
use nebh_oci::names::{Reference, RepositoryAddress, Tag};

/// Bytes of one part of a small artifact: a signature, a statement, a config layer.
const PART_BYTES_MAX: u64 = 4 << 20;

/// A client with the credentials that docker's own file has, if there is one.
pub fn client() -> Result<Client, Failure> {
    let folder = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let folder = folder.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker")));
    let docker_config = folder.map(|folder| folder.join("config.json")).filter(|file| file.is_file());
    Client::new(ClientSettings { docker_config, ..ClientSettings::default() })
        .map_err(|error| Failure::new(Exit::Failed, "cannot set up the registry client").because(&error))
}

/// What a failed call means: the exit code follows from its kind.
pub fn failure(error: &ClientError) -> Failure {
    let failure = |exit| Failure::new(exit, error.to_string());
    if error.is_tampered() {
        return failure(Exit::Refused).next("do not use this registry until it is known what changed the bytes");
    }
    match error.kind() {
        ClientErrorKind::Unreachable { .. } => failure(Exit::Unreachable)
            .next(format!("see whether {} runs; nothing that is pushed already is lost", error.address().registry())),
        ClientErrorKind::Denied { .. } => failure(Exit::Refused),
        _ => failure(Exit::Failed),
    }
}

/// The manifest that a reference names: by digest if it has one, else by tag.
pub async fn resolve(client: &Client, reference: &Reference) -> Result<RawManifest, Failure> {
    client.resolve(reference).await.map_err(|error| {
        let failure = failure(&error);
        if error.is_not_found() { failure.next(format!("see whether {reference} was pushed")) } else { failure }
    })
}

/// What stands under a tag, with the bytes of its parts; none if nothing does.
pub async fn attached_at(
    client: &Client,
    address: &RepositoryAddress,
    tag: &Tag,
) -> Result<Option<Attached>, ClientError> {
    let manifest = match client.manifest_by_tag(address, tag).await {
        Ok(manifest) => manifest,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut layers = Vec::new();
    for layer in manifest.image().map(|image| image.layers.clone()).unwrap_or_default() {
        let bytes = part(client, address, &layer).await?;
        layers.push((layer, bytes));
    }
    Ok(Some(Attached { manifest, layers }))
}

/// The bytes of one part of a small artifact.
pub async fn part(client: &Client, address: &RepositoryAddress, part: &Descriptor) -> Result<Vec<u8>, ClientError> {
    client.blob_bytes(address, part, PART_BYTES_MAX).await
}
