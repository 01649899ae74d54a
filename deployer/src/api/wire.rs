//! Paths and forms of the agent's API, for both ends.
//! Pure.

use std::collections::BTreeMap;

use nebh_face::{Exit, Failure};
use serde::{Deserialize, Serialize};

use crate::journal::Entry;
use crate::machine::{AppName, DataMove, GenerationId, NodeName, OpId, ReleaseRef, RollbackWish, State, TimelineId};

/// Version of the forms.
pub const VERSION: u32 = 1;
/// Longest time that the agent keeps a question for news open.
pub const WAIT_MS_MAX: u64 = 25_000;
/// `GET` → [`Status`].
pub const STATUS: &str = "/api/v1/status";
/// `GET` with [`NewsQuery`] → [`News`].
pub const NEWS: &str = "/api/v1/news";
/// `POST` [`Prepare`] → [`Taken`].
pub const PREPARE: &str = "/api/v1/prepare";
/// `POST` [`Switch`] → [`Taken`].
pub const SWITCH: &str = "/api/v1/switch";
/// `POST` [`Commit`] → [`Taken`].
pub const COMMIT: &str = "/api/v1/commit";
/// `POST` [`Rollback`] → [`Taken`].
pub const ROLLBACK: &str = "/api/v1/rollback";
/// `POST` [`Rollback`] → [`Planned`]; changes nothing.
pub const ROLLBACK_PLAN: &str = "/api/v1/rollback/plan";
/// `POST` [`Adopt`] → [`Taken`].
pub const ADOPT: &str = "/api/v1/data/adopt";
/// `GET` with [`LogsQuery`] → the bytes that the program wrote.
pub const LOGS: &str = "/api/v1/logs";

/// How the node stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Version of the form.
    pub version: u32,
    /// The node.
    pub node: NodeName,
    /// Its applications.
    pub apps: Vec<AppStatus>,
}

/// How one application stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AppStatus {
    /// Its name.
    pub app: AppName,
    /// Number of its last record.
    pub seq: u64,
    /// The word for where it stands.
    pub phase: String,
    /// Everything that is known.
    pub state: State,
    /// The followed head.
    pub head: Option<HeadStatus>,
    /// Progress of what is being prepared.
    pub progress: BTreeMap<GenerationId, String>,
    /// Why it is not driven at all, if so.
    pub damaged: Option<String>,
    /// What a person could do now.
    pub choices: Vec<Choice>,
}

/// A command and its meaning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// To type.
    pub command: String,
    /// What would serve.
    pub gives: String,
}

/// The followed head.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HeadStatus {
    /// Its counter.
    pub counter: u64,
    /// The release to run.
    pub current: ReleaseRef,
}

/// Which news.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NewsQuery {
    /// Of which application; may be left out where there is one.
    pub app: Option<AppName>,
    /// Records after this number.
    pub after: u64,
    /// How long to wait for one, in milliseconds.
    #[serde(default)]
    pub wait_ms: u64,
}

/// Records, and how the application stands after the last of them.
///
/// In the middle of a change there are records only: the status grows with the history, and those who write it and read
/// it would take the processor from those for whom the callers wait.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct News {
    /// Version of the form.
    pub version: u32,
    /// Oldest first.
    pub entries: Vec<Entry>,
    /// After them; none while the entrance holds.
    pub status: Option<AppStatus>,
}

/// Makes something ready.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prepare {
    /// Of which application.
    pub app: Option<AppName>,
    /// Version or digest; absent means what the followed channel names.
    pub to: Option<String>,
    /// Instead: the program of the first with the config of the second.
    pub mix: Option<(GenerationId, GenerationId)>,
}

/// "Go!"
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Switch {
    /// Of which application.
    pub app: Option<AppName>,
    /// Version, digest or generation; absent means what the channel names, else the newest that is prepared.
    pub to: Option<String>,
}

/// Accepts what is on probation.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Commit {
    /// Of which application.
    pub app: Option<AppName>,
}

/// Back, or to other data.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// Of which application.
    pub app: Option<AppName>,
    /// Where to.
    #[serde(default)]
    pub want: RollbackWish,
}

/// Brings a left timeline back.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adopt {
    /// Of which application.
    pub app: Option<AppName>,
    /// Which.
    pub timeline: TimelineId,
}

/// Whose output.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LogsQuery {
    /// Of which application.
    pub app: Option<AppName>,
    /// Of which generation; absent means the live one.
    pub generation: Option<GenerationId>,
}

/// A wish was taken.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Taken {
    /// Version of the form.
    pub version: u32,
    /// Of which application.
    pub app: AppName,
    /// Number of the record.
    pub seq: u64,
    /// The operation, if it is one.
    pub op: Option<OpId>,
    /// The generation that it is about.
    pub generation: GenerationId,
}

/// What a rollback would do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Planned {
    /// Version of the form.
    pub version: u32,
    /// Of which application.
    pub app: AppName,
    /// The generation that would serve; absent if the pair has to be prepared first.
    pub to: Option<GenerationId>,
    /// Program and config to be paired, if so.
    pub mix: Option<(GenerationId, GenerationId)>,
    /// What would happen to the data.
    pub data: DataMove,
    /// The same as a sentence.
    pub text: String,
}

/// A failure on its way to a person.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fault {
    /// Version of the form.
    pub version: u32,
    /// Exit code of the command.
    pub exit: u8,
    /// True if the wish failed only because the release is not prepared.
    #[serde(default)]
    pub unprepared: bool,
    /// What happened.
    pub what: String,
    /// Why.
    pub why: Option<String>,
    /// What to do next.
    pub next: Option<String>,
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        let Failure { exit, what, why, next } = failure;
        Self { version: VERSION, exit: exit.code(), unprepared: false, what, why, next }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        let exit = match fault.exit {
            2 => Exit::Usage,
            3 => Exit::Refused,
            4 => Exit::Unreachable,
            5 => Exit::ChangedBack,
            6 => Exit::NeedsOperator,
            _ => Exit::Failed,
        };
        Failure { exit, what: fault.what, why: fault.why, next: fault.next }
    }
}
