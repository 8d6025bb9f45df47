//! Whole jobs over gRPC: announce, sync with an offer, accept, a signed observation, a receipt;
//! the coordinator judges each job and signs the verdict.

use crate::{
    arguments::Arguments,
    fleet::{self, Member},
    image::{self, Permission},
    machine,
    report::Report,
    serve::Server,
};
use anyhow::{Context, Result, ensure};
use attest::{
    Digest,
    dsse::Envelope,
    id::JobId,
    record::{JobAnnounce, Lease, Record},
};
use proto::v1::{self, worker_service_client::WorkerServiceClient};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tonic::transport::Channel;

/// What one connection saw.
#[derive(Default)]
struct Seen {
    receipts: u64,
    refused: u64,
    dispatch: Vec<Duration>,
    accept: Vec<Duration>,
    submit: Vec<Duration>,
}

/// The published images by digest.
type Images = HashMap<Digest, u64>;

/// Runs it.
pub fn run(arguments: &Arguments) -> Result<()> {
    let folder = arguments.folder()?.join("cycles");
    let connections = arguments.get("connections", 200usize)?;
    let seconds = arguments.get("seconds", 20u64)?;
    let wanted = arguments.get("wanted", 1u32)?;
    let slots = arguments.get("slots", 1u32)?;
    let rate = arguments.get("rate", 0u64)?;
    let jobs = arguments.get("jobs", seconds * 3000)?;
    let members = fleet::make(&folder, connections, wanted)?;
    let mut server = Server::start(&folder, jobs, wanted)?;
    let images: Images = (0..jobs)
        .map(|number| Ok((Digest::of(&image::manifest(number)?), number)))
        .collect::<Result<_>>()?;
    let images = Arc::new(images);
    let runtime = tokio::runtime::Runtime::new()?;
    let process = server.process();
    let address = server.listening.grpc.clone();
    let (seen, took, used) = runtime.block_on(async {
        let mut channels = Vec::new();
        for member in &members {
            channels.push(fleet::connect(&folder, &address, &member.key).await?);
        }
        server.feed()?;
        let before = (machine::processor_seconds(process)?, own_seconds()?);
        let (started, end) = (Instant::now(), Instant::now() + Duration::from_secs(seconds));
        let tasks: Vec<_> = members
            .into_iter()
            .zip(channels)
            .map(|(member, channel)| {
                let images = Arc::clone(&images);
                let pace =
                    (rate > 0).then(|| Duration::from_secs(connections as u64) / rate as u32);
                tokio::spawn(
                    async move { work(member, channel, &images, (slots, pace), end).await },
                )
            })
            .collect();
        let mut all = Seen::default();
        for task in tasks {
            let seen = task.await??;
            all.receipts += seen.receipts;
            all.refused += seen.refused;
            all.dispatch.extend(seen.dispatch);
            all.accept.extend(seen.accept);
            all.submit.extend(seen.submit);
        }
        let after = (machine::processor_seconds(process)?, own_seconds()?);
        anyhow::Ok((all, started.elapsed(), (after.0 - before.0, after.1 - before.1)))
    })?;
    let memory = machine::memory(process)?;
    let served = server.stop()?;
    ensure!(seen.receipts > 0, "expected receipts, found none");
    let title = match rate {
        0 => "as fast as it goes".to_owned(),
        rate => format!("paced at {rate}/s"),
    };
    let title = format!(
        "cycles over gRPC with TLS, {title}: {connections} connections, {wanted} observations a \
         job, {slots} jobs at a time each"
    );
    report(seen, took, used, memory, &served, title)
}

fn own_seconds() -> Result<f64> {
    machine::processor_seconds(std::process::id())
}

fn report(
    mut seen: Seen,
    took: Duration,
    (server, generator): (f64, f64),
    memory: (f64, f64),
    served: &crate::serve::Served,
    title: String,
) -> Result<()> {
    let mut report = Report::new(title);
    let seconds = took.as_secs_f64();
    let each = |count: u64| count as f64 / seconds;
    report.add(
        "cycles (lease, observation, receipt)",
        each(seen.receipts),
        "/s",
        ">= 1000, aim 3000",
    );
    report.add("jobs judged, verdict on disk", each(served.judged), "/s", "");
    report.add("jobs announced, of those that could be judged", each(served.announced), "/s", "");
    report.add("calls refused or failed", seen.refused as f64, "", "0");
    report.latency("dispatch (sync that brings an offer)", &mut seen.dispatch, "< 50");
    report.latency("accept", &mut seen.accept, "");
    report.latency("submit until the receipt", &mut seen.submit, "");
    let share = |spent: f64| 1000.0 * spent / seen.receipts as f64;
    report.add("server's processor time for a cycle", share(server), "ms", "");
    report.add("generator's processor time for a cycle", share(generator), "ms", "");
    report.add("server's memory, at most", memory.1, "MiB", "");
    report.print()
}

async fn work(
    member: Member,
    channel: Channel,
    images: &Images,
    (slots, pace): (u32, Option<Duration>),
    end: Instant,
) -> Result<Seen> {
    let mut client = WorkerServiceClient::new(channel);
    let mut seen = Seen::default();
    // Spread, so that they do not all ask at the same moment.
    let mut next = Instant::now() + pace.unwrap_or_default().mul_f64(rand::random());
    while Instant::now() < end {
        if let Some(pace) = pace {
            tokio::time::sleep_until(next.into()).await;
            next = Instant::now().max(next + pace);
        }
        let asked = Instant::now();
        let answer = client.sync(report_of(slots)).await;
        let Ok(answer) = answer else {
            seen.refused += 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let offers = answer.into_inner().offers;
        if !offers.is_empty() {
            seen.dispatch.push(asked.elapsed());
        }
        for offer in offers {
            cycle(&member, &mut client, &offer, images, &mut seen).await?;
        }
    }
    Ok(seen)
}

fn report_of(slots: u32) -> v1::SyncRequest {
    v1::SyncRequest {
        worker_version: "load".into(),
        capabilities: Some(v1::Capabilities {
            architectures: vec!["amd64".into()],
            rebuilders: vec!["apko".into()],
            isolation: "process".into(),
            memory_mib: 0,
        }),
        slots_free: slots,
        wait_seconds: 1,
        ..v1::SyncRequest::default()
    }
}

async fn cycle(
    member: &Member,
    client: &mut WorkerServiceClient<Channel>,
    offer: &v1::Offer,
    images: &Images,
    seen: &mut Seen,
) -> Result<()> {
    let lease = Lease::read_unverified(&Envelope::parse(&offer.lease_envelope)?)?;
    let announce = JobAnnounce::read_unverified(&Envelope::parse(&offer.announce_envelope)?)?;
    let (name, fence) = (lease.lease.to_string(), lease.fence.0);
    let asked = Instant::now();
    let accept = v1::AcceptRequest { lease: name.clone(), fence };
    if client.accept(accept).await.is_err() {
        seen.refused += 1;
        return Ok(());
    }
    seen.accept.push(asked.elapsed());
    let number = images.get(&announce.subject.digest).context("expected one of the images")?;
    let job: JobId = announce.job;
    let permission =
        Permission { job, attempt: lease.attempt, lease: lease.lease, fence: lease.fence };
    let envelope = image::observed(
        &announce.subject,
        image::manifest(*number)?,
        &announce.recipes,
        &permission,
        (&member.operator, &member.key),
    )?;
    let request = v1::SubmitRequest {
        lease: name,
        fence,
        envelope: envelope.to_json(),
        ..v1::SubmitRequest::default()
    };
    let asked = Instant::now();
    match client.submit(request).await {
        Ok(answer) => {
            let answer = answer.into_inner();
            ensure!(answer.filed_as == "counted", "expected it to count: {}", answer.filed_as);
            ensure!(answer.receipt.is_some(), "expected a receipt, found none");
            seen.receipts += 1;
            seen.submit.push(asked.elapsed());
        }
        Err(_) => seen.refused += 1,
    }
    Ok(())
}
