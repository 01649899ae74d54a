//! The host as it is: containers by runc or crun, datasets by drivers, the way in by the entrance. It performs what the
//! agent asks and says what it sees; it decides nothing.
//!
//! Side effects: all of them; in the rooms `prepare` (slow), `change` (in a switch), `remote` (registry), `disk`.

use std::path::Path;

use tokio::time::MissedTickBehavior;

use super::blocking::blocking;
use super::branch::ExchangeFailed;
use super::local::LocalHost;
use super::{Head, Host, Progress, disk, trouble};
use crate::container::{Exit, Run};
use crate::crash::{self, Side};
use crate::machine::{Effect, Event, GenerationId, Loss, ReleaseRef, SnapshotFacts, Trouble, TroubleKind};
use crate::netns::Namespace;
use crate::probe::{Subject, measure};

impl Host for LocalHost {
    async fn observe(&self) -> Vec<GenerationId> {
        let mut found = Vec::new();
        for (id, run) in self.runs() {
            match self.node.runner.is_running(&run).await {
                Ok(true) => found.push(id),
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(container = run.id(), %error, "cannot tell whether it runs; taken for running");
                    found.push(id);
                }
            }
        }
        found.dedup();
        found
    }

    async fn perform(&self, effect: Effect, progress: &Progress) -> Option<Event> {
        Some(match effect {
            Effect::Prepare { generation, source, beside } => {
                match self.prepare(generation, &source, beside, progress).await {
                    Ok(facts) => Event::Prepared { generation, facts: Box::new(facts) },
                    Err(why) => Event::PrepareFailed { generation, why },
                }
            }
            Effect::Hold { step, ahead } => {
                if let Some(ahead) = &ahead {
                    crash::point("effect-", "ahead", Side::Before);
                    if let Err(why) = self.make_ahead(ahead).await {
                        return Some(Event::AheadFailed { step, why });
                    }
                    crash::point("effect-", "ahead", Side::After);
                }
                match self.hold().await {
                    Ok(()) => {
                        if let Some(ahead) = ahead {
                            let (id, policy) = (ahead.generation, self.node.settings.trust.clone());
                            self.admission.ask(id, self.folder(id), policy);
                        }
                        Event::Held { step }
                    }
                    Err(why) => Event::HoldFailed { step, why },
                }
            }
            Effect::Stop { step } => match self.stop().await {
                Ok(()) => Event::Stopped { step },
                Err(why) => Event::StopFailed { step, why },
            },
            Effect::Snapshot { step, name, datasets, .. } => match self.snapshot(&name, &datasets).await {
                Ok(()) => Event::Snapshotted { step },
                Err(why) => Event::SnapshotFailed { step, why },
            },
            Effect::Exchange { step, branch, aside } => match self.exchange(&branch, aside).await {
                Ok(()) => Event::Exchanged { step },
                Err(ExchangeFailed { why, torn }) => Event::ExchangeFailed { step, why, torn },
            },
            Effect::Start { step, generation } => match self.start(generation).await {
                Ok(()) => Event::Started { step },
                Err(why) => Event::StartFailed { step, why },
            },
            Effect::CheckAlive { step, generation } => match self.check_alive(generation).await {
                Ok(after_ms) => Event::Alive { step, after_ms },
                Err(why) => Event::AliveFailed { step, why },
            },
            Effect::Open { step, generation } => match self.lead(generation).await {
                Ok(window) => Event::Opened { step, window },
                Err(why) => Event::OpenFailed { step, why },
            },
            Effect::Remove { generation } => match self.remove(generation).await {
                Ok(()) => Event::Removed { generation },
                Err(why) => Event::RemoveFailed { generation, why },
            },
            Effect::Watch { .. } | Effect::Wait { .. } | Effect::Report => return None,
        })
    }

    async fn watch(&self, generation: GenerationId) -> Loss {
        let Some(run) = self.last_started(generation) else { return Loss::Gone };
        tokio::select! {
            biased;
            exit = run.ended() => lost(exit),
            text = self.live_failed(generation, &run) => Loss::Probe { text },
        }
    }

    async fn resolve(&self, wanted: &str) -> Result<ReleaseRef, Trouble> {
        self.resolve_release(wanted).await
    }

    async fn head(&self, seen: Option<u64>) -> Head {
        self.next_head(seen).await
    }

    async fn publish(&self, snapshot: &SnapshotFacts) -> Result<(), Trouble> {
        self.publish_snapshot(snapshot).await
    }

    async fn report(&self, report: &serde_json::Value) -> Result<(), Trouble> {
        self.send_report(report).await
    }

    async fn output(&self, generation: GenerationId, bytes_max: u64) -> Result<Vec<u8>, Trouble> {
        let folder = self.folder(generation).path().to_owned();
        blocking(move || {
            let mut output = Vec::new();
            for name in ["stdout.log", "stderr.log"] {
                output.extend(tail(&folder.join(name), bytes_max / 2).map_err(|error| trouble::failed(&error))?);
            }
            Ok(output)
        })
        .await
    }
}

impl LocalHost {
    async fn remove(&self, id: GenerationId) -> Result<(), Trouble> {
        let folder = self.folder(id);
        for run in folder.runs() {
            if run.may_run() {
                return Err(Trouble::new(TroubleKind::Failed, format!("{id} runs and cannot be removed")));
            }
            self.node.runner.discard(&run).await.map_err(|error| trouble::failed(&error))?;
        }
        let _one_at_a_time = self.node.disk.lock().await;
        let (state, store) = (self.node.settings.state.clone(), self.node.store.clone());
        blocking(move || {
            folder.remove().map_err(|error| trouble::failed(&error))?;
            disk::sweep(&state, &store).map_err(|error| trouble::failed(&error))
        })
        .await
    }

    async fn live_failed(&self, id: GenerationId, run: &Run) -> String {
        let read = self.folder(id).read().ok().and_then(|generation| generation.statement.run.live);
        let network = run.process().and_then(|process| Namespace::of_process(process.pid).ok());
        // Without a probe, or without a process to probe, only the process itself tells.
        let (Some(live), Some(network)) = (read, network) else { return std::future::pending().await };
        let subject = Subject { network: &network, runtime: self.node.runner.runtime(), container: run.id() };
        let mut pace = tokio::time::interval(live.every.duration());
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failures = 0;
        loop {
            pace.tick().await;
            match measure(&live.probe, subject).await {
                Ok(()) => failures = 0,
                Err(text) => {
                    failures += 1;
                    tracing::warn!(app = %self.app.name, generation = %id, failures, text, "live probe");
                    if failures >= live.failures {
                        return text;
                    }
                }
            }
        }
    }
}

fn lost(exit: Option<Exit>) -> Loss {
    match exit {
        Some(Exit::Signal { name, .. }) => Loss::Signal { name },
        Some(Exit::Code { code }) => Loss::Exit { code },
        None => Loss::Gone,
    }
}

fn tail(path: &Path, bytes_max: u64) -> std::io::Result<Vec<u8>> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes_max)))?;
    let mut bytes = Vec::new();
    file.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}
