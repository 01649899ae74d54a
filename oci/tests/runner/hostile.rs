//! A registry that keeps to the protocol and still means harm: families of manifests that grow, answers that never end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::Response;
use futures_util::StreamExt;
use nebh_oci::client::{Client, ClientErrorKind, ClientSettings};
use nebh_oci::layout::Layout;
use nebh_oci::manifest::{Descriptor, ImageIndex, ImageManifest, RawManifest};

use crate::liar::{Liar, status, with};
use crate::peer::{client, quick};

const CONTENT: &[u8] = b"{}";

fn image(note: &str) -> RawManifest {
    let config = Descriptor::of("application/vnd.oci.image.config.v1+json", CONTENT);
    RawManifest::from_image(&ImageManifest::image(config, vec![]).with_annotation("note", note)).unwrap()
}

fn index(note: &str, children: &[&RawManifest]) -> RawManifest {
    let manifests = children.iter().map(|child| child.descriptor()).collect();
    let annotations = [("note".to_owned(), note.to_owned())].into();
    RawManifest::from_index(&ImageIndex { manifests, annotations, ..ImageIndex::default() }).unwrap()
}

/// Serves these manifests by digest, and one small blob.
async fn serving(manifests: &[&RawManifest]) -> Liar {
    let known =
        manifests.iter().map(|one| (one.digest().to_string(), (one.media_type().to_owned(), one.bytes().to_vec())));
    let known: Arc<BTreeMap<String, (String, Vec<u8>)>> = Arc::new(known.collect());
    Liar::start(move |_, what, _| {
        let name = what.rsplit('/').next().unwrap_or_default();
        match known.get(name) {
            Some((media_type, bytes)) => with(200, &[("content-type", media_type)], bytes.clone()),
            None if what.contains("/blobs/") => with(200, &[], CONTENT),
            None => status(404, ""),
        }
    })
    .await
}

fn layout() -> (tempfile::TempDir, Layout) {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::create(folder.path().join("layout")).unwrap();
    (folder, layout)
}

#[tokio::test]
async fn index_recursion_with_shared_children_is_walked_once() {
    let leaf = image("leaf");
    let images: Vec<RawManifest> = (0..8).map(|n| image(&n.to_string())).collect();
    let named: Vec<&RawManifest> = images.iter().chain([&leaf]).collect();
    let inner: Vec<RawManifest> = (0..8).map(|n| index(&n.to_string(), &named)).collect();
    // The leaf is named at two levels, and every image by eight indexes: 81 ways, 18 manifests.
    let top = index("top", &inner.iter().chain([&leaf]).collect::<Vec<_>>());
    let all: Vec<&RawManifest> = inner.iter().chain(named).chain([&top]).collect();
    let liar = serving(&all).await;
    let (_folder, layout) = layout();
    client().pull_to_layout(&liar.address(), top.digest(), &layout).await.unwrap();
    assert!(all.iter().all(|one| layout.has(one.digest()).is_some()));
    let asked = liar.asked();
    let manifests = asked.iter().filter(|asked| asked.what.contains("/manifests/")).count();
    assert_eq!((manifests, asked.len()), (18, 19));
}

#[tokio::test]
async fn index_that_nests_too_deep_leaves_no_manifest() {
    let mut chain = vec![image("leaf")];
    for level in 0..4 {
        chain.push(index(&level.to_string(), &[&chain[level]]));
    }
    let liar = serving(&chain.iter().collect::<Vec<_>>()).await;
    let (_folder, layout) = layout();
    client().pull_to_layout(&liar.address(), chain[3].digest(), &layout).await.unwrap();
    let error = client().pull_to_layout(&liar.address(), chain[4].digest(), &layout).await.unwrap_err();
    assert!(error.to_string().contains("nesting of indexes"), "{error}");
    assert_eq!(layout.has(chain[4].digest()), None);
}

#[tokio::test]
async fn index_with_more_children_than_any_image_is_given_up_early() {
    let children: Vec<RawManifest> = (0..2000).map(|n| image(&n.to_string())).collect();
    let top = index("top", &children.iter().collect::<Vec<_>>());
    let liar = serving(&children.iter().chain([&top]).collect::<Vec<_>>()).await;
    let (_folder, layout) = layout();
    let error = client().pull_to_layout(&liar.address(), top.digest(), &layout).await.unwrap_err();
    assert!(matches!(error.kind(), ClientErrorKind::TooLarge { limit: 1024, .. }), "{error}");
    assert!(liar.asked().len() <= 1025);
}

/// A byte now and then, for ever.
fn dripping() -> Response<Body> {
    let drops = futures_util::stream::repeat(()).then(|()| async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        Ok::<_, std::io::Error>(Bytes::from_static(b" "))
    });
    with(200, &[], Body::from_stream(drops))
}

#[tokio::test]
async fn slow_retrieval_is_unreachable_and_not_endless() {
    let liar = Liar::start(|_, _, _| dripping()).await;
    let settings = ClientSettings { idle_timeout: Duration::from_millis(400), retries: 0, ..quick() };
    let client = Client::new(settings).unwrap();
    let blob = Descriptor::new("a/b", *image("x").digest(), 1 << 30);
    let (folder, _) = layout();
    let asking = async {
        [
            client.fetch_blob(&liar.address(), &blob, &folder.path().join("blob")).await.unwrap_err(),
            client.manifest(&liar.address(), &blob.digest).await.unwrap_err(),
            client.referrers(&liar.address(), &blob.digest).await.unwrap_err(),
        ]
    };
    // Bounds a hang, measures nothing.
    for error in tokio::time::timeout(Duration::from_mins(1), asking).await.expect("a client gives up") {
        assert!(matches!(error.kind(), ClientErrorKind::Unreachable { .. }), "{error}");
        assert!(error.to_string().contains("as good as silent"), "{error}");
    }
    assert!(!folder.path().join("blob").exists());
}
