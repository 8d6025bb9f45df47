//! Where each target starts: small pieces of the fixtures, cut to what the target reads.
//!
//! Invariant: everything comes from files of this repository, so that anybody makes the same
//! corpus; nothing is larger than [`SEED_BYTES_MAX`].

use crate::build;
use flate2::bufread::GzDecoder;
use rebuild::{
    apk::tar::{Reader, TarLimits},
    go::gzip::{Variant, pgzip},
};
use serde_json::Value;
use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

/// Larger seeds make a fuzzer slow; the parsers' structure is in the first kilobytes.
pub const SEED_BYTES_MAX: usize = 16 << 10;
/// Seeds of one target.
const SEEDS_MAX: usize = 40;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every file below a folder of the repository, in order of their paths.
fn files(folder: &str, wanted: impl Fn(&Path) -> bool) -> Vec<Vec<u8>> {
    let mut paths = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            match path.is_dir() {
                true => folders.push(path),
                false if wanted(&path) => paths.push(path),
                false => {}
            }
        }
    }
    paths.sort();
    paths.iter().filter_map(|path| fs::read(path).ok()).collect()
}

fn ends(suffix: &'static str) -> impl Fn(&Path) -> bool {
    move |path| path.to_string_lossy().ends_with(suffix)
}

fn packages() -> Vec<Vec<u8>> {
    files("rebuild/tests/fixtures", ends(".apk"))
}

fn indexes() -> Vec<Vec<u8>> {
    files("rebuild/tests/fixtures", ends("APKINDEX.tar.gz"))
}

/// Each gzip member by itself, packed and unpacked.
fn members(mut file: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    while file.starts_with(&[0x1f, 0x8b]) {
        let mut decoder = GzDecoder::new(file);
        let mut unpacked = Vec::new();
        if decoder.read_to_end(&mut unpacked).is_err() {
            break;
        }
        let rest = decoder.into_inner();
        found.push((file[..file.len() - rest.len()].to_vec(), unpacked));
        file = rest;
    }
    found
}

/// The entries of this name in a tar.
fn entries(tar: &[u8], wanted: impl Fn(&[u8]) -> bool) -> Vec<Vec<u8>> {
    let mut reader = Reader::new(tar, TarLimits::default());
    let mut found = Vec::new();
    while let Ok(Some(header)) = reader.next_entry() {
        if wanted(&header.name) {
            found.extend(reader.content(1 << 20));
        }
    }
    found
}

fn unpacked(which: usize) -> Vec<Vec<u8>> {
    let members = packages().into_iter().filter_map(|apk| members(&apk).into_iter().nth(which));
    members.map(|(_, unpacked)| unpacked).collect()
}

/// Layers of the published images.
fn layers() -> Vec<Vec<u8>> {
    let blobs = files("tests/fixtures/published/blobs", |_| true);
    blobs.into_iter().filter(|blob| blob.starts_with(&[0x1f, 0x8b])).collect()
}

fn layer_tars() -> Vec<Vec<u8>> {
    layers().iter().filter_map(|blob| Some(members(blob).into_iter().next()?.1)).collect()
}

fn in_layers(name: &'static str) -> Vec<Vec<u8>> {
    layer_tars().iter().flat_map(|tar| entries(tar, |n| n == name.as_bytes())).collect()
}

fn libraries() -> Vec<Vec<u8>> {
    let data = unpacked(2);
    data.iter().flat_map(|tar| entries(tar, |n| n.windows(3).any(|w| w == b".so"))).collect()
}

/// JSON documents of the published images, and those that they enclose.
fn documents() -> Vec<Value> {
    let blobs = files("tests/fixtures/published/blobs", |_| true);
    blobs.iter().filter_map(|blob| serde_json::from_slice(blob).ok()).collect()
}

fn bytes(values: impl IntoIterator<Item = Value>) -> Vec<Vec<u8>> {
    values.into_iter().map(|value| value.to_string().into_bytes()).collect()
}

fn envelopes() -> Vec<Value> {
    let found = documents().into_iter().filter_map(|mut document| match document {
        _ if document.get("payloadType").is_some() => Some(document),
        _ => document.get_mut("dsseEnvelope").map(Value::take),
    });
    found.collect()
}

fn statements() -> Vec<Value> {
    let payloads = envelopes();
    let payloads = payloads.iter().filter_map(|envelope| {
        let envelope = envelope.to_string();
        let envelope = attest::dsse::Envelope::parse(envelope.as_bytes()).ok()?;
        serde_json::from_slice(&envelope.payload).ok()
    });
    payloads.collect()
}

fn predicates(with: &str) -> Vec<Vec<u8>> {
    let found = statements().into_iter().filter(|statement: &Value| {
        statement["predicateType"].as_str().is_some_and(|text| text.contains(with))
    });
    bytes(found.map(|mut statement| statement["predicate"].take()))
}

fn texts(all: &[&str]) -> Vec<Vec<u8>> {
    all.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn archives() -> Vec<Vec<u8>> {
    let mut all = unpacked(2);
    all.extend(unpacked(1));
    all.extend(layer_tars());
    all
}

/// The PAX bodies of the fixtures' archives, each behind a byte that chooses the entry.
fn pax_bodies() -> Vec<Vec<u8>> {
    let mut all = texts(&[
        "\x0018 path=other/name\n",
        "\x0114 size=00003\n",
        "\x0220 mtime=1700000000\n",
        "\x0318 linkpath=target\n25 SCHILY.xattr.user.a=b\n",
    ]);
    for tar in archives() {
        for header in tar.chunks_exact(512).enumerate().filter(|(_, block)| block[156] == b'x') {
            let (at, block) = header;
            let size = String::from_utf8_lossy(&block[124..135]).into_owned();
            let size = usize::from_str_radix(size.trim_end_matches('\0'), 8).unwrap_or(0);
            let body = tar.get((at + 1) * 512..(at + 1) * 512 + size).unwrap_or_default();
            all.push([b"\0", body].concat());
        }
    }
    all
}

fn index_texts() -> Vec<Vec<u8>> {
    let texts = indexes().into_iter().flat_map(|file| {
        let members = members(&file);
        members.into_iter().flat_map(|(_, tar)| entries(&tar, |name| name == b"APKINDEX"))
    });
    texts.collect()
}

fn worlds() -> Vec<Vec<u8>> {
    let names = |index: &[u8]| {
        let text = String::from_utf8_lossy(index).into_owned();
        let names = text.lines().filter_map(|line| line.strip_prefix("P:")).take(6);
        names.collect::<Vec<_>>().join(" ")
    };
    let all = index_texts();
    all.iter().map(|index| [names(index).as_bytes(), b"\n", index].concat()).collect()
}

fn blobs() -> Vec<Vec<u8>> {
    let mut all = layers();
    all.extend(packages().iter().flat_map(|apk| members(apk)).map(|(packed, _)| packed));
    all.push(pgzip(b"some text, some text", Variant::E3));
    all
}

fn frames() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for tar in unpacked(2) {
        all.extend(zstd::bulk::compress(&tar, 3));
        all.extend(zstd::bulk::compress(&tar, -5));
    }
    all
}

const CONF: &[&str] = &[
    "/opt\n# comment\n\ninclude /etc/ld.so.conf.d/*.conf\n/never\n%%\n/usr/lib\n",
    "include ld.so.conf\n",
    "/lib\n/lib\ninclude etc/[a-z]*/?.conf\n",
];

const ACCOUNTS: &[&str] = &[
    "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n\n%%\nroot:!:1::::::\n\
     \n%%\n/bin/sh\n/usr/bin/env\n",
    "nobody:x:65534:65534:nobody:/dev/null:/sbin/nologin\n",
];

const POLICY: &str = r#"
[[publisher]]
repositories = ["registry.example/demo/*", "oci:*"]
key = "publisher.pub"
transparency = "none"

[[package_repository]]
url = "https://packages.assay.test/*"
keys = "discovery"
pins = ["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]
complete = true

[[mirror]]
prefix = "https://packages.assay.test/"
url = "file:///srv/mirror/"

[[operator]]
name = "acme"
root_key = "acme.pub"
affiliations = ["publisher.example"]

[quorum]
operators = ["acme"]
reproduced = 1
level = "config"
tier = "attested"
hints = ["epoch", "install-order"]
"#;

const REFERENCES: &[&str] = &[
    "registry.example/demo/hello:latest",
    "127.0.0.1:5000/a/b@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "oci:folder/layout:demo/hello:latest",
    "[::1]:5000/x:y",
    "hello",
];

/// Every seed of a target.
pub fn of(name: &str) -> Vec<Vec<u8>> {
    let key = |suffix| files("rebuild/tests/fixtures", ends(suffix));
    let mut all = match name {
        "apk_package" => packages(),
        "apk_data" => unpacked(2).into_iter().map(|tar| [tar, vec![3]].concat()).collect(),
        "apk_tar" | "compare_tar" => archives(),
        "pax" => pax_bodies(),
        "gzip" => blobs(),
        "zstandard" => frames(),
        "go_gzip" => [archives(), texts(&["", "a", "abcabcabcabcabcabcabcabc"])].concat(),
        "apk_index" => [index_texts(), indexes()].concat(),
        "resolver" => worlds(),
        "pkginfo" => {
            let control = unpacked(1);
            control.iter().flat_map(|tar| entries(tar, |name| name == b".PKGINFO")).collect()
        }
        "installed" => in_layers("usr/lib/apk/db/installed"),
        "elf" => libraries(),
        "ld_so_conf" => texts(CONF),
        "image_files" => texts(ACCOUNTS),
        "trust_stores" => trust_stores(),
        "config_yaml" => {
            [files("tests/fixtures/published/configs", ends(".yaml")), key(".yaml")].concat()
        }
        "config_json" => predicates("apko.dev/image-configuration"),
        "lockfile" => key(".lock.json"),
        "jwks" => files("tests/fixtures/published/packages", ends("jwks.json")),
        "keys" => [key(".pub"), files("tests/fixtures/published/keys", ends(".pub"))].concat(),
        "provenance" => predicates("slsa.dev/provenance"),
        "statement" => bytes(statements()),
        "dsse" => bytes(envelopes()),
        "bundle" => bytes(documents().into_iter().filter(|d| d.get("dsseEnvelope").is_some())),
        "records" => bytes(statements()),
        "evidence_set" => evidence_sets(),
        "policy" => texts(&[POLICY]),
        "explanation" => explanations(),
        "reference" => texts(REFERENCES),
        "manifest" => bytes(documents().into_iter().filter(|d| d.get("schemaVersion").is_some())),
        "journal" => texts(&["\0\0\0\0\0\0\0\0one body", "\x02\x01\x10\0\x05\0\0\0a", "\0\x02"]),
        other => panic!("expected the name of a fuzz target, found {other:?}"),
    };
    all.retain(|seed| seed.len() <= SEED_BYTES_MAX);
    all.sort();
    all.dedup();
    let step = all.len().div_ceil(SEEDS_MAX).max(1);
    all.into_iter().step_by(step).collect()
}

fn trust_stores() -> Vec<Vec<u8>> {
    let certificate = files("rebuild/tests/fixtures", ends("cert.pem")).concat();
    let data = unpacked(2);
    let stores = data.iter().flat_map(|tar| entries(tar, |name| name.ends_with(b"cacerts")));
    let mut all: Vec<Vec<u8>> = stores
        .map(|store| [&certificate[..], b"\n%%\n", &certificate, b"\n%%\n", &store].concat())
        .collect();
    all.push(certificate);
    all
}

fn evidence_sets() -> Vec<Vec<u8>> {
    use attest::{Subject, evidence_set::EvidenceSet, policy::Source};
    let mut all = Vec::new();
    for manifest in bytes(documents().into_iter().filter(|d| d.get("layers").is_some())) {
        let digest = attest::Digest::of(&manifest);
        let Ok(repository) = "registry.example/demo/hello".parse() else { continue };
        let Ok(platform) = "linux/amd64".parse() else { continue };
        let subject = Subject { repository, digest, platform };
        let set = EvidenceSet::new(Source::Registry, subject, manifest);
        all.extend(set.to_canonical_json());
    }
    all
}

fn explanations() -> Vec<Vec<u8>> {
    let tars: Vec<_> = layer_tars().into_iter().take(6).collect();
    let mut all = Vec::new();
    for pair in tars.windows(2) {
        let (a, b) = (build::one_layer(pair[0].clone()), build::one_layer(pair[1].clone()));
        let found = rebuild::compare::compare(&a, &b, &Default::default());
        all.extend(found.ok().and_then(|found| found.explanation.to_bytes().ok()));
    }
    all
}
