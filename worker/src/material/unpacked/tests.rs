//! What a store of unpacked packages gives back, and what it refuses.

use super::*;
use rebuild::apk::package::PackageLimits;
use std::{
    io::Read as _,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
};

fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../rebuild/tests/fixtures/apko/repo/x86_64")
        .join(name);
    fs::read(path).unwrap()
}

fn store(root: &Path) -> UnpackedStore {
    open(root).unwrap()
}

fn open(root: &Path) -> io::Result<UnpackedStore> {
    UnpackedStore::open(root, Arc::new(Staging::open(root)?))
}

fn unpack(store: &UnpackedStore, apk: &[u8]) -> Package {
    let spool = store.spool();
    let package = Package::read(apk, &spool, &PackageLimits::default()).unwrap();
    spool.keep(&package).unwrap();
    package
}

fn contents(package: &Package) -> io::Result<Vec<Vec<u8>>> {
    package
        .entries
        .iter()
        .map(|entry| {
            let mut bytes = Vec::new();
            package.content(entry).read_to_end(&mut bytes).map(|_| bytes)
        })
        .collect()
}

#[test]
fn what_was_kept_comes_back_and_leaves_nothing_beside() {
    let folder = tempfile::tempdir().unwrap();
    let kept = store(folder.path());
    for name in ["weird-0.1-r0.apk", "app-3.0-r7.apk", "libbar-9-r2.apk"] {
        let apk = fixture(name);
        let package = unpack(&kept, &apk);
        assert!(kept.package(&Digest::of(b"another")).is_none());
        // Another process opens the same store.
        let again = store(folder.path()).package(&Digest::of(&apk)).unwrap();
        assert_eq!(again.info, package.info);
        assert_eq!(again.entries, package.entries);
        assert_eq!(again.control, package.control);
        assert_eq!(again.signature, package.signature);
        assert_eq!(again.control_sha1, package.control_sha1);
        assert_eq!((again.data_sha256, again.file_size), (package.data_sha256, package.file_size));
        assert_eq!(contents(&again).unwrap(), contents(&package).unwrap());
    }
    assert_eq!(fs::read_dir(kept.staging.path()).unwrap().count(), 0);
    let key = fs::metadata(folder.path().join("unpacked.key")).unwrap();
    assert_eq!(key.mode() & 0o7777, 0o600);
}

/// Every byte of an entry counts, and so does its length; what is wrong is removed.
#[test]
fn alterations_are_noticed_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let kept = store(folder.path());
    let apk = fixture("conf-a-1-r0.apk");
    let digest = Digest::of(&apk);
    let path = kept.path_of(&digest);
    unpack(&kept, &apk);
    let whole = fs::read(&path).unwrap();
    let step = (whole.len() / 300).max(1);
    for at in (0..whole.len()).step_by(step).chain(whole.len() - FOOTER_BYTES..whole.len()) {
        let mut altered = whole.clone();
        altered[at] ^= 0x10;
        fs::write(&path, &altered).unwrap();
        let read = kept.package(&digest).map(|package| {
            // Padding between files is not read; every content is.
            let mut all = vec![0; usize::try_from(package.data.len()).unwrap()];
            package.data.read_exact_at(0, &mut all)
        });
        assert!(!matches!(read, Some(Ok(()))), "byte {at} of {}", whole.len());
        assert!(!path.exists(), "byte {at}");
    }
    for len in [0, 1, FOOTER_BYTES - 1, FOOTER_BYTES, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..len]).unwrap();
        assert!(kept.package(&digest).is_none(), "{len} bytes");
    }
    fs::write(&path, [&whole[..], b"x"].concat()).unwrap();
    assert!(kept.package(&digest).is_none());
    fs::write(&path, &whole).unwrap();
    assert!(kept.package(&digest).is_some());
}

#[test]
fn another_package_or_another_stores_entry_is_refused() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (kept, foreign) = (store(folder.path()), store(other.path()));
    let (a, b) = (fixture("conf-a-1-r0.apk"), fixture("conf-b-1-r0.apk"));
    unpack(&kept, &a);
    unpack(&kept, &b);
    unpack(&foreign, &a);
    let (a, b) = (Digest::of(&a), Digest::of(&b));
    fs::copy(kept.path_of(&b), kept.path_of(&a)).unwrap();
    assert!(kept.package(&a).is_none());
    fs::copy(foreign.path_of(&a), kept.path_of(&a)).unwrap();
    assert!(kept.package(&a).is_none());
    assert!(kept.package(&b).is_some());
}

#[test]
fn a_folder_that_others_may_write_to_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    drop(store(folder.path()));
    let set = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    set(&folder.path().join("unpacked"), 0o777);
    let error = open(folder.path()).unwrap_err();
    assert!(error.to_string().contains("nobody else may write"), "{error}");
    set(&folder.path().join("unpacked"), 0o700);
    set(&folder.path().join("unpacked.key"), 0o644);
    let error = open(folder.path()).unwrap_err();
    assert!(error.to_string().contains("0600"), "{error}");
    set(&folder.path().join("unpacked.key"), 0o600);
    open(folder.path()).unwrap();
}
