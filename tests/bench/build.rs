//! The part `build`: builds of buildspecs/ledger beside `docker build` and the compiler alone.

use anyhow::{Result, bail};

use crate::Bench;
use crate::table::Section;

/// Measures the part.
pub(crate) fn run(_bench: &Bench) -> Result<Section> {
    bail!("this part is not measured yet")
}
