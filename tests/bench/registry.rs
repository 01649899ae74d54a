//! The part `registry`: push and pull of large and small blobs, manifests under 64 connections, memory under many slow
//! clients, long lists, collecting; beside CNCF distribution on the same disk. Both sync what they acknowledge.

mod http;
mod site;
mod upkeep;

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nebh_oci::digest::Digest;

use self::http::Load;
use self::site::{Kind, MANIFEST, Payload, Site, SmallImage};
use crate::measure::{Cost, Watch, in_turn, resident};
use crate::table::{Goal, Line, Section, quantile};
use crate::{Bench, say};

const REPOSITORY: &str = "bench/one";
const MB: u64 = 1_000_000;
/// Connections that ask for manifests.
const ASKING: usize = 64;
/// Bytes of a blob that many pull at once: more than any registry's buffer.
const SHARED_BYTES: u64 = 16 * MB;
/// Clients that pull at once, each stopping half way.
const PULLING: usize = 256;
/// Uploads that stop half way.
const STALLED: usize = 64;

/// One side of the comparison.
struct Side {
    kind: Kind,
    site: Site,
}

/// What one line group hands back: names, units and goals once, values per round and side.
type Values = Vec<f64>;
type Shape = (String, &'static str, Goal);

/// Measures the part.
pub(crate) fn run(bench: &Bench) -> Result<Section> {
    let kinds = [Kind::Nebh(bench.nebh.clone()), Kind::peer(bench)];
    let mut sides = Vec::new();
    for kind in kinds.clone() {
        let folder = bench.folder(kind.name())?;
        let site = kind.start(&folder).with_context(|| format!("starting {}", kind.name()))?;
        sides.push(Side { kind, site });
    }
    let mut section = Section {
        title: "Registry".to_owned(),
        versions: kinds.iter().map(Kind::version).collect(),
        notes: vec![
            "One client for both: plain sockets, kept alive, no hashing; POST and PUT for a blob, as containerd does. GB and MB are decimal.".to_owned(),
            "CPU seconds and memory are those of the server's process. Both sync blobs and manifests before they answer.".to_owned(),
            "Ours collects while it serves, in small steps with rests between them, which are most of the time on the clock.".to_owned(),
            "distribution takes a referrer as any manifest and keeps no list of them; to collect, it has to be stopped, and a push waits for all of that.".to_owned(),
        ],
        ..Section::default()
    };
    let mut group = |name: &str, usual: usize, shapes: Vec<Shape>, measure: &dyn Fn(&Side) -> Result<Values>| {
        if !bench.wants(name) {
            return Ok(());
        }
        say(&format!("registry: {name}"));
        measured(&mut section, &sides, bench.rounds(usual), name, shapes, measure)
    };
    large(bench, &mut group)?;
    many(bench, &mut group)?;
    manifests(bench, &mut group)?;
    images(bench, &mut group)?;
    memory(bench, &mut group)?;
    tags(bench, &mut group)?;
    upkeep::referrers(bench, &mut group)?;
    upkeep::collecting(bench, &mut group)?;
    Ok(section)
}

type Measure<'a> = &'a dyn Fn(&Side) -> Result<Values>;
type Group<'a> = dyn FnMut(&str, usize, Vec<Shape>, Measure<'_>) -> Result<()> + 'a;

/// Runs one group of lines on both sides in turn and adds them to the section.
fn measured(
    section: &mut Section,
    sides: &[Side],
    rounds: usize,
    name: &str,
    shapes: Vec<Shape>,
    measure: Measure<'_>,
) -> Result<()> {
    let on = |side: &Side| measure(side).with_context(|| format!("{name}, {}", side.kind.name()));
    let mut results = [Vec::new(), Vec::new()];
    for round in 0..rounds {
        let [ours, theirs] = &mut results;
        in_turn(round, &mut [(ours, &|| on(&sides[0])), (theirs, &|| on(&sides[1]))])?;
    }
    for (at, (what, unit, goal)) in shapes.into_iter().enumerate() {
        let of = |side: usize| results[side].iter().map(|values| values[at]).collect();
        section.lines.push(Line::new(what, unit, of(0), sides[1].kind.name(), of(1), goal));
    }
    Ok(())
}

fn shape(what: &str, unit: &'static str, goal: Goal) -> Shape {
    (what.to_owned(), unit, goal)
}

fn watched(site: &Site, work: impl FnOnce() -> Result<()>) -> Result<Cost> {
    let watch = Watch::start(&[site.server.id()]);
    work()?;
    Ok(watch.stop())
}

/// Files of 1 GB and 100 MB, one at a time.
fn large(bench: &Bench, group: &mut Group<'_>) -> Result<()> {
    let (one, hundred) = if bench.small { (50 * MB, 10 * MB) } else { (1000 * MB, 100 * MB) };
    for (name, size, times, push, pull) in [
        ("1 GB", one, 1, Goal::AtMost(1.2), Goal::AtMost(0.4)),
        ("100 MB", hundred, 5, Goal::AtMost(1.2), Goal::AtMost(0.4)),
    ] {
        let payload = std::cell::RefCell::new(Payload::make(&bench.scratch.join("payload"), size)?);
        let shapes = vec![
            shape(&format!("push {name}, CPU"), "s per GB", push),
            shape(&format!("push {name}, clock"), "s per GB", Goal::None),
            shape(&format!("push {name}, peak memory"), "MiB", Goal::AtMost(64.0)),
            shape(&format!("pull {name}, CPU"), "s per GB", pull),
            shape(&format!("pull {name}, clock"), "s per GB", Goal::None),
            shape(&format!("pull {name}, peak memory"), "MiB", Goal::AtMost(64.0)),
        ];
        group(&format!("push and pull {name}"), 3, shapes, &|side| {
            let mut payload = payload.borrow_mut();
            let mut connection = side.site.connect()?;
            let mut digests = Vec::new();
            let mut pushes = Vec::new();
            for _ in 0..times {
                let digest = payload.stamp()?;
                pushes.push(watched(&side.site, || site::push(&mut connection, REPOSITORY, &digest, payload.load()))?);
                digests.push(digest);
            }
            let pull = watched(&side.site, || {
                digests.iter().try_for_each(|digest| site::pull(&mut connection, REPOSITORY, digest).map(drop))
            })?;
            let all = payload.gigabytes() * f64::from(times);
            let sum = |of: fn(&Cost) -> f64| pushes.iter().map(of).sum::<f64>() / all;
            let peak = pushes.iter().map(|cost| cost.peak).fold(0.0, f64::max);
            Ok(vec![sum(|cost| cost.cpu), sum(|cost| cost.wall), peak, pull.cpu / all, pull.wall / all, pull.peak])
        })?;
    }
    Ok(())
}

/// 200 blobs of 1 MB, one after another.
fn many(bench: &Bench, group: &mut Group<'_>) -> Result<()> {
    let count: u64 = if bench.small { 20 } else { 200 };
    let size = usize::try_from(MB)?;
    let stamps = AtomicU64::new(0);
    let base = site::bytes(1, size);
    let shapes = vec![
        shape("push 1 MB × 200, CPU", "s per GB", Goal::AtMost(2.0)),
        shape("push 1 MB × 200, clock", "s per GB", Goal::None),
        shape("push 1 MB × 200, peak memory", "MiB", Goal::AtMost(64.0)),
        shape("pull 1 MB × 200, CPU", "s per GB", Goal::None),
        shape("pull 1 MB × 200, clock", "s per GB", Goal::None),
    ];
    group("push and pull 1 MB × 200", 3, shapes, &|side| {
        let blobs: Vec<(Digest, Vec<u8>)> = (0..count)
            .map(|_| {
                let mut bytes = base.clone();
                bytes[..8].copy_from_slice(&stamps.fetch_add(1, Ordering::Relaxed).to_le_bytes());
                (Digest::sha256(&bytes), bytes)
            })
            .collect();
        let mut connection = side.site.connect()?;
        let push = watched(&side.site, || {
            blobs
                .iter()
                .try_for_each(|(digest, bytes)| site::push(&mut connection, REPOSITORY, digest, Load::Bytes(bytes)))
        })?;
        let pull = watched(&side.site, || {
            blobs.iter().try_for_each(|(digest, _)| site::pull(&mut connection, REPOSITORY, digest).map(drop))
        })?;
        let all = site::gigabytes(count * MB);
        Ok(vec![push.cpu / all, push.wall / all, push.peak, pull.cpu / all, pull.wall / all])
    })
}

/// Manifests by tag, from 64 connections that ask as fast as they can.
fn manifests(bench: &Bench, group: &mut Group<'_>) -> Result<()> {
    let time = Duration::from_secs(if bench.small { 1 } else { 5 });
    for (method, goal) in [("HEAD", Goal::AtMost(0.07)), ("GET", Goal::AtMost(0.08))] {
        let shapes = vec![
            shape(&format!("{method} by tag, 64 connections, CPU"), "s per 1000", goal),
            shape(&format!("{method} by tag, 64 connections, p99"), "ms", Goal::None),
            shape(&format!("{method} by tag, 64 connections, time per request"), "µs", Goal::None),
        ];
        group(&format!("{method} by tag"), 5, shapes, &|side| {
            SmallImage::new(0).push(&mut side.site.connect()?, REPOSITORY, "asked")?;
            let path = format!("/v2/{REPOSITORY}/manifests/asked");
            let mut latencies = Vec::new();
            let mut asked = 0.0;
            let cost = watched(&side.site, || {
                let end = Instant::now() + time;
                let each = at_once(ASKING, |_| {
                    let mut connection = side.site.connect()?;
                    let mut latencies = Vec::new();
                    while Instant::now() < end {
                        let start = Instant::now();
                        connection.ask(method, &path, MANIFEST, Load::Nothing, 200)?;
                        latencies.push(start.elapsed().as_secs_f64() * 1e3);
                    }
                    Ok(latencies)
                })?;
                latencies = each.into_iter().flatten().collect();
                asked = count(latencies.len());
                Ok(())
            })?;
            Ok(vec![cost.cpu / asked * 1e3, quantile(&latencies, 0.99), cost.wall / asked * 1e6])
        })?;
    }
    Ok(())
}

/// Small images: two blobs and a manifest with a tag.
fn images(bench: &Bench, group: &mut Group<'_>) -> Result<()> {
    let stamps = AtomicU64::new(1_000);
    for (name, clients, each) in [("one after another", 1, 100), ("16 at once", 16, 20)] {
        let each = if bench.small { each / 10 } else { each };
        let shapes = vec![
            shape(&format!("small images, {name}, CPU"), "ms each", Goal::AtMost(5.0)),
            shape(&format!("small images, {name}, clock"), "ms each", Goal::None),
        ];
        group(&format!("small images, {name}"), 5, shapes, &|side| {
            let cost = watched(&side.site, || {
                at_once(clients, |_| {
                    let mut connection = side.site.connect()?;
                    for _ in 0..each {
                        let nth = stamps.fetch_add(1, Ordering::Relaxed);
                        SmallImage::new(nth).push(&mut connection, REPOSITORY, &format!("v{nth}"))?;
                    }
                    Ok(())
                })
                .map(drop)
            })?;
            let all = count(clients * each);
            Ok(vec![cost.cpu / all * 1e3, cost.wall / all * 1e3])
        })?;
    }
    Ok(())
}

/// Memory of a registry that was just started: alone, with many slow pulls, with many stalled uploads.
fn memory(bench: &Bench, group: &mut Group<'_>) -> Result<()> {
    let shapes = vec![
        shape("idle, memory", "MiB", Goal::AtMost(20.0)),
        shape("256 pulls at once, peak memory", "MiB", Goal::AtMost(64.0)),
        shape("256 pulls at once, CPU", "s per GB", Goal::None),
        shape("64 stalled uploads, peak memory", "MiB", Goal::AtMost(64.0)),
    ];
    let shared = site::bytes(2, usize::try_from(SHARED_BYTES)?);
    let digest = Digest::sha256(&shared);
    group("memory", 3, shapes, &|side| {
        let folder = bench.folder(&format!("{}-memory", side.kind.name()))?;
        site::push(&mut side.kind.start(&folder)?.connect()?, REPOSITORY, &digest, Load::Bytes(&shared))?;
        let site = side.kind.start(&folder)?;
        std::thread::sleep(Duration::from_secs(1));
        let idle = resident(&[site.server.id()]);
        let pulls = watched(&site, || slow_pulls(&site, &digest))?;
        let all = site::gigabytes(SHARED_BYTES) * count(PULLING);
        drop(site);
        let site = side.kind.start(&folder)?;
        let stalled = watched(&site, || stalled_uploads(&site, &shared))?;
        Ok(vec![idle, pulls.peak, pulls.cpu / all, stalled.peak])
    })
}

/// All have begun before any goes on.
fn slow_pulls(site: &Site, digest: &Digest) -> Result<()> {
    let path = format!("/v2/{REPOSITORY}/blobs/{digest}");
    let all = Barrier::new(PULLING);
    let each = at_once(PULLING, |_| {
        let begin = || {
            let mut connection = site.connect()?;
            connection.send("GET", &path, "", Load::Nothing)?;
            let answer = connection.head()?;
            anyhow::ensure!(answer.status == 200 && answer.length == SHARED_BYTES, "{answer:?}");
            connection.skip(MB)?;
            Ok(connection)
        };
        let begun: Result<_> = begin();
        // Reached in any case, so that one failure does not leave the others waiting.
        all.wait();
        std::thread::sleep(Duration::from_secs(1));
        begun?.skip(SHARED_BYTES - MB)
    })?;
    drop(each);
    Ok(())
}

fn stalled_uploads(site: &Site, bytes: &[u8]) -> Result<()> {
    let all = Barrier::new(STALLED);
    at_once(STALLED, |_| {
        let begin = || {
            let mut connection = site.connect()?;
            let location = site::begin(&mut connection, REPOSITORY)?;
            let path = site::finish_path(&location, &Digest::sha256(b"never finished"));
            connection.promise("PUT", &path, "application/octet-stream", SHARED_BYTES)?;
            connection.write(&bytes[..bytes.len() / 2])?;
            Ok(connection)
        };
        let begun: Result<_> = begin();
        all.wait();
        std::thread::sleep(Duration::from_secs(1));
        begun.map(drop)
    })
    .map(drop)
}

/// 10,000 tags, all of them, in pages of 100.
fn tags(bench: &Bench, group: &mut Group<'_>) -> Result<()> {
    let number: usize = if bench.small { 300 } else { 10_000 };
    let repository = "bench/tags";
    let shapes = vec![
        shape("10,000 tags in pages of 100, clock", "ms", Goal::AtMost(150.0)),
        shape("10,000 tags in pages of 100, CPU", "ms", Goal::None),
    ];
    let filled = std::sync::Mutex::new(Vec::new());
    group("10,000 tags", 3, shapes, &|side| {
        let name = side.kind.name();
        let mut filled = filled.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !filled.contains(&name) {
            let image = SmallImage::new(1);
            image.push(&mut side.site.connect()?, repository, "first")?;
            at_once(16, |client| {
                let mut connection = side.site.connect()?;
                (client..number)
                    .step_by(16)
                    .try_for_each(|nth| image.tag(&mut connection, repository, &format!("t{nth:05}")))
            })?;
            filled.push(name);
        }
        let mut pages = 0;
        let cost = watched(&side.site, || {
            let mut connection = side.site.connect()?;
            let mut next = Some(format!("/v2/{repository}/tags/list?n=100"));
            while let Some(path) = next {
                let link = connection.ask("GET", &path, "", Load::Nothing, 200)?.link;
                next = link.and_then(|link| Some(link.split_once('<')?.1.split_once('>')?.0.to_owned()));
                pages += 1;
            }
            Ok(())
        })?;
        anyhow::ensure!(pages > number / 100, "only {pages} pages of tags");
        Ok(vec![cost.wall * 1e3, cost.cpu * 1e3])
    })
}

/// Does the same from so many threads at once; the first failure, if any.
fn at_once<T: Send>(threads: usize, work: impl Fn(usize) -> Result<T> + Sync) -> Result<Vec<T>> {
    let work = &work;
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads)
            .map(|nth| std::thread::Builder::new().stack_size(256 << 10).spawn_scoped(scope, move || work(nth)))
            .collect::<std::io::Result<_>>()?;
        handles.into_iter().map(|handle| handle.join().map_err(|_| anyhow::anyhow!("a client panicked"))?).collect()
    })
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn count(number: usize) -> f64 {
    number as f64
}
