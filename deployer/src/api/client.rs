//! A command's end of the API: one connection for each question.

use std::path::{Path, PathBuf};

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use nebh_face::{Exit, Failure};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::wire::Fault;

/// Speaks to the agent behind one socket.
#[derive(Clone, Debug)]
pub struct Agent {
    socket: PathBuf,
}

/// What the agent said: the value, or why not.
pub type Answer<T> = Result<Result<T, Fault>, Failure>;

impl Agent {
    /// The agent behind this socket.
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Asks with `GET`.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Answer<T> {
        let (fine, bytes) = self.call(Method::GET, path, Vec::new()).await?;
        Self::parse(fine, &bytes)
    }

    /// Asks with `POST`.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Answer<T> {
        let body = serde_json::to_vec(body).map_err(|error| broken(&error))?;
        let (fine, bytes) = self.call(Method::POST, path, body).await?;
        Self::parse(fine, &bytes)
    }

    /// Asks for bytes.
    pub async fn bytes(&self, path: &str) -> Result<Bytes, Failure> {
        let (fine, bytes) = self.call(Method::GET, path, Vec::new()).await?;
        if fine {
            return Ok(bytes);
        }
        let fault: Fault = serde_json::from_slice(&bytes).map_err(|error| broken(&error))?;
        Err(fault.into())
    }

    fn parse<T: DeserializeOwned>(fine: bool, bytes: &[u8]) -> Answer<T> {
        let unclear = |error: serde_json::Error| {
            let said = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
            broken(&error).next(format!("it said: {said}"))
        };
        if fine {
            return serde_json::from_slice(bytes).map(Ok).map_err(unclear);
        }
        serde_json::from_slice(bytes).map(Err).map_err(unclear)
    }

    async fn call(&self, method: Method, path: &str, body: Vec<u8>) -> Result<(bool, Bytes), Failure> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.away(&error))?;
        let connected = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = connected.map_err(|error| self.away(&error))?;
        let driver = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "agent")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| broken(&error))?;
        let response = sender.send_request(request).await.map_err(|error| self.away(&error))?;
        let fine = response.status().is_success();
        let bytes = response.into_body().collect().await.map_err(|error| self.away(&error))?.to_bytes();
        drop(sender);
        // The answer is here; how the connection ends says nothing more.
        drop(driver.await);
        Ok((fine, bytes))
    }

    fn away(&self, error: &dyn std::error::Error) -> Failure {
        Failure::new(Exit::Unreachable, format!("the agent does not answer on `{}`", self.socket.display()))
            .because(error)
            .next("start it with `nebh node run`; what runs on this node goes on without it")
    }
}

fn broken(error: &dyn std::error::Error) -> Failure {
    Failure::new(Exit::Failed, "the agent and this command do not understand each other").because(error)
}
