//! Connections to callers that take nothing: a stream of events whose listener never reads would keep its seat as long as the system keeps the connection.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep};

/// A listener whose connections end when the other side takes nothing for so long.
#[derive(Debug)]
pub(crate) struct PatientListener {
    inner: TcpListener,
    patience: Duration,
}

impl PatientListener {
    pub(crate) fn new(inner: TcpListener, patience: Duration) -> Self {
        Self { inner, patience }
    }
}

impl Listener for PatientListener {
    type Io = Patient<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (stream, address) = Listener::accept(&mut self.inner).await;
        bound_sending(&stream, self.patience);
        // A small answer isn't held back until the one before is acknowledged.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "the system holds back small answers");
        }
        (Patient::new(stream, self.patience), address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

/// What is sent to a caller that is gone is taken by the system, which would try for a quarter of an hour to bring it there.
#[cfg(target_os = "linux")]
fn bound_sending(stream: &TcpStream, patience: Duration) {
    let within = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
    if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(stream, within) {
        tracing::debug!(%error, "the system doesn't bound how long it tries to send");
    }
}

/// Other systems know no such bound.
#[cfg(not(target_os = "linux"))]
fn bound_sending(_stream: &TcpStream, _patience: Duration) {}

/// A connection on which writing fails when nothing could be written for so long.
#[derive(Debug)]
pub(crate) struct Patient<T> {
    inner: T,
    patience: Duration,
    /// Ends the wait, from when on nothing could be written.
    waits: Option<Pin<Box<Sleep>>>,
}

impl<T> Patient<T> {
    fn new(inner: T, patience: Duration) -> Self {
        Self {
            inner,
            patience,
            waits: None,
        }
    }

    /// What becomes of an attempt to write.
    fn bounded<R>(
        &mut self,
        context: &mut Context<'_>,
        attempt: Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        if attempt.is_ready() {
            self.waits = None;
            return attempt;
        }
        let until = Instant::now() + self.patience;
        let waits = self
            .waits
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        ready!(waits.as_mut().poll(context));
        tracing::debug!(
            waited_seconds = self.patience.as_secs(),
            "a caller takes nothing: its connection is ended"
        );
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Patient<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Patient<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let attempt = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.bounded(context, attempt)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let attempt = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        self.bounded(context, attempt)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let attempt = Pin::new(&mut self.inner).poll_shutdown(context);
        self.bounded(context, attempt)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn writing_fails_when_nothing_is_taken_for_too_long() {
        let (ours, _theirs) = duplex(4);
        let mut patient = Patient::new(ours, Duration::from_millis(10));
        let error = patient.write_all(b"too much").await.expect_err("it waits");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn every_byte_that_is_taken_begins_the_wait_anew() {
        let (ours, mut theirs) = duplex(1);
        let mut patient = Patient::new(ours, Duration::from_mins(1));
        let mut got = [0; 8];
        let (written, read) =
            tokio::join!(patient.write_all(b"too much"), theirs.read_exact(&mut got));
        assert!(written.is_ok() && read.is_ok());
        assert_eq!((&got, patient.waits.is_none()), (b"too much", true));
    }
}
