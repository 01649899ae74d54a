//! libFuzzer's door to one target, chosen by `NEBH_FUZZ_TARGET`; without it, the names of all of them.

#![no_main]

// The length of a short run is the business of the ordinary tests, which include the same file.
#[expect(dead_code, reason = "how long a short run is")]
mod targets;

use std::sync::OnceLock;

static RUN: OnceLock<fn(&[u8])> = OnceLock::new();

libfuzzer_sys::fuzz_target!(
    init: {
        let wanted = std::env::var("NEBH_FUZZ_TARGET").unwrap_or_default();
        let found = targets::TARGETS.iter().find(|target| target.name == wanted);
        let Some(target) = found else {
            for target in targets::TARGETS {
                println!("{}", target.name);
            }
            std::process::exit(i32::from(!wanted.is_empty()));
        };
        RUN.get_or_init(|| target.run);
    },
    |bytes: &[u8]| if let Some(run) = RUN.get() { run(bytes) }
);
