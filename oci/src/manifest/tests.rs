//! Manifests: bytes kept, ambiguity refused.

use super::*;
use crate::json::JsonError;
use crate::media_type::{DOCKER_MANIFEST, OCI_INDEX, OCI_LAYER_GZIP, OCI_MANIFEST};

fn config() -> Descriptor {
    Descriptor::of(crate::media_type::OCI_CONFIG, b"{}")
}

fn image_text(extra: &str) -> Vec<u8> {
    let digest = Digest::sha256(b"{}");
    format!(
        r#"{{ "schemaVersion": 2{extra}, "config": {{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{digest}","size":2}}, "layers": [] }}"#
    )
    .into_bytes()
}

fn refused(bytes: &[u8], content_type: Option<&str>) -> ManifestError {
    RawManifest::parse(bytes.to_vec(), content_type).unwrap_err()
}

#[test]
fn parsed_manifest_keeps_its_bytes_and_is_named_by_them() {
    let bytes = image_text(r#", "surprise": {"kept": true}"#);
    let manifest = RawManifest::parse(bytes.clone(), Some(OCI_MANIFEST)).unwrap();
    assert_eq!(manifest.bytes(), bytes);
    assert_eq!(*manifest.digest(), Digest::sha256(&bytes));
    assert_eq!(manifest.descriptor(), Descriptor::of(OCI_MANIFEST, &bytes));
    let wide = Digest::of(crate::digest::Algorithm::Sha512, &bytes);
    assert_eq!(*manifest.clone().named(&wide).unwrap().digest(), wide);
    assert_eq!(manifest.named(&Digest::sha256(b"other")).unwrap_err(), Digest::sha256(&bytes));
}

#[test]
fn made_manifest_is_canonical_and_reads_back_the_same() {
    let layer = Descriptor::of(OCI_LAYER_GZIP, b"layer").with_annotation("b", "2").with_annotation("a", "1");
    let image = ImageManifest::image(config(), vec![layer]).with_subject(config()).with_annotation("z", "y");
    let manifest = RawManifest::from_image(&image).unwrap();
    assert!(manifest.bytes().starts_with(br#"{"annotations":{"z":"y"},"config":{"digest":"sha256:"#));
    let again = RawManifest::parse(manifest.bytes().to_vec(), Some(OCI_MANIFEST)).unwrap();
    assert_eq!(again, manifest);
    assert_eq!(again.image(), Some(&image));

    let child = manifest.descriptor().with_platform(Platform::new("linux", "amd64"));
    let index = ImageIndex { manifests: vec![child], artifact_type: Some("a/b".into()), ..ImageIndex::default() };
    let manifest = RawManifest::from_index(&index).unwrap();
    let again = RawManifest::parse(manifest.bytes().to_vec(), None).unwrap();
    assert_eq!(again.index(), Some(&index));
    assert_eq!(again.artifact_type(), Some("a/b"));
}

#[test]
fn manifest_of_known_content_has_a_known_digest() {
    // Golden: a change here is a change of every digest that we ever made.
    let manifest = RawManifest::from_image(&ImageManifest::artifact("application/x", vec![])).unwrap();
    let expected = concat!(
        r#"{"artifactType":"application/x","config":{"digest":"#,
        r#""sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","#,
        r#""mediaType":"application/vnd.oci.empty.v1+json","size":2},"layers":[],"#,
        r#""mediaType":"application/vnd.oci.image.manifest.v1+json","schemaVersion":2}"#
    );
    assert_eq!(std::str::from_utf8(manifest.bytes()).unwrap(), expected);
}

#[test]
fn independent_reader_understands_our_manifests() {
    let image = ImageManifest::image(config(), vec![Descriptor::of(OCI_LAYER_GZIP, b"l")]).with_subject(config());
    let manifest = RawManifest::from_image(&image).unwrap();
    let theirs = oci_spec::image::ImageManifest::from_reader(manifest.bytes()).unwrap();
    assert_eq!(theirs.layers()[0].digest().to_string(), image.layers[0].digest.to_string());
    assert_eq!(theirs.subject().as_ref().unwrap().size(), 2);
}

#[test]
fn document_that_is_two_things_is_neither() {
    let both = image_text(r#", "manifests": []"#);
    assert!(matches!(refused(&both, Some(OCI_MANIFEST)), ManifestError::Ambiguous));
    assert!(matches!(refused(&both, Some(OCI_INDEX)), ManifestError::Ambiguous));
    let with_layers = br#"{"schemaVersion":2,"manifests":[],"layers":[]}"#;
    assert!(matches!(refused(with_layers, None), ManifestError::Ambiguous));
}

#[test]
fn media_types_of_header_body_and_shape_must_agree() {
    let typed = image_text(&format!(r#", "mediaType": "{OCI_MANIFEST}""#));
    assert!(matches!(refused(&typed, Some(DOCKER_MANIFEST)), ManifestError::MediaTypeMismatch { .. }));
    assert!(matches!(refused(&typed, Some(OCI_INDEX)), ManifestError::MediaTypeMismatch { .. }));
    let untyped = image_text("");
    assert!(matches!(refused(&untyped, Some(OCI_INDEX)), ManifestError::Shape(_)));
    assert!(matches!(refused(&untyped, Some("text/html")), ManifestError::MediaType(_)));
    assert_eq!(RawManifest::parse(untyped.clone(), None).unwrap().media_type(), OCI_MANIFEST);
    assert_eq!(RawManifest::parse(untyped.clone(), Some(DOCKER_MANIFEST)).unwrap().media_type(), DOCKER_MANIFEST);
    let header = format!("{OCI_MANIFEST}; charset=utf-8");
    assert_eq!(RawManifest::parse(typed.clone(), Some(&header)).unwrap().media_type(), OCI_MANIFEST);
    assert_eq!(RawManifest::parse(typed, Some("application/octet-stream")).unwrap().media_type(), OCI_MANIFEST);
}

#[test]
fn malformed_manifests_are_refused_each_by_its_name() {
    let old = br#"{"schemaVersion":1,"name":"a","fsLayers":[]}"#;
    assert!(matches!(refused(old, None), ManifestError::SchemaVersion(1)));
    assert!(matches!(refused(br#"{"schemaVersion":2}"#, None), ManifestError::Shape(_)));
    assert!(matches!(
        refused(br#"{"schemaVersion":2,"schemaVersion":2,"manifests":[]}"#, None),
        ManifestError::Json(_)
    ));
    assert!(matches!(refused(br#"{"schemaVersion":2,"manifests":[{"size":1}]}"#, None), ManifestError::Json(_)));
    assert!(matches!(refused(b"\xef\xbb\xbf{}", None), ManifestError::Json(JsonError::ByteOrderMark)));
    let negative = image_text(r#", "annotations": {"a": 1}"#);
    assert!(matches!(refused(&negative, None), ManifestError::Json(_)));
    assert!(matches!(refused(&vec![b' '; MANIFEST_SIZE_MAX + 1], None), ManifestError::TooLarge(_)));
}

#[test]
fn too_many_layers_are_refused() {
    let layers = vec![Descriptor::empty(); LAYERS_MAX + 1];
    let error = RawManifest::from_image(&ImageManifest::artifact("a/b", layers)).unwrap_err();
    assert!(matches!(error, ManifestError::TooManyParts(_, LAYERS_MAX)));
}

#[test]
fn nulls_of_go_are_empty() {
    let bytes = br#"{"schemaVersion":2,"manifests":null,"annotations":null}"#;
    // `null` alone does not say whether this is a list, so the type must.
    assert!(matches!(refused(bytes, Some(OCI_INDEX)), ManifestError::Shape(_)));
    let text = String::from_utf8(image_text("")).unwrap().replace("[]", "null");
    let manifest = RawManifest::parse(text.into_bytes(), Some(OCI_MANIFEST)).unwrap();
    assert!(manifest.image().unwrap().layers.is_empty());
}

#[test]
fn referrer_is_listed_under_its_artifact_type() {
    let artifact = RawManifest::from_image(&ImageManifest::artifact("a/b", vec![]).with_annotation("k", "v")).unwrap();
    let listed = artifact.referrer_descriptor();
    assert_eq!(listed.artifact_type.as_deref(), Some("a/b"));
    assert_eq!(listed.annotations["k"], "v");
    let plain = RawManifest::from_image(&ImageManifest::image(config(), vec![])).unwrap();
    assert_eq!(plain.referrer_descriptor().artifact_type.as_deref(), Some(crate::media_type::OCI_CONFIG));
}

#[test]
fn attached_artifact_shows_its_layers_only() {
    let layer = Descriptor::of("a/b", b"signature");
    let manifest = RawManifest::from_image(&ImageManifest::artifact("a/b", vec![layer.clone()])).unwrap();
    let blobs = vec![(Descriptor::empty(), EMPTY_BLOB.to_vec()), (layer.clone(), b"signature".to_vec())];
    let attached = Attached::from_artifact(&Artifact { manifest, blobs, tag: None });
    assert_eq!(attached.layers, [(layer, b"signature".to_vec())]);
}
