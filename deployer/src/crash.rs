//! Crash points: where a test may end the agent as `kill -9` would. In builds for use nothing here does anything.
//!
//! `NEBH_CRASH_POINT=<record>:before|after` or `NEBH_CRASH_POINT=effect-<effect>:before|after`, honoured only with
//! `debug_assertions`. `before` a record means: decided, not written down. `after`: written down, nothing done.

/// On which side of a record or effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Before,
    After,
}

/// Ends the process here if a test asked for it.
pub(crate) fn point(kind: &str, name: &str, side: Side) {
    if cfg!(debug_assertions)
        && let Ok(asked) = std::env::var("NEBH_CRASH_POINT")
    {
        let side = match side {
            Side::Before => "before",
            Side::After => "after",
        };
        if asked == format!("{kind}{name}:{side}") {
            tracing::warn!(point = asked, "crash point");
            std::process::abort();
        }
    }
}
