//! Apt's files in both forms, cargo's templates, and what is made of them.

use std::path::Path;

use super::apt::{Folders, SignedBy, parse_deb822, parse_list, sources};
use super::cargo::Template;
use super::*;

const SOURCES: &str = "\
Types: deb
# a comment inside
URIs: http://mirror.invalid/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb deb-src
URIs: http://mirror.invalid/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
Enabled: no
URIs: http://off.invalid/debian
Suites: bookworm
Components: main

Types: deb
URIs: file:/srv/local
Suites: bookworm
Components: main
";

#[test]
fn deb822_sources_are_read() {
    let sources = parse_deb822(SOURCES);
    assert_eq!(sources.len(), 2);
    assert_eq!(sources[0].archive(), DebianArchive::Debian);
    assert_eq!(sources[0].suites, ["bookworm", "bookworm-updates"]);
    assert_eq!(sources[1].archive(), DebianArchive::DebianSecurity);
    assert_eq!(sources[1].address, "http://mirror.invalid/debian-security");
}

#[test]
fn keys_inside_a_source_are_read() {
    let text = "Types: deb\nURIs: https://m.invalid/debian\nSuites: trixie\nComponents: main\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abcd\n -----END PGP PUBLIC KEY BLOCK-----\n";
    let SignedBy::Keys(keys) = &parse_deb822(text)[0].signed_by else { panic!("no keys") };
    assert!(keys.contains("BLOCK-----\n\nabcd\n-----END"), "{keys}");
}

#[test]
fn one_line_sources_are_read() {
    let text = "# deb http://no.invalid x main\ndeb http://m.invalid/debian trixie main contrib # end\n\
                deb [arch=amd64 signed-by=/k/debian-archive.gpg] https://s.invalid/sec trixie-security main\n\
                deb-src http://m.invalid/debian trixie main\ndeb cdrom:[x]/ trixie main\n";
    let sources = parse_list(text);
    assert_eq!(sources.len(), 2);
    assert_eq!(sources[0].signed_by, SignedBy::Trusted);
    assert_eq!(sources[1].signed_by, SignedBy::Files(vec!["/k/debian-archive.gpg".into()]));
    assert_eq!(sources[1].archive(), DebianArchive::DebianSecurity);
}

#[test]
fn repositories_of_other_vendors_are_passed_by() {
    let etc = tempfile::tempdir().unwrap();
    let inner = etc.path().join("sources.list.d");
    std::fs::create_dir(&inner).unwrap();
    let vendor = "Types: deb\nURIs: https://a.invalid\nSuites: trixie\nComponents: main\nSigned-By: /k/vendor.gpg\n";
    std::fs::write(inner.join("a-vendor.sources"), vendor).unwrap();
    std::fs::write(inner.join("debian.sources"), SOURCES).unwrap();
    std::fs::write(inner.join("debian.sources.save"), SOURCES).unwrap();
    let sources = sources(&Folders { etc: etc.path().to_owned() });
    assert_eq!(sources.len(), 2);
    let upstreams = Upstreams { settings: UpstreamSettings::default(), sources };
    assert_eq!(upstreams.mirror(DebianArchive::Debian).unwrap().as_str(), "http://mirror.invalid/debian/");
    let addresses = upstreams.addresses(false, Path::new("/nonexistent")).unwrap();
    let place = Place::Pool { archive: DebianArchive::DebianSecurity, path: "pool/n/n_1%3a2+x~y_amd64.deb".to_owned() };
    assert_eq!(
        addresses.of(&place, "").unwrap().as_str(),
        "http://mirror.invalid/debian-security/pool/n/n_1%3a2+x~y_amd64.deb"
    );
}

#[test]
fn settings_come_before_the_machine() {
    let text = "listen: 127.0.0.1:1\nupstreams:\n  debian: { mirror: \"https://told.invalid/d\" }\n  crates: { download: \"https://c.invalid\" }\n";
    let settings = UpstreamSettings::parse("builder.yaml", text).unwrap();
    let upstreams = Upstreams { settings, sources: parse_deb822(SOURCES) };
    assert_eq!(upstreams.mirror(DebianArchive::Debian).unwrap().as_str(), "https://told.invalid/d/");
    assert!(upstreams.mirror(DebianArchive::DebianSecurity).is_ok());
    let wrong = UpstreamSettings::parse("builder.yaml", "upstreams:\n  debain: {}\n").unwrap_err().to_string();
    assert_eq!(wrong, "builder.yaml:2:3: unknown field `debain`\n  next: did you mean `debian`?");
}

#[test]
fn missing_mirror_is_said() {
    let upstreams = Upstreams { settings: UpstreamSettings::default(), sources: Vec::new() };
    assert!(matches!(upstreams.mirror(DebianArchive::Debian), Err(UpstreamError::NoMirror { .. })));
}

#[test]
fn download_templates_are_cargos() {
    let plain = Template::new("https://c.invalid/api/crates").unwrap();
    assert_eq!(
        plain.address("serde", "1.0.0", "").unwrap().as_str(),
        "https://c.invalid/api/crates/serde/1.0.0/download"
    );
    let marked = Template::new("https://c.invalid/{lowerprefix}/{crate}/{prefix}/{version}-{sha256-checksum}").unwrap();
    assert_eq!(
        marked.address("Serde", "1.0.0+x", "ab").unwrap().as_str(),
        "https://c.invalid/se/rd/Serde/Se/rd/1.0.0+x-ab"
    );
    assert_eq!(marked.address("abc", "1.0.0", "ab").unwrap().as_str(), "https://c.invalid/3/a/abc/3/a/1.0.0-ab");
    assert!(Template::new("file:///x/{crate}").is_err());
}
