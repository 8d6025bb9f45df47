//! What the worker is told about its results: receipts of others, journals that forgot, refusals
//! for good. Nothing that was signed is lost or replaced.

use crate::bench::coordinator::Acknowledge;
use crate::{Scene, signal};
use std::fs;

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_counts_only_for_this_result_and_from_this_coordinator() {
    let scene = Scene::new().await;
    scene.coordinator.change(|state| {
        state.acknowledge.extend([
            Acknowledge::With(b"{}".to_vec()),
            Acknowledge::ForAnother,
            Acknowledge::ByAnother,
        ]);
    });
    let mut worker = scene.start();
    let (lease, offered) = scene.hello(1);
    scene.coordinator.change(|state| state.offers.push_back(offered));
    // Four times the same bytes: three receipts were none.
    let four = |state: &crate::bench::coordinator::State| {
        (state.results.len() >= 4).then(|| state.results.clone())
    };
    let results = scene.coordinator.wait("four results", four).await;
    assert!(results.iter().all(|result| result.envelope == results[0].envelope));
    let pending = || fs::read_dir(scene.folder.join("outbox/pending")).unwrap().count();
    let filed = |state: &crate::bench::coordinator::State| {
        state.syncs.last().is_some_and(|sync| sync.holds_receipts).then_some(())
    };
    scene.coordinator.wait("a receipt to be filed", filed).await;
    assert_eq!(pending(), 0);
    let log = scene.log();
    for says in ["is not an envelope", "is for another result", "receipt refused"] {
        assert!(log.contains(says), "{says}: {log}");
    }
    // A receipt that came before the sync: the coordinator lost what it acknowledged and says so.
    // The worker has it still, also after a restart, and sends the same bytes.
    scene.kill(&mut worker).await;
    let _worker = scene.start();
    let seen = scene.coordinator.state().results.len();
    scene.coordinator.change(|state| state.resubmit_from = Some(0));
    let again = scene.coordinator.result(&lease, seen).await;
    assert_eq!(again.envelope, results[0].envelope);
    // Nor is an answered lease worked on again.
    let (_, offered) = scene.hello(1);
    let syncs = scene.coordinator.state().syncs.len();
    scene.coordinator.change(|state| state.offers.push_back(offered));
    let later = |state: &crate::bench::coordinator::State| {
        (state.offers.is_empty() && state.syncs.len() > syncs + 2).then_some(())
    };
    scene.coordinator.wait("two more syncs", later).await;
    assert_eq!(scene.coordinator.state().accepted.len(), 1);
}

/// A restored coordinator learns what it lost from a worker's newest receipt. A receipt of its new
/// journal in the place of that one would hide it.
#[tokio::test(flavor = "multi_thread")]
async fn receipts_are_compared_before_a_result_of_after_a_restore_gets_one() {
    for restarted in ["the worker", "the coordinator"] {
        let mut scene = Scene::new().await;
        let mut worker = scene.start();
        let (_, offered) = scene.hello(1);
        scene.coordinator.change(|state| state.offers.push_back(offered));
        let filed = |state: &crate::bench::coordinator::State| {
            let newest = state.syncs.last().filter(|sync| sync.holds_receipts);
            newest.map(|sync| sync.newest_receipt_observation.clone())
        };
        let first = scene.coordinator.wait("a receipt to be filed", filed).await;
        // The next result waits for its receipt.
        scene.coordinator.change(|state| {
            state.refuse = Some((tonic::Code::Unavailable, "the disk is away".into()));
        });
        let (lease, offered) = scene.hello(2);
        scene.coordinator.change(|state| state.offers.push_back(offered));
        scene.coordinator.result(&lease, 0).await;
        let restored = |state: &mut crate::bench::coordinator::State| {
            (state.refuse, state.resubmit_from) = (None, Some(0));
            (state.results, state.syncs) = (Vec::new(), Vec::new());
        };
        if restarted == "the worker" {
            scene.kill(&mut worker).await;
            scene.coordinator.change(restored);
            worker = scene.start();
        } else {
            scene.coordinator.restart(restored).await;
        }
        let compared = |state: &crate::bench::coordinator::State| state.syncs.first().cloned();
        let compared = scene.coordinator.wait("a comparison", compared).await;
        assert_eq!(compared.newest_receipt_observation, first, "{restarted}");
        assert_eq!(compared.wait_seconds, 0, "{restarted}: what waits is not kept back");
        // What was lost is asked for, and comes with what had no receipt yet.
        let both = |state: &crate::bench::coordinator::State| {
            let leases: std::collections::BTreeSet<_> =
                state.results.iter().map(|result| result.lease.clone()).collect();
            (leases.len() == 2).then_some(())
        };
        scene.coordinator.wait("both results", both).await;
        scene.kill(&mut worker).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_is_refused_for_good_is_kept_and_does_not_hold_up_the_end() {
    let scene = Scene::new().await;
    let mut worker = scene.start();
    scene.coordinator.change(|state| {
        let why = "expected an observation of another subject".to_owned();
        state.refuse = Some((tonic::Code::InvalidArgument, why));
    });
    let (lease, offered) = scene.hello(1);
    scene.coordinator.change(|state| state.offers.push_back(offered));
    scene.coordinator.result(&lease, 0).await;
    signal("-TERM", worker.id().unwrap());
    let ended = tokio::time::timeout(std::time::Duration::from_secs(120), worker.wait());
    assert_eq!(ended.await.expect("the worker to end").unwrap().code(), Some(0));
    let log = scene.log();
    assert!(log.contains("refuses a result for good"), "{log}");
    assert!(log.contains("1 results were refused by the coordinator for good"), "{log}");
    assert_eq!((scene.outbox("refused"), scene.outbox("pending")), (1, 0));
    // The next start does not send it, and does not answer the lease again.
    let sent = scene.coordinator.state().results.len();
    assert_eq!(sent, 2, "once, and once more after a sync");
    let (_, offered) = scene.hello(1);
    scene.coordinator.change(|state| {
        state.refuse = None;
        state.syncs.clear();
        state.offers.push_back(offered);
    });
    let mut worker = scene.start();
    let some = |state: &crate::bench::coordinator::State| {
        (state.syncs.len() > 2 && state.offers.is_empty()).then_some(())
    };
    scene.coordinator.wait("some syncs", some).await;
    assert_eq!(scene.coordinator.state().results.len(), sent);
    assert_eq!(scene.coordinator.state().accepted.len(), 1);
    scene.kill(&mut worker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_cannot_be_kept_is_not_sent() {
    let scene = Scene::new().await;
    let outbox = scene.folder.join("outbox");
    fs::create_dir_all(&outbox).unwrap();
    // One page: the folders fit, a result does not.
    let script = "mount -t tmpfs -o size=4k tmpfs \"$OUTBOX\" || exit 99; \"$0\" \"$@\"; \
                  code=$?; find \"$OUTBOX\" -type f >&2; exit $code";
    let mut command = tokio::process::Command::new("unshare");
    command.args(["-rm", "sh", "-c", script, env!("CARGO_BIN_EXE_assay"), "worker", "run"]);
    command.arg(&scene.folder).env("OUTBOX", &outbox).env("HOME", scene.bench.folder.path());
    command.kill_on_drop(true);
    let (lease, offered) = scene.hello(1);
    scene.coordinator.change(|state| state.offers.push_back(offered));
    let output = match command.output().await {
        Ok(output) => output,
        Err(error) => return crate::bench::skipped(&format!("unshare(1) is not here: {error}")),
    };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.code() == Some(99) || said.contains("unshare failed") {
        return crate::bench::unable(&format!("no disk could be mounted: {said}"));
    }
    assert_eq!(output.status.code(), Some(1), "{said}");
    for says in ["expected to write", "outbox", "No space left on device"] {
        assert!(said.contains(says), "{says}: {said}");
    }
    assert!(!said.lines().any(|line| line.ends_with(".new")), "half a result was left: {said}");
    assert!(scene.coordinator.state().results.is_empty(), "what is not kept is not sent");
    // With room again the next process gives that lease back, and the next one is answered.
    let _worker = scene.start();
    let reason = scene.declined(&lease).await;
    assert!(reason.contains("was killed while it was at it"), "{reason}");
    let (lease, offered) = scene.hello(2);
    let observation = scene.answered(lease, offered).await;
    assert!(observation.output().is_some());
}
