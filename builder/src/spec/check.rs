//! From the YAML text to a [`Buildspec`]: the wire structs, and the checks that know a place in the file. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::str::FromStr;

use nebh_face::{Failure, document};
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::document::{Buildspec, CopyRule, FilesStep, ImageSpec, Profile, RustStep, Step};
use super::nouns::{BinName, Suite};

/// The suite that a Rust step's tools come from unless told: current enough for most lock files by its backports.
const TOOLCHAIN_DEFAULT: &str = "debian/trixie";
/// Programs of one step, packages asked for, copied paths: a person writes them, a page of each is plenty.
const ITEMS_MAX: usize = 500;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Wire {
    name: Spanned<String>,
    #[serde(default)]
    build: WireBuild,
    image: WireImage,
    #[serde(default)]
    accept_expired: Vec<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WireBuild {
    rust: Option<WireRust>,
    files: Option<WireFiles>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WireRust {
    bins: Spanned<Vec<Spanned<String>>>,
    toolchain: Option<Spanned<String>>,
    #[serde(default)]
    packages: Vec<Spanned<String>>,
    #[serde(default)]
    features: Vec<Spanned<String>>,
    profile: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WireFiles {
    copy: Spanned<Vec<WireCopy>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WireCopy {
    from: Spanned<String>,
    to: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WireImage {
    base: Spanned<String>,
    #[serde(default)]
    packages: Vec<Spanned<String>>,
    #[serde(default)]
    entrypoint: Vec<Spanned<String>>,
    #[serde(default)]
    cmd: Vec<Spanned<String>>,
    user: Option<Spanned<String>>,
    #[serde(default)]
    env: BTreeMap<String, Spanned<String>>,
    workdir: Option<Spanned<String>>,
    #[serde(default)]
    ports: Vec<Spanned<String>>,
    stop_signal: Option<Spanned<String>>,
    #[serde(default)]
    labels: BTreeMap<String, Spanned<String>>,
    configure: Option<Spanned<bool>>,
}

impl Buildspec {
    /// Parses a buildspec. `file` is named, with line and column, in the failure.
    pub fn parse(file: &str, text: &str) -> Result<Self, Failure> {
        let wire: Wire = document::parse(file, text)?;
        let at = Places { file };
        let mut steps = Vec::new();
        if let Some(rust) = &wire.build.rust {
            steps.push(Step::Rust(at.rust(rust)?));
        }
        if let Some(files) = &wire.build.files {
            steps.push(Step::Files(at.files(files)?));
        }
        Ok(Self {
            name: at.noun(&wire.name)?,
            steps,
            image: at.image(&wire.image)?,
            accept_expired: at.distinct::<Suite>("suite", &wire.accept_expired)?,
        })
    }
}

/// Turns wire values into nouns, and names their place where they are none.
struct Places<'a> {
    file: &'a str,
}

impl Places<'_> {
    fn wrong<T>(&self, item: &Spanned<T>, message: &str) -> Failure {
        document::wrong(self.file, item.referenced.line(), item.referenced.column(), message)
    }

    fn noun<T: FromStr<Err: Display>>(&self, item: &Spanned<String>) -> Result<T, Failure> {
        item.value.parse().map_err(|error: T::Err| self.wrong(item, &error.to_string()))
    }

    fn distinct<T: FromStr<Err: Display> + Ord + Clone>(
        &self,
        what: &str,
        items: &[Spanned<String>],
    ) -> Result<Vec<T>, Failure> {
        let mut seen = BTreeSet::new();
        let mut nouns = Vec::with_capacity(items.len());
        for item in items {
            let noun: T = self.noun(item)?;
            if !seen.insert(noun.clone()) {
                return Err(self.wrong(item, &format!("{what} `{}` is named twice", item.value)));
            }
            if seen.len() > ITEMS_MAX {
                return Err(self.wrong(item, &format!("more than {ITEMS_MAX} of {what}")));
            }
            nouns.push(noun);
        }
        Ok(nouns)
    }

    fn rust(&self, wire: &WireRust) -> Result<RustStep, Failure> {
        if wire.bins.value.is_empty() {
            return Err(self.wrong(&wire.bins, "`bins` names no program"));
        }
        let toolchain = match &wire.toolchain {
            Some(text) => self.noun(text)?,
            None => TOOLCHAIN_DEFAULT.parse().map_err(|_| self.wrong(&wire.bins, "no toolchain"))?,
        };
        let profile = match &wire.profile {
            // A profile is named like a program, and lands in a folder name in the same way.
            Some(text) => Profile(self.noun::<BinName>(text)?.to_string()),
            None => Profile("release".to_owned()),
        };
        Ok(RustStep {
            bins: self.distinct("program", &wire.bins.value)?,
            toolchain,
            packages: self.distinct("package", &wire.packages)?,
            features: wire.features.iter().map(|text| self.feature(text)).collect::<Result<_, _>>()?,
            profile,
        })
    }

    fn feature(&self, text: &Spanned<String>) -> Result<String, Failure> {
        let legal = |c: char| c.is_ascii_alphanumeric() || "-_+./?".contains(c);
        if text.value.is_empty() || text.value.starts_with('-') || !text.value.chars().all(legal) {
            return Err(self.wrong(text, &format!("`{}` is not a cargo feature", text.value.escape_debug())));
        }
        Ok(text.value.clone())
    }

    fn files(&self, wire: &WireFiles) -> Result<FilesStep, Failure> {
        if wire.copy.value.is_empty() || wire.copy.value.len() > ITEMS_MAX {
            return Err(self.wrong(&wire.copy, &format!("`copy` names 1 to {ITEMS_MAX} paths")));
        }
        let rule = |copy: &WireCopy| {
            // A slash at the end of a folder is how most people write it.
            let trimmed = |item: &Spanned<String>| {
                let value = item.value.strip_suffix('/').filter(|rest| !rest.is_empty()).unwrap_or(&item.value);
                Spanned::new(value.to_owned(), item.referenced, item.defined)
            };
            Ok(CopyRule { from: self.noun(&trimmed(&copy.from))?, to: self.noun(&trimmed(&copy.to))? })
        };
        Ok(FilesStep { copy: wire.copy.value.iter().map(rule).collect::<Result<_, Failure>>()? })
    }

    fn image(&self, wire: &WireImage) -> Result<ImageSpec, Failure> {
        if let Some(configure) = &wire.configure
            && configure.value
        {
            return Err(self
                .wrong(configure, "`configure: true` (running packages' own scripts) is not in this version yet")
                .next("take the line out; users, CA bundle, alternatives and caches are made without scripts"));
        }
        Ok(ImageSpec {
            base: self.noun(&wire.base)?,
            packages: self.distinct("package", &wire.packages)?,
            entrypoint: self.arguments(&wire.entrypoint)?,
            cmd: self.arguments(&wire.cmd)?,
            user: wire.user.as_ref().map(|user| self.noun(user)).transpose()?,
            env: self.pairs(&wire.env, "variable", |key| !key.contains('='))?,
            workdir: wire.workdir.as_ref().map(|path| self.noun(path)).transpose()?,
            ports: self.distinct("port", &wire.ports)?,
            stop_signal: wire.stop_signal.as_ref().map(|signal| self.signal(signal)).transpose()?,
            labels: self.pairs(&wire.labels, "label", |_| true)?,
        })
    }

    fn arguments(&self, items: &[Spanned<String>]) -> Result<Vec<String>, Failure> {
        let argument = |item: &Spanned<String>| {
            if item.value.contains('\0') {
                return Err(self.wrong(item, "an argument has no NUL byte"));
            }
            Ok(item.value.clone())
        };
        items.iter().map(argument).collect()
    }

    fn pairs(
        &self,
        wire: &BTreeMap<String, Spanned<String>>,
        what: &str,
        legal: fn(&str) -> bool,
    ) -> Result<BTreeMap<String, String>, Failure> {
        let pair = |(key, item): (&String, &Spanned<String>)| {
            if key.is_empty() || !legal(key) || key.contains('\0') || item.value.contains('\0') {
                return Err(self.wrong(item, &format!("`{}` is not a {what} name", key.escape_debug())));
            }
            Ok((key.clone(), item.value.clone()))
        };
        wire.iter().map(pair).collect()
    }

    fn signal(&self, item: &Spanned<String>) -> Result<String, Failure> {
        const SIGNALS: [&str; 10] = ["HUP", "INT", "QUIT", "KILL", "USR1", "USR2", "TERM", "CONT", "STOP", "WINCH"];
        let short = item.value.strip_prefix("SIG").unwrap_or(&item.value);
        if SIGNALS.contains(&short) {
            return Ok(format!("SIG{short}"));
        }
        let failure = self.wrong(item, &format!("`{}` is not a signal", item.value.escape_debug()));
        Err(match document::nearest(short, &SIGNALS) {
            Some(close) => failure.next(format!("did you mean `{close}`?")),
            None => failure.next(format!("valid here: {}", SIGNALS.join(", "))),
        })
    }
}
