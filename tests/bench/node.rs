//! The part `node`: what clients see of a switch and of a rollback, under 200 requests a second, each a new connection,
//! beside docker, podman, and a held listener with a snapshot by hand, which is the limit.
//!
//! The *window* is the longest time without a good answer: for a side that holds connections that is how long they
//! waited, for one that does not, how long they were refused.

mod by_hand;
mod engine;
mod load;
mod ours;
mod volume;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use self::by_hand::ByHand;
use self::engine::Engine;
use self::load::{Load, Seen};
use self::ours::Ours;
use self::volume::Volume;
use crate::command::run as command;
use crate::dockerd::Dockerd;
use crate::machine::first_line;
use crate::table::{Goal, Line, Section, quantile};
use crate::{Bench, say};

/// Changes of each side before it is the next one's turn, so that what drifts meets all of them.
const BLOCK: usize = 10;
/// The engines need seconds a change, and are measured a tenth as often.
const ENGINE_SHARE: usize = 10;
/// Quiet time before and after a change, so that the load's usual pace stands on both sides of it.
const QUIET: Duration = Duration::from_millis(250);
/// Our window is at most this many times the limit.
const WINDOW_GOAL: f64 = 2.0;
/// Bound on waiting for a first answer: only a hang reaches it.
const PATIENCE: Duration = Duration::from_secs(30);

/// One way of running the application.
trait Side {
    /// Where clients knock.
    fn port(&self) -> u16;
    /// What happens in the background before a change.
    fn ready(&mut self) -> Result<()> {
        Ok(())
    }
    /// To the second version.
    fn switch(&mut self) -> Result<()>;
    /// Back to the first, with the data as they are.
    fn back(&mut self) -> Result<()>;
    /// Back to the first, with the data from before the switch.
    fn back_with_old_data(&mut self) -> Result<()> {
        bail!("nobody does this")
    }
}

/// Everything that clients of one side saw.
#[derive(Debug, Default)]
struct Windows {
    switch: Vec<Seen>,
    back: Vec<Seen>,
    back_with_old_data: Vec<Seen>,
    paid: Vec<String>,
    requests: usize,
    failures: usize,
}

/// A side with what it is called and what was seen of it.
struct Player {
    name: &'static str,
    side: Box<dyn Side>,
    version: String,
    /// It takes part in every so many changes.
    share: usize,
    /// It can give the old data back.
    branches: bool,
    windows: Windows,
}

/// Measures the part.
pub(crate) fn run(bench: &Bench) -> Result<Section> {
    ensure!(rustix::process::geteuid().is_root(), "containers and a loop device need root");
    let changes = if bench.small { 2 } else { bench.rounds(100) };
    let folder = bench.folder("node")?;
    let volume = Volume::mount(&folder)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut players = players(bench, &folder, &volume)?;
    let mut done = 0;
    while done < changes {
        let now = BLOCK.min(changes - done);
        say(&format!("node: changes {} to {} of {changes}", done + 1, done + now));
        for player in &mut players {
            changes_of(player, &runtime, now.div_ceil(player.share))?;
        }
        done += now;
    }
    let kept = volume.payments()?;
    for player in &players {
        let lost = player.windows.paid.iter().filter(|key| !kept.contains(*key)).count();
        ensure!(lost == 0, "{}: {lost} acknowledged payments are gone", player.name);
    }
    Ok(Section {
        title: "Node: what clients see of a switch and a rollback".to_owned(),
        versions: players.iter().map(|player| player.version.clone()).filter(|text| !text.is_empty()).collect(),
        lines: lines(&players),
        notes: notes(&players, changes),
        ..Section::default()
    })
}

/// Ours first, then the limit, then the engines that are here.
fn players(bench: &Bench, folder: &Path, volume: &Volume) -> Result<Vec<Player>> {
    let program = compile(folder)?;
    let place = |name: &str| {
        let path = folder.join(name);
        std::fs::create_dir_all(&path).map(|()| path)
    };
    let ours = Ours::start(&bench.nebh, &place("ours")?, &program, &volume.subvolume("ours", ours::USER)?)?;
    let hand = ByHand::start(&program, &volume.subvolume("hand", 0)?)?;
    let version = |name: &str| first_line(Command::new(name).arg("--version"));
    let programs = format!(
        "{} · {} · {}",
        first_line(Command::new(&bench.nebh).arg("--version")),
        version("runc"),
        version("btrfs")
    );
    let full =
        |name, side, version| Player { name, side, version, share: 1, branches: true, windows: Windows::default() };
    let mut players =
        vec![full("ours", Box::new(ours), programs), full("by hand, listener held", Box::new(hand), String::new())];
    let engine = |name, engine: Engine| {
        let version = engine.version();
        Player {
            name,
            side: Box::new(engine),
            version,
            share: ENGINE_SHARE,
            branches: false,
            windows: Windows::default(),
        }
    };
    if Dockerd::is_here() {
        let docker = Engine::docker(&place("docker")?, &program, &volume.subvolume("docker", 0)?)?;
        players.push(engine("docker stop, rm, run", docker));
    } else {
        say("docker is not here and is left out");
    }
    if version("podman").starts_with("podman") {
        let podman = Engine::podman(&place("podman")?, &bench.short(), &program, &volume.subvolume("podman", 0)?)?;
        players.push(engine("podman stop, rm, run", podman));
    } else {
        say("podman is not here and is left out");
    }
    Ok(players)
}

/// So many switches, each with a way back, under load.
fn changes_of(player: &mut Player, runtime: &tokio::runtime::Runtime, times: usize) -> Result<()> {
    let name = format!("{}-{}", player.name.split(' ').next().unwrap_or_default(), player.windows.requests);
    let load = runtime.block_on(async { Load::start(player.side.port(), &name) });
    let side = &mut *player.side;
    for _ in 0..times {
        side.ready()?;
        player.windows.switch.push(change(&load, || side.switch())?);
        player.windows.back.push(change(&load, || side.back())?);
        if player.branches {
            side.ready()?;
            player.windows.switch.push(change(&load, || side.switch())?);
            player.windows.back_with_old_data.push(change(&load, || side.back_with_old_data())?);
        }
    }
    let (paid, failures, requests) = runtime.block_on(load.end())?;
    player.windows.paid.extend(paid);
    player.windows.failures += failures.values().sum::<usize>();
    player.windows.requests += requests;
    Ok(())
}

fn change(load: &Load, act: impl FnOnce() -> Result<()>) -> Result<Seen> {
    std::thread::sleep(QUIET);
    let from = Instant::now();
    act()?;
    let to = Instant::now();
    std::thread::sleep(QUIET);
    Ok(load.seen(from, to))
}

/// One kind of change among the windows of a player.
type Kind = fn(&Windows) -> &[Seen];

fn lines(players: &[Player]) -> Vec<Line> {
    let all = |seen: &[Seen]| -> Vec<f64> { seen.iter().map(|one| one.window).collect() };
    let worst = |seen: &[Seen]| if seen.is_empty() { Vec::new() } else { vec![quantile(&all(seen), 1.0)] };
    let line = |what: &str, unit, goal, of: &dyn Fn(&Windows) -> Vec<f64>| {
        let mut values = players.iter().map(|player| (player.name.to_owned(), of(&player.windows)));
        let ours = values.next().map(|(_, values)| values).unwrap_or_default();
        let beside = values.filter(|(_, values)| !values.is_empty()).collect();
        Line { what: what.to_owned(), unit, ours, beside, goal }
    };
    let mut lines = Vec::new();
    let kinds: [(&str, Kind); 3] = [
        ("switch with a snapshot of the data", |windows| &windows.switch),
        ("rollback, the new data kept", |windows| &windows.back),
        ("rollback to the data from before", |windows| &windows.back_with_old_data),
    ];
    for (what, of) in kinds {
        lines.push(line(&format!("{what}: window"), "ms", Goal::Times(WINDOW_GOAL), &|windows| all(of(windows))));
        lines.push(line("… the longest", "ms", Goal::None, &|windows| worst(of(windows))));
    }
    lines.push(line(
        "requests refused, reset or unanswered, in 100 changes",
        "",
        Goal::AtMost(0.0),
        &failed_per_hundred,
    ));
    lines
}

#[expect(clippy::cast_precision_loss, reason = "a count of requests")]
fn failed_per_hundred(windows: &Windows) -> Vec<f64> {
    let changes = windows.switch.len() + windows.back.len() + windows.back_with_old_data.len();
    vec![windows.failures as f64 * 100.0 / changes as f64]
}

fn notes(players: &[Player], changes: usize) -> Vec<String> {
    let mut notes = vec![
        format!(
            "200 requests a second, each a new connection, one in {} a payment that is durable before it is answered. \
             The window is the longest time without a good answer; the pace of the load alone makes it 5 ms.",
            load::PAYMENT_EVERY
        ),
        format!(
            "{changes} rounds, in blocks of {BLOCK} in turn; a round is a switch, a rollback that keeps the new data, a \
             switch, a rollback to the data from before. The engines do a tenth, and no data."
        ),
        "By hand: SIGTERM, `btrfs subvolume snapshot`, a plain process on a listener that somebody else holds. No \
         container, no journal, no signature check: the limit. The engines use the host's network and take no snapshot."
            .to_owned(),
    ];
    for Player { name, windows, .. } in players {
        let (requests, failures, paid) = (windows.requests, windows.failures, windows.paid.len());
        notes.push(format!("{name}: {requests} requests, {failures} failed; {paid} acknowledged payments, none lost"));
    }
    notes
}

fn compile(folder: &Path) -> Result<PathBuf> {
    let (source, program) = (folder.join("till.c"), folder.join("till"));
    std::fs::write(&source, include_str!("node/till.c"))?;
    command(Command::new("cc").args(["-O2", "-static", "-o"]).arg(&program).arg(&source))?;
    Ok(program)
}

/// Waits for a good answer.
fn answers(port: u16) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if ask(port).is_ok_and(|text| text.starts_with("HTTP/1.1 200")) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    bail!("nobody answers at port {port}")
}

fn ask(port: u16) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: till\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
