//! One gate: its door (held or not, leading where), its figures, and how a connection waits at it.
//!
//! `held` and `in_flight` are a pair: a connection first counts itself in flight and then looks whether the gate is
//! held; the drain first sees the gate held and then looks at the count. Whichever comes second sees the other.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::wire::{Answer, GateStats};
use crate::netns::Namespace;
use crate::process::Process;

/// How long one connection waits for an open door. Longer than any switch; shorter than clients stay.
pub(super) const WAIT_MAX: Duration = Duration::from_mins(1);
/// How long answered connections must be still before a drain believes them finished.
const STILL_FOR: Duration = Duration::from_millis(20);
/// Step of the drain's look at the figures.
const DRAIN_STEP: Duration = Duration::from_millis(1);

/// Where a gate leads.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) target: Process,
    pub(super) inside: Arc<Namespace>,
}

#[derive(Debug)]
struct Door {
    held: bool,
    route: Option<Route>,
    held_since: Instant,
}

/// A gate and its figures.
#[derive(Debug)]
pub(super) struct Gate {
    name: String,
    door: watch::Sender<Door>,
    held: AtomicBool,
    started: Instant,
    last_byte_ms: AtomicU64,
    pub(super) accepted: AtomicU64,
    pub(super) open: AtomicU64,
    pub(super) in_flight: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) retried: AtomicU64,
    waiting: AtomicU64,
    held_ms_max: AtomicU64,
}

impl Gate {
    pub(super) fn new(name: &str) -> Self {
        let started = Instant::now();
        Self {
            name: name.to_owned(),
            door: watch::Sender::new(Door { held: false, route: None, held_since: started }),
            held: AtomicBool::new(false),
            started,
            last_byte_ms: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            open: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            retried: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            held_ms_max: AtomicU64::new(0),
        }
    }

    pub(super) fn is_held(&self) -> bool {
        self.held.load(SeqCst)
    }

    pub(super) fn target(&self) -> Option<Process> {
        self.door.borrow().route.as_ref().map(|route| route.target)
    }

    pub(super) fn hold(&self) {
        self.held.store(true, SeqCst);
        self.door.send_if_modified(|door| {
            let changed = !door.held;
            if changed {
                (door.held, door.held_since) = (true, Instant::now());
            }
            changed
        });
    }

    pub(super) fn release(&self) -> Answer {
        let waiting = self.waiting.load(SeqCst);
        let mut held_ms = 0;
        self.held.store(false, SeqCst);
        self.door.send_if_modified(|door| {
            let changed = door.held;
            if changed {
                held_ms = millis(door.held_since.elapsed());
                door.held = false;
            }
            changed
        });
        Answer::Released { waiting, held_ms }
    }

    pub(super) fn lead(&self, pid: u32) -> io::Result<()> {
        let target = Process::of(pid)?;
        if self.target() == Some(target) {
            return Ok(());
        }
        let inside = Arc::new(Namespace::of_process(pid)?);
        self.door.send_modify(|door| door.route = Some(Route { target, inside }));
        Ok(())
    }

    /// Waits until nothing that reached the program is unanswered: no connection is left, or all that are left
    /// were answered and have been still for a moment (kept open by their clients for a next request).
    pub(super) async fn drain(&self, within: Duration) -> Answer {
        let begun = Instant::now();
        loop {
            let in_flight = self.in_flight.load(SeqCst);
            let reached = self.open.load(SeqCst).saturating_sub(self.waiting.load(SeqCst));
            let is_still = in_flight == 0 && (reached == 0 || self.still_for() >= STILL_FOR);
            if is_still || begun.elapsed() >= within {
                return Answer::Drained { in_flight, waited_ms: millis(begun.elapsed()) };
            }
            tokio::time::sleep(DRAIN_STEP).await;
        }
    }

    /// Notes that a byte passed.
    pub(super) fn moved(&self) {
        self.last_byte_ms.store(millis(self.started.elapsed()), SeqCst);
    }

    fn still_for(&self) -> Duration {
        let last = Duration::from_millis(self.last_byte_ms.load(SeqCst));
        self.started.elapsed().saturating_sub(last)
    }

    /// Waits until the gate is not held.
    pub(super) async fn released(&self) {
        // The sender lives in this very gate, so waiting cannot fail.
        drop(self.door.subscribe().wait_for(|door| !door.held).await);
    }

    /// Waits until the gate is held.
    pub(super) async fn closed(&self) {
        drop(self.door.subscribe().wait_for(|door| door.held).await);
    }

    /// Waits until the gate is open and leads somewhere; `None` when that takes longer than anybody waits.
    pub(super) async fn passage(&self, until: Instant) -> Option<Route> {
        if let Some(route) = self.open_route() {
            return Some(route);
        }
        let begun = Instant::now();
        let waiting = Waiting::new(&self.waiting);
        let mut door = self.door.subscribe();
        let is_open = door.wait_for(|door| !door.held && door.route.is_some());
        let found = tokio::time::timeout_at(until, is_open).await;
        let route = found.ok().and_then(Result::ok).and_then(|door| door.route.clone());
        drop(waiting);
        self.held_ms_max.fetch_max(millis(begun.elapsed()), SeqCst);
        route
    }

    fn open_route(&self) -> Option<Route> {
        let door = self.door.borrow();
        if door.held { None } else { door.route.clone() }
    }

    pub(super) fn stats(&self) -> GateStats {
        let figure = |figure: &AtomicU64| figure.load(SeqCst);
        GateStats {
            gate: self.name.clone(),
            held: self.is_held(),
            pid: self.target().map(|target| target.pid),
            accepted: figure(&self.accepted),
            open: figure(&self.open),
            in_flight: figure(&self.in_flight),
            waiting: figure(&self.waiting),
            failed: figure(&self.failed),
            retried: figure(&self.retried),
            held_ms_max: figure(&self.held_ms_max),
        }
    }
}

/// Counts one more while it lives, also when its future is dropped.
pub(super) struct Waiting<'a>(&'a AtomicU64);

impl<'a> Waiting<'a> {
    pub(super) fn new(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
