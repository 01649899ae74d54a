//! Skeletons of manifests, and the files step's rules.

use std::collections::{BTreeMap, BTreeSet};

use super::manifest::{is_wanted, skeleton};

fn texts(files: &[(&str, &str)]) -> BTreeMap<String, String> {
    files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
}

const LOCK: &str = "version = 4\n[[package]]\nname = \"app\"\nversion = \"1.2.3\"\ndependencies = [\"serde\", \"util 1.2.3\"]\n\
                    [[package]]\nname = \"serde\"\nversion = \"1.0.0\"\nsource = \"registry+x\"\nchecksum = \"00\"\n\
                    [[package]]\nname = \"util\"\nversion = \"1.2.3\"\n";

#[test]
fn skeleton_has_every_root_file_empty_and_no_test() {
    let manifest = "[package]\nname = \"app\"\nversion = \"1.2.3\"\nbuild = \"make.rs\"\n[[bin]]\nname = \"other\"\npath = \"tools/other.rs\"\n\
                    [[test]]\nname = \"slow\"\npath = \"slow.rs\"\n[dependencies]\nserde = \"1\"\nutil = { path = \"util\" }\n";
    let util = "[package]\nname = \"util\"\nversion = \"1.2.3\"\n";
    let files = texts(&[
        ("Cargo.toml", manifest),
        ("util/Cargo.toml", util),
        ("Cargo.lock", LOCK),
        (".cargo/config.toml", "[build]\n"),
    ]);
    let paths = BTreeSet::from([
        "src/main.rs",
        "src/bin/tool.rs",
        "src/bin/big/main.rs",
        "src/bin/big/part.rs",
        "src/lib.rs",
        "util/src/lib.rs",
        "slow.rs",
        "make.rs",
        "tools/other.rs",
    ]);
    let made = skeleton(&paths, &files).unwrap();
    let names: Vec<&str> = made.files.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            ".cargo/config.toml",
            "Cargo.lock",
            "Cargo.toml",
            "make.rs",
            "src/bin/big/main.rs",
            "src/bin/tool.rs",
            "src/lib.rs",
            "src/main.rs",
            "tools/other.rs",
            "util/Cargo.toml",
            "util/src/lib.rs"
        ]
    );
    assert_eq!((made.files["src/lib.rs"].as_str(), made.files["make.rs"].as_str()), ("", "fn main() {}\n"));
    assert_eq!(made.members, BTreeSet::from(["app".to_owned(), "util".to_owned()]));
    assert!(!made.files["Cargo.toml"].contains("slow"));
}

#[test]
fn target_that_lies_beside_its_package_is_found_and_one_outside_the_source_is_left_to_cargo() {
    let member = |path: &str| {
        format!("[package]\nname = \"a\"\nversion = \"1.0.0\"\n[[bin]]\nname = \"x\"\npath = \"{path}\"\n")
    };
    for (path, made) in [
        ("../shared/./main.rs", Some("shared/main.rs")),
        ("src//x.rs", Some("a/src/x.rs")),
        ("../../../etc/passwd", None),
        ("/etc/passwd", None),
        ("..", None),
    ] {
        let skeleton = skeleton(&BTreeSet::new(), &texts(&[("a/Cargo.toml", &member(path))])).unwrap();
        let others: Vec<&str> =
            skeleton.files.keys().map(String::as_str).filter(|name| *name != "a/Cargo.toml").collect();
        assert_eq!(others, made.into_iter().collect::<Vec<_>>(), "{path}");
    }
}

#[test]
fn version_of_the_application_does_not_matter_for_its_dependencies() {
    let with = |version: &str| {
        let manifest = format!("[package]\nname = \"app\"\nversion = \"{version}\"\n[dependencies]\nserde = \"1\"\n");
        let lock = LOCK.replace("1.2.3", version);
        skeleton(&BTreeSet::from(["src/main.rs"]), &texts(&[("Cargo.toml", &manifest), ("Cargo.lock", &lock)])).unwrap()
    };
    assert_eq!(with("1.2.3"), with("2.0.0"));
    let changed = "[package]\nname = \"app\"\nversion = \"1.2.3\"\n[dependencies]\nserde = { version = \"1\", features = [\"rc\"] }\n";
    let other =
        skeleton(&BTreeSet::from(["src/main.rs"]), &texts(&[("Cargo.toml", changed), ("Cargo.lock", LOCK)])).unwrap();
    assert_ne!(with("1.2.3"), other);
}

#[test]
fn version_that_a_dependency_asks_for_is_kept() {
    let manifest =
        "[package]\nname = \"app\"\nversion = \"1.2.3\"\n[dependencies]\nutil = { path = \"util\", version = \"1\" }\n";
    let made = skeleton(&BTreeSet::new(), &texts(&[("Cargo.toml", manifest), ("Cargo.lock", LOCK)])).unwrap();
    assert!(made.files["Cargo.lock"].contains("1.2.3") && made.files["Cargo.toml"].contains("1.2.3"));
}

#[test]
fn project_that_puts_its_own_crates_in_the_place_of_the_locked_ones_is_refused() {
    let with =
        |path: &str, text: &str| skeleton(&BTreeSet::new(), &texts(&[("Cargo.toml", "[workspace]\n"), (path, text)]));
    for (text, key) in [
        ("[source.crates-io]\nreplace-with = \"mine\"\n[source.mine]\ndirectory = \"mine\"\n", "source"),
        ("paths = [\"mine/serde\"]\n", "paths"),
        ("include = \"more.toml\"\n", "include"),
    ] {
        for path in [".cargo/config.toml", ".cargo/config"] {
            let error = with(path, text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{path}` sets `{key}`: crates come from the lock")), "{error}");
        }
        with("deeper/.cargo/config.toml", text).unwrap();
    }
    with(".cargo/config.toml", "[build]\nrustflags = []\n").unwrap();
}

#[test]
fn only_manifests_locks_and_cargo_settings_are_wanted() {
    for path in ["Cargo.toml", "a/Cargo.toml", "Cargo.lock", ".cargo/config.toml", "a/.cargo/config"] {
        assert!(is_wanted(path), "{path}");
    }
    for path in ["src/main.rs", "a/Cargo.lock", "config.toml", "README.md"] {
        assert!(!is_wanted(path), "{path}");
    }
}
