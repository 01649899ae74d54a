//! A registry that answers each request as the test says, and keeps a list of what it was asked.

use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::http::{Request, Response, StatusCode};
use axum::response::IntoResponse;
use nebh_oci::manifest::Descriptor;
use nebh_oci::names::RepositoryAddress;

/// What was asked: method, path with query, and two headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) what: String,
    pub(crate) range: Option<String>,
    pub(crate) authorization: Option<String>,
}

pub(crate) struct Liar {
    pub(crate) port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Liar {
    /// Serves whatever `answer` says to the n-th request (from 0) and its method and path.
    pub(crate) async fn start(
        answer: impl Fn(usize, &str, u16) -> Response<Body> + Clone + Send + Sync + 'static,
    ) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        let handler = move |request: Request<Body>| {
            let (answer, log) = (answer.clone(), log.clone());
            async move {
                let (parts, body) = request.into_parts();
                let what = format!("{} {}", parts.method, parts.uri);
                let header = |name| parts.headers.get(name).and_then(|value| value.to_str().ok().map(str::to_owned));
                let (range, authorization) = (header("range"), header("authorization"));
                let entry = Asked { what: what.clone(), range, authorization };
                let nth = {
                    let mut log = log.lock().unwrap();
                    log.push(entry);
                    log.len() - 1
                };
                // A server that answers before it has read everything would reset the connection.
                axum::body::to_bytes(body, usize::MAX).await.unwrap();
                answer(nth, &what, port)
            }
        };
        let service = axum::Router::new().fallback(handler);
        tokio::spawn(async move { axum::serve(listener, service).await });
        Self { port, asked }
    }

    pub(crate) fn address(&self) -> RepositoryAddress {
        format!("127.0.0.1:{}/a", self.port).parse().unwrap()
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

pub(crate) fn status(code: u16, text: &str) -> Response<Body> {
    (StatusCode::from_u16(code).unwrap(), text.to_owned()).into_response()
}

pub(crate) fn with(code: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::builder().status(code);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(body.into()).unwrap()
}

/// Announces `length` bytes, sends `bytes`, and hangs up.
pub(crate) fn broken(code: u16, headers: &[(&str, &str)], bytes: &'static [u8], length: usize) -> Response<Body> {
    let pieces = futures_util::stream::unfold(0, move |turn| async move {
        // The server's engine writes out what it has when there is nothing more at once.
        for _ in 0..turn * 100 {
            tokio::task::yield_now().await;
        }
        let piece = if turn == 0 { Ok(Bytes::from_static(bytes)) } else { Err(std::io::Error::other("cut")) };
        Some((piece, turn + 1))
    });
    let length = length.to_string();
    let headers = [headers, &[("content-length", length.as_str())]].concat();
    with(code, &headers, Body::from_stream(pieces))
}

/// What the blob holds that is asked for.
pub(crate) const CONTENT: &[u8] = b"0123456789";

pub(crate) fn blob() -> Descriptor {
    Descriptor::of("a/b", CONTENT)
}
