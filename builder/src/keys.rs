//! Key files on disk: making a pair, opening one, and where its passphrase comes from. Owns the side effects of that:
//! two files, the environment, the terminal.

use std::io::{IsTerminal, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nebh_face::{Exit, Failure};
use nebh_trust::key::{KeyError, PrivateKey, PublicKey};

/// Bytes of a key or passphrase file. Both are below 1 KiB.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// Where a passphrase may stand; the first one that is set counts. The second is cosign's own.
const PASSPHRASE_VARIABLES: [&str; 2] = ["NEBH_KEY_PASSWORD", "COSIGN_PASSWORD"];

/// Where the passphrase of a key file comes from.
#[derive(Clone, Debug, Default)]
pub struct Passphrase {
    /// A file whose first line it is; else the environment, else the terminal.
    pub file: Option<PathBuf>,
}

/// A pair that was written.
#[derive(Debug)]
pub struct Written {
    /// The private half.
    pub private: PathBuf,
    /// The public half.
    pub public: PathBuf,
    /// The public key.
    pub key: PublicKey,
}

impl Passphrase {
    /// Reads it. `new` asks twice on the terminal, since what is typed wrong now opens nothing later.
    fn read(&self, key: &Path, new: bool) -> Result<String, Failure> {
        if let Some(file) = &self.file {
            let text = read_private(file, "passphrase file")?;
            return Ok(text.lines().next().unwrap_or("").to_owned());
        }
        // An empty one is legal, so set and empty is not unset.
        for name in PASSPHRASE_VARIABLES {
            if let Some(value) = std::env::var_os(name) {
                let passphrase = value.into_string();
                return passphrase.map_err(|_| Failure::new(Exit::Usage, format!("{name} is not UTF-8")));
            }
        }
        if !std::io::stdin().is_terminal() {
            return Err(Failure::new(Exit::Usage, format!("no passphrase for {}", key.display()))
                .why("there is no terminal to ask on")
                .next(format!("set {}, or give --passphrase-file FILE", PASSPHRASE_VARIABLES[0])));
        }
        let passphrase = ask(&format!("passphrase of {}: ", key.display()))?;
        if new && ask("the same again: ")? != passphrase {
            return Err(Failure::new(Exit::Usage, "the two passphrases differ").next("try again"));
        }
        Ok(passphrase)
    }
}

/// Makes a pair: `NAME.key` (0600, encrypted) and `NAME.pub` in `dir`. Never writes over a file.
pub fn create(dir: &Path, name: &str, passphrase: &Passphrase) -> Result<Written, Failure> {
    if name.is_empty() || name.starts_with('.') || name.contains('/') {
        return Err(Failure::new(Exit::Usage, format!("`{name}` is no name for a key")));
    }
    let beside = |name: String| if dir == Path::new(".") { PathBuf::from(name) } else { dir.join(name) };
    let (private, public) = (beside(format!("{name}.key")), beside(format!("{name}.pub")));
    for file in [&private, &public] {
        if file.symlink_metadata().is_ok() {
            return Err(Failure::new(Exit::Usage, format!("{} exists", file.display()))
                .why("a key is never written over: what it signed could no longer be verified")
                .next("choose another name, or move the file away"));
        }
    }
    let passphrase = passphrase.read(&private, true)?;
    let failed = |error: KeyError| Failure::new(Exit::Failed, format!("cannot make key {name}")).because(&error);
    let key = PrivateKey::generate().map_err(failed)?;
    let sealed = key.to_cosign_pem(&passphrase).map_err(failed)?;
    let public_pem = key.public().to_pem().map_err(failed)?;
    write_new(&private, 0o600, sealed.as_bytes())?;
    write_new(&public, 0o644, public_pem.as_bytes())?;
    Ok(Written { private, public, key: key.public().clone() })
}

/// Opens a private key.
pub fn open(file: &Path, passphrase: &Passphrase) -> Result<PrivateKey, Failure> {
    let text = read_private(file, "key file")?;
    let passphrase = passphrase.read(file, false)?;
    PrivateKey::from_cosign_pem(&text, &passphrase).map_err(|error| {
        let failure = Failure::new(Exit::Failed, format!("cannot open key {}", file.display())).because(&error);
        match error {
            KeyError::WrongPassphrase => failure.next(format!(
                "check {} or --passphrase-file: this key was sealed with another one",
                PASSPHRASE_VARIABLES[0]
            )),
            _ => failure,
        }
    })
}

/// Reads a public key; of a pair, the `.pub` file.
pub fn open_public(file: &Path) -> Result<PublicKey, Failure> {
    let text = read(file, "key file")?;
    PublicKey::from_pem(&text).map_err(|error| {
        let failure = Failure::new(Exit::Usage, format!("cannot read key {}", file.display())).because(&error);
        match error {
            KeyError::PrivateWherePublic | KeyError::Label { .. } => failure.next("show its .pub file"),
            _ => failure,
        }
    })
}

/// Reads a file that is nobody else's business: it must belong to us or root, and nobody else may read or write it.
pub(crate) fn read_private(file: &Path, what: &str) -> Result<String, Failure> {
    let (handle, metadata) = open_file(file, what)?;
    if metadata.mode() & 0o077 != 0 {
        return Err(Failure::new(Exit::Usage, format!("{what} {} can be read by others", file.display()))
            .why(format!("its mode is {:04o}", metadata.mode() & 0o7777))
            .next(format!("chmod 600 {}", file.display())));
    }
    let us = rustix::process::geteuid().as_raw();
    if metadata.uid() != us && metadata.uid() != 0 {
        return Err(Failure::new(Exit::Usage, format!("{what} {} belongs to user {}", file.display(), metadata.uid()))
            .why("whoever owns it can change it"));
    }
    text(handle, file, what)
}

fn read(file: &Path, what: &str) -> Result<String, Failure> {
    let (handle, _) = open_file(file, what)?;
    text(handle, file, what)
}

fn open_file(file: &Path, what: &str) -> Result<(std::fs::File, std::fs::Metadata), Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(Exit::Usage, format!("cannot read {what} {}", file.display())).because(&error)
    };
    // What is looked at is what is read: the mode is asked of the open file, not of the name.
    let handle = std::fs::File::open(file).map_err(failed)?;
    let metadata = handle.metadata().map_err(failed)?;
    if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
        return Err(Failure::new(Exit::Usage, format!("{} is no {what}", file.display())));
    }
    Ok((handle, metadata))
}

fn text(handle: std::fs::File, file: &Path, what: &str) -> Result<String, Failure> {
    std::io::read_to_string(std::io::Read::take(handle, FILE_BYTES_MAX))
        .map_err(|error| Failure::new(Exit::Usage, format!("cannot read {what} {}", file.display())).because(&error))
}

fn write_new(file: &Path, mode: u32, bytes: &[u8]) -> Result<(), Failure> {
    let write = || {
        let mut handle = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(file)?;
        handle.write_all(bytes)?;
        handle.sync_all()
    };
    write().map_err(|error: std::io::Error| {
        Failure::new(Exit::Failed, format!("cannot write {}", file.display())).because(&error)
    })
}

/// Asks on the terminal without echo.
fn ask(question: &str) -> Result<String, Failure> {
    let terminal = console::Term::stderr();
    let answer = terminal.write_str(question).and_then(|()| terminal.read_secure_line());
    answer.map_err(|error| Failure::new(Exit::Failed, "cannot ask on the terminal").because(&error))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn passphrase(dir: &Path, text: &str) -> Passphrase {
        let file = dir.join(format!("passphrase-{}", text.len()));
        std::fs::write(&file, format!("{text}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        Passphrase { file: Some(file) }
    }

    #[test]
    fn new_pair_opens_with_its_passphrase_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let secret = passphrase(dir.path(), "correct horse");
        let written = create(dir.path(), "alice", &secret).unwrap();
        assert_eq!(written.private.metadata().unwrap().mode() & 0o7777, 0o600);
        assert_eq!(open(&written.private, &secret).unwrap().id(), written.key.id());
        assert_eq!(open_public(&written.public).unwrap().id(), written.key.id());

        let again = create(dir.path(), "alice", &secret).unwrap_err();
        assert!(again.to_string().contains("alice.key exists"), "{again}");

        let wrong = open(&written.private, &passphrase(dir.path(), "wrong")).unwrap_err();
        assert!(wrong.to_string().contains("the passphrase does not open this key"), "{wrong}");
        assert!(wrong.to_string().contains("next: check NEBH_KEY_PASSWORD"), "{wrong}");
    }

    #[test]
    fn key_file_that_others_can_read_is_refused_before_it_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let secret = passphrase(dir.path(), "x");
        let written = create(dir.path(), "bob", &secret).unwrap();
        for mode in [0o644, 0o640, 0o602] {
            std::fs::set_permissions(&written.private, std::fs::Permissions::from_mode(mode)).unwrap();
            let refused = open(&written.private, &secret).unwrap_err();
            assert_eq!(refused.exit, Exit::Usage);
            assert!(refused.to_string().contains("can be read by others"), "{refused}");
            assert!(refused.to_string().contains("chmod 600"), "{refused}");
        }
    }

    #[test]
    fn halves_are_not_taken_for_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let secret = passphrase(dir.path(), "x");
        let written = create(dir.path(), "carol", &secret).unwrap();
        assert!(open_public(&written.private).unwrap_err().to_string().contains("show its .pub file"));
        std::fs::set_permissions(&written.public, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(open(&written.public, &secret).unwrap_err().to_string().contains("public key was given"));
    }

    #[test]
    fn names_that_leave_the_folder_are_refused() {
        for name in ["", "../x", "a/b", ".hidden"] {
            assert_eq!(create(Path::new("/nowhere"), name, &Passphrase::default()).unwrap_err().exit, Exit::Usage);
        }
    }
}
