//! The HTTP engines: what is spoken to whom, and how long we listen.
//!
//! Kept here and nowhere else: plain HTTP only to loopback and to listed hosts; no answer without a cap and a patience.

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::AUTHORIZATION;
use reqwest::{RequestBuilder, Response};
use tokio::time::Instant;
use url::Url;

use super::error::{ClientErrorKind, chain};
use super::{ClientSettings, ClientSettingsError};
use crate::names::RegistryHost;

const USER_AGENT: &str = concat!("nebh/", env!("CARGO_PKG_VERSION"));

/// The two HTTP engines. TLS is set up at first use: a host that speaks to loopback only needs no certificates.
#[derive(Debug)]
pub(super) struct Transport {
    plain: reqwest::Client,
    tls: OnceLock<Result<reqwest::Client, String>>,
    authorities: Vec<reqwest::Certificate>,
    plain_http: BTreeSet<RegistryHost>,
    connect_timeout: Duration,
    idle_timeout: Duration,
}

impl Transport {
    pub(super) fn new(settings: &ClientSettings) -> Result<Self, ClientSettingsError> {
        let parsed = settings.extra_authorities.iter().map(|pem| reqwest::Certificate::from_pem(pem));
        let authorities = parsed.collect::<Result<Vec<_>, _>>().map_err(ClientSettingsError::Http)?;
        // A proxy has no business on the loopback device, and plain HTTP through one shows everything to it.
        let plain = common(settings.connect_timeout).no_proxy().tls_certs_only([]).build();
        Ok(Self {
            plain: plain.map_err(ClientSettingsError::Http)?,
            tls: OnceLock::new(),
            authorities,
            plain_http: settings.plain_http.clone(),
            connect_timeout: settings.connect_timeout,
            idle_timeout: settings.idle_timeout,
        })
    }

    pub(super) fn idle_timeout(&self) -> Duration {
        self.idle_timeout
    }

    /// `http://host` or `https://host`, by the rule of plain HTTP.
    pub(super) fn base(&self, host: &RegistryHost) -> String {
        let scheme = if self.may_be_plain(host) { "http" } else { "https" };
        format!("{scheme}://{host}")
    }

    fn may_be_plain(&self, host: &RegistryHost) -> bool {
        host.is_loopback() || self.plain_http.contains(host)
    }

    /// Whether we may speak to this URL at all.
    pub(super) fn permit(&self, url: &Url) -> Result<(), ClientErrorKind> {
        let plain_host = || format!("{}:{}", url.host_str()?, url.port_or_known_default()?).parse().ok();
        let listed = |host: RegistryHost| {
            self.may_be_plain(&host) || host.host().parse().is_ok_and(|host| self.plain_http.contains(&host))
        };
        match url.scheme() {
            "https" => Ok(()),
            "http" if plain_host().is_some_and(listed) => Ok(()),
            scheme => {
                let host = url.host_str().unwrap_or_default();
                Err(ClientErrorKind::protocol(format!(
                    "it points to `{scheme}://{host}`, and only TLS is spoken there"
                )))
            }
        }
    }

    /// Whether the URL is on the registry's own host and port.
    pub(super) fn is_of(&self, url: &Url, host: &RegistryHost) -> bool {
        let Ok(own) = Url::parse(&self.base(host)) else { return false };
        own.host() == url.host() && own.port_or_known_default() == url.port_or_known_default()
    }

    /// A plain GET besides the registry's own paths: for tokens.
    pub(super) async fn get(&self, url: &Url, authorization: Option<&str>) -> Result<Response, ClientErrorKind> {
        let mut request = self.engine(url)?.get(url.clone());
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        self.transmit(request, self.idle_timeout).await
    }

    pub(super) fn engine(&self, url: &Url) -> Result<&reqwest::Client, ClientErrorKind> {
        if url.scheme() == "http" {
            return Ok(&self.plain);
        }
        let build = || common(self.connect_timeout).tls_certs_merge(self.authorities.clone()).build();
        let engine = self.tls.get_or_init(|| build().map_err(|error| chain(&error)));
        let unusable = |why: &String| ClientErrorKind::Local { message: format!("TLS cannot be set up: {why}") };
        engine.as_ref().map_err(unusable)
    }

    /// Sends; no answer is "unreachable".
    pub(super) async fn transmit(
        &self,
        request: RequestBuilder,
        patience: Duration,
    ) -> Result<Response, ClientErrorKind> {
        let unreachable = |message| ClientErrorKind::Unreachable { message };
        match tokio::time::timeout(patience, request.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) if error.is_builder() => Err(ClientErrorKind::protocol(chain(&error.without_url()))),
            Ok(Err(error)) => Err(unreachable(chain(&error.without_url()))),
            Err(_) => Err(unreachable(format!("no answer within {} s", patience.as_secs()))),
        }
    }
}

fn common(connect_timeout: Duration) -> reqwest::ClientBuilder {
    // Redirects are followed below, where it is known what may go along.
    let builder = reqwest::Client::builder().user_agent(USER_AGENT).redirect(reqwest::redirect::Policy::none());
    builder.connect_timeout(connect_timeout).pool_idle_timeout(Duration::from_secs(20))
}

/// The body, if it has at most `cap` bytes.
pub(super) async fn read_capped(
    mut response: Response,
    cap: usize,
    idle: Duration,
) -> Result<Vec<u8>, ClientErrorKind> {
    let too_large = ClientErrorKind::TooLarge { what: "an answer", limit: cap as u64 };
    if response.content_length().is_some_and(|length| length > cap as u64) {
        return Err(too_large);
    }
    let mut body = Vec::new();
    let mut pace = Pace::new(idle);
    while let Some(chunk) = next_chunk(&mut response, &mut pace).await? {
        if body.len() + chunk.len() > cap {
            return Err(too_large);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// How long a body may still be silent, or as good as silent: each span must bring [`PACE_BYTES`].
#[derive(Debug)]
pub(super) struct Pace {
    span: Duration,
    until: Instant,
    bytes: usize,
}

/// Slower than this for a whole span, and nothing honest is at the other end (a registry that drips its answer keeps a
/// host from its update without ever failing).
const PACE_BYTES: usize = 4 << 10;

impl Pace {
    pub(super) fn new(span: Duration) -> Self {
        Self { span, until: Instant::now() + span, bytes: 0 }
    }

    fn count(&mut self, bytes: usize) {
        self.bytes += bytes;
        if self.bytes >= PACE_BYTES {
            *self = Self::new(self.span);
        }
    }
}

/// The next piece of the body; silence and broken connections are both "unreachable".
pub(super) async fn next_chunk(response: &mut Response, pace: &mut Pace) -> Result<Option<Bytes>, ClientErrorKind> {
    match tokio::time::timeout_at(pace.until, response.chunk()).await {
        Ok(Ok(chunk)) => {
            pace.count(chunk.as_ref().map_or(0, Bytes::len));
            Ok(chunk)
        }
        Ok(Err(error)) => Err(ClientErrorKind::Unreachable { message: chain(&error.without_url()) }),
        Err(_) => {
            let message = format!("silent, or as good as silent, for {} s", pace.span.as_secs());
            Err(ClientErrorKind::Unreachable { message })
        }
    }
}
