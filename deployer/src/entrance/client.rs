//! The agent's side of the control socket.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::wire::{Answer, GateStats, Port, Request};

/// How long a request waits for an entrance that was killed: its keeper brings it back within a second, and no release
/// and no way back is to fail on account of that.
const BACK_WITHIN: Duration = Duration::from_secs(10);
/// Pause between two tries.
const BACK_LOOK: Duration = Duration::from_millis(20);

/// Why the entrance did not do it.
#[derive(Debug, thiserror::Error)]
pub enum EntranceError {
    /// No entrance answers.
    #[error("the entrance does not answer at {}", socket.display())]
    Away {
        /// Its socket.
        socket: PathBuf,
        /// The cause.
        #[source]
        cause: std::io::Error,
    },
    /// It refused.
    #[error("the entrance refused: {why}")]
    Refused {
        /// Why.
        why: String,
    },
    /// It answered something else.
    #[error("the entrance gave an answer that does not fit: {answer}")]
    Odd {
        /// The answer.
        answer: String,
    },
}

/// Speaks to the entrance of one node. Each request is a connection of its own, so a restarted entrance is found.
#[derive(Clone, Debug)]
pub struct Entrance {
    socket: PathBuf,
}

impl Entrance {
    /// The entrance of this folder.
    pub fn at(folder: &Path) -> Self {
        Self { socket: folder.join("entrance.sock") }
    }

    /// Listens on these ports.
    pub async fn open(&self, gate: &str, ports: &[Port]) -> Result<(), EntranceError> {
        self.done(Request::Open { gate: gate.to_owned(), ports: ports.to_owned() }).await
    }

    /// Leads the gate to a process.
    pub async fn route(&self, gate: &str, pid: u32) -> Result<(), EntranceError> {
        self.done(Request::Route { gate: gate.to_owned(), pid }).await
    }

    /// Holds the gate.
    pub async fn hold(&self, gate: &str) -> Result<(), EntranceError> {
        self.done(Request::Hold { gate: gate.to_owned() }).await
    }

    /// Waits until every request that reached the program is answered, or the time is up; tells how many are not.
    pub async fn drain(&self, gate: &str, within: Duration) -> Result<u64, EntranceError> {
        let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        match self.ask(&Request::Drain { gate: gate.to_owned(), within_ms }).await? {
            Answer::Drained { in_flight, .. } => Ok(in_flight),
            other => Err(odd(&other)),
        }
    }

    /// Releases the gate; tells how many connections had been waiting, and how long the gate was held.
    pub async fn release(&self, gate: &str) -> Result<(u64, Duration), EntranceError> {
        match self.ask(&Request::Release { gate: gate.to_owned() }).await? {
            Answer::Released { waiting, held_ms } => Ok((waiting, Duration::from_millis(held_ms))),
            other => Err(odd(&other)),
        }
    }

    /// Stops listening.
    pub async fn close(&self, gate: &str) -> Result<(), EntranceError> {
        self.done(Request::Close { gate: gate.to_owned() }).await
    }

    /// Process id and the figures of every gate; fails at once if no entrance answers.
    pub async fn stats(&self) -> Result<(u32, Vec<GateStats>), EntranceError> {
        figures(self.ask_once(&Request::Stats).await?)
    }

    /// The same, from an entrance that may be on its way back.
    pub async fn stats_soon(&self) -> Result<(u32, Vec<GateStats>), EntranceError> {
        figures(self.ask(&Request::Stats).await?)
    }

    /// Ends the entrance.
    pub async fn stop(&self) -> Result<(), EntranceError> {
        match self.ask_once(&Request::Stop).await? {
            Answer::Done => Ok(()),
            other => Err(odd(&other)),
        }
    }

    async fn done(&self, request: Request) -> Result<(), EntranceError> {
        match self.ask(&request).await? {
            Answer::Done => Ok(()),
            other => Err(odd(&other)),
        }
    }

    /// Every request says how it shall be, so asking twice does no harm.
    async fn ask(&self, request: &Request) -> Result<Answer, EntranceError> {
        let until = Instant::now() + BACK_WITHIN;
        loop {
            match self.ask_once(request).await {
                Err(EntranceError::Away { cause, .. }) if is_gone(&cause) && Instant::now() < until => {
                    tokio::time::sleep(BACK_LOOK).await;
                }
                answer => return answer,
            }
        }
    }

    async fn ask_once(&self, request: &Request) -> Result<Answer, EntranceError> {
        let answer =
            self.exchange(request).await.map_err(|cause| EntranceError::Away { socket: self.socket.clone(), cause })?;
        match answer {
            Answer::Refused { why } => Err(EntranceError::Refused { why }),
            answer => Ok(answer),
        }
    }

    async fn exchange(&self, request: &Request) -> std::io::Result<Answer> {
        let mut stream = UnixStream::connect(&self.socket).await?;
        let mut text = serde_json::to_string(request)?;
        text.push('\n');
        stream.write_all(text.as_bytes()).await?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).await?;
        if line.is_empty() {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_str(&line)?)
    }
}

fn figures(answer: Answer) -> Result<(u32, Vec<GateStats>), EntranceError> {
    match answer {
        Answer::Stats { pid, gates } => Ok((pid, gates)),
        other => Err(odd(&other)),
    }
}

/// True if nobody was there, or went away before the answer.
fn is_gone(cause: &std::io::Error) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotFound, UnexpectedEof};
    matches!(cause.kind(), NotFound | ConnectionRefused | ConnectionReset | BrokenPipe | UnexpectedEof)
}

fn odd(answer: &Answer) -> EntranceError {
    EntranceError::Odd { answer: format!("{answer:?}") }
}
