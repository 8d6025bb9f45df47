//! Finding and reading the policy: `--policy`, else the user's own.
//!
//! Invariant: a policy that cannot be read or understood is exit 16 and nothing is judged; no policy
//! at all is exit 2 with the command that drafts one.

use crate::exit::Failure;
use attest::policy::{Mirror, Policy};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Largest policy file or key file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The user's own policy: `assay/policy.toml` in the configuration folder.
pub fn users_own() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .filter(|p| p.is_absolute())
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".config")))?;
    Some(base.join("assay").join("policy.toml")).filter(|p| p.is_file())
}

/// A policy for a command that needs none: the one that was given, else the user's own, else none.
pub fn find_any(given: Option<&Path>) -> Result<Policy, Failure> {
    let path = given.map(Path::to_owned).or_else(users_own);
    path.map_or_else(|| Ok(Policy::default()), |path| read(&path))
}

/// The policy to use; `image` is for the advice.
pub fn find(given: Option<&Path>, image: &str) -> Result<Arc<Policy>, Failure> {
    let path = given.map(Path::to_owned).or_else(users_own).ok_or_else(|| {
        Failure::Usage(format!(
            "expected a policy: give --policy FILE, or draft one with `assay policy init {image}`"
        ))
    })?;
    read(&path).map(Arc::new)
}

/// Reads a policy file and the key files it names, relative to it.
pub fn read(path: &Path) -> Result<Policy, Failure> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = folder.to_owned();
    let bytes = read_file(path).map_err(Failure::Policy)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::Policy(format!("expected {} to be UTF-8 text", path.display())))?;
    Policy::parse(&text, &|name| read_file(&folder.join(name))).map_err(|error| {
        let hint = error.hint().map(|h| format!("\nhint: {h}")).unwrap_or_default();
        Failure::Policy(format!("policy {}: {error}{hint}", path.display()))
    })
}

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("expected to read {}: {error}", path.display());
    let size = fs::metadata(path).map_err(failed)?.len();
    if size > FILE_BYTES_MAX {
        let path = path.display();
        return Err(format!(
            "expected {path} to have at most {FILE_BYTES_MAX} bytes, found {size}"
        ));
    }
    fs::read(path).map_err(failed)
}

/// `PREFIX=URL` of `--mirror`.
pub fn mirror(text: &str) -> Result<Mirror, String> {
    let (prefix, url) = text
        .split_once('=')
        .filter(|(prefix, url)| prefix.contains("://") && !url.is_empty())
        .ok_or_else(|| {
            "expected PREFIX=URL, like https://packages.example/=file:///srv/mirror/".to_owned()
        })?;
    let folder = match url.strip_prefix("file://") {
        Some(path) => Some(path),
        None if url.contains("://") => None,
        None => Some(url),
    };
    if let Some(folder) = folder.filter(|folder| !Path::new(folder).is_dir()) {
        return Err(format!("expected a folder at {folder}, found none"));
    }
    let prefix = if prefix.ends_with('/') { prefix.to_owned() } else { format!("{prefix}/") };
    Ok(Mirror { prefix, url: url.to_owned(), complete: false })
}
