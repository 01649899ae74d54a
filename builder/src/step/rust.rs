//! The `rust` step: cargo in the sandbox, twice. First the dependencies, kept; then the application on top of them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nebh_face::{Exit, Failure};
use nebh_oci::digest::Digest;
use nebh_oci::runtime::Mount;

use super::collect::collect;
use super::dependencies::{EPOCH, dependencies};
use super::vendor::vendor;
use crate::assembly::{Entry, EntryPath, FileTree, Meta, Spill};
use crate::event::BuildEvent;
use crate::lock::Lock;
use crate::packages::{Packages, internal};
use crate::pipeline::blocking;
use crate::sandbox::{Job, Layered, Sandbox, SandboxError};
use crate::source::Checkout;
use crate::spec::{Profile, RustStep};

/// What the step works on.
#[derive(Debug)]
pub struct RustInputs<'a> {
    /// The source.
    pub checkout: &'a Checkout,
    /// The source, exported.
    pub source: &'a Path,
    /// The locked inputs.
    pub lock: &'a Lock,
    /// Inputs, store, scratch space and listeners.
    pub packages: &'a Packages<'a>,
    /// Where cargo runs.
    pub sandbox: &'a Sandbox,
}

/// Cargo with its toolchain and crates.
#[derive(Debug)]
pub(super) struct Cargo<'a> {
    inputs: &'a RustInputs<'a>,
    root: PathBuf,
    pub(super) root_key: Digest,
    crates: PathBuf,
    pub(super) vendor_key: Digest,
    config_folder: PathBuf,
}

/// Runs the step; its programs as a tree.
pub async fn rust(step: &RustStep, inputs: &RustInputs<'_>, spill: &Spill) -> Result<FileTree, Failure> {
    let events = inputs.packages.events;
    let begun = Instant::now();
    let what = step.toolchain.to_string();
    events.send(BuildEvent::StepStarted { step: "toolchain".into(), what: what.clone() });
    let (root, root_key, kept) = blocking(|| inputs.packages.root(&inputs.lock.toolchain))?;
    events.send(BuildEvent::StepDone { step: "toolchain".into(), what, millis: millis(begun), kept });
    let (crates, vendor_key) = blocking(|| vendor(inputs.lock.crates(), inputs.packages))?;
    let config_folder = inputs.packages.work.folder("cargo")?;
    let cargo = Cargo { inputs, root, root_key, crates, vendor_key, config_folder };
    let config = cargo.config_folder.join("config.toml");
    fs::write(&config, Cargo::config())
        .and_then(|()| fs::set_permissions(&config, fs::Permissions::from_mode(0o644)))
        .map_err(|cause| failed_at(&config, &cause))?;
    let begun = Instant::now();
    let what = format!("{} crates", inputs.lock.crates().len());
    events.send(BuildEvent::StepStarted { step: "dependencies".into(), what: what.clone() });
    let (compiled, kept) = dependencies(step, inputs, &cargo).await?;
    events.send(BuildEvent::StepDone { step: "dependencies".into(), what, millis: millis(begun), kept });
    let begun = Instant::now();
    let what = step.bins.iter().map(crate::spec::BinName::as_str).collect::<Vec<_>>().join(", ");
    events.send(BuildEvent::StepStarted { step: "rust".into(), what: what.clone() });
    let target = Layered::over(&compiled, inputs.packages.work.path()).map_err(|error| internal(&error))?;
    cargo.build("rust", step, inputs.source, target.path()).await?;
    let tree = programs(step, target.path(), spill, inputs.checkout.time())?;
    events.send(BuildEvent::StepDone { step: "rust".into(), what, millis: millis(begun), kept: false });
    Ok(tree)
}

fn millis(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn programs(step: &RustStep, target: &Path, spill: &Spill, mtime: u64) -> Result<FileTree, Failure> {
    let mut tree = FileTree::default();
    for bin in &step.bins {
        let path = Path::new(profile_folder(&step.profile)).join(bin.as_str());
        let content = collect(target, &path, spill).map_err(|error| {
            Failure::new(Exit::Failed, format!("step `rust` made no program `{bin}`")).because(&error)
        })?;
        let place = EntryPath::parse(&format!("usr/bin/{bin}")).map_err(|error| internal(&error))?;
        tree.insert(place, Entry::content(Meta::root(0o755, mtime), content)).map_err(|error| internal(&error))?;
    }
    Ok(tree)
}

/// The folder that cargo puts the results of a profile into.
pub(super) fn profile_folder(profile: &Profile) -> &str {
    match profile.as_str() {
        "dev" | "test" => "debug",
        "bench" => "release",
        other => other,
    }
}

impl Cargo<'_> {
    /// One run of `cargo build` of the step's programs.
    pub(super) async fn build(&self, name: &str, step: &RustStep, source: &Path, target: &Path) -> Result<(), Failure> {
        let mut args: Vec<String> =
            ["/usr/bin/cargo", "build", "--locked", "--offline", "--profile", step.profile.as_str()]
                .map(str::to_owned)
                .to_vec();
        for bin in &step.bins {
            args.extend(["--bin".to_owned(), bin.to_string()]);
        }
        if !step.features.is_empty() {
            args.extend(["--features".to_owned(), step.features.join(",")]);
        }
        let job = Job {
            step: name.to_owned(),
            root: self.root.clone(),
            mounts: vec![
                Mount::read_only(&self.config_folder, "/x/.cargo"),
                Mount::read_only(source, "/x/src"),
                Mount::read_only(&self.crates, "/x/vendor"),
                Mount::read_write(target, "/x/target"),
                Mount::tmpfs("/x/home", 256 << 20),
            ],
            args,
            env: Self::environment(),
            cwd: "/x/src".into(),
        };
        let folder = self.inputs.packages.work.folder(&format!("bundle-{name}"))?;
        let ran = self.inputs.sandbox.run(&job, &folder, EPOCH, self.inputs.packages.events).await;
        ran.map_err(|error| failure(&error))
    }

    /// The variables of cargo, besides those of every step.
    pub(super) fn environment() -> BTreeMap<String, String> {
        [
            ("CARGO_HOME", "/x/home"),
            ("CARGO_INCREMENTAL", "0"),
            ("CARGO_TARGET_DIR", "/x/target"),
            ("CARGO_TERM_COLOR", "never"),
            ("CARGO_TERM_PROGRESS_WHEN", "never"),
            // C code of crates writes the names of its files into what it compiles.
            ("CFLAGS", "-ffile-prefix-map=/x/vendor=/vendor"),
            ("CXXFLAGS", "-ffile-prefix-map=/x/vendor=/vendor"),
            // Crates that roll dice while they compile take this instead.
            ("CONST_RANDOM_SEED", "0"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    /// Cargo's configuration. In a folder above the source, not by `--config`: a file there is merged with the project's
    /// own, and cargo of today stumbles over a file directly under `/`.
    pub(super) fn config() -> &'static str {
        r#"[source.crates-io]
replace-with = "vendored"
[source.vendored]
directory = "/x/vendor"
[build]
rustflags = ["--remap-path-prefix=/x/vendor=/vendor", "--remap-path-prefix=/x/src=/src"]
[net]
offline = true
"#
    }
}

fn failed_at(path: &Path, cause: &std::io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("cannot write `{}`", path.display())).because(cause)
}

fn failure(error: &SandboxError) -> Failure {
    let next = match error {
        SandboxError::Unavailable(_) => {
            Some("install runc (or crun); as another user than root, allow user namespaces")
        }
        SandboxError::Failed { .. } => Some("`-v` shows the whole log, `--output json` also"),
        _ => None,
    };
    let failure = Failure::new(Exit::Failed, error.to_string());
    let failure = match std::error::Error::source(error) {
        Some(cause) => failure.because(cause),
        None => failure,
    };
    match next {
        Some(next) => failure.next(next),
        None => failure,
    }
}
