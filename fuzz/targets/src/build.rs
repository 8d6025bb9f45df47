//! Puts bytes where a parser expects them: tars, gzip members, packages, images.
//!
//! Invariant: what is made here is well-formed around the bytes that it is given.

use attest::Digest;
use flate2::{Compression, write::GzEncoder};
use rebuild::{
    apk::package::{Package, PackageLimits},
    apko::{
        AssembleError, Assembly, AssemblyInput, Behaviour, BuildTimes, Depth, Discard,
        ImageConfiguration, assemble,
    },
    compare::{LayerForm, MemoryImage},
    go::tar::{Header, Kind, Writer},
    source::MemorySpool,
};
use serde_json::json;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use std::{
    io::Write as _,
    sync::{Arc, OnceLock},
};

/// Entries of a package that is assembled: more tell nothing new and take time.
const ENTRIES_MAX: usize = 2000;

/// One stored gzip member: compressing would only cost time.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::none());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("writing to memory")
}

/// An archive with its end.
pub fn tar(entries: &[(Header, &[u8])]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (header, content) in entries {
        writer.header(header).and_then(|()| writer.data(content)).expect("a header that fits");
    }
    writer.finish().expect("writing to memory")
}

/// A directory.
pub fn directory(name: &str) -> (Header, &'static [u8]) {
    let mut header = Header::new(Kind::Directory, name);
    header.mode = 0o755;
    (header, b"")
}

/// A file with the checksum that packages carry.
pub fn file<'a>(name: &str, content: &'a [u8]) -> (Header, &'a [u8]) {
    let mut header = Header::new(Kind::Regular, name);
    header.mode = 0o644;
    header.size = content.len() as u64;
    let sum = hex::encode(Sha1::digest(content)).into_bytes();
    header.pax.insert(b"APK-TOOLS.checksum.SHA1".to_vec(), sum);
    (header, content)
}

/// A package file around the compressed bytes of its data member.
pub fn around(data: &[u8]) -> Vec<u8> {
    let hash = hex::encode(Sha256::digest(data));
    let info = format!(
        "pkgname = fuzz\npkgver = 1-r0\narch = x86_64\nprovides = busybox\ndatahash = {hash}\n"
    );
    let mut header = Header::new(Kind::Regular, ".PKGINFO");
    header.mode = 0o644;
    header.size = info.len() as u64;
    let mut control = tar(&[(header, info.as_bytes())]);
    control.truncate(control.len() - 1024);
    [gzip(&control), data.to_vec()].concat()
}

/// The package with these entries, read again.
pub fn package(entries: &[(Header, &[u8])]) -> Option<Package> {
    read_package(&around(&gzip(&tar(entries))))
}

/// Reads a package file, in little memory.
pub fn read_package(file: &[u8]) -> Option<Package> {
    let mut limits = PackageLimits::default();
    limits.gzip.uncompressed_bytes_max = 16 << 20;
    Package::read(file, &MemorySpool, &limits).ok()
}

fn base() -> &'static Arc<Package> {
    static BASE: OnceLock<Arc<Package>> = OnceLock::new();
    BASE.get_or_init(|| {
        let mut entries: Vec<_> =
            ["bin", "etc", "lib", "usr", "usr/bin", "usr/lib"].map(directory).into();
        entries.push(file("etc/group", b"root:x:0:root\n"));
        let made = package(&entries).expect("a good package");
        Arc::new(Package {
            info: rebuild::apk::package::PackageInfo { name: "base".into(), ..made.info.clone() },
            ..made
        })
    })
}

/// Assembles an image of a base and these packages.
pub fn image(
    config: &ImageConfiguration,
    packages: Vec<Package>,
    behaviour: Behaviour,
) -> Option<Result<Assembly, AssembleError>> {
    if packages.iter().any(|package| package.entries.len() > ENTRIES_MAX) {
        return None;
    }
    let packages: Vec<_> =
        [Arc::clone(base())].into_iter().chain(packages.into_iter().map(Arc::new)).collect();
    let input = AssemblyInput {
        config,
        platform: &"linux/amd64".parse().expect("a platform"),
        packages: &packages,
        keys: &[],
        extra_packages: &[],
        extra_repositories: &[],
        times: BuildTimes::default(),
        behaviour,
        depth: Depth::DiffIds,
        threads: 1,
    };
    Some(assemble(&input, &Discard))
}

/// An image of one uncompressed layer.
pub fn one_layer(tar: Vec<u8>) -> MemoryImage {
    let digest = Digest::of(&tar).to_string();
    let config = json!({"architecture": "amd64", "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [digest]}});
    let config = config.to_string().into_bytes();
    let manifest = json!({"schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": Digest::of(&config).to_string(), "size": config.len()},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": digest, "size": tar.len()}]});
    let manifest = manifest.to_string().into_bytes();
    MemoryImage { manifest, config, layers: vec![tar], form: LayerForm::Tar }
}
