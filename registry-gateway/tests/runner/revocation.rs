//! The trust policy changes while the gateway serves: what counts is the file as it is at the moment of admission.

use nebh_oci::manifest::RawManifest;
use nebh_trust::key::{PrivateKey, PublicKey};
use reqwest::StatusCode;

use crate::support::{Server, refusal};

const REPOSITORY: &str = "shop/api";

fn write_key(server: &Server, role: &str, key: &PublicKey) {
    // In place and by rename, as editors and configuration tools do.
    let (file, beside) = (server.folder.path().join(format!("{role}.pub")), server.folder.path().join("new"));
    std::fs::write(&beside, key.to_pem().unwrap()).unwrap();
    std::fs::rename(beside, file).unwrap();
}

async fn refused(server: &Server, tag: &str, manifest: &RawManifest) -> String {
    let (status, code, message) = refusal(server.put(REPOSITORY, tag, manifest).await).await;
    assert_eq!((status, code.as_str()), (StatusCode::FORBIDDEN, "DENIED"), "{message}");
    message
}

#[tokio::test]
async fn revoked_key_stops_admission_without_a_restart() {
    let server = Server::start().await;
    let first = server.push_signed(REPOSITORY, "one", "v1").await;
    write_key(&server, "builder", PrivateKey::generate().unwrap().public());
    let message = refused(&server, "v2", &first).await;
    assert!(message.contains("[untrusted]"), "{message}");
    // What was granted before stays what it was; nodes judge it for themselves.
    assert_eq!(server.get(&format!("/v2/{REPOSITORY}/manifests/v1")).await.status(), StatusCode::OK);
    let explained = server.ask(&format!("explain/admission?repository={REPOSITORY}&name=v1")).await;
    assert_eq!(explained["admitted"], false, "{explained}");
    write_key(&server, "builder", server.keys.builder.public());
    assert_eq!(server.put(REPOSITORY, "v2", &first).await.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn rotated_key_is_accepted_without_a_restart() {
    let server = Server::start().await;
    let manifest = server.push_image(REPOSITORY, "one").await;
    server.sign(REPOSITORY, &manifest, &["v1"], &server.keys.stranger).await;
    refused(&server, "v1", &manifest).await;
    write_key(&server, "builder", server.keys.stranger.public());
    assert_eq!(server.put(REPOSITORY, "v1", &manifest).await.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn policy_that_cannot_be_read_admits_nothing_signed_and_everything_open() {
    let server = Server::start().await;
    let manifest = server.push_signed(REPOSITORY, "one", "v1").await;
    let policy = server.folder.path().join("trust.yaml");
    let whole = std::fs::read_to_string(&policy).unwrap();
    for broken in [Some("roles: {"), Some(""), None] {
        match broken {
            Some(text) => std::fs::write(&policy, text).unwrap(),
            None => std::fs::remove_file(&policy).unwrap(),
        }
        let message = refused(&server, "v2", &manifest).await;
        for word in ["trust policy cannot be read", "trust.yaml"] {
            assert!(message.contains(word), "`{word}` is not in: {message}");
        }
        let open = server.push_image("open/one", "one").await;
        assert_eq!(server.put("open/one", "v1", &open).await.status(), StatusCode::CREATED);
    }
    std::fs::write(&policy, &whole).unwrap();
    assert_eq!(server.put(REPOSITORY, "v2", &manifest).await.status(), StatusCode::CREATED);
    // A key that is gone is no key less: the policy as a whole cannot be read.
    std::fs::remove_file(server.folder.path().join("releaser.pub")).unwrap();
    assert!(refused(&server, "v3", &manifest).await.contains("releaser.pub"));
}
