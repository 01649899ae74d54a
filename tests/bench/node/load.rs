//! A steady load on one port: 200 requests a second, each a new connection, begun on time whether earlier ones were
//! answered or not; and what it tells about an interruption.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Between two requests: 200 a second.
const PACE: Duration = Duration::from_millis(5);
/// Every so many requests one is a payment, which the application makes durable before it answers.
pub(crate) const PAYMENT_EVERY: u64 = 20;
/// A client that has no answer by then has lost its request.
const PATIENCE: Duration = Duration::from_secs(30);

/// How one request ended.
#[derive(Clone, Debug)]
struct Request {
    begun: Instant,
    ended: Instant,
    /// `None`: answered with 200.
    failure: Option<&'static str>,
}

#[derive(Debug, Default)]
struct Book {
    requests: Mutex<Vec<Request>>,
    paid: Mutex<Vec<String>>,
    number: AtomicU64,
    stop: AtomicBool,
}

/// A load that runs until it is ended.
#[derive(Debug)]
pub(crate) struct Load {
    book: Arc<Book>,
    ticking: tokio::task::JoinHandle<()>,
}

/// What clients saw of one interruption.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Seen {
    /// The longest time without a good answer, in milliseconds.
    pub(crate) window: f64,
    /// Requests that were refused, reset, or not answered.
    pub(crate) failed: usize,
}

impl Load {
    /// Starts it against a port of the loopback.
    pub(crate) fn start(port: u16, name: &str) -> Self {
        let book = Arc::new(Book::default());
        let ticking = tokio::spawn(tick(Arc::clone(&book), port, name.to_owned()));
        Self { book, ticking }
    }

    /// What clients saw between two moments, and of requests that stretch into that time.
    pub(crate) fn seen(&self, from: Instant, to: Instant) -> Seen {
        seen(&lock(&self.book.requests), from, to)
    }

    /// Ends it, waits for what is under way; the payments that were acknowledged, and every failure with its count.
    pub(crate) async fn end(self) -> Result<(Vec<String>, BTreeMap<&'static str, usize>, usize)> {
        self.book.stop.store(true, Ordering::Relaxed);
        self.ticking.await.context("the load's own task")?;
        let requests = lock(&self.book.requests);
        let mut failures = BTreeMap::new();
        for failure in requests.iter().filter_map(|request| request.failure) {
            *failures.entry(failure).or_insert(0) += 1;
        }
        Ok((lock(&self.book.paid).clone(), failures, requests.len()))
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn seen(requests: &[Request], from: Instant, to: Instant) -> Seen {
    let mut good: Vec<Instant> = requests.iter().filter(|one| one.failure.is_none()).map(|one| one.ended).collect();
    good.sort_unstable();
    let gaps = good.windows(2).filter(|pair| pair[1] >= from && pair[0] <= to).map(|pair| pair[1] - pair[0]);
    let window = gaps.max().unwrap_or_default().as_secs_f64() * 1000.0;
    let is_within = |one: &&Request| one.failure.is_some() && one.ended >= from && one.begun <= to;
    Seen { window, failed: requests.iter().filter(is_within).count() }
}

async fn tick(book: Arc<Book>, port: u16, name: String) {
    let mut pace = tokio::time::interval(PACE);
    // Open loop: what is late is sent at once, so that a slow machine does not thin the load.
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let mut under_way = tokio::task::JoinSet::new();
    while !book.stop.load(Ordering::Relaxed) {
        pace.tick().await;
        let (book, name) = (Arc::clone(&book), name.clone());
        under_way.spawn(async move { request(&book, port, &name).await });
        while under_way.try_join_next().is_some() {}
    }
    while under_way.join_next().await.is_some() {}
}

async fn request(book: &Book, port: u16, name: &str) {
    let number = book.number.fetch_add(1, Ordering::Relaxed);
    let key = number.is_multiple_of(PAYMENT_EVERY).then(|| format!("{name}-{number}"));
    let text = match &key {
        Some(key) => format!("POST /pay/{key} HTTP/1.1\r\nHost: till\r\nContent-Length: 0\r\n\r\n"),
        None => "GET / HTTP/1.1\r\nHost: till\r\n\r\n".to_owned(),
    };
    let begun = Instant::now();
    let failure = match tokio::time::timeout(PATIENCE, ask(port, &text)).await {
        Ok(Ok(())) => None,
        Ok(Err(why)) => Some(why),
        Err(_) => Some("no answer"),
    };
    if let (Some(key), None) = (key, failure) {
        lock(&book.paid).push(key);
    }
    lock(&book.requests).push(Request { begun, ended: Instant::now(), failure });
}

async fn ask(port: u16, text: &str) -> Result<(), &'static str> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.map_err(|_| "refused")?;
    stream.write_all(text.as_bytes()).await.map_err(|_| "reset")?;
    let mut answer = Vec::with_capacity(256);
    stream.read_to_end(&mut answer).await.map_err(|_| "reset")?;
    if answer.starts_with(b"HTTP/1.1 200") {
        return Ok(());
    }
    Err(if answer.is_empty() { "closed" } else { "not 200" })
}
