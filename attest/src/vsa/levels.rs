//! What a level may be called in public (design: architecture, "The ladder of equality").
//!
//! Invariant: `SLSA_BUILD_REPRODUCED` only for exact levels, at least two operators and at least
//! as many as the policy asks for, none of them affiliated with the publisher; no other name
//! starts with `SLSA_`. On an index it is never said: its own bytes were not rebuilt.

use crate::{Level, verdict::Reproduced};
use std::collections::BTreeSet;

/// SLSA v1.2, "Verified properties": reproduced by two or more independent builders.
pub const SLSA_BUILD_REPRODUCED: &str = "SLSA_BUILD_REPRODUCED";
/// On an index: every image in it was reproduced.
pub const ALL_PLATFORMS_REPRODUCED: &str = "ASSAY_ALL_PLATFORMS_REPRODUCED";
/// Stands for [`SLSA_BUILD_REPRODUCED`] where no `SLSA_` name may.
const REPRODUCED: &str = "ASSAY_REPRODUCED";
const CONFIG_REPRODUCED: &str = "ASSAY_CONFIG_REPRODUCED";
/// Independent operators that SLSA asks for.
const INDEPENDENT_MIN: u32 = 2;

fn shout(word: &str) -> String {
    word.to_ascii_uppercase().replace(['-', '.'], "_")
}

fn level_name(level: Level) -> String {
    format!("ASSAY_LEVEL_{}", shout(level.as_str()))
}

fn hints(reproduced: &Reproduced<'_>) -> BTreeSet<String> {
    let names = |hint: &crate::observation::Hint| {
        let name = format!("ASSAY_HINT_{}", shout(&hint.name));
        let conflicts = (!hint.decided.is_empty()).then(|| format!("{name}_CONFLICTS"));
        std::iter::once(name).chain(conflicts)
    };
    reproduced.finding().hints.iter().flat_map(names).collect()
}

fn k_of_n(reproduced: &Reproduced<'_>) -> String {
    let finding = reproduced.finding();
    format!("ASSAY_REPRODUCED_{}_OF_{}", finding.k, finding.n)
}

/// The names for one image, the weightiest first.
pub(super) fn of_image(reproduced: &Reproduced<'_>) -> Vec<String> {
    let finding = reproduced.finding();
    let level = reproduced.level();
    let independent = finding.independent >= INDEPENDENT_MIN.max(finding.required);
    let mut names = Vec::new();
    if level.is_exact() && independent {
        names.push(SLSA_BUILD_REPRODUCED.to_owned());
    }
    if level == Level::Config {
        names.push(CONFIG_REPRODUCED.to_owned());
    }
    names.push(level_name(level));
    names.push(k_of_n(reproduced));
    names.extend(hints(reproduced));
    names
}

/// The names for an index: what holds for the weakest of its images.
pub(super) fn of_index(images: &[Reproduced<'_>]) -> Vec<String> {
    let mut names = vec![ALL_PLATFORMS_REPRODUCED.to_owned()];
    names.extend(images.iter().map(Reproduced::level).min().map(level_name));
    let weakest = images.iter().min_by_key(|image| {
        let finding = image.finding();
        (finding.k, std::cmp::Reverse(finding.n))
    });
    names.extend(weakest.map(k_of_n));
    names.extend(images.iter().flat_map(hints).collect::<BTreeSet<_>>());
    names
}

/// The same names without any that starts with `SLSA_`.
pub(super) fn without_slsa(names: &[String]) -> Vec<String> {
    let rename = |name: &String| match name.as_str() {
        SLSA_BUILD_REPRODUCED => REPRODUCED.to_owned(),
        _ => name.clone(),
    };
    names.iter().map(rename).collect()
}
