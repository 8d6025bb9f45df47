//! A coordinator with a long past: how fast the index is made, how long a cold start takes, how
//! much memory it needs, how fast the history of an image is told.

use crate::{arguments::Arguments, fleet, image, machine, past, report::Report, serve::Server};
use anyhow::{Result, ensure};
use coordinator::{
    journal::Options,
    setup::Loaded,
    store::{self, NoNotary, Parts, SystemSurroundings},
};
use proto::v1::{self, image_service_client::ImageServiceClient};
use rand::Rng;
use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

/// Questions about images drawn at random.
const QUESTIONS: usize = 2000;
/// Questions about the image with the longest history.
const FAMOUS_QUESTIONS: usize = 200;

/// Runs it: `--keep 1` uses the past of an earlier run.
pub fn run(arguments: &Arguments) -> Result<()> {
    let observations = arguments.get("observations", 1_000_000u64)?;
    let folder = arguments.folder()?.join(format!("history-{observations}"));
    let part = arguments.get("part", "all".to_owned())?;
    if part != "ask" {
        make(&folder, observations)?;
    }
    if part != "make" {
        ask(&folder, observations)?;
    }
    Ok(())
}

fn make(folder: &Path, observations: u64) -> Result<()> {
    let mut report = Report::new(format!("history: making {observations} observations"));
    let members = fleet::make(folder, 60, 3)?;
    let started = Instant::now();
    let past = past::write(folder, &members, observations)?;
    let wrote = started.elapsed().as_secs_f64();
    std::fs::write(folder.join("images"), past.images.to_string())?;
    report.add("journal", past.bytes as f64 / f64::from(1 << 20), "MiB", "");
    report.add("records", past.records as f64, "", "");
    report.add("written", past.records as f64 / wrote, "records/s", "");
    let started = Instant::now();
    let parts = Parts {
        limits: fleet::limits(),
        notary: Arc::new(NoNotary),
        around: Arc::new(SystemSurroundings::default()),
        on_fatal: Box::new(|error| panic!("the journal ended: {error}")),
    };
    let data = Loaded::read(&fleet::home(folder))?.data_folder();
    let opened = store::open(&data, Options::new([0; 16]), parts, |_, _| {})?;
    let took = started.elapsed().as_secs_f64();
    opened.store.close();
    report.add("index made in", took, "s", "");
    report.add("index followed", past.records as f64 / took, "records/s", "");
    report.add(
        "memory at most, making the index",
        machine::memory(std::process::id())?.1,
        "MiB",
        "",
    );
    drop(opened);
    report.add("index", size(&data.join(store::INDEX_FOLDER))? / f64::from(1 << 20), "MiB", "");
    report.print()
}

fn size(folder: &Path) -> Result<f64> {
    let mut bytes = 0.0;
    for entry in std::fs::read_dir(folder)? {
        let (entry, path) =
            (entry.as_ref().map(|e| e.metadata()), entry.as_ref().map(|e| e.path()));
        let (Ok(Ok(about)), Ok(path)) = (entry, path) else { continue };
        bytes += if about.is_dir() { size(&path)? } else { about.len() as f64 };
    }
    Ok(bytes)
}

fn ask(folder: &Path, observations: u64) -> Result<()> {
    let images: u64 = std::fs::read_to_string(folder.join("images"))?.parse()?;
    let mut report =
        Report::new(format!("history: {observations} observations of {images} images"));
    let started = Instant::now();
    let server = Server::start(folder, 0, 3)?;
    report.add("cold start, until it listens", started.elapsed().as_secs_f64(), "s", "< 10");
    report.add("of that, opening the store", server.listening.open_ms as f64 / 1000.0, "s", "");
    let process = server.process();
    let (now, most) = machine::memory(process)?;
    report.add("memory after the start", now, "MiB", "< 1024");
    report.add("memory during the start, at most", most, "MiB", "< 1024");
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let channel = fleet::connect_admin(folder, &server.listening.grpc).await?;
        let mut client =
            ImageServiceClient::new(channel).max_decoding_message_size(proto::MESSAGE_BYTES_MAX);
        let mut took = Vec::with_capacity(QUESTIONS);
        for _ in 0..QUESTIONS {
            let number = rand::rng().random_range(1..images);
            let (rows, time) = history(&mut client, number, true, 1000).await?;
            ensure!(rows == 12, "expected 9 observations and 3 verdicts, found {rows} rows");
            took.push(time);
        }
        report.latency("history of one image, 12 rows", &mut took, "< 50");
        let mut took = Vec::with_capacity(FAMOUS_QUESTIONS);
        for _ in 0..FAMOUS_QUESTIONS {
            let (rows, time) = history(&mut client, 0, true, 1000).await?;
            ensure!(rows == 320, "expected 240 observations and 80 verdicts, found {rows} rows");
            took.push(time);
        }
        report.latency("history of the famous image, 320 rows", &mut took, "< 50");
        let mut took = Vec::with_capacity(FAMOUS_QUESTIONS);
        for _ in 0..FAMOUS_QUESTIONS {
            let number = rand::rng().random_range(1..images);
            took.push(history(&mut client, number, false, 100).await?.1);
        }
        report.latency("history of a repository, a page of 100 rows", &mut took, "");
        anyhow::Ok(())
    })?;
    let (now, most) = machine::memory(process)?;
    report.add("memory after the questions", now, "MiB", "< 1024");
    report.add("memory, at most", most, "MiB", "< 1024");
    server.stop()?;
    report.print()
}

async fn history(
    client: &mut ImageServiceClient<tonic::transport::Channel>,
    number: u64,
    one: bool,
    rows_max: u32,
) -> Result<(usize, Duration)> {
    let subject = image::subject(number, 100)?;
    let request = v1::HistoryRequest {
        repository: subject.repository.to_string(),
        digest: if one { subject.digest.to_string() } else { String::new() },
        rows_max,
        ..v1::HistoryRequest::default()
    };
    let asked = Instant::now();
    let rows = client.history(request).await?.into_inner().rows.len();
    Ok((rows, asked.elapsed()))
}
