//! The alterations of the published cases, applied to any layer of any image, and what each must
//! come to.
//!
//! Invariant: the altered image is consistent in itself: blob, diffID, configuration and manifest
//! agree, as those of a publisher who altered it before signing would.

use super::build;
use attest::{Digest, Level};
use flate2::{Compression, write::GzEncoder};
use rebuild::{
    apk::tar::{Reader, TarLimits},
    compare::{Class, LayerForm, MemoryImage},
    go::{
        gzip::{Variant, pgzip},
        tar::{Header, Kind, Writer},
    },
};
use std::io::Write;

/// An assembled image: documents, and each layer packed and unpacked.
#[derive(Clone)]
pub struct Image {
    pub manifest: Vec<u8>,
    pub config: Vec<u8>,
    pub blobs: Vec<Vec<u8>>,
    pub tars: Vec<Vec<u8>>,
}

impl Image {
    /// For comparing.
    pub fn bytes(&self) -> MemoryImage {
        MemoryImage {
            manifest: self.manifest.clone(),
            config: self.config.clone(),
            layers: self.blobs.clone(),
            form: LayerForm::Blob,
        }
    }

    fn replace_config(&mut self, config: Vec<u8>) {
        replace(&mut self.manifest, &self.config, &config);
        self.config = config;
    }

    fn replace_blob(&mut self, layer: usize, blob: Vec<u8>) {
        replace(&mut self.manifest, &self.blobs[layer], &blob);
        self.blobs[layer] = blob;
    }

    fn replace_tar(&mut self, layer: usize, tar: Vec<u8>) {
        let (old, new) = (Digest::of(&self.tars[layer]), Digest::of(&tar));
        let config = String::from_utf8(self.config.clone()).unwrap();
        assert_ne!(old, new, "the alteration changes something");
        self.replace_config(config.replace(&old.to_string(), &new.to_string()).into_bytes());
        self.replace_blob(layer, pgzip(&tar, Variant::E3));
        self.tars[layer] = tar;
    }
}

/// Puts the descriptor of `new` where that of `old` is.
fn replace(manifest: &mut Vec<u8>, old: &[u8], new: &[u8]) {
    let descriptor =
        |bytes: &[u8]| format!("\"size\":{},\"digest\":\"{}\"", bytes.len(), Digest::of(bytes));
    let text = String::from_utf8(std::mem::take(manifest)).unwrap();
    assert!(text.contains(&descriptor(old)), "{text}");
    *manifest = text.replace(&descriptor(old), &descriptor(new)).into_bytes();
}

type Entries = Vec<(Header, Vec<u8>)>;

/// The entries of a layer.
pub fn entries(tar: &[u8]) -> Entries {
    let mut reader = Reader::new(tar, TarLimits::default());
    let mut entries = Entries::new();
    while let Some(header) = reader.next_entry().unwrap() {
        let content = reader.content(1 << 30).unwrap();
        entries.push((header, content));
    }
    entries
}

/// The layer of these entries.
pub fn written(entries: &Entries) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (header, content) in entries {
        writer.header(header).unwrap();
        writer.data(content).unwrap();
    }
    writer.finish().unwrap()
}

/// What an alteration must come to.
pub struct Expected {
    pub level: Level,
    pub kind: &'static str,
    /// One of the causes is of this class; none: any class fits.
    pub class: Option<Class>,
    /// None: the whole layer.
    pub path: Option<String>,
}

/// An alteration of one layer. None: the layer has nothing that it applies to.
pub type AlterLayer = fn(&mut Image, usize, &dyn Fn(&str) -> bool) -> Option<Expected>;

/// Every alteration of layers, by the name of its published case.
pub const LAYER: &[(&str, AlterLayer)] = &[
    ("tampered", tampered),
    ("setuid", setuid),
    ("owner", owner),
    ("mtime", mtime),
    ("planted-key", planted_key),
    ("undeclared-package", undeclared),
    ("gzip-name", gzip_name),
    ("gzip-trailing", gzip_trailing),
    ("gzip-two-members", gzip_two_members),
    ("recompressed", recompressed),
];

/// An alteration of an image's configuration.
pub type AlterConfig = fn(&mut Image) -> Expected;

/// Every alteration of configurations.
pub const CONFIG: &[(&str, AlterConfig)] =
    &[("env-added", env_added), ("runs-as-root", runs_as_root)];

fn none(kind: &'static str, class: Class, path: String) -> Option<Expected> {
    Some(Expected { level: Level::None, kind, class: Some(class), path: Some(path) })
}

/// Changes one entry that `only_here` names and `fits`; gives its path.
fn change(
    image: &mut Image,
    layer: usize,
    only_here: &dyn Fn(&str) -> bool,
    fits: impl Fn(&Header) -> bool,
    alter: impl FnOnce(&mut Header, &mut Vec<u8>),
) -> Option<String> {
    let mut entries = entries(&image.tars[layer]);
    assert_eq!(written(&entries), image.tars[layer], "reading and writing give the same layer");
    let name = |header: &Header| String::from_utf8(header.name.clone()).unwrap();
    let found = entries.iter_mut().find(|(header, _)| fits(header) && only_here(&name(header)))?;
    let path = name(&found.0);
    alter(&mut found.0, &mut found.1);
    image.replace_tar(layer, written(&entries));
    Some(path)
}

fn is_file(header: &Header) -> bool {
    header.kind == Kind::Regular && header.size > 0
}

fn tampered(image: &mut Image, layer: usize, only: &dyn Fn(&str) -> bool) -> Option<Expected> {
    let path = change(image, layer, only, is_file, |_, content| {
        let at = content.len() / 2;
        content[at] ^= 1;
    })?;
    // The package database says that it was altered; of the build's own files it says nothing.
    let own = path.starts_with("usr/share/p") || path.starts_with("usr/bin/tool");
    let (level, class) = (Level::None, own.then_some(Class::Security));
    Some(Expected { level, kind: "file.content", class, path: Some(path) })
}

fn setuid(image: &mut Image, layer: usize, only: &dyn Fn(&str) -> bool) -> Option<Expected> {
    let path = change(image, layer, only, is_file, |header, _| header.mode |= 0o4000)?;
    none("tar.mode", Class::Security, path)
}

fn owner(image: &mut Image, layer: usize, only: &dyn Fn(&str) -> bool) -> Option<Expected> {
    let path = change(image, layer, only, is_file, |header, _| header.uid = 4711)?;
    none("tar.uid", Class::Security, path)
}

fn mtime(image: &mut Image, layer: usize, only: &dyn Fn(&str) -> bool) -> Option<Expected> {
    let any = |header: &Header| matches!(header.kind, Kind::Directory | Kind::Regular);
    let path = change(image, layer, only, any, |header, _| header.mtime += 1)?;
    let (kind, class) = ("tar.mtime", Some(Class::Nondeterminism));
    Some(Expected { level: Level::Rootfs, kind, class, path: Some(path) })
}

/// Adds a file behind the last entry.
fn added(image: &mut Image, layer: usize, path: &str) {
    let mut entries = entries(&image.tars[layer]);
    let (mut header, content) = build::file(path, b"not in the recipe");
    header.pax.clear();
    entries.push((header, content));
    image.replace_tar(layer, written(&entries));
}

fn planted_key(image: &mut Image, layer: usize, _: &dyn Fn(&str) -> bool) -> Option<Expected> {
    let path = "etc/apk/keys/zzz-extra.rsa.pub";
    added(image, layer, path);
    none("file.added", Class::Trust, path.into())
}

fn undeclared(image: &mut Image, layer: usize, _: &dyn Fn(&str) -> bool) -> Option<Expected> {
    let path = "usr/share/undeclared";
    added(image, layer, path);
    none("file.added", Class::Inputs, path.into())
}

fn unclean(kind: &'static str) -> Option<Expected> {
    Some(Expected { level: Level::None, kind, class: Some(Class::Security), path: None })
}

fn gzip_name(image: &mut Image, layer: usize, _: &dyn Fn(&str) -> bool) -> Option<Expected> {
    let mut blob = image.blobs[layer].clone();
    blob[3] = 0x18;
    blob.splice(10..10, b"name\0comment\0".iter().copied());
    image.replace_blob(layer, blob);
    unclean("layer.gzip_header")
}

fn gzip_trailing(image: &mut Image, layer: usize, _: &dyn Fn(&str) -> bool) -> Option<Expected> {
    let blob = [&image.blobs[layer][..], b"behind the end"].concat();
    image.replace_blob(layer, blob);
    unclean("layer.gzip_trailing")
}

fn gzip_two_members(image: &mut Image, layer: usize, _: &dyn Fn(&str) -> bool) -> Option<Expected> {
    let (one, two) = image.tars[layer].split_at(image.tars[layer].len() / 2);
    let blob = [pgzip(one, Variant::E3), pgzip(two, Variant::E3)].concat();
    image.replace_blob(layer, blob);
    unclean("layer.gzip_trailing")
}

fn recompressed(image: &mut Image, layer: usize, _: &dyn Fn(&str) -> bool) -> Option<Expected> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(6));
    encoder.write_all(&image.tars[layer]).unwrap();
    image.replace_blob(layer, encoder.finish().unwrap());
    let (kind, class) = ("layer.gzip_level_or_engine", Some(Class::Encoding));
    Some(Expected { level: Level::Config, kind, class, path: None })
}

fn config_text(image: &mut Image, old: &str, new: &str) {
    let text = String::from_utf8(image.config.clone()).unwrap();
    assert_eq!(text.matches(old).count(), 1, "{old} in {text}");
    image.replace_config(text.replace(old, new).into_bytes());
}

fn env_added(image: &mut Image) -> Expected {
    config_text(image, "\"Env\":[", "\"Env\":[\"LD_PRELOAD=/usr/lib/x.so\",");
    none("config.env", Class::Security, "/config/Env/LD_PRELOAD".into()).unwrap()
}

fn runs_as_root(image: &mut Image) -> Expected {
    config_text(image, ",\"User\":\"65532\"", "");
    none("config.user", Class::Security, "/config/User".into()).unwrap()
}
