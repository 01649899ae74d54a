//! Clients of the shop: each pays again and again, and keeps a book of what was acknowledged.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A client that pays.
pub(crate) struct Payer {
    stop: Arc<AtomicBool>,
    paid: Arc<Mutex<Vec<String>>>,
    odd: Arc<Mutex<Vec<String>>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Payer {
    /// Pays at this port until it is dropped; its payments begin with its name.
    pub(crate) fn start(port: u16, name: &str) -> Self {
        let name = name.to_owned();
        let (stop, paid) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let odd = Arc::new(Mutex::new(Vec::new()));
        let (ended, book, oddities) = (stop.clone(), paid.clone(), odd.clone());
        let thread = std::thread::spawn(move || {
            let mut number = 0;
            while !ended.load(Ordering::Relaxed) {
                number += 1;
                let payment = format!("{name}{number}");
                match ask(port, &format!("POST /pay/{payment}")) {
                    Ok(answer) if answer == "paid" => book.lock().expect("the client's book").push(payment),
                    Ok(answer) => oddities.lock().expect("a list").push(format!("{payment}: {answer:?}")),
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                        oddities.lock().expect("a list").push(format!("{payment}: no end within its patience"));
                    }
                    // Refused, reset or closed before a whole answer: a plain failure.
                    Err(_) => {}
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        Self { stop, paid, odd, thread: Some(thread) }
    }

    /// What was acknowledged so far.
    pub(crate) fn acknowledged(&self) -> Vec<String> {
        self.paid.lock().expect("the client's book").clone()
    }

    /// Answers that were neither the whole one nor a plain failure.
    pub(crate) fn odd(&self) -> Vec<String> {
        self.odd.lock().expect("a list").clone()
    }

    /// Ends, and gives what was acknowledged.
    pub(crate) fn end(mut self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
        self.acknowledged()
    }
}

impl Drop for Payer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// One request; the body of a whole answer.
pub(crate) fn ask(port: u16, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    // In one piece: the program reads once.
    stream.write_all(format!("{request} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).ok_or(std::io::ErrorKind::UnexpectedEof.into())
}
