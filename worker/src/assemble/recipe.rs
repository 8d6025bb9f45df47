//! The configuration that a person names: apko's YAML, the attested JSON, or a lockfile that names
//! its configuration.
//!
//! Invariant: what is read is bounded; a lockfile goes only with the configuration whose checksum
//! it states. Relative paths are relative to the working folder.

use super::{AssembleFailure, AssembleRequest};
use attest::Digest;
use rebuild::apko::{
    ImageConfiguration,
    config::{CONFIG_BYTES_MAX, Lockfile, architecture},
};
use std::{
    cell::RefCell,
    collections::BTreeSet,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

/// Largest lockfile: 9 architectures with 1,000 packages of 700 bytes are 6 MB.
const LOCKFILE_BYTES_MAX: usize = CONFIG_BYTES_MAX;

/// What is to be built.
#[derive(Debug, Clone)]
pub struct RecipeFile {
    /// The configuration before locking, the annotations of the call in it.
    pub config: ImageConfiguration,
    /// Which packages in which order, if a lockfile says so.
    pub lockfile: Option<Lockfile>,
    /// SHA-256 of the lockfile, for the record.
    pub lockfile_digest: Option<Digest>,
}

impl RecipeFile {
    /// Reads what the call names.
    pub fn read(request: &AssembleRequest) -> Result<Self, AssembleFailure> {
        let named = read_file(&request.config, CONFIG_BYTES_MAX)?;
        let itself = is_lockfile(&named);
        let lock_path = match (&request.lockfile, itself) {
            (Some(_), true) => {
                let path = request.config.display();
                let message = format!("expected a configuration, found the lockfile {path}");
                return Err(AssembleFailure::Usage(message));
            }
            (None, true) => Some(&request.config),
            (other, false) => other.as_ref(),
        };
        let mut lockfile = None;
        let mut lockfile_digest = None;
        if let Some(path) = lock_path {
            let bytes = read_file(path, LOCKFILE_BYTES_MAX)?;
            lockfile_digest = Some(Digest::of(&bytes));
            lockfile = Some(Lockfile::from_json(&bytes)?);
        }
        let (bytes, path) = match &lockfile {
            Some(lockfile) if itself => locked_configuration(lockfile, &request.config)?,
            _ => (named, request.config.clone()),
        };
        let (mut config, read) = configuration(&bytes)?;
        if let Some(lockfile) = &lockfile {
            check_checksum(lockfile, &read, &path)?;
        }
        if !request.architectures.is_empty() {
            config.archs = request.architectures.clone();
            config.normalise();
        }
        let archs: BTreeSet<String> = config.archs.drain(..).collect();
        if let Some(unknown) =
            archs.iter().find(|name| !architecture::SUPPORTED.contains(&name.as_str()))
        {
            let known = architecture::SUPPORTED.join(", ");
            let message = format!("expected an architecture out of {known}, found {unknown:?}");
            return Err(AssembleFailure::Usage(message));
        }
        config.archs.extend(archs);
        config.annotations.extend(request.annotations.iter().cloned());
        Ok(Self { config, lockfile, lockfile_digest })
    }
}

/// True for a JSON object with a lockfile's two marks.
fn is_lockfile(bytes: &[u8]) -> bool {
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return false;
    }
    let value: Option<serde_json::Value> = serde_json::from_slice(bytes).ok();
    value.is_some_and(|value| value.get("version").is_some() && value.get("config").is_some())
}

/// The configuration and every byte that it was read from, in the order of reading.
fn configuration(bytes: &[u8]) -> Result<(ImageConfiguration, Vec<u8>), AssembleFailure> {
    if bytes.trim_ascii_start().first() == Some(&b'{') {
        let mut config = ImageConfiguration::from_attested_json(bytes)?;
        config.normalise();
        return Ok((config, bytes.to_vec()));
    }
    let read = RefCell::new(bytes.to_vec());
    let loader = |name: &str| {
        let included = read_file(Path::new(name), CONFIG_BYTES_MAX).map_err(|e| e.to_string())?;
        read.borrow_mut().extend_from_slice(&included);
        Ok(included)
    };
    let config = ImageConfiguration::from_yaml(bytes, &loader)?;
    Ok((config, read.into_inner()))
}

/// The configuration that a lockfile names: from the working folder, else beside the lockfile.
fn locked_configuration(
    lockfile: &Lockfile,
    path: &Path,
) -> Result<(Vec<u8>, PathBuf), AssembleFailure> {
    let name = PathBuf::from(&lockfile.config.name);
    if lockfile.config.name.is_empty() {
        let message = "expected the lockfile to name its configuration: give CONFIG --lockfile";
        return Err(AssembleFailure::Usage(message.to_owned()));
    }
    let beside = path.parent().map(|folder| folder.join(&name));
    let found = [Some(name.clone()), beside].into_iter().flatten().find(|path| path.is_file());
    let found = found.unwrap_or(name);
    Ok((read_file(&found, CONFIG_BYTES_MAX)?, found))
}

fn check_checksum(lockfile: &Lockfile, read: &[u8], path: &Path) -> Result<(), AssembleFailure> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let stated = &lockfile.config.checksum;
    let found = format!("sha256-{}", STANDARD.encode(Digest::of(read).raw()));
    if stated.is_empty() || *stated == found {
        return Ok(());
    }
    let path = path.display();
    Err(AssembleFailure::Usage(format!(
        "expected the configuration that was locked ({stated}), found {path} ({found}): lock again"
    )))
}

/// A whole file, bounded.
pub(super) fn read_file(path: &Path, bytes_max: usize) -> Result<Vec<u8>, AssembleFailure> {
    let shown = path.display();
    let failed = |error| AssembleFailure::Usage(format!("expected to read {shown}: {error}"));
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(bytes_max as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > bytes_max {
        let message = format!("expected {shown} to have at most {bytes_max} bytes, found more");
        return Err(AssembleFailure::Usage(message));
    }
    Ok(bytes)
}
