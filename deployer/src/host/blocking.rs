//! The way from async code to the disk.

use super::trouble;
use crate::machine::Trouble;

/// Work on the disk, off the async threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Trouble> + Send + 'static,
) -> Result<T, Trouble> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(trouble::failed(&error)),
    }
}
