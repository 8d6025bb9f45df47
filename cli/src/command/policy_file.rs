//! Finding and reading the policy: `--policy`, else the user's own.
//!
//! Invariant: a policy that cannot be read or understood is exit 16 and nothing is judged; no policy
//! at all is exit 2 with the command that drafts one.

use crate::exit::Failure;
use attest::policy::{Mirror, Policy};
use std::{
    fs::File,
    io::Read as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};
use url::Url;
use worker::material::place::folder_path;

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

/// Regular files only, and none is waited for: without O_NONBLOCK a pipe would hold the command until
/// somebody writes into it, and a device has no end.
fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("expected to read {}: {error}", path.display());
    let flags = libc::O_NONBLOCK;
    let file = File::options().read(true).custom_flags(flags).open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(format!("expected {} to be a file, found something else", path.display()));
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let path = path.display();
        return Err(format!("expected {path} to have at most {FILE_BYTES_MAX} bytes, found more"));
    }
    Ok(bytes)
}

/// `PREFIX=URL` of `--mirror`.
pub fn mirror(text: &str) -> Result<Mirror, String> {
    let (prefix, url) = text
        .split_once('=')
        .filter(|(prefix, url)| prefix.contains("://") && !url.is_empty())
        .ok_or_else(|| {
            "expected PREFIX=URL, like https://packages.example/=file:///srv/mirror/".to_owned()
        })?;
    match folder_path(url) {
        Some(folder) if !folder.is_dir() => {
            return Err(format!("expected a folder at {}, found none", folder.display()));
        }
        None if Url::parse(url).is_ok_and(|url| url.scheme() == "file") => {
            return Err(format!(
                "expected a folder of this machine, like file:///srv/, found {url}"
            ));
        }
        _ => {}
    }
    let prefix = if prefix.ends_with('/') { prefix.to_owned() } else { format!("{prefix}/") };
    Ok(Mirror { prefix, url: url.to_owned(), complete: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_is_a_folder_as_it_is_read_or_an_address() {
        let folder = tempfile::tempdir().unwrap();
        let spaced = folder.path().join("my dir");
        std::fs::create_dir(&spaced).unwrap();
        let (shown, root) = (spaced.display(), folder.path().display());
        let escaped = format!("file://{root}/my%20dir/");
        for good in [
            format!("file:{root}/"),
            format!("file://{root}"),
            format!("file://localhost{root}/"),
            escaped.clone(),
            format!("{shown}/"),
            "https://mirror.example/p/".to_owned(),
        ] {
            let made = mirror(&format!("https://p.example/={good}")).unwrap();
            assert_eq!((&made.url, &made.prefix[..]), (&good, "https://p.example/"));
        }
        for bad in [
            format!("file://{root}/none/"),
            format!("{root}/none"),
            "file://host.example/srv/".to_owned(),
            "ftp://host.example/srv/".to_owned(),
            "/dev/null".to_owned(),
        ] {
            let error = mirror(&format!("https://p.example/={bad}")).unwrap_err();
            assert!(error.contains("expected a folder"), "{bad}: {error}");
        }
    }

    #[test]
    fn a_policy_is_a_file_that_ends_and_none_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        for path in [Path::new("/dev/zero"), &pipe, folder.path()] {
            let error = read(path).unwrap_err();
            assert_eq!(error.code(), 16, "{error}");
            assert!(error.to_string().contains("to be a file, found something else"), "{error}");
        }
        let long = folder.path().join("long");
        File::create(&long).unwrap().set_len(FILE_BYTES_MAX + 1).unwrap();
        let error = read(&long).unwrap_err().to_string();
        assert!(error.contains("to have at most 1048576 bytes"), "{error}");
    }
}
