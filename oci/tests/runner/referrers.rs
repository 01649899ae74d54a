//! What is attached to a manifest, asked of a registry that pages, floods, fails and lists what is not so.

use nebh_oci::manifest::{Artifact, Descriptor, EMPTY_BLOB, ImageIndex, ImageManifest, RawManifest};
use nebh_oci::media_type;

use crate::liar::{Liar, blob, status, with};
use crate::peer::client;

pub(crate) fn referrer(subject: &Descriptor, note: &str) -> RawManifest {
    let image = ImageManifest::artifact("a/b", vec![]).with_subject(subject.clone()).with_annotation("note", note);
    RawManifest::from_image(&image).unwrap()
}

fn page(manifests: Vec<Descriptor>) -> Vec<u8> {
    RawManifest::from_index(&ImageIndex { manifests, ..ImageIndex::default() }).unwrap().bytes().to_vec()
}

#[tokio::test]
async fn referrers_are_read_page_by_page() {
    let pages: Vec<_> = ["1", "2"].map(|note| page(vec![referrer(&blob(), note).descriptor()])).into();
    let liar = Liar::start(move |nth, what, _| {
        let link = format!("<{}?last=1>; rel=\"next\"", what.split(' ').nth(1).unwrap());
        let headers = [("content-type", media_type::OCI_INDEX), ("link", link.as_str())];
        with(200, &headers[..2 - nth], pages[nth].clone())
    })
    .await;
    let found = client().referrers(&liar.address(), &blob().digest).await.unwrap();
    assert_eq!(found, [referrer(&blob(), "1").descriptor(), referrer(&blob(), "2").descriptor()]);
    assert!(liar.asked()[1].what.ends_with("?last=1"));

    let away = Liar::start(|_, _, _| {
        let headers = [("content-type", media_type::OCI_INDEX), ("link", "<http://127.0.0.1:1/x>; rel=\"next\"")];
        with(200, &headers, page(vec![]))
    })
    .await;
    let error = client().referrers(&away.address(), &blob().digest).await.unwrap_err();
    assert!(error.to_string().contains("on another host"), "{error}");
}

#[tokio::test]
async fn error_is_never_nothing_attached() {
    for code in [400, 401, 403, 500, 503] {
        let everywhere = Liar::start(move |_, _, _| status(code, "")).await;
        assert!(client().attached(&everywhere.address(), &blob().digest).await.is_err(), "{code}");
        let signatures =
            Liar::start(move |_, what, _| status(if what.contains(".sig") { code } else { 404 }, "")).await;
        assert!(client().attached(&signatures.address(), &blob().digest).await.is_err(), "{code}");
    }
    let html = Liar::start(|_, _, _| with(200, &[("content-type", "text/html")], "<html>")).await;
    assert!(client().attached(&html.address(), &blob().digest).await.is_err());
}

#[tokio::test]
async fn listed_referrers_of_another_subject_and_lost_ones_are_passed_over() {
    let mine = referrer(&blob(), "mine");
    let other = referrer(&Descriptor::of("a/b", b"other"), "other");
    let gone = referrer(&blob(), "lost");
    let list = page([&mine, &other, &gone].map(RawManifest::descriptor).into());
    let (one, two) = (mine.clone(), other.clone());
    let liar = Liar::start(move |_, what, _| {
        let headers = [("content-type", media_type::OCI_MANIFEST)];
        match what {
            what if what.contains("/referrers/") => with(200, &[("content-type", media_type::OCI_INDEX)], list.clone()),
            what if what.contains(&one.digest().hex()) => with(200, &headers, one.bytes().to_vec()),
            what if what.contains(&two.digest().hex()) => with(200, &headers, two.bytes().to_vec()),
            _ => status(404, ""),
        }
    })
    .await;
    let attached = client().attached(&liar.address(), &blob().digest).await.unwrap();
    assert_eq!(attached.into_iter().map(|attached| attached.manifest).collect::<Vec<_>>(), [mine]);
}

#[tokio::test]
async fn flood_of_referrers_is_an_error_and_data_snapshots_are_none() {
    let many: Vec<_> = (0..65).map(|note| referrer(&blob(), &note.to_string()).descriptor()).collect();
    let snapshots = many.iter().map(|entry| entry.clone().with_artifact_type(media_type::NEBH_DATA_SNAPSHOT)).collect();
    let pages = [page(many), page(snapshots)];
    let liar = Liar::start(move |nth, _, _| match nth {
        0 | 1 => with(200, &[("content-type", media_type::OCI_INDEX)], pages[nth].clone()),
        _ => status(404, ""),
    })
    .await;
    let error = client().attached(&liar.address(), &blob().digest).await.unwrap_err();
    assert!(error.to_string().contains("attached manifests is limited to 64"), "{error}");
    assert_eq!(client().attached(&liar.address(), &blob().digest).await.unwrap(), []);
}

#[tokio::test]
async fn registry_with_its_own_list_gets_no_fallback() {
    let manifest = referrer(&blob(), "x");
    let liar = Liar::start(|_, what, _| match what.split(' ').next() {
        Some("HEAD") => status(200, ""),
        _ => with(201, &[("oci-subject", "yes")], ""),
    })
    .await;
    let blobs = vec![(Descriptor::empty(), EMPTY_BLOB.to_vec())];
    client().push_artifact(&liar.address(), &Artifact { manifest, blobs, tag: None }).await.unwrap();
    assert_eq!(liar.asked().len(), 2);
}
