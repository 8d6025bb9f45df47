//! The ladder of equality: the strongest level that holds (design: architecture, same heading).
//!
//! - `manifest`: the two manifests are the same bytes, and nobody searched for a compression.
//! - `manifest-recompressed`: the same, after [`Options::searched`].
//! - `config`: the two configurations are the same bytes; between the manifests only digest, size
//!   and compression suffix of layers differ; every published layer was read, is clean and unpacks
//!   to its diffID.
//! - `rootfs`: every published layer is clean; the configurations differ in `created`, `history`,
//!   `author` and diffIDs at most; nothing in the manifest makes a runtime run something else; all
//!   layers together are the same tree.
//! - `none`: otherwise.
//!
//! Invariant: levels are decided by these checks alone. Events only explain; a detector that misses
//! a difference makes a poor explanation, never a better level. It must never use a published
//! layer that was not read to its end and hashed.

use super::{
    cause::{Cause, CauseCode},
    compression::Compression,
    documents, entries,
    error::{CompareError, Side},
    event::{Event, Kind, Scope},
    explain::{Collector, Explanation},
    hygiene::{self, LayerHygiene},
    image::{ImageBytes, LayerForm, Limits},
    layer::{Budget, LayerStream, Pull as _},
    manifest::{Config, Manifest},
    tar::Memory,
    tree::{self, LayerTree, MergedTree},
    unclean::UncleanCode,
};
use attest::{Digest, Level};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// A choice that was found by trying, not by the recipe: `gzip` = `go1.26 -1`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Searched {
    /// What was chosen, `gzip`.
    pub flag: String,
    /// The value that was found.
    pub value: String,
}

/// How to compare.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Bounds on what is read.
    pub limits: Limits,
    /// The compression engines that the caller found by search for the rebuilt image. Not empty:
    /// equal manifests are `manifest-recompressed`, never `manifest`.
    pub searched: Vec<Searched>,
}

/// Digests of one layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LayerIds {
    /// As the manifest names it.
    pub blob: Digest,
    /// Of the uncompressed tar: computed where the layer was read, else as the configuration
    /// states it; none where neither is known.
    pub diff_id: Option<Digest>,
}

/// Digests of one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageIds {
    /// Of the manifest's bytes.
    pub manifest: Digest,
    /// Of the configuration's bytes.
    pub config: Digest,
    /// Of the layers; empty for a manifest that cannot be read.
    pub layers: Vec<LayerIds>,
}

/// What a comparison came to.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// The strongest level that holds.
    pub level: Level,
    /// The published image.
    pub published: ImageIds,
    /// The rebuilt image. Its blob and manifest digests mean something only if it was compressed.
    pub rebuilt: ImageIds,
    /// How each published layer is stored; empty where the manifests are equal and no layer had
    /// to be read.
    pub hygiene: Vec<LayerHygiene>,
    /// As the caller said.
    pub searched: Vec<Searched>,
    /// Every difference.
    pub explanation: Explanation,
}

/// The part of a comparison that results carry beside the digests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExplanationSummary {
    /// Of the explanation's canonical bytes.
    pub digest: Digest,
    /// How many differences there are.
    pub differences: u64,
    /// Codes of causes.
    pub causes: Vec<CauseCode>,
    /// Sentences on what the differences let a container do.
    pub security: Vec<String>,
}

impl Comparison {
    /// What `assay verify` prints of the explanation.
    pub fn summary(&self) -> Result<ExplanationSummary, CompareError> {
        Ok(ExplanationSummary {
            digest: self.explanation.digest()?,
            differences: self.explanation.differences,
            causes: self.explanation.causes.clone(),
            security: self.explanation.security.clone(),
        })
    }
}

/// Compares a published image with a rebuilt one.
pub fn compare(
    published: &dyn ImageBytes,
    rebuilt: &dyn ImageBytes,
    options: &Options,
) -> Result<Comparison, CompareError> {
    let ours = Ours::read(rebuilt, &options.limits)?;
    let events = Collector::new(&options.limits);
    Judge { published, rebuilt, ours, options, events, uncompared: Vec::new() }.run()
}

/// The rebuilt image's documents: ours, so they must be right.
struct Ours {
    manifest: Manifest,
    config: Config,
}

impl Ours {
    fn read(image: &dyn ImageBytes, limits: &Limits) -> Result<Self, CompareError> {
        let manifest = Manifest::read(image.manifest(), Side::Rebuilt, limits)?
            .map_err(CompareError::Rebuilt)?;
        let config =
            Config::read(image.config(), Side::Rebuilt, limits)?.map_err(CompareError::Rebuilt)?;
        check_config(Side::Rebuilt, image, &manifest)?;
        let (layers, diff_ids) = (manifest.layers.len(), config.diff_ids.len());
        if layers != diff_ids {
            let text = format!("expected a diffID for each of {layers} layers, found {diff_ids}");
            return Err(CompareError::Rebuilt(text));
        }
        Ok(Self { manifest, config })
    }

    fn ids(&self, image: &dyn ImageBytes) -> ImageIds {
        let layers = self.manifest.layers.iter().zip(&self.config.diff_ids);
        ImageIds {
            manifest: Digest::of(image.manifest()),
            config: Digest::of(image.config()),
            layers: layers
                .map(|(layer, diff_id)| LayerIds { blob: layer.digest, diff_id: Some(*diff_id) })
                .collect(),
        }
    }
}

fn check_config(
    side: Side,
    image: &dyn ImageBytes,
    manifest: &Manifest,
) -> Result<(), CompareError> {
    let found = Digest::of(image.config());
    if found == manifest.config.digest {
        return Ok(());
    }
    let expected = manifest.config.digest.to_string();
    let what = "configuration".to_owned();
    Err(CompareError::WrongBytes { side, what, expected, found: found.to_string() })
}

struct Judge<'a> {
    published: &'a dyn ImageBytes,
    rebuilt: &'a dyn ImageBytes,
    ours: Ours,
    options: &'a Options,
    events: Collector,
    /// How published layers are compressed, where ours are not: said only if nothing else is.
    uncompared: Vec<Event>,
}

impl Judge<'_> {
    fn run(mut self) -> Result<Comparison, CompareError> {
        let limits = &self.options.limits;
        let manifest = match Manifest::read(self.published.manifest(), Side::Published, limits)? {
            Ok(manifest) => manifest,
            Err(why) => {
                let event = Event::new(Scope::Manifest, Kind::ManifestInvalid);
                self.events.push(event.values(Some(why), None));
                return self.end(Level::None, Vec::new(), Vec::new());
            }
        };
        check_config(Side::Published, self.published, &manifest)?;
        let config = match Config::read(self.published.config(), Side::Published, limits)? {
            Ok(config) => Some(config),
            Err(why) => {
                let event = Event::new(Scope::Config, Kind::ConfigInvalid);
                self.events.push(event.values(Some(why), None));
                None
            }
        };
        let diff_ids = config.as_ref().map(|c| c.diff_ids.clone()).unwrap_or_default();
        if self.published.manifest() == self.rebuilt.manifest() {
            let exact = if self.options.searched.is_empty() {
                Level::Manifest
            } else {
                Level::ManifestRecompressed
            };
            let layers = manifest.layers.iter().zip(&diff_ids);
            let ids = layers.map(|(l, d)| LayerIds { blob: l.digest, diff_id: Some(*d) });
            return self.end(exact, ids.collect(), Vec::new());
        }
        let hygiene = self.read_published(&manifest, &diff_ids)?;
        self.documents(&manifest, config.as_ref());
        for (index, layer) in hygiene.iter().enumerate() {
            self.storage(index, layer, manifest.layers.get(index).map(|l| &l.digest))?;
        }
        let level = self.level(&manifest, config.as_ref(), &hygiene)?;
        let ids = hygiene.iter().map(|h| LayerIds { blob: h.blob, diff_id: Some(h.diff_id) });
        let ids = ids.collect();
        self.end(level, ids, hygiene)
    }

    fn end(
        mut self,
        level: Level,
        layers: Vec<LayerIds>,
        hygiene: Vec<LayerHygiene>,
    ) -> Result<Comparison, CompareError> {
        if self.events.total() == 0 {
            std::mem::take(&mut self.uncompared).into_iter().for_each(|e| self.events.push(e));
        }
        if !level.is_exact() && self.events.total() == 0 {
            let digest = |image: &dyn ImageBytes| Some(Digest::of(image.manifest()).to_string());
            let event = Event::new(Scope::Manifest, Kind::ManifestDigest);
            self.events.push(event.values(digest(self.published), digest(self.rebuilt)));
        }
        let published = ImageIds {
            manifest: Digest::of(self.published.manifest()),
            config: Digest::of(self.published.config()),
            layers,
        };
        let rebuilt = self.ours.ids(self.rebuilt);
        let explanation = self.events.finish(
            level,
            (self.published, hygiene.len()),
            (self.rebuilt, rebuilt.layers.len()),
            &self.options.limits,
        )?;
        let searched = self.options.searched.clone();
        Ok(Comparison { level, published, rebuilt, hygiene, searched, explanation })
    }

    /// Reads every published layer to its end.
    fn read_published(
        &self,
        manifest: &Manifest,
        diff_ids: &[Digest],
    ) -> Result<Vec<LayerHygiene>, CompareError> {
        let budget = Budget::default();
        let (image, limits) = (self.published, &self.options.limits);
        let layers = manifest.layers.par_iter().enumerate();
        let results: Vec<_> = layers
            .map(|(index, layer)| {
                hygiene::inspect(image, index, layer, diff_ids.get(index), &budget, limits)
            })
            .collect();
        // In order, so that the same error comes first whatever the threads did.
        results.into_iter().collect()
    }

    fn documents(&mut self, manifest: &Manifest, config: Option<&Config>) {
        let (published, rebuilt) = (self.published, self.rebuilt);
        documents::manifests(
            (published.manifest(), manifest),
            (rebuilt.manifest(), &self.ours.manifest),
            &mut self.events,
        );
        let stated = manifest.config.size;
        let found = published.config().len() as u64;
        if stated != found {
            let event = Event::new(Scope::Manifest, Kind::ManifestDescriptor).at("/config/size");
            let value = |size: u64| Some(size.to_string());
            self.events.push(event.values(value(stated), value(found)));
        }
        if let Some(config) = config
            && published.config() != rebuilt.config()
        {
            documents::configs(
                (published.config(), config),
                (rebuilt.config(), &self.ours.config),
                &mut self.events,
            );
        }
    }

    /// Adds what is to be said of how a published layer is stored.
    fn storage(
        &mut self,
        index: usize,
        layer: &LayerHygiene,
        blob: Option<&Digest>,
    ) -> Result<(), CompareError> {
        for unclean in &layer.why {
            let kind = match unclean.code {
                UncleanCode::SeveralMembers | UncleanCode::TrailingBytes
                    if layer.compression == Compression::Gzip =>
                {
                    Kind::LayerGzipTrailing
                }
                UncleanCode::SeveralMembers
                | UncleanCode::TrailingBytes
                | UncleanCode::SkippableFrame
                | UncleanCode::Dictionary => Kind::LayerZstdFrame,
                UncleanCode::ExtraField
                | UncleanCode::FileName
                | UncleanCode::Comment
                | UncleanCode::HeaderChecksum
                | UncleanCode::ReservedFlags => Kind::LayerGzipHeader,
                UncleanCode::WrongMediaType => Kind::ManifestMediaType,
                UncleanCode::WrongBlobSize => Kind::ManifestDescriptor,
                _ => Kind::LayerBroken,
            };
            let mut event = Event::new(Scope::Layer, kind).in_layer(index);
            let detail = "the blob does not hold its tar alone";
            event.causes.push(Cause::certain(CauseCode::EncodingUnclean, detail));
            self.events.push(event.values(Some(super::event::shown(&unclean.to_string())), None));
        }
        let Some(ours) = self.ours.manifest.layers.get(index).cloned() else { return Ok(()) };
        let same_tar = self.ours.config.diff_ids.get(index) == Some(&layer.diff_id);
        if !layer.clean || !same_tar || blob == Some(&ours.digest) {
            return Ok(());
        }
        let written = |compression: Compression, header: Option<_>, size: u64| {
            let header = header.map(|h: super::GzipHeader| {
                let (flags, mtime, xfl, os) = (h.flags, h.mtime, h.extra_flags, h.os);
                format!(" flags={flags} mtime={mtime} xfl={xfl} os={os}")
            });
            let header = header.unwrap_or_default();
            Some(format!("{}{header}, {size} bytes", compression.as_str()))
        };
        let a = written(layer.compression, layer.gzip, layer.blob_size);
        let b = match ours.compression() {
            // Not compressed, so there is nothing to compare with.
            None | Some(Compression::None) => None,
            Some(compression) => written(compression, self.our_header(index)?, ours.size),
        };
        let algorithm = b.is_some() && ours.compression() != Some(layer.compression);
        let kind =
            if algorithm { Kind::LayerCompressionAlgo } else { Kind::LayerGzipLevelOrEngine };
        let compared = b.is_some();
        let mut event = Event::new(Scope::Layer, kind).in_layer(index).values(a, b);
        let detail = "the same tar, compressed by another engine or at another level";
        event.causes.push(Cause::certain(CauseCode::EncodingRecompression, detail));
        if compared {
            self.events.push(event);
        } else {
            self.uncompared.push(event);
        }
        Ok(())
    }

    fn our_header(&self, index: usize) -> Result<Option<super::GzipHeader>, CompareError> {
        if self.rebuilt.layer_form() == LayerForm::Tar {
            return Ok(None);
        }
        let name = tree::name(Side::Rebuilt, index);
        let source = self.rebuilt.layer(index).map_err(|e| name.read_error(e))?;
        let budget = Budget::default();
        let form = LayerForm::Blob;
        let mut stream = LayerStream::open(&name, source, form, &budget, &self.options.limits)?;
        stream.pull(&mut [0; 1])?;
        Ok(stream.header())
    }

    fn level(
        &mut self,
        manifest: &Manifest,
        config: Option<&Config>,
        hygiene: &[LayerHygiene],
    ) -> Result<Level, CompareError> {
        let clean = hygiene.iter().all(|layer| layer.clean);
        let ours = &self.ours;
        let config_equal = self.published.config() == self.rebuilt.config()
            && manifest.layers.len() == ours.config.diff_ids.len();
        if config_equal && clean && manifest.differs_only_in_compression(&ours.manifest) {
            return Ok(Level::Config);
        }
        let runs_alike = config.is_some_and(|config| {
            config.diff_ids.len() == manifest.layers.len()
                && config.runs_alike(&ours.config)
                && manifest.config.size == self.published.config().len() as u64
        });
        let possible = clean && runs_alike && manifest.runs_what_it_lists();
        let same = self.trees(hygiene, possible)?;
        Ok(if possible && same { Level::Rootfs } else { Level::None })
    }

    /// Compares trees and adds what differs. True when they are the same; where `decide` is
    /// false, nobody asks, and only layers that differ are read.
    fn trees(&mut self, hygiene: &[LayerHygiene], decide: bool) -> Result<bool, CompareError> {
        let diff_ids = self.ours.config.diff_ids.clone();
        let same_count = hygiene.len() == diff_ids.len();
        let differing: Vec<usize> = (0..hygiene.len())
            .filter(|i| hygiene.get(*i).map(|h| h.diff_id) != diff_ids.get(*i).copied())
            .collect();
        if same_count && differing.is_empty() {
            return Ok(true);
        }
        if same_count && !decide {
            let (memory_a, memory_b) = (Memory::default(), Memory::default());
            for index in differing {
                let a = self.read_tree(Side::Published, index, &memory_a, hygiene)?;
                let b = self.read_tree(Side::Rebuilt, index, &memory_b, hygiene)?;
                entries::layers(&a, &b, index, &mut self.events);
                let (a, b) = (std::slice::from_ref(&a), std::slice::from_ref(&b));
                entries::merging(&MergedTree::of(a), &MergedTree::of(b), false, &mut self.events);
            }
            return Ok(false);
        }
        let all_a = self.read_trees(Side::Published, hygiene.len(), hygiene)?;
        let all_b = self.read_trees(Side::Rebuilt, diff_ids.len(), hygiene)?;
        let (a, b) = (MergedTree::of(&all_a), MergedTree::of(&all_b));
        entries::merging(&a, &b, true, &mut self.events);
        if same_count {
            for index in differing {
                if let (Some(a), Some(b)) = (all_a.get(index), all_b.get(index)) {
                    entries::layers(a, b, index, &mut self.events);
                }
            }
        } else {
            entries::merged((&all_a, &a), (&all_b, &b), &mut self.events);
            let count = |n: usize| Some(format!("{n} layers"));
            let mut event = Event::new(Scope::Layer, Kind::LayerSplit);
            event.causes.push(Cause::certain(CauseCode::EncodingLayerSplit, "other layers"));
            self.events.push(event.values(count(all_a.len()), count(all_b.len())));
        }
        Ok(decide && tree::same_tree((&all_a, &a), (&all_b, &b)))
    }

    fn read_trees(
        &self,
        side: Side,
        count: usize,
        hygiene: &[LayerHygiene],
    ) -> Result<Vec<LayerTree>, CompareError> {
        let memory = Memory::default();
        (0..count).map(|index| self.read_tree(side, index, &memory, hygiene)).collect()
    }

    /// Reads one layer's tree, and makes sure that it is the layer that was judged.
    fn read_tree(
        &self,
        side: Side,
        index: usize,
        memory: &Memory,
        hygiene: &[LayerHygiene],
    ) -> Result<LayerTree, CompareError> {
        let image = match side {
            Side::Published => self.published,
            Side::Rebuilt => self.rebuilt,
        };
        let (name, budget) = (tree::name(side, index), Budget::default());
        let tree = tree::read_layer(image, name, &budget, memory, &self.options.limits)?;
        let expected = match side {
            Side::Published => hygiene.get(index).map(|h| h.diff_id),
            Side::Rebuilt => self.ours.config.diff_ids.get(index).copied(),
        };
        if expected == Some(tree.facts.diff_id) {
            return Ok(tree);
        }
        let expected = expected.map_or("no layer".to_owned(), |d| d.to_string());
        let found = tree.facts.diff_id.to_string();
        Err(CompareError::WrongBytes { side, what: format!("layer {index}"), expected, found })
    }
}
