//! Which packages have scripts that no finisher stands for. Their names are told, never their scripts run.
//! Pure.

use super::facts::PackageFacts;

/// Packages whose scripts were read: what they do on a fresh system is done by a finisher, by the package's own files, or
/// is nothing that an image needs (service managers, menus, upgrades from old versions).
const KNOWN: [&str; 42] = [
    "base-files",
    "base-passwd",
    "bash",
    "ca-certificates",
    "coreutils",
    "cpp",
    "dash",
    "debconf",
    "debianutils",
    "dpkg",
    "g++",
    "gcc",
    "gpgv",
    "init-system-helpers",
    "iproute2",
    "libc-bin",
    "libc6",
    "libgcc-s1",
    "libgssapi-krb5-2",
    "libpam-modules",
    "libpam-runtime",
    "libpam0g",
    "libselinux1",
    "libssl3t64",
    "login",
    "lsb-base",
    "make",
    "mawk",
    "media-types",
    "mount",
    "ncurses-bin",
    "nginx",
    "nginx-common",
    "nginx-light",
    "openssl",
    "passwd",
    "perl-base",
    "procps",
    "python3-minimal",
    "tar",
    "tzdata",
    "util-linux",
];

/// Packages that switch a module of nginx on, which a finisher does.
const NGINX_MODULE: &str = "libnginx-mod-";

/// Commands that generated snippets consist of, and that need no finisher beyond those that there are.
const HARMLESS: [&str; 12] = [
    "set -e",
    "deb-systemd-helper",
    "deb-systemd-invoke",
    "systemctl",
    "update-rc.d",
    "invoke-rc.d",
    "dpkg-maintscript-helper",
    "ldconfig",
    "update-alternatives",
    "systemd-sysusers",
    "systemd-tmpfiles",
    "rm_conffile",
];

/// The script of a package that nothing here stands for, if there is one.
pub fn unhandled_script(facts: &PackageFacts) -> Option<&'static str> {
    // A `preinst` clears the way for an upgrade; on a fresh system there is nothing to clear.
    let handled = KNOWN.contains(&facts.name.as_str()) || facts.name.starts_with(NGINX_MODULE);
    let script = facts.scripts.get("postinst").filter(|text| !handled && !is_harmless(text));
    script.map(|_| "postinst")
}

/// True if every command of the script is one of [`HARMLESS`] inside the shell's own words.
fn is_harmless(script: &str) -> bool {
    const WORDS: [&str; 16] = [
        "if",
        "then",
        "else",
        "elif",
        "fi",
        "case",
        "esac",
        "exit",
        "for",
        "do",
        "done",
        "|| true",
        ";;",
        "configure)",
        "abort-upgrade",
        "*)",
    ];
    script.lines().map(str::trim).all(|line| {
        line.is_empty()
            || line.starts_with('#')
            || line.starts_with('-')
            || line.starts_with(|c: char| c.is_ascii_alphanumeric() && line.ends_with(')'))
            || HARMLESS.iter().any(|command| line.starts_with(command) || line.contains(&format!(" {command} ")))
            || WORDS.iter().any(|word| line == *word || line.starts_with(&format!("{word} ")) || line.ends_with(word))
    })
}
