//! A suite's package list (`Packages`), after its digest was checked. Pure.

use std::str::FromStr;

use deb822_fast::borrowed::{BorrowedParagraph, iter_paragraphs_borrowed};
use debversion::Version;
use nebh_oci::digest::Digest;

/// Packages of one list; Debian's main component has about 70,000.
const PACKAGES_MAX: usize = 500_000;
/// Bytes of one field that is kept.
const FIELD_BYTES_MAX: usize = 256 << 10;

/// One package of a list.
#[derive(Clone, Debug)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// Its version as it is written: `1.0` and `1.0-0` are equal, but only one of them is a file's name.
    pub version_text: String,
    /// `all` or an architecture.
    pub architecture: String,
    /// What it needs: `Pre-Depends` and `Depends`, one after the other.
    pub depends: String,
    /// What it cannot be with: `Conflicts` and `Breaks`.
    pub conflicts: String,
    /// What else it answers for.
    pub provides: String,
    /// `required` first; decides between two packages that answer for the same name.
    pub priority: Priority,
    /// Path on the mirror.
    pub path: String,
    /// Bytes of the file.
    pub size: u64,
    /// Digest of the file.
    pub sha256: Digest,
}

/// Debian's priorities, most important first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Needed for a system that can repair itself.
    Required,
    /// Expected on any Unix.
    Important,
    /// A sensible system without graphics.
    Standard,
    /// All else.
    Optional,
}

/// Reads a whole list. A paragraph that breaks Debian's policy fails it: the list was signed as it is.
pub fn parse_packages(text: &str) -> Result<Vec<Package>, String> {
    let mut packages = Vec::new();
    for paragraph in iter_paragraphs_borrowed(text) {
        let paragraph = paragraph.map_err(|error| error.to_string())?;
        packages.push(parse_package(&paragraph)?);
        if packages.len() > PACKAGES_MAX {
            return Err(format!("more than {PACKAGES_MAX} packages"));
        }
    }
    Ok(packages)
}

fn parse_package(paragraph: &BorrowedParagraph<'_>) -> Result<Package, String> {
    let name = paragraph.get_single("Package").ok_or("a package without a name")?;
    let field = |field: &str| {
        let text = paragraph.get_single(field).ok_or_else(|| format!("package `{name}` has no field {field}"))?;
        if text.len() > FIELD_BYTES_MAX {
            return Err(format!("package `{name}` has a field {field} of {} bytes", text.len()));
        }
        Ok(text.trim())
    };
    let wrong = |field: &str| format!("package `{name}` has a malformed field {field}");
    let relations = |fields: [&str; 2]| {
        let mut text = String::new();
        for field in fields.iter().filter_map(|field| paragraph.get_field(field)) {
            if !text.is_empty() {
                text.push_str(", ");
            }
            text.push_str(&field.lines().concat());
        }
        text
    };
    let version = field("Version")?;
    Ok(Package {
        name: name.to_owned(),
        version: Version::from_str(version).map_err(|_| wrong("Version"))?,
        version_text: version.to_owned(),
        architecture: field("Architecture")?.to_owned(),
        depends: relations(["Pre-Depends", "Depends"]),
        conflicts: relations(["Conflicts", "Breaks"]),
        provides: paragraph.get_field("Provides").map(|field| field.lines().concat()).unwrap_or_default(),
        priority: match paragraph.get_single("Priority") {
            Some("required") => Priority::Required,
            Some("important") => Priority::Important,
            Some("standard") => Priority::Standard,
            _ => Priority::Optional,
        },
        path: field("Filename")?.trim_start_matches("./").to_owned(),
        size: field("Size")?.parse().map_err(|_| wrong("Size"))?,
        sha256: format!("sha256:{}", field("SHA256")?).parse().map_err(|_| wrong("SHA256"))?,
    })
}
