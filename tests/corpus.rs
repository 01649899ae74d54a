//! Every seed of every fuzz target, and a short run of changed ones: the same bytes each time, no coverage, no wait.
//! What `hack/fuzz` finds in its long runs becomes a seed, and is looked at here for ever after.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use nebh_oci::digest::Digest;

#[path = "../fuzz/src/targets/mod.rs"]
mod targets;

use targets::{TARGETS, Target};

/// Bytes of a seed, and of what is made from one: parsers that need more are slow for another reason.
const INPUT_BYTES_MAX: usize = 64 << 10;
/// Changes on top of each other, at most.
const CHANGES_MAX: usize = 8;
/// Words that decide things in the formats read here.
const WORDS: &[&str] = &[
    "sha256:",
    "null",
    "true",
    "{}",
    "[]",
    "\"\"",
    "-1",
    "0",
    "18446744073709551615",
    "9007199254740993",
    "1e400",
    "../",
    "/",
    "..",
    "\0",
    "\u{feff}",
    "\u{1b}[2J",
    "\\u0000",
    "*",
    "**",
    "&a",
    "*a",
    "<<: *a",
    "!!x",
    "\n",
    "\r\n",
    " ",
    "%2F",
    "bytes=",
    "-",
    ",",
    ":",
    "@",
    ".wh.",
    "mediaType",
    "schemaVersion",
    "digest",
    "size",
];

fn corpus() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

/// Seeds with their names, in order.
fn seeds(target: &Target) -> Vec<(String, Vec<u8>)> {
    let folder = corpus().join(target.name);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut seeds: Vec<(String, Vec<u8>)> = entries
        .map(|entry| entry.expect("the folder can be read"))
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, std::fs::read(entry.path()).expect("a seed can be read"))
        })
        .collect();
    seeds.sort();
    seeds
}

/// A generator that is the same everywhere (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(number).expect("31 bits") % below.max(1)
    }
}

/// One input changed a few times, by bits, blocks, words and pieces of another.
fn changed(from: &[u8], other: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = from.to_vec();
    for _ in 0..=dice.roll(CHANGES_MAX) {
        let at = dice.roll(bytes.len() + 1);
        let end = (at + dice.roll(16)).min(bytes.len());
        match dice.roll(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << dice.roll(8),
            1 if at < bytes.len() => bytes[at] = [0, 0xff, b'0', b'"', 0x80, b'/'][dice.roll(6)],
            2 => drop(bytes.drain(at..end)),
            3 => drop(bytes.splice(at..at, bytes[at..end].to_vec())),
            4 => bytes.truncate(at),
            5 => {
                let start = dice.roll(other.len() + 1);
                let end_of_piece = (start + dice.roll(600)).min(other.len());
                drop(bytes.splice(at..end, other[start..end_of_piece].iter().copied()));
            }
            _ => drop(bytes.splice(at..end, WORDS[dice.roll(WORDS.len())].bytes())),
        }
    }
    bytes.truncate(INPUT_BYTES_MAX);
    bytes
}

/// Runs one input; what falls is kept where it can be looked at, and named.
fn run(target: &Target, from: &str, bytes: &[u8]) -> Result<(), String> {
    let Err(panic) = catch_unwind(AssertUnwindSafe(|| (target.run)(bytes))) else { return Ok(()) };
    let why = panic.downcast_ref::<String>().cloned();
    let why = why.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default();
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/fuzz/found").join(target.name);
    let file = folder.join(Digest::sha256(bytes).short());
    let kept = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&file, bytes));
    kept.expect("the finding is kept");
    Err(format!("{} from {from}: {why}\n  the input: {}", target.name, file.display()))
}

/// All seeds of one target and what is near them, up to the first finding.
fn short_run(target: &Target) -> Result<(), String> {
    let seeds = seeds(target);
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    for (name, seed) in &seeds {
        run(target, name, seed)?;
        for _ in 0..target.short {
            let other = &seeds[dice.roll(seeds.len())].1;
            run(target, name, &changed(seed, other, &mut dice))?;
        }
    }
    Ok(())
}

#[test]
fn every_seed_and_what_is_near_it_holds_what_must_hold() {
    let findings: Vec<String> = TARGETS.iter().filter_map(|target| short_run(target).err()).collect();
    assert!(findings.is_empty(), "{} targets fell:\n{}", findings.len(), findings.join("\n"));
}

#[test]
fn every_target_has_seeds_and_every_corpus_a_target() {
    let named: BTreeSet<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(named.len(), TARGETS.len(), "a name for each target");
    let folders = std::fs::read_dir(corpus()).expect("the corpora are there");
    let found: BTreeSet<String> =
        folders.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    let named: BTreeSet<String> = named.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(found, named);
    for target in TARGETS {
        let seeds = seeds(target);
        assert!(!seeds.is_empty(), "{} has no seed", target.name);
        for (name, bytes) in seeds {
            assert!(bytes.len() <= INPUT_BYTES_MAX, "{}/{name} has {} bytes", target.name, bytes.len());
        }
    }
}

#[test]
fn a_target_that_falls_is_a_finding() {
    let falls = Target { name: "self-test", run: |bytes| assert!(bytes.len() < 3, "three bytes"), short: 0 };
    assert!(run(&falls, "here", b"ab").is_ok());
    let finding = run(&falls, "here", b"abc").expect_err("it fell");
    assert!(finding.contains("self-test from here: three bytes"), "{finding}");
}

fn read(file: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn what_is_instrumented_has_artefacts_of_its_own() {
    let manifest: toml::Value = toml::from_str(&read("fuzz/Cargo.toml")).expect("it is TOML");
    let levels = manifest["profile"]["dev"]["package"].as_table().expect("levels by package");
    let levels: BTreeSet<String> =
        levels.keys().filter(|name| *name != "*").map(|name| name.replace('-', "_")).collect();
    let wrapper = read("hack/fuzz-rustc");
    let list = wrapper.lines().find_map(|line| line.strip_prefix("instrumented='")).expect("the list");
    let listed: BTreeSet<String> = list.trim_end_matches('\'').split(' ').map(str::to_owned).collect();
    assert_eq!(listed, levels, "hack/fuzz-rustc and [profile.dev.package] of fuzz/Cargo.toml");
}

#[test]
fn fuzz_program_is_built_from_what_the_product_is_built_from() {
    let packages = |file: &str| -> BTreeSet<(String, String)> {
        let lock: toml::Value = toml::from_str(&read(file)).expect("it is TOML");
        let text = |package: &toml::Value, field: &str| package[field].as_str().expect("a text").to_owned();
        let packages = lock["package"].as_array().expect("packages").iter();
        packages.map(|package| (text(package, "name"), text(package, "version"))).collect()
    };
    let ours = packages("Cargo.lock");
    let fuzz = packages("fuzz/Cargo.lock");
    let strange: Vec<&(String, String)> = fuzz
        .difference(&ours)
        .filter(|(name, _)| !["libfuzzer-sys", "arbitrary", "nebh-fuzz"].contains(&name.as_str()))
        .collect();
    assert!(
        strange.is_empty(),
        "fuzz/Cargo.lock is of another time ({strange:?}): cp Cargo.lock fuzz/ && cargo metadata --manifest-path fuzz/Cargo.toml"
    );
}
