//! One call to a registry: authorization, redirects, and what the answer means.
//!
//! Kept here and nowhere else: `Authorization` goes to the registry itself and never along with a redirect; never from
//! TLS down to plain HTTP; "later" (5xx, 429) is told from "no".

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RANGE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use url::Url;

use super::Client;
use super::auth::{Access, Secret};
use super::error::{ClientError, ClientErrorKind, tame};
use super::retry::Setback;
use super::transport::read_capped;
use crate::names::RepositoryAddress;

/// Registries send blobs from elsewhere in one hop, some in two.
const REDIRECTS_MAX: usize = 5;
/// An error message longer than this is not read.
const ERROR_SIZE_MAX: usize = 64 << 10;
/// The slowest line on which an upload is not given up.
const UPLOAD_BYTES_PER_SECOND_MIN: u64 = 32 << 10;

/// What a call carries.
#[derive(Clone, Debug)]
pub(super) enum Payload<'a> {
    Nothing,
    Bytes(Bytes, &'a str),
    File(&'a Path, u64),
}

/// A call in the making, with the words for its error.
#[derive(Clone, Debug)]
pub(super) struct Call<'a> {
    pub(super) action: &'static str,
    pub(super) subject: String,
    pub(super) address: &'a RepositoryAddress,
    pub(super) access: Access,
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) accept: Option<String>,
    pub(super) range_from: u64,
    pub(super) payload: Payload<'a>,
}

impl Call<'_> {
    pub(super) fn fail(&self, kind: ClientErrorKind) -> ClientError {
        ClientError::new(kind, self.action, self.address, &self.subject).at(&self.url)
    }
}

impl Client {
    /// A call to `/v2/<repository>/<path>`, with nothing in it yet.
    pub(super) fn call<'a>(
        &self,
        action: &'static str,
        subject: impl std::fmt::Display,
        address: &'a RepositoryAddress,
        (access, method): (Access, Method),
        path: &str,
    ) -> Result<Call<'a>, ClientError> {
        let text = format!("{}/v2/{}/{path}", self.inner.http.base(address.registry()), address.repository());
        let subject = subject.to_string();
        let wrong = |error: url::ParseError| {
            ClientError::new(ClientErrorKind::protocol(error.to_string()), action, address, &subject)
        };
        let url = Url::parse(&text).map_err(wrong)?;
        let (accept, range_from, payload) = (None, 0, Payload::Nothing);
        Ok(Call { action, subject, address, access, method, url, accept, range_from, payload })
    }

    /// Sends a call, again if need be. Any status that is not "later" is an answer.
    pub(super) async fn send(&self, call: &Call<'_>) -> Result<Response, ClientError> {
        let mut tries = self.tries();
        loop {
            match self.send_once(call).await {
                Ok(response) => return Ok(response),
                Err(setback) => tries.pause(setback).await?,
            }
        }
    }

    /// Sends a call once, or twice when the registry asks who we are.
    pub(super) async fn send_once(&self, call: &Call<'_>) -> Result<Response, Setback> {
        let (transport, keyring) = (&self.inner.http, &self.inner.keyring);
        let known = keyring.known(call.address, call.access);
        let mut response = self.follow(call, known.as_ref()).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            let values = response.headers().get_all(WWW_AUTHENTICATE).iter();
            let challenges: Vec<String> = values.filter_map(|value| value.to_str().ok().map(str::to_owned)).collect();
            let answer = keyring.answer(transport, call.address, call.access, &challenges).await;
            let answer = answer.map_err(|kind| call.fail(kind))?;
            response = self.follow(call, Some(&answer)).await?;
        }
        let status = response.status();
        if !is_transient(status) {
            return Ok(response);
        }
        let after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let message = format!("it answered {status}: {}", registry_message(response, transport.idle_timeout()).await);
        let error = call.fail(ClientErrorKind::Unreachable { message });
        Err(Setback::Later(error, after.map(Duration::from_secs)))
    }

    async fn follow(&self, call: &Call<'_>, authorization: Option<&Secret>) -> Result<Response, ClientError> {
        let transport = &self.inner.http;
        let mut url = call.url.clone();
        for _ in 0..=REDIRECTS_MAX {
            transport.permit(&url).map_err(|kind| call.fail(kind))?;
            let (mut request, patience) = self.request(call, &url).await.map_err(|kind| call.fail(kind))?;
            let own = transport.is_of(&url, call.address.registry());
            if let Some(secret) = authorization.filter(|_| own) {
                request = request.header(AUTHORIZATION, secret.reveal());
            }
            let response = transport.transmit(request, patience).await.map_err(|kind| call.fail(kind).at(&url))?;
            let reads = call.method == Method::GET || call.method == Method::HEAD;
            if !response.status().is_redirection() || !reads {
                return Ok(response);
            }
            let next = location(&response).map_err(|kind| call.fail(kind))?;
            if url.scheme() == "https" && next.scheme() != "https" {
                return Err(call.fail(ClientErrorKind::protocol("redirects from TLS to plain HTTP")));
            }
            url = next;
        }
        Err(call.fail(ClientErrorKind::protocol(format!("more than {REDIRECTS_MAX} redirects"))))
    }

    async fn request(&self, call: &Call<'_>, url: &Url) -> Result<(RequestBuilder, Duration), ClientErrorKind> {
        let transport = &self.inner.http;
        let mut request = transport.engine(url)?.request(call.method.clone(), url.clone());
        if let Some(accept) = &call.accept {
            request = request.header(ACCEPT, accept);
        }
        if call.range_from > 0 {
            request = request.header(RANGE, format!("bytes={}-", call.range_from));
        }
        let (request, size) = match &call.payload {
            Payload::Nothing if call.method == Method::POST => (request.header(CONTENT_LENGTH, 0), 0),
            Payload::Nothing => (request, 0),
            Payload::Bytes(bytes, media_type) => {
                (request.header(CONTENT_TYPE, *media_type).body(bytes.clone()), bytes.len() as u64)
            }
            Payload::File(path, size) => {
                let file = tokio::fs::File::open(path).await.map_err(|error| ClientErrorKind::local(path, &error))?;
                let stream = tokio_util::io::ReaderStream::with_capacity(file, 1 << 17);
                let request = request.header(CONTENT_TYPE, "application/octet-stream").header(CONTENT_LENGTH, *size);
                (request.body(reqwest::Body::wrap_stream(stream)), *size)
            }
        };
        Ok((request, transport.idle_timeout() + Duration::from_secs(size / UPLOAD_BYTES_PER_SECOND_MIN)))
    }

    /// The answer if its status is one of `expected`; otherwise what it means.
    pub(super) async fn expect(
        &self,
        call: &Call<'_>,
        response: Response,
        expected: &[StatusCode],
    ) -> Result<Response, ClientError> {
        let status = response.status();
        if expected.contains(&status) {
            return Ok(response);
        }
        let message = registry_message(response, self.inner.http.idle_timeout()).await;
        Err(call.fail(match status.as_u16() {
            404 => ClientErrorKind::NotFound,
            401 => ClientErrorKind::Denied { message: format!("the credentials were not accepted: {message}") },
            403 => ClientErrorKind::Denied { message },
            // Some registries say so when the name may not be written to.
            405 => ClientErrorKind::Denied { message: format!("the registry does not do this: {message}") },
            _ => ClientErrorKind::protocol(format!("it answered {status}: {message}")),
        }))
    }
}

fn is_transient(status: StatusCode) -> bool {
    let never = [StatusCode::NOT_IMPLEMENTED, StatusCode::HTTP_VERSION_NOT_SUPPORTED];
    status == StatusCode::TOO_MANY_REQUESTS || (status.is_server_error() && !never.contains(&status))
}

/// Where the answer points, made absolute.
pub(super) fn location(response: &Response) -> Result<Url, ClientErrorKind> {
    let value = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let value = value.ok_or_else(|| ClientErrorKind::protocol("an answer lacks its `Location`"))?;
    response.url().join(value).map_err(|error| ClientErrorKind::protocol(format!("`Location` is no URL: {error}")))
}

/// The registry's words about an error: `CODE: message`, or the beginning of whatever it sent.
async fn registry_message(response: Response, idle: Duration) -> String {
    #[derive(serde::Deserialize)]
    struct Answer {
        errors: Vec<Entry>,
    }
    #[derive(serde::Deserialize)]
    struct Entry {
        code: Option<String>,
        message: Option<String>,
        detail: Option<serde_json::Value>,
    }
    let status = response.status();
    let body = read_capped(response, ERROR_SIZE_MAX, idle).await.unwrap_or_default();
    let Ok(answer) = serde_json::from_slice::<Answer>(&body) else {
        let text = tame(&String::from_utf8_lossy(&body));
        return if text.is_empty() { status.to_string() } else { text };
    };
    let words = answer.errors.into_iter().map(|entry| {
        let detail = entry.detail.and_then(|detail| detail.as_str().map(|text| format!(" ({text})")));
        let (code, message) = (entry.code.unwrap_or_default(), entry.message.unwrap_or_default());
        format!("{code}: {message}{}", detail.unwrap_or_default())
    });
    tame(&words.collect::<Vec<_>>().join("; "))
}
