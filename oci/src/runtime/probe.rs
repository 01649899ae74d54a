//! Which runtime program works on this machine: each is asked to run a container whose one program is a few machine
//! instructions. Being installed is not enough: `crun` refuses hybrid cgroups, old kernels refuse some namespaces.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::sync::mpsc;

use super::bundle::{Bundle, BundleError};
use super::call::RuntimeError;
use super::process::ExitReason;
use super::program::{Runtime, RuntimeKind};
use super::spec::{BundleSpec, UserNamespace};

/// Why no runtime program works here.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Each was tried.
    #[error("no OCI runtime works here: {}", tried.join("; "))]
    NoneWorks {
        /// One sentence per program.
        tried: Vec<String>,
    },
    /// The test container could not be written.
    #[error("cannot prepare the test container in `{}`", path.display())]
    Prepare {
        /// Where.
        path: PathBuf,
        /// Cause.
        #[source]
        cause: std::io::Error,
    },
    /// The test container could not be described.
    #[error("cannot describe the test container")]
    Bundle(#[source] BundleError),
}

/// The exit code that proves that our instructions ran.
const PROOF: u8 = 42;

impl Runtime {
    /// Tries `runc`, then `crun`, by running a tiny container. `state` is where the program keeps its containers: give
    /// every user of this crate a directory of its own, and the same one again after a restart.
    pub async fn probe(state: &Path) -> Result<Self, ProbeError> {
        let mut tried = Vec::new();
        for kind in [RuntimeKind::Runc, RuntimeKind::Crun] {
            let Some(program) = find(&kind.to_string()) else {
                tried.push(format!("{kind} is not installed"));
                continue;
            };
            let why = match tried.as_slice() {
                [] => format!("{kind} ran a test container"),
                before => format!("{kind} ran a test container ({})", before.join("; ")),
            };
            let runtime = Self::new(kind, program, state.to_owned(), why);
            match attempt(&runtime).await? {
                Ok(ExitReason::Code(code)) if code == i32::from(PROOF) => return Ok(runtime),
                Ok(other) => tried.push(format!("{kind} ran a test container, which ended with {other}")),
                Err(error) => tried.push(error.to_string()),
            }
        }
        Err(ProbeError::NoneWorks { tried })
    }
}

async fn attempt(runtime: &Runtime) -> Result<Result<ExitReason, RuntimeError>, ProbeError> {
    let dir = tempfile::Builder::new()
        .prefix("nebh-probe-")
        .tempdir()
        .map_err(|cause| ProbeError::Prepare { path: std::env::temp_dir(), cause })?;
    let rootfs = dir.path().join("root");
    let write = || {
        for name in ["proc", "dev"] {
            std::fs::create_dir_all(rootfs.join(name))?;
        }
        let program = rootfs.join("probe");
        // The user inside has to reach the program, whatever the umask of whoever probes.
        std::fs::set_permissions(&rootfs, std::fs::Permissions::from_mode(0o755))?;
        std::fs::write(&program, exit_program())?;
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))
    };
    write().map_err(|cause| ProbeError::Prepare { path: rootfs.clone(), cause })?;
    let id = format!("nebh-probe-{}", uuid::Uuid::now_v7().simple());
    let mut spec = BundleSpec::new(&rootfs, vec!["/probe".to_owned()]);
    if !rustix::process::geteuid().is_root() {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        (spec.uid, spec.gid) = (0, 0);
        spec.user_namespace = UserNamespace::Alone { uid, gid };
    }
    let bundle = Bundle::write(dir.path(), &id, &spec).map_err(ProbeError::Bundle)?;
    let (lines, unread) = mpsc::channel(1);
    drop(unread);
    Ok(runtime.run(&bundle, lines).await)
}

/// The program by that name on `PATH`, or where administrators' programs are.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/usr/bin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|candidate| candidate.is_file())
}

/// A whole static ELF program that does nothing but exit with [`PROOF`]: one header, one segment, one system call.
fn exit_program() -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    #[cfg(target_arch = "x86_64")]
    // mov edi, PROOF; mov eax, exit_group; syscall
    let (machine, code) = (62u16, vec![0xbf, PROOF, 0, 0, 0, 0xb8, 231, 0, 0, 0, 0x0f, 0x05]);
    #[cfg(target_arch = "aarch64")]
    // mov x0, #PROOF; mov x8, #exit_group; svc #0
    let (machine, code) = (183u16, vec![0x40, 0x05, 0x80, 0xd2, 0xc8, 0x0b, 0x80, 0xd2, 0x01, 0, 0, 0xd4]);
    let size = HEADERS + code.len() as u64;
    let mut elf = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for half in [2, machine] {
        elf.extend(half.to_le_bytes());
    }
    elf.extend(1u32.to_le_bytes());
    for word in [BASE + HEADERS, 64, 0] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend(0u32.to_le_bytes());
    for half in [64u16, 56, 1, 0, 0, 0] {
        elf.extend(half.to_le_bytes());
    }
    for word in [1u32, 5] {
        elf.extend(word.to_le_bytes());
    }
    for word in [0, BASE, BASE, size, size, 0x1000] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend(code);
    elf
}
