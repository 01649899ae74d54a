//! The effects inside a switch or a rollback. Nothing here speaks to a server; what it needs was made by Prepare.
//!
//! Each may be performed again after a crash inside of it, and finds out by looking what is done already.

use std::path::Path;
use std::time::{Duration, Instant};

use nebh_trust::release::Probe;
use rustix::process::Signal;

use super::blocking::blocking;
use super::local::LocalHost;
use super::places::data_name;
use super::spare::sees;
use super::trouble;
use crate::container::{Exit, Run};
use crate::machine::{DatasetName, GenerationId, SnapshotName, Trouble, TroubleKind, Window};
use crate::netns::Namespace;
use crate::probe::{Subject, measure};

/// How long requests that have reached the program may take to be answered before it is told to stop anyway.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);
/// Pause between two questions whether it is alive: short at first, because the entrance is held meanwhile.
const ALIVE_PAUSE_MIN: Duration = Duration::from_millis(1);
const ALIVE_PAUSE_MAX: Duration = Duration::from_millis(100);
/// A release that names no probe and no port is alive when it has run for this long.
const ALIVE_BY_STANDING: Duration = Duration::from_millis(500);
/// How long after a failed probe the program may take to turn out to have ended.
const ENDING_WITHIN: Duration = Duration::from_millis(500);
/// How long a release without an `alive` may take.
const ALIVE_WITHIN: Duration = Duration::from_secs(30);

impl LocalHost {
    pub(super) async fn hold(&self) -> Result<(), Trouble> {
        // What is dirty now would be written inside the window, by the snapshot.
        let places: Vec<_> = self.app.datasets.values().map(|dataset| dataset.path.clone()).collect();
        blocking(move || {
            for place in &places {
                flush(place);
            }
            Ok(())
        })
        .await?;
        let entrance = &self.node.entrance;
        let failed_before = self.failed_so_far().await?;
        entrance.hold(&self.gate).await.map_err(|error| trouble::failed(&error))?;
        self.note_failed(failed_before);
        let left = entrance.drain(&self.gate, DRAIN_WITHIN).await.map_err(|error| trouble::failed(&error))?;
        if left > 0 {
            tracing::warn!(app = %self.app.name, left, "requests are still unanswered; the program is stopped all the same");
        }
        Ok(())
    }

    pub(super) async fn stop(&self) -> Result<(), Trouble> {
        let mut stops = Vec::new();
        for (id, run) in self.runs() {
            if run.may_run() {
                // A generation that cannot be read is stopped as any program is.
                let stop = self.folder(id).read().map(|generation| generation.statement.run.stop).unwrap_or_default();
                stops.push(async move {
                    self.node.runner.stop(&run, signal(stop.signal.name()), stop.grace.duration()).await
                });
            }
        }
        for result in futures_util::future::join_all(stops).await {
            result.map_err(|error| trouble::failed(&error))?;
        }
        Ok(())
    }

    pub(super) async fn snapshot(&self, name: &SnapshotName, datasets: &[DatasetName]) -> Result<(), Trouble> {
        let name = data_name(name.as_text())?;
        let places = self.places(datasets)?;
        blocking(move || {
            for (kind, dataset) in &places {
                kind.driver().snapshot(dataset, &name).map_err(|error| trouble::from_data(&error))?;
            }
            Ok(())
        })
        .await
    }

    pub(super) async fn start(&self, id: GenerationId) -> Result<(), Trouble> {
        let folder = self.folder(id);
        let policy = self.node.settings.trust.clone();
        let generation = self.admission.answer(id, self.folder(id), policy).await?;
        let runs = folder.runs();
        for run in &runs {
            if self.node.runner.is_running(run).await.map_err(|error| trouble::failed(&error))? {
                return Ok(());
            }
        }
        let data = self.live_places(&generation.statement);
        let spare = runs.into_iter().find(|run| run.is_spare() && sees(run, &generation.statement, &data));
        let run = if let Some(run) = spare {
            run
        } else {
            let run = folder.next_run();
            let spec = self.spec(&generation, &data, None);
            self.node.runner.create(&run, &spec).await.map_err(|error| trouble::failed(&error))?;
            run
        };
        self.node.runner.start(&run).await.map(drop).map_err(|error| trouble::failed(&error))
    }

    pub(super) async fn check_alive(&self, id: GenerationId) -> Result<u64, Trouble> {
        let begun = Instant::now();
        let generation = self.folder(id).read().map_err(|error| trouble::failed(&error))?;
        let run = self.last_started(id).ok_or_else(|| gone(id))?;
        let statement = &generation.statement.run;
        let by_port = statement.ports.first().map(|port| Probe::Tcp { port: *port });
        let probe = statement.alive.as_ref().map(|alive| alive.probe.clone()).or(by_port);
        let within = statement.alive.as_ref().map_or(ALIVE_WITHIN, |alive| alive.within.duration());
        let alive = async {
            if let Some(probe) = probe {
                return self.answers(&run, &probe, within).await;
            }
            tokio::time::sleep(ALIVE_BY_STANDING).await;
            Ok(())
        };
        let result = tokio::select! {
            biased;
            exit = run.ended() => Err(format!("{id} {}", ended(exit.as_ref()))),
            result = alive => result,
        };
        // A program that is ending cannot be asked, and how it ends says more than that.
        let result = match result {
            Ok(()) => Ok(()),
            Err(why) => match tokio::time::timeout(ENDING_WITHIN, run.ended()).await {
                Ok(exit) => Err(format!("{id} {}", ended(exit.as_ref()))),
                Err(_) => Err(why),
            },
        };
        match result {
            Ok(()) => Ok(u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)),
            Err(why) => {
                Err(Trouble::new(TroubleKind::Failed, format!("{} is not alive: {why}", generation.release.version)))
            }
        }
    }

    async fn answers(&self, run: &Run, probe: &Probe, within: Duration) -> Result<(), String> {
        let process = run.process().ok_or("it has no process")?;
        let network = Namespace::of_process(process.pid).map_err(|error| error.to_string())?;
        let subject = Subject { network: &network, runtime: self.node.runner.runtime(), container: run.id() };
        let mut pause = ALIVE_PAUSE_MIN;
        let mut seen = "nothing was seen".to_owned();
        let asked = async {
            loop {
                match measure(probe, subject).await {
                    Ok(()) => return,
                    Err(what) => seen = what,
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 5 / 4).min(ALIVE_PAUSE_MAX);
            }
        };
        match tokio::time::timeout(within, asked).await {
            Ok(()) => Ok(()),
            Err(_) => Err(format!("no good answer within {} s ({seen})", within.as_secs_f32())),
        }
    }

    pub(super) async fn lead(&self, id: GenerationId) -> Result<Window, Trouble> {
        let run = self.running(id).await?;
        let pid = run.process().map(|process| process.pid).ok_or_else(|| gone(id))?;
        let entrance = &self.node.entrance;
        let failed = |error| trouble::failed(&error);
        entrance.route(&self.gate, pid).await.map_err(failed)?;
        let (waited, held) = entrance.release(&self.gate).await.map_err(failed)?;
        let lost = self.failed_since_hold(self.failed_so_far().await?);
        self.clear();
        Ok(Window { held_ms: u64::try_from(held.as_millis()).unwrap_or(u64::MAX), waited, lost })
    }

    /// The run of a generation whose program runs.
    pub(super) async fn running(&self, id: GenerationId) -> Result<Run, Trouble> {
        let mut last = None;
        for run in self.folder(id).runs() {
            if self.node.runner.is_running(&run).await.map_err(|error| trouble::failed(&error))? {
                return Ok(run);
            }
            last = run.exit();
        }
        match last {
            Some(exit) => Err(Trouble::new(TroubleKind::Failed, format!("{id} {}", ended(Some(&exit))))),
            None => Err(gone(id)),
        }
    }
}

/// In words, as in "g2 …".
pub(super) fn ended(exit: Option<&Exit>) -> String {
    match exit {
        Some(Exit::Code { code }) => format!("ended with exit code {code}"),
        Some(Exit::Signal { name, .. }) => format!("died of {name}"),
        None => "ended while nobody watched".to_owned(),
    }
}

fn gone(id: GenerationId) -> Trouble {
    Trouble::new(TroubleKind::Failed, format!("{id} does not run"))
}

fn signal(name: &str) -> Signal {
    match name {
        "INT" => Signal::INT,
        "QUIT" => Signal::QUIT,
        "HUP" => Signal::HUP,
        "USR1" => Signal::USR1,
        "USR2" => Signal::USR2,
        "WINCH" => Signal::WINCH,
        _ => Signal::TERM,
    }
}

fn flush(place: &Path) {
    // Only to make the window shorter: the snapshot itself makes everything durable.
    if let Ok(folder) = std::fs::File::open(place)
        && let Err(error) = rustix::fs::syncfs(folder)
    {
        tracing::warn!(place = %place.display(), %error, "cannot flush");
    }
}
