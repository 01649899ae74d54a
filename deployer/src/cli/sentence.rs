//! What a person is told: one sentence a colleague could read aloud.
//! Pure.

use nebh_face::{Exit, Failure};
use serde::Serialize;

use crate::api::wire::AppStatus;
use crate::journal::Entry;
use crate::machine::{
    AppName, DataMove, Event, GenerationId, Loss, Outcome, Phase, PrepareSource, Record, SnapshotKind, SnapshotName,
    Stage, State, TimelineStatus, Trouble, TroubleKind, Window,
};

/// A record as `--output json` shows it.
#[derive(Debug, Serialize)]
pub(super) struct Told<'a> {
    version: u32,
    kind: &'static str,
    app: &'a AppName,
    #[serde(flatten)]
    entry: Flat<'a>,
}

#[derive(Debug, Serialize)]
struct Flat<'a> {
    seq: u64,
    at: String,
    record: Record,
    event: &'a Event,
}

impl<'a> Told<'a> {
    pub(super) fn new(app: &'a AppName, entry: &'a Entry) -> Self {
        let entry = Flat { seq: entry.seq, at: entry.at.to_string(), record: entry.record, event: &entry.event };
        Self { version: 1, kind: "record", app, entry }
    }
}

/// `switch     held 31 ms, 0 requests lost`
pub(super) fn window(window: &Window) -> String {
    let Window { held_ms, lost, waited } = window;
    let waited = if *waited > 0 { format!(" ({waited} waited)") } else { String::new() };
    format!("switch     held {held_ms} ms, {lost} requests lost{waited}")
}

/// `prepared   1.1.0 verified on this host, way back to 1.0.0 rehearsed`
pub(super) fn prepared(state: &State, generation: GenerationId) -> String {
    let back = state.phase.serving().filter(|live| *live != generation);
    let back = back
        .map_or_else(|| "nothing runs yet".to_owned(), |live| format!("way back to {} rehearsed", state.version(live)));
    format!("prepared   {} ({generation}) verified on this host, {back}", state.version(generation))
}

/// How an operation ended: what to print, and the failure to end with.
pub(super) fn end(status: &AppStatus, outcome: &Outcome) -> (String, Option<Failure>) {
    let state = &status.state;
    match outcome {
        Outcome::Committed { live } => {
            (format!("committed  {} serves with the data of {}", state.version(*live), state.data.current), None)
        }
        Outcome::Done { live, data } => (done(state, *live, data), None),
        Outcome::ChangedBack { why, live, left, was_opened, data } => {
            let left = state.version(*left);
            let serves = live.map(|live| state.version(live));
            let text = changed_back(state, &left, why, serves.as_deref(), *was_opened, data);
            let what = match &serves {
                Some(live) => format!("the switch to {left} was taken back; {live} serves"),
                None => format!("{left} never came alive, and there was no older release"),
            };
            (text, Some(Failure::new(Exit::ChangedBack, what)))
        }
        Outcome::Cancelled { why, live } => {
            let serves = live.map(|live| state.version(live));
            let text = match &serves {
                Some(live) => format!(
                    "cancelled  {why}; nothing was changed: {live} serves with its data as before ({})",
                    state.data.current
                ),
                None => format!("cancelled  {why}; nothing was changed"),
            };
            let exit = if serves.is_some() { Exit::ChangedBack } else { Exit::Failed };
            (text, Some(Failure::new(exit, "the switch was cancelled").why(why.text.clone())))
        }
        Outcome::Stuck { why } => {
            (format!("stopped    {why}; both data states are intact, callers wait"), Some(needs_operator(status, why)))
        }
    }
}

fn changed_back(
    state: &State,
    left: &str,
    why: &str,
    serves: Option<&str>,
    was_opened: bool,
    data: &DataMove,
) -> String {
    let line = state.data.current;
    let Some(serves) = serves else {
        return format!("rolled back  {left} {why}; it was not open yet, so the data is as before ({line})");
    };
    match data {
        DataMove::Keep if was_opened => format!(
            "rolled back  {left} {why}; it was open, so its data is kept: {serves} serves with the new data ({line})\n             \
             the other choice:  nebh node rollback --data pre"
        ),
        DataMove::Keep => format!("rolled back  {left} {why}: {serves} serves with the data of {line}"),
        DataMove::Branch { .. } => format!(
            "rolled back  {left} {why}; it was not open yet, so its data is set aside: {serves} serves with the old data ({line})\n             \
             what was set aside:  nebh data list"
        ),
    }
}

fn done(state: &State, live: GenerationId, data: &DataMove) -> String {
    let version = state.version(live);
    match data {
        DataMove::Keep => format!("rolled back  {version} serves with the live data ({})", state.data.current),
        DataMove::Branch { snapshot, timeline } => {
            let left = left_behind(state, snapshot);
            format!("rolled back  {version} serves with {timeline}, a branch of {snapshot}{left}")
        }
    }
}

/// What a move of the data left, with the command that brings it back.
fn left_behind(state: &State, branched: &SnapshotName) -> String {
    let last =
        state.data.snapshots.values().filter(|facts| facts.kind == SnapshotKind::Abandoned && facts.name != *branched);
    match last.max_by_key(|facts| facts.at) {
        Some(facts) => {
            format!("\n             what was live is kept as {}:  nebh data adopt {}", facts.timeline, facts.timeline)
        }
        None => String::new(),
    }
}

/// The failure of an application that waits for a person.
pub(super) fn needs_operator(status: &AppStatus, why: &str) -> Failure {
    let choices: Vec<String> =
        status.choices.iter().map(|choice| format!("{:<44} {}", choice.command, choice.gives)).collect();
    let next = if choices.is_empty() {
        "switch to a release that can read the data: nebh node switch --to VERSION".to_owned()
    } else {
        format!("choose one of\n    {}", choices.join("\n    "))
    };
    Failure::new(Exit::NeedsOperator, format!("`{}` waits for an operator", status.app)).why(why.to_owned()).next(next)
}

/// The failure of an application whose journal cannot be used.
pub(super) fn damaged(app: &AppName, why: &str) -> Failure {
    Failure::new(Exit::NeedsOperator, format!("`{app}` is not driven"))
        .why(why.to_owned())
        .next("nothing was changed since; mend or move the journal, then start the agent again")
}

/// The failure that an effect's trouble means to a command.
pub(super) fn trouble(what: &str, trouble: &Trouble) -> Failure {
    let exit = match trouble.kind {
        TroubleKind::Refused => Exit::Refused,
        TroubleKind::Unreachable => Exit::Unreachable,
        TroubleKind::Wrong => Exit::Usage,
        TroubleKind::NoSpace | TroubleKind::Failed => Exit::Failed,
    };
    Failure::new(exit, what).why(trouble.text.clone())
}

/// How one application stands.
pub(super) fn status(status: &AppStatus) -> String {
    let mut lines = vec![first_line(status)];
    if let Some(why) = &status.damaged {
        lines.push(format!("  not driven: {why}"));
    }
    if let Some(head) = &status.head {
        lines.push(format!("  channel    {} (head {})", head.current.version, head.counter));
    }
    let state = &status.state;
    for (id, known) in &state.generations {
        lines.push(match &known.stage {
            Stage::Preparing => {
                let progress = status.progress.get(id).map_or("", String::as_str);
                format!("  preparing  {id} {progress}").trim_end().to_owned()
            }
            Stage::Prepared(facts) => {
                let bad = if state.bad.contains_key(&facts.release.digest) { "  bad: was rolled back" } else { "" };
                format!("  prepared   {id} {}  {}{bad}", facts.release.version, facts.release.digest.short())
            }
            Stage::Retiring(_) => format!("  retiring   {id}"),
        });
    }
    for (id, timeline) in state.data.timelines.iter() {
        if state.data.status(*id) == TimelineStatus::Orphan {
            let by = timeline.generation.map(|id| format!(", last written by {}", state.version(id)));
            lines.push(format!("  left       {id}{}:  nebh data adopt {id}", by.unwrap_or_default()));
        }
    }
    lines.join("\n")
}

fn first_line(status: &AppStatus) -> String {
    let (app, state) = (&status.app, &status.state);
    let timeline = state.data.current;
    match (&state.phase, state.phase.serving()) {
        (Phase::Probation(_), Some(live)) => {
            format!("{app}: {} ({live}) is open, on probation, with the data of {timeline}", state.version(live))
        }
        (_, Some(live)) => format!("{app}: {} ({live}) serves with the data of {timeline}", state.version(live)),
        (Phase::NeedsOperator(stuck), None) => format!("{app}: waits for an operator: {}", stuck.why),
        (phase, None) => format!("{app}: {}", phase.name()),
    }
}

/// One record of the history.
pub(super) fn history(entry: &Entry) -> String {
    let more = match &entry.event {
        Event::PrepareAsked { source: PrepareSource::Release { release }, .. } => release.version.to_string(),
        Event::Prepared { generation, facts } => format!("{generation} {}", facts.release.version),
        Event::PrepareFailed { generation, why } => format!("{generation} {why}"),
        Event::SwitchAsked { op, to, .. } => format!("{op} to {to}"),
        Event::RollbackAsked { op, want } => {
            let data = want.data.map(|data| format!(", data {data}")).unwrap_or_default();
            format!("{op}{data}")
        }
        Event::Alive { after_ms, .. } => format!("alive after {after_ms} ms"),
        Event::Opened { window, .. } => format!("held {} ms, {} lost", window.held_ms, window.lost),
        Event::Lost { generation, why, after_ms, .. } => lost(*generation, why, *after_ms),
        Event::AheadFailed { why, .. }
        | Event::HoldFailed { why, .. }
        | Event::StopFailed { why, .. }
        | Event::SnapshotFailed { why, .. }
        | Event::ExchangeFailed { why, .. }
        | Event::StartFailed { why, .. }
        | Event::AliveFailed { why, .. }
        | Event::OpenFailed { why, .. } => why.to_string(),
        Event::Published { snapshot } => snapshot.to_string(),
        _ => String::new(),
    };
    let at = entry.at.strftime("%Y-%m-%d %H:%M:%S%.3f");
    format!("{:>5}  {at}  {:<14}  {more}", entry.seq, entry.record.name()).trim_end().to_owned()
}

fn lost(generation: GenerationId, why: &Loss, after_ms: u64) -> String {
    format!("{generation} {why} after {}.{} s", after_ms / 1000, after_ms % 1000 / 100)
}
