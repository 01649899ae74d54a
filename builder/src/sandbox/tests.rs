//! Jobs in real containers, made from this machine's own shell. Skipped loudly where no runtime program works.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use nebh_oci::runtime::Mount;

use super::*;
use crate::event::{BuildEvent, Events};
use crate::packages::MOUNT_POINTS;

mod hostile;

const NAMES: [&str; 8] = ["sh", "cat", "id", "ls", "uname", "env", "perl", "mkfifo"];

fn root(at: &Path) {
    let mut files = BTreeSet::new();
    for name in NAMES {
        let path = format!("/bin/{name}");
        let output = std::process::Command::new("ldd").arg(&path).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        files.extend(text.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned));
        files.insert(path);
    }
    for file in files {
        let to = at.join(file.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(&file, &to).unwrap();
    }
    for folder in MOUNT_POINTS {
        fs::create_dir_all(at.join(folder)).unwrap();
    }
}

pub(super) async fn sandbox(state: &Path) -> Option<Sandbox> {
    match Sandbox::open(state).await {
        Ok(sandbox) => Some(sandbox),
        Err(error) if std::env::var_os("NEBH_REQUIRE_PEERS").is_some() => panic!("{error:?}"),
        Err(error) => {
            println!("SKIPPED: {error:?}");
            None
        }
    }
}

pub(super) struct Place {
    pub(super) dir: tempfile::TempDir,
}

impl Place {
    pub(super) fn new(open: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mode = if open { 0o755 } else { 0o700 };
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
        root(&dir.path().join("root"));
        fs::create_dir(dir.path().join("out")).unwrap();
        Self { dir }
    }

    pub(super) fn job(&self, script: &str) -> Job {
        Job {
            step: "test".into(),
            root: self.dir.path().join("root"),
            mounts: vec![Mount::read_write(self.dir.path().join("out"), "/x/target")],
            args: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            env: [
                ("PATH".to_owned(), "/bin".to_owned()),
                ("OWN".to_owned(), "own".to_owned()),
                ("PERL_BADLANG".to_owned(), "0".to_owned()),
            ]
            .into(),
            cwd: "/x".into(),
        }
    }

    pub(super) async fn run(&self, sandbox: &Sandbox, script: &str) -> (Result<(), SandboxError>, Vec<String>) {
        let (events, mut received) = Events::new();
        let result = sandbox.run(&self.job(script), &self.dir.path().join("bundle"), 1_700_000_000, &events).await;
        drop(events);
        let mut lines = Vec::new();
        while let Some(event) = received.recv().await {
            if let BuildEvent::StepLog { line, .. } = event {
                lines.push(line);
            }
        }
        (result, lines)
    }
}

#[tokio::test]
async fn job_finds_the_same_world_with_and_without_a_user_namespace() {
    let mut worlds = Vec::new();
    for open in [true, false] {
        let place = Place::new(open);
        let Some(sandbox) = sandbox(&place.dir.path().join("runtime")).await else { return };
        let script = "env; id -u; id -g; uname -n; umask; ls /x/target; cat /proc/net/dev | { read a; read b; n=0; while read c; do n=$((n+1)); done; echo devices $n; }; \
                      echo made > /x/target/made; echo no 2>/dev/null > /refused || echo read-only";
        let (result, mut lines) = place.run(&sandbox, script).await;
        result.unwrap();
        lines.sort();
        let owner = fs::metadata(place.dir.path().join("out/made")).unwrap().uid();
        assert_eq!(owner, if open { 1_600_001_000 } else { 1000 });
        worlds.push(lines);
    }
    assert_eq!(worlds[0], worlds[1]);
    for expected in [
        "SOURCE_DATE_EPOCH=1700000000",
        "TZ=UTC",
        "LC_ALL=C.UTF-8",
        "OWN=own",
        "1000",
        "nebh",
        "0022",
        "devices 1",
        "read-only",
    ] {
        assert!(worlds[0].iter().any(|line| line == expected), "no {expected} in {:#?}", worlds[0]);
    }
    assert!(!worlds[0].iter().any(|line| line.starts_with("CARGO") || line.contains("NEBH")), "{:#?}", worlds[0]);
}

#[tokio::test]
async fn network_use_is_an_error_that_says_there_is_none() {
    let place = Place::new(true);
    let Some(sandbox) = sandbox(&place.dir.path().join("runtime")).await else { return };
    let script = "echo first >&2; echo 'curl: (6) Could not resolve host: example.org' >&2; exit 6";
    let (result, lines) = place.run(&sandbox, script).await;
    let text = result.unwrap_err().to_string();
    assert_eq!(
        text,
        "step `test` failed: `/bin/sh` ended with exit code 6; the sandbox has no network: every input has to be in the lock\n  | first\n  | curl: (6) Could not resolve host: example.org"
    );
    assert_eq!(lines.len(), 2);
}

#[tokio::test]
async fn failed_job_shows_its_last_lines_without_what_steers_a_terminal() {
    let place = Place::new(true);
    let Some(sandbox) = sandbox(&place.dir.path().join("runtime")).await else { return };
    let (result, lines) = place.run(&sandbox, "n=0; while [ $n -lt 50 ]; do echo line $n; n=$((n+1)); done; printf '\\033[31mred\\033[0m\\007\\n'; sh -c 'kill -SEGV $$'").await;
    let SandboxError::Failed { exit, tail, .. } = result.unwrap_err() else { panic!() };
    assert_eq!((exit.to_string().as_str(), tail.len()), ("signal 11", 20));
    assert!(tail.iter().any(|line| line == "red") && lines.len() >= 51, "{tail:?}");
}

#[tokio::test]
async fn container_of_a_killed_builder_is_ended_by_the_next_one() {
    let place = Place::new(true);
    let state = place.dir.path().join("runtime");
    let Some(sandbox) = sandbox(&state).await else { return };
    // A builder that is killed drops nothing: its future is forgotten while the container runs.
    let work = place.dir.path().join("work");
    fs::create_dir(&work).unwrap();
    fs::write(work.join(".lock"), "").unwrap();
    let (events, mut received) = Events::new();
    let (job, folder) = (place.job("echo up; while true; do cat /x/no 2>/dev/null; done"), work.join("bundle"));
    let mut run = Box::pin(async move { sandbox.run(&job, &folder, 1, &events).await });
    tokio::select! {
        result = &mut run => panic!("ended: {result:?}"),
        event = received.recv() => assert!(event.is_some()),
    }
    std::mem::forget(run);
    assert_eq!(fs::read_dir(&state).unwrap().count(), 1);
    drop(Sandbox::open(&state).await.unwrap());
    assert_eq!(fs::read_dir(&state).unwrap().count(), 0);
}
