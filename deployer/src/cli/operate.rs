//! The controls of the agent: each command asks, watches, and says how it ended.

use nebh_face::{Exit, Failure, Globals, Out};
use serde_json::json;

use super::{agent, sentence, watch};
use crate::api::client::Agent;
use crate::api::wire::{self, AppStatus, Planned, Status, Taken};
use crate::machine::{AppName, GenerationId, OpId, Outcome, RollbackWish};

/// `nebh node prepare`
pub(super) async fn prepare(globals: &Globals, app: Option<AppName>, to: Option<String>) -> Result<(), Failure> {
    let (agent, out) = (agent(globals)?, Out::new(globals));
    let (status, generation) = ready(&agent, wire::Prepare { app, to, mix: None }, out).await?;
    let text = sentence::prepared(&status.state, generation);
    out.result(&text, &json!({ "version": 1, "kind": "prepared", "generation": generation }), &generation.to_string());
    Ok(())
}

/// Prepares and waits for the end of it.
async fn ready(agent: &Agent, asked: wire::Prepare, out: Out) -> Result<(AppStatus, GenerationId), Failure> {
    let Taken { app, seq, generation, .. } = agent.post(wire::PREPARE, &asked).await??;
    let status = watch::prepared(agent, &app, seq, generation, out).await?;
    Ok((status, generation))
}

/// The same as the first half of something else: said on the way.
async fn make_ready(agent: &Agent, asked: wire::Prepare, out: Out) -> Result<GenerationId, Failure> {
    let (status, generation) = ready(agent, asked, out).await?;
    out.note(&sentence::prepared(&status.state, generation));
    Ok(generation)
}

/// `nebh node switch`
pub(super) async fn switch(
    globals: &Globals,
    app: Option<AppName>,
    to: Option<String>,
    no_wait: bool,
) -> Result<(), Failure> {
    let (agent, out) = (agent(globals)?, Out::new(globals));
    let mut wish = wire::Switch { app: app.clone(), to: to.clone() };
    let taken: Taken = match agent.post(wire::SWITCH, &wish).await? {
        Ok(taken) => taken,
        Err(fault) if fault.unprepared && to.is_some() => {
            let generation = make_ready(&agent, wire::Prepare { app, to, mix: None }, out).await?;
            wish.to = Some(generation.to_string());
            agent.post(wire::SWITCH, &wish).await??
        }
        Err(fault) => return Err(fault.into()),
    };
    follow(&agent, &taken, no_wait, out).await
}

/// `nebh node commit`
pub(super) async fn commit(globals: &Globals, app: Option<AppName>) -> Result<(), Failure> {
    let (agent, out) = (agent(globals)?, Out::new(globals));
    let taken: Taken = agent.post(wire::COMMIT, &wire::Commit { app }).await??;
    let state = one(&agent, Some(taken.app)).await?.state;
    let live = taken.generation;
    let text = format!("committed  {} serves with the data of {}", state.version(live), state.data.current);
    out.result(&text, &json!({ "version": 1, "kind": "committed", "generation": live }), &live.to_string());
    Ok(())
}

/// `nebh node rollback`
pub(super) async fn rollback(globals: &Globals, app: Option<AppName>, want: RollbackWish) -> Result<(), Failure> {
    let (agent, out) = (agent(globals)?, Out::new(globals));
    let mut wish = wire::Rollback { app: app.clone(), want };
    let taken: Taken = match agent.post(wire::ROLLBACK, &wish).await? {
        Ok(taken) => taken,
        Err(fault) if fault.unprepared => {
            let planned: Planned = agent.post(wire::ROLLBACK_PLAN, &wish).await??;
            let asked = wire::Prepare { app, to: None, mix: planned.mix };
            let generation = make_ready(&agent, asked, out).await?;
            wish.want.to = Some(generation);
            agent.post(wire::ROLLBACK, &wish).await??
        }
        Err(fault) => return Err(fault.into()),
    };
    follow(&agent, &taken, false, out).await
}

/// `nebh node rollback --plan`
pub(super) async fn plan(globals: &Globals, app: Option<AppName>, want: RollbackWish) -> Result<(), Failure> {
    let planned: Planned = agent(globals)?.post(wire::ROLLBACK_PLAN, &wire::Rollback { app, want }).await??;
    Out::new(globals).result(&planned.text, &planned, &planned.text);
    Ok(())
}

/// `nebh data adopt`
pub(super) async fn adopt(
    globals: &Globals,
    app: Option<AppName>,
    timeline: crate::machine::TimelineId,
) -> Result<(), Failure> {
    let (agent, out) = (agent(globals)?, Out::new(globals));
    let taken: Taken = agent.post(wire::ADOPT, &wire::Adopt { app, timeline }).await??;
    follow(&agent, &taken, false, out).await
}

/// Follows an operation and says how it ended; ending this command does not end the operation.
async fn follow(agent: &Agent, taken: &Taken, until_open: bool, out: Out) -> Result<(), Failure> {
    let Some(op) = &taken.op else {
        return Err(Failure::new(Exit::Failed, "the agent named no operation"));
    };
    let watched = watch::ended(agent, &taken.app, taken.seq, op, until_open, out);
    let (status, outcome) = tokio::select! {
        watched = watched => watched?,
        _ = tokio::signal::ctrl_c() => {
            let what = format!("stopped watching operation {op}; the agent carries it on");
            return Err(Failure::new(Exit::Interrupted, what).next("nebh node status"));
        }
    };
    conclude(&status, op, outcome.as_ref(), out)
}

fn conclude(status: &AppStatus, op: &OpId, outcome: Option<&Outcome>, out: Out) -> Result<(), Failure> {
    let Some(outcome) = outcome else {
        let text = format!("open       {}", sentence::status(status).lines().next().unwrap_or_default());
        out.result(&text, &json!({ "version": 1, "kind": "open", "op": op }), op.as_text());
        return Ok(());
    };
    let (text, failure) = sentence::end(status, outcome);
    out.result(&text, &json!({ "version": 1, "kind": "ended", "op": op, "end": outcome }), op.as_text());
    failure.map_or(Ok(()), Err)
}

/// `nebh node status`; exit 6 where a person is waited for.
pub(super) async fn status(globals: &Globals, app: Option<AppName>) -> Result<(), Failure> {
    let out = Out::new(globals);
    let mut status: Status = agent(globals)?.get(wire::STATUS).await??;
    if let Some(app) = &app {
        status.apps.retain(|known| known.app == *app);
        if status.apps.is_empty() {
            return Err(Failure::new(Exit::Usage, format!("there is no application `{app}` on {}", status.node)));
        }
    }
    let texts: Vec<String> = status.apps.iter().map(sentence::status).collect();
    let live = status.apps.iter().map(|app| {
        let live = app.state.phase.serving();
        live.map_or_else(|| app.phase.clone(), |live| app.state.version(live))
    });
    out.result(&texts.join("\n"), &status, &live.collect::<Vec<_>>().join("\n"));
    for app in &status.apps {
        if let Some(why) = &app.damaged {
            return Err(sentence::damaged(&app.app, why));
        }
        if let crate::machine::Phase::NeedsOperator(stuck) = &app.state.phase {
            return Err(sentence::needs_operator(app, &stuck.why));
        }
    }
    Ok(())
}

/// The application that is meant: the named one, else the only one.
pub(super) async fn one(agent: &Agent, app: Option<AppName>) -> Result<AppStatus, Failure> {
    let status: Status = agent.get(wire::STATUS).await??;
    let mut apps = status.apps.into_iter().filter(|known| app.as_ref().is_none_or(|app| known.app == *app));
    match (apps.next(), apps.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(Failure::new(Exit::Usage, format!("there is no such application on {}", status.node))),
        (Some(_), Some(_)) => {
            let what = "this node has more than one application";
            Err(Failure::new(Exit::Usage, what).next("name one with --app"))
        }
    }
}

/// `nebh node history`
pub(super) async fn history(globals: &Globals, app: Option<AppName>) -> Result<(), Failure> {
    let (agent, out) = (agent(globals)?, Out::new(globals));
    let app = one(&agent, app).await?.app;
    let news = watch::news(&agent, &app, 0, 0).await?;
    for entry in &news.entries {
        let text = sentence::history(entry);
        out.result(&text, &sentence::Told::new(&app, entry), &text);
    }
    Ok(())
}

/// `nebh node logs`
pub(super) async fn logs(
    globals: &Globals,
    app: Option<AppName>,
    generation: Option<GenerationId>,
) -> Result<(), Failure> {
    let agent = agent(globals)?;
    let app = one(&agent, app).await?.app;
    let generation = generation.map(|id| format!("&generation={id}")).unwrap_or_default();
    let bytes = agent.bytes(&format!("{}?app={app}{generation}", wire::LOGS)).await?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim_end_matches('\n');
    if !text.is_empty() {
        Out::new(globals).result(text, &json!({ "version": 1, "kind": "logs", "text": text }), text);
    }
    Ok(())
}
