//! Downloads from a small server on loopback: good, wrong, interrupted, away.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use nebh_face::{Exit, Failure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::lock::{DebianArchive, LockedPackage, LockedSuite, Request};
use crate::spec::Buildspec;
use crate::upstream::UpstreamSettings;

/// Answers each request with what `answer` says of it, byte by byte, and closes the connection.
pub(crate) async fn server(answer: impl Fn(&str, usize) -> Vec<u8> + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (answer, count) = (Arc::new(answer), Arc::new(AtomicUsize::new(0)));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (answer, count) = (answer.clone(), count.clone());
            tokio::spawn(async move {
                let mut request = vec![0; 4096];
                let read = stream.read(&mut request).await.unwrap_or(0);
                let request = String::from_utf8_lossy(&request[..read]).into_owned();
                let bytes = answer(&request, count.fetch_add(1, Ordering::SeqCst));
                drop(stream.write_all(&bytes).await);
                drop(stream.shutdown().await);
            });
        }
    });
    address
}

pub(crate) fn http(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

const BODY: &[u8] = b"the bytes of a package";

/// A lock of one package, and upstreams that are the server.
fn lock(body: &[u8], address: &str) -> (Lock, Upstreams) {
    let spec = Buildspec::parse("b", "name: x\nimage: { base: debian/trixie, packages: [nginx] }\n").unwrap();
    let suite: crate::spec::Suite = "trixie".parse().unwrap();
    let lock = Lock {
        request: Request::of(&spec),
        architecture: "amd64".to_owned(),
        suites: vec![LockedSuite {
            suite: suite.clone(),
            archive: DebianArchive::Debian,
            release: Digest::sha256(b"release"),
            date: jiff::Timestamp::UNIX_EPOCH,
            signed_by: Vec::new(),
            expired: false,
        }],
        image_packages: vec![LockedPackage {
            name: "nginx".to_owned(),
            version: "1.0".to_owned(),
            architecture: "amd64".to_owned(),
            suite,
            size: body.len() as u64,
            sha256: Digest::sha256(body),
            path: "pool/nginx.deb".to_owned(),
        }],
        toolchain: Vec::new(),
        language: None,
    };
    let settings = format!("upstreams: {{ debian: {{ mirror: \"{address}/debian\" }} }}");
    (lock, Upstreams::from_machine(UpstreamSettings::parse("s", &settings).unwrap()))
}

struct Here {
    dir: tempfile::TempDir,
    archive: InputArchive,
}

fn here() -> Here {
    let dir = tempfile::tempdir().unwrap();
    let archive = InputArchive::open(dir.path()).unwrap();
    Here { dir, archive }
}

async fn fetched(here: &Here, lock: &(Lock, Upstreams), offline: bool) -> Result<FetchedInputs, FetchError> {
    fetch(&lock.0, &lock.1, &here.archive, here.dir.path(), offline, &|_| {}).await
}

#[tokio::test]
async fn input_arrives_and_the_second_time_nobody_is_asked() {
    let address = server(|request, count| {
        assert!(request.starts_with("GET /debian/pool/nginx.deb "), "{request}");
        assert_eq!(count, 0);
        http("200 OK", "", BODY)
    })
    .await;
    let (here, lock) = (here(), lock(BODY, &address));
    let events = Mutex::new(Vec::new());
    let note = |event| events.lock().unwrap().push(event);
    let inputs = fetch(&lock.0, &lock.1, &here.archive, here.dir.path(), false, &note).await.unwrap();
    assert_eq!(std::fs::read(inputs.path(&Digest::sha256(BODY))).unwrap(), BODY);
    assert_eq!(events.lock().unwrap()[0], FetchEvent::Planned { inputs: 1, missing: 1, bytes: BODY.len() as u64 });
    fetched(&here, &lock, true).await.unwrap();
}

#[tokio::test]
async fn wrong_bytes_name_input_expected_and_actual() {
    let other = b"other bytes of a pack!";
    assert_eq!(other.len(), BODY.len());
    let address = server(move |_, count| {
        assert_eq!(count, 0, "wrong bytes are not asked for twice");
        http("200 OK", "", other)
    })
    .await;
    let (here, lock) = (here(), lock(BODY, &address));
    let error = fetched(&here, &lock, false).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "input `package nginx 1.0` has digest {}, but the lock expects {}",
            Digest::sha256(other),
            Digest::sha256(BODY)
        )
    );
    assert_eq!(Failure::from(error).exit, Exit::Refused);
    assert!(!here.archive.has(&Digest::sha256(BODY)));
}

#[tokio::test]
async fn broken_download_goes_on_where_it_stopped() {
    let address = server(|request, count| match count {
        // The whole is announced, the half is sent.
        0 => {
            let whole = http("200 OK", "", BODY);
            whole[..whole.len() - 10].to_vec()
        }
        1 => {
            let from = BODY.len() - 10;
            assert!(request.to_lowercase().contains(&format!("range: bytes={from}-")), "{request}");
            let range = format!("Content-Range: bytes {from}-{}/{}\r\n", BODY.len() - 1, BODY.len());
            http("206 Partial Content", &range, &BODY[from..])
        }
        _ => panic!("asked a third time"),
    })
    .await;
    let (here, lock) = (here(), lock(BODY, &address));
    fetched(&here, &lock, false).await.unwrap();
}

#[tokio::test]
async fn upstream_without_ranges_starts_over() {
    let address = server(|_, count| {
        let whole = http("200 OK", "", BODY);
        if count == 0 { whole[..whole.len() - 10].to_vec() } else { whole }
    })
    .await;
    let (here, lock) = (here(), lock(BODY, &address));
    fetched(&here, &lock, false).await.unwrap();
}

#[tokio::test]
async fn spoilt_beginning_is_thrown_away() {
    let address = server(|request, _| {
        if request.to_lowercase().contains("range: bytes=5-") {
            let range = format!("Content-Range: bytes 5-{}/{}\r\n", BODY.len() - 1, BODY.len());
            return http("206 Partial Content", &range, &BODY[5..]);
        }
        http("200 OK", "", BODY)
    })
    .await;
    let (here, lock) = (here(), lock(BODY, &address));
    let mut spoilt = here.archive.begin(&Digest::sha256(BODY), None).unwrap();
    spoilt.write(b"evil!").unwrap();
    drop(spoilt);
    fetched(&here, &lock, false).await.unwrap();
}

#[tokio::test]
async fn passing_trouble_of_the_upstream_is_waited_out() {
    let address = server(|_, count| match count {
        0 => http("503 Service Unavailable", "", b""),
        _ => http("200 OK", "", BODY),
    })
    .await;
    let (here, lock) = (here(), lock(BODY, &address));
    fetched(&here, &lock, false).await.unwrap();
}

#[tokio::test]
async fn more_bytes_than_locked_are_refused() {
    let address = server(|_, _| http("200 OK", "", &[BODY, b" and more"].concat())).await;
    let (here, lock) = (here(), lock(BODY, &address));
    assert!(matches!(fetched(&here, &lock, false).await, Err(FetchError::WrongSize { .. })));
}

#[tokio::test]
async fn missing_input_says_where_it_was_looked_for() {
    let address = server(|_, count| {
        assert_eq!(count, 0);
        http("404 Not Found", "", b"")
    })
    .await;
    let (here, lock) = (here(), lock(BODY, &address));
    let error = fetched(&here, &lock, false).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot download `package nginx 1.0`: {address}/debian/pool/nginx.deb answers 404")
    );
    assert_eq!(Failure::from(error).exit, Exit::Unreachable);
}

#[tokio::test]
async fn offline_names_what_is_missing() {
    let (here, lock) = (here(), lock(BODY, "http://127.0.0.1:1"));
    let error = fetched(&here, &lock, true).await.unwrap_err();
    assert_eq!(error.to_string(), "offline, and 1 of the inputs are not in the archive: package nginx 1.0");
}
