//! `--keep DIR`: leaves evidence in a folder, for later decisions.
//!
//! Invariant: what a folder holds only grows. A set that is there already is united with the new
//! one, whole or not at all; what cannot be united, or read, is left as it is and is an error.

use crate::{exit::Failure, output, whole_file};
use attest::{
    Digest,
    evidence_set::{EVIDENCE_SET_BYTES_MAX, EvidenceSet},
};
use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

/// One file for each platform, in a folder for each repository: the same bytes in two repositories
/// have two verdicts. A `+` stands in no repository's name.
pub fn keep(folder: &Path, sets: &[EvidenceSet]) -> Result<(), Failure> {
    for set in sets {
        let folder = folder.join(set.subject.repository.as_str().replace('/', "+"));
        fs::create_dir_all(&folder).map_err(|error| failed(&folder, &error))?;
        // Two processes that keep at the same time must not lose what the other one adds. Where a
        // file system has no locks, the last one wins with a whole file.
        let alone = File::open(&folder).map_err(|error| failed(&folder, &error))?;
        if let Err(error) = alone.lock() {
            let folder = folder.display();
            output::say(&format!("{folder} cannot be locked ({error}): keep there one at a time"));
        }
        grow(&folder, set)?;
    }
    Ok(())
}

/// Unites the set with what its file holds. Of an image that is in two indexes there are two files:
/// what is known of one index says nothing of the other.
fn grow(folder: &Path, set: &EvidenceSet) -> Result<(), Failure> {
    let usual = folder.join(gate::collect::file::name_of(set));
    let (path, there) = match read(&usual)? {
        Some(there) if !one_index(&there, set) => {
            let path = of_index(&usual, set.index_digest());
            let there = read(&path)?;
            (path, there)
        }
        there => (usual, there),
    };
    let mut all = set.clone();
    if let Some(there) = there {
        all.merge(there).map_err(|error| {
            Failure::Operation(anyhow::anyhow!(
                "expected to add to the evidence in {}: {error}",
                path.display()
            ))
        })?;
    }
    let bytes = all.to_canonical_json()?;
    whole_file::write(&path, &bytes).map_err(|error| failed(&path, &error))
}

fn one_index(there: &EvidenceSet, set: &EvidenceSet) -> bool {
    match (there.index_digest(), set.index_digest()) {
        (Some(a), Some(b)) => a == b,
        _ => true,
    }
}

/// `…-linux-amd64-of-<index>.json`
fn of_index(usual: &Path, index: Option<Digest>) -> PathBuf {
    let stem = usual.file_stem().unwrap_or_default().to_string_lossy();
    let index = index.map(|digest| digest.hex().to_string()).unwrap_or_default();
    usual.with_file_name(format!("{stem}-of-{index}.json"))
}

fn read(path: &Path) -> Result<Option<EvidenceSet>, Failure> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(path, &error)),
    };
    let mut bytes = Vec::new();
    let most = EVIDENCE_SET_BYTES_MAX as u64 + 1;
    file.take(most).read_to_end(&mut bytes).map_err(|error| failed(path, &error))?;
    let set = EvidenceSet::parse(&bytes).map_err(|error| {
        Failure::Operation(anyhow::anyhow!(
            "expected evidence to add to in {}: {error}. Move that file away, or keep elsewhere",
            path.display()
        ))
    })?;
    Ok(Some(set))
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::Operation(anyhow::anyhow!(
        "expected to keep evidence in {}: {error}. Name a folder that can be written with --keep",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use attest::{Platform, Subject, dsse::Envelope, key::SigningKey, policy::Source};

    fn set(index: Option<&str>, verdicts: &[&str]) -> EvidenceSet {
        let manifest = b"{}".to_vec();
        let subject = Subject {
            repository: "registry.example/demo/hello".parse().unwrap(),
            digest: Digest::of(&manifest),
            platform: Platform::linux("amd64"),
        };
        let key = SigningKey::generate().unwrap();
        let sign = |text: &&str| Envelope::sign(&key, "x", text.as_bytes().to_vec()).unwrap();
        let index = index.map(|name| {
            let index = serde_json::json!({"manifests": [{"digest": subject.digest}], "n": name});
            index.to_string().into_bytes()
        });
        let verdicts = verdicts.iter().map(sign).collect();
        EvidenceSet { index, verdicts, ..EvidenceSet::new(Source::Registry, subject, manifest) }
    }

    /// What every file in the folder holds, by name.
    fn kept(folder: &Path) -> Vec<(String, Vec<String>)> {
        let folder = folder.join("registry.example+demo+hello");
        let mut names: Vec<PathBuf> =
            fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        let said = |path: &PathBuf| {
            let set = read(path).unwrap().unwrap();
            let text = |e: &Envelope| String::from_utf8(e.payload.clone()).unwrap();
            let mut said: Vec<String> = set.verdicts.iter().map(text).collect();
            said.sort();
            (path.file_name().unwrap().to_string_lossy().into_owned(), said)
        };
        names.iter().map(said).collect()
    }

    #[test]
    fn what_is_kept_only_grows() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        keep(at, &[set(None, &["a", "dissent"])]).unwrap();
        keep(at, &[set(Some("1"), &["b"])]).unwrap();
        let all = kept(at);
        assert_eq!((all.len(), all[0].1.join(" ")), (1, "a b dissent".to_owned()));
        // The same manifest in another index: each keeps its own.
        for more in ["c", "d"] {
            keep(at, &[set(Some("2"), &[more])]).unwrap();
        }
        let all = kept(at);
        assert_eq!(all.len(), 2, "{all:?}");
        assert_eq!((all[0].1.join(" "), all[1].1.join(" ")), ("c d".into(), "a b dissent".into()));
        // What cannot be united with is left as it is.
        let file = at.join("registry.example+demo+hello").join(&all[1].0);
        for other in ["{", r#"{"schema":"assay/bundle/v1","sets":[]}"#] {
            fs::write(&file, other).unwrap();
            let error = keep(at, &[set(None, &["e"])]).unwrap_err().to_string();
            assert!(error.contains(file.to_str().unwrap()), "{error}");
            assert_eq!(fs::read_to_string(&file).unwrap(), other);
        }
    }

    #[test]
    fn two_that_keep_at_the_same_time_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let names: Vec<String> = (0..16).map(|n| format!("{n:02}")).collect();
        std::thread::scope(|scope| {
            for half in names.chunks(4) {
                let at = folder.path();
                scope.spawn(move || {
                    for name in half {
                        keep(at, &[set(None, &[name])]).unwrap();
                    }
                });
            }
        });
        assert_eq!(kept(folder.path())[0].1, names);
    }
}
