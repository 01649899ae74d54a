//! Hostile requests, byte by byte: what a client library would never send.
//!
//! | attack | test |
//! |---|---|
//! | path tricks: `..`, `%2e`, `%2f`, `//`, `\`, NUL, `%00`, `%2500` | `attacks::path_traversal_in_raw_requests_finds_nothing`, `names_of_repositories_that_play_tricks` |
//! | names such as `blobs`, `_uploads`, unicode, 255 characters, upper case | `names_of_repositories_that_play_tricks` |
//! | request smuggling: two lengths, obsolete folding, odd chunks | `request_smuggling_finds_no_second_request` |
//! | header bombs, endless lines | `attacks::header_bomb_ends_the_connection` |
//! | slow loris: headers, bodies, idle connections, answers that nobody reads | `slow_loris_*`, `answer_that_nobody_reads_frees_its_place` |
//! | connection flood, file descriptors | `attacks::connection_flood_waits_and_does_not_kill_the_listener`; `serve` raises the limit |
//! | HTTP/2 rapid reset | not here: HTTP/1.1 only; `http2_is_not_spoken` |
//! | ranges: many, huge, overflowing | `ranges_that_make_a_server_work_hard`, `range.rs` |
//! | digests: upper case, length, `..`, unknown algorithm | `digest_in_every_wrong_spelling` |
//! | upload sessions: guessed, of another repository, twice at once, restarted, left | `upload_session_*`, `attacks::upload_*`, `store/upload/tests.rs` |
//! | session of another user, tokens, scopes, JWT, SSRF, mirrors | not here: there are no users, tokens, mirrors or outgoing requests |
//! | pages: `n` huge, negative | `attacks::list_of_a_huge_page_is_bounded` |
//! | browsers: cross-site orders, rebinding | `orders_from_a_browser_or_through_a_proxy_are_refused` |
//! | words with terminal escapes in reports and reasons | `words_with_terminal_escapes_are_refused` |

use std::io::{Read, Write};
use std::net::TcpStream;

use nebh_oci::digest::{Algorithm, Digest};
use nebh_oci::media_type::OCI_INDEX;
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::{SETTINGS, Server, refusal};

const OPEN: &str = "open/one";

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    // Only a gateway that hangs reaches it.
    stream.set_read_timeout(Some(std::time::Duration::from_mins(1))).unwrap();
    stream
}

/// Everything that comes back until the gateway closes.
fn exchange(server: &Server, request: impl AsRef<[u8]>) -> String {
    let mut stream = connect(server);
    drop(stream.write_all(request.as_ref()));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    String::from_utf8_lossy(&answer).into_owned()
}

fn statuses(answer: &str) -> Vec<&str> {
    answer.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_repositories_that_play_tricks() {
    let server = Server::with(&SETTINGS.replace("match: open/*", "match: \"**\"")).await;
    let long = "a".repeat(256);
    for name in [
        "..",
        "a/..",
        "../a",
        "a/./b",
        "%2e%2e",
        "a%2fb",
        "a%252fb",
        "a%00",
        "a%2500",
        "a\0",
        "A",
        "a//b",
        "/a",
        "a/",
        "a\\b",
        "-a",
        "a-",
        "_a",
        "a..b",
        "a___b",
        "a%20b",
        "ä",
        "a;b",
        "a:b",
        "a@b",
        "a,b",
        "a?b#",
        "_uploads/x/..",
        &long,
    ] {
        let request = format!(
            "POST /v2/{name}/blobs/uploads/ HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        let answer = exchange(&server, request);
        assert!(["400", "404", "405"].contains(&statuses(&answer)[0]), "{name:?}: {answer}");
    }
    let tree = server.folder.path().join("state/uploads");
    assert_eq!(std::fs::read_dir(&tree).unwrap().count(), 0);
    // Words of the protocol are names like any other, and lead nowhere else.
    for name in ["blobs", "manifests", "uploads", "tags", "a/blobs/uploads", "tags/list", "v2", "sha256"] {
        let response = server.send(Method::POST, &format!("/v2/{name}/blobs/uploads/"), &[], "").await;
        assert_eq!(response.status(), StatusCode::ACCEPTED, "{name}");
        let location = response.headers()["location"].to_str().unwrap().to_owned();
        assert!(location.starts_with(&format!("/v2/{name}/blobs/uploads/")), "{location}");
        assert_eq!(server.get(&location).await.status(), StatusCode::NO_CONTENT, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn request_smuggling_finds_no_second_request() {
    let server = Server::with(&format!("{SETTINGS}limits: {{ stall: 1s }}\n")).await;
    let hidden = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    let post = format!("POST /v2/{OPEN}/blobs/uploads/ HTTP/1.1\r\nhost: x\r\n");
    let chunked = format!("0\r\n\r\n{hidden}");
    for (name, headers, body) in [
        ("two lengths", format!("content-length: 0\r\ncontent-length: {}\r\n", hidden.len()), hidden),
        ("length with a sign", "content-length: +0\r\n".to_owned(), hidden),
        ("length that is a list", "content-length: 0, 5\r\n".to_owned(), hidden),
        ("length in hex", "content-length: 0x0\r\n".to_owned(), hidden),
        ("length beyond 64 bits", "content-length: 18446744073709551616\r\n".to_owned(), hidden),
        ("chunks not last", "transfer-encoding: chunked, identity\r\n".to_owned(), chunked.as_str()),
        ("unknown encoding", "transfer-encoding: xchunked\r\n".to_owned(), chunked.as_str()),
        ("space before the colon", "transfer-encoding : chunked\r\n".to_owned(), chunked.as_str()),
        ("folded header", "x-a: b\r\n transfer-encoding: chunked\r\n".to_owned(), hidden),
        ("header without a name", ": chunked\r\n".to_owned(), hidden),
        ("NUL in a header", "x-a: b\0c\r\n".to_owned(), hidden),
        ("chunk size overflow", "transfer-encoding: chunked\r\n".to_owned(), "fffffffffffffffff\r\n"),
        ("chunk size with a sign", "transfer-encoding: chunked\r\n".to_owned(), "-1\r\n"),
        ("chunk without an end", "transfer-encoding: chunked\r\n".to_owned(), "5\r\nhelloX\r\n0\r\n\r\n"),
    ] {
        // What somebody lenient would take for the body, so that nothing but the framing is at fault.
        let content: &[u8] = if body.contains("hello") { b"hello" } else { b"" };
        let path = format!("/v2/{OPEN}/blobs/uploads/?digest={}", Digest::sha256(content));
        let post = post.replace(&format!("/v2/{OPEN}/blobs/uploads/"), &path);
        let answer = exchange(&server, format!("{post}{headers}\r\n{body}"));
        let found = statuses(&answer);
        assert!(found.len() <= 1, "{name}: a second request was found: {answer}");
        assert!(found.iter().all(|status| status.starts_with('4')), "{name}: {answer}");
        assert!(!answer.ends_with("ok\n"), "{name}: {answer}");
    }
    // With both, the encoding alone says where the body ends, and nothing more is read from that connection, since
    // somebody on the way may have believed the length (RFC 9112 §6.3).
    let (encoding, length) = ("transfer-encoding: chunked\r\n", format!("content-length: {}\r\n", chunked.len()));
    for headers in [format!("{length}{encoding}"), format!("{encoding}{length}")] {
        let answer = exchange(&server, format!("{post}{headers}\r\n{chunked}"));
        assert_eq!(statuses(&answer).len(), 1, "{answer}");
        assert!(answer.contains("connection: close\r\n") && !answer.ends_with("ok\n"), "{answer}");
    }
    assert_eq!(server.get("/v2/").await.status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_is_not_spoken() {
    let server = Server::with(&format!("{SETTINGS}limits: {{ stall: 1s }}\n")).await;
    let answer = exchange(&server, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    assert!(!answer.contains("HTTP/1.1 2") && answer.len() < 1000, "{answer}");
}

/// Everything that came until the gateway closed.
async fn until_closed(mut stream: TcpStream) -> String {
    let reading = tokio::task::spawn_blocking(move || {
        let mut answer = Vec::new();
        let ended = stream.read_to_end(&mut answer);
        assert!(!ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock), "the gateway never closes");
        String::from_utf8_lossy(&answer).into_owned()
    });
    // The stream's own patience ends a reading of a gateway that never closes.
    reading.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_loris_in_headers_or_idle_loses_its_place() {
    let server = Server::with(&format!("{SETTINGS}limits: {{ connections: 3, stall: 1s }}\n")).await;
    let mut streams = Vec::new();
    for begin in ["", "GET /v2/ HTT", "GET /v2/ HTTP/1.1\r\nhost: x\r\nx-a: b\r\n"] {
        let mut stream = connect(&server);
        stream.write_all(begin.as_bytes()).unwrap();
        streams.push(stream);
    }
    // All places are taken; this one waits until the others lose theirs.
    assert_eq!(server.get("/v2/").await.status(), StatusCode::OK);
    for stream in streams {
        assert!(!until_closed(stream).await.contains("200 OK"));
    }
    // Kept alive after an answer, and idle since.
    let mut stream = connect(&server);
    stream.write_all(b"GET /v2/ HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    assert_eq!(statuses(&until_closed(stream).await)[0], "200");
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_loris_in_a_body_is_told_408_and_loses_its_place() {
    let server = Server::with(&format!("{SETTINGS}limits: {{ stall: 1s }}\n")).await;
    let digest = Digest::sha256(b"x");
    for path in [format!("POST /v2/{OPEN}/blobs/uploads/?digest={digest}"), format!("PUT /v2/{OPEN}/manifests/v1")] {
        let mut stream = connect(&server);
        stream.write_all(format!("{path} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nx").as_bytes()).unwrap();
        let mut drip = stream.try_clone().unwrap();
        let dripping = std::thread::spawn(move || {
            while drip.write_all(b"x").is_ok() {
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
        });
        let answer = until_closed(stream).await;
        assert_eq!(statuses(&answer), ["408"], "{path}: {answer}");
        dripping.join().unwrap();
    }
    // Nobody was told of the session that the first one began, and none is left.
    assert_eq!(server.gateway.uploads.count(), 0);
    assert_eq!(std::fs::read_dir(server.folder.path().join("state/uploads")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn answer_that_nobody_reads_frees_its_place() {
    let server = Server::with(&format!("{SETTINGS}limits: {{ connections: 1, stall: 1s }}\n")).await;
    let digest = server.push_blob(OPEN, &vec![7; 64 << 20]).await;
    // The client of the helpers keeps its connection alive, and that is the only place.
    let mut stream = connect(&server);
    stream.write_all(format!("GET /v2/{OPEN}/blobs/{digest} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).unwrap();
    let again = exchange(&server, "GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    assert!(again.ends_with("ok\n"), "{again}");
    let answer = until_closed(stream).await;
    assert!(answer.len() < 64 << 20, "all of it was sent to a client that did not read");
}

#[tokio::test]
async fn ranges_that_make_a_server_work_hard() {
    let server = Server::start().await;
    let digest = server.push_blob(OPEN, b"0123456789").await;
    let path = format!("/v2/{OPEN}/blobs/{digest}");
    let many = (0..1000).map(|n| format!("{n}-")).collect::<Vec<_>>().join(",");
    for (range, status, body) in [
        (format!("bytes={many}"), 200, "0123456789"),
        ("bytes=0-0,0-0".to_owned(), 200, "0123456789"),
        ("bytes=5-18446744073709551615".to_owned(), 206, "56789"),
        ("bytes=5-99999999999999999999".to_owned(), 206, "56789"),
        ("bytes=-18446744073709551615".to_owned(), 206, "0123456789"),
        ("bytes=0x1-2".to_owned(), 200, "0123456789"),
        ("bytes=+1-2".to_owned(), 200, "0123456789"),
        ("bytes= 1 - 2".to_owned(), 200, "0123456789"),
    ] {
        let response = server.send(Method::GET, &path, &[("range", &range)], "").await;
        assert_eq!(response.status().as_u16(), status, "{range}");
        assert_eq!(response.text().await.unwrap(), body, "{range}");
    }
    for range in ["bytes=10-", "bytes=18446744073709551615-", "bytes=-0", "bytes=5-4"] {
        let response = server.send(Method::GET, &path, &[("range", range)], "").await;
        assert_eq!(response.status(), StatusCode::RANGE_NOT_SATISFIABLE, "{range}");
    }
}

#[tokio::test]
async fn digest_in_every_wrong_spelling() {
    let server = Server::start().await;
    let hex = Digest::sha256(b"x").hex();
    let wide = Digest::of(Algorithm::Sha512, b"x").hex();
    for digest in [
        format!("sha256:{}", hex.to_uppercase()),
        format!("SHA256:{hex}"),
        format!("sha256:{}", &hex[1..]),
        format!("sha256:{hex}0"),
        format!("sha256:{wide}"),
        format!("sha512:{hex}"),
        format!("sha256:../{}", &hex[3..]),
        format!("sha256:{}", "../".repeat(21) + "x"),
        format!("sha256:.{}", &hex[1..]),
        format!("sha1:{}", &hex[..40]),
        format!("md5:{}", &hex[..32]),
        format!(":{hex}"),
        "sha256:".to_owned(),
        format!("sha256::{hex}"),
        format!("sha256:{hex}:{hex}"),
    ] {
        let put = server.send(Method::POST, &format!("/v2/{OPEN}/blobs/uploads/?digest={digest}"), &[], "x").await;
        assert_eq!(refusal(put).await.1, "DIGEST_INVALID", "{digest}");
        let headers = [("content-type", OCI_INDEX)];
        let put = server.send(Method::PUT, &format!("/v2/{OPEN}/manifests/{digest}"), &headers, "{}").await;
        assert!(put.status().is_client_error(), "{digest}");
        let get = server.get(&format!("/v2/{OPEN}/blobs/{digest}")).await;
        assert!(get.status().is_client_error(), "{digest}");
        let get = server.get(&format!("/v2/{OPEN}/referrers/{digest}")).await;
        assert!(get.status().is_client_error(), "{digest}");
    }
    assert_eq!(server.gateway.uploads.count(), 0);
}

/// Waits for what the server does by itself; the minute bounds a hang and measures nothing.
async fn until(seen: impl Fn() -> bool, what: &str) {
    let wait = async {
        while !seen() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(std::time::Duration::from_mins(1), wait).await.is_ok(), "{what}");
}

#[tokio::test]
async fn upload_in_one_request_that_fails_leaves_no_session() {
    let server = Server::with(&format!("{SETTINGS}limits: {{ uploads: 2, blob-bytes: 100 }}\n")).await;
    let path = format!("/v2/{OPEN}/blobs/uploads/?digest={}", Digest::sha256(b"other"));
    for _ in 0..3 {
        let (status, ..) = refusal(server.send(Method::POST, &path, &[], "hello").await).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        let (status, ..) = refusal(server.send(Method::POST, &path, &[], vec![0; 200]).await).await;
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    }
    let uploads = server.folder.path().join("state/uploads");
    let sessions = || server.gateway.uploads.count() + std::fs::read_dir(&uploads).unwrap().count();
    // A client that hangs up in the middle: only when its request was read, or there is nothing to leave behind yet.
    for _ in 0..3 {
        let mut stream = connect(&server);
        let request = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 90\r\n\r\nhalf");
        stream.write_all(request.as_bytes()).unwrap();
        until(|| sessions() > 0, "the upload has begun").await;
        drop(stream);
        until(|| sessions() == 0, "no session is left").await;
    }
    server.push_blob(OPEN, b"hello").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn upload_session_takes_one_of_two_chunks_at_once() {
    let server = Server::start().await;
    let begun = server.send(Method::POST, &format!("/v2/{OPEN}/blobs/uploads/"), &[], "").await;
    let location = begun.headers()["location"].to_str().unwrap().to_owned();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let chunk = |byte: u8| {
        let request = client.patch(format!("{}{location}", server.url)).header("content-range", "0-299999");
        // A refusal may come before the body was sent, and then the connection is cut.
        let request = request.body(vec![byte; 300_000]);
        async move { request.send().await.is_ok_and(|response| response.status() == StatusCode::ACCEPTED) }
    };
    let outcomes = futures_util::future::join_all((0..8).map(chunk)).await;
    assert_eq!(outcomes.iter().filter(|accepted| **accepted).count(), 1, "{outcomes:?}");
    let winner = outcomes.iter().position(|accepted| *accepted).unwrap();
    let digest = Digest::sha256(&vec![u8::try_from(winner).unwrap(); 300_000]);
    let end = server.send(Method::PUT, &format!("{location}?digest={digest}"), &[], "").await;
    assert_eq!(end.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn upload_session_that_is_guessed_or_misspelt_is_unknown() {
    let server = Server::start().await;
    let begun = server.send(Method::POST, &format!("/v2/{OPEN}/blobs/uploads/"), &[], "").await;
    let location = begun.headers()["location"].to_str().unwrap().to_owned();
    let id = location.rsplit('/').next().unwrap();
    let mut next = id.to_owned();
    let last = if id.ends_with('0') { "1" } else { "0" };
    next.replace_range(id.len() - 1.., last);
    for guess in
        [next, id.to_uppercase().replace("0X", "0x") + "x", id.replace('-', ""), format!("{{{id}}}"), "..".into()]
    {
        let response = server.send(Method::PATCH, &format!("/v2/{OPEN}/blobs/uploads/{guess}"), &[], "x").await;
        assert!(response.status().is_client_error(), "{guess}");
    }
    let status = server.get(&location).await;
    assert_eq!(status.headers()["range"], "0-0");
}

#[tokio::test]
async fn orders_from_a_browser_or_through_a_proxy_are_refused() {
    let server = Server::start().await;
    let manifest = server.push_image(OPEN, "one").await;
    assert_eq!(server.put(OPEN, "v1", &manifest).await.status(), StatusCode::CREATED);
    let body = json!({ "repository": OPEN, "name": "v1", "reason": "x" }).to_string();
    let json = ("content-type", "application/json");
    for header in [
        ("origin", "http://evil.example"),
        ("origin", "null"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-host", "gateway.example"),
        ("forwarded", "for=127.0.0.1"),
        ("x-real-ip", "127.0.0.1"),
    ] {
        let response = server.send(Method::POST, "/api/v1/pins", &[json, header], body.clone()).await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{header:?}");
    }
    let headers = [("origin", "http://evil.example"), ("content-type", manifest.media_type())];
    let pushed =
        server.send(Method::PUT, &format!("/v2/{OPEN}/manifests/v2"), &headers, manifest.bytes().to_vec()).await;
    assert_eq!(pushed.status(), StatusCode::FORBIDDEN);
    assert_eq!(server.send(Method::POST, "/api/v1/pins", &[json], body).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn words_with_terminal_escapes_are_refused() {
    let server = Server::start().await;
    let manifest = server.push_image(OPEN, "one").await;
    assert_eq!(server.put(OPEN, "v1", &manifest).await.status(), StatusCode::CREATED);
    for word in ["\u{1b}]0;owned\u{7}", "two\nlines", "\u{9b}31m", "nul\0"] {
        let order = json!({ "repository": OPEN, "name": "v1", "reason": word });
        assert_eq!(server.order("pins", &order).await.0, StatusCode::BAD_REQUEST, "{word:?}");
        let release = json!({ "release": manifest.digest(), "role": word });
        let report =
            |app: &str, release| json!({ "app": app, "repository": server.address(OPEN), "releases": [release] });
        assert_eq!(server.order("hosts/n1/report", &report("a", release)).await.0, StatusCode::BAD_REQUEST, "{word:?}");
        let empty = json!({ "release": manifest.digest(), "role": "running" });
        assert_eq!(server.order("hosts/n1/report", &report(word, empty)).await.0, StatusCode::BAD_REQUEST, "{word:?}");
    }
    assert_eq!(server.ask("hosts").await["uses"], json!([]));
}
