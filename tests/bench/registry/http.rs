//! The lightest client that both registries can be asked with: HTTP/1.1 on one kept-alive blocking socket. It hashes
//! nothing and keeps nothing, so that what is measured is the server.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// Bytes per read of a body.
const READ_BYTES: usize = 256 << 10;
/// Only a hang reaches it.
const PATIENCE: Duration = Duration::from_mins(5);

/// What a request carries.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Load<'a> {
    /// No body.
    Nothing,
    /// These bytes.
    Bytes(&'a [u8]),
    /// So many bytes of a file, from its start, by the kernel.
    File(&'a File, u64),
}

/// The head of an answer; its body was read.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Its status.
    pub(crate) status: u16,
    /// Where to go on.
    pub(crate) location: Option<String>,
    /// The next page.
    pub(crate) link: Option<String>,
    /// Bytes of its body.
    pub(crate) length: u64,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    host: String,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects to a loopback port.
    pub(crate) fn open(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).with_context(|| format!("connecting to port {port}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream: BufReader::new(stream), host: format!("127.0.0.1:{port}"), buffer: vec![0; READ_BYTES] })
    }

    /// Sends a request and reads the whole answer. Any other status than `expected` is an error with the body's text.
    pub(crate) fn ask(
        &mut self,
        method: &str,
        path: &str,
        kind: &str,
        load: Load<'_>,
        expected: u16,
    ) -> Result<Answer> {
        self.send(method, path, kind, load)?;
        let answer = self.head()?;
        let body = if method == "HEAD" || answer.status == 204 { 0 } else { answer.length };
        if answer.status != expected {
            let mut text = Vec::new();
            self.stream.by_ref().take(body.min(4096)).read_to_end(&mut text)?;
            bail!("{method} {path}: {} instead of {expected}: {}", answer.status, String::from_utf8_lossy(&text));
        }
        self.skip(body)?;
        Ok(answer)
    }

    /// Sends the head of a request and its load.
    pub(crate) fn send(&mut self, method: &str, path: &str, kind: &str, load: Load<'_>) -> Result<()> {
        let length = match load {
            Load::Nothing => 0,
            Load::Bytes(bytes) => bytes.len() as u64,
            Load::File(_, length) => length,
        };
        self.promise(method, path, kind, length)?;
        let stream = self.stream.get_mut();
        match load {
            Load::Nothing => {}
            Load::Bytes(bytes) => stream.write_all(bytes)?,
            Load::File(file, length) => {
                // From its start, whoever read it before; `copy` lets the kernel move the bytes.
                let mut file = file;
                std::io::Seek::rewind(&mut file)?;
                let sent = std::io::copy(&mut file.take(length), stream)?;
                ensure!(sent == length, "the file has {sent} bytes instead of {length}");
            }
        }
        Ok(())
    }

    /// Sends the head of a request that has so many bytes to come.
    pub(crate) fn promise(&mut self, method: &str, path: &str, kind: &str, length: u64) -> Result<()> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", self.host);
        if method != "GET" && method != "HEAD" {
            let _ = write!(head, "content-length: {length}\r\n");
        }
        if !kind.is_empty() {
            let name = if method == "PUT" { "content-type" } else { "accept" };
            let _ = write!(head, "{name}: {kind}\r\n");
        }
        head.push_str("\r\n");
        self.stream.get_mut().write_all(head.as_bytes())?;
        Ok(())
    }

    /// Sends some of the bytes that were promised.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.get_mut().write_all(bytes)?)
    }

    /// Reads the head of an answer.
    pub(crate) fn head(&mut self) -> Result<Answer> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|text| text.parse().ok());
        let status = status.with_context(|| format!("no answer of a web server: `{line}`"))?;
        let mut answer = Answer { status, location: None, link: None, length: 0 };
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => answer.length = value.parse().context("a length")?,
                "location" => answer.location = Some(value.to_owned()),
                "link" => answer.link = Some(value.to_owned()),
                "transfer-encoding" => bail!("an answer in chunks, which this client does not read"),
                _ => {}
            }
        }
        Ok(answer)
    }

    /// Reads so many bytes of a body and forgets them.
    pub(crate) fn skip(&mut self, mut bytes: u64) -> Result<()> {
        while bytes > 0 {
            let wanted = usize::try_from(bytes).unwrap_or(READ_BYTES).min(READ_BYTES);
            let read = self.stream.read(&mut self.buffer[..wanted])?;
            ensure!(read > 0, "the answer broke off {bytes} bytes before its end");
            bytes -= read as u64;
        }
        Ok(())
    }
}
