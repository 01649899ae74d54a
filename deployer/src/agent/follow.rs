//! Following a channel: what the head names is made ready, and switched to where the settings say so. Also keeps the
//! shelf short. Decides only *what to ask*; whether it may be is the machine's business.

use std::collections::BTreeSet;
use std::time::Duration;

use nebh_oci::digest::Digest;

use super::app::App;
use super::fresh_op;
use crate::host::Host;
use crate::machine::{Author, Event, PrepareSource, ReleaseRef, shelf};
use crate::settings::SwitchMode;

/// First pause before a failed Prepare is tried again; doubles every time.
const AGAIN: Duration = Duration::from_secs(5);
/// Longest pause.
const AGAIN_MAX: Duration = Duration::from_mins(5);

impl<H: Host> App<H> {
    /// Looks what the head and the shelf ask for now.
    pub(super) fn follow(&mut self) {
        let Some(head) = self.follower.head.clone() else {
            return self.tidy(&BTreeSet::new());
        };
        let recent = usize::try_from(self.settings.keep_recent).unwrap_or(usize::MAX);
        let wanted = std::iter::once(&head.current).chain(head.recent.iter().take(recent)).chain(&head.pinned);
        for release in wanted {
            self.want(release);
        }
        if self.settings.switch == SwitchMode::Auto
            && self.is_quiet()
            && let Some(to) = self.state.prepared(&head.current.digest)
            && self.state.phase.serving() != Some(to)
            && !std::mem::replace(&mut self.follower.asked, true)
        {
            let asked = Event::SwitchAsked { op: fresh_op(), to, by: Author::Follower };
            if let Err(error) = self.take(&asked) {
                tracing::warn!(app = %self.settings.name, %error, "the followed release is not switched to");
            }
        }
        let keep = head.pinned.iter().chain(&head.recent).chain([&head.current]);
        self.tidy(&keep.map(|release| release.digest).collect());
    }

    /// Prepared, on its way, or latched bad.
    fn is_known(&self, digest: &Digest) -> bool {
        let made_from =
            |source: &PrepareSource| matches!(source, PrepareSource::Release { release } if release.digest == *digest);
        self.state.bad.contains_key(digest) || self.state.generations.values().any(|known| made_from(&known.source))
    }

    fn want(&mut self, release: &ReleaseRef) {
        if self.is_known(&release.digest) || self.follower.resting.contains(&release.digest) {
            return;
        }
        let source = PrepareSource::Release { release: release.clone() };
        if let Err(error) = self.take(&Event::PrepareAsked { source, by: Author::Follower }) {
            tracing::info!(app = %self.settings.name, %error, "a followed release is not prepared");
        }
    }

    fn tidy(&mut self, keep: &BTreeSet<Digest>) {
        if !self.is_quiet() {
            return;
        }
        let generations = shelf::surplus(&self.state, self.settings.keep_recent, keep);
        if !generations.is_empty()
            && let Err(error) = self.take(&Event::RetireAsked { generations })
        {
            tracing::info!(app = %self.settings.name, %error, "nothing is retired");
        }
    }

    /// A failed Prepare of the follower rests for a while before it is tried again.
    pub(super) fn after_outcome(&mut self, event: &Event) {
        let Event::PrepareFailed { why, .. } = event else { return };
        let Some(head) = &self.follower.head else { return };
        let wanted = std::iter::once(&head.current).chain(&head.recent).chain(&head.pinned);
        let missing: Vec<Digest> = wanted
            .map(|release| release.digest)
            .filter(|digest| !self.is_known(digest) && !self.follower.resting.contains(digest))
            .collect();
        tracing::warn!(app = %self.settings.name, %why, "a release could not be prepared");
        for digest in missing {
            let times = self.follower.failed.entry(digest).or_insert(0);
            *times += 1;
            let pause = AGAIN.saturating_mul(1 << (*times - 1).min(10)).min(AGAIN_MAX);
            self.follower.resting.insert(digest);
            self.again_after(pause);
        }
    }
}
