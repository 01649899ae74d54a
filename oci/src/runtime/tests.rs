//! Real containers, made from a few programs of this machine. Skipped loudly where no runtime program works.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use tokio::sync::mpsc;

use super::*;

/// A root with the named programs of this machine and the libraries that they name.
fn root_with(programs: &[&str]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let mut files = BTreeSet::new();
    for name in programs {
        let path = ["/bin", "/usr/bin"].map(|dir| format!("{dir}/{name}"));
        let path = path.iter().find(|path| Path::new(path).exists()).unwrap();
        files.insert(path.clone());
        let output = std::process::Command::new("ldd").arg(path).output().unwrap();
        for word in String::from_utf8(output.stdout).unwrap().split_whitespace() {
            if word.starts_with('/') {
                files.insert(word.to_owned());
            }
        }
    }
    for file in files {
        let to = root.path().join(file.trim_start_matches('/'));
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(&file, &to).unwrap();
    }
    for dir in ["proc", "dev", "sys", "tmp", "in", "out"] {
        std::fs::create_dir_all(root.path().join(dir)).unwrap();
    }
    std::fs::set_permissions(root.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    root
}

async fn runtime(state: &Path) -> Option<Runtime> {
    match Runtime::probe(state).await {
        Ok(runtime) => Some(runtime),
        Err(error) if std::env::var_os("NEBH_REQUIRE_PEERS").is_some() => panic!("{error}"),
        Err(error) => {
            println!("SKIPPED: {error}");
            None
        }
    }
}

fn id() -> String {
    format!("nebh-test-{}", uuid::Uuid::now_v7().simple())
}

fn shell(root: &Path, script: &str) -> BundleSpec {
    let mut spec = BundleSpec::new(root, ["/bin/sh", "-c", script].map(str::to_owned).to_vec());
    spec.env = vec![("PATH".into(), "/bin:/usr/bin".into())];
    spec
}

async fn run(runtime: &Runtime, spec: &BundleSpec) -> (ExitReason, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let bundle = Bundle::write(dir.path(), &id(), spec).unwrap();
    let (lines, mut from) = mpsc::channel::<OutputLine>(16);
    let reader = tokio::spawn(async move {
        let mut all = Vec::new();
        while let Some(line) = from.recv().await {
            all.push(line.text);
        }
        all
    });
    let exit = runtime.run(&bundle, lines).await.unwrap();
    assert!(runtime.state(bundle.id()).await.unwrap().is_none());
    (exit, reader.await.unwrap())
}

#[tokio::test]
async fn container_has_only_what_it_was_granted() {
    let state = tempfile::tempdir().unwrap();
    let Some(runtime) = runtime(state.path()).await else { return };
    let root = root_with(&["sh", "cat", "ls", "id", "mount"]);
    let mut spec = shell(
        root.path(),
        "id -u; cat /proc/sys/kernel/hostname; ls /sys/class/net 2>/dev/null; cat /proc/net/dev | (n=0; while read l; do n=$((n+1)); done; echo lines $n); \
         while read k v; do case $k in CapEff:|CapBnd:|NoNewPrivs:|Seccomp:) echo $k $v;; esac; done < /proc/self/status; \
         echo x > /refused || echo read-only; mount -t tmpfs none /tmp || echo no mount; cat /in/file; echo y > /out/made; exit 7",
    );
    let (input, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(input.path().join("file"), "given\n").unwrap();
    std::fs::set_permissions(input.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::set_permissions(output.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    spec.uid = 4242;
    spec.hostname = "box".into();
    spec.mounts = vec![
        Mount::read_only(input.path(), "/in"),
        Mount::read_write(output.path(), "/out"),
        Mount::tmpfs("/tmp", 1 << 20),
    ];
    spec.limits = Limits { memory: Some(64 << 20), pids: Some(64), cpu_millis: Some(1000) };
    let (exit, lines) = run(&runtime, &spec).await;
    let text = lines.join("\n");
    assert_eq!(exit, ExitReason::Code(7), "{text}");
    for expected in [
        "4242",
        "box",
        "lines 3",
        "CapEff: 0000000000000000",
        "CapBnd: 0000000000000000",
        "NoNewPrivs: 1",
        "Seccomp: 2",
        "read-only",
        "no mount",
        "given",
    ] {
        assert!(lines.iter().any(|line| line == expected), "no `{expected}` in:\n{text}");
    }
    assert_eq!(std::fs::read_to_string(output.path().join("made")).unwrap(), "y\n");
}

#[tokio::test]
async fn user_namespace_maps_root_to_somebody() {
    let state = tempfile::tempdir().unwrap();
    let Some(runtime) = runtime(state.path()).await else { return };
    let root = root_with(&["sh", "id", "cat"]);
    let output = tempfile::tempdir().unwrap();
    std::fs::set_permissions(output.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let mut spec = shell(root.path(), "id -u; cat /proc/self/uid_map; echo z > /out/file");
    (spec.uid, spec.gid) = (0, 0);
    spec.user_namespace = UserNamespace::Mapped(IdMap { first: 200_000, count: 65536 });
    spec.mounts = vec![Mount::read_write(output.path(), "/out")];
    let (exit, lines) = run(&runtime, &spec).await;
    assert_eq!(exit, ExitReason::Code(0), "{lines:?}");
    assert_eq!(lines[0], "0");
    assert_eq!(lines[1].split_whitespace().collect::<Vec<_>>(), ["0", "200000", "65536"]);
    let made = std::fs::metadata(output.path().join("file")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), 200_000);
}

#[tokio::test]
async fn created_container_waits_for_start_and_answers_exec() {
    let state = tempfile::tempdir().unwrap();
    let Some(runtime) = runtime(state.path()).await else { return };
    let root = root_with(&["sh", "sleep", "cat"]);
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let spec = shell(root.path(), "trap 'echo bye; exit 0' TERM; echo hello; while true; do sleep 0.05; done");
    let bundle = Bundle::write(&dir.path().join("bundle"), &id(), &spec).unwrap();
    let file = std::fs::File::create(&log).unwrap();
    let stdio = Stdio::Files { stdout: file.try_clone().unwrap(), stderr: file };
    let container = runtime.create(&bundle, stdio).await.unwrap();
    let known = runtime.state(&container.id).await.unwrap().unwrap();
    assert_eq!((known.status, known.pid), (ContainerStatus::Created, Some(container.pid)));
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "");
    if runtime.kind() == RuntimeKind::Runc {
        // Callers wait for a start: it must not cost the start of a program.
        let gone = Runtime::chosen(RuntimeKind::Runc, "/nonexistent/runc".into(), state.path().to_owned());
        gone.start(&container.id).await.unwrap();
        assert!(gone.start(&container.id).await.is_err(), "a container is started once");
    } else {
        runtime.start(&container.id).await.unwrap();
    }
    let known = runtime.state(&container.id).await.unwrap().unwrap();
    assert_eq!(known.status, ContainerStatus::Running);
    let args = |script: &str| ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    let minute = Duration::from_mins(1);
    let said = runtime.exec(&container.id, &args("echo inside; exit 3"), minute).await.unwrap();
    assert_eq!((said.exit, said.stdout.as_slice()), (ExitReason::Code(3), b"inside\n".as_slice()));
    let late = runtime.exec(&container.id, &args("sleep 600"), Duration::from_millis(300)).await.unwrap_err();
    assert!(matches!(late, RuntimeError::TimedOut { .. }), "{late}");
    assert_eq!(runtime.list().await.unwrap().len(), 1);
    runtime.kill(&container.id, "TERM").await.unwrap();
    while runtime.state(&container.id).await.unwrap().unwrap().status != ContainerStatus::Stopped {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "hello\nbye\n");
    runtime.delete(&container.id, false).await.unwrap();
    runtime.delete(&container.id, true).await.unwrap();
    assert!(runtime.state(&container.id).await.unwrap().is_none());
}

#[tokio::test]
async fn dropped_run_ends_its_container() {
    let state = tempfile::tempdir().unwrap();
    let Some(runtime) = runtime(state.path()).await else { return };
    let root = root_with(&["sh", "sleep"]);
    let dir = tempfile::tempdir().unwrap();
    let bundle = Bundle::write(dir.path(), &id(), &shell(root.path(), "echo up; sleep 600")).unwrap();
    let (lines, mut from) = mpsc::channel(16);
    tokio::select! {
        exit = runtime.run(&bundle, lines) => panic!("ended: {exit:?}"),
        line = from.recv() => assert_eq!(line.unwrap().text, "up"),
    }
    assert!(runtime.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn missing_program_is_the_runtimes_refusal_by_name() {
    let state = tempfile::tempdir().unwrap();
    let Some(runtime) = runtime(state.path()).await else { return };
    let root = root_with(&["sh"]);
    let dir = tempfile::tempdir().unwrap();
    let spec = BundleSpec::new(root.path(), vec!["/bin/absent".into()]);
    let bundle = Bundle::write(dir.path(), &id(), &spec).unwrap();
    let (lines, _from) = mpsc::channel(16);
    let error = runtime.run(&bundle, lines).await.unwrap_err();
    assert!(error.to_string().contains("/bin/absent"), "{error}");
    assert!(runtime.list().await.unwrap().is_empty());
}

#[test]
fn document_names_its_cgroup_and_sets_no_rlimits() {
    let mut spec = BundleSpec::new("/r", vec!["/x".into()]);
    spec.capabilities = vec!["CAP_NET_BIND_SERVICE".into()];
    let document = serde_json::to_value(runtime_document("a1", &spec).unwrap()).unwrap();
    assert_eq!(document["linux"]["cgroupsPath"], "/nebh/a1");
    assert!(document["process"].get("rlimits").is_none());
    assert_eq!(document["process"]["capabilities"]["effective"], serde_json::json!(["CAP_NET_BIND_SERVICE"]));
    spec.capabilities = vec!["CAP_ANYTHING".into()];
    assert!(matches!(runtime_document("a1", &spec), Err(SpecError::Capability { .. })));
}

#[test]
fn bad_ids_names_and_paths_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut spec = BundleSpec::new("/r", vec!["/x".into()]);
    for id in ["", "../x", "a/b", ".hidden"] {
        assert!(matches!(Bundle::write(dir.path(), id, &spec), Err(BundleError::BadId { .. })), "{id}");
    }
    spec.env = vec![("A=B".into(), "c".into())];
    assert!(matches!(runtime_document("a", &spec), Err(SpecError::BadText { .. })));
    spec.env.clear();
    spec.mounts = vec![Mount::tmpfs("relative", 1)];
    assert!(matches!(runtime_document("a", &spec), Err(SpecError::NotAbsolute { .. })));
}
