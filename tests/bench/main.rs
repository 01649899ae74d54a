//! The scales: this project and its peers, measured in turn in one run, as a table on the terminal and a section of
//! `docs/figures.md`.
//!
//! ```text
//!   hack/bench [PART…] ─► this program ─► part::run(&Bench) ─► Section ─► terminal
//!                                          │ measure, in_turn            └► docs/figures.md, between the part's marks
//! ```
//!
//! A part starts the real release program and the real peer, gives both the same work, A B, B A, A B …, and hands back
//! lines of values; medians, ratios and goals are the table's business. CPU seconds come first: on a busy machine wall
//! times say little.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is a program for a terminal: results to stdout, progress to stderr"
)]

mod base;
mod build;
mod command;
mod dockerd;
mod leftovers;
mod machine;
mod measure;
mod node;
mod project;
mod registry;
mod scratch;
mod server;
mod table;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use self::scratch::Scratch;
use self::table::Section;

type Run = fn(&Bench) -> Result<Section>;

/// Every part, in the order of `docs/figures.md`.
const PARTS: [(&str, Run); 4] =
    [("registry", registry::run), ("build", build::run), ("base", base::run), ("node", node::run)];
const USAGE: &str = "usage: hack/bench [registry|build|base|node]… [--small] [--rounds N] [--only TEXT]
  --small     little work and few rounds, to see that it runs; docs/figures.md is left alone
  --rounds N  how often each side does each thing
  --only TEXT lines whose name contains TEXT; docs/figures.md is left alone";

/// What a part may use.
#[derive(Debug)]
pub(crate) struct Bench {
    /// The program under test, built for release.
    pub(crate) nebh: PathBuf,
    /// Where `hack/bench` and `hack/peers` put peers.
    pub(crate) peers: PathBuf,
    /// A folder on a real disk that is gone afterwards; both sides work below it.
    pub(crate) scratch: PathBuf,
    kept: PathBuf,
    /// Little work, to see that it runs.
    pub(crate) small: bool,
    rounds: Option<usize>,
    only: Option<String>,
}

impl Bench {
    /// How many rounds: as asked, else one if small, else the part's usual number.
    pub(crate) fn rounds(&self, usual: usize) -> usize {
        self.rounds.unwrap_or(if self.small { 1 } else { usual })
    }

    /// Whether this line was asked for.
    pub(crate) fn wants(&self, line: &str) -> bool {
        self.only.as_deref().is_none_or(|text| line.contains(text))
    }

    /// A folder that stays from run to run.
    pub(crate) fn kept(&self, name: &str) -> Result<PathBuf> {
        let folder = self.kept.join(name);
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        Ok(folder)
    }

    /// A folder with a short path that is gone afterwards, for sockets.
    pub(crate) fn short(&self) -> PathBuf {
        scratch::short(&self.scratch)
    }

    /// A new empty folder in the scratch.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.scratch.join(name);
        if folder.exists() {
            std::fs::remove_dir_all(&folder).with_context(|| format!("emptying {}", folder.display()))?;
        }
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        Ok(folder)
    }
}

/// Progress, for the person who waits.
pub(crate) fn say(text: &str) {
    eprintln!("bench: {text}");
}

fn main() -> Result<()> {
    let mut parts: Vec<String> = Vec::new();
    let (mut small, mut rounds, mut only) = (false, None, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            // cargo says this to every bench target.
            "--bench" => {}
            "--small" => small = true,
            "--rounds" => rounds = Some(arguments.next().context(USAGE)?.parse().context(USAGE)?),
            "--only" => only = Some(arguments.next().context(USAGE)?),
            part if PARTS.iter().any(|(name, _)| *name == part) => parts.push(part.to_owned()),
            other => bail!("`{other}` is no part and no flag\n{USAGE}"),
        }
    }
    let nebh = PathBuf::from(env!("CARGO_BIN_EXE_nebh"));
    let target = nebh.parent().and_then(Path::parent).context("the program lies in a target folder")?.to_owned();
    let scratch = Scratch::new(&target)?;
    let (peers, kept) = (target.join("peers"), target.join("bench"));
    let bench = Bench { nebh, peers, scratch: scratch.path().to_owned(), kept, small, rounds, only };
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/figures.md");
    for (name, run) in PARTS {
        if !parts.is_empty() && !parts.iter().any(|part| part == name) {
            continue;
        }
        let mut section = run(&bench).with_context(|| format!("part `{name}`"))?;
        section.machine = machine::describe(&bench.scratch, &bench.nebh);
        println!("{}", section.text());
        if !bench.small && bench.only.is_none() {
            let before = std::fs::read_to_string(&document).unwrap_or_default();
            std::fs::write(&document, table::refresh(&before, name, &section.markdown()))?;
            say(&format!("wrote the section `{name}` of docs/figures.md"));
        }
    }
    Ok(())
}
