//! Watching an operation from outside until it ends: asks the agent for news again and again.

use nebh_face::{Exit, Failure, Out};

use crate::api::client::Agent;
use crate::api::wire::{self, AppStatus, News, WAIT_MS_MAX};
use crate::journal::Entry;
use crate::machine::{AppName, Event, GenerationId, OpId, Outcome, Phase};

/// How long one question waits: short where progress is shown.
const LOOK_MS: u64 = 500;

/// News after a record.
pub(super) async fn news(agent: &Agent, app: &AppName, after: u64, wait_ms: u64) -> Result<News, Failure> {
    // Names hold nothing that would have to be escaped in a query.
    let path = format!("{}?app={app}&after={after}&wait_ms={wait_ms}", wire::NEWS);
    Ok(agent.get(&path).await??)
}

/// Follows one Prepare to its end.
pub(super) async fn prepared(
    agent: &Agent,
    app: &AppName,
    mut after: u64,
    generation: GenerationId,
    out: Out,
) -> Result<AppStatus, Failure> {
    let mut said = String::new();
    loop {
        let news = news(agent, app, after, LOOK_MS).await?;
        if let Some(status) = &news.status {
            undamaged(status)?;
        }
        for Entry { seq, event, .. } in &news.entries {
            after = *seq;
            match event {
                Event::PrepareFailed { generation: of, why } if *of == generation => {
                    return Err(super::sentence::trouble("the release could not be prepared", why));
                }
                _ => {}
            }
        }
        let Some(status) = news.status else { continue };
        if status.state.facts(generation).is_some() {
            return Ok(status);
        }
        if let Some(line) = status.progress.get(&generation)
            && *line != said
        {
            said.clone_from(line);
            out.note(&format!("prepare    {line}"));
        }
    }
}

/// Follows one operation to its end, or until the generation is open if `until_open`.
pub(super) async fn ended(
    agent: &Agent,
    app: &AppName,
    mut after: u64,
    op: &OpId,
    until_open: bool,
    out: Out,
) -> Result<(AppStatus, Option<Outcome>), Failure> {
    loop {
        let News { entries, status, .. } = news(agent, app, after, WAIT_MS_MAX).await?;
        for entry in &entries {
            after = entry.seq;
            tell(entry, op, app, status.as_ref(), out);
        }
        let Some(status) = status else { continue };
        undamaged(&status)?;
        if let Some(ended) = &status.state.ended
            && ended.op == *op
            && !matches!(&status.state.phase, phase if phase.change().is_some_and(|change| change.step.op == *op))
        {
            let outcome = ended.outcome.clone();
            return Ok((status, Some(outcome)));
        }
        let of_it = |phase: &Phase| phase.change().is_some_and(|change| change.step.op == *op);
        if until_open && matches!(status.state.phase, Phase::Probation(_)) && of_it(&status.state.phase) {
            return Ok((status, None));
        }
        if status.state.phase.change().is_none() {
            let what = "the operation was followed by another before its end was seen";
            return Err(Failure::new(Exit::Failed, what).next("nebh node history"));
        }
    }
}

fn undamaged(status: &AppStatus) -> Result<(), Failure> {
    match &status.damaged {
        Some(why) => Err(super::sentence::damaged(&status.app, why)),
        None => Ok(()),
    }
}

/// One record of the operation, as far as a person waits for it.
fn tell(entry: &Entry, op: &OpId, app: &AppName, status: Option<&AppStatus>, out: Out) {
    out.json(&super::sentence::Told::new(app, entry));
    match &entry.event {
        Event::Opened { step, window } if step.op == *op => {
            out.note(&super::sentence::window(window));
            if let Some(status) = status
                && let Phase::Probation(change) = &status.state.phase
                && let Some(facts) = change.to.and_then(|to| status.state.facts(to))
            {
                out.note(&format!("probation  {} s …", facts.probation_ms.div_ceil(1000)));
            }
        }
        _ => {}
    }
}
