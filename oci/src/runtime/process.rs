//! Runs the runtime program itself: its own error text apart from the container's output, output lines as they come.
//! Owns child processes.

use std::path::Path;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;

/// Bytes after which a line is handed on unfinished: a program that never writes a line end must not fill our memory.
const LINE_BYTES_MAX: usize = 16 * 1024;
/// What a signal adds to the exit code of a foreground run, as shells do.
const SIGNAL_BASE: i32 = 128;

/// Which of the two streams a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One line of a container's output, without its line end; what is no UTF-8 is replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputLine {
    /// Where it came from.
    pub stream: Stream,
    /// The text.
    pub text: String,
}

/// How a container's process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl ExitReason {
    /// True for exit code 0.
    pub fn is_success(self) -> bool {
        self == Self::Code(0)
    }

    pub(super) fn from_runtime_code(code: i32) -> Self {
        if code > SIGNAL_BASE && code < SIGNAL_BASE + 65 { Self::Signal(code - SIGNAL_BASE) } else { Self::Code(code) }
    }
}

impl std::fmt::Display for ExitReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// Hands every line of `from` to `to`. Goes on reading when nobody listens any more, so that the writer never blocks.
pub(super) async fn pump(mut from: impl AsyncRead + Unpin, stream: Stream, to: mpsc::Sender<OutputLine>) {
    let mut chunk = vec![0u8; 8 * 1024];
    let mut line = Vec::new();
    loop {
        let count = match from.read(&mut chunk).await {
            Ok(0) | Err(_) => break,
            Ok(count) => count,
        };
        for &byte in &chunk[..count] {
            if byte == b'\n' || line.len() >= LINE_BYTES_MAX {
                send(&mut line, stream, &to).await;
            }
            if byte != b'\n' {
                line.push(byte);
            }
        }
    }
    if !line.is_empty() {
        send(&mut line, stream, &to).await;
    }
}

async fn send(line: &mut Vec<u8>, stream: Stream, to: &mpsc::Sender<OutputLine>) {
    let text = String::from_utf8_lossy(line).trim_end_matches('\r').to_owned();
    line.clear();
    // A receiver that is gone has lost interest; the container's output is still drained.
    drop(to.send(OutputLine { stream, text }).await);
}

/// The last error that the runtime program wrote to its JSON log.
pub(super) fn logged_error(log: &Path) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Entry {
        level: String,
        msg: String,
    }
    let text = std::fs::read_to_string(log).ok()?;
    text.lines()
        .rev()
        .filter_map(|line| serde_json::from_str::<Entry>(line).ok())
        .find(|entry| matches!(entry.level.as_str(), "error" | "fatal"))
        .map(|entry| entry.msg)
}
