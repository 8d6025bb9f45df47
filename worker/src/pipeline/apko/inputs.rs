//! From a recipe to what a build reads: the typed configuration, keys, packages.
//!
//! Invariant: everything was proven before it is handed on, and the packages are exactly the locked
//! ones. The published image is never asked.

use crate::material::{Gathered, Keys, MaterialError, Origins, PackageRequest, packages::Shelf};
use crate::pipeline::{Workshop, attempt::Answer, published::Fetched};
use attest::{Gap, GapCode, Platform, recipe::Recipe};
use rebuild::apko::{ImageConfiguration, config::PinnedRepository};
use std::{collections::BTreeSet, sync::Arc, time::SystemTime};

/// The typed configuration, or every field that stands in the way.
pub(super) fn configuration(recipe: &Recipe) -> Result<ImageConfiguration, Answer> {
    let json = recipe.config.to_string();
    ImageConfiguration::from_attested_json(json.as_bytes()).map_err(|error| {
        let gaps = error.gaps().to_vec();
        if gaps.is_empty() {
            let gap = Gap::new(GapCode::UnsupportedField, error.to_string());
            Answer::RecipeInvalid(vec![gap])
        } else {
            Answer::RecipeInvalid(gaps)
        }
    })
}

pub(super) async fn gather(
    workshop: &Workshop,
    published: &Fetched,
    config: &ImageConfiguration,
    platform: &Platform,
) -> Result<(Keys, Gathered), MaterialError> {
    let written = config.repositories_for_build();
    let split = split(&written)?;
    let repositories: BTreeSet<&str> = split.iter().map(|repository| repository.address).collect();
    let repositories: Vec<String> = repositories.into_iter().map(str::to_owned).collect();
    let mut keys = Keys::discover(&workshop.policy, &workshop.places, &repositories).await?;
    let arch = platform.architecture_with_variant();
    if let Some(list) = &workshop.alpine_releases {
        let (policy, places) = (&workshop.policy, &workshop.places);
        keys.add_listed(policy, places, list, &repositories, &arch).await?;
    }
    let keyring = &config.contents.keyring;
    keys.add_keyring(&workshop.policy, &workshop.places, keyring).await?;
    let (policy, store) = (workshop.policy.clone(), Arc::clone(&workshop.store));
    let (of, list) = (repositories.clone(), workshop.alpine_releases.clone());
    let archived = tokio::task::spawn_blocking(move || {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        keys.archive(&store, now.map_or(0, |since| since.as_secs()))?;
        keys.add_archived(&policy, &store, &of, list.as_deref())?;
        Ok::<_, MaterialError>(keys)
    });
    let keys = archived.await.map_err(|error| MaterialError::Unavailable {
        uri: "the content store".to_owned(),
        problem: error.to_string(),
    })??;
    let wanted = locked_packages(config)?;
    let shelf = Shelf {
        places: &workshop.places,
        store: &workshop.store,
        keys: &keys,
        spool: published.folder.path(),
        escrow_local: true,
        origins: Origins::Network,
    };
    let mut gathered = shelf.gather(&split, &arch, &wanted).await?;
    gathered.materials.extend(keys.lists.iter().map(|(material, _)| material.clone()));
    Ok((keys, gathered))
}

/// The repositories of a recipe, which others must be able to read.
fn split(written: &[String]) -> Result<Vec<PinnedRepository<'_>>, MaterialError> {
    let one = |text| {
        PinnedRepository::parse(text).filter(PinnedRepository::is_remote).ok_or_else(|| {
            let detail = format!("repository {text:?} is on the builder's machine, or no address");
            MaterialError::Gap(Gap::new(GapCode::LocalContext, detail))
        })
    };
    written.iter().map(|text| one(text.as_str())).collect()
}

/// `name=version` of every package. A bare name repeats a locked one (`s6` of a service bundle).
fn locked_packages(config: &ImageConfiguration) -> Result<Vec<PackageRequest>, MaterialError> {
    let mut locked: Vec<PackageRequest> = Vec::new();
    let mut bare = Vec::new();
    for entry in &config.contents.packages {
        let unpinned = entry.split('@').next().unwrap_or(entry);
        match unpinned.split_once('=') {
            Some((name, version)) if !name.ends_with(['<', '>', '~']) => {
                locked.push(PackageRequest { name: name.to_owned(), version: version.to_owned() });
            }
            _ => bare.push(unpinned),
        }
    }
    match bare.iter().find(|name| !locked.iter().any(|l| l.name == **name)) {
        Some(name) => {
            let detail = format!("package {name:?} has no version");
            Err(MaterialError::Gap(Gap::new(GapCode::UnpinnedMaterial, detail)))
        }
        None => {
            locked.sort();
            locked.dedup();
            Ok(locked)
        }
    }
}
