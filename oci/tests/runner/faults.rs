//! A registry that breaks off, lies, stammers and points elsewhere; and what the client makes of it.

use std::path::PathBuf;
use std::process::Command;

use axum::body::{Body, Bytes};
use nebh_oci::client::{Client, ClientError, ClientErrorKind, ClientSettings, Credentials};
use nebh_oci::digest::Digest;
use nebh_oci::manifest::MANIFEST_SIZE_MAX;

use crate::liar::{CONTENT, Liar, blob, broken, status, with};
use crate::peer::{client, quick};
use crate::referrers::referrer;

struct Destination(tempfile::TempDir);

impl Destination {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("blob")
    }

    fn files(&self) -> usize {
        std::fs::read_dir(self.0.path()).unwrap().count()
    }
}

async fn fetch(liar: &Liar, to: &Destination) -> Result<(), ClientError> {
    client().fetch_blob(&liar.address(), &blob(), &to.path()).await
}

#[tokio::test]
async fn broken_transfer_is_continued_where_it_broke() {
    let liar = Liar::start(|nth, _, _| match nth {
        0 => broken(200, &[], b"0123", 10),
        1 => status(503, "wait"),
        2 => broken(206, &[("content-range", "bytes 4-9/10")], b"45", 6),
        _ => with(206, &[("content-range", "bytes 6-9/10")], "6789"),
    })
    .await;
    let to = Destination::new();
    let patient = Client::new(ClientSettings { retries: 3, ..quick() }).unwrap();
    patient.fetch_blob(&liar.address(), &blob(), &to.path()).await.unwrap();
    assert_eq!(std::fs::read(to.path()).unwrap(), CONTENT);
    let ranges: Vec<_> = liar.asked().into_iter().map(|asked| asked.range).collect();
    assert_eq!(ranges, [None, Some("bytes=4-".into()), Some("bytes=4-".into()), Some("bytes=6-".into())]);
    assert_eq!(to.files(), 1);
}

#[tokio::test]
async fn transfer_that_failed_is_continued_by_the_next_call() {
    let liar = Liar::start(|nth, _, _| match nth {
        0 => broken(200, &[], b"0123", 10),
        1 => status(403, "no"),
        _ => with(206, &[("content-range", "bytes 4-9/10")], "456789"),
    })
    .await;
    let to = Destination::new();
    assert!(matches!(fetch(&liar, &to).await.unwrap_err().kind(), ClientErrorKind::Denied { .. }));
    assert!(!to.path().exists());
    fetch(&liar, &to).await.unwrap();
    assert_eq!(std::fs::read(to.path()).unwrap(), CONTENT);
    assert_eq!(liar.asked().len(), 3);
}

#[tokio::test]
async fn server_that_cannot_continue_starts_again() {
    for second in [200, 206, 416] {
        let liar = Liar::start(move |nth, _, _| match (nth, second) {
            (0, _) => broken(200, &[], b"0123", 10),
            // Another part than was asked for.
            (1, 206) => with(206, &[("content-range", "bytes 2-9/10")], "23456789"),
            (1, 416) => status(416, ""),
            _ => with(200, &[], CONTENT),
        })
        .await;
        let to = Destination::new();
        fetch(&liar, &to).await.unwrap();
        assert_eq!(std::fs::read(to.path()).unwrap(), CONTENT, "{second}");
    }
}

#[tokio::test]
async fn rotten_leftover_is_fetched_anew() {
    let liar = Liar::start(|nth, _, _| match nth {
        0 => with(206, &[("content-range", "bytes 4-9/10")], "456789"),
        _ => with(200, &[], CONTENT),
    })
    .await;
    let to = Destination::new();
    let leftover = to.0.path().join(format!(".sha256-{}.partial", blob().digest.hex()));
    std::fs::write(leftover, b"rots").unwrap();
    fetch(&liar, &to).await.unwrap();
    assert_eq!(std::fs::read(to.path()).unwrap(), CONTENT);
}

#[tokio::test]
async fn other_bytes_are_tampering_and_leave_no_file() {
    let liar = Liar::start(|_, _, _| with(200, &[], "0123456789".replace('9', "8"))).await;
    let to = Destination::new();
    let error = fetch(&liar, &to).await.unwrap_err();
    assert!(matches!(error.kind(), ClientErrorKind::DigestMismatch { .. }), "{error}");
    assert_eq!((to.files(), liar.asked().len()), (0, 1));
    let error = client().blob_bytes(&liar.address(), &blob(), 10).await.unwrap_err();
    assert!(error.is_tampered(), "{error}");
    let error = client().manifest(&liar.address(), &blob().digest).await.unwrap_err();
    assert!(error.is_tampered(), "{error}");
}

#[tokio::test]
async fn more_or_fewer_bytes_are_tampering() {
    let endless = || {
        Body::from_stream(futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(&[0; 64]))))
    };
    let liar = Liar::start(move |nth, _, _| match nth {
        0 | 1 => with(200, &[], "0123456789+"),
        2 | 3 => with(200, &[], "012345678"),
        4 | 5 => with(200, &[], endless()),
        _ => with(200, &[], Body::from_stream(futures_util::stream::iter([Ok::<_, std::io::Error>("01234")]))),
    })
    .await;
    for _ in 0..4 {
        let to = Destination::new();
        let error = fetch(&liar, &to).await.unwrap_err();
        assert!(matches!(error.kind(), ClientErrorKind::SizeMismatch { expected: 10, .. }), "{error}");
        assert_eq!(to.files(), 0);
        let error = client().blob_bytes(&liar.address(), &blob(), 10).await.unwrap_err();
        assert!(matches!(error.kind(), ClientErrorKind::SizeMismatch { expected: 10, .. }), "{error}");
    }
    assert_eq!(liar.asked().len(), 8);
}

#[tokio::test]
async fn caps_are_kept_before_and_while_reading() {
    let liar = Liar::start(|_, _, _| with(200, &[], vec![b' '; MANIFEST_SIZE_MAX + 1])).await;
    let error = client().manifest_by_tag(&liar.address(), &"x".parse().unwrap()).await.unwrap_err();
    assert!(matches!(error.kind(), ClientErrorKind::TooLarge { .. }), "{error}");
    let error = client().blob_bytes(&liar.address(), &blob(), 9).await.unwrap_err();
    assert!(matches!(error.kind(), ClientErrorKind::TooLarge { limit: 9, .. }), "{error}");
    let small = Client::new(ClientSettings { blob_size_max: 9, ..quick() }).unwrap();
    let error = small.fetch_blob(&liar.address(), &blob(), &Destination::new().path()).await.unwrap_err();
    assert!(matches!(error.kind(), ClientErrorKind::TooLarge { limit: 9, .. }), "{error}");
    assert_eq!(liar.asked().len(), 1);
}

#[tokio::test]
async fn later_is_tried_again_and_no_is_not() {
    let stammer = Liar::start(|nth, _, _| match nth {
        0 => with(429, &[("retry-after", "0")], ""),
        1 => status(502, ""),
        _ => with(200, &[], CONTENT),
    })
    .await;
    assert_eq!(client().blob_bytes(&stammer.address(), &blob(), 10).await.unwrap(), CONTENT);

    let down = Liar::start(|_, _, _| status(503, "\u{1b}[31mmaintenance")).await;
    let error = client().blob_bytes(&down.address(), &blob(), 10).await.unwrap_err();
    assert!(error.is_unreachable() && error.to_string().contains("503"), "{error}");
    assert!(error.to_string().contains("maintenance") && !error.to_string().contains('\u{1b}'), "{error}");
    assert_eq!(down.asked().len(), 3);

    let body = r#"{"errors":[{"code":"DENIED","message":"unsigned","detail":"key k1 did not sign"}]}"#;
    for (code, text) in
        [(403, "denied: DENIED: unsigned (key k1 did not sign)"), (404, "not found"), (400, "breaks the protocol")]
    {
        let liar = Liar::start(move |_, _, _| status(code, body)).await;
        let error = client().blob_bytes(&liar.address(), &blob(), 10).await.unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
        assert_eq!(liar.asked().len(), 1, "{code}");
    }
}

fn settings_with_password(liar: &Liar) -> ClientSettings {
    let credentials = Credentials::Basic { username: "me".into(), password: "pw".into() };
    ClientSettings { credentials: [(liar.address().registry().clone(), credentials)].into(), ..quick() }
}

#[tokio::test]
async fn token_is_fetched_with_credentials_and_kept() {
    let liar = Liar::start(|nth, what, port| match nth {
        0 => {
            let challenge = format!(r#"Bearer realm="http://127.0.0.1:{port}/token",service="s""#);
            with(401, &[("www-authenticate", &challenge)], "")
        }
        1 => with(200, &[], format!(r#"{{"token":"for {}"}}"#, what.replace(['&', ' '], "_"))),
        _ => with(200, &[], CONTENT),
    })
    .await;
    let client = Client::new(settings_with_password(&liar)).unwrap();
    client.blob_bytes(&liar.address(), &blob(), 10).await.unwrap();
    client.blob_bytes(&liar.address(), &blob(), 10).await.unwrap();
    let asked = liar.asked();
    assert_eq!(asked.len(), 4);
    assert_eq!(asked[1].what, "GET /token?service=s&scope=repository%3Aa%3Apull");
    assert_eq!(asked[1].authorization.as_deref(), Some("Basic bWU6cHc="));
    assert!(asked[2].authorization.as_deref().unwrap().starts_with("Bearer for "));
    assert_eq!(asked[2].authorization, asked[3].authorization);
}

#[tokio::test]
async fn credentials_do_not_go_along_with_a_redirect_or_an_upload() {
    let other = Liar::start(|_, what, _| match what.split(' ').next() {
        Some("PUT") => status(201, ""),
        _ => with(200, &[], CONTENT),
    })
    .await;
    let elsewhere = format!("http://127.0.0.1:{}/store", other.port);
    let liar = Liar::start(move |_, what, _| match what.split(' ').next() {
        Some("HEAD") => status(404, ""),
        Some("POST") => with(202, &[("location", elsewhere.as_str())], ""),
        _ => with(307, &[("location", elsewhere.as_str())], ""),
    })
    .await;
    let login = Liar::start(|_, _, _| with(401, &[("www-authenticate", "Basic realm=\"x\"")], "")).await;
    let client = Client::new(settings_with_password(&liar)).unwrap();
    assert_eq!(client.blob_bytes(&liar.address(), &blob(), 10).await.unwrap(), CONTENT);
    client.push_blob_bytes(&liar.address(), &blob(), CONTENT).await.unwrap();
    assert_eq!(other.asked().len(), 2);
    assert!(other.asked().iter().all(|asked| asked.authorization.is_none()), "{:?}", other.asked());
    // Nor to another registry that asks for them.
    let error = client.blob_bytes(&login.address(), &blob(), 10).await.unwrap_err();
    assert!(matches!(error.kind(), ClientErrorKind::Denied { .. }), "{error}");
    assert!(login.asked().iter().all(|asked| asked.authorization.is_none()));
}

#[tokio::test]
async fn plain_http_off_the_loopback_is_refused() {
    for target in
        ["http://registry.example/blob", "http://localhost.example/blob", "file:///etc/passwd", "ftp://127.0.0.1/x"]
    {
        let liar = Liar::start(move |_, _, _| with(302, &[("location", target)], "")).await;
        let error = client().blob_bytes(&liar.address(), &blob(), 10).await.unwrap_err();
        assert!(error.to_string().contains("only TLS is spoken there"), "{error}");
    }
    let circle = Liar::start(|_, what, _| with(302, &[("location", what.split(' ').nth(1).unwrap())], "")).await;
    let error = client().blob_bytes(&circle.address(), &blob(), 10).await.unwrap_err();
    assert!(error.to_string().contains("redirects"), "{error}");
}

#[tokio::test]
async fn urls_of_a_descriptor_are_never_followed() {
    let other = Liar::start(|_, _, _| with(200, &[], CONTENT)).await;
    let liar = Liar::start(|_, _, _| status(404, "")).await;
    let mut foreign = blob();
    foreign.urls = vec![format!("http://127.0.0.1:{}/blob", other.port)];
    let error = client().fetch_blob(&liar.address(), &foreign, &Destination::new().path()).await.unwrap_err();
    assert!(error.is_not_found(), "{error}");
    assert_eq!(other.asked(), []);
}

#[tokio::test]
async fn registry_that_stored_something_else_is_caught() {
    let manifest = referrer(&blob(), "x");
    let other = Digest::sha256(b"other").to_string();
    let liar = Liar::start(move |_, _, _| with(201, &[("docker-content-digest", other.as_str())], "")).await;
    let error = client().push_manifest(&liar.address(), &manifest, None).await.unwrap_err();
    assert!(error.is_tampered(), "{error}");
}

#[tokio::test]
async fn broken_upload_begins_again_with_a_new_session() {
    let liar = Liar::start(|nth, what, _| match (nth, what.split(' ').next().unwrap()) {
        (_, "HEAD") | (4, "PUT") => status(404, ""),
        (_, "POST") => with(202, &[("location", format!("/up/{nth}?state=s").as_str())], ""),
        (2, "PUT") => status(503, ""),
        _ => status(201, ""),
    })
    .await;
    let file = Destination::new();
    std::fs::write(file.path(), CONTENT).unwrap();
    client().push_blob_file(&liar.address(), &blob(), &file.path()).await.unwrap();
    let puts: Vec<_> = liar.asked().into_iter().filter(|asked| asked.what.starts_with("PUT")).collect();
    assert_eq!(puts.len(), 3);
    assert!(puts[2].what.starts_with("PUT /up/5?state=s&digest=sha256%3A"), "{puts:?}");
}

#[tokio::test]
async fn local_files_that_do_not_fit_are_said_to_be_local() {
    let liar = Liar::start(|_, _, _| status(404, "")).await;
    let file = Destination::new();
    let error = client().push_blob_file(&liar.address(), &blob(), &file.path()).await.unwrap_err();
    assert!(matches!(error.kind(), ClientErrorKind::Local { .. }), "{error}");
    std::fs::write(file.path(), b"short").unwrap();
    let error = client().push_blob_file(&liar.address(), &blob(), &file.path()).await.unwrap_err();
    assert!(error.to_string().contains("has 5 bytes instead of 10"), "{error}");
    let error = client().push_blob_bytes(&liar.address(), &blob(), b"other").await.unwrap_err();
    assert!(error.is_tampered(), "{error}");
    assert_eq!(liar.asked(), []);
}

#[tokio::test]
async fn loopback_needs_no_certificates() {
    let liar = Liar::start(|_, _, _| with(200, &[], CONTENT)).await;
    assert_eq!(client().blob_bytes(&liar.address(), &blob(), 10).await.unwrap(), CONTENT);
    // TLS is missed only by who needs it, and by its name.
    if std::env::var_os("NEBH_TEST_WITHOUT_CERTIFICATES").is_some() {
        let address = "registry.invalid/a".parse().unwrap();
        let error = client().blob_bytes(&address, &blob(), 10).await.unwrap_err();
        assert!(matches!(error.kind(), ClientErrorKind::Local { .. } | ClientErrorKind::Unreachable { .. }), "{error}");
    }
}

#[test]
fn loopback_works_on_a_machine_without_certificates() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "faults::loopback_needs_no_certificates"])
        .env("SSL_CERT_FILE", "/nonexistent/file")
        .env("SSL_CERT_DIR", "/nonexistent/directory")
        .env("NEBH_TEST_WITHOUT_CERTIFICATES", "1")
        .env("HTTP_PROXY", "http://127.0.0.1:1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}
