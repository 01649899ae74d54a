//! `nebh release`: the pairing of image, config and data demands, made, signed, shown and listed.

use std::path::PathBuf;

use nebh_face::{Exit, Failure, Globals, Out};
use nebh_oci::names::{Reference, RepositoryAddress, Tag};
use nebh_trust::release::ReleaseIndex;
use serde_json::{Value, json};

use super::sign;
use super::signer::{SignArgs, names};
use crate::git::Source;
use crate::{registry, release};

/// Releases.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Make a release from the release.yaml of a commit, sign it, and push it under its release tag, which is a pin.
    Create(Box<CreateArgs>),
    /// Add a releaser's signature. With tag and digest given, the release tag is put afterwards.
    Sign {
        /// HOST/REPOSITORY:VERSION or HOST/REPOSITORY:VERSION@DIGEST.
        reference: Reference,
        /// Who signs.
        #[command(flatten)]
        keys: SignArgs,
    },
    /// Print what a release holds.
    Show {
        /// HOST/REPOSITORY:VERSION or HOST/REPOSITORY@DIGEST.
        reference: Reference,
    },
    /// List the releases of a repository, the newest first.
    List {
        /// HOST/REPOSITORY.
        repository: RepositoryAddress,
    },
}

/// Arguments of `create`.
#[derive(Debug, clap::Args)]
pub struct CreateArgs {
    /// Folder with release.yaml, in a git repository.
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Version, which becomes the release tag.
    #[arg(long)]
    version: Tag,
    /// The image; else the one that was pushed for the commit.
    #[arg(long, value_name = "REFERENCE")]
    image: Option<Reference>,
    /// Where it goes: HOST/REPOSITORY, or HOST/REPOSITORY:VERSION.
    #[arg(long, value_name = "REPOSITORY")]
    to: Reference,
    /// The commit.
    #[arg(long, value_name = "REV", default_value = "HEAD")]
    commit: String,
    /// Keys.
    #[command(flatten)]
    keys: SignArgs,
}

/// Runs it.
pub async fn run(command: Command, globals: &Globals) -> Result<(), Failure> {
    match command {
        Command::Create(args) => create(&args, globals).await,
        Command::Sign { reference, keys } => sign::run(&sign::Args { reference, keys, release: true }, globals).await,
        Command::Show { reference } => show(&reference, globals).await,
        Command::List { repository } => list(&repository, globals).await,
    }
}

async fn create(args: &CreateArgs, globals: &Globals) -> Result<(), Failure> {
    let to = args.to.address();
    if args.to.digest().is_some() || args.to.tag().is_some_and(|tag| *tag != args.version) {
        return Err(Failure::new(Exit::Usage, format!("--to {} names another version than {}", args.to, args.version))
            .why("a release's tag is its version"));
    }
    let keys = args.keys.open_some()?;
    let failed = |error| Failure::new(Exit::Usage, format!("cannot read {}", args.dir.display())).because(&error);
    let source = Source::open(&args.dir).map_err(failed)?;
    let commit = source.commit(&args.commit).map_err(failed)?;
    let client = registry::client()?;
    let request = release::Request {
        source: &source,
        commit: &commit,
        version: args.version.clone(),
        image: args.image.as_ref(),
        to,
        keys: &keys,
    };
    let made = release::create(&client, &request).await?;
    let release = &made.release;
    let state = if made.is_new { "released" } else { "there already" };
    let text = format!("{state}   {to}:{}@{}  signed by {}, pinned", release.version, release.digest, names(&keys));
    Out::new(globals).result(&text, &wire(release), &release.digest.to_string());
    Ok(())
}

async fn show(reference: &Reference, globals: &Globals) -> Result<(), Failure> {
    let (release, statement) = release::show(&registry::client()?, reference).await?;
    let mut value = wire(&release);
    value["statement"] = serde_json::to_value(&statement).unwrap_or(Value::Null);
    let mut lines = vec![
        format!("release  {} {}  {}", statement.name, release.version, release.digest),
        format!("commit   {}  counter {}", release.commit, release.counter),
    ];
    let images = statement.images.iter();
    lines.extend(
        images.map(|image| format!("image    {}  {}/{}", image.digest, image.platform.os, image.platform.architecture)),
    );
    lines.push(format!("config   {}", statement.config.snapshot));
    let data = statement.data.iter();
    lines.extend(data.map(|(name, dataset)| format!("data     {}  {}", name.as_str(), dataset.mount.as_str())));
    lines.push(format!("verified: no; ask with  nebh verify {reference}"));
    let text = lines.join("\n");
    Out::new(globals).result(&text, &value, &release.digest.to_string());
    Ok(())
}

async fn list(repository: &RepositoryAddress, globals: &Globals) -> Result<(), Failure> {
    let out = Out::new(globals);
    let releases = release::list(&registry::client()?, repository).await?;
    if releases.is_empty() {
        out.note(&format!("{repository} has no release"));
    }
    for release in releases {
        let text =
            format!("{:<12} {}  commit {:.12}", release.version.as_str(), release.digest, release.commit.as_str());
        out.result(&text, &wire(&release), release.version.as_str());
    }
    Ok(())
}

fn wire(release: &ReleaseIndex) -> Value {
    json!({
        "version": 1,
        "kind": "release",
        "release": release.version,
        "digest": release.digest,
        "commit": release.commit.as_str(),
        "counter": release.counter,
        "images": release.images.iter().map(|image| image.digest.to_string()).collect::<Vec<_>>(),
        "config": release.config.digest,
    })
}
