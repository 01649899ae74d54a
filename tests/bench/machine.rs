//! Where and when it was measured: the class of the machine, never its name.

use std::path::Path;
use std::process::Command;

/// One line: date, cores, memory, kernel, distribution, the file system below the scratch folder, how busy it is, and what
/// profile the program lies in the target folder of.
pub(crate) fn describe(scratch: &Path, program: &Path) -> String {
    let date = jiff::Timestamp::now().strftime("%Y-%m-%d");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let cpu = field("/proc/cpuinfo", "model name").unwrap_or_default();
    let kib: u64 =
        field("/proc/meminfo", "MemTotal").and_then(|text| text.split(' ').next()?.parse().ok()).unwrap_or(0);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let system = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let system = system.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("").trim_matches('"');
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("");
    let profile = program.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    format!(
        "{date} · {cores} cores ({cpu}), {} GiB, kernel {}, {system}, scratch on {} · load at the end {load} · ours built \
         with the profile `{profile}`",
        kib >> 20,
        kernel.trim(),
        file_system(scratch),
    )
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn file_system(path: &Path) -> String {
    first_line(Command::new("findmnt").args(["-n", "-o", "FSTYPE", "-T"]).arg(path))
}

/// The first line that a program says, for the versions of a section. Where it lies on this machine is left out, which
/// some programs say too.
pub(crate) fn first_line(command: &mut Command) -> String {
    let Ok(output) = command.output() else { return "unknown".to_owned() };
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let line = text.lines().next().unwrap_or("unknown").trim();
    match line.split_once(' ') {
        Some((program, rest)) if program.starts_with('/') => rest.to_owned(),
        _ => line.to_owned(),
    }
}
