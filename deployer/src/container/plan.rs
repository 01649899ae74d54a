//! From a release and an image to a container: what is run, as whom, with what mounted. Pure.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nebh_oci::image_config::ImageConfig;
use nebh_oci::runtime::{BundleSpec, Limits, Mount, NetworkMode};
use nebh_trust::release::{ByteSize, Cpus, Network, ReleaseStatement};

use super::user::User;

/// Memory-backed `/tmp`: the root is read-only, and many programs insist on it.
const TMP_BYTES: u64 = 64 << 20;
/// Memory-backed `/run`.
const RUN_BYTES: u64 = 16 << 20;
/// Processes and threads of one container: a fork bomb ends here.
const PIDS_MAX: u32 = 4096;
/// What a program that starts as root may do, so that it can give root up; never more. Others get nothing.
const ROOT_CAPABILITIES: [&str; 8] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_NET_BIND_SERVICE",
];

/// What the host has made ready.
#[derive(Clone, Debug)]
pub struct Planned<'a> {
    /// The unpacked image.
    pub root: &'a Path,
    /// The rendered config.
    pub config: &'a Path,
    /// Dataset → its live path.
    pub data: &'a BTreeMap<String, PathBuf>,
    /// As whom it runs.
    pub user: User,
    /// Name of the node, which the program sees as its host name.
    pub node: &'a str,
}

/// The container of a release's program, or with `args` of another program in the same surroundings.
pub fn plan(
    statement: &ReleaseStatement,
    image: &ImageConfig,
    planned: &Planned<'_>,
    args: Option<&[String]>,
) -> BundleSpec {
    let defaults = &image.config;
    let args = match args {
        Some(args) => args.to_owned(),
        None => defaults.entrypoint.iter().chain(&defaults.cmd).cloned().collect(),
    };
    let mut spec = BundleSpec::new(planned.root, args);
    spec.env = environment(image, statement);
    spec.cwd = defaults.working_dir.as_deref().unwrap_or("/").into();
    (spec.uid, spec.gid) = (planned.user.uid, planned.user.gid);
    planned.node.clone_into(&mut spec.hostname);
    spec.sys = true;
    spec.limits = Limits {
        memory: statement.run.limits.memory.map(ByteSize::bytes),
        pids: Some(PIDS_MAX),
        cpu_millis: statement.run.limits.cpus.map(Cpus::thousandths),
    };
    if planned.user.uid == 0 {
        spec.capabilities = ROOT_CAPABILITIES.map(str::to_owned).to_vec();
    }
    spec.mounts = vec![Mount::tmpfs("/tmp", TMP_BYTES), Mount::tmpfs("/run", RUN_BYTES)];
    if let Some(mount) = &statement.config.mount {
        spec.mounts.push(Mount::read_only(planned.config, mount.as_str()));
    }
    spec.network = match statement.run.network {
        Network::None => NetworkMode::None,
        Network::Host => {
            spec.mounts.push(Mount::read_only("/etc/resolv.conf", "/etc/resolv.conf"));
            NetworkMode::Host
        }
    };
    spec
}

/// Adds the datasets: the program itself writes them, a check of its config must not.
pub fn with_data(mut spec: BundleSpec, statement: &ReleaseStatement, data: &BTreeMap<String, PathBuf>) -> BundleSpec {
    for (name, dataset) in &statement.data {
        match data.get(name.as_str()) {
            Some(path) => spec.mounts.push(Mount::read_write(path, dataset.mount.as_str())),
            // Scratch data that the node has no place for lives in memory.
            None => spec.mounts.push(Mount::tmpfs(dataset.mount.as_str(), TMP_BYTES)),
        }
    }
    spec
}

fn environment(image: &ImageConfig, statement: &ReleaseStatement) -> Vec<(String, String)> {
    let mut environment: BTreeMap<String, String> = image
        .config
        .env
        .iter()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    environment
        .entry("PATH".to_owned())
        .or_insert_with(|| "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
    environment.extend(statement.run.env.clone());
    environment.into_iter().collect()
}
