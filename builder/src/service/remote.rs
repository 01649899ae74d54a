//! The build service as seen from outside: what `nebh builder list|logs|trigger` ask of it over HTTP.

use std::collections::VecDeque;

use futures_util::StreamExt;
use nebh_face::{Exit, Failure};
use reqwest::Response;
use serde_json::{Value, json};
use url::Url;

use super::reference::RefName;
use super::webhook::{TRIGGER_EVENT, signature};

/// Bytes of an answer that is no stream.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Bytes of one event in a stream.
const EVENT_BYTES_MAX: usize = 4 << 20;
/// Time to come to a connection; streams may then be silent for long.
const CONNECT_TIME: std::time::Duration = std::time::Duration::from_secs(10);

/// A build service.
#[derive(Clone, Debug)]
pub struct Remote {
    url: Url,
    http: reqwest::Client,
}

/// One event of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// `build` for what happened, `state` for the build itself at the end.
    pub name: String,
    /// JSON.
    pub data: String,
}

/// The events of a build as they come.
#[derive(Debug)]
pub struct Events {
    response: Response,
    parser: Parser,
}

impl Remote {
    /// The service at an address.
    pub fn new(url: Url) -> Result<Self, Failure> {
        let http = reqwest::Client::builder().connect_timeout(CONNECT_TIME).build();
        let http = http.map_err(|error| Failure::new(Exit::Failed, "cannot set up HTTP").because(&error))?;
        Ok(Self { url, http })
    }

    /// The builds, newest first.
    pub async fn builds(&self, project: Option<&str>) -> Result<Vec<Value>, Failure> {
        let mut url = self.at("/api/v1/builds");
        if let Some(project) = project {
            url.query_pairs_mut().append_pair("project", project);
        }
        let answer = self.answer(self.http.get(url)).await?;
        Ok(answer["builds"].as_array().cloned().unwrap_or_default())
    }

    /// The events of a build; with `follow` until it ends.
    pub async fn events(&self, build: &str, follow: bool) -> Result<Events, Failure> {
        let mut url = self.at(&format!("/api/v1/builds/{build}/events"));
        url.query_pairs_mut().append_pair("follow", if follow { "true" } else { "false" });
        let response = self.http.get(url).send().await.map_err(|error| self.unreachable(&error))?;
        if !response.status().is_success() {
            return Err(self.refused(response).await);
        }
        Ok(Events { response, parser: Parser::default() })
    }

    /// Asks for a build of what a reference points to now.
    pub async fn trigger(&self, project: &str, reference: &RefName, secret: &[u8]) -> Result<Value, Failure> {
        let delivery = uuid::Uuid::now_v7().to_string();
        let body = json!({ "ref": reference.full(), "delivery": delivery }).to_string();
        let signed = signature(secret, body.as_bytes())
            .ok_or_else(|| Failure::new(Exit::Usage, "the webhook secret signs nothing"))?;
        let request = self
            .http
            .post(self.at(&format!("/hooks/{project}")))
            .header("content-type", "application/json")
            .header("x-hub-signature-256", signed)
            .header("x-github-delivery", &delivery)
            .header("x-github-event", TRIGGER_EVENT)
            .body(body);
        self.answer(request).await
    }

    fn at(&self, path: &str) -> Url {
        let mut url = self.url.clone();
        url.set_path(&format!("{}{path}", self.url.path().trim_end_matches('/')));
        url
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<Value, Failure> {
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        if !response.status().is_success() {
            return Err(self.refused(response).await);
        }
        let bytes = self.bytes(response).await?;
        serde_json::from_slice(&bytes).map_err(|error| self.nonsense(&error.to_string()))
    }

    async fn bytes(&self, response: Response) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        let mut stream = response.bytes_stream();
        while let Some(chunk) = stream.next().await {
            bytes.extend_from_slice(&chunk.map_err(|error| self.unreachable(&error))?);
            if bytes.len() > ANSWER_BYTES_MAX {
                return Err(self.nonsense("it does not end"));
            }
        }
        Ok(bytes)
    }

    async fn refused(&self, response: Response) -> Failure {
        let status = response.status();
        let body = self.bytes(response).await.unwrap_or_default();
        let said: Value = serde_json::from_slice(&body).unwrap_or_default();
        let message = said["message"].as_str().unwrap_or("no reason given").to_owned();
        let exit = match status.as_u16() {
            401 => Exit::Refused,
            503 => Exit::Unreachable,
            _ => Exit::Failed,
        };
        Failure::new(exit, format!("the build service at {} refused: {message}", self.url)).why(status.to_string())
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        Failure::new(Exit::Unreachable, format!("the build service at {} does not answer", self.url))
            .because(error)
            .next("see whether `nebh builder serve` runs there; `nebh build` works without it")
    }

    fn nonsense(&self, why: &str) -> Failure {
        Failure::new(Exit::Failed, format!("the answer of {} cannot be read", self.url)).why(why)
    }
}

impl Events {
    /// The next event; none when the stream has ended.
    pub async fn next(&mut self) -> Result<Option<Sent>, Failure> {
        loop {
            if let Some(sent) = self.parser.next() {
                return Ok(Some(sent));
            }
            let chunk = self.response.chunk().await.map_err(|error| {
                Failure::new(Exit::Unreachable, "the stream of events broke off")
                    .because(&error)
                    .next("ask again: no event is lost")
            })?;
            match chunk {
                Some(chunk) => self.parser.feed(&chunk)?,
                None => return Ok(None),
            }
        }
    }
}

/// Takes a stream of server-sent events apart. Fields that are not ours are passed over.
#[derive(Debug, Default)]
struct Parser {
    waiting: Vec<u8>,
    name: String,
    data: Vec<String>,
    ready: VecDeque<Sent>,
}

impl Parser {
    fn feed(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.waiting.extend_from_slice(bytes);
        while let Some(end) = self.waiting.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.waiting.drain(..=end).collect();
            self.line(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']));
        }
        if self.waiting.len() > EVENT_BYTES_MAX {
            return Err(Failure::new(Exit::Failed, "an event of the build service does not end"));
        }
        Ok(())
    }

    fn line(&mut self, line: &str) {
        match line.split_once(':') {
            None if line.is_empty() && !self.data.is_empty() => {
                let sent = Sent { name: std::mem::take(&mut self.name), data: self.data.join("\n") };
                self.data.clear();
                self.ready.push_back(sent);
            }
            Some(("event", name)) => name.trim_start().clone_into(&mut self.name),
            Some(("data", data)) => self.data.push(data.strip_prefix(' ').unwrap_or(data).to_owned()),
            _ => {}
        }
    }

    fn next(&mut self) -> Option<Sent> {
        self.ready.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_however_they_are_cut() {
        let text = b": hello\n\nid: 1\nevent: build\ndata: {\"a\":1}\n\nevent: state\r\ndata:{\ndata: }\n\n";
        for size in 1..text.len() {
            let mut parser = Parser::default();
            for chunk in text.chunks(size) {
                parser.feed(chunk).unwrap();
            }
            let sent = |name: &str, data: &str| Sent { name: name.to_owned(), data: data.to_owned() };
            assert_eq!(parser.next(), Some(sent("build", "{\"a\":1}")));
            assert_eq!(parser.next(), Some(sent("state", "{\n}")));
            assert_eq!(parser.next(), None);
        }
    }

    #[test]
    fn event_that_does_not_end_is_given_up() {
        assert!(Parser::default().feed(&vec![b'x'; EVENT_BYTES_MAX + 1]).is_err());
    }
}
