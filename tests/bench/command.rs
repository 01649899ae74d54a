//! Programs that prepare a measurement and are not measured themselves.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// Runs a command that has to succeed; gives what it said.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    crate::scratch::goes_on()?;
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    ensure!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        said(&output.stdout),
        said(&output.stderr)
    );
    Ok(said(&output.stdout))
}
