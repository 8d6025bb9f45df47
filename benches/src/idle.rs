//! Many workers that have nothing to do: each with a connection and a held call.

use crate::{arguments::Arguments, fleet, machine, report::Report, serve::Server};
use anyhow::{Result, ensure};
use futures::{StreamExt, stream};
use proto::v1::{self, worker_service_client::WorkerServiceClient};
use std::{
    sync::Arc,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// Handshakes at the same time.
const CONNECTING: usize = 32;

/// Runs it.
pub fn run(arguments: &Arguments) -> Result<()> {
    let folder = arguments.folder()?.join("idle");
    let workers = arguments.get("workers", 10_000usize)?;
    let seconds = arguments.get("seconds", 40u64)?;
    let members = fleet::make(&folder, workers, 3)?;
    let server = Server::start(&folder, 0, 3)?;
    let process = server.process();
    let address = server.listening.grpc.clone();
    let empty = machine::memory(process)?.0;
    let runtime = tokio::runtime::Runtime::new()?;
    let answered = Arc::new(AtomicU64::new(0));
    let failed = Arc::new(AtomicU64::new(0));
    let mut report = Report::new(format!("idle: {workers} workers with a held call each"));
    report.add("memory before, workers enrolled", empty, "MiB", "");
    runtime.block_on(async {
        let started = Instant::now();
        let mut channels = stream::iter(&members)
            .map(|member| fleet::connect(&folder, &address, &member.key))
            .buffer_unordered(CONNECTING);
        let mut tasks = Vec::new();
        while let Some(channel) = channels.next().await {
            let (answered, failed) = (Arc::clone(&answered), Arc::clone(&failed));
            let mut client = WorkerServiceClient::new(channel?);
            tasks.push(tokio::spawn(async move {
                loop {
                    match client.sync(idle()).await {
                        Ok(_) => answered.fetch_add(1, Ordering::Relaxed),
                        Err(_) => failed.fetch_add(1, Ordering::Relaxed),
                    };
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }));
        }
        report.add("connected in", started.elapsed().as_secs_f64(), "s", "");
        tokio::time::sleep(Duration::from_secs(5)).await;
        let before = machine::processor_seconds(process)?;
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let used = machine::processor_seconds(process)? - before;
        let (now, most) = machine::memory(process)?;
        report.add("memory", now, "MiB", "<= 1024, aim 400");
        report.add("memory, at most", most, "MiB", "<= 1024, aim 400");
        report.add("memory of one idle worker", (now - empty) * 1024.0 / workers as f64, "KiB", "");
        report.add("share of one core", 100.0 * used / seconds as f64, "%", "");
        report.add("calls answered meanwhile", answered.load(Ordering::Relaxed) as f64, "", "");
        report.add("calls failed", failed.load(Ordering::Relaxed) as f64, "", "0");
        for task in &tasks {
            task.abort();
        }
        anyhow::Ok(())
    })?;
    server.stop()?;
    report.print()?;
    ensure!(failed.load(Ordering::Relaxed) == 0, "expected no failed call");
    Ok(())
}

fn idle() -> v1::SyncRequest {
    v1::SyncRequest {
        worker_version: "load".into(),
        capabilities: Some(v1::Capabilities {
            architectures: vec!["amd64".into()],
            rebuilders: vec!["apko".into()],
            isolation: "process".into(),
            memory_mib: 0,
        }),
        slots_free: 1,
        wait_seconds: 30,
        ..v1::SyncRequest::default()
    }
}
