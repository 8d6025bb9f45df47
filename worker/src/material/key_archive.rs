//! Keys of package repositories as they were given over time.
//!
//! Discovery tells today's keys only, and says nothing where a repository is gone; an image of last
//! year holds last year's. So every key that counted is kept with what vouched for it, under the
//! repository that gave it: `<store>/keys/<hex of the repository's digest>.json`. A policy says
//! whether such keys count (`archived = true`).
//! Invariant: only what counted on the day it came is written here, never a key of an image; an
//! entry is never changed but for the day it was seen last. Synced before its name appears, outside
//! the store's bound, never evicted. It must never be taken for empty when it cannot be read, never
//! be believed where another account could write it, and a key never counts by what the policy or
//! the call does not accept any more ([`Vouched::counts`]).

use super::{own_folder::own_folder, store_error::StoreError};
use attest::{Digest, policy::PackageRepository};
use rebuild::apk::key::KEY_FILE_BYTES_MAX;
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

/// Keys of one repository: more than one each month for twenty years.
const KEYS_MAX: usize = 256;
/// Largest file: so many keys, and as much again for what is noted beside each.
const FILE_BYTES_MAX: u64 = 2 * (KEYS_MAX * KEY_FILE_BYTES_MAX) as u64;
/// A last sighting is written again when it is a day old.
const SEEN_AGAIN_SECONDS: u64 = 24 * 3600;

/// What a key counts by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Vouched {
    /// It came over TLS from the repository's own host.
    OwnHost,
    /// It came over TLS from this host, which the policy lists.
    ListedHost(String),
    /// The policy pins it.
    Pin,
    /// The release list at this address names it; both came over TLS.
    ReleaseList(String),
}

impl Vouched {
    /// In words, for the record.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::OwnHost => "discovered at its host over TLS",
            Self::ListedHost(_) => "discovered over TLS at a host that the policy lists",
            Self::Pin => "pinned by the policy",
            Self::ReleaseList(_) => "named by Alpine's release list, both over TLS",
        }
    }

    /// Would it count by the policy of today, and by the release list of this call?
    pub(super) fn counts(
        &self,
        rule: &PackageRepository,
        pin: &Digest,
        list: Option<&str>,
    ) -> bool {
        match self {
            Self::OwnHost => true,
            Self::ListedHost(host) => rule.jwks_hosts.contains(host),
            Self::Pin => rule.pins.contains(pin),
            Self::ReleaseList(at) => list == Some(at),
        }
    }
}

/// A key that counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchivedKey {
    /// Its file name in `etc/apk/keys`.
    pub name: String,
    /// The file: PEM.
    pub file: String,
    /// Where the repository said it is.
    pub uri: String,
    /// Where the bytes came from.
    pub from: String,
    /// What vouched for it.
    pub vouched: Vouched,
    /// Seconds since 1970 when it was first seen.
    pub first_seen: u64,
    /// When it was last seen, to a day.
    pub last_seen: u64,
}

/// The folder.
#[derive(Debug)]
pub(super) struct KeyArchive {
    root: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Contents {
    schema: String,
    repository: String,
    keys: Vec<ArchivedKey>,
}

const SCHEMA: &str = "assay/keys/v1";

impl KeyArchive {
    pub(super) fn open(store: &Path) -> Result<Self, StoreError> {
        let root = store.join("keys");
        let made = match fs::DirBuilder::new().mode(0o700).create(&root) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        };
        made.map_err(StoreError::io("make the folder", &root))?;
        // Whose file this is tells who this account is.
        let mine = tempfile::tempfile_in(&root).and_then(|file| Ok(file.metadata()?.uid()));
        let owned = mine.and_then(|mine| {
            own_folder(store, mine)?;
            own_folder(&root, mine)
        });
        owned.map_err(StoreError::io("keep keys in", &root))?;
        Ok(Self { root })
    }

    /// Everything that this repository ever gave.
    pub(super) fn of(&self, repository: &str) -> Result<Vec<ArchivedKey>, StoreError> {
        let path = self.path_of(repository);
        let mut file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            opened => opened.map_err(StoreError::io("open", &path))?.take(FILE_BYTES_MAX + 1),
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(StoreError::io("read", &path))?;
        let damaged = |found: String| {
            let expected = format!("{SCHEMA} of {repository}");
            StoreError::Damaged { path: path.clone(), expected, found }
        };
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(damaged(format!("more than {FILE_BYTES_MAX} bytes")));
        }
        let contents: Contents =
            serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if contents.schema != SCHEMA || contents.repository != repository {
            return Err(damaged(format!("{} of {}", contents.schema, contents.repository)));
        }
        Ok(contents.keys)
    }

    /// Notes that the repository gives these keys. What is known already costs one reading.
    pub(super) fn keep(&self, repository: &str, seen: &[ArchivedKey]) -> Result<(), StoreError> {
        let known = self.of(repository)?;
        if known.len() >= KEYS_MAX
            && let Some(new) = seen.iter().find(|new| !known.iter().any(|known| same(known, new)))
        {
            tracing::warn!(
                material.uri = new.uri,
                "a key is not kept, as the archive of its repository is full"
            );
        }
        if !changes(&known, seen) {
            return Ok(());
        }
        // One process at a time: none may undo what another one noted.
        let lock = self.root.join("lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&lock);
        let file = file.map_err(StoreError::io("open", &lock))?;
        file.lock().map_err(StoreError::io("lock", &lock))?;
        let mut keys = self.of(repository)?;
        for new in seen {
            match keys.iter().position(|known| same(known, new)) {
                Some(at) => keys[at].last_seen = keys[at].last_seen.max(new.last_seen),
                None if keys.len() < KEYS_MAX => keys.push(new.clone()),
                None => {}
            }
        }
        let repository = repository.to_owned();
        let path = self.path_of(&repository);
        let contents = Contents { schema: SCHEMA.to_owned(), repository, keys };
        let bytes = serde_json::to_vec_pretty(&contents).unwrap_or_default();
        if bytes.len() as u64 > FILE_BYTES_MAX {
            // It could not be read again.
            let from = format!("{} keys of {}", contents.keys.len(), contents.repository);
            return Err(StoreError::TooLarge { from, limit: FILE_BYTES_MAX });
        }
        self.write(&path, &bytes)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let named = tempfile::Builder::new().prefix("new-").tempfile_in(&self.root);
        let mut file = named.map_err(StoreError::io("create a file in", &self.root))?;
        let written = file.write_all(bytes).and_then(|()| file.as_file().sync_all());
        written.map_err(StoreError::io("write", file.path()))?;
        file.persist(path).map_err(|e| StoreError::io("rename into", path)(e.error))?;
        let synced = File::open(&self.root).and_then(|folder| folder.sync_all());
        synced.map_err(StoreError::io("sync the folder", &self.root))
    }

    fn path_of(&self, repository: &str) -> PathBuf {
        let hex = Digest::of(repository.as_bytes()).hex();
        self.root.join(format!("{hex}.json"))
    }
}

/// The same bytes under the same name.
fn same(known: &ArchivedKey, new: &ArchivedKey) -> bool {
    known.name == new.name && known.file == new.file
}

fn changes(known: &[ArchivedKey], seen: &[ArchivedKey]) -> bool {
    seen.iter().any(|new| match known.iter().find(|known| same(known, new)) {
        Some(known) => new.last_seen >= known.last_seen.saturating_add(SEEN_AGAIN_SECONDS),
        None => known.len() < KEYS_MAX,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "https://packages.example/os";

    fn key(name: &str, file: &str, seen: u64) -> ArchivedKey {
        ArchivedKey {
            name: name.into(),
            file: file.into(),
            uri: format!("{HERE}/jwks#{name}"),
            from: format!("{HERE}/jwks"),
            vouched: Vouched::OwnHost,
            first_seen: seen,
            last_seen: seen,
        }
    }

    #[test]
    fn what_was_given_stays_and_both_files_of_one_name() {
        let folder = tempfile::tempdir().unwrap();
        let archive = KeyArchive::open(folder.path()).unwrap();
        assert_eq!(archive.of(HERE).unwrap(), []);
        archive.keep(HERE, &[key("a.rsa.pub", "1", 1000)]).unwrap();
        // Another process.
        let other = KeyArchive::open(folder.path()).unwrap();
        other.keep(HERE, &[key("b.rsa.pub", "2", 2000)]).unwrap();
        archive.keep(HERE, &[key("a.rsa.pub", "3", 3000)]).unwrap();
        let first = key("a.rsa.pub", "1", 1000);
        let all = [first.clone(), key("b.rsa.pub", "2", 2000), key("a.rsa.pub", "3", 3000)];
        assert_eq!(archive.of(HERE).unwrap(), all);
        assert_eq!(archive.of("https://packages.example/other").unwrap(), []);
        // Seen again: the day is noted, and nothing else.
        archive.keep(HERE, &[key("a.rsa.pub", "1", 1000 + SEEN_AGAIN_SECONDS - 1)]).unwrap();
        assert_eq!(archive.of(HERE).unwrap()[0], first);
        let later = 1000 + SEEN_AGAIN_SECONDS;
        archive.keep(HERE, &[key("a.rsa.pub", "1", later)]).unwrap();
        assert_eq!(archive.of(HERE).unwrap()[0], ArchivedKey { last_seen: later, ..first });
    }

    #[test]
    fn a_full_archive_keeps_what_it_has() {
        let folder = tempfile::tempdir().unwrap();
        let archive = KeyArchive::open(folder.path()).unwrap();
        let many: Vec<_> = (0..KEYS_MAX + 9).map(|n| key(&n.to_string(), "x", 1)).collect();
        archive.keep(HERE, &many).unwrap();
        assert_eq!(archive.of(HERE).unwrap(), many[..KEYS_MAX]);
    }

    #[test]
    fn what_cannot_be_read_is_an_error_that_names_the_file_and_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let archive = KeyArchive::open(folder.path()).unwrap();
        archive.keep(HERE, &[key("a", "1", 1)]).unwrap();
        let (path, elsewhere) = (archive.path_of(HERE), "https://elsewhere.example");
        fs::copy(&path, archive.path_of(elsewhere)).unwrap();
        let error = archive.of(elsewhere).unwrap_err().to_string();
        assert!(error.contains(elsewhere) && error.contains(HERE), "{error}");
        let half = &fs::read(&path).unwrap()[..40];
        for damaged in [half, b"", &vec![b' '; FILE_BYTES_MAX as usize + 1]] {
            fs::write(&path, damaged).unwrap();
            let error = archive.keep(HERE, &[key("b", "2", 2)]).unwrap_err().to_string();
            assert!(error.contains(&path.display().to_string()), "{error}");
            assert_eq!(fs::read(&path).unwrap(), damaged);
        }
    }

    #[test]
    fn a_key_counts_by_the_policy_of_today() {
        let (pin, other) = (Digest::of(b"key"), Digest::of(b"another"));
        let rule = |hosts: &[&str], pins: &[Digest]| PackageRepository {
            url: "https://packages.example/*".parse().unwrap(),
            keys: attest::policy::KeySource::Discovery,
            pins: pins.iter().copied().collect(),
            complete: false,
            jwks_hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            archived: true,
        };
        let (list, host) = ("https://a.example/releases.json", "keys.example");
        let (plain, full) = (rule(&["other.example"], &[other]), rule(&[host], &[pin]));
        for (vouched, by_plain, by_full) in [
            (Vouched::OwnHost, true, true),
            (Vouched::ListedHost(host.into()), false, true),
            (Vouched::Pin, false, true),
            (Vouched::ReleaseList(list.into()), false, false),
        ] {
            assert_eq!(vouched.counts(&plain, &pin, None), by_plain, "{vouched:?}");
            assert_eq!(vouched.counts(&full, &pin, None), by_full, "{vouched:?}");
        }
        let listed = Vouched::ReleaseList(list.into());
        assert!(listed.counts(&plain, &pin, Some(list)));
        assert!(!listed.counts(&plain, &pin, Some("https://b.example/releases.json")));
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_not_believed() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let archive = KeyArchive::open(folder.path()).unwrap();
        archive.keep(HERE, &[key("a", "1", 1)]).unwrap();
        for path in [folder.path(), &folder.path().join("keys")] {
            let mode = |mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            for open in [0o770, 0o702] {
                mode(open);
                let error = KeyArchive::open(folder.path()).unwrap_err().to_string();
                assert!(error.contains("nobody else may write"), "{error}");
            }
            mode(0o700);
        }
        assert_eq!(KeyArchive::open(folder.path()).unwrap().of(HERE).unwrap().len(), 1);
    }

    #[test]
    fn what_could_not_be_read_again_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let archive = KeyArchive::open(folder.path()).unwrap();
        archive.keep(HERE, &[key("a", "1", 1)]).unwrap();
        let long = key("b", &"x".repeat(FILE_BYTES_MAX as usize), 1);
        assert!(matches!(archive.keep(HERE, &[long]), Err(StoreError::TooLarge { .. })));
        assert_eq!(archive.of(HERE).unwrap().len(), 1);
    }
}
