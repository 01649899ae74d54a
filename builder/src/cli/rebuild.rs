//! `nebh rebuild`: builds an image again from what its provenance says, with nothing kept but inputs, and compares bytes.

use std::time::Instant;

use nebh_face::{Exit, Failure, Globals, Out};
use nebh_oci::layout::Layout;
use nebh_oci::names::Reference;
use nebh_trust::provenance::Provenance;
use rustix::process::umask;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::json;

use super::build::open_store;
use super::interrupt::until_interrupted;
use super::progress;
use crate::event::Events;
use crate::git::Remote;
use crate::packages::internal;
use crate::pipeline::{BuildOptions, BuiltImage, build};
use crate::rebuild::{differences, provenance_of};
use crate::registry;
use crate::source::{Checkout, Revision, failure as git_failure};
use crate::store::Store;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The image to build again.
    pub reference: Reference,
    /// Build under another umask and on one CPU.
    #[arg(long)]
    pub vary: bool,
    /// Take nothing from upstream: every input has to be here already.
    #[arg(long)]
    pub offline: bool,
}

/// Runs it.
pub async fn run(args: &Args, globals: &Globals) -> Result<(), Failure> {
    let begun = Instant::now();
    let client = registry::client()?;
    let image = registry::resolve(&client, &args.reference).await?;
    let attached = client.attached(args.reference.address(), image.digest()).await;
    let attached = attached.map_err(|error| registry::failure(&error))?;
    let provenance = provenance_of(image.digest(), &attached).ok_or_else(|| {
        Failure::new(Exit::Failed, format!("{} has no provenance", args.reference))
            .why("nothing attached to it says which commit it was built from")
    })?;
    let store = open_store(globals)?;
    let work = store.work()?;
    if args.vary {
        vary()?;
    }
    // Nothing kept: only the input archive is shared, and its bytes are named by their digests.
    let fresh = Store::open(work.folder("rebuild")?)?.with_inputs(store.inputs());
    let checkout = checkout(&provenance, &store)?;
    let (events, received) = Events::new();
    let shown = tokio::spawn(progress::show(received, globals.clone()));
    let options = BuildOptions { offline: args.offline, again: true, upstreams: super::lock::settings(globals)? };
    let again = until_interrupted(build(checkout, &fresh, &options, &events)).await;
    drop(events);
    drop(shown.await);
    let again = again?;
    if again.manifest.digest() == image.digest() {
        say_same(args, &again, globals, begun);
        return Ok(());
    }
    let theirs = Layout::create(work.folder("theirs")?).map_err(|error| internal(&error))?;
    let pulled = client.pull_to_layout(args.reference.address(), image.digest(), &theirs).await;
    pulled.map_err(|error| registry::failure(&error))?;
    let found = differences((&theirs, &image), (&again.layout, &again.manifest)).map_err(|error| internal(&error))?;
    Err(Failure::new(
        Exit::Failed,
        format!("{} is not reproduced: {} the second time", args.reference, again.manifest.digest()),
    )
    .why(format!("\n  {}", found.join("\n  "))))
}

fn say_same(args: &Args, again: &BuiltImage, globals: &Globals, begun: Instant) {
    let digest = again.manifest.digest();
    let commit = again.checkout.commit().id.as_str();
    let text = format!(
        "reproduced {}@{digest} from commit {}, byte for byte   {:.1} s",
        args.reference.address(),
        commit.get(..12).unwrap_or(commit),
        begun.elapsed().as_secs_f64()
    );
    let value = json!({ "version": 1, "kind": "reproduced", "digest": digest, "commit": commit, "varied": args.vary });
    Out::new(globals).result(&text, &value, &digest.to_string());
}

fn checkout(provenance: &Provenance, store: &Store) -> Result<Checkout, Failure> {
    let asked = &provenance.build_definition.external_parameters.source;
    let remote = Remote::parse(&asked.uri).map_err(|error| git_failure(&error))?;
    let (source, commit) =
        remote.fetch(&asked.commit, &store.root().join("git")).map_err(|error| git_failure(&error))?;
    let revision = Revision::Commit { revision: commit.id.to_string(), clean: false };
    Checkout::open(source.at(&asked.directory), &revision)
}

/// Other conditions for this process and all that it starts: a umask that closes everything, and one CPU.
fn vary() -> Result<(), Failure> {
    umask(rustix::fs::Mode::from_raw_mode(0o077));
    let allowed = sched_getaffinity(None).map_err(|error| internal(&error))?;
    let first = (0..CpuSet::MAX_CPU).find(|cpu| allowed.is_set(*cpu)).unwrap_or(0);
    let mut one = CpuSet::new();
    one.set(first);
    sched_setaffinity(None, &one).map_err(|error| internal(&error))
}
