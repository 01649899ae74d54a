//! Crash points: places where a test may end a program of ours as `kill -9` would. Builds for use have none of this.
//!
//! `NEBH_CRASH_FILE` names a file that holds the name of one point, and after a blank how often to pass it before. Who
//! comes to that point renames the file to `….hit` and ends by SIGKILL. So exactly one process dies of one asking,
//! whatever else runs with the same environment, and the test sees that it was this point.
//!
//! Each service has a `crash` of its own with the list of its points. Side effects: that file, and the end.

use std::path::{Path, PathBuf};

/// The variable that names the file.
pub const FILE: &str = "NEBH_CRASH_FILE";

/// Ends the process here if a test asked for it.
pub fn point(name: &str) {
    if cfg!(debug_assertions)
        && let Some(file) = std::env::var_os(FILE)
        && is_asked(Path::new(&file), name)
    {
        end();
    }
}

/// The name that an asking has once somebody died of it.
pub fn hit(file: &Path) -> PathBuf {
    file.with_extension("hit")
}

/// True for the one who has to die here.
fn is_asked(file: &Path, name: &str) -> bool {
    let Ok(asked) = std::fs::read_to_string(file) else { return false };
    let (point, passes) = asked.trim().split_once(' ').unwrap_or((asked.trim(), "0"));
    if point != name {
        return false;
    }
    match passes.parse::<u32>() {
        Ok(passes @ 1..) => {
            // A pass that cannot be counted would let the test wait for ever: then rather die too early, and be seen.
            std::fs::write(file, format!("{point} {}", passes - 1)).is_err()
        }
        _ => std::fs::rename(file, hit(file)).is_ok(),
    }
}

fn end() {
    let _gone = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    // The signal reaches every thread; nothing behind this point may run meanwhile.
    loop {
        std::thread::park();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_asking_is_for_one_point_and_for_one_death() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("asked");
        assert!(!is_asked(&file, "a"));
        std::fs::write(&file, "a\n").unwrap();
        assert!(!is_asked(&file, "b"));
        assert!(is_asked(&file, "a"));
        assert!(hit(&file).exists());
        assert!(!is_asked(&file, "a"));
    }

    #[test]
    fn asking_for_the_third_pass_lets_two_go_by() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("asked");
        std::fs::write(&file, "a 2").unwrap();
        let passes: Vec<bool> = ["a", "b", "a", "a", "a"].iter().map(|name| is_asked(&file, name)).collect();
        assert_eq!(passes, [false, false, false, true, false]);
    }
}
