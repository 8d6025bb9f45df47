//! How many connections there may be.

use super::support::{Running, closed, in_time, patience};
use coordinator::daemon::net::listen::Patience;
use proto::v1::{self, admin_service_client::AdminServiceClient};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// No peer of these tests is slow.
fn patient() -> Patience {
    Patience { grace: patience().grace, ..Patience::default() }
}

async fn healthy(running: &Running) -> bool {
    let Ok(mut stream) = running.try_tls(running.http, b"http/1.1").await else { return false };
    let request = b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let mut answer = Vec::new();
    let asked = async {
        stream.write_all(request).await?;
        stream.read_to_end(&mut answer).await
    };
    in_time(asked).await.is_ok() && answer.starts_with(b"HTTP/1.1 200")
}

#[tokio::test]
async fn one_address_has_so_many_connections_and_gets_them_back() {
    let running = Running::start("connections_per_address_max = 2", patient()).await;
    let first = running.tls(running.http, b"http/1.1").await;
    let _second = running.tls(running.http, b"http/1.1").await;
    // Closed before a byte of TLS: the peer learns it at once.
    closed(TcpStream::connect(running.http).await.unwrap()).await;
    assert!(running.try_tls(running.http, b"http/1.1").await.is_err());
    // gRPC has seats of its own.
    let admin = running.channel(&running.admin()).await;
    let mut admin = AdminServiceClient::new(admin);
    admin.list_operators(v1::ListOperatorsRequest {}).await.unwrap();
    drop(first);
    in_time(async { while !healthy(&running).await {} }).await;
    running.stopped().await;
}

#[tokio::test]
async fn there_are_so_many_connections_in_all_whatever_they_do() {
    let running = Running::start("connections_max = 3", patient()).await;
    let channel = running.channel(&running.admin()).await;
    let idle = running.tls(running.grpc, b"h2").await;
    // Not even its handshake is begun: it holds a seat too.
    let _silent = TcpStream::connect(running.grpc).await.unwrap();
    in_time(async {
        while running.try_tls(running.grpc, b"h2").await.is_ok() {
            // The silent peer was not accepted yet, and this one had its seat for a moment.
        }
    })
    .await;
    // Whoever has a seat is served, and HTTP is not touched.
    let mut admin = AdminServiceClient::new(channel);
    admin.list_operators(v1::ListOperatorsRequest {}).await.unwrap();
    assert!(healthy(&running).await);
    drop(idle);
    in_time(async { while running.try_tls(running.grpc, b"h2").await.is_err() {} }).await;
    running.stopped().await;
}
