//! What the scripts of packages would have done on a fresh system, as a tree of its own: links of a merged `/usr`, users
//! and groups, the CA bundle, alternatives.
//! Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::PackageFacts;
use crate::assembly::{Entry, EntryPath, FileTree, Meta, PathError, TreeError};

/// Number of what the finishers below make; a change that an image could show is a new number.
pub const FINISHERS: u32 = 2;

/// Ids that packages' own users get, from the top down, as systemd gives them.
const SYSTEM_ID_LAST: u32 = 999;
/// Ids below belong to the distribution.
const SYSTEM_ID_FIRST: u32 = 100;

/// Programs that a package offers under a common name: the name, and who may stand for it, the best first.
const ALTERNATIVES: [(&str, &[&str]); 12] = [
    ("usr/bin/awk", &["usr/bin/gawk", "usr/bin/mawk"]),
    ("usr/bin/c++", &["usr/bin/g++", "usr/bin/clang++"]),
    ("usr/bin/c89", &["usr/bin/c89-gcc"]),
    ("usr/bin/c99", &["usr/bin/c99-gcc"]),
    ("usr/bin/cc", &["usr/bin/gcc", "usr/bin/clang"]),
    ("usr/bin/nc", &["usr/bin/nc.openbsd", "usr/bin/nc.traditional"]),
    ("usr/bin/nawk", &["usr/bin/gawk", "usr/bin/mawk"]),
    ("usr/bin/pager", &["usr/bin/less", "usr/bin/more"]),
    ("usr/bin/rsh", &["usr/bin/ssh"]),
    ("usr/bin/which", &["usr/bin/which.debianutils"]),
    ("usr/bin/yacc", &["usr/bin/bison.yacc", "usr/bin/byacc"]),
    ("usr/sbin/rmt", &["usr/sbin/rmt-tar"]),
];

/// Where packages put modules of nginx that are not switched on yet.
const NGINX_MODULES: &str = "usr/share/nginx/modules-available/";

/// Why a root cannot be finished.
#[derive(Debug, thiserror::Error)]
pub enum FinishError {
    /// A path that cannot be.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Two finishers disagree.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A line that would be read as another one, or as two.
    #[error("a package declares the user or group `{}`, which is no name or has a field that no account has", name.escape_debug())]
    Account {
        /// Whose.
        name: String,
    },
    /// More packages' users than there are ids.
    #[error("no system id is left for the user or group `{name}`")]
    NoId {
        /// Whose.
        name: String,
    },
}

/// The finishing tree of a set of packages. All its files have the time `mtime`.
pub fn finish(packages: &[PackageFacts], mtime: u64) -> Result<FileTree, FinishError> {
    let mut finisher = Finisher { tree: FileTree::default(), mtime };
    if packages.is_empty() {
        return Ok(finisher.tree);
    }
    finisher.merged_usr()?;
    finisher.users(packages)?;
    finisher.ca_bundle(packages)?;
    finisher.alternatives(packages)?;
    finisher.nginx_modules(packages)?;
    Ok(finisher.tree)
}

struct Finisher {
    tree: FileTree,
    mtime: u64,
}

impl Finisher {
    fn file(&mut self, path: &str, mode: u32, gid: u32, bytes: Vec<u8>) -> Result<(), FinishError> {
        let meta = Meta { gid, ..Meta::root(mode, self.mtime) };
        Ok(self.tree.insert(EntryPath::parse(path)?, Entry::file(meta, bytes))?)
    }

    fn link(&mut self, path: &str, target: &str) -> Result<(), FinishError> {
        Ok(self.tree.insert(EntryPath::parse(path)?, Entry::link(target, self.mtime))?)
    }

    /// `base-files` of Debian 13 brings these links; earlier releases leave them to the installer.
    fn merged_usr(&mut self) -> Result<(), FinishError> {
        for name in ["bin", "lib", "lib64", "sbin"] {
            self.link(name, &format!("usr/{name}"))?;
        }
        for name in ["usr/bin", "usr/lib", "usr/lib64", "usr/sbin"] {
            self.tree.insert(EntryPath::parse(name)?, Entry::folder(Meta::root(0o755, 0)))?;
        }
        Ok(())
    }

    fn users(&mut self, packages: &[PackageFacts]) -> Result<(), FinishError> {
        let text = |path: &str| {
            packages
                .iter()
                .find_map(|package| package.files.get(path))
                .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        };
        let (Some(passwd), Some(group)) =
            (text("usr/share/base-passwd/passwd.master"), text("usr/share/base-passwd/group.master"))
        else {
            return Ok(());
        };
        let mut accounts = Accounts::new(&passwd, &group);
        for lines in sysusers(packages).values() {
            for line in lines.lines() {
                accounts.declare(line)?;
            }
        }
        let (passwd, group, shadow) = accounts.files();
        self.file("etc/passwd", 0o644, 0, passwd.into())?;
        self.file("etc/group", 0o644, 0, group.into())?;
        // Readable by the group `shadow`, as Debian has it. No account has a password.
        self.file("etc/shadow", 0o640, 42, shadow.into())
    }

    fn ca_bundle(&mut self, packages: &[PackageFacts]) -> Result<(), FinishError> {
        let mut bundle = Vec::new();
        let mut links = Vec::new();
        let certificates: BTreeMap<&String, &Vec<u8>> = packages
            .iter()
            .flat_map(|package| &package.files)
            .filter(|(path, _)| path.starts_with("usr/share/ca-certificates/"))
            .collect();
        for (path, bytes) in certificates {
            let Some(stem) = path.strip_suffix(".crt") else { continue };
            bundle.extend_from_slice(bytes);
            if !bytes.ends_with(b"\n") {
                bundle.push(b'\n');
            }
            let name = stem.rsplit('/').next().unwrap_or(stem);
            links.push((format!("etc/ssl/certs/{name}.pem"), format!("/{path}")));
        }
        if bundle.is_empty() {
            return Ok(());
        }
        self.file("etc/ssl/certs/ca-certificates.crt", 0o644, 0, bundle)?;
        links.iter().try_for_each(|(path, target)| self.link(path, target))
    }

    /// Each module package switches its module on, at a place in the order that its script names: `NAME:50-NAME`.
    fn nginx_modules(&mut self, packages: &[PackageFacts]) -> Result<(), FinishError> {
        for package in packages {
            let script = package.scripts.get("postinst").map_or("", String::as_str);
            for path in package.programs.iter().filter(|path| path.starts_with(NGINX_MODULES)) {
                let name = &path[NGINX_MODULES.len()..];
                let pair = script.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix(':'));
                let enabled = pair.map_or_else(|| format!("50-{name}"), str::to_owned);
                self.link(&format!("etc/nginx/modules-enabled/{enabled}"), &format!("/{path}"))?;
            }
        }
        Ok(())
    }

    fn alternatives(&mut self, packages: &[PackageFacts]) -> Result<(), FinishError> {
        let programs: BTreeSet<&str> =
            packages.iter().flat_map(|package| &package.programs).map(String::as_str).collect();
        for (name, candidates) in ALTERNATIVES {
            if programs.contains(name) {
                continue;
            }
            if let Some(found) = candidates.iter().find(|candidate| programs.contains(**candidate)) {
                let short = name.rsplit('/').next().unwrap_or(name);
                self.link(&format!("etc/alternatives/{short}"), &format!("/{found}"))?;
                self.link(name, &format!("/etc/alternatives/{short}"))?;
            }
        }
        Ok(())
    }
}

/// The `sysusers.d` files in order of their names, one of each name.
fn sysusers(packages: &[PackageFacts]) -> BTreeMap<&str, String> {
    packages
        .iter()
        .flat_map(|package| &package.files)
        .filter_map(|(path, bytes)| {
            let name = path.strip_prefix("usr/lib/sysusers.d/")?;
            Some((name, String::from_utf8_lossy(bytes).into_owned()))
        })
        .collect()
}

/// `/etc/passwd` and `/etc/group` in the making.
struct Accounts {
    passwd: Vec<String>,
    groups: Vec<(String, u32, BTreeSet<String>)>,
    users: BTreeMap<String, u32>,
}

impl Accounts {
    fn new(passwd: &str, group: &str) -> Self {
        let fields = |line: &str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
        let mut accounts = Self { passwd: Vec::new(), groups: Vec::new(), users: BTreeMap::new() };
        for line in passwd.lines().filter(|line| !line.is_empty()) {
            let mut parts = fields(line);
            if parts.len() == 7 {
                // The master's `*` means "no password"; with shadow files it is written there.
                "x".clone_into(&mut parts[1]);
                accounts.users.insert(parts[0].clone(), parts[2].parse().unwrap_or(0));
                accounts.passwd.push(parts.join(":"));
            }
        }
        for line in group.lines().filter(|line| !line.is_empty()) {
            let parts = fields(line);
            if let [name, _, gid, ..] = parts.as_slice() {
                accounts.groups.push((name.clone(), gid.parse().unwrap_or(0), BTreeSet::new()));
            }
        }
        accounts
    }

    /// One line of a `sysusers.d` file: `u`, `g` and `m` lines; ranges are the administrator's business.
    fn declare(&mut self, line: &str) -> Result<(), FinishError> {
        let fields = words(line);
        let field =
            |index: usize| fields.get(index).map(String::as_str).filter(|text| *text != "-" && !text.is_empty());
        let (Some(kind), Some(name)) = (field(0), field(1)) else { return Ok(()) };
        let plain = |text: &str| !text.contains(|c: char| c == ':' || c.is_control());
        let is_name = |name: &str| plain(name) && !name.starts_with('-') && !name.contains([',', '/', ' ']);
        // The third field of a user is `uid:gid`; that of a membership is a group.
        let fields_are_plain = fields.iter().skip(3).all(|text| plain(text));
        if !is_name(name)
            || !fields_are_plain
            || (kind == "m" && !field(2).is_none_or(is_name))
            || field(2).is_some_and(|id| id.matches(':').count() > 1)
        {
            return Err(FinishError::Account { name: name.to_owned() });
        }
        match kind {
            "g" => drop(self.group(name, field(2))?),
            "m" => {
                if let Some(group) = field(2) {
                    self.group(group, None)?;
                    if let Some((_, _, members)) = self.groups.iter_mut().find(|(known, _, _)| known == group) {
                        members.insert(name.to_owned());
                    }
                }
            }
            "u" | "u!" => self.user(name, field(2), field(3), field(4), field(5))?,
            _ => {}
        }
        Ok(())
    }

    fn user(
        &mut self,
        name: &str,
        id: Option<&str>,
        gecos: Option<&str>,
        home: Option<&str>,
        shell: Option<&str>,
    ) -> Result<(), FinishError> {
        if self.users.contains_key(name) {
            return Ok(());
        }
        // `uid:gid` or `uid:group` names the main group; else it is a group of the user's own name.
        let (uid, group) =
            id.map_or((None, None), |id| id.split_once(':').map_or((Some(id), None), |(u, g)| (Some(u), Some(g))));
        let gid = match group.map(|group| (group, group.parse::<u32>())) {
            Some((_, Ok(gid))) => gid,
            Some((group, Err(_))) => self.group(group, None)?,
            None => self.group(name, uid)?,
        };
        let uid = match uid.and_then(|uid| uid.parse().ok()) {
            Some(uid) => uid,
            None if self.is_free(gid) => gid,
            None => self.free_id(name)?,
        };
        let (gecos, home) = (gecos.unwrap_or(""), home.unwrap_or("/"));
        let shell = shell.unwrap_or("/usr/sbin/nologin");
        self.passwd.push(format!("{name}:x:{uid}:{gid}:{gecos}:{home}:{shell}"));
        self.users.insert(name.to_owned(), uid);
        Ok(())
    }

    fn group(&mut self, name: &str, id: Option<&str>) -> Result<u32, FinishError> {
        if let Some((_, gid, _)) = self.groups.iter().find(|(known, _, _)| known == name) {
            return Ok(*gid);
        }
        let gid = match id.and_then(|id| id.parse().ok()) {
            Some(gid) => gid,
            None => self.free_id(name)?,
        };
        self.groups.push((name.to_owned(), gid, BTreeSet::new()));
        Ok(gid)
    }

    fn is_free(&self, uid: u32) -> bool {
        !self.users.values().any(|known| *known == uid)
    }

    fn free_id(&self, name: &str) -> Result<u32, FinishError> {
        (SYSTEM_ID_FIRST..=SYSTEM_ID_LAST)
            .rev()
            .find(|id| self.is_free(*id) && !self.groups.iter().any(|(_, gid, _)| gid == id))
            .ok_or_else(|| FinishError::NoId { name: name.to_owned() })
    }

    fn files(&self) -> (String, String, String) {
        let lines = |lines: Vec<String>| lines.into_iter().map(|line| line + "\n").collect::<String>();
        let groups = self.groups.iter().map(|(name, gid, members)| {
            format!("{name}:x:{gid}:{}", members.iter().map(String::as_str).collect::<Vec<_>>().join(","))
        });
        let shadow = self.passwd.iter().map(|line| {
            // No day of the last change: it would be the day of the build.
            format!("{}:*::0:99999:7:::", line.split(':').next().unwrap_or_default())
        });
        (lines(self.passwd.clone()), lines(groups.collect()), lines(shadow.collect()))
    }
}

/// The words of a `sysusers.d` line; quotes hold a word together, `#` begins a comment.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut begun) = (Vec::new(), String::new(), false, false);
    for character in line.chars() {
        match character {
            '#' if !quoted && !begun && words.is_empty() => break,
            '"' => (quoted, begun) = (!quoted, true),
            c if c.is_whitespace() && !quoted => {
                if begun {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            c => {
                word.push(c);
                begun = true;
            }
        }
    }
    if begun {
        words.push(word);
    }
    words
}
