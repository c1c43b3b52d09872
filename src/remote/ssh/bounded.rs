//! A TCP stream that is limited in time and in bytes.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

/// Most bytes that a machine may send. This is several times the size of a file at each well-known place and of all files that these name.
const MAX_READ: usize = 4 * 1024 * 1024;

/// A stream that fails after its deadline or after too many bytes. So a connection never lasts longer than the request, whatever the
/// machine does.
pub(in crate::remote) struct Bounded {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    /// Bytes that may still be read.
    left: usize,
}

impl Bounded {
    /// Limits a stream to end at `end`.
    pub(in crate::remote) fn new(stream: TcpStream, end: Instant) -> Self {
        let end = Box::pin(tokio::time::sleep_until(end));
        let left = MAX_READ;
        Self { stream, end, left }
    }

    fn check(&mut self, cx: &mut Context<'_>) -> std::io::Result<()> {
        match self.end.as_mut().poll(cx) {
            Poll::Ready(()) => Err(std::io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.check(cx)?;
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        let came = buf.filled().len() - before;
        match self.left.checked_sub(came) {
            Some(left) => self.left = left,
            None => return Poll::Ready(Err(std::io::ErrorKind::FileTooLarge.into())),
        }
        read
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
