//! Peers that do not finish, do not speak, do not read.

use super::support::{Running, closed, in_time, patience};
use bytes::Bytes;
use coordinator::daemon::net::listen::Patience;
use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::{Interval, interval},
};
use tonic::codegen::{Body, http};
use tower::{Service, ServiceExt};

/// The beginning of HTTP/2 (RFC 9113, 3.4), and an empty SETTINGS frame.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

/// Writes a byte at a time until the other side has had enough.
async fn trickle(mut stream: impl AsyncWrite + Unpin, bytes: &[u8]) {
    in_time(async {
        for byte in bytes.iter().cycle() {
            if stream.write_all(&[*byte]).await.is_err() || stream.flush().await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

/// Writes the same again and again, and reads nothing, until the other side has had enough.
async fn flood(mut stream: impl AsyncWrite + Unpin, bytes: &[u8]) {
    let many = bytes.repeat(64);
    in_time(async { while stream.write_all(&many).await.is_ok() {} }).await;
}

#[tokio::test]
async fn a_handshake_that_is_not_finished_is_dropped() {
    let running = Running::start("", patience()).await;
    for address in [running.grpc, running.http] {
        closed(TcpStream::connect(address).await.unwrap()).await;
        // The head of a TLS record that promises more.
        let mut begun = TcpStream::connect(address).await.unwrap();
        begun.write_all(&[0x16, 3, 1, 2, 0]).await.unwrap();
        closed(begun).await;
        trickle(TcpStream::connect(address).await.unwrap(), &[0x16, 3, 1, 64, 0, 1, 0]).await;
    }
    running.stopped().await;
}

#[tokio::test]
async fn silence_after_the_handshake_is_dropped() {
    let running = Running::start("", patience()).await;
    closed(running.tls(running.http, b"http/1.1").await).await;
    closed(running.tls(running.grpc, b"h2").await).await;
    running.stopped().await;
}

#[tokio::test]
async fn a_beginning_of_one_byte_at_a_time_is_dropped() {
    let running = Running::start("", patience()).await;
    trickle(running.tls(running.http, b"http/1.1").await, b"GET /healthz?aaaaaaaaaaaaaaaa").await;
    trickle(running.tls(running.grpc, b"h2").await, PREFACE).await;
    running.stopped().await;
}

#[tokio::test]
async fn a_peer_that_reads_nothing_is_cut_off() {
    let quick = Patience { stall: patience().stall, ..Patience::default() };
    let running = Running::start("", quick).await;
    let request = b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n";
    flood(running.tls(running.http, b"http/1.1").await, request).await;
    let mut grpc = running.tls(running.grpc, b"h2").await;
    grpc.write_all(PREFACE).await.unwrap();
    grpc.write_all(&SETTINGS).await.unwrap();
    // A PING is answered by as many bytes.
    flood(grpc, &[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]).await;
    running.stopped().await;
}

/// A request's message that comes a byte at a time, and says that it is long.
struct Trickle {
    clock: Interval,
    head: Vec<u8>,
}

impl Body for Trickle {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        if self.clock.poll_tick(context).is_pending() {
            return Poll::Pending;
        }
        let byte = self.head.pop().unwrap_or(b'a');
        Poll::Ready(Some(Ok(http_body::Frame::data(Bytes::from(vec![byte])))))
    }
}

#[tokio::test]
async fn a_call_whose_message_trickles_in_is_refused() {
    let quick = Patience { call: Duration::from_millis(700), ..Patience::default() };
    let running = Running::start("", quick).await;
    let mut channel = running.channel(&running.admin()).await;
    // Not compressed, 1000 bytes long; taken from the end.
    let head = vec![0xe8, 0x03, 0, 0, 0];
    let body = Trickle { clock: interval(Duration::from_millis(50)), head };
    let request = http::Request::post("https://localhost/assay.v1.ImageService/Get")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(tonic::body::Body::new(body))
        .unwrap();
    let service = channel.ready().await.unwrap();
    let answer = in_time(service.call(request)).await.unwrap();
    let status = tonic::Status::from_header_map(answer.headers()).unwrap();
    assert!(
        matches!(status.code(), tonic::Code::DeadlineExceeded | tonic::Code::Cancelled),
        "{status:?}"
    );
    running.stopped().await;
}
