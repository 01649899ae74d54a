//! Keeps the house in order: headers, sizes, pure files, dependency arrows, banned words, hosts that must not be named.
//!
//! Each test names every offender with file and line, so that one run is enough to mend them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Lines of a file outside its tests. A room that needs more is two rooms.
const FILE_LINES_MAX: usize = 400;
/// Lines of a function. A ratchet: names on the list below stand for a reason given beside them.
const FUNCTION_LINES_MAX: usize = 70;
/// Functions that may be longer, each with its reason.
const LONG_FUNCTIONS: &[(&str, &str)] = &[("step", "the whole life of a node in one match, read top to bottom")];
/// Words that a file whose header says `Pure.` may not hold.
const IMPURE: &[&str] = &[
    "tokio::",
    "std::fs",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "SystemTime",
    "Instant::now",
    "Timestamp::now",
    "rand::",
    "std::process",
    "async fn",
];
/// Identifiers that the glossary bans.
const BANNED_TYPES: &[&str] = &["Config", "Snapshot", "Recipe", "Fleet", "Gc"];
/// Hosts that may stand in the tree: identifiers of formats, never contacted, and names reserved for examples.
const NAMED_HOSTS: &[&str] = &[
    "127.0.0.1",
    "localhost",
    "[::1]",
    "slsa.dev",
    "in-toto.io",
    "sigstore.dev",
    "cyclonedx.org",
    "spdx.org",
    "spdx.dev",
    "nebh.invalid",
    "www.apache.org",
    "json-schema.org",
    "nebh.dev",
    "example.org",
    "example.com",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files that git tracks or would track, relative to the root.
fn files() -> Vec<PathBuf> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git runs");
    assert!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let mut files: Vec<PathBuf> = output
        .stdout
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| PathBuf::from(String::from_utf8_lossy(name).into_owned()))
        .filter(|file| root().join(file).is_file())
        .collect();
    files.sort();
    assert!(files.len() > 10, "git lists the tree");
    files
}

fn rust_files() -> Vec<(PathBuf, String)> {
    files()
        .into_iter()
        .filter(|file| file.extension().is_some_and(|extension| extension == "rs"))
        .map(|file| {
            let text = std::fs::read_to_string(root().join(&file)).expect("a tracked file can be read");
            (file, text)
        })
        .collect()
}

fn is_test_file(file: &Path) -> bool {
    file.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "benches")
        || file.file_name().is_some_and(|name| name == "tests.rs")
}

/// The text before the unit tests. Other things that only tests need may stand anywhere.
pub(crate) fn without_tests(text: &str) -> &str {
    let tests = ["mod tests", "pub(crate) mod tests"].map(|tests| format!("\n#[cfg(test)]\n{tests}"));
    tests.iter().filter_map(|tests| text.find(tests)).min().map_or(text, |at| &text[..at])
}

fn header(text: &str) -> String {
    text.lines().take_while(|line| line.starts_with("//!")).collect::<Vec<_>>().join("\n")
}

fn none(offenders: &[String], rule: &str) {
    assert!(offenders.is_empty(), "{rule}:\n  {}", offenders.join("\n  "));
}

#[test]
fn every_file_says_what_lives_there() {
    let offenders: Vec<String> = rust_files()
        .iter()
        .filter(|(_, text)| !text.starts_with("//! "))
        .map(|(file, _)| file.display().to_string())
        .collect();
    none(&offenders, "a Rust file opens with `//!` and says what lives there");
}

#[test]
fn no_file_is_longer_than_a_room() {
    let offenders: Vec<String> = rust_files()
        .iter()
        .filter(|(file, _)| !is_test_file(file))
        .map(|(file, text)| (file, without_tests(text).lines().count()))
        .filter(|(_, lines)| *lines > FILE_LINES_MAX)
        .map(|(file, lines)| format!("{}: {lines} lines", file.display()))
        .collect();
    none(&offenders, "a file has at most 400 lines outside its tests");
}

#[test]
fn no_function_is_longer_than_a_page() {
    let mut offenders = Vec::new();
    for (file, text) in rust_files().iter().filter(|(file, _)| !is_test_file(file)) {
        for (name, at, lines) in functions(without_tests(text)) {
            if lines > FUNCTION_LINES_MAX && !LONG_FUNCTIONS.iter().any(|(allowed, _)| *allowed == name) {
                offenders.push(format!("{}:{at}: fn {name} has {lines} lines", file.display()));
            }
        }
    }
    none(&offenders, "a function has at most 70 lines");
}

/// Name, first line and length of each function, by the indentation that rustfmt gives.
fn functions(text: &str) -> Vec<(String, usize, usize)> {
    let mut found = Vec::new();
    let mut open: Vec<(String, usize, usize)> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        if let Some(name) = function_name(line.trim_start()) {
            open.push((name, number + 1, indent));
        }
        if line.trim() == "}"
            && let Some((_, _, at)) = open.last()
            && *at == indent
            && let Some((name, first, _)) = open.pop()
        {
            found.push((name, first, number + 2 - first));
        }
        if line.trim_end().ends_with('}') && function_name(line.trim_start()).is_some() {
            open.pop();
        }
    }
    found
}

fn function_name(line: &str) -> Option<String> {
    let mut rest = line;
    for word in ["pub(crate) ", "pub(super) ", "pub ", "const ", "async ", "unsafe "] {
        rest = rest.strip_prefix(word).unwrap_or(rest);
    }
    let name: String = rest.strip_prefix("fn ")?.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}

#[test]
fn pure_files_are_pure() {
    let mut offenders = Vec::new();
    let mut pure = 0;
    for (file, text) in rust_files() {
        if !header(&text).contains("Pure.") || is_test_file(&file) {
            continue;
        }
        pure += 1;
        for (number, line) in without_tests(&text).lines().enumerate() {
            let code = line.split("//").next().unwrap_or(line);
            for word in IMPURE.iter().filter(|word| code.contains(**word)) {
                offenders.push(format!("{}:{}: {word}", file.display(), number + 1));
            }
        }
    }
    assert!(pure > 5, "only {pure} files say `Pure.`: is the mark still read?");
    none(&offenders, "a file that says `Pure.` has no I/O, no clock, no async");
}

#[test]
fn banned_words_are_absent() {
    let mut offenders = Vec::new();
    for (file, text) in rust_files() {
        if file.starts_with("buildspecs") || file == Path::new("tests/tidy.rs") {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            for kind in ["struct", "enum", "trait", "type"] {
                for word in BANNED_TYPES {
                    let pattern = format!("{kind} {word}");
                    if line
                        .trim_start()
                        .trim_start_matches("pub ")
                        .strip_prefix(&pattern)
                        .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
                    {
                        offenders.push(format!("{}:{}: {pattern}", file.display(), number + 1));
                    }
                }
            }
            let ignore = concat!("#[ign", "ore");
            for mark in [concat!("TO", "DO"), concat!("FIX", "ME"), ignore, "todo!(", "unimplemented!("] {
                if line.contains(mark) {
                    offenders.push(format!("{}:{}: {mark}", file.display(), number + 1));
                }
            }
        }
    }
    none(&offenders, "words that the house does not use");
}

#[test]
fn no_upstream_host_is_named() {
    let mut offenders = Vec::new();
    for file in files() {
        let name = file.to_string_lossy().into_owned();
        if name.ends_with("Cargo.lock") || name == "LICENSE" || name.contains("/fixtures/") || name == "tests/tidy.rs" {
            continue;
        }
        let Ok(text) = std::fs::read_to_string(root().join(&file)) else { continue };
        for (number, line) in text.lines().enumerate() {
            for scheme in ["http://", "https://", "git://", "ssh://"] {
                for rest in line.split(scheme).skip(1) {
                    let host: String =
                        rest.chars().take_while(|c| c.is_ascii_alphanumeric() || "-.[]:_".contains(*c)).collect();
                    let host = host.trim_end_matches(['.', ':']);
                    if !is_named(host) {
                        offenders.push(format!("{name}:{}: {scheme}{host}", number + 1));
                    }
                }
            }
        }
    }
    none(&offenders, "upstream hosts come from settings or from the machine's own clients, never from the tree");
}

/// Known identifiers, reserved example names, and anything that is no host at all (a template, an empty string).
fn is_named(host: &str) -> bool {
    let bare = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    !bare.contains('.')
        || NAMED_HOSTS.contains(&bare)
        || [".invalid", ".example", ".test", ".localhost"].iter().any(|reserved| bare.ends_with(reserved))
        || bare.starts_with("127.")
}

#[test]
fn crates_depend_only_along_the_arrows() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    let mut arrows: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in metadata["packages"].as_array().expect("packages") {
        let name = package["name"].as_str().expect("a name").to_owned();
        let ours = package["dependencies"].as_array().expect("dependencies").iter();
        let ours = ours.filter_map(|dependency| dependency["name"].as_str()).filter(|name| name.starts_with("nebh"));
        arrows.insert(name, ours.map(str::to_owned).collect());
    }
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("nebh-face", &[][..]),
        ("nebh-oci", &[][..]),
        ("nebh-trust", &["nebh-face", "nebh-oci"][..]),
        ("nebh-builder", &["nebh-face", "nebh-oci", "nebh-trust"][..]),
        ("nebh-gateway", &["nebh-face", "nebh-oci", "nebh-trust"][..]),
        ("nebh-deployer", &["nebh-face", "nebh-oci", "nebh-trust"][..]),
        ("nebh", &["nebh-face", "nebh-oci", "nebh-trust", "nebh-builder", "nebh-gateway", "nebh-deployer"][..]),
    ]);
    let mut offenders = Vec::new();
    for (name, used) in &arrows {
        let Some(may) = allowed.get(name.as_str()) else {
            offenders.push(format!("{name} is not on the map of the design"));
            continue;
        };
        offenders
            .extend(used.iter().filter(|used| !may.contains(&used.as_str())).map(|used| format!("{name} → {used}")));
    }
    assert_eq!(arrows.len(), allowed.len(), "every crate of the map is there: {:?}", arrows.keys());
    none(&offenders, "oci ◄ trust ◄ {builder, gateway, deployer}; face below all");
}

#[test]
fn the_length_of_a_function_is_counted() {
    let text =
        "fn a() {\n    b();\n}\n\npub(crate) async fn c(\n    d: u8,\n) -> u8 {\n    if d > 1 {\n        d\n    }\n}\n";
    assert_eq!(functions(text), vec![("a".to_owned(), 1, 3), ("c".to_owned(), 5, 7)]);
}
