//! `nebh build`: one commit becomes an image, in the state folder, in a layout, in registries.

use std::path::{Path, PathBuf};
use std::time::Instant;

use jiff::Timestamp;
use nebh_face::{Exit, Failure, Globals, Out};
use nebh_oci::layout::Layout;
use nebh_oci::names::{Reference, Tag};
use nebh_trust::key::PrivateKey;
use serde_json::json;

use super::interrupt::until_interrupted;
use super::progress;
use super::signer::{SignArgs, names};
use crate::event::{BuildEvent, Events};
use crate::git::{Remote, Source};
use crate::pipeline::{BuildOptions, BuiltImage, ask, build};
use crate::publish::{self, Publication, provenance};
use crate::registry;
use crate::source::{Checkout, Revision, failure as git_failure};
use crate::store::Store;

/// Arguments.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line, and they are independent")]
pub struct Args {
    /// The folder with the buildspec, or the address of a git repository.
    #[arg(default_value = ".", value_name = "DIR|GIT-URL")]
    pub from: String,
    /// The commit to build; HEAD unless told.
    #[arg(long, value_name = "REV", conflicts_with = "worktree")]
    pub commit: Option<String>,
    /// Push the image there; may stand there several times.
    #[arg(long, value_name = "REPOSITORY[:TAG]")]
    pub to: Vec<Reference>,
    /// Write the image into an OCI layout.
    #[arg(long, value_name = "DIR")]
    pub oci: Option<PathBuf>,
    /// Keys.
    #[command(flatten)]
    pub keys: SignArgs,
    /// Take nothing from upstream: every input has to be here already.
    #[arg(long)]
    pub offline: bool,
    /// Build nothing; say whether the commit's lock answers its buildspec.
    #[arg(long)]
    pub check: bool,
    /// Build the work tree with its uncommitted changes. The image is marked, and never signed.
    #[arg(long)]
    pub worktree: bool,
    /// Build again, even if this plan was built before.
    #[arg(long)]
    pub again: bool,
}

/// Runs it.
pub async fn run(args: &Args, globals: &Globals) -> Result<(), Failure> {
    let begun = Instant::now();
    let store = open_store(globals)?;
    let (checkout, address) = checkout(args, &store)?;
    if args.check {
        return check(&checkout, globals);
    }
    if checkout.is_work_tree() && !args.keys.sign_with.is_empty() {
        return Err(Failure::new(Exit::Usage, "a work tree is never signed").next("commit the changes, then build"));
    }
    let keys = args.keys.open()?;
    let (events, received) = Events::new();
    let shown = tokio::spawn(progress::show(received, globals.clone()));
    let options = BuildOptions { offline: args.offline, again: args.again, upstreams: super::lock::settings(globals)? };
    let result = until_interrupted(make(args, checkout, &address, &store, &options, &keys, &events)).await;
    drop(events);
    // All lines stand before the result or the failure.
    drop(shown.await);
    let image = result?;
    report(&image, globals, begun);
    Ok(())
}

async fn make(
    args: &Args,
    checkout: Checkout,
    address: &str,
    store: &Store,
    options: &BuildOptions,
    keys: &[PrivateKey],
    events: &Events,
) -> Result<BuiltImage, Failure> {
    let started = Timestamp::now();
    let image = build(checkout, store, options, events).await?;
    if let Some(folder) = &args.oci {
        let tag = args.to.first().and_then(Reference::tag);
        copy_to_layout(&image, folder, tag)?;
    }
    for to in &args.to {
        push(&image, to, address, keys, started, events).await?;
    }
    Ok(image)
}

fn report(image: &BuiltImage, globals: &Globals, begun: Instant) {
    let digest = image.manifest.digest();
    let value = json!({
        "version": 1, "kind": "image", "digest": digest, "plan": image.plan, "known": image.known,
        "commit": image.checkout.commit().id.as_str(), "work-tree": image.checkout.is_work_tree(),
    });
    let what = if image.known { "known" } else { "built" };
    let text = format!("{what}    {}@{digest}   {:.1} s", image.buildspec.name, begun.elapsed().as_secs_f64());
    Out::new(globals).result(&text, &value, &digest.to_string());
}

/// The state folder of this machine's builder.
pub(super) fn open_store(globals: &Globals) -> Result<Store, Failure> {
    Ok(Store::open(globals.state(rustix::process::geteuid().is_root()))?)
}

/// The files to build, and the address that provenance names.
fn checkout(args: &Args, store: &Store) -> Result<(Checkout, String), Failure> {
    let revision = args.commit.as_deref().unwrap_or("HEAD");
    if args.from.contains("://") {
        let remote = Remote::parse(&args.from).map_err(|error| git_failure(&error))?;
        let cache = store.root().join("git");
        let (source, commit) = remote.fetch(revision, &cache).map_err(|error| git_failure(&error))?;
        let revision = Revision::Commit { revision: commit.id.to_string(), clean: false };
        return Ok((Checkout::open(source, &revision)?, remote.as_str().to_owned()));
    }
    let source = Source::open(Path::new(&args.from)).map_err(|error| git_failure(&error))?;
    let top = source.work_tree().map_or_else(|| PathBuf::from(&args.from), |folder| top_of(&folder, &source));
    let revision = if args.worktree {
        Revision::WorkTree
    } else {
        // Whoever names a commit knows that it is not what lies in the folder.
        Revision::Commit { revision: revision.to_owned(), clean: args.commit.is_none() }
    };
    Ok((Checkout::open(source, &revision)?, format!("file://{}", top.display())))
}

fn top_of(folder: &Path, source: &Source) -> PathBuf {
    let inner = Path::new(source.folder_in_repository()).components().count();
    folder.ancestors().nth(inner).unwrap_or(folder).to_owned()
}

fn check(checkout: &Checkout, globals: &Globals) -> Result<(), Failure> {
    let asked = ask(checkout)?;
    let plan = asked.plan.digest().map_err(|error| crate::packages::internal(&error))?;
    let value = json!({ "version": 1, "kind": "check", "plan": plan, "inputs": asked.lock.inputs().len() });
    let text = format!("the lock answers the buildspec: {} inputs, plan {}…", asked.lock.inputs().len(), plan.short());
    Out::new(globals).result(&text, &value, &plan.to_string());
    Ok(())
}

fn copy_to_layout(image: &BuiltImage, folder: &Path, tag: Option<&Tag>) -> Result<(), Failure> {
    let failed = |error: nebh_oci::layout::LayoutError| {
        Failure::new(Exit::Failed, format!("cannot write the layout `{}`", folder.display())).because(&error)
    };
    let layout = Layout::create(folder).map_err(failed)?;
    let document = image.manifest.image().ok_or_else(|| Failure::new(Exit::Failed, "the image has no manifest"))?;
    for blob in document.layers.iter().chain([&document.config]) {
        if layout.has(&blob.digest) != Some(blob.size) {
            layout.put_stream(image.layout.open_blob(&blob.digest).map_err(failed)?, blob).map_err(failed)?;
        }
    }
    layout.put_manifest(&image.manifest, tag).map_err(failed)
}

async fn push(
    image: &BuiltImage,
    to: &Reference,
    address: &str,
    keys: &[PrivateKey],
    started: Timestamp,
    events: &Events,
) -> Result<(), Failure> {
    if to.digest().is_some() {
        return Err(Failure::new(Exit::Usage, format!("`{to}` names a digest, which the build decides")));
    }
    let begun = Instant::now();
    let client = registry::client()?;
    let tags: Vec<Tag> = to.tag().cloned().into_iter().collect();
    let builder =
        keys.first().map_or_else(|| "urn:nebh:builder:unsigned".to_owned(), |key| provenance::builder_id(key.public()));
    let told = publish::built::provenance(image, address, None, &builder, started, Timestamp::now());
    let publication = Publication {
        layout: &image.layout,
        image: &image.manifest,
        to: to.address(),
        tags: &tags,
        names: &[],
        provenance: &told,
        components: &provenance::components(&image.lock),
        committed: image.checkout.timestamp(),
        keys,
    };
    publish::publish(&client, &publication).await?;
    if !keys.is_empty() {
        events.send(BuildEvent::Signed { key: names(keys), forms: "simple signing, bundle".to_owned() });
    }
    let reference = format!("{}@{}", to.address(), image.manifest.digest());
    events
        .send(BuildEvent::Pushed { reference, millis: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX) });
    Ok(())
}
