//! The OCI runtime document (`config.json`) that says to `runc` and `crun` what one container is.
//! Pure.

use std::path::{Path, PathBuf};

use oci_spec::runtime as rt;

use super::masks::{MASKED, READ_ONLY};
use super::seccomp;
use super::spec::{BundleSpec, IdMap, MountKind, NetworkMode, UserNamespace};

/// The runtime-spec version whose fields are used; old enough for every runc 1.x and crun 1.x.
const RUNTIME_SPEC_VERSION: &str = "1.0.2";
/// The parent of every container's cgroup. Absolute: the default nests below the caller's own group, which may be limited.
const CGROUP_PARENT: &str = "/nebh";
/// Microseconds of one CPU accounting period, the kernel's own default.
const CPU_PERIOD: u64 = 100_000;
/// `/dev/shm`: enough for programs that insist on it, small enough not to matter.
const SHM_OPTIONS: [&str; 5] = ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"];

/// Why there is no runtime document for a spec.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The process has no program.
    #[error("the container has no program to run")]
    NoProgram,
    /// A container path is relative.
    #[error("container path `{}` is not absolute", path.display())]
    NotAbsolute {
        /// The path.
        path: PathBuf,
    },
    /// A name or value that the document cannot carry.
    #[error("`{text}` contains a NUL or `=` where none may be")]
    BadText {
        /// The text.
        text: String,
    },
    /// An unknown capability.
    #[error("unknown capability `{name}`")]
    Capability {
        /// The name as given.
        name: String,
    },
    /// The document's own builder refused.
    #[error("the runtime document cannot be made")]
    Document(#[source] oci_spec::OciSpecError),
}

impl From<oci_spec::OciSpecError> for SpecError {
    fn from(cause: oci_spec::OciSpecError) -> Self {
        Self::Document(cause)
    }
}

/// The runtime document of container `id`.
pub fn runtime_document(id: &str, spec: &BundleSpec) -> Result<rt::Spec, SpecError> {
    Ok(rt::SpecBuilder::default()
        .version(RUNTIME_SPEC_VERSION)
        .hostname(spec.hostname.clone())
        .root(rt::RootBuilder::default().path(spec.rootfs.clone()).readonly(spec.read_only).build()?)
        .process(process(spec)?)
        .mounts(mounts(spec)?)
        .linux(linux(id, spec)?)
        .build()?)
}

fn process(spec: &BundleSpec) -> Result<rt::Process, SpecError> {
    if spec.args.is_empty() {
        return Err(SpecError::NoProgram);
    }
    absolute(&spec.cwd)?;
    let mut env = Vec::with_capacity(spec.env.len());
    for (name, value) in &spec.env {
        if name.is_empty() || name.contains(['\0', '=']) || value.contains('\0') {
            return Err(SpecError::BadText { text: name.clone() });
        }
        env.push(format!("{name}={value}"));
    }
    let mut user = rt::UserBuilder::default().uid(spec.uid).gid(spec.gid).additional_gids(spec.additional_gids.clone());
    if let Some(umask) = spec.umask {
        user = user.umask(umask);
    }
    let mut process = rt::ProcessBuilder::default()
        .terminal(false)
        .user(user.build()?)
        .args(spec.args.clone())
        .env(env)
        .cwd(spec.cwd.clone())
        .capabilities(capabilities(spec)?)
        .no_new_privileges(true)
        .build()?;
    // Never raised here: a machine may refuse, and a program's own limit is its parent's.
    process.set_rlimits(None);
    Ok(process)
}

fn capabilities(spec: &BundleSpec) -> Result<rt::LinuxCapabilities, SpecError> {
    let mut set = rt::Capabilities::new();
    for name in &spec.capabilities {
        let known: rt::Capability = serde_json::from_value(serde_json::Value::String(name.clone()))
            .map_err(|_| SpecError::Capability { name: name.clone() })?;
        set.insert(known);
    }
    // Ambient too: a user that is not root keeps nothing else across exec.
    Ok(rt::LinuxCapabilitiesBuilder::default()
        .bounding(set.clone())
        .effective(set.clone())
        .permitted(set.clone())
        .inheritable(set.clone())
        .ambient(set)
        .build()?)
}

fn mounts(spec: &BundleSpec) -> Result<Vec<rt::Mount>, SpecError> {
    let mut all = vec![
        mount("/proc", "proc", "proc", &[])?,
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"])?,
        mount("/dev/pts", "devpts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"])?,
        mount("/dev/shm", "tmpfs", "shm", &SHM_OPTIONS)?,
    ];
    if spec.sys {
        // Without a network namespace of one's own, a fresh sysfs is refused in a user namespace: bind the host's.
        let host = matches!(spec.network, NetworkMode::Host) && spec.user_namespace != UserNamespace::Host;
        all.push(if host {
            mount("/sys", "none", "/sys", &["rbind", "nosuid", "noexec", "nodev", "ro"])?
        } else {
            mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"])?
        });
    }
    for wanted in &spec.mounts {
        absolute(&wanted.destination)?;
        let destination = wanted.destination.to_string_lossy();
        let size;
        all.push(match &wanted.kind {
            MountKind::ReadOnly { source } => {
                mount(&destination, "bind", &source.to_string_lossy(), &["rbind", "rprivate", "ro", "nosuid", "nodev"])?
            }
            MountKind::ReadWrite { source } => {
                mount(&destination, "bind", &source.to_string_lossy(), &["rbind", "rprivate", "rw", "nosuid", "nodev"])?
            }
            MountKind::Tmpfs { bytes } => {
                size = format!("size={bytes}");
                mount(&destination, "tmpfs", "tmpfs", &["nosuid", "nodev", "mode=1777", &size])?
            }
        });
    }
    Ok(all)
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Result<rt::Mount, SpecError> {
    Ok(rt::MountBuilder::default()
        .destination(destination)
        .typ(kind)
        .source(source)
        .options(options.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>())
        .build()?)
}

fn linux(id: &str, spec: &BundleSpec) -> Result<rt::Linux, SpecError> {
    let mut linux = rt::LinuxBuilder::default()
        .namespaces(namespaces(spec)?)
        .cgroups_path(format!("{CGROUP_PARENT}/{id}"))
        .resources(resources(spec)?)
        .seccomp(seccomp::profile(spec.calls)?)
        .masked_paths(MASKED.map(str::to_owned).to_vec())
        .readonly_paths(READ_ONLY.map(str::to_owned).to_vec())
        .build()?;
    let map = |first: u32, count: u32| {
        rt::LinuxIdMappingBuilder::default()
            .container_id(0u32)
            .host_id(first)
            .size(count)
            .build()
            .map(|map| Some(vec![map]))
    };
    match spec.user_namespace {
        UserNamespace::Host => {}
        UserNamespace::Mapped(IdMap { first, count }) => {
            linux.set_uid_mappings(map(first, count)?);
            linux.set_gid_mappings(map(first, count)?);
        }
        UserNamespace::Alone { uid, gid } => {
            linux.set_uid_mappings(map(uid, 1)?);
            linux.set_gid_mappings(map(gid, 1)?);
            linux.set_cgroups_path(None);
            linux.set_resources(None);
        }
    }
    linux.set_devices(None);
    Ok(linux)
}

fn namespaces(spec: &BundleSpec) -> Result<Vec<rt::LinuxNamespace>, SpecError> {
    use rt::LinuxNamespaceType as Kind;
    let mut kinds =
        vec![(Kind::Pid, None), (Kind::Ipc, None), (Kind::Uts, None), (Kind::Mount, None), (Kind::Cgroup, None)];
    match &spec.network {
        NetworkMode::None => kinds.push((Kind::Network, None)),
        NetworkMode::Joined(path) => kinds.push((Kind::Network, Some(path.clone()))),
        NetworkMode::Host => {}
    }
    if spec.user_namespace != UserNamespace::Host {
        kinds.push((Kind::User, None));
    }
    let mut all = Vec::with_capacity(kinds.len());
    for (kind, path) in kinds {
        let mut namespace = rt::LinuxNamespaceBuilder::default().typ(kind);
        if let Some(path) = path {
            namespace = namespace.path(path);
        }
        all.push(namespace.build()?);
    }
    Ok(all)
}

fn resources(spec: &BundleSpec) -> Result<rt::LinuxResources, SpecError> {
    let mut resources = rt::LinuxResourcesBuilder::default()
        .devices(vec![rt::LinuxDeviceCgroupBuilder::default().allow(false).access("rwm").build()?])
        .build()?;
    if let Some(bytes) = spec.limits.memory {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        resources.set_memory(Some(rt::LinuxMemoryBuilder::default().limit(bytes).build()?));
    }
    if let Some(pids) = spec.limits.pids {
        resources.set_pids(Some(rt::LinuxPidsBuilder::default().limit(i64::from(pids)).build()?));
    }
    if let Some(millis) = spec.limits.cpu_millis {
        let quota = i64::from(millis) * i64::try_from(CPU_PERIOD / 1000).unwrap_or(100);
        resources.set_cpu(Some(rt::LinuxCpuBuilder::default().period(CPU_PERIOD).quota(quota).build()?));
    }
    Ok(resources)
}

fn absolute(path: &Path) -> Result<(), SpecError> {
    if path.is_absolute() { Ok(()) } else { Err(SpecError::NotAbsolute { path: path.to_owned() }) }
}
