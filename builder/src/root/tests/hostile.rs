//! Archives that an attacker would make: a crate that somebody depends on, a package of a mirror that was taken over.
//!
//! | attack (what it stands for) | test |
//! |---|---|
//! | `..`, absolute hard links, `.wh.` names, devices, pipes, wrong members (RUSTSEC-2018-0002, -2021-0080, CVE-2020-10696) | `super::hostile_packages_are_refused_by_what_they_do` |
//! | a file through a link (RUSTSEC-2026-0067, CVE-2026-33056) | `super::materialized_tree_stays_inside_its_folder`, `file_through_a_link_of_the_same_archive…` |
//! | NUL, bytes that are no UTF-8, names without end | `names_that_no_path_has_are_refused`, `long_name_without_end…` |
//! | two sizes, two names for one entry (CVE-2025-62518) | `entry_with_two_sizes_or_two_names_is_refused` |
//! | an entry that stands there twice | `file_that_stands_in_the_archive_twice_is_refused` |
//! | sparse files, global and unknown headers | `extensions_that_only_some_readers_know_are_refused` |
//! | records and names as a bomb for the reader's memory | `long_name_without_end_fills_no_memory` |
//! | content that unpacks to more than its headers say, bodies of folders | `bomb_in_the_body_of_a_folder_is_ended`, `super::limits_end_a_bomb_before_it_grows` |
//! | hundreds of thousands of small files | `small_files_by_the_hundred_thousand_do_not_stay_in_memory` |
//! | hard links by the hundred thousand | looked up by identity; only a clock could tell, and no test here asks one |
//! | times before and after every calendar | `time_beyond_every_calendar_is_refused` |
//! | set-id bits, owners out of range | `set_id_bits_do_not_reach_a_toolchain`, `names_that_no_path_has_are_refused` |
//! | control archive: without end, with a file twice, with large files | `control_archive_of_a_million_nothings_is_ended`, `control_file_that_stands_there_twice_is_refused` |
//! | a large file where finishers read | `certificate_of_gigabytes_is_not_read` |
//! | user lines that are two lines, or root's | `account_that_would_be_another_line_is_refused` |
//! | truncation | `super::truncated_package_is_refused_wherever_it_ends` |
//! | bytes after the end, members after the data | not looked at: the digest of the whole file is checked before, and what is not read is in no image |
//! | names that differ in case only | two files, as on every file system that an image is unpacked on |
//! | memory of the decoders | `Limits::decoder_memory`, and a window of 128 MiB |

use std::io::Read;

use super::*;

fn spill() -> Spill {
    Spill::new(&std::env::temp_dir()).unwrap()
}

/// Reads a tar stream as a crate's is read.
fn read_crate(bytes: &[u8]) -> Result<FileTree, String> {
    read_crate_within(bytes, &Limits::default())
}

fn read_crate_within(bytes: impl Read, limits: &Limits) -> Result<FileTree, String> {
    read_tar_tree("crate", bytes, &spill(), limits, |path, _| Ok(Some(path.clone())))
        .map_err(|error| nebh_face::failure::chain(&error))
}

fn record(key: &str, value: &str) -> String {
    let rest = format!(" {key}={value}\n");
    let mut length = rest.len();
    while length != rest.len() + length.to_string().len() {
        length = rest.len() + length.to_string().len();
    }
    format!("{length}{rest}")
}

fn refused(bytes: &[u8], expected: &str) {
    let error = read_crate(bytes).unwrap_err();
    assert!(error.contains(expected), "{error:?} has no {expected:?}");
}

#[test]
fn names_that_no_path_has_are_refused() {
    for (name, expected) in [
        ("a\u{0}b", "a"),
        ("/../x", "is no path of an image"),
        ("a/./b", "is no path of an image"),
        ("a//b", "is no path of an image"),
    ] {
        let made = tar_of(|builder| put(builder, name, FILE, "", b""));
        match read_crate(&made) {
            // A header's name ends at its NUL.
            Ok(tree) => assert!(tree.get(&EntryPath::parse(expected).unwrap()).is_some()),
            Err(error) => assert!(error.contains(expected), "{error}"),
        }
    }
    let long = tar_of(|builder| {
        put(builder, "././@LongLink", tar::EntryType::GNULongName, "", b"a\0../../b\0");
        put(builder, "short", FILE, "", b"");
    });
    refused(&long, "is no path of an image");
    let mut latin = tar_of(|builder| put(builder, "x", FILE, "", b""));
    latin[0] = 0xff;
    let sum: u32 = latin[..512]
        .iter()
        .enumerate()
        .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) })
        .sum();
    latin[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    refused(&latin, "not UTF-8");
    let owner = tar_of(|builder| {
        put(builder, "a", tar::EntryType::XHeader, "", record("uid", "99999999999").as_bytes());
        put(builder, "b", FILE, "", b"");
    });
    refused(&owner, "owner is out of range");
}

#[test]
fn long_name_without_end_fills_no_memory() {
    for (kind, what) in [
        (tar::EntryType::GNULongName, "bytes of a name"),
        (tar::EntryType::GNULongLink, "bytes of a name"),
        (tar::EntryType::XHeader, "bytes of records"),
    ] {
        // A header that announces eight gigabytes, and a stream that has them.
        let mut header = tar::Header::new_gnu();
        header.set_path("x").unwrap();
        header.set_entry_type(kind);
        header.set_size(8 << 30);
        header.set_mode(0o644);
        header.set_cksum();
        let stream = header.as_bytes().chain(std::io::repeat(b'a'));
        let error = read_crate_within(stream, &Limits::default()).unwrap_err();
        assert!(error.contains(&format!("has more {what} than the limit")), "{error}");
    }
}

#[test]
fn entry_with_two_sizes_or_two_names_is_refused() {
    let with = |records: &str| {
        tar_of(|builder| {
            put(builder, "p", tar::EntryType::XHeader, "", records.as_bytes());
            put(builder, "file", FILE, "", b"12345");
        })
    };
    refused(&with(&record("size", "512")), "two sizes");
    refused(&with(&(record("path", "a") + &record("path", "b"))), "described twice");
    let both = tar_of(|builder| {
        put(builder, "l", tar::EntryType::GNULongName, "", b"one\0");
        put(builder, "p", tar::EntryType::XHeader, "", record("path", "two").as_bytes());
        put(builder, "file", FILE, "", b"");
    });
    refused(&both, "described twice");
    // The same said twice is one thing.
    let tree = read_crate(&with(&(record("size", "5") + &record("path", "named")))).unwrap();
    assert_eq!(tree.content("named").unwrap().to_vec().unwrap(), b"12345");
}

#[test]
fn file_that_stands_in_the_archive_twice_is_refused() {
    let made = tar_of(|builder| {
        put(builder, "./a", FILE, "", b"shown to the scanner");
        put(builder, "a", FILE, "", b"taken by the compiler");
    });
    refused(&made, "`a` stands there twice");
    let folders = tar_of(|builder| (0..2).for_each(|_| put(builder, "a/", tar::EntryType::Directory, "", b"")));
    assert_eq!(read_crate(&folders).unwrap().len(), 1);
}

#[test]
fn extensions_that_only_some_readers_know_are_refused() {
    let one = |kind, bytes: &[u8]| tar_of(|builder| put(builder, "x", kind, "", bytes));
    let old_sparse = tar_of(|builder| {
        let mut header = tar::Header::new_gnu();
        header.set_path("x").unwrap();
        header.set_entry_type(tar::EntryType::GNUSparse);
        header.set_mode(0o644);
        header.set_size(0);
        header.set_mtime(1);
        header.as_gnu_mut().unwrap().set_real_size(0);
        header.set_cksum();
        builder.append(&header, &[][..]).unwrap();
    });
    refused(&old_sparse, "special entry");
    refused(&one(tar::EntryType::XGlobalHeader, record("path", "all").as_bytes()), "special entry");
    refused(&one(tar::EntryType::Continuous, b""), "special entry");
    let sparse = tar_of(|builder| {
        put(builder, "p", tar::EntryType::XHeader, "", record("GNU.sparse.name", "x").as_bytes());
        put(builder, "file", FILE, "", b"");
    });
    refused(&sparse, "sparse");
    refused(&one(tar::EntryType::XHeader, b"no record at all"), "cannot be read");
    refused(&one(tar::EntryType::GNULongName, b"of nothing\0"), "belongs to the next entry");
}

#[test]
fn bomb_in_the_body_of_a_folder_is_ended() {
    // No reader keeps the body of a folder, and every one has to unpack it to come to the next entry.
    let mut header = tar::Header::new_gnu();
    header.set_path("folder/").unwrap();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_size(1 << 40);
    header.set_mode(0o755);
    header.set_cksum();
    let limits = Limits { bytes: 1 << 20, entries: 10, ..Limits::default() };
    let error = read_crate_within(header.as_bytes().chain(std::io::repeat(0)), &limits).unwrap_err();
    assert!(error.contains("unpacks to more bytes"), "{error}");
}

#[test]
fn small_files_by_the_hundred_thousand_do_not_stay_in_memory() {
    let spill = spill();
    let bytes = vec![7u8; 16 << 10];
    let kept: Vec<_> = (0..6000).map(|_| spill.take(&mut bytes.as_slice(), bytes.len() as u64).unwrap()).collect();
    let in_memory = kept.iter().filter(|content| matches!(content, crate::assembly::Content::Bytes(_))).count();
    assert!((1000..5000).contains(&in_memory), "{in_memory} of them");
    assert_eq!(kept.last().unwrap().to_vec().unwrap(), bytes);
}

#[test]
fn time_beyond_every_calendar_is_refused() {
    for time in [u64::MAX, u64::MAX / 2, 1 << 34] {
        let made = tar_of(|builder| {
            let mut header = tar::Header::new_gnu();
            header.set_path("late").unwrap();
            header.set_mode(0o644);
            header.set_size(0);
            header.set_mtime(time);
            header.set_cksum();
            builder.append(&header, &[][..]).unwrap();
        });
        refused(&made, "time is out of range");
    }
}

#[test]
fn set_id_bits_do_not_reach_a_toolchain() {
    use std::os::unix::fs::PermissionsExt;
    let made = tar_of(|builder| {
        let mut header = tar::Header::new_gnu();
        header.set_path("su").unwrap();
        header.set_mode(0o6755);
        header.set_size(0);
        header.set_mtime(1);
        header.set_cksum();
        builder.append(&header, &[][..]).unwrap();
    });
    let dir = tempfile::tempdir().unwrap();
    materialize(read_crate(&made).unwrap(), &dir.path().join("root")).unwrap();
    let mode = std::fs::metadata(dir.path().join("root/su")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o755);
}

#[test]
fn file_through_a_link_of_the_same_archive_stays_inside() {
    let dir = tempfile::tempdir().unwrap();
    let outside = dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    // A link that arises only once another one was followed: `a` leads to `b`, and `a/c` is then `b/c`.
    let made = tar_of(|builder| {
        put(builder, "a", tar::EntryType::Symlink, "b", b"");
        put(builder, "a/c", tar::EntryType::Symlink, outside.to_str().unwrap(), b"");
        put(builder, "b/c/stolen", FILE, "", b"x");
    });
    let _refused_or_inside = read_crate(&made).map(|tree| materialize(tree, &dir.path().join("root")));
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
}

fn error_of(bytes: &[u8]) -> String {
    nebh_face::failure::chain(&read_deb(bytes, &spill(), &Limits::default()).unwrap_err())
}

fn with_control(control: &[u8]) -> Vec<u8> {
    ar(&[("debian-binary", b"2.0\n"), ("control.tar", control), ("data.tar", &[0; 1024])])
}

#[test]
fn control_archive_of_a_million_nothings_is_ended() {
    let control = tar_of(|builder| (0..2000).for_each(|n| put(builder, &format!("n{n}"), FILE, "", b"")));
    let error = error_of(&with_control(&control));
    assert!(error.contains("has more entries than the limit of 1000"), "{error}");
}

#[test]
fn control_file_that_stands_there_twice_is_refused() {
    let control = tar_of(|builder| {
        put(builder, "./control", FILE, "", b"Package: shown\n");
        put(builder, "control", FILE, "", b"Package: meant\n");
    });
    let error = error_of(&with_control(&control));
    assert!(error.contains("`control` stands there twice"), "{error}");
}

#[test]
fn certificate_of_gigabytes_is_not_read() {
    let bytes = vec![b'x'; 17 << 20];
    let made = deb("ca", |builder| put(builder, "./usr/share/ca-certificates/big.crt", FILE, "", &bytes));
    let error = error_of(&made);
    assert!(error.contains("bytes that are read for users and certificates"), "{error}");
    let made = deb("doc", |builder| put(builder, "./usr/share/doc/big", FILE, "", &bytes));
    assert!(read_deb(made.as_slice(), &spill(), &Limits::default()).is_ok());
}

#[test]
fn header_of_an_archive_member_that_lies_is_refused() {
    for (at, byte) in [(56, b'9'), (57, b'-'), (66, b'x')] {
        let mut made = deb("p", |builder| put(builder, "./a", FILE, "", b"x"));
        made[at] = byte;
        assert!(read_deb(made.as_slice(), &spill(), &Limits::default()).is_err(), "{at}");
    }
}

#[test]
fn account_that_would_be_another_line_is_refused() {
    let facts = |line: &str| PackageFacts {
        version: FACTS_VERSION,
        name: "evil".to_owned(),
        control: "Package: evil\n".to_owned(),
        scripts: std::collections::BTreeMap::new(),
        programs: std::collections::BTreeSet::new(),
        files: [
            ("usr/share/base-passwd/passwd.master", "root:*:0:0:root:/root:/bin/bash\n"),
            ("usr/share/base-passwd/group.master", "root:*:0:\n"),
            ("usr/lib/sysusers.d/evil.conf", line),
        ]
        .map(|(path, text)| (path.to_owned(), text.as_bytes().to_vec()))
        .into(),
        latest: 0,
    };
    for line in [
        "u toor:x:0:0::/:/bin/sh - \"\" /",
        "u a - \"x:0:0::/:/bin/sh\"",
        "u a - x /root:/bin/sh",
        "g a:x:0",
        "m a root:x:0",
        "u a 5:b:c",
        "u -rf 5",
    ] {
        let error = finish(&[facts(line)], 1).unwrap_err();
        assert!(matches!(error, FinishError::Account { .. }), "{line}: {error}");
    }
    let tree = finish(&[facts("u good 7:root \"A good user\" /srv /bin/sh\nm good root\nu! also -\nr - 500-900\n")], 1)
        .unwrap();
    let Kind::File(passwd) = &tree.get(&EntryPath::parse("etc/passwd").unwrap()).unwrap().kind else { panic!() };
    assert!(String::from_utf8(passwd.to_vec().unwrap()).unwrap().contains("good:x:7:0:A good user:/srv:/bin/sh\n"));
}
