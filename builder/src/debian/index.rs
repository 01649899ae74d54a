//! The way of a suite's package list to us: signed index, its check, the list by digest. Side effects: reads the mirror
//! through `fetch`, keeps index and list in the input archive.

use std::io::Read;

use jiff::Timestamp;

use super::keyring::SignatureError;
use super::packages::{Package, parse_packages};
use super::release::{ListedFile, Release, ReleaseError};
use crate::archive::{ArchiveError, InputArchive};
use crate::fetch::{FetchError, Http};
use crate::lock::{DebianArchive, LockedSuite};
use crate::spec::Suite;
use crate::upstream::{UpstreamError, Upstreams};

/// Bytes of a signed index; Debian's have a sixth of a megabyte.
const RELEASE_BYTES_MAX: u64 = 16 << 20;
/// Bytes of a compressed and of an unpacked package list; Debian's main component has 9 and 50 MB.
const LIST_BYTES_MAX: u64 = 128 << 20;
const UNPACKED_BYTES_MAX: u64 = 1 << 30;
/// The component that is read.
const COMPONENT: &str = "main";

/// Why a suite cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The mirror does not have it.
    #[error("suite `{0}` is not on the mirror")]
    NoSuite(Suite),
    /// The signature is missing, foreign or wrong.
    #[error("the signed index of suite `{suite}` is refused")]
    Signature {
        /// The suite.
        suite: Suite,
        /// Why.
        #[source]
        cause: SignatureError,
    },
    /// Expired, of another suite, or malformed.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// Not for this architecture.
    #[error("suite `{suite}` has no packages for `{architecture}`")]
    NoArchitecture {
        /// The suite.
        suite: Suite,
        /// The architecture.
        architecture: String,
    },
    /// The list cannot be read.
    #[error("the package list of suite `{suite}` is malformed: {what}")]
    List {
        /// The suite.
        suite: Suite,
        /// What is wrong.
        what: String,
    },
    /// The upstream.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// Where it would be is not known.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// The archive.
    #[error("cannot keep the index of suite `{suite}`")]
    Archive {
        /// The suite.
        suite: Suite,
        /// Why.
        #[source]
        cause: ArchiveError,
    },
}

/// A suite as it is now.
#[derive(Clone, Debug)]
pub struct SuiteIndex {
    /// What a lock says about it.
    pub locked: LockedSuite,
    /// Its packages.
    pub packages: Vec<Package>,
}

/// What all suites are read with.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    /// The client.
    pub http: Http,
    /// Where mirrors are.
    pub upstreams: &'a Upstreams,
    /// Where indexes are kept.
    pub archive: &'a InputArchive,
    /// Debian's name of the architecture.
    pub architecture: &'a str,
    /// The time that validity is compared with.
    pub now: Timestamp,
}

/// Which of a mirror's archives a suite lies in.
pub fn archive_of(suite: &Suite) -> DebianArchive {
    if suite.as_str().ends_with("-security") { DebianArchive::DebianSecurity } else { DebianArchive::Debian }
}

impl Reader<'_> {
    /// Reads one suite.
    pub async fn read(&self, suite: &Suite, accept_expired: bool) -> Result<SuiteIndex, IndexError> {
        let archive = archive_of(suite);
        let mirror = self.upstreams.mirror(archive)?;
        let at = |path: &str| mirror.join(path).map_err(|_| UpstreamError::Address(format!("{mirror}{path}")));
        let folder = format!("dists/{suite}");
        let what = format!("signed index of suite {suite}");
        let bytes = self.http.small(&what, &at(&format!("{folder}/InRelease"))?, RELEASE_BYTES_MAX).await?;
        let bytes = bytes.ok_or_else(|| IndexError::NoSuite(suite.clone()))?;
        let keyring = self.upstreams.keyring(suite, archive)?;
        let signed =
            keyring.verify(&bytes, self.now).map_err(|cause| IndexError::Signature { suite: suite.clone(), cause })?;
        let release = Release::parse(suite, &signed.text)?;
        let expired = release.check_time(suite, self.now, accept_expired)?;
        let kept = |cause| IndexError::Archive { suite: suite.clone(), cause };
        let digest = self.archive.put_bytes(&bytes).map_err(kept)?;

        let path = format!("{COMPONENT}/binary-{}/Packages.xz", self.architecture);
        let listed = release.files.get(&path).ok_or_else(|| IndexError::NoArchitecture {
            suite: suite.clone(),
            architecture: self.architecture.to_owned(),
        })?;
        let url = at(&format!("{folder}/{}", address_of_list(&release, &path, listed)))?;
        let packages = self.list(suite, &url, listed).await?;
        let locked = LockedSuite {
            suite: suite.clone(),
            archive,
            release: digest,
            date: release.date,
            signed_by: signed.signers,
            expired,
        };
        Ok(SuiteIndex { locked, packages })
    }

    async fn list(&self, suite: &Suite, url: &url::Url, listed: &ListedFile) -> Result<Vec<Package>, IndexError> {
        let wrong = |what: String| IndexError::List { suite: suite.clone(), what };
        if listed.size > LIST_BYTES_MAX {
            return Err(wrong(format!("{} bytes, more than {LIST_BYTES_MAX}", listed.size)));
        }
        if !self.archive.has(&listed.digest) {
            let what = format!("package list of suite {suite}");
            self.http.download(&what, url, &listed.digest, Some(listed.size), self.archive).await?;
        }
        let compressed = self.archive.read(&listed.digest, LIST_BYTES_MAX);
        let compressed = compressed.map_err(|cause| IndexError::Archive { suite: suite.clone(), cause })?;
        let parsed = tokio::task::spawn_blocking(move || unpack(&compressed).and_then(|text| parse_packages(&text)));
        parsed.await.unwrap_or_else(|_| Err("reading it was broken off".to_owned())).map_err(wrong)
    }
}

fn address_of_list(release: &Release, path: &str, listed: &ListedFile) -> String {
    match path.rsplit_once('/') {
        Some((folder, _)) if release.by_hash => format!("{folder}/by-hash/SHA256/{}", listed.digest.hex()),
        _ => path.to_owned(),
    }
}

fn unpack(compressed: &[u8]) -> Result<String, String> {
    let mut text = String::new();
    let reader = liblzma::read::XzDecoder::new(compressed);
    reader.take(UNPACKED_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > UNPACKED_BYTES_MAX {
        return Err(format!("it unpacks to more than {UNPACKED_BYTES_MAX} bytes"));
    }
    Ok(text)
}
