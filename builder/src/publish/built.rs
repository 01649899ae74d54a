//! The provenance of an image of our own pipeline.
//! Pure.

use jiff::Timestamp;
use nebh_trust::provenance::{Provenance, Source};

use super::provenance::{self, Facts};
use crate::assembly::ASSEMBLY;
use crate::image::oci_architecture;
use crate::pipeline::BuiltImage;
use crate::spec::{BUILDSPEC_FILE, Step};

/// What is told about `image`, whose commit was read at `address` (and there under `reference`, if that is known).
pub fn provenance(
    image: &BuiltImage,
    address: &str,
    reference: Option<String>,
    builder: &str,
    started: Timestamp,
    finished: Timestamp,
) -> Provenance {
    let checkout = &image.checkout;
    provenance::provenance(&Facts {
        source: Source {
            uri: address.to_owned(),
            commit: checkout.commit().id.to_string(),
            reference,
            directory: checkout.source().folder_in_repository().to_owned(),
        },
        buildspec: checkout.named(BUILDSPEC_FILE),
        platform: format!("linux/{}", oci_architecture(&image.lock.architecture)),
        steps: image.buildspec.steps.iter().map(|step| kind(step).to_owned()).collect(),
        configure: false,
        plan: image.plan,
        assembly: ASSEMBLY,
        lock: &image.lock,
        builder: builder.to_owned(),
        invocation: image.plan.hex(),
        started,
        finished,
    })
}

/// The name of a step's kind, as policies know it.
fn kind(step: &Step) -> &'static str {
    match step {
        Step::Rust(_) => "rust",
        Step::Files(_) => "files",
    }
}
