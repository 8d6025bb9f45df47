//! The repository: package files as a builder makes them, and their index.
//!
//! Invariant: a function of the size and the seed. Nothing is signed: the index is taken without a
//! signature, as signatures cost nothing that is measured here.

use super::content::{Contents, Nature, Random};
use anyhow::Result;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::{Compression, write::GzEncoder};
use rebuild::go::tar::{Header, Kind, Writer};
use sha1::{Digest as _, Sha1};
use sha2::Sha256;
use std::{
    fmt, fs,
    io::{self, Write},
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Source packages: layers group by them.
const ORIGINS: usize = 25;
/// The level of the tools that make packages.
const LEVEL: u32 = 6;
/// The zeros that end an archive; control members go without.
const END_BYTES: usize = 1024;
/// Every so many files one is large, as libraries are.
const LARGE_EVERY: usize = 150;

/// What is made.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub mib: u64,
    pub packages: usize,
    pub files: usize,
    pub seed: u64,
}

/// What was made.
pub struct Made {
    size: Size,
    compressed: u64,
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Size { mib, packages, files, seed } = self.size;
        let compressed = self.compressed >> 20;
        write!(
            f,
            "{packages} packages, {files} files, {mib} MiB, {compressed} MiB compressed, seed {seed}"
        )
    }
}

/// The name of a package.
pub fn name(number: usize) -> String {
    format!("big{number:03}")
}

/// Makes the repository in a folder, or takes the one that is there.
pub fn make(folder: &Path, size: &Size) -> Result<Made> {
    let place = folder.join("x86_64");
    let index = place.join("APKINDEX.tar.gz");
    if !index.is_file() {
        fs::create_dir_all(&place)?;
        let contents = Contents::new(size.seed);
        let records = Mutex::new(vec![String::new(); size.packages]);
        let next = AtomicUsize::new(0);
        let work = || -> io::Result<()> {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= size.packages {
                    return Ok(());
                }
                let record = package(&contents, size, number, &place)?;
                records.lock().unwrap_or_else(PoisonError::into_inner)[number] = record;
            }
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..super::machine::threads()).map(|_| scope.spawn(work)).collect();
            threads.into_iter().try_for_each(|thread| {
                thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
            })
        })?;
        let text = records.into_inner().unwrap_or_else(PoisonError::into_inner).concat();
        let archive = archive(&[(file("APKINDEX", text.len() as u64), text.into_bytes())])?;
        fs::write(&index, gzip(&archive)?)?;
    }
    let mut compressed = 0;
    for file in fs::read_dir(&place)? {
        compressed += file?.metadata()?.len();
    }
    Ok(Made { size: *size, compressed })
}

/// Writes one package file; its record in the index.
fn package(contents: &Contents, size: &Size, number: usize, place: &Path) -> io::Result<String> {
    let mut random = Random::new(size.seed ^ ((number as u64 + 1) << 20));
    let data = gzip(&data(contents, size, number, &mut random)?)?;
    let name = name(number);
    let origin = number % ORIGINS;
    let installed = (size.mib << 20) / size.packages as u64;
    let hash = hex::encode(Sha256::digest(&data));
    let info = format!(
        "pkgname = {name}\npkgver = 1-r0\narch = x86_64\norigin = o{origin}\npkgdesc = Part \
         {number}\nlicense = MIT\nbuilddate = 1700000000\nsize = {installed}\ndatahash = {hash}\n"
    );
    let mut control = archive(&[(file(".PKGINFO", info.len() as u64), info.into_bytes())])?;
    control.truncate(control.len() - END_BYTES);
    let control = gzip(&control)?;
    let checksum = STANDARD.encode(Sha1::digest(&control));
    let whole = control.len() + data.len();
    fs::write(place.join(format!("{name}-1-r0.apk")), [control, data].concat())?;
    Ok(format!(
        "C:Q1{checksum}\nP:{name}\nV:1-r0\nA:x86_64\nS:{whole}\nI:{installed}\no:o{origin}\n\
         t:1700000000\n\n"
    ))
}

/// The files of one package: folders of a dozen files, sizes over five orders of magnitude.
fn data(
    contents: &Contents,
    size: &Size,
    number: usize,
    random: &mut Random,
) -> io::Result<Vec<u8>> {
    let count = size.files / size.packages;
    let bytes = (size.mib << 20) as f64 / size.packages as f64;
    let weights: Vec<f64> = (0..count)
        .map(|place| {
            let weight = 2_f64.powf(random.below(1600) as f64 / 100.0);
            if (place + number).is_multiple_of(LARGE_EVERY) { weight + 1.2e6 } else { weight }
        })
        .collect();
    let sum: f64 = weights.iter().sum();
    let name = name(number);
    let mut entries = vec![folder("etc"), folder("usr"), folder("usr/share")];
    if number == 0 {
        for (path, text) in [
            ("etc/group", &b"root:x:0:\n"[..]),
            ("etc/passwd", &b"root:x:0:0:root:/root:/bin/sh\n"[..]),
        ] {
            entries.insert(1, (file(path, text.len() as u64), text.to_vec()));
        }
    }
    entries.push(folder(&format!("usr/share/{name}")));
    for (place, weight) in weights.iter().enumerate() {
        let part = place / 12;
        if place % 12 == 0 {
            entries.push(folder(&format!("usr/share/{name}/part{part:04}")));
        }
        let length = (weight / sum * bytes) as usize;
        let nature = match random.below(100) {
            0..58 => Nature::Text,
            58..92 => Nature::Binary,
            _ => Nature::Noise,
        };
        let content = contents.file(nature, length, random);
        let path = format!("usr/share/{name}/part{part:04}/file{place:05}");
        entries.push((file(&path, content.len() as u64), content));
    }
    archive(&entries)
}

fn archive(entries: &[(Header, Vec<u8>)]) -> io::Result<Vec<u8>> {
    let mut writer = Writer::new(Vec::new());
    for (header, content) in entries {
        let mut header = header.clone();
        if header.kind == Kind::Regular {
            let checksum = hex::encode(Sha1::digest(content)).into_bytes();
            header.pax.insert(b"APK-TOOLS.checksum.SHA1".to_vec(), checksum);
        }
        writer.header(&header).map_err(io::Error::other)?;
        writer.data(content).map_err(io::Error::other)?;
    }
    writer.finish().map_err(io::Error::other)
}

fn folder(path: &str) -> (Header, Vec<u8>) {
    let mut header = Header::new(Kind::Directory, path);
    header.mode = 0o755;
    header.mtime = 1_690_000_000;
    (header, Vec::new())
}

fn file(path: &str, size: u64) -> Header {
    let mut header = Header::new(Kind::Regular, path);
    header.mode = 0o644;
    header.mtime = 1_690_000_000;
    header.size = size;
    header
}

fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(LEVEL));
    encoder.write_all(bytes)?;
    encoder.finish()
}
