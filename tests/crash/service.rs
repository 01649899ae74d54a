//! The build service, killed around every row of its queue and behind every push. Each delivery that it took ends exactly
//! once: one build, done, with one set of tags and the signatures of an undisturbed one, and the channel counted once.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Asking, Table, waits};
use crate::support::forge::Forge;
use crate::support::{Server, Site, client, listens, succeed};

const REPOSITORY: &str = "shop/site";
/// Points that one build passes several times: it is killed at each pass.
const REPEATED: [&str; 6] =
    ["blob-pushed", "signature-pushed", "attestation-pushed", "manifest-pushed", "tag-pushed", "release-part-pushed"];
struct Story {
    site: Site,
    forge: Forge,
    asking: Asking,
    service: Option<Server>,
    runtime: tokio::runtime::Runtime,
    number: u64,
    /// Tags that the repository has to have.
    tags: BTreeSet<String>,
    /// What is attached to the image and to the release of a build that nobody disturbed.
    attached: [usize; 2],
}

/// Kills at every point.
pub(super) fn story(table: &Table) {
    let mut story = Story::begin();
    for point in nebh_builder::crash::POINTS {
        let mut pass = 0;
        loop {
            let asked = if pass == 0 { point.to_owned() } else { format!("{point} {pass}") };
            let Some(found) = story.point(point, &asked) else { break };
            let label = if pass == 0 { point.to_owned() } else { format!("{point}, pass {}", pass + 1) };
            table.line(&label, "build service", &found, "one build, one set of tags, no delivery lost");
            table.reached(point);
            pass += 1;
            if !REPEATED.contains(&point) {
                break;
            }
        }
        assert!(pass > 0, "{point} was never reached");
    }
}

impl Story {
    fn begin() -> Self {
        let site = Site::start("signed");
        let (forge, asking) = (Forge::beside(&site), Asking::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let tags = BTreeSet::from(["channel.stable".to_owned()]);
        let mut story = Self { site, forge, asking, service: None, runtime, number: 0, tags, attached: [0, 0] };
        story.start();
        let version = story.push();
        let build = story.heard(&version);
        story.ended(&version, &build);
        story.attached = story.attached_to(&version);
        story
    }

    fn start(&mut self) {
        self.begin_service();
        let port = self.forge.port;
        if let Some(server) = &mut self.service {
            server.wait_until("the build service", || listens(port));
        }
    }

    fn begin_service(&mut self) {
        let asking = &self.asking;
        self.service = Some(self.forge.begin(self.site.port, |command| asking.arm(command)));
    }

    /// A new commit with a new version; its tag is in the repository, and nobody was told.
    fn push(&mut self) -> String {
        self.number += 1;
        let version = format!("1.0.{}", self.number);
        let page = self.forge.folder().join("work/www/index.html");
        std::fs::write(page, format!("hello {version}\n")).expect("a file is written");
        self.forge.git("work", &["commit", "-q", "-a", "-m", &version]);
        self.forge.git("work", &["tag", &format!("v{version}")]);
        self.forge.git("work", &["push", "-q", "origin", "main", &format!("v{version}")]);
        version
    }

    /// The forge tells of a version. The answer, or nothing if the service died of it.
    fn told(&self, version: &str) -> Option<Value> {
        self.runtime.block_on(self.forge.deliver(&format!("refs/tags/v{version}"), &format!("d-{version}"))).ok()
    }

    /// Tells again and again, as a forge does, until it is known which build it is.
    fn heard(&self, version: &str) -> String {
        let mut build = None;
        let mut asked = || {
            build = self.told(version).as_ref().and_then(|said| said["build"].as_str()).map(str::to_owned);
            build.is_some()
        };
        waits(&mut asked, || format!("delivery of {version} leads to no build: {}", self.output()));
        build.expect("a build")
    }

    fn output(&self) -> String {
        self.service.as_ref().map(Server::output).unwrap_or_default()
    }

    fn listed(&self) -> Vec<Value> {
        let listed = succeed(&mut self.forge.nebh(&["builder", "list", "--output", "json"]));
        listed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    fn build(&self, id: &str) -> Value {
        self.listed().into_iter().find(|build| build["id"] == id).unwrap_or_default()
    }

    /// Waits until the build is at its end, and that is a good one.
    fn ended(&mut self, version: &str, id: &str) {
        let at_end = |build: &Value| build["state"] == "done" || build["state"] == "failed";
        waits(|| at_end(&self.build(id)), || format!("{version}: the build has no end\n{}", self.output()));
        let build = self.build(id);
        assert_eq!(build["state"], "done", "{version}: {build}\n{}", self.output());
        let commit = build["commit"].as_str().expect("a commit");
        self.tags.extend([version.to_owned(), commit[..12].to_owned()]);
    }

    /// How much is attached to the image and to the release of a version.
    fn attached_to(&self, version: &str) -> [usize; 2] {
        let (address, client) = (self.site.address(REPOSITORY), client());
        self.runtime.block_on(async {
            let index = client.manifest_by_tag(&address, &version.parse().expect("a tag")).await.expect("the release");
            let image = index.index().expect("an index").manifests[0].digest;
            let mut counts = [0, 0];
            for (count, digest) in counts.iter_mut().zip([image, *index.digest()]) {
                *count = client.attached(&address, &digest).await.expect("signatures").len();
            }
            counts
        })
    }

    /// Dies at one point; what was found afterwards, or nothing if this pass does not exist.
    fn point(&mut self, point: &str, asked: &str) -> Option<String> {
        match point {
            "delivery-ignoring" | "delivery-ignored" => return Some(self.ignored(point)),
            "build-giving-back" | "build-given-back" => return Some(self.given_back(point)),
            "builds-recovering" | "builds-recovered" => return Some(self.recovered(point)),
            _ => {}
        }
        let version = self.push();
        self.asking.ask(asked);
        let taken = self.told(&version).is_some();
        let hit = self.dies_or(&version, taken && asked != point);
        if hit {
            self.start();
        }
        let state = self.state_of(&version);
        // What stands in the ledger is built, whether or not the forge got its answer and whether or not it asks again.
        if point != "delivery-entering" {
            self.built_unasked(&version);
        }
        let build = self.heard(&version);
        self.ended(&version, &build);
        self.once(point, &version, &build);
        if !hit {
            self.asking.withdraw();
        }
        hit.then_some(state)
    }

    /// Waits for the death. It may be that the build does not come by once more: then for its end, which comes last.
    fn dies_or(&mut self, version: &str, may_miss: bool) -> bool {
        let done = || may_miss && self.listed_of(version).iter().any(|build| build["state"] == "done");
        waits(|| self.asking.is_hit() || done(), || format!("{version}: neither death nor end\n{}", self.output()));
        let hit = self.asking.is_hit();
        if hit {
            self.gone();
        }
        hit
    }

    /// Waits until the killed service has ended.
    fn gone(&mut self) {
        if let Some(mut server) = self.service.take() {
            waits(|| !server.is_up(), || "the service does not die".to_owned());
        }
    }

    fn listed_of(&self, version: &str) -> Vec<Value> {
        // The service may die while it is asked.
        let listed = self.forge.nebh(&["builder", "list", "--output", "json"]).output().expect("a command");
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let builds = listed.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        builds
            .filter(|build| build["ref"].as_str().is_some_and(|name| name.ends_with(&format!("/v{version}"))))
            .collect()
    }

    fn state_of(&self, version: &str) -> String {
        match self.listed_of(version).first() {
            Some(build) => format!("the build is {}", build["state"].as_str().unwrap_or_default()),
            None => "no build yet".to_owned(),
        }
    }

    /// Waits for the build of a delivery that nobody sends again.
    fn built_unasked(&self, version: &str) {
        let at_end = |build: &Value| build["state"] == "done" || build["state"] == "failed";
        let built = || self.listed_of(version).iter().any(at_end);
        waits(built, || format!("{version}: the delivery is lost\n{}", self.output()));
    }

    /// One build of it, done; every tag, and no other; as much attached as without a death; the channel counted once.
    fn once(&self, point: &str, version: &str, build: &str) {
        let builds = self.listed_of(version);
        assert_eq!(builds.len(), 1, "{point}: {builds:?}");
        assert_eq!((&builds[0]["id"], &builds[0]["state"]), (&build.into(), &"done".into()), "{point}");
        let tags = self.runtime.block_on(client().tags(&self.site.address(REPOSITORY))).expect("tags");
        let tags = tags.iter().map(ToString::to_string).filter(|tag| !tag.starts_with("sha256-"));
        assert_eq!(tags.collect::<BTreeSet<String>>(), self.tags, "{point}");
        assert_eq!(self.attached_to(version), self.attached, "{point}: attached to image and release");
        let address = self.site.address(REPOSITORY).to_string();
        let show = ["channel", "show", "stable", "--repository", &address, "--key", "releaser.pub"];
        let head = succeed(&mut self.forge.nebh(&show));
        let releases = self.tags.iter().filter(|tag| tag.starts_with("1.0.")).count();
        assert!(head.contains(&format!("stable #{releases} → {version}")), "{point}: {head}");
    }

    /// A delivery of something that the repository does not have.
    fn ignored(&mut self, point: &str) -> String {
        let version = format!("9.9.{}", self.number);
        self.number += 1;
        self.asking.ask(point);
        let taken = self.told(&version).is_some();
        waits(|| self.asking.is_hit(), || format!("{point} was never reached\n{}", self.output()));
        self.gone();
        self.start();
        let ignored = || self.told(&version).is_some_and(|said| said.to_string().contains("the repository has no"));
        waits(ignored, || format!("{point}: a delivery without a reference is never ignored\n{}", self.output()));
        assert!(self.listed_of(&version).is_empty(), "{point}: built");
        if taken { "ignored" } else { "ignored, the forge had no answer" }.to_owned()
    }

    /// The service is asked to end while it builds.
    fn given_back(&mut self, point: &str) -> String {
        // Without a registry the build cannot come to its end.
        self.site.kill_gateway();
        let version = self.push();
        let build = self.heard(&version);
        waits(|| self.build(&build)["state"] == "running", || format!("{version}: never begun\n{}", self.output()));
        self.asking.ask(point);
        if let Some(mut service) = self.service.take() {
            service.stop();
            self.asking.died(point, Some(service));
        }
        self.site.serve();
        self.start();
        let attempt = self.build(&build)["attempt"].clone();
        self.ended(&version, &build);
        self.once(point, &version, &build);
        format!("attempt {attempt} made it")
    }

    /// Death while a death is got over.
    fn recovered(&mut self, point: &str) -> String {
        let version = self.push();
        self.asking.ask("build-claimed");
        drop(self.told(&version));
        self.dies_or(&version, false);
        self.asking.ask(point);
        self.begin_service();
        self.gone();
        self.asking.died(point, None);
        self.start();
        let build = self.heard(&version);
        self.ended(&version, &build);
        self.once(point, &version, &build);
        "put back".to_owned()
    }
}
