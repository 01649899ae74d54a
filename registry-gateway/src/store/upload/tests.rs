//! Sessions: resumed, bound to their repository, expired, and never larger than allowed.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};

use super::*;

const STALL: Duration = Duration::from_mins(1);

fn pieces(pieces: &[&[u8]]) -> impl Stream<Item = Result<Bytes, Infallible>> + Unpin {
    futures_util::stream::iter(pieces.iter().map(|piece| Ok(Bytes::copy_from_slice(piece))).collect::<Vec<_>>())
}

fn uploads(folder: &tempfile::TempDir, max: usize) -> Uploads {
    Uploads::new(Store::open(folder.path()).unwrap(), max)
}

fn name(text: &str) -> Repository {
    text.parse().unwrap()
}

#[tokio::test]
async fn upload_in_two_requests_has_the_digest_of_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let uploads = uploads(&folder, 4);
    let id = {
        let mut session = uploads.begin(&name("a"), Algorithm::Sha256).await.unwrap();
        assert_eq!(session.append(pieces(&[b"he", b"ll"]), STALL, 100).await.unwrap(), 4);
        session.id()
    };
    let mut session = uploads.resume(&name("a"), id).await.unwrap();
    session.append(pieces(&[b"o"]), STALL, 100).await.unwrap();
    session.compare(Digest::sha256(b"hello")).await.unwrap();
    session.compare(Digest::of(Algorithm::Sha512, b"hello")).await.unwrap();
    assert!(matches!(session.compare(Digest::sha256(b"other")).await, Err(UploadError::WrongDigest { .. })));
}

#[tokio::test]
async fn upload_of_one_repository_is_unknown_in_another() {
    let folder = tempfile::tempdir().unwrap();
    let uploads = uploads(&folder, 4);
    let id = uploads.begin(&name("a"), Algorithm::Sha256).await.unwrap().id();
    assert!(matches!(uploads.resume(&name("b"), id).await, Err(UploadError::Unknown(_))));
    assert!(uploads.resume(&name("a"), id).await.is_ok());
}

#[tokio::test]
async fn upload_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let id = {
        let uploads = uploads(&folder, 4);
        let mut session = uploads.begin(&name("a"), Algorithm::Sha256).await.unwrap();
        session.append(pieces(&[b"hel"]), STALL, 100).await.unwrap();
        session.id()
    };
    let uploads = uploads(&folder, 4);
    assert!(matches!(uploads.resume(&name("b"), id).await, Err(UploadError::Unknown(_))));
    let mut session = uploads.resume(&name("a"), id).await.unwrap();
    assert_eq!(session.size(), 3);
    session.append(pieces(&[b"lo"]), STALL, 100).await.unwrap();
    session.compare(Digest::sha256(b"hello")).await.unwrap();
}

#[tokio::test]
async fn upload_takes_one_request_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let uploads = uploads(&folder, 4);
    let session = uploads.begin(&name("a"), Algorithm::Sha256).await.unwrap();
    assert!(matches!(uploads.resume(&name("a"), session.id()).await, Err(UploadError::Busy(_))));
}

#[tokio::test]
async fn upload_sessions_are_capped_and_closing_one_frees_it() {
    let folder = tempfile::tempdir().unwrap();
    let uploads = uploads(&folder, 1);
    let session = uploads.begin(&name("a"), Algorithm::Sha256).await.unwrap();
    assert!(matches!(uploads.begin(&name("a"), Algorithm::Sha256).await, Err(UploadError::TooMany(1))));
    uploads.close(session).await.unwrap();
    assert!(uploads.begin(&name("a"), Algorithm::Sha256).await.is_ok());
}

#[tokio::test]
async fn upload_larger_than_allowed_is_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let uploads = uploads(&folder, 1);
    let mut session = uploads.begin(&name("a"), Algorithm::Sha256).await.unwrap();
    let outcome = session.append(pieces(&[b"hello"]), STALL, 4).await;
    assert!(matches!(outcome, Err(UploadError::TooLarge(4))));
}

#[tokio::test]
async fn upload_that_breaks_off_keeps_what_arrived() {
    let folder = tempfile::tempdir().unwrap();
    let uploads = uploads(&folder, 1);
    let mut session = uploads.begin(&name("a"), Algorithm::Sha256).await.unwrap();
    let body = futures_util::stream::iter(vec![Ok(Bytes::from_static(b"hel")), Err("gone")]);
    assert!(matches!(session.append(body, STALL, 100).await, Err(UploadError::Broken { received: 3 })));
    session.append(pieces(&[b"lo"]), STALL, 100).await.unwrap();
    session.compare(Digest::sha256(b"hello")).await.unwrap();
}

#[tokio::test]
async fn upload_chunk_of_the_wrong_length_leaves_no_trace() {
    let folder = tempfile::tempdir().unwrap();
    let uploads = uploads(&folder, 1);
    let mut session = uploads.begin(&name("a"), Algorithm::Sha256).await.unwrap();
    session.append(pieces(&[b"hel"]), STALL, 100).await.unwrap();
    assert!(matches!(session.append_exact(pieces(&[b"xyz"]), 2, STALL, 100).await, Err(UploadError::Long(2))));
    session.append_exact(pieces(&[b"lo"]), 2, STALL, 100).await.unwrap();
    session.compare(Digest::sha256(b"hello")).await.unwrap();
}

#[tokio::test]
async fn upload_without_a_byte_for_too_long_is_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let uploads = uploads(&folder, 1);
    let mut session = uploads.begin(&name("a"), Algorithm::Sha256).await.unwrap();
    let body = futures_util::stream::pending::<Result<Bytes, Infallible>>();
    assert!(matches!(session.append(body, Duration::from_millis(5), 100).await, Err(UploadError::Stalled(_))));
}

#[tokio::test]
async fn upload_expires_unless_a_request_holds_it() {
    let folder = tempfile::tempdir().unwrap();
    let uploads = uploads(&folder, 2);
    let held = uploads.begin(&name("a"), Algorithm::Sha256).await.unwrap();
    let idle = uploads.begin(&name("a"), Algorithm::Sha256).await.unwrap().id();
    assert_eq!(uploads.expire(Duration::ZERO, SystemTime::now()).await.unwrap(), 1);
    assert!(matches!(uploads.resume(&name("a"), idle).await, Err(UploadError::Unknown(_))));
    assert!(held.path().exists());
}

#[tokio::test]
async fn upload_that_drips_is_stopped_however_steadily() {
    let folder = tempfile::tempdir().unwrap();
    let uploads = uploads(&folder, 1);
    let mut session = uploads.begin(&name("a"), Algorithm::Sha256).await.unwrap();
    let drip = Box::pin(futures_util::stream::repeat(()).then(|()| async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        Ok::<_, Infallible>(Bytes::from_static(b"x"))
    }));
    assert!(matches!(session.append(drip, Duration::from_millis(500), 1000).await, Err(UploadError::Stalled(_))));
}

#[tokio::test]
async fn upload_chunk_that_goes_on_beyond_its_promise_is_not_read_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let uploads = uploads(&folder, 1);
    let mut session = uploads.begin(&name("a"), Algorithm::Sha256).await.unwrap();
    let endless = futures_util::stream::repeat(()).map(|()| Ok::<_, Infallible>(Bytes::from_static(&[0; 1024])));
    assert!(matches!(session.append_exact(endless, 10, STALL, u64::MAX).await, Err(UploadError::Long(10))));
    assert_eq!((session.size(), std::fs::metadata(session.path()).unwrap().len()), (0, 0));
}

#[tokio::test]
async fn upload_that_is_idle_gives_up_its_place_and_no_other_does() {
    let folder = tempfile::tempdir().unwrap();
    let mut uploads = uploads(&folder, 2);
    let held = uploads.begin(&name("a"), Algorithm::Sha256).await.unwrap();
    let idle = uploads.begin(&name("a"), Algorithm::Sha256).await.unwrap().id();
    assert!(matches!(uploads.begin(&name("a"), Algorithm::Sha256).await, Err(UploadError::TooMany(2))));
    uploads.idle_max = Duration::ZERO;
    let next = uploads.begin(&name("a"), Algorithm::Sha256).await.unwrap();
    assert!(matches!(uploads.resume(&name("a"), idle).await, Err(UploadError::Unknown(_))));
    // The two that are left are being worked on.
    assert!(matches!(uploads.begin(&name("a"), Algorithm::Sha256).await, Err(UploadError::TooMany(2))));
    assert!(held.path().exists() && next.path().exists());
    assert_eq!(std::fs::read_dir(folder.path().join("uploads")).unwrap().count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_begun_at_once_do_not_exceed_the_places() {
    let folder = tempfile::tempdir().unwrap();
    let uploads = Arc::new(uploads(&folder, 3));
    let begin = |_| {
        let uploads = Arc::clone(&uploads);
        tokio::spawn(async move { uploads.begin(&name("a"), Algorithm::Sha256).await.is_ok() })
    };
    let begun = futures_util::future::join_all((0..64).map(begin)).await;
    assert_eq!(begun.into_iter().filter(|begun| *begun.as_ref().unwrap()).count(), 3);
    assert_eq!((uploads.count(), std::fs::read_dir(folder.path().join("uploads")).unwrap().count()), (3, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn upload_taken_up_by_many_at_once_after_a_restart_belongs_to_one() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..20 {
        let id = uploads(&folder, 90).begin(&name("a"), Algorithm::Sha256).await.unwrap().id();
        let again = Arc::new(uploads(&folder, 90));
        let resume = |_| {
            let uploads = Arc::clone(&again);
            // Handed out, so that it stays held until all have tried.
            tokio::spawn(async move { uploads.resume(&name("a"), id).await.ok() })
        };
        let held = futures_util::future::join_all((0..32).map(resume)).await;
        assert_eq!(held.iter().filter(|session| session.as_ref().unwrap().is_some()).count(), 1);
    }
}
