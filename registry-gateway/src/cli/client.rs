//! How the commands reach a running gateway: its JSON API, with failures in a person's words.

use std::time::Duration;

use nebh_face::{Exit, Failure};
use serde_json::Value;

/// One answer at most. Planning a large gateway takes seconds.
const TIME_MAX: Duration = Duration::from_mins(2);

/// A gateway's API.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    url: String,
}

impl Client {
    /// The API of the gateway at this address.
    pub fn new(url: &str) -> Result<Self, Failure> {
        let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let parsed = url::Url::parse(&url).map_err(|error| {
            Failure::new(Exit::Usage, format!("`{url}` is no address of a gateway")).because(&error)
        })?;
        let builder = reqwest::Client::builder().timeout(TIME_MAX);
        let local =
            parsed.host_str().is_some_and(|host| host == "localhost" || host.starts_with("127.") || host == "[::1]");
        // A proxy of the machine's cannot reach the machine itself.
        let builder = if local { builder.no_proxy() } else { builder };
        let http = builder
            .build()
            .map_err(|error| Failure::new(Exit::Failed, "cannot make an HTTP client").because(&error))?;
        Ok(Self { http, url: url.trim_end_matches('/').to_owned() })
    }

    /// Asks.
    pub async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, Failure> {
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
        let url = format!("{}/api/v1/{path}?{query}", self.url);
        self.answer(self.http.get(url)).await
    }

    /// Orders.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let url = format!("{}/api/v1/{path}", self.url);
        self.answer(self.http.post(url).json(body)).await
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<Value, Failure> {
        let away = |error: &reqwest::Error| {
            Failure::new(Exit::Unreachable, format!("the gateway at {} does not answer", self.url))
                .because(error)
                .next("start it with `nebh gateway serve`, or name another one with --gateway; hosts go on running what they have")
        };
        let response = request.send().await.map_err(|error| away(&error))?;
        let status = response.status();
        let bytes = response.bytes().await.map_err(|error| away(&error))?;
        if status.is_success() {
            return serde_json::from_slice(&bytes).map_err(|error| {
                Failure::new(Exit::Failed, format!("{} is not a gateway that we know", self.url)).because(&error)
            });
        }
        let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let message = value["errors"][0]["message"].as_str().unwrap_or("the gateway refused without saying why");
        let failure = Failure::new(Exit::Failed, message);
        Err(match status.as_u16() {
            409 => failure.next("look at the plan again: nebh gateway retention plan"),
            428 => failure.next("look at the plan, then apply it with --yes"),
            _ => failure,
        })
    }
}
