//! Trying again: only what a later try can help, not too often, not all at once.

use std::time::Duration;

use super::error::ClientError;
use super::{BACK_OFF_MAX, Client};

/// A failed try: worth another one, or not.
#[derive(Debug)]
pub(super) enum Setback {
    Later(ClientError, Option<Duration>),
    Final(ClientError),
}

impl From<ClientError> for Setback {
    fn from(error: ClientError) -> Self {
        if error.is_unreachable() { Self::Later(error, None) } else { Self::Final(error) }
    }
}

/// How many tries are left, and how long to wait before the next.
#[derive(Debug)]
pub(super) struct Tries {
    retries: u32,
    left: u32,
    first: Duration,
    wait: Duration,
}

impl Tries {
    /// Waits before the next try, or gives the error back when there is none.
    pub(super) async fn pause(&mut self, setback: Setback) -> Result<(), ClientError> {
        let (error, after) = match setback {
            Setback::Final(error) => return Err(error),
            Setback::Later(error, _) if self.left == 0 => return Err(error),
            Setback::Later(error, after) => (error, after),
        };
        self.left -= 1;
        let wait = jittered(self.wait).max(after.unwrap_or_default()).min(BACK_OFF_MAX);
        self.wait = (self.wait * 2).min(BACK_OFF_MAX);
        tracing::warn!(error = %error, wait_ms = wait.as_millis(), tries_left = self.left, "trying again");
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// Something was gained: the next failure is a first one again.
    pub(super) fn renew(&mut self) {
        self.left = self.retries;
        self.wait = self.first;
    }
}

/// Between half of `wait` and all of it, so that a thousand hosts do not come back in the same instant.
fn jittered(wait: Duration) -> Duration {
    let random = uuid::Uuid::now_v7().as_u128() & 0xffff;
    let share = u32::try_from(random).unwrap_or(0);
    wait / 2 + wait / 2 * share / 0xffff
}

impl Client {
    pub(super) fn tries(&self) -> Tries {
        let (retries, first) = (self.inner.settings.retries, self.inner.settings.back_off);
        Tries { retries, left: retries, first, wait: first }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_between_half_and_whole() {
        let wait = Duration::from_secs(8);
        for _ in 0..1000 {
            let jittered = jittered(wait);
            assert!(jittered >= wait / 2 && jittered <= wait, "{jittered:?}");
        }
    }
}
