//! The entrance under load: two programs in two namespaces, switched while clients keep coming.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use super::*;
use crate::netns::tests::Holder;

/// A program: answers each request with its own name. `stop` is an orderly end: it no longer accepts, answers
/// what it has, closes what is idle.
struct Program {
    holder: Holder,
    stopping: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Program {
    fn start(name: &'static str, keep_alive: bool) -> Option<Self> {
        let holder = Holder::start()?;
        let listener = holder.listen(8080);
        listener.set_nonblocking(true).unwrap();
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopping);
        let thread = std::thread::spawn(move || {
            let mut workers = Vec::new();
            while !stop.load(SeqCst) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        let stop = Arc::clone(&stop);
                        workers.push(std::thread::spawn(move || answer(stream, name, keep_alive, &stop)));
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(1)),
                }
            }
            drop(listener);
            for worker in workers {
                worker.join().unwrap();
            }
        });
        Some(Self { holder, stopping, thread: Some(thread) })
    }

    fn stop(&mut self) {
        self.stopping.store(true, SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.stop();
    }
}

fn answer(mut stream: TcpStream, name: &str, keep_alive: bool, stop: &AtomicBool) {
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => request.extend_from_slice(&buffer[..count]),
            Err(_) if stop.load(SeqCst) && request.is_empty() => return,
            Err(_) => continue,
        }
        if request.ends_with(b"\r\n\r\n") {
            request.clear();
            let closing = if keep_alive { "" } else { "Connection: close\r\n" };
            let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{closing}\r\n{name}", name.len());
            if stream.write_all(text.as_bytes()).is_err() || !keep_alive {
                return;
            }
        }
    }
}

fn ask(stream: &mut TcpStream) -> std::io::Result<String> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")?;
    let mut text = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        text.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&text);
        if let Some((_, body)) = text.split_once("\r\n\r\n")
            && body.len() == 3
        {
            return Ok(body.to_owned());
        }
    }
}

fn free_port() -> SocketAddr {
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

struct Running {
    folder: tempfile::TempDir,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Running {
    async fn start() -> (Self, Entrance) {
        let folder = tempfile::tempdir().unwrap();
        let (task, entrance) = Self::serve(folder.path()).await;
        (Self { folder, task }, entrance)
    }

    async fn serve(folder: &std::path::Path) -> (tokio::task::JoinHandle<std::io::Result<()>>, Entrance) {
        let path = folder.to_owned();
        let task = tokio::spawn(async move { serve(&path).await });
        let entrance = Entrance::at(folder);
        while entrance.stats().await.is_err() {
            assert!(!task.is_finished(), "the entrance ended");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        (task, entrance)
    }
}

/// Clients that keep coming until told to stop: how many were served by whom, and how many were not.
struct Load {
    stop: Arc<AtomicBool>,
    served: Arc<[AtomicU64; 2]>,
    failed: Arc<AtomicU64>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    fn start(at: SocketAddr, keep_alive: bool) -> Self {
        let (stop, failed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let served: Arc<[AtomicU64; 2]> = Arc::default();
        let threads = (0..4)
            .map(|_| {
                let (stop, served, failed) = (Arc::clone(&stop), Arc::clone(&served), Arc::clone(&failed));
                std::thread::spawn(move || {
                    let mut kept = None;
                    while !stop.load(SeqCst) {
                        let stream = kept.take().map_or_else(|| TcpStream::connect(at), Ok);
                        let result = stream.and_then(|mut stream| ask(&mut stream).map(|name| (name, stream)));
                        match result {
                            Ok((name, stream)) => {
                                served[usize::from(name == "two")].fetch_add(1, SeqCst);
                                kept = keep_alive.then_some(stream);
                            }
                            Err(error) => {
                                println!("lost: {error}");
                                failed.fetch_add(1, SeqCst);
                            }
                        }
                        std::thread::sleep(Duration::from_millis(2));
                    }
                })
            })
            .collect();
        Self { stop, served, failed, threads }
    }

    async fn reaches(&self, which: usize, count: u64) {
        while self.served[which].load(SeqCst) < count {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    fn end(self) -> u64 {
        self.stop.store(true, SeqCst);
        for thread in self.threads {
            thread.join().unwrap();
        }
        self.failed.load(SeqCst)
    }
}

async fn switch_under_load(keep_alive: bool) {
    let (Some(mut one), Some(two)) = (Program::start("one", keep_alive), Program::start("two", keep_alive)) else {
        return;
    };
    let (running, entrance) = Running::start().await;
    let listen = free_port();
    entrance.open("shop/api", &[Port { listen, port: 8080 }]).await.unwrap();
    entrance.route("shop/api", one.holder.pid()).await.unwrap();
    let load = Load::start(listen, keep_alive);
    load.reaches(0, 200).await;

    entrance.hold("shop/api").await.unwrap();
    assert_eq!(entrance.drain("shop/api", Duration::from_secs(5)).await.unwrap(), 0);
    tokio::task::spawn_blocking(move || {
        one.stop();
        drop(one);
    })
    .await
    .unwrap();
    entrance.route("shop/api", two.holder.pid()).await.unwrap();
    let (waiting, held) = entrance.release("shop/api").await.unwrap();
    println!("held {} ms, {waiting} waited", held.as_millis());

    load.reaches(1, 200).await;
    let (_, stats) = entrance.stats().await.unwrap();
    assert_eq!(tokio::task::spawn_blocking(move || load.end()).await.unwrap(), 0, "{stats:?}");
    assert_eq!(stats[0].failed, 0, "{stats:?}");
    entrance.stop().await.unwrap();
    running.task.await.unwrap().unwrap();
    drop(running.folder);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_under_load_of_new_connections_loses_none() {
    switch_under_load(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_under_load_of_kept_connections_loses_none() {
    switch_under_load(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_waits_for_an_entrance_that_is_on_its_way_back() {
    let folder = tempfile::tempdir().unwrap();
    let (entrance, port) = (Entrance::at(folder.path()), Port { listen: free_port(), port: 8080 });
    let asking = entrance.clone();
    let asked = tokio::spawn(async move { asking.open("shop/api", &[port]).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!asked.is_finished(), "an entrance that is away for a moment is no failure");
    assert!(entrance.stats().await.is_err(), "its keeper is told at once");
    let (task, _) = Running::serve(folder.path()).await;
    asked.await.unwrap().unwrap();
    entrance.stop().await.unwrap();
    task.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_entrance_comes_back_with_its_ports_held_gates_and_routes() {
    let Some(one) = Program::start("one", false) else { return };
    let (running, entrance) = Running::start().await;
    let listen = free_port();
    entrance.open("shop/api", &[Port { listen, port: 8080 }]).await.unwrap();
    entrance.route("shop/api", one.holder.pid()).await.unwrap();
    entrance.hold("shop/api").await.unwrap();
    let before = entrance.stats().await.unwrap().1;

    running.task.abort();
    drop(running.task.await);
    let (task, entrance) = Running::serve(running.folder.path()).await;
    let after = entrance.stats().await.unwrap().1;
    assert_eq!((after[0].held, after[0].pid), (before[0].held, before[0].pid));

    let client = tokio::task::spawn_blocking(move || ask(&mut TcpStream::connect(listen)?));
    while entrance.stats().await.unwrap().1[0].waiting == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(!client.is_finished(), "a held gate lets nobody through");
    entrance.release("shop/api").await.unwrap();
    assert_eq!(client.await.unwrap().unwrap(), "one");
    task.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_does_not_listen_yet_is_waited_for() {
    let Some(holder) = Holder::start() else { return };
    let (running, entrance) = Running::start().await;
    let listen = free_port();
    entrance.open("shop/api", &[Port { listen, port: 8080 }]).await.unwrap();
    entrance.route("shop/api", holder.pid()).await.unwrap();
    let client = tokio::task::spawn_blocking(move || ask(&mut TcpStream::connect(listen)?));
    while entrance.stats().await.unwrap().1[0].retried < 3 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let late = holder.listen(8080);
    let stop = AtomicBool::new(false);
    tokio::task::spawn_blocking(move || answer(late.accept().unwrap().0, "one", false, &stop)).await.unwrap();
    assert_eq!(client.await.unwrap().unwrap(), "one");
    assert_eq!(entrance.stats().await.unwrap().1[0].failed, 0);
    running.task.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_was_sent_is_never_sent_to_another_program() {
    let (Some(dying), Some(two)) = (Holder::start(), Program::start("two", false)) else { return };
    let (running, entrance) = Running::start().await;
    let listen = free_port();
    let listener = dying.listen(8080);
    entrance.open("shop/api", &[Port { listen, port: 8080 }]).await.unwrap();
    entrance.route("shop/api", dying.pid()).await.unwrap();
    let client = tokio::task::spawn_blocking(move || ask(&mut TcpStream::connect(listen)?));
    let taken = tokio::task::spawn_blocking(move || {
        let mut stream = listener.accept().unwrap().0;
        stream.set_nonblocking(false).unwrap();
        let mut buffer = [0; 1024];
        assert!(stream.read(&mut buffer).unwrap() > 0);
        stream
    });
    let taken = taken.await.unwrap();
    entrance.route("shop/api", two.holder.pid()).await.unwrap();
    drop(taken);
    assert!(client.await.unwrap().is_err(), "the client learns that it does not know");
    while entrance.stats().await.unwrap().1[0].open > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(entrance.stats().await.unwrap().1[0].failed, 1);
    running.task.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_said_nothing_yet_does_not_keep_a_program_from_stopping() {
    let Some(program) = Holder::start() else { return };
    let (running, entrance) = Running::start().await;
    let (listen, listener) = (free_port(), program.listen(8080));
    entrance.open("shop/api", &[Port { listen, port: 8080 }]).await.unwrap();
    entrance.route("shop/api", program.pid()).await.unwrap();
    let mut client = TcpStream::connect(listen).unwrap();
    // A program that reads one connection at a time.
    let (reading, is_reading) = tokio::sync::oneshot::channel();
    let stuck = tokio::task::spawn_blocking(move || {
        let mut stream = listener.accept().unwrap().0;
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        reading.send(()).unwrap();
        (stream.read(&mut [0; 16]), listener)
    });
    is_reading.await.unwrap();
    entrance.hold("shop/api").await.unwrap();
    assert_eq!(entrance.drain("shop/api", Duration::from_secs(30)).await.unwrap(), 0);
    let (read, listener) = stuck.await.unwrap();
    assert_eq!(read.unwrap(), 0, "the program is free to stop");
    let asking = tokio::task::spawn_blocking(move || ask(&mut client));
    entrance.release("shop/api").await.unwrap();
    let stop = AtomicBool::new(false);
    tokio::task::spawn_blocking(move || answer(listener.accept().unwrap().0, "one", false, &stop)).await.unwrap();
    assert_eq!(asking.await.unwrap().unwrap(), "one");
    assert_eq!(entrance.stats().await.unwrap().1[0].failed, 0);
    running.task.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_gates_and_a_second_entrance_are_refused() {
    let (running, entrance) = Running::start().await;
    assert_eq!(
        entrance.hold("shop/none").await.unwrap_err().to_string(),
        "the entrance refused: no gate `shop/none` is open"
    );
    let second = serve(running.folder.path()).await.unwrap_err();
    assert_eq!(second.to_string(), "another entrance runs for this folder");
    running.task.abort();
}
