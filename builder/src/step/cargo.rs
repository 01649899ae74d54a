//! Cargo in the sandbox: what it finds there and how it is told to build. Side effects: those of the sandbox.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nebh_face::{Exit, Failure};
use nebh_oci::digest::Digest;
use nebh_oci::runtime::Mount;

use crate::lock::Lock;
use crate::packages::Packages;
use crate::sandbox::{Job, Sandbox, SandboxError};
use crate::source::Checkout;
use crate::spec::{Profile, RustStep};

/// The time of all files of the skeleton, and `SOURCE_DATE_EPOCH` of both cargo steps: it follows from no commit. Crates
/// that compile C run again when that variable changes, and with the commit's time every commit would compile them anew.
/// 1980, because some archive formats know no earlier year.
pub const EPOCH: u64 = 315_532_800;

/// Cargo's configuration. In a folder above the source, not by `--config`: a file there is merged with the project's own,
/// and cargo of today stumbles over a file directly under `/`.
pub const CONFIG: &str = r#"[source.crates-io]
replace-with = "vendored"
[source.vendored]
directory = "/x/vendor"
[build]
rustflags = ["--remap-path-prefix=/x/vendor=/vendor", "--remap-path-prefix=/x/src=/src"]
[net]
offline = true
"#;

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
    pub(super) inputs: &'a RustInputs<'a>,
    pub(super) root: PathBuf,
    pub(super) root_key: Digest,
    pub(super) crates: PathBuf,
    pub(super) vendor_key: Digest,
    pub(super) config_folder: PathBuf,
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
            env: environment(),
            cwd: "/x/src".into(),
        };
        let folder = self.inputs.packages.work.folder(&format!("bundle-{name}"))?;
        let ran = self.inputs.sandbox.run(&job, &folder, EPOCH, self.inputs.packages.events).await;
        ran.map_err(|error| failure(&error))
    }
}

/// The variables of cargo, besides those of every step.
pub fn environment() -> BTreeMap<String, String> {
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
