//! What each fuzz target does with its bytes, and the seeds it starts from.
//!
//! Invariant: a target never fails for bytes that are merely wrong; it fails (by a panic) when a
//! parser panics, when what a writer wrote is not read back, or when two readers that both accept
//! something understand it differently. It must never write a file or depend on anything but its
//! bytes. cargo-fuzz is one caller (fuzz/), the replay in the ordinary tests is the other.

mod archive;
mod build;
mod configuration;
mod evidence;
mod image;
#[cfg(feature = "network")]
mod journal;
mod key;
mod package;
#[cfg(feature = "network")]
mod registry;
pub mod seeds;

/// One target.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, also of its corpus.
    pub name: &'static str,
    /// What it does with bytes.
    pub run: fn(&[u8]),
}

macro_rules! targets {
    ($($(#[$attribute:meta])* $name:ident = $run:path;)+) => {
        /// Every target.
        pub const ALL: &[Target] =
            &[$($(#[$attribute])* Target { name: stringify!($name), run: $run },)+];
    };
}

targets! {
    apk_data = archive::apk_data;
    apk_index = package::apk_index;
    apk_package = archive::apk_package;
    apk_tar = archive::apk_tar;
    bundle = evidence::bundle;
    compare_tar = archive::compare_tar;
    config_json = configuration::json;
    config_yaml = configuration::yaml;
    dsse = evidence::dsse;
    elf = image::elf;
    evidence_set = evidence::evidence_set;
    explanation = evidence::explanation;
    go_gzip = archive::go_gzip;
    gzip = archive::gzip;
    image_files = image::image_files;
    installed = package::installed;
    #[cfg(feature = "network")]
    journal = journal::journal;
    jwks = key::jwks;
    keys = key::keys;
    ld_so_conf = image::ld_so_conf;
    lockfile = configuration::lockfile;
    #[cfg(feature = "network")]
    manifest = registry::manifest;
    pax = archive::pax;
    pkginfo = package::pkginfo;
    policy = evidence::policy;
    provenance = evidence::provenance;
    records = evidence::records;
    #[cfg(feature = "network")]
    reference = registry::reference;
    resolver = package::resolver;
    statement = evidence::statement;
    trust_stores = image::trust_stores;
    zstandard = archive::zstandard;
}

/// Runs the target of this name.
pub fn run(name: &str, bytes: &[u8]) {
    match ALL.iter().find(|target| target.name == name) {
        Some(target) => (target.run)(bytes),
        None => panic!("expected the name of a fuzz target, found {name:?}"),
    }
}
