//! What grows and what goes: one more referrer of an image that has many, and images collected while others are
//! pushed.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nebh_oci::digest::Digest;

use super::http::{Connection, Load};
use super::site::{Kind, MANIFEST, Site, SmallImage, push};
use super::{Group, REPOSITORY, at_once, count, shape, watched};
use crate::Bench;
use crate::measure::{Cost, run};
use crate::table::{Goal, quantile};

/// Clients that fill a registry.
const FILLING: usize = 16;
/// Referrers that are measured at each length of the list.
const MORE: u64 = 100;
/// What a manifest without a config points to.
const EMPTY: &[u8] = b"{}";
/// Of so many images one is collected while nobody pushes, and another one while somebody does.
const DELETED: usize = 6;
/// Unreferenced bytes that the gateway collects have not been asked for during this time: longer than a push takes.
const GRACE: Duration = Duration::from_secs(12);
/// How long condemned bytes wait, and somewhat more: a part of [`GRACE`].
const CONDEMNED: Duration = Duration::from_secs(1);
/// Passes that go through all there is: each takes a thousand blobs, and an image has two.
const PASSES: usize = 2;

/// One more referrer of an image, of which some or many are known.
pub(super) fn referrers(bench: &Bench, group: &mut Group<'_>) -> Result<()> {
    let many: u64 = if bench.small { 200 } else { 5_000 };
    let stamps = AtomicU64::new(0);
    let shapes = vec![
        shape("one referrer more at 100, CPU", "ms each", Goal::AtMost(3.0)),
        shape("one referrer more at 5,000, CPU", "ms each", Goal::AtMost(3.0)),
    ];
    group("referrers", 3, shapes, &|side| {
        let mut connection = side.site.connect()?;
        let empty = Digest::sha256(EMPTY);
        push(&mut connection, REPOSITORY, &empty, Load::Bytes(EMPTY))?;
        let subject = SmallImage::new(900_000 + stamps.fetch_add(1, Ordering::Relaxed));
        subject.push(&mut connection, REPOSITORY, "subject")?;
        let refer = |connection: &mut Connection, nth: u64| {
            let manifest = referrer(&subject, &empty, nth);
            let path = format!("/v2/{REPOSITORY}/manifests/{}", Digest::sha256(&manifest));
            connection.ask("PUT", &path, MANIFEST, Load::Bytes(&manifest), 201).map(drop)
        };
        let mut known = 0;
        let mut costs = Vec::new();
        for length in [100, many] {
            at_once(FILLING, |client| {
                let mut connection = side.site.connect()?;
                let first = known + client as u64;
                (first..length).step_by(FILLING).try_for_each(|nth| refer(&mut connection, nth))
            })?;
            let cost = watched(&side.site, || (length..length + MORE).try_for_each(|nth| refer(&mut connection, nth)))?;
            known = length + MORE;
            costs.push(cost.cpu * 1e3 / count(usize::try_from(MORE)?));
        }
        Ok(costs)
    })
}

fn referrer(subject: &SmallImage, empty: &Digest, nth: u64) -> Vec<u8> {
    let nothing =
        format!(r#"{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{empty}","size":{}}}"#, EMPTY.len());
    let (digest, size) = (subject.digest(), subject.manifest().len());
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","artifactType":"application/vnd.example.note","config":{nothing},"layers":[{nothing}],"subject":{{"mediaType":"{MANIFEST}","digest":"{digest}","size":{size}}},"annotations":{{"n":"{nth}"}}}}"#
    )
    .into_bytes()
}

/// A sixth of all images is deleted and collected, and another sixth.
pub(super) fn collecting(bench: &Bench, group: &mut Group<'_>) -> Result<()> {
    let images: usize = if bench.small { 150 } else { 5_000 };
    let rounds = AtomicU64::new(0);
    let shapes = vec![
        shape("833 of 5,000 images collected, CPU", "s", Goal::None),
        shape("833 of 5,000 images collected, clock", "s", Goal::None),
        shape("a push meanwhile, p99 ÷ that of before", "×", Goal::AtMost(1.2)),
    ];
    group("collecting", 1, shapes, &|side| {
        let nth = rounds.fetch_add(1, Ordering::Relaxed);
        let folder = bench.folder(&format!("{}-collecting-{nth}", side.kind.name()))?;
        let retention = format!("retention: {{ restorable: 0s, grace: {}s }}\n", GRACE.as_secs());
        let site = side.kind.start_with(&folder, &retention)?;
        let image = |nth: usize| SmallImage::new(2_000_000 + nth as u64);
        at_once(FILLING, |client| {
            let mut connection = site.connect()?;
            (client..images)
                .step_by(FILLING)
                .try_for_each(|nth| image(nth).push(&mut connection, REPOSITORY, &format!("t{nth:05}")))
        })?;
        let delete = |first: usize| {
            let mut connection = site.connect()?;
            (first..images).step_by(DELETED).try_for_each(|nth| {
                let path = format!("/v2/{REPOSITORY}/manifests/{}", image(nth).digest());
                connection.ask("DELETE", &path, "", Load::Nothing, 202).map(drop)
            })
        };
        let before = pushing(&site, || {
            std::thread::sleep(GRACE);
            Ok(())
        })?;
        let before = quantile(&before, 0.99);
        delete(0)?;
        match &side.kind {
            Kind::Nebh(_) => {
                // First all is condemned; what is still unreferenced a while later goes.
                let mut quiet = Cost::default();
                for _ in 0..2 {
                    std::thread::sleep(CONDEMNED);
                    let cost = watched(&site, || sweeps(&site))?;
                    quiet = Cost { cpu: quiet.cpu + cost.cpu, wall: quiet.wall + cost.wall, ..cost };
                }
                delete(DELETED / 2)?;
                let mut meanwhile = Vec::new();
                for _ in 0..2 {
                    std::thread::sleep(CONDEMNED);
                    meanwhile.extend(pushing(&site, || sweeps(&site))?);
                }
                for nth in [0, DELETED / 2] {
                    let gone = format!("/v2/{REPOSITORY}/blobs/{}", image(nth).layer());
                    site.connect()?.ask("HEAD", &gone, "", Load::Nothing, 404)?;
                }
                Ok(vec![quiet.cpu, quiet.wall, quantile(&meanwhile, 0.99) / before])
            }
            Kind::Distribution(program) => {
                drop(site);
                let cost = collect_stopped(program, &folder)?;
                // Whoever pushes meanwhile waits for all of it.
                Ok(vec![cost.cpu, cost.wall, cost.wall * 1e3 / before])
            }
        }
    })
}

fn sweeps(site: &Site) -> Result<()> {
    let mut connection = site.connect()?;
    for _ in 0..PASSES {
        connection.ask("POST", "/api/v1/sweep", "", Load::Nothing, 200)?;
    }
    Ok(())
}

fn collect_stopped(program: &Path, folder: &Path) -> Result<Cost> {
    run(Command::new(program)
        .arg("garbage-collect")
        .arg(folder.join("settings.yaml"))
        .env("OTEL_TRACES_EXPORTER", "none"))
}

/// Milliseconds of each push of a small image while something else is done.
fn pushing(site: &Site, work: impl FnOnce() -> Result<()>) -> Result<Vec<f64>> {
    static STAMPS: AtomicU64 = AtomicU64::new(3_000_000);
    let stop = AtomicBool::new(false);
    let latencies = std::thread::scope(|scope| {
        let pusher = scope.spawn(|| -> Result<Vec<f64>> {
            let mut connection = site.connect()?;
            let mut latencies = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let nth = STAMPS.fetch_add(1, Ordering::Relaxed);
                let image = SmallImage::new(nth);
                let start = Instant::now();
                image.push(&mut connection, REPOSITORY, &format!("p{nth}"))?;
                latencies.push(start.elapsed().as_secs_f64() * 1e3);
            }
            Ok(latencies)
        });
        let done = work();
        stop.store(true, Ordering::Relaxed);
        let latencies = pusher.join().map_err(|_| anyhow::anyhow!("a client panicked"))?;
        done.and(latencies)
    })?;
    ensure!(!latencies.is_empty(), "nothing was pushed meanwhile");
    Ok(latencies)
}
