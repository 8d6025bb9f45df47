//! `--name value` pairs.

use anyhow::{Context, Result};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    str::FromStr,
};

/// The arguments after the measurement's name.
pub struct Arguments(BTreeMap<String, String>);

impl Arguments {
    /// Reads pairs.
    pub fn read(words: &[String]) -> Result<Self> {
        let mut found = BTreeMap::new();
        for pair in words.chunks(2) {
            let name = pair[0].strip_prefix("--").context("expected --name value")?;
            let value = pair.get(1).with_context(|| format!("expected a value of --{name}"))?;
            found.insert(name.to_owned(), value.clone());
        }
        Ok(Self(found))
    }

    /// A value, or the default.
    pub fn get<T: FromStr>(&self, name: &str, default: T) -> Result<T> {
        match self.0.get(name) {
            None => Ok(default),
            Some(text) => {
                let read = text.parse().ok();
                read.with_context(|| format!("expected another --{name}, found {text:?}"))
            }
        }
    }

    /// The folder in which data lies: on a disk, not in memory.
    pub fn folder(&self) -> Result<PathBuf> {
        let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/load");
        let folder = self.get("folder", default)?;
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }
}
