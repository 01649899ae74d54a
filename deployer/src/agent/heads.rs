//! The heads of the followed channel, as they come, and what is remembered of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use nebh_oci::digest::Digest;
use tokio::sync::mpsc;

use super::Message;
use crate::host::{Head, Host};

/// What the follower remembers. Nothing of it is needed after a restart.
#[derive(Debug, Default)]
pub(super) struct Follower {
    pub(super) head: Option<Head>,
    pub(super) failed: BTreeMap<Digest, u32>,
    pub(super) resting: BTreeSet<Digest>,
    /// What the head names was asked for: once, so that nobody is overruled who then chooses otherwise.
    pub(super) asked: bool,
}

impl Follower {
    pub(super) fn head(&mut self, head: Head) {
        // A head that is only renewed says nothing new; one that names an earlier release again does.
        if self.head.as_ref().is_none_or(|before| before.current.digest != head.current.digest) {
            self.asked = false;
        }
        self.head = Some(head);
        self.resting.clear();
    }

    /// A pause is over.
    pub(super) fn again(&mut self) {
        self.resting.clear();
    }
}

/// Hands every new head to the loop.
pub(super) async fn heads<H: Host>(host: Arc<H>, inbox: mpsc::Sender<Message>) {
    let mut seen = None;
    loop {
        let head = host.head(seen).await;
        seen = Some(head.counter);
        if inbox.send(Message::Head(head)).await.is_err() {
            return;
        }
    }
}
