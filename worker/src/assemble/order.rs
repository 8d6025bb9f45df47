//! An order of installation that is given: by a file of names, or by an image's own database.
//!
//! Invariant: it can only permute the packages that were resolved; one that names others, or leaves
//! some out, is refused with their names.

use super::{AssembleFailure, AssembleTools, recipe::read_file, resolve::ChosenFile};
use crate::pipeline::{clues::Clues, network, published::PublishedImage};
use oci::{Image, ImageReference, ImageSource, SourceOptions};
use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

/// Largest file of names: 20,000 names of 50 bytes.
const ORDER_BYTES_MAX: usize = 1 << 20;

/// Names in the order of installation.
pub enum GivenOrder {
    /// The same for every architecture.
    File(Vec<String>),
    /// By architecture in OCI's words.
    Image(BTreeMap<String, Vec<String>>),
}

impl GivenOrder {
    /// Reads a file of names, one a line, or an image.
    pub async fn read(text: &str, tools: &AssembleTools) -> Result<Self, AssembleFailure> {
        let path = Path::new(text);
        if path.is_file() {
            let bytes = read_file(path, ORDER_BYTES_MAX)?;
            let text = String::from_utf8_lossy(&bytes);
            // `name=version` is welcome too: it is what results and locks have.
            let names = text.lines().map(|line| line.split('=').next().unwrap_or_default().trim());
            let names = names.filter(|name| !name.is_empty() && !name.starts_with('#'));
            return Ok(Self::File(names.map(str::to_owned).collect()));
        }
        let reference: ImageReference = text.parse().map_err(|error| {
            AssembleFailure::Usage(format!(
                "--order-from: expected a file of names or an image, found {text:?}: {error}"
            ))
        })?;
        let options = SourceOptions { network: network(&tools.policy), ..SourceOptions::default() };
        let source = ImageSource::open(&reference, &options)?;
        let image = Image::read(&source, &reference).await?;
        let mut orders = BTreeMap::new();
        for entry in &image.entries {
            let folder = tempfile::tempdir_in(&tools.work).map_err(|source| {
                AssembleFailure::Io { doing: "making a folder for the image".into(), source }
            })?;
            let subject = image.subject(entry);
            let fetched = PublishedImage::fetch(&source, &subject, folder.path()).await?;
            let clues = Clues::read(&fetched, fetched.layer_descriptors().len());
            if let Some(installed) = clues.installed {
                let names = installed.into_iter().map(|(name, _)| name).collect();
                orders.insert(entry.platform.architecture_with_variant(), names);
            }
        }
        Ok(Self::Image(orders))
    }

    /// The resolved packages in this order.
    pub(super) fn permute(
        &self,
        architecture: &str,
        files: Vec<ChosenFile>,
    ) -> Result<Vec<ChosenFile>, AssembleFailure> {
        let names = match self {
            Self::File(names) => names,
            Self::Image(orders) => orders.get(architecture).ok_or_else(|| {
                AssembleFailure::Usage(format!(
                    "--order-from: expected an image with an installed database for {architecture}"
                ))
            })?,
        };
        let mut by_name: HashMap<String, ChosenFile> =
            files.into_iter().map(|file| (file.name.clone(), file)).collect();
        let mut ordered = Vec::with_capacity(names.len());
        let mut foreign = Vec::new();
        for name in names {
            match by_name.remove(name) {
                Some(file) => ordered.push(file),
                None => foreign.push(name.as_str()),
            }
        }
        if foreign.is_empty() && by_name.is_empty() {
            return Ok(ordered);
        }
        let mut missing: Vec<String> = by_name.into_keys().collect();
        missing.sort();
        Err(AssembleFailure::Usage(format!(
            "--order-from: expected each package of linux/{architecture} once; it lacks [{}], and \
             names beside them [{}]",
            missing.join(", "),
            foreign.join(", ")
        )))
    }
}
