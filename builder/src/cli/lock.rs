//! `nebh lock`: resolves every input of a buildspec into its lock, or says whether the lock is fresh.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use nebh_face::{Exit, Failure, Globals, Out};
use serde::Serialize;

use crate::archive::InputArchive;
use crate::debian::index::IndexError;
use crate::debian::release::ReleaseError;
use crate::debian::solve::SolveError;
use crate::fetch::FetchError;
use crate::lock::{LOCK_FILE, Lock};
use crate::resolve::{self, Question, ResolveError, Update};
use crate::spec::{BUILDSPEC_FILE, Buildspec};
use crate::upstream::{UpstreamSettings, Upstreams};

/// Bytes of a file beside the buildspec.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Changed packages that are listed one by one; above it, their number is enough.
const CHANGES_SHOWN_MAX: usize = 20;

/// Resolves every input of a buildspec into `buildspec.lock`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder of the buildspec.
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Takes packages new that an earlier lock holds: those named, or all.
    #[arg(long, num_args = 0.., value_name = "INPUT")]
    update: Option<Vec<String>>,
    /// Writes nothing: fails if the lock is missing or stale.
    #[arg(long, conflicts_with = "update")]
    check: bool,
}

/// What `--output json` says.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Answer<'a> {
    version: u32,
    kind: &'static str,
    digest: String,
    inputs: usize,
    suites: Vec<&'a str>,
    changed: bool,
}

/// Runs the command.
pub async fn run(args: &Args, globals: &Globals) -> Result<(), Failure> {
    let out = Out::new(globals);
    let file = args.dir.join(BUILDSPEC_FILE);
    let Some(text) = read(&file)? else {
        return Err(Failure::new(Exit::Usage, format!("`{}` is not there", file.display()))
            .next("write one, or name the folder that has it: `nebh lock DIR`"));
    };
    let text =
        String::from_utf8(text).map_err(|_| Failure::new(Exit::Usage, format!("{}: not UTF-8", file.display())))?;
    let buildspec = Buildspec::parse(&file.to_string_lossy(), &text)?;
    let cargo_lock = if buildspec.rust().is_some() { read(&args.dir.join("Cargo.lock"))? } else { None };
    let lock_file = args.dir.join(LOCK_FILE);
    let previous = previous(&lock_file, args)?;
    if let Some(previous) = &previous
        && args.update.is_none()
        && previous.stale(&buildspec, cargo_lock.as_deref()).is_ok()
    {
        say(out, previous, false, &format!("{LOCK_FILE} is fresh"));
        return Ok(());
    }
    if args.check {
        let Some(previous) = previous else {
            return Err(Failure::new(Exit::Failed, format!("{LOCK_FILE} is missing")).next("run `nebh lock`"));
        };
        return previous.check_fresh(&buildspec, cargo_lock.as_deref());
    }
    let archive = archive(globals)?;
    let upstreams = Upstreams::from_machine(settings(globals)?);
    let update = match &args.update {
        None => Update::Nothing,
        Some(names) if names.is_empty() => Update::Everything,
        Some(names) => Update::Only(names.iter().cloned().collect()),
    };
    let question = Question {
        buildspec: &buildspec,
        cargo_lock: cargo_lock.as_deref(),
        previous: previous.as_ref(),
        update,
        architecture: resolve::architecture()?,
        now: jiff::Timestamp::now(),
    };
    let lock = resolve::lock(&question, &upstreams, &archive).await?;
    let changed = previous.as_ref() != Some(&lock);
    if changed {
        write(&lock_file, &lock.to_text())?;
        if let Some(previous) = &previous {
            show_changes(out, previous, &lock);
        }
    }
    say(out, &lock, changed, if changed { "locked" } else { "nothing newer" });
    Ok(())
}

fn say(out: Out, lock: &Lock, changed: bool, what: &str) {
    let inputs = lock.inputs();
    let bytes: u64 = inputs.iter().filter_map(|input| input.size).sum();
    let text = format!(
        "{what}: {} inputs ({} packages in the image, {} of the toolchain, {} crates), {}.{} MB of packages",
        inputs.len(),
        lock.image_packages.len(),
        lock.toolchain.len(),
        lock.crates().len(),
        bytes / 1_000_000,
        bytes % 1_000_000 / 100_000,
    );
    let digest = lock.digest().to_string();
    let suites = lock.suites.iter().map(|suite| suite.suite.as_str()).collect();
    let answer = Answer { version: 1, kind: "lock", digest: digest.clone(), inputs: inputs.len(), suites, changed };
    out.result(&text, &answer, &digest);
}

fn show_changes(out: Out, before: &Lock, after: &Lock) {
    fn versions(lock: &Lock) -> BTreeMap<String, BTreeSet<String>> {
        let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for package in lock.image_packages.iter().chain(&lock.toolchain) {
            versions.entry(package.name.clone()).or_default().insert(package.version.clone());
        }
        for one in lock.crates() {
            versions.entry(format!("crate {}", one.name)).or_default().insert(one.version.clone());
        }
        versions
    }
    let (before, after) = (versions(before), versions(after));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let changes: Vec<&String> = names.into_iter().filter(|name| before.get(*name) != after.get(*name)).collect();
    let shown = |versions: Option<&BTreeSet<String>>| match versions {
        Some(versions) => versions.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
        None => "none".to_owned(),
    };
    for name in changes.iter().take(CHANGES_SHOWN_MAX) {
        out.note(&format!("  {name}  {} -> {}", shown(before.get(*name)), shown(after.get(*name))));
    }
    if changes.len() > CHANGES_SHOWN_MAX {
        out.note(&format!("  and {} more", changes.len() - CHANGES_SHOWN_MAX));
    }
}

/// A lock that cannot be read is an error for `--check`, and nothing worth for a new one.
fn previous(file: &Path, args: &Args) -> Result<Option<Lock>, Failure> {
    let Some(bytes) = read(file)? else { return Ok(None) };
    match Lock::parse(&file.to_string_lossy(), &String::from_utf8_lossy(&bytes)) {
        Ok(lock) => Ok(Some(lock)),
        Err(error) if args.check || args.update.is_none() => Err(Failure::new(Exit::Usage, error.to_string())
            .because(std::error::Error::source(&error).unwrap_or(&error))
            .next("take the file from the commit again, or make it new: `nebh lock --update`")),
        Err(_) => Ok(None),
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    let failed = |what: &str| Failure::new(Exit::Failed, format!("cannot read `{}`", path.display())).why(what);
    match fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(&error.to_string())),
        Ok(found) if found.len() > FILE_BYTES_MAX => Err(failed("it is too large")),
        Ok(_) => fs::read(path).map(Some).map_err(|error| failed(&error.to_string())),
    }
}

/// All or nothing: a reader sees the old lock or the new one.
fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let written = tempfile::Builder::new().prefix(".buildspec.lock").tempfile_in(folder).and_then(|mut file| {
        use std::os::unix::fs::PermissionsExt;
        file.write_all(text.as_bytes())?;
        file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
        file.as_file().sync_all()?;
        file.persist(path).map(drop).map_err(|error| error.error)
    });
    written.map_err(|error| {
        Failure::new(Exit::Failed, format!("cannot write `{}`", path.display())).why(error.to_string())
    })
}

/// Where inputs are kept: the folder `inputs` of the state.
pub fn archive(globals: &Globals) -> Result<InputArchive, Failure> {
    let root = globals.state(rustix::process::geteuid().is_root()).join("inputs");
    InputArchive::open(root)
        .map_err(|error| Failure::new(Exit::Failed, "the input archive cannot be opened").because(&error))
}

/// The upstreams that `--settings` names.
pub fn settings(globals: &Globals) -> Result<UpstreamSettings, Failure> {
    let Some(file) = &globals.settings else { return Ok(UpstreamSettings::default()) };
    let text = fs::read_to_string(file).map_err(|error| {
        Failure::new(Exit::Usage, format!("cannot read `{}`", file.display())).why(error.to_string())
    })?;
    UpstreamSettings::parse(&file.to_string_lossy(), &text)
}

impl From<ResolveError> for Failure {
    fn from(error: ResolveError) -> Self {
        let (exit, next) = match &error {
            ResolveError::Index(IndexError::Fetch(FetchError::Download { .. } | FetchError::Status { .. })) => {
                (Exit::Unreachable, None)
            }
            ResolveError::Index(IndexError::Signature { .. }) => {
                (Exit::Refused, Some("if the keys are right, name their keyring in the settings: `upstreams: { debian: { keyrings: [FILE] } }`".to_owned()))
            }
            ResolveError::Index(IndexError::Release(ReleaseError::Expired { suite, .. })) => {
                (Exit::Refused, Some(format!("use a mirror that is up to date, or accept it: `accept-expired: [{suite}]` in the buildspec")))
            }
            ResolveError::Index(IndexError::Release(_)) | ResolveError::Regressed { .. } => {
                (Exit::Refused, Some("use another mirror, or wait until this one is up to date".to_owned()))
            }
            ResolveError::Solve { cause: SolveError::Unknown { nearest: Some(nearest), .. }, .. } => {
                (Exit::Usage, Some(format!("did you mean `{nearest}`?")))
            }
            ResolveError::NoCargoLock => (Exit::Usage, Some("run `cargo generate-lockfile` and commit its result".to_owned())),
            ResolveError::Solve { .. } | ResolveError::CargoLock(_) => (Exit::Usage, None),
            ResolveError::Index(IndexError::Upstream(_)) => {
                (Exit::Failed, Some("name it in the settings, under `upstreams:`, and give them by --settings".to_owned()))
            }
            ResolveError::Index(_) | ResolveError::Architecture(_) | ResolveError::Client(_) => (Exit::Failed, None),
        };
        let failure = Failure::new(exit, error.to_string());
        let failure = match std::error::Error::source(&error) {
            Some(cause) => failure.because(cause),
            None => failure,
        };
        match next {
            Some(next) => failure.next(next),
            None => failure,
        }
    }
}
