//! The pool of threads that may wait for the disk: what blocks runs there, so that the others go on serving.

use super::StoreError;

/// Runs a disk task on the blocking pool.
pub async fn blocking<T: Send + 'static>(task: impl FnOnce() -> T + Send + 'static) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(task).await.map_err(|_| StoreError::Ended)
}
