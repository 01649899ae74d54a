//! What happens during a build, for whoever watches: a terminal, a log, the build service. Dropping the receiving side
//! loses nothing but the telling.

use nebh_oci::digest::Digest;
use tokio::sync::mpsc;

/// Version of the wire form.
pub const EVENT_VERSION: u32 = 1;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum BuildEvent {
    /// The plan is made.
    Planned {
        /// The plan's digest.
        plan: Digest,
        /// Locked inputs.
        inputs: usize,
        /// Steps that the plan has.
        steps: usize,
    },
    /// The plan was built before: its image is here.
    Known {
        /// The plan's digest.
        plan: Digest,
        /// The image.
        image: Digest,
    },
    /// Inputs are on their way.
    Fetching {
        /// Inputs that are here.
        done: usize,
        /// Inputs of the lock.
        total: usize,
        /// Bytes that came in so far.
        bytes: u64,
    },
    /// Every input is here.
    Fetched {
        /// Inputs that were here before.
        here: usize,
        /// Inputs of the lock.
        total: usize,
        /// Bytes that came in.
        bytes: u64,
        /// How long it took.
        millis: u64,
    },
    /// A step begins.
    StepStarted {
        /// Its name.
        step: String,
        /// What it makes.
        what: String,
    },
    /// A line of a step's output.
    StepLog {
        /// The step's name.
        step: String,
        /// The line.
        line: String,
    },
    /// A step is done.
    StepDone {
        /// Its name.
        step: String,
        /// What it made.
        what: String,
        /// How long it took.
        millis: u64,
        /// True if its result was kept from before.
        kept: bool,
    },
    /// Something a person may want to know.
    Note {
        /// In words.
        text: String,
    },
    /// The layers are there.
    Layers {
        /// How many.
        total: usize,
        /// How many of them were kept from before.
        kept: usize,
        /// Compressed bytes that are new.
        bytes_new: u64,
        /// Compressed bytes of all.
        bytes: u64,
    },
    /// The image is there.
    Built {
        /// The plan's digest.
        plan: Digest,
        /// The image manifest's digest.
        image: Digest,
        /// How long it took, from the plan on.
        millis: u64,
    },
    /// A signature was made.
    Signed {
        /// Role or file of the key, and its short id.
        key: String,
        /// Which forms.
        forms: String,
    },
    /// The image is in a registry.
    Pushed {
        /// Where, by digest.
        reference: String,
        /// How long it took.
        millis: u64,
    },
}

/// Where events go. Cheap to clone, never blocks.
#[derive(Clone, Debug)]
pub struct Events(mpsc::UnboundedSender<BuildEvent>);

impl Events {
    /// Events, and the side that receives them.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<BuildEvent>) {
        let (to, from) = mpsc::unbounded_channel();
        (Self(to), from)
    }

    /// Events that nobody looks at.
    pub fn none() -> Self {
        Self::new().0
    }

    /// Tells one event.
    pub fn send(&self, event: BuildEvent) {
        // Nobody listening is the listener's choice.
        drop(self.0.send(event));
    }

    /// Tells a note.
    pub fn note(&self, text: impl Into<String>) {
        self.send(BuildEvent::Note { text: text.into() });
    }
}
