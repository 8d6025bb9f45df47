//! A coordinator whose verdict key is replaced, and one whose journal has a stranger's verdict.

use super::*;
use crate::{
    daemon::{
        judge,
        publish::tests::{announce, core, core_over},
    },
    journal::MemoryDisk,
};
use attest::{id::JobId, key::SigningKey};
use std::{fs, path::Path};

/// What an administrator does while the coordinator is stopped.
fn replace_key(folder: &Path) {
    let key = SigningKey::generate().unwrap();
    fs::write(folder.join("verdict.key"), key.to_pem().as_bytes()).unwrap();
}

fn verdicts(core: &Core, job: &JobId) -> Vec<crate::journal::Stored> {
    core.store.records_about(Kind::VERDICT, &job.0, JournalPosition(0), 10).unwrap()
}

fn unreadable(core: &Core) -> bool {
    core.metrics.render().unwrap().contains("assay_verdicts_unreadable_total 1\n")
}

#[tokio::test]
async fn a_verdict_by_a_former_key_of_ones_own_stands() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), MemoryDisk::default());
    drop(core(folder.path()));
    let first = core_over(folder.path(), disk.clone());
    keep(&first).await.unwrap();
    let job = announce(&first, b"recipe", None).await;
    assert!(judge::judge_anew(&first, job).await.unwrap(), "it was never judged");
    let old = first.loaded.public_key().clone();
    drop(first);
    for _ in 0..2 {
        replace_key(folder.path());
        let core = core_over(folder.path(), disk.clone());
        keep(&core).await.unwrap();
        let end = core.store.end();
        keep(&core).await.unwrap();
        assert_eq!(core.store.end(), end, "a key is put on record once");
        assert!(!judge::judge_anew(&core, job).await.unwrap(), "nothing is different");
        let found = verdicts(&core, &job);
        assert_eq!((found.len(), unreadable(&core)), (1, false));
        assert!(core.signers.verdict(&found[0].body).is_ok());
        let envelope = Envelope::parse(&found[0].body).unwrap();
        assert!(core.signers.signed(&envelope) && envelope.verify(&old).is_ok());
    }
}

#[tokio::test]
async fn a_verdict_by_a_key_that_is_not_on_record_is_made_anew_once() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), MemoryDisk::default());
    drop(core(folder.path()));
    let first = core_over(folder.path(), disk.clone());
    let job = announce(&first, b"recipe", None).await;
    judge::judge_anew(&first, job).await.unwrap();
    drop(first);
    // Nothing says that the first key was ever this coordinator's.
    replace_key(folder.path());
    let core = core_over(folder.path(), disk);
    keep(&core).await.unwrap();
    let error = core.signers.verdict(&verdicts(&core, &job)[0].body).unwrap_err();
    assert!(matches!(error, SignerError::Stranger { former: 0, .. }), "{error}");
    assert!(judge::judge_anew(&core, job).await.unwrap());
    assert!(!judge::judge_anew(&core, job).await.unwrap(), "its newest verdict can be read now");
    let found = verdicts(&core, &job);
    assert_eq!((found.len(), unreadable(&core)), (2, true));
    assert!(core.signers.verdict(&found[1].body).is_ok());
    // And whatever is no verdict at all is no endless trouble either.
    let error = core.signers.verdict(b"{}").unwrap_err();
    assert!(matches!(error, SignerError::Envelope(_)), "{error}");
}

#[tokio::test]
async fn a_key_that_comes_back_is_the_newest_again() {
    let folder = tempfile::tempdir().unwrap();
    let core = core(folder.path());
    let keys: Vec<PublicKey> =
        (0..3).map(|_| SigningKey::generate().unwrap().public().clone()).collect();
    for key in [&keys[0], &keys[1], &keys[2], &keys[0]] {
        let record = VerdictKey { schema: SCHEMA.to_owned(), key: key.to_pem() };
        let body = serde_json::to_vec(&record).unwrap();
        let later = br#"{"schema":"assay/verdict-key/v2","key":"?"}"#;
        let record = |body: &[u8]| NewRecord::new(Kind::VERDICT_KEY, about_keys(), body);
        core.store.append(vec![record(&body), record(later)]).await.unwrap();
    }
    let signers = Signers::read(core.store.as_ref(), &keys[1]).unwrap();
    assert_eq!(signers.own, keys[1]);
    assert_eq!(signers.former, [keys[0].clone(), keys[2].clone()]);
}
