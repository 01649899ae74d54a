//! Keeps an entrance running: starts it if none answers, and again if it was killed.
//!
//! Side effects: starts `nebh entrance` in a process group of its own, so that what ends the agent does not reach it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::task::JoinHandle;

use super::client::{Entrance, EntranceError};
use crate::process;

/// How often the entrance is looked after. A killed one refuses connections for about this long.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long a new entrance may take to answer.
const START_STEPS_MAX: u32 = 1000;
const START_STEP: Duration = Duration::from_millis(5);

/// Watches over the entrance while it lives. Dropping it leaves the entrance running.
#[derive(Debug)]
pub struct Keeper {
    watch: JoinHandle<()>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl Keeper {
    /// Makes sure that an entrance answers, and keeps it so. `program` is this program's own path.
    pub async fn start(program: PathBuf, folder: PathBuf) -> Result<(Self, Entrance), EntranceError> {
        let entrance = start(&program, &folder).await?;
        let watch = tokio::spawn(async move {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                if let Err(error) = start(&program, &folder).await {
                    tracing::error!(%error, "cannot start the entrance");
                }
            }
        });
        Ok((Self { watch }, entrance))
    }
}

/// An entrance that answers: the one that runs, or a new one.
pub async fn start(program: &Path, folder: &Path) -> Result<Entrance, EntranceError> {
    let entrance = Entrance::at(folder);
    let Err(absence) = entrance.stats().await else { return Ok(entrance) };
    spawn(program, folder).map_err(|cause| EntranceError::Away { socket: folder.join("entrance.sock"), cause })?;
    for _ in 0..START_STEPS_MAX {
        if entrance.stats().await.is_ok() {
            return Ok(entrance);
        }
        tokio::time::sleep(START_STEP).await;
    }
    Err(absence)
}

fn spawn(program: &Path, folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let arguments: [&OsStr; 3] = ["entrance".as_ref(), "--folder".as_ref(), folder.as_ref()];
    process::detach(program, &arguments, &folder.join("entrance.log"))
}
