//! The two registries under measurement, each on its own folder of one disk, and the work that both are given.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use nebh_oci::digest::{Algorithm, Digest, Hasher};

use super::http::{Connection, Load};
use crate::Bench;
use crate::machine::first_line;
use crate::server::{Server, free_port};

/// Media type of the small images.
pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// A size that no two of our payloads share a prefix of.
const STAMP_BYTES: usize = 16;

/// Which registry.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// Ours: the program.
    Nebh(PathBuf),
    /// CNCF distribution: the program.
    Distribution(PathBuf),
}

impl Kind {
    /// The peer: built by `hack/bench`, else Debian's older package.
    pub(super) fn peer(bench: &Bench) -> Self {
        let built = bench.peers.join("distribution");
        Self::Distribution(if built.is_file() { built } else { PathBuf::from("docker-registry") })
    }

    /// How the table calls it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Nebh(_) => "nebh",
            Self::Distribution(_) => "distribution",
        }
    }

    /// What it says it is.
    pub(super) fn version(&self) -> String {
        let (Self::Nebh(program) | Self::Distribution(program)) = self;
        first_line(Command::new(program).arg("--version"))
    }

    /// Starts it on a folder, which may hold what an earlier one left.
    pub(super) fn start(&self, folder: &Path) -> Result<Site> {
        self.start_with(folder, "")
    }

    /// The same, with more settings of ours; the peer has none that would mean them.
    pub(super) fn start_with(&self, folder: &Path, more: &str) -> Result<Site> {
        let port = free_port()?;
        let state = folder.join("state");
        let settings = folder.join("settings.yaml");
        let mut command = match self {
            Self::Nebh(program) => {
                let text = format!(
                    "listen: 127.0.0.1:{port}\nstate: {}\nlimits: {{ connections: 1024, uploads: 256 }}\n{more}",
                    state.display()
                );
                std::fs::write(&settings, text)?;
                let mut command = Command::new(program);
                command.args(["gateway", "serve", "-q", "--settings"]).arg(&settings);
                command
            }
            Self::Distribution(program) => {
                // As its own example has it: descriptors cached in memory. Less is written to the log than there.
                let text = format!(
                    "version: 0.1\nlog: {{ level: error, accesslog: {{ disabled: true }} }}\nstorage:\n  \
                     filesystem: {{ rootdirectory: {} }}\n  delete: {{ enabled: true }}\n  \
                     cache: {{ blobdescriptor: inmemory }}\nhttp: {{ addr: '127.0.0.1:{port}' }}\n",
                    state.display()
                );
                std::fs::write(&settings, text)?;
                let mut command = Command::new(program);
                command.arg("serve").arg(&settings).env("OTEL_TRACES_EXPORTER", "none");
                command
            }
        };
        let mut server = Server::start(&mut command, &folder.join("log"))?;
        server.wait_for_port(port)?;
        Ok(Site { server, port })
    }
}

/// A running registry.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) server: Server,
    pub(super) port: u16,
}

impl Site {
    /// A new connection to it.
    pub(super) fn connect(&self) -> Result<Connection> {
        Connection::open(self.port)
    }
}

/// Pushes one blob as containerd does: POST, then PUT with all bytes.
pub(super) fn push(connection: &mut Connection, repository: &str, digest: &Digest, load: Load<'_>) -> Result<()> {
    let location = begin(connection, repository)?;
    let path = finish_path(&location, digest);
    connection.ask("PUT", &path, "application/octet-stream", load, 201)?;
    Ok(())
}

/// Begins an upload; the path to go on at.
pub(super) fn begin(connection: &mut Connection, repository: &str) -> Result<String> {
    let path = format!("/v2/{repository}/blobs/uploads/");
    let answer = connection.ask("POST", &path, "", Load::Nothing, 202)?;
    let location = answer.location.context("an upload without a location")?;
    // Some give a whole URL.
    Ok(match location.split_once("://") {
        Some((_, rest)) => rest[rest.find('/').unwrap_or(0)..].to_owned(),
        None => location,
    })
}

/// Where an upload that began at `location` is finished.
pub(super) fn finish_path(location: &str, digest: &Digest) -> String {
    let sign = if location.contains('?') { '&' } else { '?' };
    format!("{location}{sign}digest={digest}")
}

/// Pulls one blob.
pub(super) fn pull(connection: &mut Connection, repository: &str, digest: &Digest) -> Result<u64> {
    let path = format!("/v2/{repository}/blobs/{digest}");
    Ok(connection.ask("GET", &path, "", Load::Nothing, 200)?.length)
}

/// Bytes that do not repeat. Not random, only without a pattern that anything could make use of.
fn noise(seed: u64) -> impl Iterator<Item = u64> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    })
}

/// So many bytes of noise.
pub(super) fn bytes(seed: u64, size: usize) -> Vec<u8> {
    noise(seed).flat_map(u64::to_le_bytes).take(size).collect()
}

/// A large file whose first bytes are changed for each push, so that no registry has it yet.
#[derive(Debug)]
pub(super) struct Payload {
    file: File,
    size: u64,
    stamps: u64,
}

impl Payload {
    /// Makes the file.
    pub(super) fn make(path: &Path, size: u64) -> Result<Self> {
        let mut file = File::options().create(true).truncate(true).read(true).write(true).open(path)?;
        let block = bytes(size, 1 << 20);
        let mut left = size;
        let mut number = 0_u64;
        while left > 0 {
            let mut block = block.clone();
            block[..8].copy_from_slice(&number.to_le_bytes());
            let now = left.min(block.len() as u64);
            file.write_all(&block[..usize::try_from(now)?])?;
            left -= now;
            number += 1;
        }
        Ok(Self { file, size, stamps: 0 })
    }

    /// Changes it; its new digest.
    pub(super) fn stamp(&mut self) -> Result<Digest> {
        self.stamps += 1;
        let mut stamp = [0_u8; STAMP_BYTES];
        stamp[8..].copy_from_slice(&self.stamps.to_be_bytes());
        self.file.write_all_at(&stamp, 0)?;
        let mut hasher = Hasher::new(Algorithm::Sha256);
        self.file.rewind()?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            let read = self.file.read(&mut buffer)?;
            if read == 0 {
                return Ok(hasher.finish());
            }
            hasher.update(&buffer[..read]);
        }
    }

    /// To be sent.
    pub(super) fn load(&self) -> Load<'_> {
        Load::File(&self.file, self.size)
    }

    /// Its size in GB.
    pub(super) fn gigabytes(&self) -> f64 {
        gigabytes(self.size)
    }
}

/// Bytes in GB, the decimal ones.
#[expect(clippy::cast_precision_loss, reason = "sizes far below 2^52")]
pub(super) fn gigabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e9
}

/// A small image: its blobs and its manifest.
#[derive(Debug)]
pub(super) struct SmallImage {
    blobs: [(Digest, Vec<u8>); 2],
    manifest: Vec<u8>,
}

impl SmallImage {
    /// The `nth`, like no other.
    pub(super) fn new(nth: u64) -> Self {
        let config =
            format!(r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":[]}},"n":{nth}}}"#);
        let blobs = [config.into_bytes(), bytes(nth + 7, 10_000)].map(|bytes| (Digest::sha256(&bytes), bytes));
        let [(config, config_bytes), (layer, layer_bytes)] = &blobs;
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":{}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{layer}","size":{}}}]}}"#,
            config_bytes.len(),
            layer_bytes.len()
        );
        Self { blobs, manifest: manifest.into_bytes() }
    }

    /// Digest of its manifest.
    pub(super) fn digest(&self) -> Digest {
        Digest::sha256(&self.manifest)
    }

    /// Its manifest.
    pub(super) fn manifest(&self) -> &[u8] {
        &self.manifest
    }

    /// Digest of its layer.
    pub(super) fn layer(&self) -> Digest {
        self.blobs[1].0
    }

    /// Pushes its blobs, then its manifest under a tag.
    pub(super) fn push(&self, connection: &mut Connection, repository: &str, tag: &str) -> Result<()> {
        for (digest, bytes) in &self.blobs {
            push(connection, repository, digest, Load::Bytes(bytes))?;
        }
        self.tag(connection, repository, tag)
    }

    /// Pushes the manifest alone.
    pub(super) fn tag(&self, connection: &mut Connection, repository: &str, tag: &str) -> Result<()> {
        let path = format!("/v2/{repository}/manifests/{tag}");
        connection.ask("PUT", &path, MANIFEST, Load::Bytes(&self.manifest), 201)?;
        Ok(())
    }
}
