//! What the machine's apt is set up to use: its sources (both forms of the file) and the keys it accepts.
//! Side effect: reads apt's configuration files.

use std::fs;
use std::path::{Path, PathBuf};

use crate::lock::DebianArchive;

/// Bytes of one configuration file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// One source of packages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    /// Address of the archive.
    pub(super) address: String,
    /// Suites that are read from it.
    pub(super) suites: Vec<String>,
    /// Who may sign it.
    pub(super) signed_by: SignedBy,
}

/// Who may sign a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SignedBy {
    /// Keys of these files.
    Files(Vec<PathBuf>),
    /// Keys that stand in the source itself.
    Keys(String),
    /// Any key that apt trusts.
    Trusted,
}

impl Source {
    /// The security archive lies under an address of its own, and is told by the names of its suites.
    pub(super) fn archive(&self) -> DebianArchive {
        let security = |suite: &String| suite.ends_with("-security") || suite.contains("-security/");
        if self.suites.iter().all(security) { DebianArchive::DebianSecurity } else { DebianArchive::Debian }
    }
}

/// Where apt's configuration is.
pub(super) struct Folders {
    pub(super) etc: PathBuf,
}

impl Folders {
    pub(super) fn of_machine() -> Self {
        Self { etc: "/etc/apt".into() }
    }
}

/// Every source that is an archive of Debian, in the order that apt reads them.
///
/// Other vendors' repositories stand in the same files: an archive of Debian is one that has the component `main` and a
/// suite that is a plain name, signed by a keyring of the distribution or by no keyring of its own.
pub(super) fn sources(folders: &Folders) -> Vec<Source> {
    let mut files = vec![folders.etc.join("sources.list")];
    if let Ok(entries) = fs::read_dir(folders.etc.join("sources.list.d")) {
        let mut inner: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        inner.sort();
        files.extend(inner);
    }
    let mut sources = Vec::new();
    for file in files {
        let Some(text) = read(&file) else { continue };
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("sources") => sources.extend(parse_deb822(&text)),
            Some("list") => sources.extend(parse_list(&text)),
            _ => {}
        }
    }
    sources.retain(|source| is_distribution(&source.signed_by));
    // The distribution's own file is named for it, and stands for the machine before anybody's additions.
    sources
}

fn is_distribution(signed_by: &SignedBy) -> bool {
    match signed_by {
        SignedBy::Files(files) => files.iter().any(|file| {
            file.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("debian-archive"))
        }),
        SignedBy::Keys(_) | SignedBy::Trusted => true,
    }
}

fn read(file: &Path) -> Option<String> {
    (fs::metadata(file).ok()?.len() <= FILE_BYTES_MAX).then(|| fs::read_to_string(file).ok())?
}

/// The form of today: paragraphs of `Types`, `URIs`, `Suites`, `Components`, `Signed-By`.
pub(super) fn parse_deb822(text: &str) -> Vec<Source> {
    // Comments may stand between the lines of a paragraph, where the parser does not expect them.
    let bare: String = text.lines().filter(|line| !line.starts_with('#')).flat_map(|line| [line, "\n"]).collect();
    let Ok(paragraphs) = deb822_fast::borrowed::parse_borrowed(&bare) else { return Vec::new() };
    let mut sources = Vec::new();
    for paragraph in &paragraphs {
        let words = |name: &str| {
            let text = paragraph.get_field(name).map(|field| field.lines().join(" ")).unwrap_or_default();
            text.split_ascii_whitespace().map(str::to_owned).collect::<Vec<String>>()
        };
        let is_enabled = paragraph.get_single("Enabled").is_none_or(|text| !text.eq_ignore_ascii_case("no"));
        if !is_enabled
            || !words("Types").contains(&"deb".to_owned())
            || !words("Components").contains(&"main".to_owned())
        {
            continue;
        }
        let signed_by = match paragraph.get_field("Signed-By") {
            None => SignedBy::Trusted,
            Some(field) if field.join().contains("BEGIN PGP") => {
                // An empty line of the key stands in the file as a dot.
                let lines = field.lines().iter().map(|line| if line.trim() == "." { "" } else { line.trim() });
                SignedBy::Keys(lines.collect::<Vec<_>>().join("\n"))
            }
            Some(_) => signed_by(words("Signed-By").iter().map(String::as_str)),
        };
        for address in words("URIs") {
            sources.push(Source { address, suites: words("Suites"), signed_by: signed_by.clone() });
        }
    }
    sources.retain(|source| is_web(&source.address));
    sources
}

/// The old form: `deb [signed-by=FILE] ADDRESS SUITE COMPONENT…`.
pub(super) fn parse_list(text: &str) -> Vec<Source> {
    let parse = |line: &str| {
        let line = line.split('#').next()?.trim();
        let rest = line.strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
        let (options, rest) = match rest.strip_prefix('[') {
            Some(rest) => rest.split_once(']')?,
            None => ("", rest),
        };
        let mut words = rest.split_ascii_whitespace();
        let (address, suite) = (words.next()?, words.next()?);
        if !is_web(address) || !words.any(|component| component == "main") {
            return None;
        }
        let told = options.split_ascii_whitespace().find_map(|option| option.strip_prefix("signed-by="));
        let signed_by = told.map_or(SignedBy::Trusted, |told| signed_by(told.split(',')));
        Some(Source { address: address.to_owned(), suites: vec![suite.to_owned()], signed_by })
    };
    text.lines().filter_map(parse).collect()
}

fn signed_by<'a>(words: impl Iterator<Item = &'a str>) -> SignedBy {
    let files: Vec<PathBuf> = words.filter(|word| word.starts_with('/')).map(PathBuf::from).collect();
    if files.is_empty() { SignedBy::Trusted } else { SignedBy::Files(files) }
}

fn is_web(address: &str) -> bool {
    address.starts_with("http://") || address.starts_with("https://")
}

/// The keys that apt trusts for sources that name none.
pub(super) fn trusted_keyrings() -> Vec<PathBuf> {
    let is_key = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "gpg" || extension == "asc");
    let Ok(entries) = fs::read_dir("/etc/apt/trusted.gpg.d") else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_key).collect();
    files.sort();
    files
}

/// The keyring of the package `debian-archive-keyring`: it has the keys of the release before and of the next.
pub(super) fn distribution_keyrings() -> Vec<PathBuf> {
    let names = ["debian-archive-keyring.pgp", "debian-archive-keyring.gpg"];
    let paths = names.iter().map(|name| Path::new("/usr/share/keyrings").join(name));
    paths.filter(|path| path.is_file()).take(1).collect()
}
