//! Every kind of hostile package in one table, from the file's bytes to the assembled image.
//!
//! Invariant: each is refused with words that name package and entry, or assembled as apko would;
//! the whole table stays within [`PEAK_BYTES_MAX`] of memory, the packages themselves included.
//! One test in a binary of its own, because the peak is the process's.

mod apk_support;

use apk_support::build;
use rebuild::{
    apk::package::{Package, PackageLimits},
    apko::{
        AssembleError, Assembly, AssemblyInput, Behaviour, BuildTimes, Depth, ImageConfiguration,
        LayerSink, assemble,
    },
    compare::{LayerForm, Limits, list_layer},
    go::tar::{Header, Kind, Writer},
    source::{FileBytes, RandomAccess, Spool, SpoolFile},
};
use std::{
    io::{self, Read, Write},
    sync::{Arc, Mutex},
};

/// What the design allows for layers of any size: 192 MiB.
const PEAK_BYTES_MAX: u64 = 192 << 20;

/// The package and, behind it, the layer that it became.
type Outcome = Result<Vec<u8>, String>;

/// Unpacked data in temporary files, as in the content store.
struct Files;

struct OneFile(std::fs::File);

impl Spool for Files {
    fn create(&self) -> io::Result<Box<dyn SpoolFile>> {
        Ok(Box::new(OneFile(tempfile::tempfile()?)))
    }
}

impl Write for OneFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl SpoolFile for OneFile {
    fn seal(self: Box<Self>) -> io::Result<Arc<dyn RandomAccess>> {
        Ok(Arc::new(FileBytes::new(self.0)?))
    }
}

#[derive(Default)]
struct Keep(Mutex<Vec<u8>>);

impl LayerSink for Keep {
    fn compressed(&self, _layer: usize) -> io::Result<Box<dyn Write + Send + '_>> {
        Ok(Box::new(io::sink()))
    }

    fn uncompressed(&self, _layer: usize) -> io::Result<Option<Box<dyn Write + Send + '_>>> {
        Ok(Some(Box::new(KeepPart(self))))
    }
}

struct KeepPart<'a>(&'a Keep);

impl Write for KeepPart<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn assembled(package: Package, keep: &Keep) -> Result<Assembly, AssembleError> {
    let input = AssemblyInput {
        config: &ImageConfiguration::default(),
        platform: &"linux/amd64".parse().unwrap(),
        packages: &[Arc::new(package)],
        keys: &[],
        extra_packages: &[],
        extra_repositories: &[],
        times: BuildTimes::default(),
        behaviour: Behaviour::newest(),
        depth: Depth::DiffIds,
        threads: 1,
    };
    assemble(&input, keep)
}

fn outcome(file: impl Read) -> Outcome {
    let package = Package::read(file, &Files, &PackageLimits::default());
    let keep = Keep::default();
    let assembly = assembled(package.map_err(|error| error.to_string())?, &keep);
    assembly.map_err(|error| error.to_string())?;
    Ok(keep.0.into_inner().unwrap())
}

/// The package is refused in words that name it and the entry.
fn refused(what: &str, file: impl Read, entry: &str, words: &str) {
    let error = outcome(file).expect_err(what);
    for part in ["package made-1-r0", entry, words] {
        assert!(error.contains(part), "{what}: expected {part:?} in: {error}");
    }
}

/// A raw header block.
fn block(flag: u8, name: &str, size: u64) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..108].copy_from_slice(b"0000644\0");
    block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    block[156] = flag;
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// A PAX header with these records, `length key=value` and a newline each.
fn pax(records: &[(&str, &str)]) -> Vec<u8> {
    let mut body = String::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let digits = if rest + 1 > 9 { 2 + usize::from(rest + 2 > 99) } else { 1 };
        body.push_str(&format!("{} {key}={value}\n", rest + digits));
    }
    let mut out = block(b'x', "PaxHeaders.0/x", body.len() as u64);
    out.extend(body.bytes());
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

fn raw(parts: &[Vec<u8>]) -> Vec<u8> {
    build::around(&build::gzip(&[parts.concat(), vec![0; 1024]].concat()))
}

fn kind(kind: Kind, name: &str, link: &str) -> (Header, Vec<u8>) {
    let mut header = Header::new(kind, name);
    header.mode = 0o644;
    header.link_name = link.into();
    (header, Vec::new())
}

/// A data member that is made while it is compressed: it would not fit into memory.
fn streamed(level: flate2::Compression, write: impl FnOnce(&mut dyn Write)) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
    write(&mut encoder);
    build::around(&encoder.finish().unwrap())
}

fn bombs() {
    // 256 MiB of zeros in less than one.
    let gzip = streamed(flate2::Compression::best(), |out| {
        out.write_all(&block(b'0', "zeros", 256 << 20)).unwrap();
        for _ in 0..256 {
            out.write_all(&[0; 1 << 20]).unwrap();
        }
    });
    assert!(gzip.len() < 1 << 20, "{}", gzip.len());
    refused("a gzip bomb", &gzip[..], "data member", "for each compressed byte");
    let tar = streamed(flate2::Compression::fast(), |out| {
        for number in 0..400_001 {
            // Random enough that only the number of entries stops it.
            let mut header = block(b'5', &format!("d{:x}", number * 2_654_435_761_u64), 0);
            header.truncate(512);
            out.write_all(&header).unwrap();
        }
    });
    refused("a tar bomb", &tar[..], "data member", "expected at most");
    let mut members = build::gzip(&build::tar(&[build::file("a", b"")]));
    for _ in 0..5000 {
        members.extend(build::gzip(b""));
    }
    refused("thousands of members", &build::around(&members)[..], "data member", "members");
    let attributes = streamed(flate2::Compression::fast(), |out| {
        let value = "x".repeat(100 << 10);
        // 10,486 times 100 KiB: one GiB.
        for number in 0..10_486 {
            let mut writer = Writer::new(Vec::new());
            let (mut header, _) = build::file(&format!("f{number}"), b"");
            header.pax.insert(b"SCHILY.xattr.user.x".to_vec(), value.clone().into_bytes());
            writer.header(&header).unwrap();
            let bytes = writer.finish().unwrap();
            out.write_all(&bytes[..bytes.len() - 1024]).unwrap();
        }
    });
    refused("a GiB of attributes", &attributes[..], "tar entry", "names and PAX headers");
}

fn sizes_and_records() {
    let lying = raw(&[block(b'0', "usr", 1 << 32)]);
    refused("a size that lies", &lying[..], "tar entry usr", "end of the archive");
    let two = [pax(&[("size", "7")]), block(b'0', "a", 5), vec![0; 512]];
    refused("two sizes", &raw(&two)[..], "tar entry", "expected one size");
    let twice = [pax(&[("path", "b"), ("path", "c")]), block(b'0', "a", 0)];
    refused("a record twice", &raw(&twice)[..], "tar entry", "path once");
    let stacked = [pax(&[("path", "b")]), pax(&[("path", "c")]), block(b'0', "a", 0)];
    refused("two headers for one entry", &raw(&stacked)[..], "tar entry", "one extension");
    let nul = [pax(&[("path", "a\0b")]), block(b'0', "a", 0)];
    refused("a NUL in a name", &raw(&nul)[..], "tar entry", "path");
    refused("a sparse file", &raw(&[block(b'S', "holes", 0)])[..], "tar entry", "sparse");
    let sparse = [pax(&[("GNU.sparse.major", "1")]), block(b'0', "holes", 0)];
    refused("a sparse file by PAX", &raw(&sparse)[..], "tar entry", "sparse");
    let global = [block(b'g', "pax_global_header", 0), block(b'0', "a", 0)];
    refused("a global header", &raw(&global)[..], "tar entry", "global");
}

fn names() {
    for name in ["../up", "etc/../../up", "/etc/shadow", "a//b", "./a", "a/./b"] {
        let made = build::package(&[build::directory("x"), build::file(name, b"")]);
        refused(name, &made[..], &format!("entry {name:?}"), "plain components");
        let directory = build::package(&[build::directory("x"), build::directory(name)]);
        refused(name, &directory[..], &format!("entry {name:?}"), "plain components");
    }
    let deep = "d/".repeat(300);
    refused("depth", &build::package(&[build::directory(&deep)])[..], "tar entry d/", "at most");
    let twice = [build::file("a", b"first"), build::file("a", b"second")];
    let layer = outcome(&build::package(&twice)[..]).unwrap();
    let listing = list_layer(&mut &layer[..], LayerForm::Tar, &Limits::default()).unwrap();
    let found: Vec<_> = listing.entries.iter().filter(|entry| entry.path == b"a").collect();
    assert_eq!(found.len(), 1, "as in apko the package replaces its own file");
    assert_eq!(found[0].content, attest::Digest::of(b"second"));
}

fn links_and_devices() {
    for device in [Kind::CharDevice, Kind::BlockDevice, Kind::Fifo] {
        let made = build::package(&[kind(device, "dev-x", "")]);
        refused("a device", &made[..], "entry \"dev-x\"", "expected a file");
    }
    let nothing = build::package(&[kind(Kind::HardLink, "link", "nothing")]);
    refused("a hard link to nothing", &nothing[..], "entry \"link\"", "nothing");
    let itself = build::package(&[kind(Kind::HardLink, "link", "link")]);
    refused("a hard link to itself", &itself[..], "entry \"link\"", "link");
    let a_loop = [
        build::symlink("one", "two"),
        build::symlink("two", "one"),
        build::file("one/x", b"content"),
    ];
    refused("a loop", &build::package(&a_loop)[..], "entry \"one/x\"", "links");
    let own = [build::symlink("self", "self"), build::file("self/x", b"content")];
    refused("a link to itself", &build::package(&own)[..], "entry \"self/x\"", "links");
}

/// A library with one soname, and every number of its headers replaced by what cannot be.
fn libraries() {
    let mut sample = b"\x7fELF\x02\x01\x01".to_vec();
    sample.resize(64, 0);
    (sample[16], sample[18], sample[20], sample[58], sample[60], sample[62]) = (3, 62, 1, 64, 3, 1);
    sample[40..48].copy_from_slice(&112_u64.to_le_bytes());
    sample.extend_from_slice(b"\0liba.so.1\0\0\0\0\0\0");
    for word in [14_u64, 1, 0, 0] {
        sample.extend_from_slice(&word.to_le_bytes());
    }
    for (kind, offset, size, link) in [(0_u32, 0, 0, 0_u32), (3, 64, 16, 0), (6, 80, 32, 1)] {
        let mut section = vec![0; 64];
        section[4..8].copy_from_slice(&kind.to_le_bytes());
        section[24..32].copy_from_slice(&u64::to_le_bytes(offset));
        section[32..40].copy_from_slice(&u64::to_le_bytes(size));
        section[40..44].copy_from_slice(&link.to_le_bytes());
        sample.extend(section);
    }
    let image = |library: &[u8]| {
        outcome(
            &build::package(&[
                build::directory("etc"),
                build::file("etc/ld.so.conf", b"/usr/lib\n"),
                build::directory("usr"),
                build::directory("usr/lib"),
                build::file("usr/lib/liba.so.1", library),
            ])[..],
        )
    };
    let cached = |layer: &[u8]| layer.windows(17).any(|bytes| bytes == b"usr/lib/liba.so.1");
    let cache = |layer: &[u8]| {
        let at = layer.windows(17).position(|bytes| bytes == b"glibc-ld.so.cache").unwrap();
        cached(&layer[at..at + 512])
    };
    assert!(cache(&image(&sample).unwrap()), "the library as it is");
    let (mut in_cache, mut lies) = (0, 0);
    for at in (16..sample.len() - 8).step_by(4) {
        for lie in [u64::MAX, 1 << 63, 1 << 40, 0xffff_ffff, 0x8000_0001] {
            let mut lying = sample.clone();
            lying[at..at + 8].copy_from_slice(&lie.to_le_bytes());
            lies += 1;
            match image(&lying) {
                Ok(layer) => in_cache += usize::from(cache(&layer)),
                // Another machine is refused, as apko does, with the file's name.
                Err(error) => assert!(error.contains("usr/lib/liba.so.1"), "{error}"),
            }
        }
    }
    assert!(in_cache < lies, "{in_cache} of {lies}");
}

/// The most memory that this process ever had.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib << 10)
}

#[test]
#[allow(clippy::print_stdout)] // why something was not measured
fn each_is_refused_by_name_in_little_memory() {
    bombs();
    sizes_and_records();
    names();
    links_and_devices();
    libraries();
    match peak_bytes() {
        Some(peak) => assert!(peak <= PEAK_BYTES_MAX, "{} MiB", peak >> 20),
        None => println!("skipped: the peak of memory needs /proc/self/status"),
    }
}
