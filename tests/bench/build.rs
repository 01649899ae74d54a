//! The part `build`: buildspecs/ledger, cold, with one line changed, and without a change, beside `docker build` with cache
//! mounts and beside the compiler alone, which is the limit.
//!
//! ```text
//!   one git work tree ─► nebh build        hermetic: no network, an image of the commit
//!                     ├► docker build      its base holds our toolchain and our vendored crates: nobody fetches
//!                     └► cargo build       in a chroot of our toolchain, into a target folder that stays
//! ```

mod compiler;
mod docker;
mod prepare;
mod tree;

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use self::compiler::Compiler;
use self::docker::Docker;
use self::prepare::Moved;
use self::tree::Tree;
use crate::dockerd::Dockerd;
use crate::machine::first_line;
use crate::measure::{Cost, Side, in_turn};
use crate::table::{Goal, Line, Section};
use crate::{Bench, say};

const ROUNDS: usize = 5;
/// A build without a change answers within this, in seconds.
const NO_CHANGE_GOAL: f64 = 0.3;
/// What a build of one changed line may take beyond the compiler's own time, in seconds.
const BEYOND_GOAL: f64 = 1.5;
const DOCKER: &str = "docker build, cache mounts";
const COMPILER: &str = "cargo build alone";

/// What all three sides build with.
#[derive(Debug)]
pub(crate) struct Toolchain {
    /// The root with compiler and linker.
    pub(crate) root: PathBuf,
    /// The crates, as cargo's `directory` source.
    pub(crate) vendor: PathBuf,
}

/// The sides, and what they build.
struct Sides {
    tree: Tree,
    tools: Toolchain,
    compiler: Compiler,
    docker: Option<Docker>,
}

/// What one kind of build cost each side.
#[derive(Debug, Default)]
struct Costs {
    ours: Vec<Cost>,
    compiler: Vec<Cost>,
    docker: Vec<Cost>,
}

/// Measures the part.
pub(crate) fn run(bench: &Bench) -> Result<Section> {
    let (folder, rounds) = (bench.folder("build")?, bench.rounds(ROUNDS));
    // Minutes a round; but one alone would show what else the machine did.
    let cold_rounds = rounds.div_ceil(2);
    say("build: our first build, which unpacks the toolchain");
    let tree = Tree::new(&bench.nebh, &folder, &bench.kept("builder")?)?;
    let (first, inputs) = tree.first_build()?;
    let tools = Toolchain { root: tree.project.kept("roots")?, vendor: tree.project.kept("vendor")? };
    let docker = if Dockerd::is_here() {
        say("build: docker's base image of the same toolchain");
        Some(Docker::start(&folder.join("docker"), &tools)?)
    } else {
        say("build: docker is not here and is left out");
        None
    };
    let compiler = Compiler::new(&folder.join("compiler"))?;
    let mut sides = Sides { tree, tools, compiler, docker };

    let cold = sides.rounds("cold", cold_rounds, |sides| {
        sides.tree.forget()?;
        sides.compiler.forget()?;
        sides.docker.as_ref().map_or(Ok(()), Docker::forget)
    })?;
    let warm = sides.rounds("one line changed", rounds, |sides| sides.tree.change_a_line())?;
    let same = sides.rounds("no change", rounds, |_| Ok(()))?;
    say("build: bytes that a host moves");
    let Sides { tree, docker, .. } = &mut sides;
    let moved = prepare::moved(&bench.nebh, &folder.join("site"), tree, docker.as_ref())?;

    let mut versions = vec![first_line(std::process::Command::new(&bench.nebh).arg("--version"))];
    versions.push(sides.tools_version());
    versions.extend(sides.docker.as_ref().map(Docker::version));
    Ok(Section {
        title: "Build: buildspecs/ledger".to_owned(),
        versions,
        lines: lines(&cold, &warm, &same, &moved),
        notes: notes(&first, &inputs, &moved, [cold_rounds, rounds]),
        ..Section::default()
    })
}

impl Sides {
    /// Every side builds in turn, after `before`.
    fn rounds(&mut self, what: &str, rounds: usize, mut before: impl FnMut(&mut Self) -> Result<()>) -> Result<Costs> {
        let mut costs = Costs::default();
        for round in 0..rounds {
            say(&format!("build: {what}, round {} of {rounds}", round + 1));
            before(self)?;
            let source = &self.tree.project.path;
            let docker = || self.docker.as_ref().context("docker")?.build(source);
            let sides: &mut [Side<'_, Cost>] = &mut [
                (&mut costs.ours, &|| self.tree.project.build()),
                (&mut costs.compiler, &|| self.compiler.build(&self.tools, source)),
                (&mut costs.docker, &docker),
            ];
            let here = if self.docker.is_some() { 3 } else { 2 };
            in_turn(round, &mut sides[..here])?;
        }
        Ok(costs)
    }

    fn tools_version(&self) -> String {
        first_line(std::process::Command::new("chroot").arg(&self.tools.root).args(["/usr/bin/rustc", "--version"]))
    }
}

fn lines(cold: &Costs, warm: &Costs, same: &Costs, moved: &Moved) -> Vec<Line> {
    let line = |what: &str, costs: &Costs, goal, of: fn(&Cost) -> f64| {
        let values = |costs: &[Cost]| costs.iter().map(of).collect::<Vec<f64>>();
        let beside = [(COMPILER, &costs.compiler), (DOCKER, &costs.docker)];
        let beside = beside.into_iter().filter(|(_, costs)| !costs.is_empty());
        Line {
            what: what.to_owned(),
            unit: "s",
            ours: values(&costs.ours),
            beside: beside.map(|(name, costs)| (name.to_owned(), values(costs))).collect(),
            goal,
        }
    };
    let beyond =
        |costs: &[Cost]| costs.iter().zip(&warm.compiler).map(|(side, alone)| side.wall - alone.wall).collect();
    let mut lines = vec![
        line("cold, toolchain and crates at hand", cold, Goal::None, |cost| cost.wall),
        line("… CPU", cold, Goal::None, |cost| cost.cpu),
        line("one line changed", warm, Goal::None, |cost| cost.wall),
        line("… CPU", warm, Goal::None, |cost| cost.cpu),
        Line {
            what: "… beyond the compiler's own time".to_owned(),
            unit: "s",
            ours: beyond(&warm.ours),
            beside: (!warm.docker.is_empty()).then(|| (DOCKER.to_owned(), beyond(&warm.docker))).into_iter().collect(),
            goal: Goal::AtMost(BEYOND_GOAL),
        },
        line("no change", same, Goal::AtMost(NO_CHANGE_GOAL), |cost| cost.wall),
        line("… CPU", same, Goal::None, |cost| cost.cpu),
    ];
    let kilobytes = |bytes: u64| vec![kilobytes(bytes)];
    let mut prepared = vec![("the changed layer itself".to_owned(), kilobytes(moved.layer))];
    prepared.extend(moved.docker.map(|(_, second)| ("docker pull".to_owned(), kilobytes(second))));
    lines.push(Line {
        what: "Prepare of one changed line: bytes over the network".to_owned(),
        unit: "kB",
        ours: kilobytes(moved.second),
        beside: prepared,
        goal: Goal::None,
    });
    lines
}

#[expect(clippy::cast_precision_loss, reason = "sizes far below what a float keeps whole")]
fn kilobytes(bytes: u64) -> f64 {
    bytes as f64 / 1000.0
}

fn notes(first: &Cost, inputs: &str, moved: &Moved, [cold, others]: [usize; 2]) -> Vec<String> {
    let mut notes = vec![
        format!("Rounds: cold {cold}, the others {others}."),
        format!(
            "Our very first build, everything fetched before ({inputs}), toolchain and crates unpacked by it: {:.0} s, {:.0} CPU s.",
            first.wall, first.cpu
        ),
        "All sides use the same compiler, crates and flags, on the same commit. docker finds toolchain and crates in its \
         base image, and its result is the program alone; ours is an image with its libraries, made without a network \
         and without a cache that a step can write to."
            .to_owned(),
        "docker's CPU seconds are those of its client and its daemon.".to_owned(),
    ];
    notes.push(match moved.docker {
        Some((docker, _)) => format!(
            "Prepare of the first release moves {:.0} kB with all signatures and the config; docker pull of it {:.0} kB.",
            kilobytes(moved.first),
            kilobytes(docker)
        ),
        None => format!("Prepare of the first release moves {:.0} kB.", kilobytes(moved.first)),
    });
    notes
}
