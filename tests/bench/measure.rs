//! What a process and everything below it costs: CPU seconds, the peak of its memory, wall time. All from `/proc`.
//!
//! CPU seconds are those of the whole tree, ended children included, as far as their parents waited for them. The peak
//! is the sum of the resident sets (shared pages count in each), sampled, or the kernel's own high-water mark of the
//! root where that is higher.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// Time between two looks at the memory of a tree.
const SAMPLE_EVERY: Duration = Duration::from_millis(25);
/// What `/proc/<pid>/stat` counts in: 100 a second on every Linux that Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;
const PAGE_BYTES: f64 = 4096.0;
const MIB: f64 = 1024.0 * 1024.0;

/// What something cost.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    /// Seconds on the clock.
    pub(crate) wall: f64,
    /// Seconds of CPU, user and system.
    pub(crate) cpu: f64,
    /// Most resident memory at one moment, MiB.
    pub(crate) peak: f64,
}

/// Runs a command to its end and measures its tree. It has to succeed. One at a time: the CPU seconds are what the
/// kernel books on us for children that ended.
pub(crate) fn run(command: &mut Command) -> Result<Cost> {
    crate::scratch::goes_on()?;
    let before = own_children_cpu()?;
    let start = Instant::now();
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {command:?}"))?;
    let sampler = Sampler::start(vec![child.id()]);
    let output = child.wait_with_output()?;
    let wall = start.elapsed().as_secs_f64();
    let peak = sampler.stop();
    ensure!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(Cost { wall, cpu: own_children_cpu()? - before, peak })
}

/// Measures processes that go on: a server, or several that work together, from now until [`Watch::stop`].
#[derive(Debug)]
pub(crate) struct Watch {
    roots: Vec<u32>,
    start: Instant,
    cpu: f64,
    sampler: Sampler,
}

impl Watch {
    /// Starts to measure the trees below these processes.
    pub(crate) fn start(roots: &[u32]) -> Self {
        for root in roots {
            // Forgets the high-water mark of before; without root it stays, and the samples alone count.
            drop(std::fs::write(format!("/proc/{root}/clear_refs"), "5"));
        }
        Self {
            roots: roots.to_vec(),
            start: Instant::now(),
            cpu: trees_cpu(roots),
            sampler: Sampler::start(roots.to_vec()),
        }
    }

    /// What it cost since the start.
    pub(crate) fn stop(self) -> Cost {
        let wall = self.start.elapsed().as_secs_f64();
        let cpu = trees_cpu(&self.roots) - self.cpu;
        let marks: f64 = self.roots.iter().filter_map(|root| high_water(*root)).sum();
        Cost { wall, cpu, peak: self.sampler.stop().max(marks) }
    }
}

/// The resident memory of these trees right now, MiB.
pub(crate) fn resident(roots: &[u32]) -> f64 {
    tree(roots).into_iter().filter_map(resident_pages).sum::<f64>() * PAGE_BYTES / MIB
}

/// A side: what it gave so far, and how it is measured once.
pub(crate) type Side<'a, T> = (&'a mut Vec<T>, &'a dyn Fn() -> Result<T>);

/// Measures every side once, in odd rounds the last one first, so that what drifts meets all of them.
pub(crate) fn in_turn<T>(round: usize, sides: &mut [Side<'_, T>]) -> Result<()> {
    if round % 2 == 1 {
        sides.reverse();
    }
    for (results, measure) in sides {
        results.push(measure()?);
    }
    Ok(())
}

#[derive(Debug)]
struct Sampler {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<f64>,
}

impl Sampler {
    fn start(roots: Vec<u32>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut peak = 0_f64;
            while !told.load(Ordering::Relaxed) {
                peak = peak.max(resident(&roots));
                std::thread::sleep(SAMPLE_EVERY);
            }
            peak
        });
        Self { stop, thread }
    }

    fn stop(self) -> f64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or(0.0)
    }
}

/// The processes of these trees that are there now.
pub(crate) fn tree(roots: &[u32]) -> Vec<u32> {
    let mut found = roots.to_vec();
    let mut at = 0;
    while let Some(pid) = found.get(at).copied() {
        at += 1;
        let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        for task in tasks.flatten() {
            let Ok(children) = std::fs::read_to_string(task.path().join("children")) else { continue };
            found.extend(children.split_ascii_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
    }
    found
}

fn trees_cpu(roots: &[u32]) -> f64 {
    tree(roots)
        .into_iter()
        .filter_map(|pid| cpu_ticks(Path::new(&format!("/proc/{pid}/stat"))))
        .map(|[user, system, children_user, children_system]| user + system + children_user + children_system)
        .sum::<f64>()
        / TICKS_PER_SECOND
}

fn own_children_cpu() -> Result<f64> {
    let [_, _, user, system] = cpu_ticks(Path::new("/proc/self/stat")).context("reading /proc/self/stat")?;
    Ok((user + system) / TICKS_PER_SECOND)
}

/// `utime`, `stime`, `cutime`, `cstime`.
fn cpu_ticks(stat: &Path) -> Option<[f64; 4]> {
    let text = std::fs::read_to_string(stat).ok()?;
    // The program's name stands in brackets and may hold anything, a bracket included.
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11).map(|field| field.parse::<f64>().unwrap_or(0.0));
    Some([fields.next()?, fields.next()?, fields.next()?, fields.next()?])
}

fn resident_pages(pid: u32) -> Option<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    text.split(' ').nth(1)?.parse().ok()
}

/// The kernel's high-water mark of one process, MiB.
fn high_water(pid: u32) -> Option<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok().map(|kib| kib / 1024.0)
}
