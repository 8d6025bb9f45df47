//! A registry that dies while images are taken in and really rebuilt, and comes back.
//!
//! The images are the published fixtures; the workers are the real daemon with the real build.
//! Invariant: while it is dead nothing is judged that was not built, and no failure of the network
//! becomes a verdict; when it is back everything ends as it should.

use crate::{
    Arguments, Ended,
    clients::{Load, all_settled},
    coordinator::{Home, Process},
    powercut::check,
    press::{Press, Trust},
    shown,
};
use attest::Digest;
use axum::{
    extract::{Request, State},
    http::StatusCode,
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
};
use oci::serve::{ServeOptions, Store, router};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// More than are asked, so that others take over from those who met the dead registry.
const OPERATORS: usize = 6;
const WANTED: usize = 3;
/// How long one step may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A registry with the published fixtures that can be switched off.
#[derive(Default)]
struct Switch {
    dead: AtomicBool,
    refused: AtomicU64,
}

async fn switched(State(switch): State<Arc<Switch>>, request: Request, next: Next) -> Response {
    if switch.dead.load(Ordering::SeqCst) {
        switch.refused.fetch_add(1, Ordering::SeqCst);
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    next.run(request).await
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/published")
}

async fn serve(switch: &Arc<Switch>) -> Result<String, String> {
    let store = Store::default();
    store.load_layout(fixtures()).map_err(shown)?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.map_err(shown)?;
    let host = listener.local_addr().map_err(shown)?.to_string();
    let app = router(store, ServeOptions::default());
    let app = app.layer(from_fn_with_state(Arc::clone(switch), switched));
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(host)
}

/// The cases that every honest rebuild reproduces, as references.
fn cases(host: &str, images: u64) -> Result<Vec<String>, String> {
    let text = fs::read_to_string(fixtures().join("cases.json")).map_err(shown)?;
    let cases: serde_json::Value = serde_json::from_str(&text).map_err(shown)?;
    let good = cases.as_object().into_iter().flatten().filter(|(_, c)| c["expect"] == "reproduced");
    Ok(good
        .map(|(name, _)| format!("{host}/demo/{name}:latest"))
        .take(usize::try_from(images).unwrap_or(usize::MAX))
        .collect())
}

fn trust(host: &str) -> Result<Trust, String> {
    let read = |name: &str| fs::read_to_string(fixtures().join(name)).map_err(shown);
    let packages = fs::canonicalize(fixtures().join("packages")).map_err(shown)?;
    let pin = Digest::of(read("packages/assay-test-6a1f.rsa.pub")?.as_bytes());
    let text = format!(
        "[[publisher]]\nrepositories = [\"{host}/demo/*\"]\nkey = \"publisher.pub\"\n\
         transparency = \"none\"\n\n[[package_repository]]\n\
         url = \"https://packages.assay.test/*\"\nkeys = \"discovery\"\npins = [\"{pin}\"]\n\
         complete = true\n\n[[mirror]]\nprefix = \"https://packages.assay.test/\"\n\
         url = \"file://{}/\"\ncomplete = true\n\n[[registry]]\nhost = \"{host}\"\n\
         plain_http = true\n\n",
        packages.display()
    );
    let hints = "[\"epoch\", \"install-order\", \"key-set\"]";
    Ok(Trust { text, publisher: read("keys/publisher.pub")?, hints })
}

/// The scenario.
pub async fn run(arguments: &Arguments) -> Ended {
    let assay = arguments.path("assay")?;
    let deaths = arguments.number("deaths", 5)?;
    let switch: Arc<Switch> = Arc::default();
    let host = serve(&switch).await?;
    let names = cases(&host, arguments.number("images", 1000)?)?;
    let images = names.len() as u64;
    let started = Instant::now();
    let root = tempfile::tempdir().map_err(shown)?;
    let trust = trust(&host)?;
    let home = Arc::new(Home::make(&assay, root.path(), &trust, OPERATORS, WANTED)?);
    let load = Load::new(Arc::clone(&home), Press::start().await?, 0, 0);
    let load = Load::with_names(load, names)?;
    let mut coordinator = home.start(|_| {})?;
    home.enrol().await?;
    let mut workers = Vec::new();
    for (name, _) in &home.operators {
        let mut command = Command::new(std::env::current_exe().map_err(shown)?);
        command.arg("worker").arg("--folder").arg(home.worker(name)).arg("--assay").arg(&assay);
        command.args(["--execute", "worker execute"]);
        workers.push(Process::start(command, None)?);
    }
    let submitting = tokio::spawn(Arc::clone(&load).submitter());
    for death in 1..=deaths {
        // More images come, the workers begin, it dies; it comes back when somebody has felt it.
        load.images_max.store(images * death / deaths, Ordering::SeqCst);
        let before = load.ledger.jobs();
        wait("a submission", || {
            load.ledger.jobs() > before || load.next.load(Ordering::SeqCst) >= images
        })
        .await?;
        let felt = switch.refused.load(Ordering::SeqCst);
        switch.dead.store(true, Ordering::SeqCst);
        wait("somebody who asks a dead registry", || {
            switch.refused.load(Ordering::SeqCst) > felt + 2
        })
        .await?;
        switch.dead.store(false, Ordering::SeqCst);
    }
    // An image of two platforms is two jobs: they say nothing about how many images were handed in.
    wait("all images to be handed in", || load.next.load(Ordering::SeqCst) >= images).await?;
    let outcomes = all_settled(&load, Duration::from_secs(900)).await?;
    submitting.abort();
    for worker in &mut workers {
        worker.stop()?;
    }
    coordinator.stop()?;
    for (name, _) in &home.operators {
        crate::kills::read_outbox(&home.worker(name), &load)?;
    }
    let found = check(&load, &home.data())?;
    if outcomes != format!("{images} reproduced") {
        return Err(format!("expected {images} reproduced, found {outcomes}"));
    }
    Ok(format!(
        "registry: died {deaths} times, {} requests refused; {outcomes}; {} receipts, {} lost, {} \
         doubled; {} s",
        switch.refused.load(Ordering::SeqCst),
        load.ledger.receipts(),
        found.lost,
        found.doubled,
        started.elapsed().as_secs()
    ))
}

async fn wait(what: &str, done: impl Fn() -> bool) -> Result<(), String> {
    let until = Instant::now() + PATIENCE;
    while !done() {
        if Instant::now() > until {
            return Err(format!("waited in vain for {what}"));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
