//! One download: streamed, bounded, checked, taken up after an interruption, tried again where that can help.

use std::time::Duration;

use futures_util::StreamExt;
use nebh_oci::digest::Digest;
use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Client, Response, StatusCode};
use url::Url;

use super::FetchError;
use crate::archive::{ArchiveError, InputArchive};

/// Tries of one download.
const TRIES: u32 = 4;
/// Pause before the second try; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(400);
/// Bytes of an input whose size is not known beforehand: the largest crates have a tenth of it.
const UNKNOWN_BYTES_MAX: u64 = 512 << 20;
/// Redirects of one download; mirrors behind a redirector need one or two.
const REDIRECTS_MAX: usize = 5;
/// Time to a connection, and between two pieces of an answer: after that, the other side is away.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
const READ_TIMEOUT: Duration = Duration::from_mins(1);

/// A client for http and https.
#[derive(Clone, Debug)]
pub struct Http {
    client: Client,
}

enum Trouble {
    /// Trying again can help.
    Passing(FetchError),
    /// It cannot.
    Lasting(FetchError),
}

impl Http {
    /// A client with our limits; proxies come from the environment, as for every other program.
    pub fn new() -> Result<Self, FetchError> {
        let client = Client::builder()
            .user_agent(concat!("nebh/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .redirect(reqwest::redirect::Policy::limited(REDIRECTS_MAX))
            .build()
            .map_err(FetchError::Client)?;
        Ok(Self { client })
    }

    /// Brings one input into the archive; gives its bytes' number.
    pub async fn download(
        &self,
        input: &str,
        url: &Url,
        digest: &Digest,
        size: Option<u64>,
        archive: &InputArchive,
    ) -> Result<u64, FetchError> {
        let one = Download { http: self, input, url, digest, size, archive };
        let mut pause = PAUSE;
        for _ in 1..TRIES {
            match one.attempt().await {
                Ok(bytes) => return Ok(bytes),
                Err(Trouble::Lasting(error)) => return Err(error),
                Err(Trouble::Passing(error)) => {
                    tracing::debug!(input, %url, %error, "download is tried again");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
            }
        }
        one.attempt().await.map_err(|trouble| match trouble {
            Trouble::Passing(error) | Trouble::Lasting(error) => error,
        })
    }

    /// Reads a small file whose digest is not known beforehand, because it is signed. `None` if it is not there.
    pub async fn small(&self, what: &str, url: &Url, bytes_max: u64) -> Result<Option<Vec<u8>>, FetchError> {
        let mut pause = PAUSE;
        let mut tries = 1;
        loop {
            match self.small_once(what, url, bytes_max).await {
                Err(Trouble::Passing(error)) if tries < TRIES => {
                    tracing::debug!(what, %url, %error, "download is tried again");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                    tries += 1;
                }
                Err(Trouble::Passing(error) | Trouble::Lasting(error)) => return Err(error),
                Ok(bytes) => return Ok(bytes),
            }
        }
    }

    async fn small_once(&self, what: &str, url: &Url, bytes_max: u64) -> Result<Option<Vec<u8>>, Trouble> {
        let failed =
            |cause| Trouble::Passing(FetchError::Download { input: what.to_owned(), url: url.to_string(), cause });
        let response = self.client.get(url.clone()).send().await.map_err(failed)?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        check_status(what, url, &response)?;
        let mut bytes = Vec::new();
        let mut pieces = response.bytes_stream();
        while let Some(piece) = pieces.next().await {
            bytes.extend_from_slice(&piece.map_err(failed)?);
            if bytes.len() as u64 > bytes_max {
                let actual = bytes.len() as u64;
                let error = FetchError::WrongSize { input: what.to_owned(), expected: bytes_max, actual };
                return Err(Trouble::Lasting(error));
            }
        }
        Ok(Some(bytes))
    }
}

fn check_status(what: &str, url: &Url, response: &Response) -> Result<(), Trouble> {
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let error = FetchError::Status { input: what.to_owned(), url: url.to_string(), status: status.as_u16() };
    let passing =
        status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
    Err(if passing { Trouble::Passing(error) } else { Trouble::Lasting(error) })
}

struct Download<'a> {
    http: &'a Http,
    input: &'a str,
    url: &'a Url,
    digest: &'a Digest,
    size: Option<u64>,
    archive: &'a InputArchive,
}

impl Download<'_> {
    /// Writing to the archive is plain file I/O of one piece at a time: short enough to do on the async thread.
    async fn attempt(&self) -> Result<u64, Trouble> {
        let mut incoming = self.archive.begin(self.digest, self.size).map_err(|cause| self.keep(cause))?;
        let resumed = incoming.written();
        if self.size != Some(resumed) || resumed == 0 {
            let mut request = self.http.client.get(self.url.clone());
            if resumed > 0 {
                request = request.header(RANGE, format!("bytes={resumed}-"));
            }
            let response = request.send().await.map_err(|cause| self.failed(cause))?;
            if response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
                // What is here is not the start of what is there.
                incoming.restart().map_err(|cause| self.keep(cause))?;
                return Err(Trouble::Passing(self.status(&response)));
            }
            check_status(self.input, self.url, &response)?;
            if resumed > 0 && !goes_on_at(&response, resumed) {
                incoming.restart().map_err(|cause| self.keep(cause))?;
            }
            let mut pieces = response.bytes_stream();
            while let Some(piece) = pieces.next().await {
                incoming.write(&piece.map_err(|cause| self.failed(cause))?).map_err(|cause| self.keep(cause))?;
                if incoming.written() > self.size.unwrap_or(UNKNOWN_BYTES_MAX) {
                    let cause = ArchiveError::WrongSize { expected: UNKNOWN_BYTES_MAX, actual: incoming.written() };
                    return Err(self.keep(cause));
                }
            }
        }
        let bytes = incoming.written();
        match incoming.finish() {
            Ok(_) => Ok(bytes),
            // The first part may have been another's: once from the start decides.
            Err(cause @ ArchiveError::WrongDigest { .. }) if resumed > 0 => Err(match self.keep(cause) {
                Trouble::Passing(error) | Trouble::Lasting(error) => Trouble::Passing(error),
            }),
            // The other side broke off without an error: the rest is asked for.
            Err(cause @ ArchiveError::WrongSize { .. }) => Err(match self.keep(cause) {
                Trouble::Passing(error) | Trouble::Lasting(error) => Trouble::Passing(error),
            }),
            Err(cause) => Err(self.keep(cause)),
        }
    }

    fn failed(&self, cause: reqwest::Error) -> Trouble {
        let (input, url) = (self.input.to_owned(), self.url.to_string());
        Trouble::Passing(FetchError::Download { input, url, cause })
    }

    fn status(&self, response: &Response) -> FetchError {
        let (input, url) = (self.input.to_owned(), self.url.to_string());
        FetchError::Status { input, url, status: response.status().as_u16() }
    }

    fn keep(&self, cause: ArchiveError) -> Trouble {
        let input = self.input.to_owned();
        Trouble::Lasting(match cause {
            ArchiveError::WrongDigest { expected, actual } => FetchError::WrongDigest { input, expected, actual },
            ArchiveError::WrongSize { expected, actual } => FetchError::WrongSize { input, expected, actual },
            cause => FetchError::Archive { input, cause },
        })
    }
}

/// Whether an answer is the rest from `at` on, and not the whole from the start.
fn goes_on_at(response: &Response, at: u64) -> bool {
    let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    response.status() == StatusCode::PARTIAL_CONTENT
        && range.is_some_and(|range| range.starts_with(&format!("bytes {at}-")))
}
