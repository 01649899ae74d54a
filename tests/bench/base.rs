//! The part `base`: a Debian base with 50 packages, everything fetched before, beside mmdebstrap and then buildah (or
//! podman, where buildah is absent). Made from nothing, with one package more, and without a change.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use nebh_oci::digest::Digest;

use crate::command::run as command;
use crate::leftovers::Mounts;
use crate::machine::first_line;
use crate::measure::{Cost, in_turn, run as measured};
use crate::project::Project;
use crate::table::{Goal, Line, Section};
use crate::{Bench, say};

const SUITE: &str = "trixie";
const ROUNDS: usize = 3;
/// What a small server of many trades has.
const PACKAGES: &str = "apache2 bind9-dnsutils bzip2 ca-certificates cron curl dbus dnsmasq-base ethtool file git gnupg \
    htop iproute2 iputils-ping jq less locales lsof make man-db nano netcat-openbsd nginx-light nodejs openssh-client \
    openssl patch perl php-cli php-curl php-mbstring postgresql-client procps pv python3 python3-flask python3-numpy \
    python3-requests redis-tools rsync ruby socat sqlite3 strace tcpdump tmux traceroute unzip wget";
const ONE_MORE: &str = "tree";
/// Everything but the inputs.
const MADE: [&str; 3] = ["folders", "kept", "images"];

/// Measures the part.
pub(crate) fn run(bench: &Bench) -> Result<Section> {
    ensure!(rustix::process::geteuid().is_root(), "mmdebstrap and buildah need root");
    let folder = bench.folder("base")?;
    say("base: locks and fetches 50 packages and one more, once");
    let ours = Ours::new(&bench.nebh, &folder.join("project"), &bench.kept("base")?)?;
    say("base: fetches the same for mmdebstrap, once");
    let theirs = Theirs::new(&folder, &bench.kept("base-debs")?)?;
    let mut kinds: [(&str, [Vec<Cost>; 2]); 3] =
        ["50 packages from nothing", "one package more", "no change"].map(|what| (what, Default::default()));
    for round in 0..bench.rounds(ROUNDS) {
        say(&format!("base: round {}", round + 1));
        ours.project.forget(&MADE)?;
        for (kind, (_, results)) in kinds.iter_mut().enumerate() {
            let one_more = kind > 0;
            if kind < 2 {
                ours.commit(one_more)?;
            }
            let [our_costs, their_costs] = results;
            in_turn(round, &mut [(our_costs, &|| ours.project.build()), (their_costs, &|| theirs.build(one_more))])?;
        }
    }
    let version = |program: &Path| first_line(Command::new(program).arg("--version"));
    Ok(Section {
        title: "Base: Debian with 50 packages".to_owned(),
        versions: [&bench.nebh, Path::new("mmdebstrap"), Path::new(theirs.assembler())].map(version).into(),
        lines: lines(&kinds, &format!("mmdebstrap, {}", theirs.assembler())),
        notes: notes(&ours, &theirs, bench.rounds(ROUNDS))?,
        ..Section::default()
    })
}

fn lines(kinds: &[(&str, [Vec<Cost>; 2])], name: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    for (what, [ours, theirs]) in kinds {
        let line = |what: &str, of: fn(&Cost) -> f64| {
            let values = |costs: &[Cost]| costs.iter().map(of).collect::<Vec<f64>>();
            Line::new(what, "s", values(ours), name, values(theirs), Goal::Times(1.0))
        };
        lines.push(line(what, |cost| cost.wall));
        lines.push(line("… CPU", |cost| cost.cpu));
    }
    lines
}

fn notes(ours: &Ours, theirs: &Theirs, rounds: usize) -> Result<Vec<String>> {
    Ok(vec![
        format!("Rounds: {rounds}."),
        format!(
            "Debian {SUITE}, everything fetched before: {} packages for us, {} for mmdebstrap, which needs the essential \
             ones too. Its index is a local one without signatures.",
            ours.locks.get(&false).map_or(0, |lock| lock.matches("sha256 = ").count()),
            debs(&theirs.debs)?.len()
        ),
        "mmdebstrap's root lies in memory, because dpkg syncs several times for each package; ours and buildah's storage \
         lie on the disk."
            .to_owned(),
        "mmdebstrap runs dpkg and every maintainer script; ours runs none of them, and its finishers stand for the usual \
         ones. From nothing means with the input archive alone. For the other two lines only ours keeps anything."
            .to_owned(),
    ])
}

struct Ours {
    project: Project,
    /// By whether the one more is in it.
    locks: BTreeMap<bool, String>,
}

impl Ours {
    fn new(nebh: &Path, folder: &Path, state: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let mut ours = Self { project: Project::new(nebh, folder, state)?, locks: BTreeMap::new() };
        for one_more in [false, true] {
            ours.write(one_more)?;
            ours.project.lock(&[])?;
            ours.locks.insert(one_more, std::fs::read_to_string(ours.project.path.join("buildspec.lock"))?);
            ours.commit(one_more)?;
            ours.project.fetch()?;
        }
        Ok(ours)
    }

    fn write(&self, one_more: bool) -> Result<()> {
        let packages = packages(one_more);
        let text = format!(
            "name: bench/base\nimage: {{ base: debian/{SUITE}, packages: [{packages}], entrypoint: [/usr/bin/curl] }}\n"
        );
        Ok(std::fs::write(self.project.path.join("buildspec.yaml"), text)?)
    }

    fn commit(&self, one_more: bool) -> Result<()> {
        self.write(one_more)?;
        let lock = self.locks.get(&one_more).context("a lock")?;
        std::fs::write(self.project.path.join("buildspec.lock"), lock)?;
        self.project.commit()
    }
}

fn packages(one_more: bool) -> String {
    let more = one_more.then_some(ONE_MORE);
    PACKAGES.split(' ').filter(|name| !name.is_empty()).chain(more).collect::<Vec<_>>().join(",")
}

struct Theirs {
    folder: PathBuf,
    debs: PathBuf,
    /// A tmpfs.
    memory: PathBuf,
    has_buildah: bool,
    _mounts: Mounts,
}

impl Theirs {
    fn new(folder: &Path, debs: &Path) -> Result<Self> {
        let has_buildah = first_line(Command::new("buildah").arg("--version")).starts_with("buildah");
        let memory = folder.join("memory");
        std::fs::create_dir_all(&memory)?;
        let mounts = Mounts::below(folder);
        command(Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&memory))?;
        let theirs = Self { folder: folder.to_owned(), debs: debs.to_owned(), memory, has_buildah, _mounts: mounts };
        if self::debs(debs)?.is_empty() {
            theirs.fetch()?;
        }
        index(debs)?;
        Ok(theirs)
    }

    fn assembler(&self) -> &'static str {
        if self.has_buildah { "buildah" } else { "podman" }
    }

    /// Fetches from the mirror that this machine's own apt uses.
    fn fetch(&self) -> Result<()> {
        let targets = command(Command::new("apt-get").args(["indextargets", "--format", "$(CREATED_BY) $(REPO_URI)"]))?;
        let mirror = targets.lines().filter_map(|line| line.strip_prefix("Packages "));
        let mirror = mirror.map(|uri| uri.trim_end_matches('/')).find(|uri| uri.ends_with("/debian"));
        let mirror = mirror.context("apt knows no mirror whose path ends in /debian")?;
        // In the kept folder are all or none.
        let fetched = self.folder.join("fetched");
        std::fs::create_dir_all(&fetched)?;
        let mut fetch = self.mmdebstrap(true);
        fetch.args(["--skip=download/empty", "--skip=essential/unlink"]);
        fetch.arg(format!("--customize-hook=sync-out /var/cache/apt/archives {}", fetched.display()));
        command(fetch.arg(SUITE).arg("/dev/null").arg(format!("deb {mirror} {SUITE} main")))?;
        Ok(std::fs::rename(&fetched, &self.debs)?)
    }

    /// Its root lies in memory: dpkg syncs several times for each package, and on a slow disk that is all one would see.
    fn mmdebstrap(&self, one_more: bool) -> Command {
        let mut command = Command::new("mmdebstrap");
        command.args(["--quiet", "--mode=root", "--variant=essential", "--dpkgopt=force-unsafe-io"]);
        command.arg(format!("--include={}", packages(one_more))).env("SOURCE_DATE_EPOCH", "315532800");
        command.env("TMPDIR", &self.memory);
        command
    }

    fn build(&self, one_more: bool) -> Result<Cost> {
        let archive = self.folder.join("base.tar");
        let mut mmdebstrap = self.mmdebstrap(one_more);
        mmdebstrap.arg(SUITE).arg(&archive).arg(format!("deb [trusted=yes] copy:{} ./", self.debs.display()));
        let made = measured(&mut mmdebstrap)?;
        let place = |name: &str| self.folder.join(name).display().to_string();
        let storage =
            format!("--root {} --runroot {} --storage-driver overlay", place("storage"), place("storage-run"));
        let script = if self.has_buildah {
            format!(
                "c=$(buildah {storage} from scratch) && buildah {storage} add -q $c {} / && buildah {storage} commit -q --rm $c base",
                archive.display()
            )
        } else {
            format!("podman {storage} import -q {} base", archive.display())
        };
        let assembled = measured(Command::new("sh").args(["-ec", &script]))?;
        std::fs::remove_file(&archive)?;
        Ok(Cost {
            wall: made.wall + assembled.wall,
            cpu: made.cpu + assembled.cpu,
            peak: made.peak.max(assembled.peak),
        })
    }
}

/// The archived packages.
fn debs(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Writes an index that apt reads from a folder.
fn index(folder: &Path) -> Result<()> {
    let mut text = String::new();
    for path in debs(folder)? {
        let control = command(Command::new("dpkg-deb").arg("-f").arg(&path))?;
        let bytes = std::fs::read(&path)?;
        let name = path.file_name().context("a name")?.to_string_lossy();
        let _ = writeln!(
            text,
            "{}\nFilename: ./{name}\nSize: {}\nSHA256: {}\n",
            control.trim_end(),
            bytes.len(),
            Digest::sha256(&bytes).hex()
        );
    }
    // Without a suite by name no package counts as essential, and there is no dpkg to install the others with.
    let release = format!(
        "Suite: {SUITE}\nCodename: {SUITE}\nDate: Thu, 01 Jan 2026 00:00:00 UTC\nSHA256:\n {} {} Packages\n",
        Digest::sha256(text.as_bytes()).hex(),
        text.len()
    );
    std::fs::write(folder.join("Packages"), text)?;
    Ok(std::fs::write(folder.join("Release"), release)?)
}
