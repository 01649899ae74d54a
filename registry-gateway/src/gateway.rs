//! All that one running gateway holds: settings, database, store, sessions, trust policy. Opened in one place, passed
//! everywhere by reference; there are no globals.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use nebh_face::{Exit, Failure};
use nebh_oci::digest::Digest;
use tokio::sync::Semaphore;

use crate::admit::Judge;
use crate::compared::Compared;
use crate::crash;
use crate::db::{self, Db, DbError};
use crate::settings::Settings;
use crate::store::{Store, StoreError, Uploads, blocking};
use crate::trust::TrustSource;

/// Large manifests that are read and judged at once. Small ones never wait for them.
const LARGE_AT_ONCE: usize = 16;

/// Counters for `/metrics`.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Requests answered.
    pub requests: AtomicU64,
    /// Of these with a status of 500 or more.
    pub failures: AtomicU64,
    /// Tags granted.
    pub admitted: AtomicU64,
    /// Tags refused.
    pub refused: AtomicU64,
    /// Bytes of blobs taken.
    pub bytes_in: AtomicU64,
    /// Bytes of blobs handed out.
    pub bytes_out: AtomicU64,
    /// Blobs found damaged.
    pub quarantined: AtomicU64,
    /// Blobs removed by the sweep.
    pub swept: AtomicU64,
}

impl Metrics {
    /// The text that Prometheus reads.
    pub fn text(&self) -> String {
        let lines = [
            ("nebh_gateway_requests_total", &self.requests),
            ("nebh_gateway_failures_total", &self.failures),
            ("nebh_gateway_tags_admitted_total", &self.admitted),
            ("nebh_gateway_tags_refused_total", &self.refused),
            ("nebh_gateway_blob_bytes_in_total", &self.bytes_in),
            ("nebh_gateway_blob_bytes_out_total", &self.bytes_out),
            ("nebh_gateway_blobs_quarantined_total", &self.quarantined),
            ("nebh_gateway_blobs_swept_total", &self.swept),
        ];
        let mut text = String::new();
        for (name, value) in lines {
            let value = value.load(Ordering::Relaxed);
            text.extend(["# TYPE ", name, " counter\n", name, " ", &value.to_string(), "\n"]);
        }
        text
    }
}

/// One running gateway.
#[derive(Debug)]
pub struct Gateway {
    /// As a person wrote them.
    pub settings: Settings,
    /// The truth.
    pub db: Db,
    /// The bytes.
    pub store: Arc<Store>,
    /// The bytes that are still coming.
    pub uploads: Uploads,
    /// What signatures are judged by.
    pub trust: Option<Arc<TrustSource>>,
    /// Counters.
    pub metrics: Metrics,
    /// Places for manifests that are large: each is held whole, and parsed into several times its size.
    pub large: Semaphore,
    /// Blobs that were compared with their names.
    pub compared: Arc<Compared>,
}

impl Gateway {
    /// Opens the state folder, the database and the trust policy.
    pub async fn open(settings: Settings) -> Result<Arc<Self>, Failure> {
        let trust = settings.trust.as_deref().map(TrustSource::open).transpose()?.map(Arc::new);
        let failed = |what: &str| format!("cannot open the gateway's {what}");
        let store = Store::open(&settings.state)
            .map_err(|error| Failure::new(Exit::Failed, failed("state")).because(&error))?;
        let db = Db::open(&store.tree().database())
            .await
            .map_err(|error| Failure::new(Exit::Failed, failed("database")).because(&error))?;
        // The database's own name must be as durable as what is in it.
        store.sync_root().map_err(|error| Failure::new(Exit::Failed, failed("state")).because(&error))?;
        let uploads = Uploads::new(Arc::clone(&store), settings.limits.uploads);
        Ok(Arc::new(Self {
            settings,
            db,
            store,
            uploads,
            trust,
            metrics: Metrics::default(),
            large: Semaphore::new(LARGE_AT_ONCE),
            compared: Arc::default(),
        }))
    }

    /// By what signatures are judged at this moment.
    pub async fn judge(&self) -> Result<Judge, StoreError> {
        let Some(source) = self.trust.clone() else {
            return Ok(Judge::Nobody);
        };
        Ok(match blocking(move || source.current()).await? {
            Ok(policy) => Judge::Policy(policy),
            Err(unreadable) => Judge::Unreadable(unreadable.to_string()),
        })
    }

    /// Takes a damaged blob out of service: the row first, so that nobody is sent to bytes that are being moved.
    pub async fn quarantine(&self, digest: Digest, why: &str) {
        tracing::error!(%digest, why, "a blob is damaged and was taken out of service; push it again to heal it");
        self.metrics.quarantined.fetch_add(1, Ordering::Relaxed);
        let now = Timestamp::now();
        // Under the lock from here on: no push may take the damaged file for its own.
        let _guard = self.store.lock(&digest).await;
        let outcome: Result<(), DbError> = async {
            let mut tx = self.db.write().await?;
            db::blobs::quarantine(&mut tx, &digest).await?;
            db::events::record(&mut tx, "quarantined", None, &digest.to_string(), why, now).await?;
            crash::point("damage-written");
            db::commit(tx).await?;
            crash::point("damage-recorded");
            Ok(())
        }
        .await;
        if let Err(error) = outcome {
            tracing::error!(%digest, error = nebh_face::failure::chain(&error), "cannot record the damage");
            return;
        }
        let store = Arc::clone(&self.store);
        match blocking(move || store.set_aside(&digest)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) | Err(error) => {
                tracing::error!(%digest, error = nebh_face::failure::chain(&error), "cannot set the damaged bytes aside");
            }
        }
    }
}
