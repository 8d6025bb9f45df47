//! The same bytes whatever the number of threads, the depth, and where package data is kept; and
//! the sink gets what the digests say.

use super::{
    golden,
    support::{Case, digests},
};
use attest::Digest;
use flate2::read::GzDecoder;
use rebuild::{
    apk::package::{Package, PackageLimits},
    apko::{Assembly, Behaviour, BuildTimes, Depth, Discard, LayerSink, WrittenLayer},
    source::{FileBytes, RandomAccess, Spool, SpoolFile},
};
use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    sync::{Arc, Mutex},
};

/// Package data in temporary files.
struct Files;

impl Spool for Files {
    fn create(&self) -> io::Result<Box<dyn SpoolFile>> {
        Ok(Box::new(OneFile(tempfile::tempfile()?)))
    }
}

struct OneFile(std::fs::File);

impl Write for OneFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl SpoolFile for OneFile {
    fn seal(self: Box<Self>) -> io::Result<Arc<dyn RandomAccess>> {
        Ok(Arc::new(FileBytes::new(self.0)?))
    }
}

/// Keeps everything that it is given.
#[derive(Default)]
struct Keep {
    compressed: Mutex<BTreeMap<usize, Vec<u8>>>,
    uncompressed: Mutex<BTreeMap<usize, Vec<u8>>>,
    finished: Mutex<BTreeMap<usize, WrittenLayer>>,
}

struct Part<'a>(&'a Mutex<BTreeMap<usize, Vec<u8>>>, usize);

impl Write for Part<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().entry(self.1).or_default().extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl LayerSink for Keep {
    fn compressed(&self, layer: usize) -> io::Result<Box<dyn Write + Send + '_>> {
        Ok(Box::new(Part(&self.compressed, layer)))
    }

    fn uncompressed(&self, layer: usize) -> io::Result<Option<Box<dyn Write + Send + '_>>> {
        Ok(Some(Box::new(Part(&self.uncompressed, layer))))
    }

    fn finished(&self, layer: usize, written: &WrittenLayer) -> io::Result<()> {
        self.finished.lock().unwrap().insert(layer, *written);
        Ok(())
    }
}

/// Fails after some bytes.
struct Full;

impl LayerSink for Full {
    fn compressed(&self, _layer: usize) -> io::Result<Box<dyn Write + Send + '_>> {
        Ok(Box::new(Full))
    }
}

impl Write for Full {
    fn write(&mut self, _buf: &[u8]) -> io::Result<usize> {
        Err(io::Error::new(io::ErrorKind::StorageFull, "no space"))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn with_case<T>(packages: &[Arc<Package>], run: impl Fn(&Case<'_>) -> T) -> T {
    let (config, keys) = golden::layered_configuration();
    run(&Case {
        config: &config,
        architecture: "amd64",
        packages,
        keys: &keys,
        times: BuildTimes::default(),
        behaviour: Behaviour::newest(),
    })
}

#[test]
fn threads_depth_and_place_do_not_matter() {
    let memory = golden::layered_packages();
    let on_disk: Vec<Arc<Package>> = golden::layered_files()
        .iter()
        .map(|path| {
            let file = std::fs::File::open(path).unwrap();
            Arc::new(Package::read(file, &Files, &PackageLimits::default()).unwrap())
        })
        .collect();
    let expected = with_case(&memory, |case| digests(&case.assemble()));
    for packages in [&memory, &on_disk] {
        for threads in [0, 1, 2, 7, 64] {
            let full = |case: &Case<'_>| case.assemble_to(&Discard, Depth::Blobs, threads).unwrap();
            assert_eq!(with_case(packages, |case| digests(&full(case))), expected);
            let shallow =
                |case: &Case<'_>| case.assemble_to(&Discard, Depth::DiffIds, threads).unwrap();
            let shallow: Assembly = with_case(packages, shallow);
            assert!(shallow.manifest.is_none());
            assert_eq!(Digest::of(&shallow.config).to_string(), expected[expected.len() - 2]);
        }
    }
}

#[test]
fn the_sink_gets_what_the_digests_say() {
    let packages = golden::layered_packages();
    let keep = Keep::default();
    let assembly = with_case(&packages, |case| case.assemble_to(&keep, Depth::Blobs, 2).unwrap());
    let (compressed, uncompressed) =
        (keep.compressed.into_inner().unwrap(), keep.uncompressed.into_inner().unwrap());
    for (number, layer) in assembly.layers.iter().enumerate() {
        let written = layer.written;
        assert_eq!(keep.finished.lock().unwrap()[&number], written);
        assert_eq!(Digest::of(&uncompressed[&number]), written.diff_id);
        assert_eq!(uncompressed[&number].len() as u64, written.uncompressed_size);
        let blob = written.blob.unwrap();
        assert_eq!(Digest::of(&compressed[&number]), blob.digest);
        assert_eq!(compressed[&number].len() as u64, blob.size);
        let mut inflated = Vec::new();
        GzDecoder::new(compressed[&number].as_slice()).read_to_end(&mut inflated).unwrap();
        assert_eq!(inflated, uncompressed[&number]);
    }
    assert!(assembly.layers.last().unwrap().packages.is_empty());
    let named: usize = assembly.layers.iter().map(|layer| layer.packages.len()).sum();
    assert_eq!(named, packages.len());
}

#[test]
fn a_full_disk_says_nothing_about_the_image() {
    let packages = golden::layered_packages();
    let error = with_case(&packages, |case| case.assemble_to(&Full, Depth::Blobs, 2).unwrap_err());
    assert_eq!(error.gap(), None, "{error}");
}
