//! A coordinator that is told to stop: what is held is answered, what is stuck is cut, what was
//! acknowledged is on disk, and the folder is free.

use super::support::{Running, closed, in_time, patience};
use coordinator::{
    daemon::{Daemon, net::listen::Patience},
    queue::Limits,
    setup::Loaded,
};
use proto::v1::{
    self, admin_service_client::AdminServiceClient, worker_service_client::WorkerServiceClient,
};
use tokio::io::AsyncWriteExt;

fn idle() -> v1::SyncRequest {
    v1::SyncRequest {
        capabilities: Some(v1::Capabilities {
            architectures: vec!["amd64".into()],
            rebuilders: vec!["apko".into()],
            isolation: "none".into(),
            memory_mib: 0,
        }),
        slots_free: 1,
        wait_seconds: 60,
        ..Default::default()
    }
}

#[tokio::test]
async fn held_calls_are_answered_and_the_folder_is_free_again() {
    // A grace that no test waits for: it must not be needed.
    let running = Running::start("", Patience::default()).await;
    let (_, key) = running.enrolled("acme").await;
    let mut worker = WorkerServiceClient::new(running.channel(&key).await);
    let held = tokio::spawn(async move { worker.sync(idle()).await });
    in_time(async {
        while running.core.wakes.held() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let end = running.core.store.end();
    let (home, _folder) = running.stopped().await;
    let answer = in_time(held).await.unwrap().unwrap().into_inner();
    assert!(answer.offers.is_empty() && answer.stop.is_empty());
    let again = Daemon::open(Loaded::read(&home).unwrap(), Limits::default()).await.unwrap();
    // What its own tasks wrote before they stopped may have come after the look.
    assert!(again.core().store.end() >= end);
    assert_eq!(again.core().roster().workers.len(), 1);
}

#[tokio::test]
async fn a_worker_whose_call_is_gone_is_not_offered_anything() {
    let running = Running::start("", Patience::default()).await;
    let (_, key) = running.enrolled("acme").await;
    let mut worker = WorkerServiceClient::new(running.channel(&key).await);
    let held = tokio::spawn(async move { worker.sync(idle()).await });
    let held_calls = |wanted: usize| {
        let core = running.core.clone();
        async move {
            while core.wakes.held() != wanted {
                tokio::task::yield_now().await;
            }
        }
    };
    in_time(held_calls(1)).await;
    held.abort();
    in_time(held_calls(0)).await;
    running.stopped().await;
}

#[tokio::test]
async fn two_held_calls_of_one_worker_the_older_is_answered() {
    let running = Running::start("", Patience::default()).await;
    let (_, key) = running.enrolled("acme").await;
    let mut first = WorkerServiceClient::new(running.channel(&key).await);
    let mut second = WorkerServiceClient::new(running.channel(&key).await);
    let older = tokio::spawn(async move { first.sync(idle()).await });
    in_time(async {
        while running.core.wakes.held() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let newer = tokio::spawn(async move { second.sync(idle()).await });
    in_time(older).await.unwrap().unwrap();
    running.stopped().await;
    in_time(newer).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_stuck_peer_does_not_hold_up_the_end() {
    let slow = Patience { grace: patience().grace, ..Patience::default() };
    let running = Running::start("", slow).await;
    let mut admin = AdminServiceClient::new(running.channel(&running.admin()).await);
    admin.status(v1::StatusRequest {}).await.unwrap();
    // The beginning of a request that never ends, on both sockets.
    let mut http = running.tls(running.http, b"http/1.1").await;
    http.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
    let mut grpc = running.tls(running.grpc, b"h2").await;
    grpc.write_all(b"PRI * HTTP/2.0\r\n\r\n").await.unwrap();
    grpc.flush().await.unwrap();
    let (home, _folder) = running.stopped().await;
    closed(http).await;
    closed(grpc).await;
    Daemon::open(Loaded::read(&home).unwrap(), Limits::default()).await.unwrap();
}
