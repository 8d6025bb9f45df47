//! A policy that is exchanged between starts, a coordinator that ends in the middle, and a policy
//! that comes back.

use super::*;
use crate::{
    daemon::publish::tests::{announce, core, core_over},
    journal::{Disk, DiskFile, MemoryDisk},
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
            followed = follow(&core) => assert_eq!(followed.unwrap(), 0),
        }
        assert!(done(&core) > stop_after);
        drop(core);
        // What it was reading ends on a thread of its own.
        while disk.lock().is_err() {
            tokio::task::yield_now().await;
        }
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

/// Turns a bit of the newest verdict on a job, where it lies on the disk; twice is as before.
fn damage(disk: &MemoryDisk, verdict: &[u8]) {
    for name in disk.names().unwrap() {
        let file = disk.open(&name).unwrap();
        let mut bytes = vec![0; usize::try_from(file.size().unwrap()).unwrap()];
        file.read_at(&mut bytes, 0).unwrap();
        let middle = &verdict[verdict.len() / 2..];
        if let Some(at) = bytes.windows(middle.len()).position(|window| window == middle) {
            file.write_at(&[bytes[at - 1] ^ 1], at as u64 - 1).unwrap();
            return;
        }
    }
    panic!("the verdict is not on the disk");
}

#[tokio::test]
async fn a_verdict_that_cannot_be_read_holds_up_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let (disk, mut jobs, first) = judged(folder.path()).await;
    jobs.sort_unstable();
    exchange_policy(folder.path(), 2);
    let core = core_over(folder.path(), disk.clone());
    let verdict = core.store.newest_about(Kind::VERDICT, &jobs[0].0).unwrap().unwrap().body;
    damage(&disk, &verdict);
    let problem = core.store.newest_about(Kind::VERDICT, &jobs[0].0).unwrap_err();
    assert!(problem.to_string().contains("journal damaged"), "{problem}");
    assert_eq!(follow(&core).await.unwrap(), 1);
    let second = core.loaded.policy.digest();
    for job in &jobs[1..] {
        assert_eq!(judged_by(&core, job), [first, second]);
    }
    assert_eq!(core.metrics.render().unwrap().lines().filter(|line| failed_jobs(line)).count(), 1);
    // As long as nothing is mended, nothing more is written either.
    let end = core.store.end();
    assert_eq!(follow(&core).await.unwrap(), 1);
    assert_eq!(core.store.end(), end);
    damage(&disk, &verdict);
    assert_eq!(follow(&core).await.unwrap(), 0);
    assert_eq!(judged_by(&core, &jobs[0]), [first, second]);
}

fn failed_jobs(line: &str) -> bool {
    line == "assay_former_policy_failed_jobs 1"
}

/// Takes a part of a job's evidence away, as far as judging can see; gives what puts it back.
async fn lose_evidence(core: &Core, job: &JobId) -> NewRecord {
    let kept = core.store.records_about(Kind::EVIDENCE, &job.0, JournalPosition(0), 1).unwrap();
    let whole = NewRecord::new(Kind::EVIDENCE, job.0, kept[0].body.clone());
    // The first of two pieces of its evidence: the second is missing.
    let piece = [&0_u32.to_le_bytes()[..], &2_u32.to_le_bytes()[..]].concat();
    let record = NewRecord::new(Kind::EVIDENCE, job.0, piece);
    core.store.append(vec![record.clone(), record]).await.unwrap();
    whole
}

fn mark(core: &Core) -> Mark {
    Mark::read(core.store.as_ref(), &core.loaded.policy.digest()).unwrap().unwrap()
}

#[tokio::test]
async fn a_job_that_cannot_be_judged_holds_up_no_other_and_is_not_called_done() {
    let folder = tempfile::tempdir().unwrap();
    let (disk, jobs, first) = judged(folder.path()).await;
    exchange_policy(folder.path(), 2);
    let core = core_over(folder.path(), disk.clone());
    let whole = lose_evidence(&core, &jobs[3]).await;
    assert_eq!(follow(&core).await.unwrap(), 1);
    let second = core.loaded.policy.digest();
    for (number, job) in jobs.iter().enumerate() {
        let expected = if number == 3 { vec![first] } else { vec![first, second] };
        assert_eq!(judged_by(&core, job), expected);
    }
    // The next start knows of it, and begins nothing again.
    drop(core);
    let core = core_over(folder.path(), disk);
    let last = jobs.iter().max().copied();
    assert_eq!((mark(&core).after, mark(&core).done), (last, false));
    assert_eq!(mark(&core).failed, BTreeSet::from([jobs[3]]));
    assert_eq!(follow(&core).await.unwrap(), 1);
    // With its evidence it is judged at the next look, and the others are left alone.
    core.store.append(vec![whole]).await.unwrap();
    assert_eq!(follow(&core).await.unwrap(), 0);
    assert!(mark(&core).done);
    assert!(jobs.iter().all(|job| judged_by(&core, job) == [first, second]));
}

fn an_id_before_all(number: u64) -> JobId {
    let mut raw = [0; 32];
    raw[24..].copy_from_slice(&number.to_be_bytes());
    JobId(Digest::from_raw(raw))
}

#[tokio::test]
async fn more_that_fail_than_are_remembered_are_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let (disk, mut jobs, first) = judged(folder.path()).await;
    jobs.sort_unstable();
    exchange_policy(folder.path(), 2);
    let core = core_over(folder.path(), disk.clone());
    let whole = [
        lose_evidence(&core, &jobs[1]).await,
        lose_evidence(&core, &jobs[4]).await,
        lose_evidence(&core, &jobs[JOBS - 1]).await,
    ];
    // As if so many had failed already, all of them before the first of these.
    let second = core.loaded.policy.digest();
    let mut full = Mark::at_the_beginning(second);
    full.failed = (0..FAILED_MAX as u64 - 1).map(an_id_before_all).chain([jobs[0]]).collect();
    full.after = Some(jobs[0]);
    assert_eq!((full.failed.len(), full.failed.last()), (FAILED_MAX, full.after.as_ref()));
    full.keep(core.store.as_ref()).await.unwrap();
    let mut look = Look::begin(&core).unwrap();
    look.rest().await.unwrap();
    assert_eq!(look.mark.more_behind, Some(jobs[0]));
    assert_eq!(look.mark.known_failed(), FAILED_MAX + 1);
    look.keep().await.unwrap();
    let left = [0, 1, 4, JOBS - 1];
    for (number, job) in jobs.iter().enumerate() {
        let expected = if left.contains(&number) { vec![first] } else { vec![first, second] };
        assert_eq!(judged_by(&core, job), expected, "{number}");
    }
    core.store.append(whole.to_vec()).await.unwrap();
    assert_eq!(follow(&core).await.unwrap(), 0);
    assert!(jobs.iter().all(|job| judged_by(&core, job) == [first, second]));
}

#[test]
fn half_of_the_smaller_limit_is_left_to_those_who_submit() {
    assert_eq!(half(&Limits::default()), 25_000);
    assert_eq!(half(&Limits { waiting_jobs_max: 1, ..Limits::default() }), 1);
}
