//! The part `base`: a Debian base with 50 packages beside mmdebstrap and buildah.

use anyhow::{Result, bail};

use crate::Bench;
use crate::table::Section;

/// Measures the part.
pub(crate) fn run(_bench: &Bench) -> Result<Section> {
    bail!("this part is not measured yet")
}
