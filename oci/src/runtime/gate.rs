//! Lets a created container go without one more start of the runtime program. Its first process waits until somebody
//! reads `exec.fifo` in the container's own folder; `runc start` is such a reader and does nothing else for a container
//! without hooks, but costs ten milliseconds, and on a busy machine many times that, in which callers wait.
//!
//! Side effects: reads and removes that one file. Whatever is not as expected is left to `runc start`.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::net::unix::pipe::OpenOptions;

/// The file's name, in runc as in crun.
const FIFO: &str = "exec.fifo";
/// A first process that does not answer by then is the runtime program's to explain.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Lets it go; false if the runtime program has to be asked.
pub(super) async fn open(container: &Path) -> bool {
    let fifo = container.join(FIFO);
    match tokio::time::timeout(ANSWER_WITHIN, read(&fifo)).await {
        Ok(Ok(count)) => count > 0,
        Ok(Err(_)) | Err(_) => false,
    }
}

async fn read(fifo: &Path) -> io::Result<usize> {
    let receiver = OpenOptions::new().open_receiver(fifo)?;
    // While the file is there the runtime program takes the container for one that was never started. Gone before the
    // program runs: whoever is killed here leaves no running program behind that counts as waiting.
    std::fs::remove_file(fifo)?;
    let mut byte = [0; 1];
    loop {
        receiver.readable().await?;
        match receiver.try_read(&mut byte) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
}
