//! A policy that is exchanged between starts, a coordinator that ends in the middle, and a policy
//! that comes back.

use super::*;
use crate::{
    daemon::publish::tests::{announce, core, core_over},
    journal::MemoryDisk,
};
use std::{fs, path::Path};

/// More than a page.
const JOBS: usize = PAGE + 3;

/// Gives the coordinator another policy; each number another one.
fn exchange_policy(folder: &Path, number: u32) {
    let text = format!("[[registry]]\nhost = \"registry-{number}.example\"\n");
    fs::write(folder.join("policy.toml"), text).unwrap();
}

/// Which policies judged a job, the oldest first.
fn judged_by(core: &Core, job: &JobId) -> Vec<Digest> {
    let all = core.store.records_about(Kind::VERDICT, &job.0, JournalPosition(0), 100).unwrap();
    let read = all.iter().map(|stored| core.signers.verdict(&stored.body).unwrap());
    read.map(|record| record.finding.policy).collect()
}

/// A folder and a journal with jobs that its first policy judged, and that policy.
async fn judged(folder: &Path) -> (MemoryDisk, Vec<JobId>, Digest) {
    let disk = MemoryDisk::default();
    drop(core(folder));
    exchange_policy(folder, 1);
    let core = core_over(folder, disk.clone());
    let mut jobs = Vec::new();
    for number in 0..JOBS {
        jobs.push(announce(&core, format!("recipe {number}").as_bytes(), None).await);
        assert!(judge::judge_anew(&core, jobs[number]).await.unwrap());
    }
    follow(&core).await.unwrap();
    let policy = core.loaded.policy.digest();
    assert!(jobs.iter().all(|job| judged_by(&core, job) == [policy]), "its own stay");
    core.store.append(vec![every_verdict_is_by(policy)]).await.unwrap();
    let end = core.store.end();
    follow(&core).await.unwrap();
    assert_eq!(core.store.end(), end, "nothing is left to look at");
    (disk, jobs, policy)
}

#[tokio::test]
async fn each_verdict_of_a_former_policy_is_made_anew_once_and_stays_in_history() {
    let folder = tempfile::tempdir().unwrap();
    let (disk, jobs, first) = judged(folder.path()).await;
    let mut policies = vec![first];
    for number in [2, 3, 1, 1] {
        exchange_policy(folder.path(), number);
        let core = core_over(folder.path(), disk.clone());
        let policy = core.loaded.policy.digest();
        if policies.last() != Some(&policy) {
            policies.push(policy);
        }
        follow(&core).await.unwrap();
        let end = core.store.end();
        follow(&core).await.unwrap();
        assert_eq!(core.store.end(), end, "once more changes nothing");
        for job in &jobs {
            assert_eq!(judged_by(&core, job), policies);
        }
    }
    assert_eq!((policies.len(), policies[3]), (4, first), "one came back, and stayed");
}

#[tokio::test]
async fn a_coordinator_that_ends_in_the_middle_loses_and_doubles_nothing() {
    for stop_after in 0..JOBS {
        let folder = tempfile::tempdir().unwrap();
        let (disk, jobs, first) = judged(folder.path()).await;
        exchange_policy(folder.path(), 2);
        let core = core_over(folder.path(), disk.clone());
        let second = core.loaded.policy.digest();
        let mut changes = core.changes();
        let done = |core: &Core| jobs.iter().filter(|job| judged_by(core, job).len() > 1).count();
        let ends = async {
            while done(&core) <= stop_after {
                changes.changed().await.unwrap();
            }
        };
        tokio::select! {
            biased;
            () = ends => {}
            followed = follow(&core) => followed.unwrap(),
        }
        assert!(done(&core) > stop_after);
        drop(core);
        // Whatever it was doing: the next start finds all that is left, and nothing else.
        let core = core_over(folder.path(), disk);
        follow(&core).await.unwrap();
        for job in &jobs {
            assert_eq!(judged_by(&core, job), [first, second], "ended after {stop_after}");
        }
        let rows = core.store.export(JournalPosition(0), 100).unwrap();
        assert_eq!(rows.len(), 2 * jobs.len(), "history has both");
    }
}

#[tokio::test]
async fn a_job_that_cannot_be_judged_holds_up_no_other_and_is_not_called_done() {
    let folder = tempfile::tempdir().unwrap();
    let (disk, jobs, first) = judged(folder.path()).await;
    exchange_policy(folder.path(), 2);
    let core = core_over(folder.path(), disk.clone());
    // The first of two pieces of its evidence: the second is missing.
    let piece = [&0_u32.to_le_bytes()[..], &2_u32.to_le_bytes()[..]].concat();
    let record = NewRecord::new(Kind::EVIDENCE, jobs[3].0, piece.clone());
    core.store.append(vec![record.clone(), record]).await.unwrap();
    let failed = follow(&core).await;
    assert!(matches!(failed, Err(ReviewError::Job { job, .. }) if job == jobs[3]), "{failed:?}");
    let second = core.loaded.policy.digest();
    for (number, job) in jobs.iter().enumerate() {
        let expected = if number == 3 { vec![first] } else { vec![first, second] };
        assert_eq!(judged_by(&core, job), expected);
    }
    // With its evidence it is judged at the next look, and the others are left alone.
    let kept = core.store.records_about(Kind::EVIDENCE, &jobs[3].0, JournalPosition(0), 1).unwrap();
    let whole = NewRecord::new(Kind::EVIDENCE, jobs[3].0, kept[0].body.clone());
    core.store.append(vec![whole]).await.unwrap();
    follow(&core).await.unwrap();
    assert!(jobs.iter().all(|job| judged_by(&core, job) == [first, second]));
}

#[test]
fn half_of_the_smaller_limit_is_left_to_those_who_submit() {
    assert_eq!(half(&Limits::default()), 25_000);
    assert_eq!(half(&Limits { waiting_jobs_max: 1, ..Limits::default() }), 1);
}
