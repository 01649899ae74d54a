//! The shop: a small program in C that takes payments, made into signed releases on a site's gateway, and a node that
//! runs it. The source is that of the deployer's own tests.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nebh_trust::key::PrivateKey;

use super::{Server, Site, free_port, nebh, peer, release, said, succeed};

/// What a release of the shop says of itself.
pub(crate) const RELEASE: &str = "
name: shop/api
data:
  ledger: { mount: /var/lib/shop, class: ledger, schema: { writes: 1, reads: [1] } }
run:
  ports: [8080]
  alive: { http: ':8080/healthz', within: 10s }
  probation: 60s
";

/// Where a node keeps what, if not in the scratch folder.
pub(crate) struct Plan {
    /// The agent's state.
    pub(crate) state: PathBuf,
    /// Driver of the dataset.
    pub(crate) driver: &'static str,
    /// The live data.
    pub(crate) data: PathBuf,
}

impl Default for Plan {
    fn default() -> Self {
        Self { state: "node".into(), driver: "copy", data: "data/ledger".into() }
    }
}

/// A node with the shop: its gateway, its agent, its clients.
pub(crate) struct Shop {
    /// The gateway and the keys.
    pub(crate) site: Site,
    program: Vec<u8>,
    port: u16,
    plan: Plan,
    agent: Option<Server>,
}

impl Shop {
    /// A gateway with the releases 1.0.0 and 2.0.0, and a node's settings; no agent yet. `None` where it cannot be.
    pub(crate) fn start() -> Option<Self> {
        Self::planned(Plan::default())
    }

    /// The same, with other places.
    pub(crate) fn planned(plan: Plan) -> Option<Self> {
        let compiled = tempfile::tempdir().expect("a scratch folder");
        let program = compile(compiled.path());
        let runtime = super::has_program("runc") || super::has_program("crun");
        if !peer("a C compiler with a static libc", program.is_some()) || !peer("runc or crun", runtime) {
            return None;
        }
        if !peer("root", rustix::process::geteuid().is_root()) {
            return None;
        }
        let site = Site::start("signed");
        std::fs::create_dir(site.folder.path().join("data")).expect("a folder for data");
        let program = std::fs::read(program?).expect("the program");
        let shop = Self { site, program, port: free_port(), plan, agent: None };
        shop.settle("");
        for (version, counter) in [("1.0.0", 1), ("2.0.0", 2)] {
            shop.publish(version, counter, RELEASE, &[]);
        }
        Some(shop)
    }

    /// Writes the node's settings; `more` are further lines of it.
    fn settle(&self, more: &str) {
        let Plan { state, driver, data } = &self.plan;
        let (address, port) = (self.site.address("shop/api"), self.port);
        let settings = format!(
            "node: n1\nstate: {}\ntrust: trust.yaml\n{more}apps:\n  - name: shop/api\n    \
             follow: {{ repository: {address} }}\n    config: [config]\n    \
             datasets: {{ ledger: {{ driver: {driver}, path: {} }} }}\n    ports: {{ \"8080\": 127.0.0.1:{port} }}\n",
            state.display(),
            data.display()
        );
        std::fs::create_dir_all(self.folder().join("config")).expect("a folder for config");
        std::fs::write(self.folder().join("node.yaml"), settings).expect("settings");
    }

    /// Gives the node a key of its own, which its next agent signs the manifests of snapshots with.
    pub(crate) fn give_key(&self) {
        let key = PrivateKey::generate().expect("a key");
        let sealed = key.to_cosign_pem("test").expect("a sealed key");
        std::fs::write(self.folder().join("node.key"), sealed.as_bytes()).expect("a key file");
        std::fs::write(self.folder().join("node.pub"), key.public().to_pem().expect("PEM")).expect("a key file");
        self.settle("key: node.key\n");
    }

    /// The public half of it, PEM.
    pub(crate) fn node_key(&self) -> String {
        std::fs::read_to_string(self.folder().join("node.pub")).expect("a key file")
    }

    /// Makes a signed release and gives it its tag.
    pub(crate) fn publish(&self, version: &str, counter: u64, spec: &str, config: &[(&str, &str)]) {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(release::publish(&self.site, &self.program, version, counter, spec, config));
    }

    pub(crate) fn folder(&self) -> &Path {
        self.site.folder.path()
    }

    /// The agent's state.
    pub(crate) fn state(&self) -> PathBuf {
        self.folder().join(&self.plan.state)
    }

    /// The live data.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder().join(&self.plan.data)
    }

    /// A command with this node's settings.
    pub(crate) fn nebh(&self, arguments: &[&str]) -> Command {
        let mut command = nebh();
        command.args(arguments).arg("--settings").arg(self.folder().join("node.yaml"));
        command
    }

    /// Runs a command that may fail with its agent; gives what it said.
    pub(crate) fn say(&self, arguments: &[&str]) -> String {
        said(&self.nebh(arguments).output().expect("a command"))
    }

    /// Starts the agent and waits until it answers.
    pub(crate) fn run_agent(&mut self) {
        let mut agent = self.begin_agent(|_| {});
        agent.wait_until("the agent", || self.agent_answers());
        self.agent = Some(agent);
    }

    /// Starts the agent; it may end before it answers.
    pub(crate) fn run_agent_with(&mut self, more: impl FnOnce(&mut Command)) {
        let mut agent = self.begin_agent(more);
        let mut looks = 0;
        while agent.is_up() && !self.agent_answers() && looks < 500 {
            looks += 1;
        }
        self.agent = Some(agent);
    }

    fn begin_agent(&self, more: impl FnOnce(&mut Command)) -> Server {
        let mut command = self.nebh(&["node", "run", "-v"]);
        more(&mut command);
        Server::start(&mut command, &self.folder().join("agent.log"))
    }

    fn agent_answers(&self) -> bool {
        self.nebh(&["node", "status"]).output().is_ok_and(|output| answers(&output))
    }

    /// True once the agent has ended by itself.
    pub(crate) fn agent_ended(&mut self) -> bool {
        self.agent.as_mut().is_none_or(|agent| !agent.is_up())
    }

    /// What the agent wrote.
    pub(crate) fn agent_output(&self) -> String {
        self.agent.as_ref().map(Server::output).unwrap_or_default()
    }

    /// Ends the agent with SIGKILL if it did not end itself.
    pub(crate) fn kill_agent(&mut self) {
        self.agent = None;
    }

    /// The phase and the live version, once nothing is on its way any more; probation is committed.
    pub(crate) fn settled(&self) -> (String, String) {
        for _ in 0..600 {
            let text = self.status();
            let phase = text["apps"][0]["phase"].as_str().unwrap_or_default().to_owned();
            match phase.as_str() {
                "probation" => drop(self.nebh(&["node", "commit"]).output()),
                "serving" | "empty" => return (phase, self.version().unwrap_or_default()),
                // Its gate is held, so nobody would answer.
                "needs-operator" => return (phase, String::new()),
                _ => {}
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("it never settles: {}\n{}", self.status(), self.agent_output());
    }

    /// `nebh node status --output json`
    pub(crate) fn status(&self) -> serde_json::Value {
        let output = self.nebh(&["node", "status", "--output", "json"]).output().expect("a status");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        serde_json::from_str(text.lines().next().unwrap_or_default()).unwrap_or_else(|_| panic!("{}", said(&output)))
    }

    /// The version that answers at the entrance.
    pub(crate) fn version(&self) -> std::io::Result<String> {
        ask(self.port, "GET /")
    }

    /// Makes the live program die of a segmentation fault.
    pub(crate) fn crash_program(&self) {
        drop(ask(self.port, "GET /crash"));
    }

    /// Every payment in the live data.
    pub(crate) fn book(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.data().join("book")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Every payment in the live data, the snapshots and the left timelines.
    pub(crate) fn everything_kept(&self) -> Vec<String> {
        let mut all = self.book();
        for kind in ["snap", "tl"] {
            let folder = self.beside().join(kind);
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let text = std::fs::read_to_string(entry.path().join("book")).unwrap_or_default();
                all.extend(text.lines().map(str::to_owned));
            }
        }
        all
    }

    /// Snapshots that the agent counts on and that are not on the disk.
    pub(crate) fn lost_snapshots(&self) -> Vec<String> {
        let status = self.status();
        let known = status["apps"][0]["state"]["data"]["snapshots"].as_object().expect("snapshots");
        let is_lost = |name: &&String| !self.beside().join("snap").join(name).is_dir();
        known.keys().filter(is_lost).map(|name| format!("snapshot {name}")).collect()
    }

    /// Where snapshots and left timelines lie.
    pub(crate) fn beside(&self) -> PathBuf {
        self.data().with_extension("nebh")
    }

    /// One payment; true if it was acknowledged.
    pub(crate) fn pay(&self, payment: &str) -> bool {
        ask(self.port, &format!("POST /pay/{payment}")).is_ok_and(|answer| answer == "paid")
    }

    /// A client that pays again and again until it is dropped.
    pub(crate) fn client(&self) -> Payer {
        self.client_named("p")
    }

    /// One of several; its payments begin with its name.
    pub(crate) fn client_named(&self, name: &str) -> Payer {
        let name = name.to_owned();
        let (stop, paid) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let odd = Arc::new(Mutex::new(Vec::new()));
        let (port, ended, book, oddities) = (self.port, stop.clone(), paid.clone(), odd.clone());
        let thread = std::thread::spawn(move || {
            let mut number = 0;
            while !ended.load(Ordering::Relaxed) {
                number += 1;
                let payment = format!("{name}{number}");
                match ask(port, &format!("POST /pay/{payment}")) {
                    Ok(answer) if answer == "paid" => book.lock().expect("the client's book").push(payment),
                    Ok(answer) => oddities.lock().expect("a list").push(format!("{payment}: {answer:?}")),
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                        oddities.lock().expect("a list").push(format!("{payment}: no end within its patience"));
                    }
                    // Refused, reset or closed before a whole answer: a plain failure.
                    Err(_) => {}
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        Payer { stop, paid, odd, thread: Some(thread) }
    }
}

impl Shop {
    /// Ends everything that runs on this node with SIGKILL: programs, attendants, the entrance, the agent. Containers and
    /// the entrance outlive the agent on purpose; here they end, each by what names this folder.
    pub(crate) fn end_all(&mut self) {
        self.agent = None;
        // Attendants first: they would write down how their program ended.
        let here = self.folder().to_string_lossy().into_owned();
        let state = self.state().to_string_lossy().into_owned();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = entry.file_name().to_string_lossy().parse::<i32>().ok();
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line);
            let ours = (line.contains(&here) || line.contains(&state)) && !line.contains("gateway");
            if let Some(pid) = pid.filter(|_| ours).and_then(rustix::process::Pid::from_raw) {
                // It may have ended meanwhile.
                let _gone = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        let root = self.state().join("containers");
        for entry in std::fs::read_dir(&root).into_iter().flatten().flatten() {
            let text = std::fs::read_to_string(entry.path().join("state.json")).unwrap_or_default();
            let container: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            let pid = container["init_process_pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
            // A later process may have the number of one that is gone.
            let group = std::fs::read_to_string(format!("/proc/{}/cgroup", pid.unwrap_or(0))).unwrap_or_default();
            let ours = group.contains(&*entry.file_name().to_string_lossy());
            if let Some(pid) = pid.filter(|_| ours).and_then(rustix::process::Pid::from_raw) {
                let _gone = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        self.unmount_below();
    }

    fn unmount_below(&self) {
        let here = self.folder().to_string_lossy().into_owned();
        let state = self.state().to_string_lossy().into_owned();
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
        let mut below: Vec<&str> = mounts.lines().filter_map(|line| line.split(' ').nth(1)).collect();
        // The disk of a plan that has one is its own, and unmounts itself.
        let inside = |place: &&str| place.starts_with(&here) || place.starts_with(&format!("{state}/"));
        below.retain(inside);
        below.sort_unstable_by(|a, b| b.cmp(a));
        for place in below {
            let _gone = rustix::mount::unmount(place, rustix::mount::UnmountFlags::DETACH);
        }
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        self.end_all();
        let root = self.state().join("containers");
        let runtime = if super::has_program("runc") { "runc" } else { "crun" };
        for entry in std::fs::read_dir(&root).into_iter().flatten().flatten() {
            let id = entry.file_name();
            drop(Command::new(runtime).arg("--root").arg(&root).args(["delete", "--force"]).arg(id).output());
        }
        self.unmount_below();
    }
}

/// A client that pays.
pub(crate) struct Payer {
    stop: Arc<AtomicBool>,
    paid: Arc<Mutex<Vec<String>>>,
    odd: Arc<Mutex<Vec<String>>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Payer {
    /// What was acknowledged so far.
    pub(crate) fn acknowledged(&self) -> Vec<String> {
        self.paid.lock().expect("the client's book").clone()
    }

    /// Answers that were neither the whole one nor a plain failure.
    pub(crate) fn odd(&self) -> Vec<String> {
        self.odd.lock().expect("a list").clone()
    }

    /// Ends, and gives what was acknowledged.
    pub(crate) fn end(mut self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
        self.acknowledged()
    }
}

impl Drop for Payer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn answers(output: &Output) -> bool {
    matches!(output.status.code(), Some(0 | 6))
}

fn ask(port: u16, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    // In one piece: the program reads once.
    stream.write_all(format!("{request} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).ok_or(std::io::ErrorKind::UnexpectedEof.into())
}

fn compile(folder: &Path) -> Option<PathBuf> {
    let (source, program) = (folder.join("shop.c"), folder.join("shop"));
    std::fs::write(&source, include_str!("../../deployer/src/host/tests/shop.c")).expect("a source file");
    let made = Command::new("cc").arg("-static").arg("-o").arg(&program).arg(&source).output();
    made.is_ok_and(|output| output.status.success()).then_some(program)
}

/// Runs a command of the node that has to succeed.
pub(crate) fn done(shop: &Shop, arguments: &[&str]) -> String {
    succeed(&mut shop.nebh(arguments))
}
