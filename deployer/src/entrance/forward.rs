//! One connection: waits at the gate, is joined to the program, and is joined to the next program only where that
//! cannot do anything twice.
//!
//! ```text
//!            ┌────────── the program closed, no byte of a request was sent ─────────┐
//!            ▼                                                                       │
//!   wait for the door ─► connect ─► fresh ─bytes from client─► in flight ─bytes from program─► answered
//!            ▲                                                     ▲                         │
//!            │                                                     └── bytes from client ────┤ only while not held
//!            └── HTTP/1, gate held, program closed, the client has a next request waiting ───┘
//! ```
//!
//! While the gate is held, an answered connection is frozen: its next request is not read, so it cannot reach a
//! program that is about to stop. One that said nothing yet is taken away from the program at once: a program that reads
//! one connection at a time would wait for it instead of stopping.
//!
//! Every await here is safe to drop: dropping ends the connection and gives its counts back.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::Instant;

use super::gate::{Gate, WAIT_MAX, Waiting};
use crate::crash;

/// Bytes that one direction of one connection holds at a time.
const BUFFER_BYTES: usize = 16 * 1024;
/// Pause before a program that refused is asked again.
const RETRY_AFTER: Duration = Duration::from_millis(3);
/// How long a client may go on sending to a program that has closed its own half.
const HALF_CLOSED_MAX: Duration = Duration::from_secs(10);
/// A program that accepts and closes without a word, with the gate open, is believed after this many times.
const SILENT_CLOSES_MAX: u32 = 3;

/// How one program's part in a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Both directions are finished, or the client went.
    Finished,
    /// The program closed and no byte of this connection was ever sent to it.
    Untouched,
    /// The program closed after everything that it was sent had been answered.
    Answered,
    /// The program closed, or broke, and owed an answer.
    Owing,
}

/// Serves one accepted connection to its end.
pub(super) async fn forward(gate: &Gate, client: TcpStream, port: u16) {
    let open = Waiting::new(&gate.open);
    crash::entrance("entrance-accepted");
    if !is_served(gate, client, port).await {
        gate.failed.fetch_add(1, SeqCst);
    }
    drop(open);
}

async fn is_served(gate: &Gate, mut client: TcpStream, port: u16) -> bool {
    if client.set_nodelay(true).is_err() {
        return true;
    }
    let mut talk = Talk::default();
    let mut silent_closes = 0;
    let mut until = Instant::now() + WAIT_MAX;
    loop {
        let route = tokio::select! {
            route = gate.passage(until) => route,
            () = gone(&client) => return true,
        };
        let Some(route) = route else { return false };
        let mut program = match route.inside.connect(port).await {
            Ok(program) => program,
            Err(_) if Instant::now() < until => {
                gate.retried.fetch_add(1, SeqCst);
                tokio::time::sleep(RETRY_AFTER).await;
                continue;
            }
            Err(_) => return false,
        };
        crash::entrance("entrance-joined");
        let end = relay(gate, &mut client, &mut program, &mut talk).await;
        drop(program);
        match end {
            End::Finished => return true,
            End::Owing => return false,
            End::Untouched => {
                silent_closes += 1;
                let is_same = gate.target() == Some(route.target) && !gate.is_held();
                if is_same && silent_closes > SILENT_CLOSES_MAX {
                    return true;
                }
                if gate.is_held() {
                    // It waits like one that has just come.
                    until = Instant::now() + WAIT_MAX;
                    continue;
                }
                gate.retried.fetch_add(1, SeqCst);
                tokio::time::sleep(RETRY_AFTER).await;
            }
            End::Answered => {
                if talk.is_http != Some(true) || !has_next_request(gate, &client).await {
                    return true;
                }
                until = Instant::now() + WAIT_MAX;
            }
        }
    }
}

/// Ends when the client has closed; a client that has sent something is there.
async fn gone(client: &TcpStream) {
    let mut byte = [0; 1];
    loop {
        match client.peek(&mut byte).await {
            Ok(0) | Err(_) => return,
            // Peeking again would return at once, for ever.
            Ok(_) => std::future::pending().await,
        }
    }
}

/// The program closed an answered connection. While the gate is held that is its way to stop, and a client that has
/// its next request under way must not pay for it; with the gate open it is the program's own wish.
async fn has_next_request(gate: &Gate, client: &TcpStream) -> bool {
    if !gate.is_held() {
        return false;
    }
    let mut byte = [0; 1];
    tokio::select! {
        biased;
        seen = client.peek(&mut byte) => seen.is_ok_and(|count| count > 0),
        () = gate.released() => false,
    }
}

/// What is known about a connection over all the programs it was joined to.
#[derive(Debug, Default)]
struct Talk {
    /// It began as HTTP/1 does: requests and answers in turn.
    is_http: Option<bool>,
}

/// What is known about a connection and one program.
struct Joint<'a> {
    gate: &'a Gate,
    /// The program owes an answer; counted in the gate while it does.
    owed: AtomicBool,
    /// A byte passed in either direction.
    touched: AtomicBool,
}

impl Joint<'_> {
    fn owe(&self, owed: bool) {
        if self.owed.swap(owed, SeqCst) != owed {
            if owed {
                self.gate.in_flight.fetch_add(1, SeqCst);
            } else {
                self.gate.in_flight.fetch_sub(1, SeqCst);
            }
        }
    }

    /// The program closed in a state in which the client can be joined to another one.
    fn may_go_on(&self) -> bool {
        !self.touched.load(SeqCst) || (self.gate.is_held() && !self.owed.load(SeqCst))
    }

    fn finished(&self) -> End {
        if self.owed.load(SeqCst) { End::Owing } else { End::Finished }
    }

    fn end(&self) -> End {
        match (self.touched.load(SeqCst), self.owed.load(SeqCst)) {
            (false, _) => End::Untouched,
            (true, false) => End::Answered,
            (true, true) => End::Owing,
        }
    }
}

impl Drop for Joint<'_> {
    fn drop(&mut self) {
        self.owe(false);
    }
}

/// Which side of a connection broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Client,
    Program,
    /// Neither: the gate was held before a byte passed.
    Gate,
}

async fn relay(gate: &Gate, client: &mut TcpStream, program: &mut TcpStream, talk: &mut Talk) -> End {
    let joint = Joint { gate, owed: AtomicBool::new(false), touched: AtomicBool::new(false) };
    let (from_client, mut to_client) = client.split();
    let (from_program, to_program) = program.split();
    let up = up(&joint, from_client, to_program, talk);
    let down = down(&joint, from_program, &mut to_client);
    tokio::pin!(up);
    let first = {
        tokio::pin!(down);
        tokio::select! {
            biased;
            result = &mut down => Err(result),
            // A client that closed its half still gets its answer.
            result = &mut up => match result {
                Ok(()) => Ok(down.await),
                Err(side) => Ok(Err(side)),
            },
        }
    };
    match first {
        Ok(Err(Side::Client)) | Err(Err(Side::Client)) => End::Finished,
        Ok(Ok(()) | Err(Side::Program)) => joint.finished(),
        Ok(Err(Side::Gate)) | Err(Err(Side::Program | Side::Gate)) => joint.end(),
        Err(Ok(())) if joint.may_go_on() => joint.end(),
        Err(Ok(())) => {
            // The program closed its half; what the client still says is passed on, for a while.
            drop(to_client.shutdown().await);
            drop(tokio::time::timeout(HALF_CLOSED_MAX, up).await);
            joint.finished()
        }
    }
}

/// Client to program.
async fn up(joint: &Joint<'_>, from: ReadHalf<'_>, mut to: WriteHalf<'_>, talk: &mut Talk) -> Result<(), Side> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        tokio::select! {
            biased;
            ready = from.readable() => ready.map_err(|_| Side::Client)?,
            () = joint.gate.closed(), if !joint.touched.load(SeqCst) => {
                // The program may have spoken first meanwhile.
                if joint.touched.load(SeqCst) {
                    continue;
                }
                return Err(Side::Gate);
            }
        }
        let owed = joint.owed.load(SeqCst);
        if !owed {
            // First counted, then looked: see `gate`.
            joint.owe(true);
            if joint.gate.is_held() {
                joint.owe(false);
                if !joint.touched.load(SeqCst) {
                    return Err(Side::Gate);
                }
                joint.gate.released().await;
                continue;
            }
        }
        let count = match from.try_read(&mut buffer) {
            Ok(0) => {
                joint.owe(owed);
                to.shutdown().await.map_err(|_| Side::Program)?;
                return Ok(());
            }
            Ok(count) => count,
            Err(error) => {
                joint.owe(owed);
                if error.kind() == io::ErrorKind::WouldBlock {
                    continue;
                }
                return Err(Side::Client);
            }
        };
        if talk.is_http.is_none() {
            talk.is_http = Some(begins_as_http(&buffer[..count]));
        }
        joint.touched.store(true, SeqCst);
        joint.gate.moved();
        to.write_all(&buffer[..count]).await.map_err(|_| Side::Program)?;
        crash::entrance("entrance-asked");
    }
}

/// Program to client. `Ok` when the program closed its half.
async fn down(joint: &Joint<'_>, mut from: ReadHalf<'_>, to: &mut WriteHalf<'_>) -> Result<(), Side> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = from.read(&mut buffer).await.map_err(|_| Side::Program)?;
        if count == 0 {
            return Ok(());
        }
        joint.touched.store(true, SeqCst);
        joint.gate.moved();
        to.write_all(&buffer[..count]).await.map_err(|_| Side::Client)?;
        crash::entrance("entrance-answered");
        joint.owe(false);
    }
}

/// True for the first bytes of an HTTP/1 request: there a connection's requests and answers take turns.
fn begins_as_http(bytes: &[u8]) -> bool {
    const METHODS: [&[u8]; 7] = [b"GET ", b"POST ", b"PUT ", b"DELETE ", b"HEAD ", b"PATCH ", b"OPTIONS "];
    METHODS.iter().any(|method| bytes.starts_with(method))
}
