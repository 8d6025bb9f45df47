//! A worker and a coordinator one version apart, in either direction.
//!
//! A real worker works for a real coordinator through a peer in the middle that speaks gRPC to
//! both. It makes every message look like one of another version: with fields that nobody here
//! knows, or without the fields that could have come last. The worker's job is a program that
//! fails, so a whole round goes through it: sync, offer, accept, a signed observation, a receipt.

use attest::{
    Digest, Platform, Subject,
    id::JobId,
    key::SigningKey,
    record::{Capabilities, EnvironmentClass, OperatorRecord, Record, Validity, WorkerRecord},
    time::Timestamp,
};
use axum::{Router, body::Body, extract::State, response::Response};
use coordinator::{
    daemon::{Core, Daemon, notary, roster::Roster, wall},
    journal::{Kind, NewRecord},
    queue::{Class, Event, Job, JobSpec, Limits, Role, Tenant},
    setup::{InitOptions, Loaded, init, read_secret},
};
use http_body_util::{BodyExt, Full};
use std::{fs, path::Path, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use tonic::{
    codegen::http::{Request, Uri},
    transport::{Channel, Identity, Server, ServerTlsConfig},
};
use tower::{Service, ServiceExt};
use worker::daemon::{
    child::Launcher,
    config::Loaded as WorkerLoaded,
    connect, identity,
    run::{Stop, Worker},
};

/// Nothing takes so long.
const HANG: Duration = Duration::from_secs(60);

/// What the other version is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Other {
    /// It says things that nobody here knows.
    Newer,
    /// It does not say these fields of a message, by the method and the direction.
    Older,
}

/// The fields that an older peer would not know: the last ones of each message that has several.
fn last_fields(path: &str, request: bool) -> &'static [u32] {
    match (path.rsplit('/').next().unwrap_or_default(), request) {
        ("Sync", true) => &[1, 6, 7, 8, 9],
        ("Sync", false) => &[4, 5, 6],
        ("Accept", false) => &[1],
        ("Submit", true) => &[4, 50],
        ("Submit", false) => &[2],
        _ => &[],
    }
}

/// A number of the encoding (protobuf.dev, "Encoding").
fn number(bytes: &mut &[u8]) -> u64 {
    let (mut value, mut shift) = (0, 0);
    loop {
        let (first, rest) = bytes.split_first().expect("a whole number");
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        shift += 7;
        if first & 0x80 == 0 {
            return value;
        }
    }
}

/// A message as the other version says it.
fn retold(message: &[u8], other: Other, without: &[u32]) -> Vec<u8> {
    if other == Other::Newer {
        // Field 1000, a number, before; field 1001, bytes, behind.
        let mut out = vec![0xc0, 0x3e, 7];
        out.extend_from_slice(message);
        out.extend_from_slice(&[0xca, 0x3e, 3, b'n', b'e', b'w']);
        return out;
    }
    let (mut rest, mut out) = (message, Vec::new());
    while !rest.is_empty() {
        let start = rest;
        let key = number(&mut rest);
        let length = match key & 7 {
            0 => {
                number(&mut rest);
                0
            }
            1 => 8,
            2 => number(&mut rest) as usize,
            _ => 4,
        };
        rest = &rest[length..];
        if !without.contains(&((key >> 3) as u32)) {
            out.extend_from_slice(&start[..start.len() - rest.len()]);
        }
    }
    out
}

/// The message of a unary call's body, told again (gRPC over HTTP/2: a flag, four bytes of length).
fn framed(body: &[u8], other: Other, without: &[u32]) -> Vec<u8> {
    let Some((head, message)) = body.split_first_chunk::<5>() else { return body.to_vec() };
    assert_eq!(head[0], 0, "expected no compression");
    let told = retold(message, other, without);
    let length = u32::try_from(told.len()).unwrap().to_be_bytes();
    [&[0][..], &length, &told].concat()
}

#[derive(Clone)]
struct Middle {
    other: Other,
    channel: Channel,
}

async fn pass_on(State(middle): State<Middle>, request: Request<Body>) -> Response {
    let Middle { other, mut channel } = middle;
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let body = body.collect().await.unwrap().to_bytes();
    let body = framed(&body, other, last_fields(&path, true));
    parts.uri = format!("https://localhost{path}").parse::<Uri>().unwrap();
    let request = Request::from_parts(parts, tonic::body::Body::new(Full::from(body)));
    let answer = channel.ready().await.unwrap().call(request).await.unwrap();
    let (parts, body) = answer.into_parts();
    let body = body.collect().await.unwrap();
    let trailers = body.trailers().cloned();
    let body = framed(&body.to_bytes(), other, last_fields(&path, false));
    let body = Full::from(body).with_trailers(async move { trailers.map(Ok) });
    Response::from_parts(parts, Body::new(body))
}

fn validity() -> Validity {
    let now = wall::now().unix();
    let at = |seconds| Timestamp::from_unix(seconds).unwrap();
    Validity { from: at(now - 3600), until: at(now + 3600) }
}

/// An operator `acme` with one worker, whose key lies in the worker's folder.
async fn enrol(core: &Core, home: &Path) -> SigningKey {
    let root = SigningKey::generate().unwrap();
    let own = identity::Identity::generate(&home.join("worker.key")).unwrap();
    let operator = OperatorRecord {
        operator: "acme".parse().unwrap(),
        root_key: root.public().clone(),
        organisation: "acme".into(),
        affiliations: vec![],
        contact: String::new(),
        valid: validity(),
    };
    let worker = WorkerRecord {
        operator: "acme".parse().unwrap(),
        key: own.key().public().clone(),
        capabilities: Capabilities::default(),
        environment: EnvironmentClass::default(),
        valid: validity(),
    };
    let mut roster = Roster::clone(&core.roster());
    let records = vec![
        roster.take_operator(&operator.sign(&root).unwrap()).unwrap(),
        roster.take_worker(&worker.sign(&root).unwrap()).unwrap(),
    ];
    core.store.append(records).await.unwrap();
    core.go_on_with(roster);
    own.key().duplicate().unwrap()
}

async fn announce(core: &Arc<Core>) -> JobId {
    let subject = Subject {
        repository: "registry.example/demo/skew".parse().unwrap(),
        digest: Digest::of(b"skew"),
        platform: Platform::linux("amd64"),
    };
    let recipes = vec![Digest::of(b"recipe")];
    let spec = JobSpec::new(subject, recipes, "apko", 0, 2, 60_000).unwrap();
    let (id, shared) = (spec.id, Arc::clone(core));
    let facts = notary::AnnouncedFacts { index: None, evidence: vec![], reopened_by: vec![] };
    let attach = Box::new(move |job: &Job| {
        let key = &shared.loaded.verdict_key;
        let body = notary::announcement(job, &facts, key, wall::now()).unwrap();
        vec![NewRecord::new(Kind::ANNOUNCE, job.spec.id.0, body)]
    });
    let event = Event::Announce { spec, tenant: Tenant("test".into()), class: Class::Push };
    core.store.act(event, attach).await.unwrap();
    id
}

async fn round(other: Other) {
    let folder = tempfile::tempdir().unwrap();
    let (home, own) = (folder.path().join("coordinator"), folder.path().join("worker"));
    let loopback = "127.0.0.1:0".parse().unwrap();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let verifier_id = "https://coordinator.test/assay".to_owned();
    let options =
        InitOptions { listen: loopback, listen_http: loopback, names, verifier_id, publish: None };
    init(&home, &options).unwrap();
    let daemon = Daemon::open(Loaded::read(&home).unwrap(), Limits::default()).await.unwrap();
    let (core, address) = (daemon.core(), format!("https://{}", daemon.grpc));
    let stop = CancellationToken::new();
    let serving = tokio::spawn(daemon.run(stop.clone()));
    fs::create_dir_all(&own).unwrap();
    enrol(&core, &own).await;
    let job = announce(&core).await;
    // The middle has the worker's key and the coordinator's certificate: both sides know it.
    let ca = fs::read_to_string(home.join("ca.pem")).unwrap();
    let id = identity::Identity::load(&own.join("worker.key")).unwrap();
    let channel = connect::channel(&address, Some(&ca), &id).unwrap();
    let router = Router::new().fallback(pass_on).with_state(Middle { other, channel });
    let certificate = fs::read_to_string(home.join("tls.crt")).unwrap();
    let key = read_secret(&home.join("tls.key")).unwrap();
    let tls = ServerTlsConfig::new().identity(Identity::from_pem(certificate, key));
    let incoming = tonic::transport::server::TcpIncoming::bind(loopback).unwrap();
    let middle = incoming.local_addr().unwrap();
    let mut server = Server::builder().tls_config(tls).unwrap();
    let server = server.add_routes(tonic::service::Routes::from(router));
    let between = tokio::spawn(server.serve_with_incoming(incoming));
    fs::write(own.join("policy.toml"), "").unwrap();
    let text = format!(
        "coordinator = \"https://{middle}\"\nca = \"../coordinator/ca.pem\"\n\
         coordinator_key = \"../coordinator/verdict.pub\"\npolicy = \"policy.toml\"\n\
         operator = \"acme\"\n"
    );
    fs::write(own.join("worker.toml"), text).unwrap();
    let script = "cat >/dev/null; exit 3";
    let launcher =
        Launcher { program: "/bin/sh".into(), arguments: vec!["-c".into(), script.into()] };
    let works = Worker::open(WorkerLoaded::read(&own).unwrap(), id, launcher).unwrap();
    let (ends, mut changes) = (Stop::default(), core.changes());
    let working = tokio::spawn(works.run(ends.clone()));
    let filed = async {
        loop {
            let found = core.store.job(&job).unwrap().unwrap();
            if let Some(answer) = found.answers.first() {
                return answer.role;
            }
            changes.changed().await.unwrap();
        }
    };
    let role = tokio::time::timeout(HANG, filed).await.expect("an observation, found a hang");
    assert_eq!(role, Role::Counted, "{other:?}");
    // The worker has a receipt that it believes: it drains only when its outbox is empty.
    ends.drain.cancel();
    tokio::time::timeout(HANG, working).await.expect("the worker's end").unwrap().unwrap();
    between.abort();
    stop.cancel();
    serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_newer_peer_says_more() {
    round(Other::Newer).await;
}

#[tokio::test]
async fn an_older_peer_says_less() {
    round(Other::Older).await;
}
