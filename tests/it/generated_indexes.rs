//! The alterations of the published cases that lie in the index, on generated images of two
//! platforms: an image that is annotated as an attestation, and a platform twice.
//!
//! Invariant: whatever the index says of an image that runtimes would run, it is among the entries
//! that are judged, under its platform.

use super::repository::{Fresh, Random};
use attest::{Digest, Platform};
use oci::{Image, ImageReference, ImageSource, LayoutWriter, SourceOptions};
use rebuild::{
    apko::{AssemblyInput, Behaviour, BuildTimes, Depth, IndexEntry, LayerSink, assemble, index},
    source::MemorySpool,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::{self, Write},
    sync::Mutex,
};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Seeds of an ordinary run; `ASSAY_SEEDS` says how many else.
const SEEDS: u64 = 3;

#[derive(Default)]
struct Blobs(Mutex<BTreeMap<usize, Vec<u8>>>);

struct Part<'a>(&'a Blobs, usize);

impl Write for Part<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.0.lock().unwrap().entry(self.1).or_default().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl LayerSink for Blobs {
    fn compressed(&self, layer: usize) -> io::Result<Box<dyn Write + Send + '_>> {
        Ok(Box::new(Part(self, layer)))
    }
}

/// Writes the images of a seed into a layout; gives the index as apko writes it.
fn write(layout: &LayoutWriter, seed: u64) -> Value {
    let fresh = Fresh::new(seed);
    let mut entries = Vec::new();
    for (architecture, repository, config) in &fresh.platforms {
        let blobs = Blobs::default();
        let input = AssemblyInput {
            config,
            platform: &format!("linux/{architecture}").parse().unwrap(),
            packages: &repository.resolved(&MemorySpool),
            keys: &fresh.keys,
            extra_packages: &[],
            extra_repositories: &[],
            times: BuildTimes::default(),
            behaviour: Behaviour::newest(),
            depth: Depth::Blobs,
            threads: 1,
        };
        let assembly = assemble(&input, &blobs).unwrap();
        let manifest = assembly.manifest.unwrap();
        layout.put_blob(&assembly.config).unwrap();
        for blob in blobs.0.into_inner().unwrap().values() {
            layout.put_blob(blob).unwrap();
        }
        layout.put_manifest(MANIFEST, &manifest).unwrap();
        entries.push(IndexEntry {
            architecture: (*architecture).to_owned(),
            manifest: Digest::of(&manifest),
            size: manifest.len() as u64,
            created: assembly.created,
        });
    }
    let config = &fresh.platforms[0].2;
    let index = index(config, &entries, &Behaviour::newest(), 0).unwrap();
    serde_json::from_slice(&index).unwrap()
}

/// The entries that are judged: digest and platform.
fn judged(layout: &LayoutWriter, index: &Value) -> Vec<(String, Platform)> {
    let bytes = serde_json::to_vec(index).unwrap();
    let descriptor = layout.put_manifest(INDEX, &bytes).unwrap();
    let repository = "generated/image".parse().unwrap();
    layout.tag(&repository, &"latest".parse().unwrap(), &descriptor).unwrap();
    let text = format!("oci:{}:generated/image:latest", layout.path().display());
    let reference: ImageReference = text.parse().unwrap();
    let source = ImageSource::open(&reference, &SourceOptions::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let image = runtime.block_on(Image::read(&source, &reference)).unwrap();
    assert!(image.attestations.is_empty(), "an image counts as an attestation");
    let entries = image.entries.into_iter();
    entries.map(|entry| (entry.descriptor.digest.to_string(), entry.platform)).collect()
}

#[test]
fn no_index_hides_an_image() {
    let seeds = std::env::var("ASSAY_SEEDS").map_or(SEEDS, |text| text.parse().unwrap());
    for seed in 1..=seeds {
        let folder = tempfile::tempdir().unwrap();
        let layout = LayoutWriter::create(folder.path()).unwrap();
        let index = write(&layout, seed);
        let plain = judged(&layout, &index);
        assert_eq!(plain.len(), 2, "seed {seed}");
        for place in 0..2 {
            // hidden-platform: runtimes take it all the same.
            let mut hidden = index.clone();
            let entry = &mut hidden["manifests"][place];
            entry["platform"] = json!({"architecture": "unknown", "os": "unknown"});
            entry["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest",
                "vnd.docker.reference.digest": index["manifests"][1 - place]["digest"]});
            assert_eq!(judged(&layout, &hidden), plain, "seed {seed}, entry {place} hidden");
            // twice: the other platform's image under this platform.
            let mut twice = index.clone();
            let mut second = index["manifests"][1 - place].clone();
            second["platform"] = index["manifests"][place]["platform"].clone();
            let at = Random(seed).below(3);
            twice["manifests"].as_array_mut().unwrap().insert(at, second);
            let found = judged(&layout, &twice);
            assert_eq!(found.len(), 3, "seed {seed}, entry {place} twice");
            let platform = &plain[place].1;
            let both: Vec<_> = found.iter().filter(|entry| entry.1 == *platform).collect();
            assert_eq!(both.len(), 2, "seed {seed}, entry {place} twice");
            assert_ne!(both[0].0, both[1].0);
        }
    }
}
