//! Many pull one blob at one moment from a gateway that was just started: it is hashed for all of them together, nobody
//! gets the last piece without the proof, and nobody waits for a client that is slow.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use axum::http::StatusCode;
use nebh_oci::digest::Digest;

use crate::support::{SETTINGS, Server};

const OPEN: &str = "open/one";

/// More than the kernel holds for a client that does not read.
const BYTES: usize = 16 << 20;

/// Asks for a blob and reads no more than the first bytes of the answer: whoever comes later is not the first.
fn ask_and_stall(server: &Server, digest: &Digest) -> TcpStream {
    let mut stream = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    write!(stream, "GET /v2/{OPEN}/blobs/{digest} HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut begin = [0; 15];
    stream.read_exact(&mut begin).unwrap();
    assert_eq!(&begin, b"HTTP/1.1 200 OK");
    stream
}

fn state_of(server: &Server, digest: &Digest) -> nebh_gateway::store::read::FileState {
    let file = std::fs::File::open(server.gateway.store.tree().blob(digest)).unwrap();
    nebh_gateway::store::read::state(&file).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn fleet_does_not_wait_for_its_slowest_and_leaves_a_proof() {
    let server = Server::start().await;
    let bytes = vec![7_u8; BYTES];
    let digest = server.push_blob(OPEN, &bytes).await;
    let server = server.restart().await;
    let state = state_of(&server, &digest);
    let slow = ask_and_stall(&server, &digest);
    let path = format!("/v2/{OPEN}/blobs/{digest}");
    for _ in 0..3 {
        assert!(server.get(&path).await.bytes().await.unwrap() == bytes);
        assert!(server.gateway.compared.ago(&digest, state).is_some(), "handed out whole without a proof");
    }
    drop(slow);
}

#[tokio::test(flavor = "multi_thread")]
async fn fleet_never_gets_the_last_piece_of_a_rotten_blob() {
    let server = Server::start().await;
    let mut bytes = vec![7_u8; BYTES];
    let digest = server.push_blob(OPEN, &bytes).await;
    let server = server.restart().await;
    bytes[BYTES / 2] ^= 1;
    std::fs::write(server.gateway.store.tree().blob(&digest), &bytes).unwrap();
    let slow = ask_and_stall(&server, &digest);
    let path = format!("/v2/{OPEN}/blobs/{digest}");
    let all = futures_util::future::join_all((0..3).map(|_| server.get(&path))).await;
    for answer in all {
        assert_eq!(answer.status(), StatusCode::OK);
        assert!(answer.bytes().await.is_err(), "a damaged blob was handed out whole");
    }
    assert_eq!(server.get(&path).await.status(), StatusCode::NOT_FOUND);
    drop(slow);
}

/// The comparison of before is too old to lean on, for those who are not the first, too.
#[tokio::test(flavor = "multi_thread")]
async fn fleet_does_not_lean_on_an_old_comparison() {
    let server = Server::with(&format!("{SETTINGS}rehash-after: 0s\n")).await;
    let mut bytes = vec![7_u8; BYTES];
    let digest = server.push_blob(OPEN, &bytes).await;
    bytes[BYTES / 2] ^= 1;
    std::fs::write(server.gateway.store.tree().blob(&digest), &bytes).unwrap();
    // As if it had rotted unseen.
    server.gateway.compared.remember(digest, state_of(&server, &digest));
    let slow = ask_and_stall(&server, &digest);
    assert!(server.get(&format!("/v2/{OPEN}/blobs/{digest}")).await.bytes().await.is_err());
    drop(slow);
}
