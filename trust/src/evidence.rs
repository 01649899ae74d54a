//! What is attached to a manifest, sorted into signatures and statements. Nothing here is believed yet. Pure.
//!
//! ```text
//!   Attached { manifest, layers } ──► Simple    { document, signature }   `sha256-<hex>.sig`
//!                                 ├─► Statement { envelope }              bundle, or a bare envelope (`.att`)
//!                                 ├─► fault                               ours to read, and unreadable
//!                                 └─► nothing                             an SBOM, a document of somebody else
//! ```
//!
//! Whoever may push to a repository may attach to its manifests, so all of it is bounded: what lies beyond the bounds
//! is counted and left out, never silently taken for "none".

use nebh_oci::digest::Digest;
use nebh_oci::manifest::{Attached, Descriptor, Document};
use nebh_oci::media_type::{COSIGN_SIMPLE_SIGNING, DSSE_ENVELOPE, SIGSTORE_BUNDLE_V03};

use crate::bundle::{Bundle, SIGSTORE_BUNDLE_V03_OLD};
use crate::dsse::Envelope;
use crate::simple;

/// Signatures that are tried. With the 64 keys a role may have, the worst case stays near a second.
pub(crate) const CANDIDATES_MAX: usize = 256;
/// Bytes of one attached blob that is read.
pub(crate) const BLOB_BYTES_MAX: usize = 4 << 20;
/// Bytes of a document of simple signing. cosign's have 250.
pub(crate) const SIMPLE_BYTES_MAX: usize = 64 * 1024;
/// Characters of a base64 signature: DER of P-256 has at most 72 bytes.
const SIGNATURE_LENGTH_MAX: usize = 256;

/// One thing that may turn out to be a signature or an attestation.
#[derive(Debug)]
pub(crate) enum Candidate {
    /// cosign's older form.
    Simple {
        /// The signed bytes.
        document: Vec<u8>,
        /// DER.
        signature: Vec<u8>,
    },
    /// A signed statement.
    Statement(Envelope),
}

/// Why an attached thing could not be read.
#[derive(Debug)]
pub(crate) struct Fault {
    /// Above a bound, as opposed to malformed.
    pub(crate) too_large: bool,
    /// For people.
    pub(crate) text: String,
}

/// All that was found.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) faults: Vec<Fault>,
    /// Candidates beyond [`CANDIDATES_MAX`].
    pub(crate) left_out: usize,
}

/// Sorts what is attached.
pub(crate) fn gather(attached: &[Attached]) -> Evidence {
    let mut evidence = Evidence::default();
    for (descriptor, bytes) in attached.iter().flat_map(parts) {
        if !is_ours(&descriptor.media_type) {
            continue;
        }
        if evidence.candidates.len() + evidence.faults.len() >= CANDIDATES_MAX {
            evidence.left_out += 1;
            continue;
        }
        match read(descriptor, bytes) {
            Ok(candidate) => evidence.candidates.push(candidate),
            Err(fault) => evidence.faults.push(fault),
        }
    }
    evidence
}

/// The layers as the hashed manifest lists them, each with its bytes; one blob may stand under several signatures.
fn parts(attached: &Attached) -> impl Iterator<Item = (&Descriptor, Option<&[u8]>)> {
    let layers = match attached.manifest.document() {
        Document::Image(image) => image.layers.as_slice(),
        Document::Index(_) => &[],
    };
    layers.iter().map(|descriptor| {
        let bytes = attached.layers.iter().find(|(held, _)| held.digest == descriptor.digest);
        (descriptor, bytes.map(|(_, bytes)| bytes.as_slice()))
    })
}

fn is_ours(media_type: &str) -> bool {
    [COSIGN_SIMPLE_SIGNING, SIGSTORE_BUNDLE_V03, SIGSTORE_BUNDLE_V03_OLD, DSSE_ENVELOPE].contains(&media_type)
}

fn read(descriptor: &Descriptor, bytes: Option<&[u8]>) -> Result<Candidate, Fault> {
    let name = descriptor.digest.short();
    let malformed = |text: String| Fault { too_large: false, text: format!("attached blob {name}: {text}") };
    let bytes = bytes.ok_or_else(|| malformed("its bytes were not fetched".to_owned()))?;
    let limit = if descriptor.media_type == COSIGN_SIMPLE_SIGNING { SIMPLE_BYTES_MAX } else { BLOB_BYTES_MAX };
    if bytes.len() > limit {
        let text = format!("attached blob {name} has {} bytes, more than {limit}", bytes.len());
        return Err(Fault { too_large: true, text });
    }
    // Size first, then digest: the fetcher did both, and this is the last place where it matters.
    if bytes.len() as u64 != descriptor.size || Digest::of(descriptor.digest.algorithm(), bytes) != descriptor.digest {
        return Err(malformed("its bytes are not those of its descriptor".to_owned()));
    }
    if descriptor.media_type == COSIGN_SIMPLE_SIGNING {
        let text = descriptor
            .annotations
            .get(simple::SIGNATURE_ANNOTATION)
            .ok_or_else(|| malformed("no signature stands beside it".to_owned()))?;
        let signature = (text.len() <= SIGNATURE_LENGTH_MAX)
            .then(|| crate::base64::decode(text))
            .flatten()
            .ok_or_else(|| malformed("its signature is not base64 of a P-256 signature".to_owned()))?;
        return Ok(Candidate::Simple { document: bytes.to_vec(), signature });
    }
    if descriptor.media_type == DSSE_ENVELOPE {
        return Envelope::parse(bytes).map(Candidate::Statement).map_err(|error| malformed(error.to_string()));
    }
    Bundle::parse(bytes)
        .map(|bundle| Candidate::Statement(bundle.into_envelope()))
        .map_err(|error| malformed(error.to_string()))
}
