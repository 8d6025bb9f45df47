//! Coordinators and workers that are given what they cannot use, or stopped in the middle.

use crate::bench::Bench;
use crate::{WORDS, assert_error};
use harness::registry::{Fault, What};
use oci::media;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_refuses_what_it_cannot_read_and_announces_nothing() {
    let mut bench = Bench::start().await;
    let fleet = crate::bench::fleet::Fleet::start(&bench, "").await;
    let submit = async |bench: &Bench, image: &str| {
        let arguments = [&["submit", image, "--format", "json"][..], &fleet.connection()].concat();
        bench.assay(&arguments).await
    };
    let unknown = bench.image("nothing-here");
    let run = submit(&bench, &unknown).await;
    assert_error(&run, "unknown image", &["found none", "nothing-here"]);
    let image = bench.image("hello");
    for (path, what) in [
        ("/manifests/", What::Status(401)),
        ("/manifests/", What::Status(403)),
        ("/manifests/", What::Status(404)),
        ("/manifests/", What::Status(500)),
        ("/manifests/", What::Truncated),
        ("/manifests/", What::WrongBytes),
        ("/manifests/", What::Oversized(media::MANIFEST_BYTES_MAX as usize + 1)),
        ("/referrers/", What::Status(500)),
        ("/blobs/", What::Truncated),
    ] {
        let name = format!("{path} {what:?}");
        bench.registry.heal();
        bench.registry.fault(Fault::get(path, what));
        let run = submit(&bench, &image).await;
        assert_error(&run, &name, &WORDS);
        let status = ["status", &bench.by_digest("hello"), "--format", "json"];
        let run = bench.assay(&[&status[..], &fleet.connection()].concat()).await;
        assert_eq!(run.code, Some(11), "{name}: {run:?}");
        assert!(run.err.contains("was never submitted"), "{name}: {run:?}");
    }
    bench.registry.stop().await;
    let run = submit(&bench, &image).await;
    assert_error(&run, "registry down", &WORDS);
    // Words that are no image at all are a mistake of the call.
    let run = submit(&bench, "not a reference").await;
    assert_eq!((run.code, &run.json()["exit"]), (Some(2), &json!(2)), "{run:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_is_stopped_in_the_middle_is_an_error_and_loses_nothing() {
    let bench = Bench::start().await;
    let mut fleet = crate::bench::fleet::Fleet::start(&bench, "").await;
    let image = bench.image("hello");
    let submit = |fleet: &crate::bench::fleet::Fleet, more: &[&str]| {
        let words = &["submit", &image, "--format", "json"][..];
        let words = [words, more, &fleet.connection()].concat();
        let mut command = crate::bench::command(bench.folder.path());
        command.args(words);
        crate::bench::run(command)
    };
    let run = submit(&fleet, &[]).await;
    assert_eq!(run.code, Some(0), "{run:?}");
    let before = run.json();
    // The registry does not answer: the coordinator is killed while it takes the image in.
    let asked = bench.registry.count("GET", "/manifests/");
    bench.registry.fault(Fault::get("/manifests/", What::Hang));
    let waiting = tokio::spawn(submit(&fleet, &["--wait"]));
    bench.registry.asked("GET", "/manifests/", asked).await;
    fleet.kill().await;
    let run = waiting.await.unwrap();
    assert_error(&run, "killed", &["expected an answer of https://"]);
    let run = submit(&fleet, &[]).await;
    assert_error(&run, "down", &["expected an answer of https://", "is the coordinator running"]);
    // The same folder again: what was taken in is there.
    fleet.restart(&bench).await;
    let image = bench.by_digest("hello");
    let status = [&["status", &image, "--format", "json"][..], &fleet.connection()].concat();
    let run = bench.assay(&status).await;
    assert_eq!(run.json()["platforms"], before["platforms"], "{run:?}");
    assert_eq!(run.code, Some(11), "not judged yet: {run:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_nobody_vouches_for_end_with_1() {
    let bench = Bench::start().await;
    let fleet = crate::bench::fleet::Fleet::start(&bench, "").await;
    let policy = bench.policy("worker.toml", "");
    let folder = fleet.worker(&bench, "acme", &policy).await;
    let (folder, worker) = (folder.to_str().unwrap(), folder.join("worker.pub"));
    let start = ["worker", "run", folder];
    let run = bench.assay(&start).await;
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.err.contains("is not enrolled") && run.err.contains("enrolled it?"), "{run:?}");
    let doctor = bench.assay(&["worker", "doctor", folder]).await;
    assert_eq!(doctor.code, Some(1), "{doctor:?}");
    assert!(doctor.out.contains("enroll-worker"), "{doctor:?}");
    // An operator that nobody added vouches for nobody.
    let stranger = fleet.enrol(&bench, "stranger", &worker).await;
    assert_eq!(stranger.code, Some(1), "{stranger:?}");
    assert!(stranger.err.contains("operator stranger is not known"), "{stranger:?}");
    fleet.add_operator(&bench, "acme").await;
    let enrolled = fleet.enrol(&bench, "acme", &worker).await;
    assert_eq!(enrolled.code, Some(0), "{enrolled:?}");
    let revoked = fleet.revoke(&bench, "acme", &worker).await;
    assert_eq!(revoked.code, Some(0), "{revoked:?}");
    let run = bench.assay(&start).await;
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.err.contains("or was revoked"), "{run:?}");
    let again = fleet.enrol(&bench, "acme", &worker).await;
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(again.err.contains("a revoked key never comes back"), "{again:?}");
    // Another key under a name that is taken.
    let taken = fleet.add_operator_again(&bench, "acme").await;
    assert_eq!(taken.code, Some(1), "{taken:?}");
    assert!(taken.err.contains("under another root key"), "{taken:?}");
}
