//! Images for the tests of comparing: the published ones of the repository's fixtures, and small
//! ones made of tar entries.

#![allow(dead_code)] // each test binary uses its own part

use attest::Digest;
use rebuild::compare::{Comparison, LayerForm, MemoryImage, Options, compare};
use serde_json::{Value, json};
use std::{
    io::{Read, Write},
    path::PathBuf,
};

fn published(path: &str) -> PathBuf {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/published");
    PathBuf::from(root).join(path)
}

pub fn cases() -> Value {
    serde_json::from_slice(&std::fs::read(published("cases.json")).unwrap()).unwrap()
}

pub fn blob(digest: &str) -> Vec<u8> {
    let hex = digest.strip_prefix("sha256:").unwrap();
    std::fs::read(published("blobs/sha256").join(hex)).unwrap()
}

/// The image of a case, as published.
pub fn case(name: &str, platform: &str) -> MemoryImage {
    let cases = cases();
    let entry = &cases[name]["platforms"][platform];
    let manifest = blob(entry["manifest"].as_str().unwrap_or_else(|| panic!("{name} {platform}")));
    let parsed: Value = serde_json::from_slice(&manifest).unwrap();
    let config = blob(parsed["config"]["digest"].as_str().unwrap());
    let layers = parsed["layers"].as_array().unwrap();
    let layers = layers.iter().map(|layer| blob(layer["digest"].as_str().unwrap())).collect();
    MemoryImage { manifest, config, layers, form: LayerForm::Blob }
}

pub fn run(published: &MemoryImage, rebuilt: &MemoryImage) -> Comparison {
    compare(published, rebuilt, &Options::default()).unwrap()
}

/// All members, whatever follows them.
pub fn gunzip(mut bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while bytes.starts_with(&[0x1f, 0x8b]) {
        let mut decoder = flate2::bufread::GzDecoder::new(bytes);
        decoder.read_to_end(&mut out).unwrap();
        bytes = decoder.into_inner();
    }
    out
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The same image with its layers as uncompressed tars, as a build that did not compress has it.
pub fn uncompressed(image: &MemoryImage) -> MemoryImage {
    let layers: Vec<Vec<u8>> = image.layers.iter().map(|layer| gunzip(layer)).collect();
    let mut manifest: Value = serde_json::from_slice(&image.manifest).unwrap();
    for (item, layer) in manifest["layers"].as_array_mut().unwrap().iter_mut().zip(&layers) {
        let media_type = item["mediaType"].as_str().unwrap().trim_end_matches("+gzip").to_owned();
        item["mediaType"] = media_type.into();
        item["digest"] = Digest::of(layer).to_string().into();
        item["size"] = layer.len().into();
    }
    let manifest = serde_json::to_vec(&manifest).unwrap();
    MemoryImage { manifest, config: image.config.clone(), layers, form: LayerForm::Tar }
}

/// The manifest that names this configuration and these blobs.
pub fn manifest(config: &[u8], layers: &[(&str, &[u8])]) -> Value {
    let layers: Vec<Value> = layers
        .iter()
        .map(|(media_type, blob)| {
            json!({"mediaType": media_type, "digest": Digest::of(blob).to_string(),
                   "size": blob.len()})
        })
        .collect();
    json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                   "digest": Digest::of(config).to_string(), "size": config.len()},
        "layers": layers,
    })
}

pub const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
pub const TAR: &str = "application/vnd.oci.image.layer.v1.tar";

pub fn config(tars: &[&[u8]]) -> Value {
    let diff_ids: Vec<String> = tars.iter().map(|tar| Digest::of(tar).to_string()).collect();
    json!({"architecture": "amd64", "os": "linux", "config": {"User": "65532"},
           "rootfs": {"type": "layers", "diff_ids": diff_ids}})
}

/// An image of these tars, compressed with gzip.
pub fn image(tars: &[&[u8]]) -> MemoryImage {
    let blobs: Vec<Vec<u8>> = tars.iter().map(|tar| gzip(tar)).collect();
    of_blobs(&config(tars), blobs.iter().map(|b| (GZIP, b.clone())).collect())
}

/// An image of this configuration and these blobs.
pub fn of_blobs(config: &Value, blobs: Vec<(&str, Vec<u8>)>) -> MemoryImage {
    let config = serde_json::to_vec(config).unwrap();
    let named: Vec<(&str, &[u8])> = blobs.iter().map(|(t, b)| (*t, b.as_slice())).collect();
    let manifest = serde_json::to_vec(&manifest(&config, &named)).unwrap();
    let layers = blobs.into_iter().map(|(_, blob)| blob).collect();
    MemoryImage { manifest, config, layers, form: LayerForm::Blob }
}

/// The same image with other bytes for its manifest.
pub fn with_manifest(image: &MemoryImage, change: impl FnOnce(&mut Value)) -> MemoryImage {
    let mut value: Value = serde_json::from_slice(&image.manifest).unwrap();
    change(&mut value);
    MemoryImage { manifest: serde_json::to_vec(&value).unwrap(), ..image.clone() }
}

/// One tar entry.
#[derive(Clone, Debug)]
pub struct File<'a> {
    pub name: &'a str,
    pub kind: u8,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: u32,
    pub link: &'a str,
    pub data: &'a [u8],
    pub pax: &'a [(&'a str, &'a str)],
}

pub fn file<'a>(name: &'a str, data: &'a [u8]) -> File<'a> {
    let (kind, mode) = (b'0', 0o644);
    File { name, kind, mode, uid: 0, gid: 0, mtime: 1, link: "", data, pax: &[] }
}

pub fn directory(name: &str) -> File<'_> {
    File { kind: b'5', mode: 0o755, ..file(name, b"") }
}

pub fn link<'a>(name: &'a str, kind: u8, target: &'a str) -> File<'a> {
    File { kind, link: target, ..file(name, b"") }
}

fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

pub fn header(file: &File<'_>) -> [u8; 512] {
    let mut block = [0; 512];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, file.name.as_bytes());
    put(100, format!("{:07o}", file.mode).as_bytes());
    put(108, format!("{:07o}", file.uid).as_bytes());
    put(116, format!("{:07o}", file.gid).as_bytes());
    put(124, format!("{:011o}", file.data.len()).as_bytes());
    put(136, format!("{:011o}", file.mtime).as_bytes());
    put(156, &[file.kind]);
    put(157, file.link.as_bytes());
    put(257, b"ustar\x0000");
    checksum(&mut block);
    block
}

/// Writes the checksum anew after a change of the header.
pub fn checksum(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block[..512].iter().map(|b| u32::from(*b)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
}

pub fn entry(file: &File<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    if !file.pax.is_empty() {
        let mut records = Vec::new();
        for (key, value) in file.pax {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            records.extend(format!("{length} {key}={value}\n").into_bytes());
        }
        let pax = File { kind: b'x', ..self::file("PaxHeaders.0/x", &records) };
        out.extend(entry(&pax));
    }
    out.extend(header(file));
    out.extend(padded(file.data.to_vec()));
    out
}

/// A whole tar with its end marker.
pub fn tar(files: &[File<'_>]) -> Vec<u8> {
    let mut out: Vec<u8> = files.iter().flat_map(entry).collect();
    out.extend([0; 1024]);
    out
}

pub fn kinds(comparison: &Comparison) -> Vec<&'static str> {
    let mut kinds: Vec<&str> =
        comparison.explanation.events.iter().map(|event| event.kind.as_str()).collect();
    kinds.dedup();
    kinds
}

pub fn causes(comparison: &Comparison) -> Vec<&'static str> {
    comparison.explanation.causes.iter().map(|cause| cause.as_str()).collect()
}
