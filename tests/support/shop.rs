//! The shop: a small program in C that takes payments, made into signed releases on a site's gateway, and a node that
//! runs it. The source is that of the deployer's own tests.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use nebh_trust::key::PrivateKey;
use nebh_trust::release::{ConfigFile, ConfigLayer, ConfigSnapshot};

use super::payer::{Payer, ask};
use super::release::{self, Release};
use super::{Server, Site, client, free_port, leftovers, mounts, nebh, peer, said, succeed};

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
        let file = |(path, text): &(&str, &str)| ConfigFile {
            path: path.parse().expect("a path"),
            bytes: text.as_bytes().to_vec(),
            executable: false,
        };
        let files: Vec<ConfigFile> = config.iter().map(file).collect();
        let layer = ConfigLayer { name: "defaults".to_owned(), origin: "test".to_owned(), files };
        let config = &ConfigSnapshot { layers: if config.is_empty() { Vec::new() } else { vec![layer] } };
        let (client, address, site) = (client(), self.site.address("shop/api"), &self.site);
        let image = release::program("shop", &self.program, version).expect("an image");
        let publishing = async {
            client.push_artifact(&address, &image).await?;
            release::sign(&client, &address, &image.manifest, &[], &site.builder).await?;
            let release = Release { spec, version, counter, config };
            release.publish(&client, &address, &image.manifest, &site.releaser).await
        };
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(publishing).expect("the release is published");
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

    /// Both releases are prepared, and 1.0.0 serves.
    pub(crate) fn serve_first(&self) {
        for version in ["2.0.0", "1.0.0"] {
            done(self, &["node", "prepare", "--to", version]);
        }
        done(self, &["node", "switch", "--to", "1.0.0", "--no-wait"]);
        done(self, &["node", "commit"]);
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
        Payer::start(self.port, name)
    }

    /// Ends everything that runs on this node with SIGKILL: programs, attendants, the entrance, the agent. Containers and
    /// the entrance outlive the agent on purpose; here they end, each by what names this folder.
    pub(crate) fn end_all(&mut self) {
        self.agent = None;
        // Attendants first: they would write down how their program ended.
        for place in [self.folder().to_owned(), self.state()] {
            for (pid, _) in leftovers::processes_of(&place).into_iter().filter(|(_, line)| !line.contains("gateway")) {
                leftovers::kill(pid);
            }
        }
        leftovers::inits(&self.containers()).into_iter().for_each(leftovers::kill);
        self.unmount();
    }

    fn containers(&self) -> PathBuf {
        self.state().join("containers")
    }

    /// The disk of a plan that has one is its own, and unmounts itself.
    fn unmount(&self) {
        mounts::unmount_below(self.folder());
        mounts::unmount_below(&self.state());
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        self.end_all();
        leftovers::delete_containers(&self.containers());
        self.unmount();
    }
}

fn answers(output: &Output) -> bool {
    matches!(output.status.code(), Some(0 | 6))
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
