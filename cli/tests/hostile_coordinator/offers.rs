//! What is offered: swapped, announced for another image, or under a clock that is off.

use crate::Scene;
use crate::bench::coordinator::offer;
use attest::{
    Digest,
    dsse::Envelope,
    id::WorkerId,
    key::SigningKey,
    observation::{Outcome, Refusal},
    record::{JobAnnounce, Lease, Record as _},
};
use proto::v1;

#[tokio::test(flavor = "multi_thread")]
async fn a_swapped_lease_job_recipe_or_subject_is_refused_by_name() {
    let scene = Scene::new().await;
    let (key, stranger) = (scene.coordinator.key(), SigningKey::generate().unwrap());
    let (lease, announce) = scene.job("hello", &[scene.recipe], 1);
    let elsewhere = Lease { worker: WorkerId(Digest::of(b"another")), ..lease.clone() };
    let (other_lease, _) = scene.job("tampered", &[scene.recipe], 1);
    let later = Lease { attempt: attest::id::Attempt(2), ..lease.clone() };
    let other_recipe = JobAnnounce { recipes: vec![Digest::of(b"other")], ..announce.clone() };
    let other_subject = JobAnnounce { subject: scene.subject("tampered"), ..announce.clone() };
    let mut other_platform = announce.clone();
    other_platform.subject.platform = attest::Platform::linux("arm64");
    let good = || offer((&lease, key), (&announce, key));
    let exchanged = v1::Offer {
        lease_envelope: good().announce_envelope,
        announce_envelope: good().lease_envelope,
        ..good()
    };
    let mut resigned = good();
    let mut envelope = Envelope::parse(&resigned.lease_envelope).unwrap();
    let other = lease.sign(&stranger).unwrap();
    envelope.signatures = other.signatures;
    resigned.lease_envelope = envelope.to_json();
    let attacks = [
        ("expected a lease for worker", offer((&elsewhere, key), (&announce, key))),
        ("a job that the lease is for", offer((&other_lease, key), (&announce, key))),
        ("attempt 2", offer((&later, key), (&announce, key))),
        ("to be its content", offer((&lease, key), (&other_recipe, key))),
        ("to be its content", offer((&lease, key), (&other_subject, key))),
        ("to be its content", offer((&lease, key), (&other_platform, key))),
        ("the lease is not the coordinator's", offer((&lease, &stranger), (&announce, key))),
        ("the job is not the coordinator's", offer((&lease, key), (&announce, &stranger))),
        ("the lease is not the coordinator's", exchanged),
        ("the lease is not the coordinator's", resigned),
        ("offer refused", v1::Offer { lease_envelope: b"{}".to_vec(), ..good() }),
    ];
    let count = attacks.len();
    scene.coordinator.change(|state| {
        state.offers.extend(attacks.iter().map(|(_, offer)| offer.clone()));
    });
    let mut worker = scene.start();
    // Every sync looks at what the worker said: there are others than those after an attack.
    let what = "a word on every attack";
    let all = |state: &crate::bench::coordinator::State| {
        let said = scene.log().matches("offer refused").count();
        (state.offers.is_empty() && said >= count).then_some(())
    };
    scene.coordinator.wait(what, all).await;
    let log = scene.log();
    for (says, _) in &attacks {
        let expected = attacks.iter().filter(|(text, _)| text == says).count();
        assert!(log.matches(says).count() >= expected, "{says}: {log}");
    }
    assert_eq!(log.matches("offer refused").count(), count, "{log}");
    assert_eq!(scene.coordinator.state().accepted, [""; 0], "none was accepted");
    // What another key signed goes back, so that the job goes elsewhere, and each makes it wait.
    let by_another = log.matches("another key signed it").count();
    assert_eq!((by_another, scene.coordinator.state().declined.len()), (3, 3), "{log}");
    // And the honest one is taken, built and signed, twice offered or not.
    let (lease, offered) = scene.hello(1);
    scene.coordinator.change(|state| state.offers.push_back(offered.clone()));
    let observation = scene.answered(lease, offered).await;
    assert_eq!(observation.subject, scene.subject("hello"));
    let output = observation.output().expect("it was built");
    assert_eq!(output.manifest, scene.subject("hello").digest);
    assert_eq!(scene.coordinator.state().accepted.len(), 1);
    scene.kill(&mut worker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recipe_or_publisher_that_the_worker_does_not_find_itself_is_a_signed_refusal() {
    let scene = Scene::new().await;
    let _worker = scene.start();
    let key = scene.coordinator.key();
    let offered = |name: &str, recipes: &[Digest], serial: u8| {
        let (lease, announce) = scene.job(name, recipes, serial);
        (lease.lease, offer((&lease, key), (&announce, key)))
    };
    let forged = Digest::of(b"forged");
    // Lease and job fit each other, and the coordinator signed both: only the recipe is not what
    // follows from the publisher's evidence.
    let (lease, swapped) = offered("hello", &[forged], 1);
    let observation = scene.answered(lease, swapped).await;
    let Outcome::Refused { reason: Refusal::Policy, detail } = &observation.outcome else {
        panic!("{:?}", observation.outcome)
    };
    assert!(detail.contains(&forged.to_string()), "{detail}");
    assert!(detail.contains(&scene.recipe.to_string()), "{detail}");
    // The recipe of another image, for an image that nobody trusted vouches for.
    let (lease, untrusted) = offered("wrong-signer", &[scene.recipe], 2);
    let observation = scene.answered(lease, untrusted).await;
    let refused =
        matches!(observation.outcome, Outcome::Refused { reason: Refusal::Untrusted, .. });
    assert!(refused, "{:?}", observation.outcome);
    // The same bytes where nothing is attested: no recipe to speak about, whatever was announced.
    let (lease, bare) = offered("no-attestation", &[scene.recipe], 3);
    let observation = scene.answered(lease, bare).await;
    assert!(observation.output().is_none(), "{:?}", observation.outcome);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_off_by_a_day_is_said_and_changes_nothing() {
    let scene = Scene::new().await;
    scene.coordinator.change(|state| state.clock_off = -86_400);
    let doctor = scene.bench.assay(&["worker", "doctor", scene.folder.to_str().unwrap()]).await;
    assert_eq!(doctor.code, Some(1), "{doctor:?}");
    assert!(doctor.out.contains("clocks differ by -86"), "{doctor:?}");
    assert!(doctor.out.contains("set this machine's clock"), "{doctor:?}");
    let _worker = scene.start();
    let (lease, offered) = scene.hello(1);
    let observation = scene.answered(lease, offered).await;
    assert_eq!(observation.output().unwrap().manifest, scene.subject("hello").digest);
    let log = scene.log();
    assert!(log.contains("clock differs from the coordinator's"), "{log}");
    scene.coordinator.change(|state| state.clock_off = 0);
    let doctor = scene.bench.assay(&["worker", "doctor", scene.folder.to_str().unwrap()]).await;
    assert!(!doctor.out.contains("clocks differ by -86"), "{doctor:?}");
}
