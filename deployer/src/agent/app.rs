//! The one loop: receive → step → append → perform. Outcomes come back as events.
//!
//! Await points are safe to drop: whatever is lost with the loop, the journal and the host know, and the next life
//! begins with `Restarted`.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use super::{AskError, Message, View, fresh_op, heads, perform};
use crate::crash::{self, Side};
use crate::host::{Host, Progress};
use crate::journal::{Entry, Journal};
use crate::machine::{Effect, Event, GenerationId, Observation, Phase, State, Transition, step};
use crate::settings::AppSettings;

/// One application being driven.
pub(super) struct App<H> {
    pub(super) settings: AppSettings,
    pub(super) host: Arc<H>,
    journal: Journal,
    entries: Arc<Mutex<Vec<Entry>>>,
    pub(super) view: watch::Sender<View>,
    pub(super) state: Arc<State>,
    pub(super) inbox: mpsc::Sender<Message>,
    row: mpsc::UnboundedSender<Effect>,
    orders: Option<mpsc::UnboundedReceiver<Effect>>,
    /// Effects beside the row. Dropping the loop ends them.
    pub(super) beside: JoinSet<()>,
    watching: Option<(GenerationId, AbortHandle)>,
    telling: Option<AbortHandle>,
    pub(super) follower: heads::Follower,
}

impl<H: Host> App<H> {
    pub(super) fn new(
        settings: AppSettings,
        host: Arc<H>,
        journal: Journal,
        entries: Arc<Mutex<Vec<Entry>>>,
        view: watch::Sender<View>,
        inbox: mpsc::Sender<Message>,
    ) -> Self {
        let state = view.borrow().state.clone();
        let (row, orders) = mpsc::unbounded_channel();
        Self {
            settings,
            host,
            journal,
            entries,
            view,
            state,
            inbox,
            row,
            orders: Some(orders),
            beside: JoinSet::new(),
            watching: None,
            telling: None,
            follower: heads::Follower::default(),
        }
    }

    pub(super) async fn run(mut self, mut messages: mpsc::Receiver<Message>, booted: Option<String>) {
        if let Some(orders) = self.orders.take() {
            self.beside.spawn(perform::row(self.host.clone(), orders, self.inbox.clone(), self.progress()));
        }
        let running = self.host.observe().await;
        let same_boot = booted.as_deref() == Some(self.journal.boot());
        let found = Event::Restarted { op: fresh_op(), found: Observation { running, same_boot } };
        if let Err(error) = self.take(&found) {
            tracing::error!(app = %self.settings.name, %error, "the application cannot be recovered");
        }
        self.view.send_modify(|view| view.looked = true);
        if self.settings.channel.is_some() {
            self.beside.spawn(heads::heads(self.host.clone(), self.inbox.clone()));
        }
        loop {
            // Nothing is lost when one branch wins: both are plain receives.
            tokio::select! {
                message = messages.recv() => match message {
                    Some(message) => self.receive(message),
                    None => return,
                },
                Some(ended) = self.beside.join_next() => {
                    if let Err(error) = ended && error.is_panic() {
                        tracing::error!(app = %self.settings.name, %error, "an effect ended wrongly");
                    }
                }
            }
        }
    }

    fn receive(&mut self, message: Message) {
        match message {
            Message::Ask { event, reply } => {
                let answer = self.take(&event);
                // Somebody who went away is told nothing; what was asked happens all the same.
                drop(reply.send(answer));
            }
            Message::Outcome(event) => {
                if let Err(error) = self.take(&event) {
                    tracing::debug!(app = %self.settings.name, event = event.name(), %error, "an outcome was not used");
                }
                self.after_outcome(&event);
            }
            Message::Head(head) => {
                self.follower.head(head.clone());
                self.view.send_modify(|view| view.head = Some(head));
            }
            Message::Again => self.follower.again(),
        }
        self.follow();
    }

    /// One event through the machine: decided, written down, shown, ordered.
    pub(super) fn take(&mut self, event: &Event) -> Result<u64, AskError> {
        if let Some(why) = &self.view.borrow().damaged {
            return Err(AskError::Journal(why.clone()));
        }
        if event.begins_something()
            && let Err(error) = self.journal.keep_space()
        {
            return Err(AskError::Full(nebh_face::failure::chain(&error)));
        }
        let at = Timestamp::now();
        let Transition { next, record, effects } = step(&self.state, event, at)?;
        crash::point("", record.name(), Side::Before);
        let entry = self.journal.append(record, event, at).map_err(|error| {
            let why = nebh_face::failure::chain(&error);
            tracing::error!(app = %self.settings.name, why, "the application is not driven any more");
            self.view.send_modify(|view| view.damaged = Some(why.clone()));
            AskError::Journal(why)
        })?;
        crash::point("", record.name(), Side::After);
        tracing::info!(app = %self.settings.name, seq = entry.seq, record = record.name(), event = event.name(), phase = next.phase.name());
        let seq = entry.seq;
        self.state = Arc::new(next);
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
        self.view.send_modify(|view| {
            view.seq = seq;
            view.state = self.state.clone();
            view.progress.retain(|id, _| perform::is_preparing(&self.state, *id));
        });
        self.unwatch();
        for effect in effects {
            self.order(effect);
        }
        Ok(seq)
    }

    fn order(&mut self, effect: Effect) {
        match effect {
            Effect::Watch { generation } => self.watch(generation),
            Effect::Report => self.report(),
            effect if effect.is_beside() => {
                let work = perform::beside(self.host.clone(), effect, self.inbox.clone(), self.progress());
                self.beside.spawn(work);
            }
            effect => {
                // The performer lives as long as this loop does.
                drop(self.row.send(effect));
            }
        }
    }

    fn watch(&mut self, generation: GenerationId) {
        let work = perform::watch(self.host.clone(), generation, self.inbox.clone());
        let handle = self.beside.spawn(work);
        if let Some((_, earlier)) = self.watching.replace((generation, handle)) {
            earlier.abort();
        }
    }

    /// A generation that does not serve any more is not watched any more.
    fn unwatch(&mut self) {
        if let Some((generation, _)) = &self.watching
            && self.state.phase.serving() != Some(*generation)
            && let Some((_, handle)) = self.watching.take()
        {
            handle.abort();
        }
    }

    fn progress(&self) -> impl Fn(GenerationId) -> Progress + Clone + Send + Sync + 'static {
        let view = self.view.clone();
        move |generation| {
            let view = view.clone();
            Progress::new(move |line| view.send_modify(|view| drop(view.progress.insert(generation, line))))
        }
    }

    fn report(&mut self) {
        let view = self.view.subscribe();
        let handle =
            self.beside.spawn(perform::report(self.host.clone(), self.settings.clone(), view, self.inbox.clone()));
        // Whatever the earlier one did not get through, this one says too.
        if let Some(earlier) = self.telling.replace(handle) {
            earlier.abort();
        }
    }

    /// True if a switch could begin.
    pub(super) fn is_quiet(&self) -> bool {
        matches!(self.state.phase, Phase::Empty | Phase::Serving(_))
    }

    pub(super) fn again_after(&mut self, delay: std::time::Duration) {
        let inbox = self.inbox.clone();
        self.beside.spawn(async move {
            tokio::time::sleep(delay).await;
            drop(inbox.send(Message::Again).await);
        });
    }
}
