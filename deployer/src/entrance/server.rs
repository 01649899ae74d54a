//! The process: listeners, the control socket, the note on disk.
//!
//! Side effects: binds the host's ports, one Unix socket, `entrance.json`, `entrance.lock`.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nebh_oci::locked_file::LockedFile;
use rustix::process::{Resource, Rlimit};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixStream};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;

use super::forward::forward;
use super::gate::Gate;
use super::state::{GateState, State};
use super::wire::{Answer, LINE_BYTES_MAX, Port, Request};
use crate::crash::{self, Side};

/// Connections that the kernel keeps for us before we accept them.
const BACKLOG: u32 = 4096;
/// Connections accepted at a time, all gates together; each needs two file descriptors.
const OPEN_MAX: usize = 8192;
/// File descriptors kept back from connections.
const DESCRIPTORS_KEPT: usize = 128;
/// A port of an entrance that was just killed may still be taken for a moment.
const BIND_ATTEMPTS: u32 = 100;
const BIND_AGAIN_AFTER: Duration = Duration::from_millis(20);

struct Open {
    gate: Arc<Gate>,
    ports: Vec<Port>,
    listeners: Vec<(Port, JoinHandle<()>)>,
}

impl Drop for Open {
    fn drop(&mut self) {
        for (_, listener) in &self.listeners {
            listener.abort();
        }
    }
}

struct Server {
    note: PathBuf,
    gates: Mutex<BTreeMap<String, Open>>,
    permits: Arc<Semaphore>,
    stop: Notify,
}

/// Runs the entrance of this folder until it is told to stop. A second one for the same folder is refused.
pub async fn serve(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let lock = LockedFile::claim_service(&folder.join("entrance.lock"))?
        .ok_or_else(|| io::Error::new(io::ErrorKind::WouldBlock, "another entrance runs for this folder"))?;
    let server = Arc::new(Server {
        note: folder.join("entrance.json"),
        gates: Mutex::default(),
        permits: Arc::new(Semaphore::new(open_max())),
        stop: Notify::new(),
    });
    server.come_back().await?;
    crash::entrance("entrance-came-back");
    let socket = folder.join("entrance.sock");
    // Ours by the lock: nobody can be listening on what lies there.
    drop(std::fs::remove_file(&socket));
    let control = UnixListener::bind(&socket)?;
    std::fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    loop {
        tokio::select! {
            accepted = control.accept() => {
                let (stream, _) = accepted?;
                let server = Arc::clone(&server);
                // Ends with its connection.
                drop(tokio::spawn(async move { server.talk(stream).await }));
            }
            () = server.stop.notified() => break,
        }
    }
    drop(std::fs::remove_file(&socket));
    drop(lock);
    Ok(())
}

/// As many connections as there are descriptors for; the soft limit is raised to the hard one first.
fn open_max() -> usize {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match rustix::process::setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let descriptors = current.and_then(|count| usize::try_from(count).ok()).unwrap_or(usize::MAX);
    (descriptors.saturating_sub(DESCRIPTORS_KEPT) / 2).clamp(1, OPEN_MAX)
}

impl Server {
    fn gates(&self) -> MutexGuard<'_, BTreeMap<String, Open>> {
        self.gates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens what the note says: held gates held, routes only where that very process still exists.
    async fn come_back(self: &Arc<Self>) -> io::Result<()> {
        for state in State::read(&self.note)?.gates {
            self.open(&state.gate, &state.ports).await?;
            let gate = self.gate(&state.gate)?;
            if state.held {
                gate.hold();
            }
            if let Some(target) = state.target.filter(|target| target.is_there())
                && let Err(error) = gate.lead(target.pid)
            {
                tracing::warn!(gate = state.gate, pid = target.pid, %error, "cannot lead there again");
            }
        }
        Ok(())
    }

    async fn talk(self: Arc<Self>, mut stream: UnixStream) {
        let (read, mut write) = stream.split();
        let mut read = BufReader::new(read);
        loop {
            let mut line = String::new();
            match (&mut read).take(LINE_BYTES_MAX).read_line(&mut line).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let answer = match serde_json::from_str::<Request>(&line) {
                Ok(request) => self.answer(request).await,
                Err(error) => Answer::Refused { why: format!("not a request: {error}") },
            };
            let Ok(mut text) = serde_json::to_string(&answer) else { return };
            text.push('\n');
            if write.write_all(text.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    async fn answer(self: &Arc<Self>, request: Request) -> Answer {
        let name = request.name();
        crash::point("entrance-", name, Side::Before);
        let answer = match self.perform(request).await {
            Ok(answer) => answer,
            Err(error) => Answer::Refused { why: error.to_string() },
        };
        crash::point("entrance-", name, Side::After);
        answer
    }

    async fn perform(self: &Arc<Self>, request: Request) -> io::Result<Answer> {
        match request {
            Request::Open { gate, ports } => self.open(&gate, &ports).await?,
            Request::Route { gate, pid } => self.gate(&gate)?.lead(pid)?,
            Request::Hold { gate } => self.gate(&gate)?.hold(),
            Request::Drain { gate, within_ms } => {
                return Ok(self.gate(&gate)?.drain(Duration::from_millis(within_ms)).await);
            }
            Request::Release { gate } => {
                let answer = self.gate(&gate)?.release();
                self.note()?;
                return Ok(answer);
            }
            Request::Close { gate } => drop(self.gates().remove(&gate)),
            Request::Stats => {
                let gates = self.gates().values().map(|open| open.gate.stats()).collect();
                return Ok(Answer::Stats { pid: std::process::id(), gates });
            }
            Request::Stop => self.stop.notify_one(),
        }
        self.note()?;
        Ok(Answer::Done)
    }

    fn gate(&self, name: &str) -> io::Result<Arc<Gate>> {
        match self.gates().get(name) {
            Some(open) => Ok(Arc::clone(&open.gate)),
            None => Err(io::Error::new(io::ErrorKind::NotFound, format!("no gate `{name}` is open"))),
        }
    }

    fn note(&self) -> io::Result<()> {
        let gates = self.gates();
        let state = State::new(
            gates
                .iter()
                .map(|(name, open)| GateState {
                    gate: name.clone(),
                    ports: open.ports.clone(),
                    held: open.gate.is_held(),
                    target: open.gate.target(),
                })
                .collect(),
        );
        // Written under the lock, so that two requests cannot write in the wrong order.
        state.write(&self.note)
    }

    /// Listens on what is new, and stops listening on what is no longer named. All new ports, or none.
    async fn open(self: &Arc<Self>, name: &str, ports: &[Port]) -> io::Result<()> {
        let kept = |port: &Port| self.gates().get(name).is_some_and(|open| open.ports.contains(port));
        let mut bound = Vec::new();
        for port in ports.iter().filter(|port| !kept(port)) {
            bound.push((*port, bind(port).await?));
        }
        let mut gates = self.gates();
        let open = gates.entry(name.to_owned()).or_insert_with(|| Open {
            gate: Arc::new(Gate::new(name)),
            ports: Vec::new(),
            listeners: Vec::new(),
        });
        open.listeners.retain(|(port, listener)| {
            let is_named = ports.contains(port);
            if !is_named {
                listener.abort();
            }
            is_named
        });
        for (port, listener) in bound {
            let accepting = accept(Arc::clone(&open.gate), listener, port.port, Arc::clone(&self.permits));
            open.listeners.push((port, tokio::spawn(accepting)));
        }
        ports.clone_into(&mut open.ports);
        Ok(())
    }
}

async fn bind(port: &Port) -> io::Result<TcpListener> {
    let mut attempts = 0;
    loop {
        let socket = if port.listen.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        match socket.bind(port.listen).and_then(|()| socket.listen(BACKLOG)) {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempts < BIND_ATTEMPTS => {
                attempts += 1;
                tokio::time::sleep(BIND_AGAIN_AFTER).await;
            }
            Err(error) => {
                return Err(io::Error::new(error.kind(), format!("cannot listen on {}: {error}", port.listen)));
            }
        }
    }
}

async fn accept(gate: Arc<Gate>, listener: TcpListener, port: u16, permits: Arc<Semaphore>) {
    loop {
        // Without a permit the next connection stays in the kernel's queue.
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((client, _)) => {
                gate.accepted.fetch_add(1, SeqCst);
                let gate = Arc::clone(&gate);
                // Not owned by the listener: a connection in progress outlives a closed gate and ends by itself.
                drop(tokio::spawn(async move {
                    forward(&gate, client, port).await;
                    drop(permit);
                }));
            }
            Err(error) => {
                // Out of descriptors or aborted by its client: the listener itself is whole.
                tracing::warn!(%error, "cannot accept");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
}
