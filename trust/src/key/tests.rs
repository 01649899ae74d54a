//! Key files and signatures: what opens, what does not, and the words for it.

use super::*;

fn fixture(name: &str) -> String {
    let path = format!("{}/tests/fixtures/signing/good/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn key_files_of_cosign_open_with_their_passphrase() {
    for (name, passphrase) in [
        ("k2", "pw2"),
        ("k3", "pw3"),
        ("k2-empty", ""),
        ("k3-empty", ""),
        ("k2-utf8", "pässwörd ☂ 雨"),
        ("k3-utf8", "pässwörd ☂ 雨"),
    ] {
        let private = PrivateKey::from_cosign_pem(&fixture(&format!("{name}.key")), passphrase).unwrap();
        let public = PublicKey::from_pem(&fixture(&format!("{name}.pub"))).unwrap();
        assert_eq!(private.public(), &public, "{name}");
        assert_eq!(public.to_pem().unwrap(), fixture(&format!("{name}.pub")), "{name}");
    }
}

#[test]
fn older_label_is_read() {
    let text = fixture("k2.key").replace("SIGSTORE", "COSIGN");
    assert!(PrivateKey::from_cosign_pem(&text, "pw2").is_ok());
}

#[test]
fn wrong_passphrase_is_called_so() {
    let error = PrivateKey::from_cosign_pem(&fixture("k2.key"), "pw3").unwrap_err();
    assert!(matches!(error, KeyError::WrongPassphrase));
    assert_eq!(error.to_string(), "the passphrase does not open this key");
}

#[test]
fn own_key_file_opens_again() {
    let key = PrivateKey::generate().unwrap();
    let text = key.to_cosign_pem("pw").unwrap();
    assert!(text.starts_with("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n"));
    assert_eq!(PrivateKey::from_cosign_pem(&text, "pw").unwrap().id(), key.id());
    assert!(matches!(PrivateKey::from_cosign_pem(&text, ""), Err(KeyError::WrongPassphrase)));
}

#[test]
fn wrong_kinds_of_file_are_named() {
    let (public, private) = (fixture("k2.pub"), fixture("k2.key"));
    assert!(matches!(PublicKey::from_pem(&private), Err(KeyError::PrivateWherePublic)));
    assert!(matches!(PrivateKey::from_cosign_pem(&public, ""), Err(KeyError::PublicWherePrivate)));
    assert!(matches!(PublicKey::from_pem("x"), Err(KeyError::NotPem(_))));
    assert!(matches!(PublicKey::from_pem(&format!("{public}{public}")), Err(KeyError::TrailingBlock)));
    assert!(matches!(PublicKey::from_pem(&" ".repeat(20_000)), Err(KeyError::TooLarge { .. })));
    let certificate = public.replace("PUBLIC KEY", "CERTIFICATE");
    assert!(matches!(PublicKey::from_pem(&certificate), Err(KeyError::Label { .. })));
}

/// A key file with one member changed.
fn changed(member: &str, value: serde_json::Value) -> String {
    let text = fixture("k2.key");
    let (label, bytes) = pem::decode_vec(text.trim().as_bytes()).unwrap();
    let mut file: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    *file.pointer_mut(member).unwrap() = value;
    pem::encode_string(label, LineEnding::LF, file.to_string().as_bytes()).unwrap()
}

#[test]
fn key_file_cannot_make_its_reader_work_or_fall() {
    for n in [1_u64 << 20, 1 << 31, 16_384, 65_535] {
        let file = changed("/kdf/params/N", n.into());
        assert!(matches!(PrivateKey::from_cosign_pem(&file, "pw2"), Err(KeyError::Scrypt { .. })), "{n}");
    }
    assert!(matches!(
        PrivateKey::from_cosign_pem(&changed("/kdf/params/r", 4096.into()), "pw2"),
        Err(KeyError::Scrypt { .. })
    ));
    for (member, value) in
        [("/cipher/nonce", "AAAA"), ("/kdf/salt", ""), ("/kdf/name", "pbkdf2"), ("/cipher/name", "aes")]
    {
        let file = changed(member, value.into());
        assert!(matches!(PrivateKey::from_cosign_pem(&file, "pw2"), Err(KeyError::Damaged(_))), "{member}");
    }
}

#[test]
fn key_of_another_curve_and_point_off_the_curve_are_refused() {
    // secp384r1, from `openssl ecparam -name secp384r1 -genkey`.
    let other_curve = "-----BEGIN PUBLIC KEY-----\nMHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEqofKIr6LBTeOscce8yCtdG4dO2KLp5uY\nWfdB4IJUKjhVAvJdv1UpbDpUXjhydgq3NhfeSpYmLG9dnpi/kpLcKfj0Hb0omhR8\n6doxE7XwuMAKYLHOHX6BnXpDHXyQ6g5f\n-----END PUBLIC KEY-----\n";
    assert!(matches!(PublicKey::from_pem(other_curve), Err(KeyError::NotP256(_))));
    let text = fixture("k2.pub");
    let (label, mut der) = pem::decode_vec(text.trim().as_bytes()).unwrap();
    *der.last_mut().unwrap() ^= 1;
    let off_curve = pem::encode_string(label, LineEnding::LF, &der).unwrap();
    assert!(matches!(PublicKey::from_pem(&off_curve), Err(KeyError::NotP256(_))));
}

#[test]
fn signing_is_deterministic() {
    let key = PrivateKey::generate().unwrap();
    assert_eq!(key.sign(b"x"), key.sign(b"x"));
    assert!(key.public().verify(b"x", &key.sign(b"x")).is_ok());
    assert!(matches!(key.public().verify(b"y", &key.sign(b"x")), Err(KeyError::SignatureWrong)));
    assert!(matches!(key.public().verify(b"x", b"junk"), Err(KeyError::SignatureNotDer)));
}

#[test]
fn key_ids_are_lower_case_digits() {
    let id = PrivateKey::generate().unwrap().id();
    assert_eq!(id.to_string().parse::<KeyId>().unwrap(), id);
    assert_eq!(id.short().len(), 12);
    assert!(id.to_string().to_uppercase().parse::<KeyId>().is_err());
    assert!("00".parse::<KeyId>().is_err());
}
