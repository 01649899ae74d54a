//! What the host asks of, and tells to, the registry outside of Prepare: names, the channel head, manifests of
//! snapshots. All of it may fail without any harm to what runs.
//!
//! Side effects: the registry; `head.json`, the newest head ever seen, durable before anybody acts on it.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use nebh_oci::digest::Digest;
use nebh_oci::names::Tag;
use nebh_trust::channel::{self, ChannelHead, Floor, HeadRelease, verify_head};
use nebh_trust::data::{DataSnapshotManifest, VERSION, sign_data_snapshot};
use nebh_trust::release::read_release;
use serde::{Deserialize, Serialize};

use super::local::LocalHost;
use super::{Head, fetch, trouble};
use crate::machine::{ReleaseRef, SnapshotFacts, Trouble, TroubleKind};

/// How long the gateway may take for a report, which nobody waits for.
const REPORT_WITHIN: Duration = Duration::from_secs(10);

/// `head.json`: each channel counts for itself, also one that is followed no longer.
#[derive(Default, Serialize, Deserialize)]
struct Floors {
    version: u32,
    counters: BTreeMap<String, u64>,
    /// What the head with that counter said. Absent in notes of before, and then noted at the next look.
    #[serde(default)]
    heads: BTreeMap<String, Digest>,
}

impl Floors {
    fn of(&self, channel: &str) -> Floor {
        Floor { counter: self.counters.get(channel).copied().unwrap_or(0), head: self.heads.get(channel).copied() }
    }
}

impl LocalHost {
    pub(super) async fn resolve_release(&self, wanted: &str) -> Result<ReleaseRef, Trouble> {
        let (client, address) = (&self.node.client, &self.app.repository);
        let manifest = if let Ok(digest) = wanted.parse::<Digest>() {
            client.manifest(address, &digest).await
        } else {
            let tag: Tag =
                wanted.parse().map_err(|_| trouble::wrong(format!("`{wanted}` is neither a version nor a digest")))?;
            client.manifest_by_tag(address, &tag).await
        };
        let manifest = manifest.map_err(|error| {
            if error.is_not_found() {
                trouble::wrong(format!("{address} has no release `{wanted}`"))
            } else {
                trouble::from_client(&error)
            }
        })?;
        let release = read_release(&manifest)
            .map_err(|error| trouble::wrong(format!("{address}:{wanted} is no release: {error}")))?;
        reference(&release.version.to_string(), release.digest)
    }

    pub(super) async fn next_head(&self, seen: Option<u64>) -> Head {
        let Some(channel) = self.app.channel.clone() else { return std::future::pending().await };
        let mut said = String::new();
        loop {
            match self.look_at_head(&channel).await {
                Ok(head) if seen.is_none_or(|seen| head.counter > seen) => return head,
                Ok(_) => said.clear(),
                Err(trouble) => {
                    // Said once, not at every look.
                    if trouble.text != said {
                        tracing::warn!(app = %self.app.name, channel, kind = ?trouble.kind, "{}", trouble.text);
                        said = trouble.text;
                    }
                }
            }
            tokio::time::sleep(self.app.follow_every).await;
        }
    }

    pub(super) async fn look_at_head(&self, channel: &str) -> Result<Head, Trouble> {
        let (client, address) = (&self.node.client, &self.app.repository);
        let tag = channel::tag(channel).map_err(|error| trouble::wrong(error.to_string()))?;
        let manifest = client.manifest_by_tag(address, &tag).await.map_err(|error| trouble::from_client(&error))?;
        let attached = fetch::with_layers(client, address, manifest).await?;
        let note = self.path.join("head.json");
        let floors = read_floors(&note).map_err(|error| {
            Trouble::new(
                TroubleKind::Failed,
                format!("cannot read {}: {error}; no head is believed without it", note.display()),
            )
        })?;
        let floor = floors.of(channel);
        let policy = self.policy()?;
        let now = jiff::Timestamp::now();
        let head = verify_head(&policy, address.repository(), channel, &attached, &floor, now)
            .map_err(|rejection| trouble::refused(&rejection))?
            .into_value();
        let seen = Floor { counter: head.counter, head: Some(head.digest().map_err(|error| trouble::failed(&error))?) };
        if seen != floor {
            write_floor(&note, channel, &seen).map_err(|error| trouble::failed(&error))?;
        }
        read_head(&head)
    }

    pub(super) async fn send_report(&self, report: &serde_json::Value) -> Result<(), Trouble> {
        let host = self.app.repository.registry();
        let scheme = if host.is_loopback() || self.node.settings.plain_http.contains(host) { "http" } else { "https" };
        let url = format!("{scheme}://{host}/api/v1/hosts/{}/report", self.node.settings.node);
        let client =
            reqwest::Client::builder().timeout(REPORT_WITHIN).build().map_err(|error| trouble::failed(&error))?;
        let sent = client.post(url).json(report).send().await;
        let answer = sent.map_err(|error| Trouble::new(TroubleKind::Unreachable, nebh_face::failure::chain(&error)))?;
        if !answer.status().is_success() {
            // Another registry than ours knows no reports; ours says what is wrong with one.
            let text = format!("the gateway took no report: status {}", answer.status().as_u16());
            return Err(Trouble::new(TroubleKind::Failed, text));
        }
        Ok(())
    }

    pub(super) async fn publish_snapshot(&self, snapshot: &SnapshotFacts) -> Result<(), Trouble> {
        // A node without a key has nothing that anybody would believe.
        let (Some(key), Some(release)) = (&self.node.key, &snapshot.release) else { return Ok(()) };
        let (client, address) = (&self.node.client, &self.app.repository);
        let subject = client.manifest(address, &release.digest).await.map_err(|error| trouble::from_client(&error))?;
        for dataset in &snapshot.datasets {
            let Some(settings) = self.app.datasets.get(dataset) else { continue };
            let manifest = DataSnapshotManifest {
                version: VERSION,
                app: self.app.name.to_string(),
                dataset: dataset.to_string(),
                driver: settings.driver.to_string(),
                snapshot: snapshot.name.to_string(),
                timeline: snapshot.timeline.to_string(),
                schema: snapshot.schema.get(dataset).copied(),
                release: release.digest,
                operation: snapshot.op.to_string(),
                purpose: snapshot.kind.word().to_owned(),
                node: self.node.settings.node.to_string(),
                time: snapshot.at,
            };
            let artifact = sign_data_snapshot(&manifest, &subject, key).map_err(|error| trouble::failed(&error))?;
            client.push_artifact(address, &artifact).await.map_err(|error| trouble::from_client(&error))?;
        }
        Ok(())
    }
}

fn reference(version: &str, digest: Digest) -> Result<ReleaseRef, Trouble> {
    let version = version.parse().map_err(|error| trouble::failed(&error))?;
    Ok(ReleaseRef { version, digest })
}

fn read_head(head: &ChannelHead) -> Result<Head, Trouble> {
    let one = |release: &HeadRelease| reference(&release.version, release.digest);
    let all = |releases: &[HeadRelease]| releases.iter().map(one).collect::<Result<Vec<_>, _>>();
    Ok(Head {
        counter: head.counter,
        current: one(&head.current)?,
        recent: all(&head.recent)?,
        pinned: all(&head.pinned)?,
    })
}

/// The highest counters ever seen. A note that cannot be read is an error: taking it for 0 would let an old head pass.
fn read_floors(path: &Path) -> std::io::Result<Floors> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Floors::default()),
        Err(error) => Err(error),
    }
}

fn write_floor(path: &Path, channel: &str, floor: &Floor) -> std::io::Result<()> {
    let mut floors = read_floors(path)?;
    floors.version = 1;
    floors.counters.insert(channel.to_owned(), floor.counter);
    if let Some(head) = floor.head {
        floors.heads.insert(channel.to_owned(), head);
    }
    let half = path.with_extension("half");
    let mut file = std::fs::File::create(&half)?;
    file.write_all(&serde_json::to_vec(&floors)?)?;
    file.sync_all()?;
    std::fs::rename(&half, path)?;
    match path.parent() {
        Some(folder) => std::fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}
