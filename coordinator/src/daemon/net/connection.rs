//! A connection whose peer can keep it only by taking part.
//!
//! [`Paced`] lies under TLS and watches writing: a peer that takes no byte for [`STALL_MAX`] is
//! cut off, so that nobody holds an answer in memory by not reading it. [`Connection`] lies over
//! TLS and watches the beginning: the first bytes of the protocol must come within [`OPENING_MAX`]
//! after the handshake. Later silence is the protocols' matter (HTTP/2 pings, HTTP/1 header time).
//!
//! Invariant: what is cut gives an error to whoever reads or writes, and its seat comes back when
//! it is dropped; no timer runs for a connection that is idle.

use super::seats::Seat;
use crate::tls::PeerKey;
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};
use tonic::transport::server::Connected;

/// Longest time in which a peer takes no byte of what is sent: 30 s, as for a ping.
pub const STALL_MAX: Duration = Duration::from_secs(30);
/// Longest time from the handshake to the first bytes of the protocol: 10 s.
pub const OPENING_MAX: Duration = Duration::from_secs(10);

/// A transport that ends when its peer takes nothing for long.
#[derive(Debug)]
pub struct Paced<S> {
    stream: S,
    stall_max: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Paced<S> {
    /// Watches a stream.
    pub fn new(stream: S, stall_max: Duration) -> Self {
        Self { stream, stall_max, stalled: None }
    }

    /// Lets a result of writing pass, unless it was pending for too long.
    fn paced<T>(
        &mut self,
        context: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.stalled = None;
            return result;
        }
        let stall_max = self.stall_max;
        let timer = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(stall_max)));
        match timer.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "expected the peer to read what was sent, found that it takes nothing",
            ))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.paced(context, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(context);
        self.paced(context, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_shutdown(context);
        self.paced(context, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.paced(context, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Who is at the other end, as the handshake proved it: in the extensions of each request.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub Option<PeerKey>);

/// A connection after its handshake, with its seat.
#[derive(Debug)]
pub struct Connection<S> {
    stream: S,
    seat: Seat,
    peer: Peer,
    opening: Option<Opening>,
}

#[derive(Debug)]
struct Opening {
    until: Pin<Box<Sleep>>,
    missing: usize,
}

impl<S> Connection<S> {
    /// A connection that has to show its first `bytes` within `opening_max`.
    pub fn new(stream: S, seat: Seat, peer: Peer, (bytes, opening_max): (usize, Duration)) -> Self {
        let until = Box::pin(tokio::time::sleep(opening_max));
        Self { stream, seat, peer, opening: Some(Opening { until, missing: bytes }) }
    }

    fn cut(&self, context: &Context<'_>) -> Option<io::Error> {
        let why = "the coordinator is stopping";
        self.seat.is_cut(context).then(|| io::Error::new(io::ErrorKind::ConnectionAborted, why))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(error) = self.cut(context) {
            return Poll::Ready(Err(error));
        }
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        let Some(opening) = &mut self.opening else { return result };
        opening.missing = opening.missing.saturating_sub(buffer.filled().len() - before);
        if opening.missing == 0 {
            self.opening = None;
            return result;
        }
        match opening.until.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "expected the first bytes of the protocol after the handshake, found silence",
            ))),
            Poll::Pending => result,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(error) = self.cut(context) {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(error) = self.cut(context) {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(error) = self.cut(context) {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(error) = self.cut(context) {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl<S> Connected for Connection<S> {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer
    }
}
