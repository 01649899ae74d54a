//! The agent of one node: for every application one loop, and handles to ask it.
//!
//! ```text
//!   AppHandle::ask ─┐
//!   follower ───────┼─► inbox ─► step ─► journal.append ─► state, view ─► effects ─┬─► performer (one by one) ─► inbox
//!   outcomes ───────┘                                                             └─► beside (own tasks)      ─► inbox
//! ```
//!
//! Owns no file itself (the journal does) and no socket (the API does).

mod app;
mod follow;
mod heads;
mod perform;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};

use crate::host::{Head, Host};
use crate::journal::{Entry, Journal, JournalError, fold};
use crate::machine::{Event, GenerationId, OpId, Refused, State};
use crate::settings::AppSettings;

/// Messages that may wait for one loop. Each asker has one in flight; outcomes are a handful.
const INBOX_MAX: usize = 64;

/// What comes into a loop.
pub(crate) enum Message {
    /// Somebody asks, and waits for the answer.
    Ask { event: Event, reply: oneshot::Sender<Result<u64, AskError>> },
    /// An outcome.
    Outcome(Event),
    /// The followed channel has a new head.
    Head(Head),
    /// What the follower wanted failed a while ago: look again.
    Again,
}

/// Why a wish was not taken.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AskError {
    /// It does not fit the state.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// No space is left to write down how it would end: nothing was done.
    #[error("{0}")]
    Full(String),
    /// The journal cannot be written: nothing was done, and nothing will be.
    #[error("{0}")]
    Journal(String),
    /// The loop has ended.
    #[error("the agent is going down")]
    Gone,
}

/// What everybody may see of one application.
#[derive(Clone, Debug)]
pub struct View {
    /// Number of the last record.
    pub seq: u64,
    /// The state after it.
    pub state: Arc<State>,
    /// The followed head, if one was seen in this life of the agent.
    pub head: Option<Head>,
    /// Last line of progress of each Prepare on its way.
    pub progress: BTreeMap<GenerationId, String>,
    /// True once this life of the agent has looked what runs; until then the state is only what the journal says.
    pub looked: bool,
    /// Why the application is not driven at all: its journal is damaged or cannot be written.
    pub damaged: Option<String>,
}

/// A handle to one application's loop.
#[derive(Debug)]
pub struct AppHandle<H> {
    /// Its settings.
    pub settings: AppSettings,
    /// Its host.
    pub host: Arc<H>,
    inbox: mpsc::Sender<Message>,
    view: watch::Receiver<View>,
    entries: Arc<Mutex<Vec<Entry>>>,
}

impl<H: Host> AppHandle<H> {
    /// Hands in a wish and waits until it is refused, or durable if its record is. Gives the record's number.
    pub async fn ask(&self, event: Event) -> Result<u64, AskError> {
        if let Some(why) = &self.view.borrow().damaged {
            return Err(AskError::Journal(why.clone()));
        }
        let (reply, answer) = oneshot::channel();
        self.inbox.send(Message::Ask { event, reply }).await.map_err(|_| AskError::Gone)?;
        answer.await.map_err(|_| AskError::Gone)?
    }

    /// How it stands.
    pub fn view(&self) -> View {
        self.view.borrow().clone()
    }

    /// A receiver that wakes at every change.
    pub fn watch(&self) -> watch::Receiver<View> {
        self.view.clone()
    }

    /// Records after number `after` up to number `last`, oldest first.
    pub fn entries(&self, after: u64, last: u64) -> Vec<Entry> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let place = |seq| usize::try_from(seq).unwrap_or(usize::MAX).min(entries.len());
        // They count from 1 without gaps.
        entries[place(after).min(place(last))..place(last)].to_vec()
    }
}

/// A fresh operation id.
pub fn fresh_op() -> OpId {
    let random = uuid::Uuid::now_v7().as_bytes()[14..].iter().fold(0, |all, byte| (all << 8) | u16::from(*byte));
    OpId::compose(Timestamp::now().as_second(), random)
}

/// Starts the loop of one application. A journal that is damaged or locked gives a handle that only answers questions:
/// the other applications of the node are not its business. Has to be called inside of a runtime.
pub fn start<H: Host>(settings: AppSettings, dir: &std::path::Path, host: H) -> Running<H> {
    let host = Arc::new(host);
    let (inbox, messages) = mpsc::channel(INBOX_MAX);
    let opened = Journal::open(dir).map_err(|error| chain(&error)).and_then(|(journal, entries)| {
        let now = Timestamp::now();
        let state = fold(&entries, now).map_err(|(seq, refused)| {
            format!("record {seq} of the journal does not follow from those before it: {refused}")
        })?;
        Ok((journal, entries, state))
    });
    let (journal, entries, state, damaged) = match opened {
        Ok((journal, entries, state)) => (Some(journal), entries, state, None),
        Err(why) => (None, Vec::new(), State::new(Timestamp::now()), Some(why)),
    };
    let seq = entries.last().map_or(0, |entry| entry.seq);
    let booted = entries.last().map(|entry| entry.boot.clone());
    let entries = Arc::new(Mutex::new(entries));
    let view = View { seq, state: Arc::new(state), head: None, progress: BTreeMap::new(), looked: false, damaged };
    if let Some(why) = &view.damaged {
        tracing::error!(app = %settings.name, why, "the application is not driven");
    }
    let (publish, view) = watch::channel(view);
    let handle = AppHandle {
        settings: settings.clone(),
        host: host.clone(),
        inbox: inbox.clone(),
        view,
        entries: entries.clone(),
    };
    let task = journal.map(|journal| {
        let app = app::App::new(settings, host, journal, entries, publish, inbox);
        tokio::spawn(app.run(messages, booted))
    });
    Running { handle: Arc::new(handle), task }
}

/// A started application.
pub struct Running<H> {
    /// How to ask it.
    pub handle: Arc<AppHandle<H>>,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl<H> Running<H> {
    /// Ends the loop where it stands; what it was doing is found again by the next life.
    pub async fn stop(self) {
        if let Some(task) = self.task {
            task.abort();
            drop(task.await);
        }
    }
}

fn chain(error: &JournalError) -> String {
    nebh_face::failure::chain(error)
}
