//! Runs with a real runtime. The attendant is this very test program, called by a script as `nebh` would be.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::Parser;
use nebh_oci::runtime::{BundleSpec, Mount, Runtime};
use rustix::process::Signal;

use super::*;

#[derive(clap::Parser)]
struct Line {
    #[command(subcommand)]
    command: crate::cli::Command,
}

/// Not a test of its own: what the script below calls.
#[test]
fn stands_in_for_the_program() {
    let Ok(text) = std::env::var("NEBH_TEST_LINE") else { return };
    let line = Line::try_parse_from(std::iter::once("nebh").chain(text.split_whitespace())).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(crate::cli::run(line.command, &nebh_face::Globals::default())).unwrap();
}

/// A script that behaves like the program.
pub(crate) fn program(folder: &Path) -> PathBuf {
    let script = folder.join("nebh");
    let me = std::env::current_exe().unwrap();
    let text = format!(
        "#!/bin/sh\nNEBH_TEST_LINE=\"$*\" exec {} --exact container::tests::stands_in_for_the_program --nocapture\n",
        me.display()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    script
}

/// A runtime that works here, or a loud skip.
pub(crate) async fn runtime(folder: &Path) -> Option<Runtime> {
    match Runtime::probe(&folder.join("containers")).await {
        Ok(runtime) => Some(runtime),
        Err(error) => {
            assert!(std::env::var_os("NEBH_REQUIRE_PEERS").is_none(), "{error}");
            println!("SKIPPED: {error}");
            None
        }
    }
}

struct Bench {
    folder: tempfile::TempDir,
    runner: Runner,
}

impl Bench {
    async fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let runtime = runtime(folder.path()).await?;
        let runner = Runner::new(runtime, program(folder.path()));
        Some(Self { folder, runner })
    }

    /// A container that sees the host's programs and one folder of ours.
    fn spec(&self, args: &[&str]) -> BundleSpec {
        let root = self.folder.path().join("root");
        fs::create_dir_all(&root).unwrap();
        let mut spec = BundleSpec::new(&root, args.iter().map(|text| (*text).to_owned()).collect());
        for part in ["/bin", "/usr", "/lib", "/lib64"] {
            if Path::new(part).exists() {
                spec.mounts.push(Mount::read_only(fs::canonicalize(part).unwrap(), part));
            }
        }
        spec.mounts.push(Mount::read_only(self.folder.path(), "/ours"));
        spec
    }

    fn run(&self, number: u32) -> Run {
        let id = format!("nebh-test-{}", uuid::Uuid::now_v7().simple());
        Run::of(&self.folder.path().join("g1"), &id, number)
    }
}

#[tokio::test]
async fn spare_starts_speaks_to_its_log_stops_on_term_and_leaves_a_record() {
    let Some(bench) = Bench::new().await else { return };
    let script = "trap 'echo bye; exit 7' TERM; echo hello; while :; do sleep 0.01; done";
    let run = bench.run(1);
    let spec = bench.spec(&["/bin/sh", "-c", script]);
    let process = bench.runner.create(&run, &spec).await.unwrap();
    assert!(run.is_spare() && !run.may_run());
    assert_eq!(bench.runner.create(&run, &spec).await.unwrap(), process, "a spare is left alone");

    assert_eq!(bench.runner.start(&run).await.unwrap(), process);
    assert!(bench.runner.is_running(&run).await.unwrap() && !run.is_spare());
    assert_eq!(bench.runner.start(&run).await.unwrap(), process, "what runs is left alone");
    let log = bench.folder.path().join("g1/stdout.log");
    while fs::read_to_string(&log).unwrap() != "hello\n" {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    bench.runner.stop(&run, Signal::TERM, Duration::from_secs(30)).await.unwrap();
    assert_eq!(run.ended().await, Some(Exit::Code { code: 7 }));
    assert_eq!(fs::read_to_string(&log).unwrap(), "hello\nbye\n");
    assert!(matches!(bench.runner.start(&run).await, Err(RunError::Over { .. })));
    bench.runner.discard(&run).await.unwrap();
    bench.runner.discard(&run).await.unwrap();
}

#[tokio::test]
async fn program_that_ignores_the_signal_is_killed_after_its_grace() {
    let Some(bench) = Bench::new().await else { return };
    let run = bench.run(1);
    let script = "trap '' TERM; echo deaf; while :; do sleep 0.01; done";
    bench.runner.create(&run, &bench.spec(&["/bin/sh", "-c", script])).await.unwrap();
    bench.runner.start(&run).await.unwrap();
    let log = bench.folder.path().join("g1/stdout.log");
    while fs::read_to_string(&log).unwrap() != "deaf\n" {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    bench.runner.stop(&run, Signal::TERM, Duration::from_millis(50)).await.unwrap();
    assert_eq!(run.ended().await, Some(Exit::Signal { number: 9, name: "SIGKILL".to_owned() }));
    bench.runner.discard(&run).await.unwrap();
}

#[tokio::test]
async fn segmentation_fault_is_known_by_its_name() {
    let Some(bench) = Bench::new().await else { return };
    let source = bench.folder.path().join("crash.c");
    fs::write(&source, "int main(void) { *(volatile int *)0 = 1; return 0; }").unwrap();
    let made = Command::new("cc").arg("-o").arg(bench.folder.path().join("crash")).arg(&source).status();
    if !made.is_ok_and(|status| status.success()) {
        println!("SKIPPED: no C compiler here");
        return;
    }
    fs::set_permissions(bench.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let run = bench.run(1);
    bench.runner.create(&run, &bench.spec(&["/ours/crash"])).await.unwrap();
    bench.runner.start(&run).await.unwrap();
    assert_eq!(run.ended().await, Some(Exit::Signal { number: 11, name: "SIGSEGV".to_owned() }));
    bench.runner.discard(&run).await.unwrap();
}

#[tokio::test]
async fn container_that_cannot_be_created_says_why() {
    let Some(bench) = Bench::new().await else { return };
    let run = bench.run(1);
    let mut spec = bench.spec(&["/bin/true"]);
    spec.mounts.push(Mount::read_only("/does/not/exist", "/data"));
    let error = bench.runner.create(&run, &spec).await.unwrap_err().to_string();
    assert!(error.starts_with("cannot create container") && error.contains("/does/not/exist"), "{error}");
    bench.runner.discard(&run).await.unwrap();
}

#[tokio::test]
async fn spare_is_discarded_with_its_container() {
    let Some(bench) = Bench::new().await else { return };
    let run = bench.run(1);
    let process = bench.runner.create(&run, &bench.spec(&["/bin/true"])).await.unwrap();
    bench.runner.discard(&run).await.unwrap();
    assert!(!process.is_there());
    assert!(Run::all(&bench.folder.path().join("g1"), "x").is_empty());
}
