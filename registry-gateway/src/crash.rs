//! Crash points: in debug builds, `NEBH_CRASH_POINT=name` ends the process by SIGKILL when it reaches that point, as
//! a power cut would. Release builds have none of this.

/// The points, in the order in which one push passes them.
pub const POINTS: [&str; 8] = [
    "blob-written",
    "blob-synced",
    "blob-linked",
    "blob-folder-synced",
    "blob-recorded",
    "manifest-begun",
    "manifest-recorded",
    "sweep-row-gone",
];

/// Dies here if the environment asks for it.
#[cfg(debug_assertions)]
pub fn point(name: &'static str) {
    debug_assert!(POINTS.contains(&name), "{name} is not listed");
    if std::env::var_os("NEBH_CRASH_POINT").is_some_and(|wanted| wanted == name) {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        // SIGKILL reaches every thread; nothing after this point may run meanwhile.
        loop {
            std::thread::park();
        }
    }
}

/// Nothing in release builds.
#[cfg(not(debug_assertions))]
pub fn point(_name: &'static str) {}
