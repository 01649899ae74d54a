//! A connection whose other side must read: when it takes nothing of an answer for too long, the connection ends.
//!
//! Without this, whoever asks for a large blob and never reads it holds a place among the connections for ever, and a
//! thousand of these hold them all. (The kernel tells of room only when it has some KiB, so reading a byte now and then
//! does not help.)

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// A stream, and since when it takes no more.
#[derive(Debug)]
pub struct Reading<S = TcpStream> {
    stream: S,
    span: Duration,
    stuck: Option<Pin<Box<Sleep>>>,
}

impl<S> Reading<S> {
    /// The other side must take something in each `span`.
    pub fn new(stream: S, span: Duration) -> Self {
        Self { stream, span, stuck: None }
    }

    /// What became of a write: done, or waiting for the other side, or waiting for too long.
    fn watch<T>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stuck = None;
            return outcome;
        }
        let span = self.span;
        ready!(self.stuck.get_or_insert_with(|| Box::pin(sleep(span))).as_mut().poll(cx));
        self.stuck = None;
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the other side does not read")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Reading<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Reading<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, outcome)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch(cx, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.watch(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.watch(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn side_that_does_not_read_ends_the_connection_and_one_that_does_is_served() {
        let (ours, mut theirs) = tokio::io::duplex(16);
        let mut reading = Reading::new(ours, Duration::from_millis(200));
        let error = reading.write_all(&[7; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        // What it took in time counts: the clock starts anew with each piece.
        let reader = tokio::spawn(async move {
            let mut bytes = Vec::new();
            theirs.read_to_end(&mut bytes).await.unwrap();
            bytes.len()
        });
        reading.write_all(&[7; 1000]).await.unwrap();
        drop(reading);
        assert_eq!(reader.await.unwrap(), 1016);
    }
}
