//! Fresh repositories, configurations and images, one set for each seed: the same bytes however
//! they are assembled, and every alteration of the published cases is found, in every layer and on
//! every platform, with the right class and path.
//!
//! `ASSAY_SEEDS=200 cargo test -p assay-rebuild --test generated` runs 200 seeds instead of
//! [`SEEDS`]; `ASSAY_FIRST_SEED` says where they begin.
//!
//! Invariant: the published side is made from the same inputs and altered afterwards, so every
//! difference that is found is the alteration's, and one that is not found is a failure.

#[path = "generated/alter.rs"]
mod alter;
#[path = "apk_support/build.rs"]
mod build;
#[path = "generated/repository.rs"]
mod repository;

use alter::{CONFIG, Expected, Image, LAYER, entries};
use attest::Level;
use rebuild::{
    apko::{AssemblyInput, Behaviour, BuildTimes, Depth, ImageConfiguration, LayerSink, assemble},
    compare::{Comparison, Options, compare},
    source::{FileBytes, MemorySpool, RandomAccess, Spool, SpoolFile},
};
use repository::{Fresh, Repository};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
    sync::{Arc, Mutex},
};

/// Seeds of an ordinary run: some seconds.
const SEEDS: u64 = 12;

/// Package data in temporary files: nothing of it stays in memory.
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
struct Keep {
    blobs: Mutex<BTreeMap<usize, Vec<u8>>>,
    tars: Mutex<BTreeMap<usize, Vec<u8>>>,
}

struct Part<'a>(&'a Mutex<BTreeMap<usize, Vec<u8>>>, usize);

impl Write for Part<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().entry(self.1).or_default().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl LayerSink for Keep {
    fn compressed(&self, layer: usize) -> io::Result<Box<dyn Write + Send + '_>> {
        Ok(Box::new(Part(&self.blobs, layer)))
    }

    fn uncompressed(&self, layer: usize) -> io::Result<Option<Box<dyn Write + Send + '_>>> {
        Ok(Some(Box::new(Part(&self.tars, layer))))
    }
}

fn image(
    architecture: &str,
    repository: &Repository,
    config: &ImageConfiguration,
    keys: &[(String, Vec<u8>)],
    (spool, threads): (&dyn Spool, usize),
) -> Image {
    let keep = Keep::default();
    let input = AssemblyInput {
        config,
        platform: &format!("linux/{architecture}").parse().unwrap(),
        packages: &repository.resolved(spool),
        keys,
        extra_packages: &[],
        extra_repositories: &[],
        times: BuildTimes::default(),
        behaviour: Behaviour::newest(),
        depth: Depth::Blobs,
        threads,
    };
    let assembly = assemble(&input, &keep).unwrap();
    Image {
        manifest: assembly.manifest.unwrap(),
        config: assembly.config,
        blobs: keep.blobs.into_inner().unwrap().into_values().collect(),
        tars: keep.tars.into_inner().unwrap().into_values().collect(),
    }
}

/// Paths that stand in exactly one layer: what is altered there is not hidden by another layer.
fn once(image: &Image) -> BTreeSet<String> {
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    for (header, _) in image.tars.iter().flat_map(|tar| entries(tar)) {
        *count.entry(String::from_utf8(header.name).unwrap()).or_default() += 1;
    }
    count.into_iter().filter(|(_, times)| *times == 1).map(|(path, _)| path).collect()
}

fn check(what: &str, layer: Option<usize>, expected: &Expected, found: &Comparison) {
    let explanation = &found.explanation;
    assert_eq!(found.level, expected.level, "{what}: {explanation:#?}");
    assert!(!explanation.events.is_empty(), "{what} is not found");
    for event in &explanation.events {
        assert_eq!(event.kind.as_str(), expected.kind, "{what}: {explanation:#?}");
        assert_eq!(event.path, expected.path, "{what}");
        assert_eq!(event.layer, layer.map(|layer| layer as u32), "{what}");
    }
    let classes: Vec<_> = explanation.causes.iter().map(|cause| cause.class()).collect();
    let fits = expected.class.map_or(!classes.is_empty(), |class| classes.contains(&class));
    assert!(fits, "{what}: {classes:?}");
}

/// What one seed was made of.
#[derive(Default, Debug)]
struct Totals {
    images: usize,
    layers: usize,
    alterations: usize,
    inapplicable: BTreeMap<&'static str, usize>,
}

fn seed(seed: u64, totals: &mut Totals) {
    let fresh = Fresh::new(seed);
    for (architecture, repository, config) in &fresh.platforms {
        let make = |how| image(architecture, repository, config, &fresh.keys, how);
        let ours = make((&MemorySpool, 1));
        for how in [(&MemorySpool as &dyn Spool, 4), (&Files, 1), (&Files, 3)] {
            let again = make(how);
            assert_eq!(again.manifest, ours.manifest, "seed {seed}, {architecture}");
            assert!(again.blobs == ours.blobs && again.tars == ours.tars);
        }
        let rebuilt = ours.bytes();
        let run =
            |altered: &Image| compare(&altered.bytes(), &rebuilt, &Options::default()).unwrap();
        assert_eq!(run(&ours).level, Level::Manifest);
        let once = once(&ours);
        let what = |name: &str| format!("seed {seed}, {architecture}, {name}");
        for layer in 0..ours.tars.len() {
            for (name, alter) in LAYER {
                let mut altered = ours.clone();
                match alter(&mut altered, layer, &|path| once.contains(path)) {
                    None => *totals.inapplicable.entry(name).or_default() += 1,
                    Some(expected) => {
                        let what = format!("{}, layer {layer}", what(name));
                        check(&what, Some(layer), &expected, &run(&altered));
                        totals.alterations += 1;
                    }
                }
            }
        }
        for (name, alter) in CONFIG {
            let mut altered = ours.clone();
            let expected = alter(&mut altered);
            check(&what(name), None, &expected, &run(&altered));
            totals.alterations += 1;
        }
        totals.images += 1;
        totals.layers += ours.tars.len();
    }
}

#[test]
#[allow(clippy::print_stdout)] // the figures of a long run
fn every_alteration_of_every_layer_is_found() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let (first, seeds) = (number("ASSAY_FIRST_SEED"), number("ASSAY_SEEDS"));
    let (first, seeds) = (first.unwrap_or(1), seeds.unwrap_or(SEEDS));
    let mut totals = Totals::default();
    for number in first..first + seeds {
        seed(number, &mut totals);
    }
    println!("{seeds} seeds: {totals:?}");
    assert!(totals.alterations as u64 > seeds * 20);
}
