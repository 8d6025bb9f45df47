//! apko's two statements: the image configuration and the provenance of the Terraform provider.
//!
//! ```text
//! https://apko.dev/image-configuration  {"archs":["amd64"],"contents":{"packages":["a=1-r0",…]…}…}
//! https://slsa.dev/provenance/v1        buildType https://apko.dev/slsa-build-type@v1,
//!   internalParameters {"a":"1-r0",…}, builder.version {"apko":"1.2.39",…}
//! ```
//! Invariant: the configuration is kept as it was stated, field by field; here it is only asked
//! whether it is one platform's own, and whether it has a canonical form. Its fields are judged by
//! the code that builds. In the provenance, what would change the build and is not known is a gap.

use super::content::{mentions, shown, uncanonical};
use crate::{Digest, Gap, GapCode, Platform, canonical, provenance::Provenance};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Predicate type of the configuration.
pub const APKO_CONFIGURATION: &str = "https://apko.dev/image-configuration";
/// Build type of the provenance.
pub const APKO_BUILD_TYPE: &str = "https://apko.dev/slsa-build-type@v1";
/// Largest configuration, in canonical bytes. The largest public one has 143 packages and 30 KB.
pub const CONFIGURATION_BYTES_MAX: usize = 1024 * 1024;
/// Longest builder version: `1.2.39+1`, or a Go pseudo-version of about 40 bytes.
const VERSION_BYTES_MAX: usize = 128;

/// The images that a recipe must not contain: its own platform manifest and index.
pub(super) struct Own<'a> {
    pub(super) subject: &'a Digest,
    pub(super) index: Option<&'a Digest>,
}

impl Own<'_> {
    fn all(&self) -> impl Iterator<Item = &Digest> {
        std::iter::once(self.subject).chain(self.index)
    }
}

/// What a provenance says that matters for the build.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ApkoProvenance {
    pub(super) version: Option<String>,
    pub(super) packages: BTreeMap<String, String>,
    pub(super) builder_id: String,
}

/// The canonical bytes of a configuration that is this platform's own.
pub(super) fn configuration(
    config: &Value,
    platform: &Platform,
    own: &Own<'_>,
) -> Result<Vec<u8>, Gap> {
    if let Some((place, what)) = uncanonical(config, "") {
        let detail = format!("the configuration's {place} is {what}");
        return Err(Gap::new(GapCode::UnsupportedField, detail));
    }
    let bytes = canonical::to_vec(config)
        .map_err(|error| Gap::new(GapCode::UnsupportedField, shown(&error.to_string())))?;
    if bytes.len() > CONFIGURATION_BYTES_MAX {
        let found = bytes.len();
        let detail = format!(
            "expected a configuration of at most {CONFIGURATION_BYTES_MAX} bytes, found {found}"
        );
        return Err(Gap::new(GapCode::Limit, detail));
    }
    for digest in own.all() {
        if mentions(config, &digest.hex()) {
            let detail = format!("the configuration names {digest}, which it is to build");
            return Err(Gap::new(GapCode::SelfReference, detail));
        }
    }
    for_platform(config, platform)?;
    Ok(bytes)
}

/// A platform's locked configuration lists exactly its architecture; the index's lists all.
fn for_platform(config: &Value, platform: &Platform) -> Result<(), Gap> {
    let wanted = platform.architecture_with_variant();
    let gap = |found: String| {
        let detail = format!("expected a configuration for {platform} alone, found {found}");
        Err(Gap::new(GapCode::Platform, detail))
    };
    if platform.os != "linux" {
        return gap("one of apko, which builds for linux".to_owned());
    }
    let Some(archs) = config.get("archs").and_then(Value::as_array) else {
        return gap("one without archs".to_owned());
    };
    let named: Vec<&str> = archs.iter().filter_map(Value::as_str).collect();
    match named.as_slice() {
        [one] if archs.len() == 1 && architecture(one, &wanted) => Ok(()),
        _ => {
            let found: Vec<String> = named.iter().take(10).map(|arch| shown(arch)).collect();
            gap(format!("archs [{}]", found.join(", ")))
        }
    }
}

/// True when apko's name of an architecture means the one of an OCI platform.
fn architecture(apko: &str, oci: &str) -> bool {
    let normal = match apko {
        "x86" => "386",
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "armhf" => "arm/v6",
        "armv7" => "arm/v7",
        "loongarch64" => "loong64",
        other => other,
    };
    // v8 is the only variant of arm64; some indexes write it, some do not.
    normal == oci || (normal == "arm64" && oci == "arm64/v8")
}

/// What a provenance of apko's build type says, or why it cannot be used.
pub(super) fn provenance(read: &Provenance, own: &Own<'_>) -> Result<ApkoProvenance, Gap> {
    for material in &read.materials {
        let digest = material.digest.get("sha256").map(String::as_str).unwrap_or_default();
        let own = own.all().find(|own| own.hex() == digest || material.uri.contains(&own.hex()));
        if let Some(own) = own {
            let detail = format!("the provenance lists {own}, which it is to build, as a material");
            return Err(Gap::new(GapCode::SelfReference, detail));
        }
    }
    if let Some(other) = names_another(read, own) {
        let detail = format!("expected a provenance of this image's build, found one of {other}");
        return Err(Gap::new(GapCode::BuilderVersion, detail));
    }
    let unknown = |place: &str| {
        let detail = format!("the provenance's {place} is not known here");
        Err(Gap::new(GapCode::UnsupportedField, detail))
    };
    match &read.external_parameters {
        Value::Null => {}
        Value::Object(map) => {
            if let Some(key) = map.keys().next() {
                return unknown(&format!("externalParameters.{}", shown(key)));
            }
        }
        _ => return unknown("externalParameters"),
    }
    let mut packages = BTreeMap::new();
    match &read.internal_parameters {
        Value::Null => {}
        Value::Object(map) => {
            for (name, version) in map {
                let Some(version) = version.as_str().filter(|_| name.is_ascii()) else {
                    return unknown(&format!("internalParameters.{}", shown(name)));
                };
                packages.insert(name.clone(), version.to_owned());
            }
        }
        _ => return unknown("internalParameters"),
    }
    let version = builder_version(read)?;
    Ok(ApkoProvenance { version, packages, builder_id: read.builder_id.clone() })
}

fn builder_version(read: &Provenance) -> Result<Option<String>, Gap> {
    match read.builder_version.get("apko") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text))
            if text.len() <= VERSION_BYTES_MAX && text.bytes().all(|b| b.is_ascii_graphic()) =>
        {
            Ok(Some(text.clone()))
        }
        Some(other) => {
            let detail = format!("expected a version of apko, found {}", shown(&other.to_string()));
            Err(Gap::new(GapCode::BuilderVersion, detail))
        }
    }
}

/// The digest in the invocation's identity, if it is neither the subject's nor its index's.
fn names_another(read: &Provenance, own: &Own<'_>) -> Option<Digest> {
    let (_, rest) = read.invocation_id.as_deref()?.split_once("sha256:")?;
    let digest = Digest::from_hex(rest.get(..64)?).ok()?;
    (!own.all().any(|own| *own == digest)).then_some(digest)
}

/// How the packages of a configuration and of a provenance contradict each other. A configuration
/// has `name=version` (with `@pin`), where it is locked, or a bare name.
pub(super) fn package_contradictions(
    config: &Value,
    packages: &BTreeMap<String, String>,
) -> Vec<String> {
    let listed = config.pointer("/contents/packages").and_then(Value::as_array);
    let listed = listed.into_iter().flatten().filter_map(Value::as_str);
    let mut pinned: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut bare = BTreeSet::new();
    for entry in listed {
        let name_end = entry.find(['=', '<', '>', '~', '@']).unwrap_or(entry.len());
        let (name, rest) = entry.split_at(name_end);
        match rest.strip_prefix('=').map(|rest| rest.split('@').next().unwrap_or(rest)) {
            Some(version) => {
                pinned.entry(name).or_default().insert(version);
            }
            None => {
                bare.insert(name);
            }
        }
    }
    let mut found = Vec::new();
    for (name, versions) in &pinned {
        for version in versions {
            match packages.get(*name) {
                Some(other) if other == version => {}
                Some(other) => found.push(format!(
                    "the configuration has {} {}, the provenance {}",
                    shown(name),
                    shown(version),
                    shown(other)
                )),
                None => {
                    found.push(format!("the provenance lacks {} {}", shown(name), shown(version)))
                }
            }
        }
    }
    for name in bare.iter().filter(|name| !packages.contains_key(**name)) {
        found.push(format!("the provenance lacks {}", shown(name)));
    }
    // A configuration that is not locked leaves it to the builder what else comes with it.
    let locked = bare.iter().all(|name| pinned.contains_key(name));
    if locked {
        for name in packages.keys().filter(|name| !pinned.contains_key(name.as_str())) {
            found.push(format!("the configuration lacks {}", shown(name)));
        }
    }
    found
}
