//! The part `node`: switch and rollback windows under load beside docker, podman, and a held listener by hand.

use anyhow::{Result, bail};

use crate::Bench;
use crate::table::Section;

/// Measures the part.
pub(crate) fn run(_bench: &Bench) -> Result<Section> {
    bail!("this part is not measured yet")
}
