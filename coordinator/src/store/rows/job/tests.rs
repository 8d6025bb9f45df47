//! Jobs of every shape, as bytes and back; and bytes that are no job.

use super::*;
use crate::{
    queue::{Role, job::ANSWERS_MAX},
    store::index::PIECE_BYTES,
};
use attest::{Digest, Repository, id::OperatorId};
use proptest::{collection::vec, option, prelude::*, strategy::ValueTree};

fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest::from_raw)
}

fn operator() -> impl Strategy<Value = OperatorId> {
    "[a-z][a-z0-9]{0,20}".prop_map(|name| name.parse().unwrap())
}

fn millis() -> impl Strategy<Value = Millis> {
    any::<u64>().prop_map(Millis)
}

prop_compose! {
    fn specs()(
        subject in (digest(), "[a-z0-9]{1,12}", option::of("v[0-9]")),
        recipes in vec(digest(), 0..4),
        rebuilder in "[a-z]{1,12}",
        (memory_mib, wanted, execution_ms_max) in any::<(u32, u32, u64)>(),
        id in digest(),
    ) -> JobSpec {
        let (digest, architecture, variant) = subject;
        let repository: Repository = "registry.example/a/b".parse().unwrap();
        let platform = Platform { os: "linux".into(), architecture, variant };
        let subject = Subject { repository, digest, platform };
        JobSpec { id: JobId(id), subject, recipes, rebuilder, memory_mib, wanted, execution_ms_max }
    }
}

fn phases() -> impl Strategy<Value = Phase> {
    let reasons = prop_oneof![
        Just(ParkReason::Attempts),
        Just(ParkReason::Tries),
        Just(ParkReason::Operators),
        Just(ParkReason::Unroutable),
    ];
    prop_oneof![
        Just(Phase::Open),
        millis().prop_map(|until| Phase::Deferred { until }),
        "\\PC{0,30}".prop_map(|outcome| Phase::Judged { outcome }),
        (reasons, option::of("\\PC{0,30}"))
            .prop_map(|(why, outcome)| Phase::Parked { why, outcome }),
    ]
}

prop_compose! {
    fn grants()(
        lease: [u8; 16], fence: u64, worker in digest(), operator in operator(),
    ) -> Grant {
        Grant { lease: LeaseId(lease), fence: Fence(fence), worker: WorkerId(worker), operator }
    }
}

fn slots() -> impl Strategy<Value = Slot> {
    let leased = (grants(), millis(), any::<u64>(), option::of(millis()));
    prop_oneof![
        Just(Slot::Open),
        (grants(), millis()).prop_map(|(grant, until)| Slot::Offered { grant, until }),
        leased.prop_map(|(grant, deadline, grace_ms, suspect)| Slot::Leased {
            grant,
            deadline,
            grace_ms,
            suspect,
        }),
        (operator(), digest()).prop_map(|(operator, observation)| Slot::Answered {
            operator,
            observation: ObservationId(observation),
        }),
    ]
}

fn sayings() -> impl Strategy<Value = Said> {
    prop_oneof![
        digest().prop_map(|manifest| Said::Output { manifest }),
        "\\PC{0,200}".prop_map(|class| Said::BuildFailed { class }),
        "\\PC{0,200}".prop_map(|class| Said::RecipeInvalid { class }),
        "\\PC{0,200}".prop_map(|class| Said::LimitExceeded { class }),
        Just(Said::InputUnavailable),
        Just(Said::Timeout),
        Just(Said::Refused),
    ]
}

prop_compose! {
    fn answers()(
        observation in digest(), operator in operator(), worker in digest(), said in sayings(),
        (attempt, lease, fence, duration_ms, bytes) in any::<(u64, [u8; 16], u64, u64, u64)>(),
        code in 0u8..4,
    ) -> Answer {
        Answer {
            observation: ObservationId(observation), operator, worker: WorkerId(worker),
            attempt: Attempt(attempt), lease: LeaseId(lease), fence: Fence(fence), said,
            role: role(code).unwrap(), duration_ms, bytes,
        }
    }
}

prop_compose! {
    fn jobs()(
        spec in specs(), phase in phases(), slots in vec(slots(), 0..5),
        answers in vec(answers(), 0..6), excluded in vec(operator(), 0..3),
        skips in vec((operator(), millis()), 0..3), fruitless in vec((operator(), any::<u32>()), 0..3),
        (tenant, asker) in ("\\PC{0,20}", option::of("\\PC{0,20}")),
        (rank, announced_at, opened_at, attempt, fence, considered) in
            any::<(u64, u64, u64, u64, u64, u32)>(),
        (reopenings, deferrals, tries) in any::<(u32, u32, u32)>(), class in 0usize..5,
    ) -> Job {
        Job {
            spec, tenant: Tenant(tenant), class: Class::ALL[class], rank,
            announced_at: Millis(announced_at), opened_at: Millis(opened_at),
            attempt: Attempt(attempt), reopenings, phase, slots, fence: Fence(fence), deferrals,
            tries, answers, considered: considered as usize, excluded, skips, fruitless,
            asker: asker.map(Tenant),
        }
    }
}

proptest! {
    #[test]
    fn a_job_is_read_as_it_was_written(job in jobs()) {
        let bytes = encode(&job);
        let read = decode(&bytes);
        prop_assert_eq!(read.as_ref(), Some(&job));
        prop_assert_eq!(encode(&job), bytes);
    }

    #[test]
    fn a_part_of_a_job_or_one_with_more_behind_it_is_none(job in jobs(), cut: prop::sample::Index) {
        let mut bytes = encode(&job);
        prop_assert_eq!(decode(&bytes[..cut.index(bytes.len())]), None);
        bytes.push(0);
        prop_assert_eq!(decode(&bytes), None);
    }

    #[test]
    fn foreign_bytes_never_panic(bytes in vec(any::<u8>(), 0..400)) {
        let _ = decode(&bytes);
    }

    #[test]
    fn a_changed_byte_never_panics(job in jobs(), at: prop::sample::Index, byte: u8) {
        let mut bytes = encode(&job);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = decode(&bytes);
    }
}

#[test]
fn a_job_that_was_rechecked_for_years_fits_in_one_row() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut job = jobs().new_tree(&mut runner).unwrap().current();
    let answer = Answer {
        observation: ObservationId(Digest::of(b"o")),
        operator: "an-operator-with-a-name.example".parse().unwrap(),
        worker: WorkerId(Digest::of(b"w")),
        attempt: Attempt(1000),
        lease: LeaseId([7; 16]),
        fence: Fence(3000),
        said: Said::Output { manifest: Digest::of(b"m") },
        role: Role::Volunteer,
        duration_ms: 3_600_000,
        bytes: 100_000,
    };
    job.answers = vec![answer; ANSWERS_MAX];
    let bytes = encode(&job).len();
    assert!(bytes < PIECE_BYTES, "{bytes} bytes in one row of the index");
}

#[test]
fn codes_stay_what_they_are() {
    for (code, kind) in (0u8..).zip(Class::ALL) {
        assert_eq!((kind as u8, class(code)), (code, Some(kind)));
    }
    for (code, kind) in
        (0u8..).zip([Role::Counted, Role::Noted, Role::Volunteer, Role::Equivocation])
    {
        assert_eq!((kind as u8, role(code)), (code, Some(kind)));
    }
    assert_eq!((class(5), role(4)), (None, None));
}
