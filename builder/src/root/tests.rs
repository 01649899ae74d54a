//! Packages made for the purpose: whole ones, hostile ones, and what the finishers make of them.

use std::io::Write;

use super::*;
use crate::assembly::{EntryPath, FileTree, Kind, Spill};

mod hostile;

fn tar_of(build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    build(&mut builder);
    builder.into_inner().unwrap()
}

pub(crate) fn put(builder: &mut tar::Builder<Vec<u8>>, path: &str, kind: tar::EntryType, link: &str, bytes: &[u8]) {
    let mut header = tar::Header::new_gnu();
    // Written as bytes: the builder itself would refuse hostile names.
    header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
    header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(if kind.is_dir() { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1000);
    header.set_size(bytes.len() as u64);
    header.set_cksum();
    builder.append(&header, bytes).unwrap();
}

fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = b"!<arch>\n".to_vec();
    for (name, bytes) in members {
        out.extend(format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, bytes.len()).bytes());
        out.extend_from_slice(bytes);
        if bytes.len() % 2 == 1 {
            out.push(b'\n');
        }
    }
    out
}

fn deb_with(control: &str, data_name: &str, data: &[u8]) -> Vec<u8> {
    let control = tar_of(|builder| put(builder, "./control", tar::EntryType::Regular, "", control.as_bytes()));
    ar(&[("debian-binary", b"2.0\n"), ("control.tar", &control), (data_name, data)])
}

pub(crate) fn deb(name: &str, build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
    deb_with(&format!("Package: {name}\nVersion: 1\n"), "data.tar", &tar_of(build))
}

fn read(bytes: &[u8]) -> Result<Deb, DebError> {
    read_within(bytes, &Limits::default())
}

fn read_within(bytes: &[u8], limits: &Limits) -> Result<Deb, DebError> {
    read_deb(bytes, &Spill::new(&std::env::temp_dir()).unwrap(), limits)
}

fn get<'a>(tree: &'a FileTree, path: &str) -> &'a Kind {
    &tree.get(&EntryPath::parse(path).unwrap()).unwrap().kind
}

pub(crate) const FILE: tar::EntryType = tar::EntryType::Regular;

#[test]
fn package_is_read_whatever_its_compression() {
    let data = tar_of(|builder| {
        put(builder, "./", tar::EntryType::Directory, "", b"");
        put(builder, "./bin/tool", FILE, "", b"tool");
        put(builder, "./usr/bin/same", tar::EntryType::Link, "./bin/tool", b"");
        put(builder, "./lib", tar::EntryType::Directory, "", b"");
    });
    let gz = {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        writer.write_all(&data).unwrap();
        writer.finish().unwrap()
    };
    let xz = {
        let mut writer = liblzma::write::XzEncoder::new(Vec::new(), 1);
        writer.write_all(&data).unwrap();
        writer.finish().unwrap()
    };
    let zst = zstd::encode_all(data.as_slice(), 1).unwrap();
    for (name, bytes) in [("data.tar", data), ("data.tar.gz", gz), ("data.tar.xz", xz), ("data.tar.zst", zst)] {
        let deb = read(&deb_with("Package: p\nArchitecture: all\n", name, &bytes)).unwrap();
        assert_eq!((deb.facts.name.as_str(), deb.facts.field("architecture")), ("p", Some("all")));
        let (Kind::File(tool), Kind::File(same)) = (get(&deb.tree, "usr/bin/tool"), get(&deb.tree, "usr/bin/same"))
        else {
            panic!()
        };
        assert!(std::sync::Arc::ptr_eq(tool, same));
        assert_eq!(tool.to_vec().unwrap(), b"tool");
        assert_eq!(deb.tree.len(), 2, "{name}");
        assert_eq!(deb.facts.programs.len(), 2);
    }
}

#[test]
fn hostile_packages_are_refused_by_what_they_do() {
    let entry = |path: &'static str, kind: tar::EntryType, link: &'static str| {
        deb("p", move |builder| put(builder, path, kind, link, b""))
    };
    for (bytes, expected) in [
        (entry("../../etc/passwd", FILE, ""), "is no path of an image"),
        (entry("./a/../../x", FILE, ""), "is no path of an image"),
        (entry("./.wh.etc", FILE, ""), "read as a deletion"),
        (entry("./dev/sda", tar::EntryType::Block, ""), "is a device"),
        (entry("./pipe", tar::EntryType::Fifo, ""), "is a special entry"),
        (entry("./x", tar::EntryType::Link, "/etc/shadow"), "no file before it"),
        (ar(&[("debian-binary", b"2.0\n"), ("evil", b"")]), "unknown member `evil`"),
        (ar(&[("debian-binary", b"3.0\n")]), "format version"),
        (ar(&[("debian-binary", b"2.0\n"), ("data.tar", b"")]), "before its control"),
        (b"not an archive".to_vec(), "no Debian package"),
        (deb_with("Version: 1\n", "data.tar", &[0; 1024]), "names no package"),
        (deb_with("Package: p\n", "data.tar.rar", b""), "unknown way"),
        (deb_with("Package: p\n", "data.tar.xz", b"not xz"), "cannot be read"),
    ] {
        let error = nebh_face::failure::chain(&read(&bytes).unwrap_err());
        assert!(error.contains(expected), "{error:?} has no {expected:?}");
    }
}

#[test]
fn truncated_package_is_refused_wherever_it_ends() {
    let whole = deb("p", |builder| put(builder, "./usr/bin/tool", FILE, "", &[1; 5000]));
    assert!(read(&whole).is_ok());
    // The last 1024 bytes are the end marker of the inner archive, which readers may do without.
    for end in (0..whole.len() - 1536).step_by(97) {
        assert!(read(&whole[..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn limits_end_a_bomb_before_it_grows() {
    let zeros = tar_of(|builder| put(builder, "./zeros", FILE, "", &vec![0; 4 << 20]));
    let bomb = deb_with("Package: p\n", "data.tar.zst", &zstd::encode_all(zeros.as_slice(), 1).unwrap());
    assert!(bomb.len() < 20_000);
    let error = read_within(&bomb, &Limits { bytes: 1 << 20, ..Limits::default() }).unwrap_err();
    assert!(error.to_string().contains("more bytes than the limit"), "{error}");
    let many = deb("p", |builder| (0..50).for_each(|n| put(builder, &format!("./f{n}"), FILE, "", b"")));
    let error = read_within(&many, &Limits { entries: 20, ..Limits::default() }).unwrap_err();
    assert!(error.to_string().contains("more entries than the limit"), "{error}");
}

fn facts(name: &str, files: &[(&str, &str)], programs: &[&str]) -> PackageFacts {
    PackageFacts {
        version: FACTS_VERSION,
        name: name.into(),
        control: format!("Package: {name}\n"),
        scripts: std::collections::BTreeMap::new(),
        programs: programs.iter().map(|program| (*program).to_owned()).collect(),
        files: files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect(),
        latest: 0,
    }
}

fn text(tree: &FileTree, path: &str) -> String {
    String::from_utf8(tree.content(path).unwrap().to_vec().unwrap()).unwrap()
}

#[test]
fn finishers_make_users_bundle_and_alternatives() {
    let packages = [
        facts(
            "base-passwd",
            &[
                (
                    "usr/share/base-passwd/passwd.master",
                    "root:*:0:0:root:/root:/bin/bash\nwww-data:*:33:33:www-data:/var/www:/usr/sbin/nologin\n",
                ),
                ("usr/share/base-passwd/group.master", "root:*:0:\nwww-data:*:33:\nadm:*:4:\n"),
            ],
            &[],
        ),
        facts(
            "db",
            &[(
                "usr/lib/sysusers.d/db.conf",
                "# the user\nu db - \"Data base\" /var/lib/db\nm db adm\ng extra 150\nu fixed 120:extra - - /bin/sh\n",
            )],
            &["usr/bin/gcc"],
        ),
        facts(
            "ca",
            &[("usr/share/ca-certificates/mozilla/B.crt", "B"), ("usr/share/ca-certificates/mozilla/A.crt", "A\n")],
            &[],
        ),
    ];
    let tree = finish(&packages, 5).unwrap();
    assert_eq!(
        text(&tree, "etc/passwd"),
        "root:x:0:0:root:/root:/bin/bash\nwww-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\n\
         db:x:999:999:Data base:/var/lib/db:/usr/sbin/nologin\nfixed:x:120:150::/:/bin/sh\n"
    );
    assert_eq!(text(&tree, "etc/group"), "root:x:0:\nwww-data:x:33:\nadm:x:4:db\ndb:x:999:\nextra:x:150:\n");
    assert!(text(&tree, "etc/shadow").starts_with("root:*::0:"));
    assert_eq!(text(&tree, "etc/ssl/certs/ca-certificates.crt"), "A\nB\n");
    assert!(matches!(get(&tree, "usr/bin/cc"), Kind::Link(target) if target == "/etc/alternatives/cc"));
    assert!(matches!(get(&tree, "etc/alternatives/cc"), Kind::Link(target) if target == "/usr/bin/gcc"));
    assert!(matches!(get(&tree, "lib64"), Kind::Link(target) if target == "usr/lib64"));
    assert!(finish(&[], 5).unwrap().is_empty());
}

#[test]
fn modules_of_nginx_are_switched_on_in_their_order() {
    let file = "usr/share/nginx/modules-available/mod-echo.conf";
    let mut module = facts("libnginx-mod-echo", &[], &[file]);
    module.scripts.insert("postinst".into(), "for confpair in mod-echo.conf:70-mod-echo.conf  ; do\nphpenmod\n".into());
    let tree = finish(std::slice::from_ref(&module), 5).unwrap();
    let link = get(&tree, "etc/nginx/modules-enabled/70-mod-echo.conf");
    assert!(matches!(link, Kind::Link(target) if target == "/usr/share/nginx/modules-available/mod-echo.conf"));
    assert_eq!(unhandled_script(&module), None);
}

#[test]
fn only_scripts_that_nothing_stands_for_are_named() {
    let with = |name: &str, script: &str| {
        let mut facts = facts(name, &[], &[]);
        facts.scripts.insert("postinst".into(), script.into());
        facts
    };
    let generated = "#!/bin/sh\nset -e\n# Automatically added by dh_installsystemd\nif [ \"$1\" = \"configure\" ] ; then\n\tdeb-systemd-helper unmask 'x' >/dev/null || true\nfi\n";
    assert_eq!(unhandled_script(&with("x", generated)), None);
    assert_eq!(unhandled_script(&with("php", "#!/bin/sh\nset -e\nphpenmod opcache\n")), Some("postinst"));
    assert_eq!(unhandled_script(&with("libc6", "anything")), None);
    assert_eq!(unhandled_script(&facts("plain", &[], &[])), None);
}

#[test]
fn materialized_tree_stays_inside_its_folder() {
    let dir = tempfile::tempdir().unwrap();
    let outside = dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let target: &'static str = String::leak(outside.to_str().unwrap().to_owned());
    let bytes = deb("p", move |builder| {
        put(builder, "./door", tar::EntryType::Symlink, target, b"");
        put(builder, "./door/stolen", FILE, "", b"x");
        put(builder, "./usr/bin/tool", FILE, "", b"tool");
        put(builder, "./usr/bin/same", tar::EntryType::Link, "./usr/bin/tool", b"");
    });
    let root = dir.path().join("root");
    materialize(read(&bytes).unwrap().tree, &root).unwrap();
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    assert!(root.join(target.trim_start_matches('/')).join("stolen").is_file());
    let inode = |name: &str| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(root.join(name)).unwrap());
    assert_eq!(inode("usr/bin/tool"), inode("usr/bin/same"));
}
