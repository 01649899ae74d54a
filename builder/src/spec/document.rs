//! The values of a buildspec after parsing: nothing in them needs a further check. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use nebh_oci::names::Repository;

use super::nouns::{BinName, ImagePath, NounError, PackageRequest, Suite, TreePath};

/// The file name that every command looks for.
pub const BUILDSPEC_FILE: &str = "buildspec.yaml";

/// A whole buildspec.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Buildspec {
    /// The name of what is built; also its repository where none is told.
    pub name: Repository,
    /// The steps, at most one of each kind, in the order rust, files. Empty for an image of packages only.
    pub steps: Vec<Step>,
    /// The image that is made of their outputs.
    pub image: ImageSpec,
    /// Suites whose signed validity may be over. Said in the lock and in the provenance.
    pub accept_expired: Vec<Suite>,
}

impl Buildspec {
    /// The Rust step, if there is one.
    pub fn rust(&self) -> Option<&RustStep> {
        self.steps.iter().find_map(|step| match step {
            Step::Rust(rust) => Some(rust),
            Step::Files(_) => None,
        })
    }

    /// The files step, if there is one.
    pub fn files(&self) -> Option<&FilesStep> {
        self.steps.iter().find_map(|step| match step {
            Step::Files(files) => Some(files),
            Step::Rust(_) => None,
        })
    }
}

/// One typed step: the builder knows how to run it without network and to the same bytes.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Compiles programs of a cargo package or workspace.
    Rust(RustStep),
    /// Copies files of the commit.
    Files(FilesStep),
}

/// Compiles programs with cargo; they land in `/usr/bin`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RustStep {
    /// The programs, at least one.
    pub bins: Vec<BinName>,
    /// Where compiler and linker come from.
    pub toolchain: Toolchain,
    /// Further toolchain packages, such as `cmake` or `libssl-dev`.
    pub packages: Vec<PackageRequest>,
    /// Cargo features that are switched on.
    pub features: Vec<String>,
    /// The cargo profile.
    pub profile: Profile,
}

/// Where a step's tools come from: the packages of a Debian suite, unpacked only.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Toolchain {
    /// `debian/<suite>`.
    Debian(Suite),
}

impl FromStr for Toolchain {
    type Err = NounError;
    fn from_str(text: &str) -> Result<Self, NounError> {
        let Some(suite) = text.strip_prefix("debian/") else {
            return Err(NounError::new("toolchain", text, "this version knows `debian/<suite>`"));
        };
        Ok(Self::Debian(suite.parse()?))
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Debian(suite) = self;
        write!(f, "debian/{suite}")
    }
}

/// A cargo profile name: `release` unless told.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Profile(pub(super) String);

impl Profile {
    /// The name, as `cargo --profile` takes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Copies files and folders of the commit into the image.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct FilesStep {
    /// What goes where, in the order of the buildspec.
    pub copy: Vec<CopyRule>,
}

/// One file or folder of the commit and its place in the image.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct CopyRule {
    /// In the project. A folder is copied with all that is in it.
    pub from: TreePath,
    /// In the image. For a folder, the name that its content gets; for a file, the file's whole path.
    pub to: ImagePath,
}

/// The image: what it stands on, what is in it, how it runs.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ImageSpec {
    /// What it stands on.
    pub base: Base,
    /// Packages that were asked for, in the order of the buildspec.
    pub packages: Vec<PackageRequest>,
    /// OCI entrypoint.
    pub entrypoint: Vec<String>,
    /// OCI command.
    pub cmd: Vec<String>,
    /// OCI user; none means root.
    pub user: Option<User>,
    /// Environment of the program.
    pub env: BTreeMap<String, String>,
    /// Working folder.
    pub workdir: Option<ImagePath>,
    /// Ports that the program listens on.
    pub ports: Vec<Port>,
    /// Signal that ends the program, with its `SIG`.
    pub stop_signal: Option<String>,
    /// OCI labels.
    pub labels: BTreeMap<String, String>,
}

/// What an image stands on.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Base {
    /// `debian/<suite>`: packages of that suite, with its updates and its security suite.
    DebianSuite(Suite),
}

impl FromStr for Base {
    type Err = NounError;
    fn from_str(text: &str) -> Result<Self, NounError> {
        let Some(suite) = text.strip_prefix("debian/") else {
            return Err(NounError::new("base", text, "this version knows `debian/<suite>`"));
        };
        Ok(Self::DebianSuite(suite.parse()?))
    }
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::DebianSuite(suite) = self;
        write!(f, "debian/{suite}")
    }
}

/// A user as an image config names it: `65532`, `65532:65532`, `www-data`, `www-data:www-data`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct User(String);

impl User {
    /// The text of the image config.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for User {
    type Err = NounError;
    fn from_str(text: &str) -> Result<Self, NounError> {
        let legal = |part: &str| {
            let numeric = part.bytes().all(|b| b.is_ascii_digit());
            let named = part.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b == b'_')
                && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b));
            !part.is_empty() && part.len() <= 32 && (named || (numeric && part.parse::<u32>().is_ok()))
        };
        let parts: Vec<&str> = text.split(':').collect();
        if parts.len() > 2 || !parts.iter().all(|part| legal(part)) {
            return Err(NounError::new("user", text, "write `65532`, `65532:65532` or `www-data`"));
        }
        Ok(Self(text.to_owned()))
    }
}

/// A port and its protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Port {
    /// 1 to 65535.
    pub number: u16,
    /// True for UDP.
    pub udp: bool,
}

impl FromStr for Port {
    type Err = NounError;
    fn from_str(text: &str) -> Result<Self, NounError> {
        let wrong = || NounError::new("port", text, "write `8080`, `8080/tcp` or `53/udp`");
        let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let number: u16 = number.parse().map_err(|_| wrong())?;
        if number == 0 || !matches!(protocol, "tcp" | "udp") {
            return Err(wrong());
        }
        Ok(Self { number, udp: protocol == "udp" })
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, if self.udp { "udp" } else { "tcp" })
    }
}
