//! One measurement of a program inside its namespace: http, tcp or exec. Whether measurements add up to "dead" is the
//! caller's count.
//!
//! Every probe is safe to drop and ends within [`PROBE_TIME_MAX`].

use std::time::Duration;

use hyper_util::rt::TokioIo;
use nebh_oci::runtime::Runtime;
use nebh_trust::release::Probe;

use crate::netns::Namespace;

/// How long one measurement may take. A program that needs longer to say "well" is not.
pub const PROBE_TIME_MAX: Duration = Duration::from_secs(5);

/// What is probed.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Its network.
    pub network: &'a Namespace,
    /// The runtime that holds it, for `exec`.
    pub runtime: &'a Runtime,
    /// Its container.
    pub container: &'a str,
}

/// Measures once: `Ok` is well, `Err` says what was seen instead.
pub async fn measure(probe: &Probe, subject: Subject<'_>) -> Result<(), String> {
    let measured = async {
        match probe {
            Probe::Http { port, path } => http(subject.network, *port, path).await,
            Probe::Tcp { port } => match subject.network.connect(*port).await {
                Ok(_) => Ok(()),
                Err(error) => Err(format!("port {port}: {error}")),
            },
            Probe::Exec { argv } => exec(subject, argv).await,
        }
    };
    match tokio::time::timeout(PROBE_TIME_MAX, measured).await {
        Ok(result) => result,
        Err(_) => Err(format!("no answer within {} s", PROBE_TIME_MAX.as_secs())),
    }
}

async fn http(network: &Namespace, port: u16, path: &str) -> Result<(), String> {
    let place = format!(":{port}{path}");
    let stream = network.connect(port).await.map_err(|error| format!("{place}: {error}"))?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| format!("{place}: {error}"))?;
    let request = hyper::Request::get(path)
        .header(hyper::header::HOST, format!("localhost:{port}"))
        .header(hyper::header::CONNECTION, "close")
        .header(hyper::header::USER_AGENT, "nebh-probe")
        .body(http_body_util::Empty::<bytes::Bytes>::new())
        .map_err(|error| format!("{place}: {error}"))?;
    let answer = sender.send_request(request);
    tokio::pin!(answer, connection);
    let answer = tokio::select! {
        biased;
        answer = &mut answer => answer,
        // It drives the exchange; where it ends well the answer is there.
        ended = &mut connection => match ended {
            Ok(()) => answer.await,
            Err(error) => Err(error),
        },
    };
    let status = answer.map_err(|error| format!("{place}: {error}"))?.status();
    if status.is_success() || status.is_redirection() {
        Ok(())
    } else {
        Err(format!("{place}: status {}", status.as_u16()))
    }
}

async fn exec(subject: Subject<'_>, argv: &[String]) -> Result<(), String> {
    let program = argv.first().map_or("", String::as_str);
    match subject.runtime.exec(subject.container, argv, PROBE_TIME_MAX).await {
        Ok(output) if output.exit.is_success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.lines().last().unwrap_or_default();
            Err(format!("`{program}` {}: {said}", output.exit))
        }
        Err(error) => Err(nebh_face::failure::chain(&error)),
    }
}
