//! The compiler alone: cargo with our flags, in a chroot of our toolchain, on the work tree itself. No commit is read,
//! nothing is copied, no image is made.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use nebh_builder::step::cargo::{CONFIG, EPOCH};

use super::Toolchain;
use crate::measure::{Cost, run as measured};

/// Our step's command.
pub(crate) const COMMAND: &str = "/usr/bin/cargo build --locked --offline --profile release --bin ledger";
/// Binds what it is given into the root, in a mount namespace of its own, and becomes cargo.
const SCRIPT: &str = r#"
set -e
root=$1 source=$2 vendor=$3 settings=$4 target=$5
mount --bind "$root" "$root"
mount --bind "$source" "$root/x/src"
mount --bind "$vendor" "$root/x/vendor"
mount --bind "$settings" "$root/x/.cargo"
mount --bind "$target" "$root/x/target"
mount -t tmpfs none "$root/x/home"
mount -t tmpfs none "$root/tmp"
mount --rbind /dev "$root/dev"
mount -t proc none "$root/proc"
shift 5
exec chroot "$root" /usr/bin/env -i -C /x/src "$@"
"#;

/// The variables of our own step: they change what the compiler does, or what it writes down.
pub(crate) fn environment() -> Vec<String> {
    let mut all = nebh_builder::sandbox::environment(EPOCH);
    all.extend(nebh_builder::step::cargo::environment());
    all.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// The compiler with its target folder.
#[derive(Debug)]
pub(crate) struct Compiler {
    folder: PathBuf,
}

impl Compiler {
    /// With settings and a target folder below `folder`.
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder.join("settings"))?;
        std::fs::write(folder.join("settings/config.toml"), CONFIG)?;
        let compiler = Self { folder: folder.to_owned() };
        compiler.forget()?;
        Ok(compiler)
    }

    /// Compiles the work tree.
    pub(crate) fn build(&self, tools: &Toolchain, source: &Path) -> Result<Cost> {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--net", "sh", "-c", SCRIPT, "sh"]).arg(&tools.root).arg(source).arg(&tools.vendor);
        command.arg(self.folder.join("settings")).arg(self.folder.join("target"));
        command.args(environment());
        measured(command.args(COMMAND.split(' ')))
    }

    /// Forgets what was compiled.
    pub(crate) fn forget(&self) -> Result<()> {
        let target = self.folder.join("target");
        if target.exists() {
            std::fs::remove_dir_all(&target)?;
        }
        Ok(std::fs::create_dir_all(&target)?)
    }
}
