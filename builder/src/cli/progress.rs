//! Build events as a person reads them (a line for each thing done; on a terminal also what is going on now), or as JSON
//! lines.

use indicatif::{ProgressBar, ProgressStyle};
use nebh_face::{Globals, Out};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::event::{BuildEvent, EVENT_VERSION};

/// The widest line of a program that is shown while it runs.
const LIVE_WIDTH: usize = 100;

/// Shows events until their sender is gone.
pub(super) async fn show(mut events: mpsc::UnboundedReceiver<BuildEvent>, globals: Globals) {
    let out = Out::new(&globals);
    let live = out.is_live().then(spinner);
    while let Some(event) = events.recv().await {
        if out.is_json() {
            out.json(&Wire { version: EVENT_VERSION, event: &event });
            continue;
        }
        if let (Some(live), Some(now)) = (&live, now(&event)) {
            live.set_message(now);
        }
        let logged = if let BuildEvent::StepLog { line, .. } = &event {
            globals.verbose.then(|| format!("  {line}"))
        } else {
            line(&event)
        };
        if let Some(text) = logged {
            match &live {
                Some(live) => live.suspend(|| out.note(&text)),
                None => out.note(&text),
            }
        }
    }
    if let Some(live) = live {
        live.finish_and_clear();
    }
}

#[derive(Serialize)]
struct Wire<'a> {
    version: u32,
    #[serde(flatten)]
    event: &'a BuildEvent,
}

fn spinner() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed:>4}  {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(std::time::Duration::from_millis(120));
    bar
}

/// What is going on, for the one line that changes.
fn now(event: &BuildEvent) -> Option<String> {
    match event {
        BuildEvent::Fetching { done, total, bytes } => {
            Some(format!("fetch    {done} of {total} inputs, {}", size(*bytes)))
        }
        BuildEvent::StepStarted { step, what } => Some(format!("{step:<8} {what}")),
        BuildEvent::StepLog { step, line } => {
            Some(format!("{step:<8} {}", line.trim().chars().take(LIVE_WIDTH).collect::<String>()))
        }
        BuildEvent::StepDone { .. } => Some("layers".to_owned()),
        _ => None,
    }
}

/// The line of a thing that is done.
fn line(event: &BuildEvent) -> Option<String> {
    Some(match event {
        BuildEvent::Planned { plan, inputs, steps } => {
            format!("plan     {}…  {} locked, {}", &plan.hex()[..12], count(*inputs, "input"), count(*steps, "step"))
        }
        BuildEvent::Known { .. } => "known    this plan was built before".to_owned(),
        BuildEvent::Fetched { here, total, .. } if here == total => {
            format!("fetch    {here} of {} already here", count(*total, "input"))
        }
        BuildEvent::Fetched { here, total, bytes, millis } => format!(
            "fetch    {} of {}, {}, {}; {here} already here",
            total - here,
            count(*total, "input"),
            size(*bytes),
            seconds(*millis)
        ),
        BuildEvent::StepDone { step, what, kept: true, .. } => format!("{step:<8} {what}  kept from before"),
        BuildEvent::StepDone { step, what, millis, kept: false } => format!("{step:<8} {what}  {}", seconds(*millis)),
        BuildEvent::Note { text } => format!("note     {text}"),
        BuildEvent::Layers { total, kept, bytes_new, bytes } => {
            format!("layers   {total} ({kept} unchanged)   {} new of {}", size(*bytes_new), size(*bytes))
        }
        BuildEvent::Signed { key, forms } => format!("signed   {key}  ({forms})"),
        BuildEvent::Pushed { reference, millis } => format!("pushed   {reference}   {}", seconds(*millis)),
        BuildEvent::Built { image, millis, .. } => format!("image    {image}   {}", seconds(*millis)),
        BuildEvent::Fetching { .. } | BuildEvent::StepStarted { .. } | BuildEvent::StepLog { .. } => return None,
    })
}

fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

fn seconds(millis: u64) -> String {
    format!("{}.{} s", millis / 1000, millis % 1000 / 100)
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1000 => format!("{bytes} B"),
        1000..1_000_000 => format!("{} kB", bytes / 1000),
        _ => format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000),
    }
}

#[cfg(test)]
mod tests {
    use nebh_oci::digest::Digest;

    use super::*;

    #[test]
    fn lines_read_as_promised() {
        let plan = Digest::sha256(b"");
        for (event, expected) in [
            (BuildEvent::Planned { plan, inputs: 12, steps: 1 }, "plan     e3b0c44298fc…  12 inputs locked, 1 step"),
            (
                BuildEvent::Fetched { here: 187, total: 187, bytes: 0, millis: 0 },
                "fetch    187 of 187 inputs already here",
            ),
            (
                BuildEvent::Fetched { here: 7, total: 10, bytes: 2_150_000, millis: 1234 },
                "fetch    3 of 10 inputs, 2.1 MB, 1.2 s; 7 already here",
            ),
            (
                BuildEvent::StepDone { step: "rust".into(), what: "shop-api".into(), millis: 11_800, kept: false },
                "rust     shop-api  11.8 s",
            ),
            (
                BuildEvent::Layers { total: 4, kept: 3, bytes_new: 2_100_000, bytes: 31_400_000 },
                "layers   4 (3 unchanged)   2.1 MB new of 31.4 MB",
            ),
        ] {
            assert_eq!(line(&event).as_deref(), Some(expected));
        }
    }
}
