//! Where a material may be read: its mirrors in the order of the policy, then its origin.
//!
//! Invariant: the first source that has it is used; a complete mirror that lacks it is a definite
//! answer, any other source that fails is an operational error, unless a later one has it. A URI
//! can't name a file outside a mirror's folder, and no file of this machine at all unless the caller
//! says that it comes from the person who calls ([`Origins::AlsoLocal`]). Only regular files are
//! read, and none is waited for.

use super::MaterialError;
use attest::policy::Mirror;
use nix::fcntl::OFlag;
use oci::{NetworkPolicy, fetch::Fetcher};
use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};
use url::Url;

/// Where a URI itself may lead; mirrors are the policy's, and may be folders in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origins {
    /// Over the network: what recipes and fetched documents name.
    Network,
    /// To files of this machine, too: what the person who calls names.
    AlsoLocal,
}

/// Knows the mirrors and may speak to the network.
pub struct Places {
    mirrors: Vec<Mirror>,
    fetcher: Fetcher,
}

/// A material's bytes as a stream, and where they come from.
pub struct Found {
    /// The place, for the record.
    pub from: String,
    /// The bytes; reading may block.
    pub bytes: Box<dyn Read + Send>,
    /// True for a file of this machine.
    pub local: bool,
}

/// What one source says.
enum Answer {
    Has(Found),
    Lacks { certain: bool, place: String },
}

impl Places {
    /// Mirrors are asked in order, then the origin, under the network policy.
    pub fn new(mirrors: Vec<Mirror>, network: &NetworkPolicy) -> Result<Self, MaterialError> {
        let fetcher = Fetcher::new(network).map_err(|error| MaterialError::Unavailable {
            uri: "the network".into(),
            problem: error.to_string(),
        })?;
        Ok(Self { mirrors, fetcher })
    }

    /// Opens a material for reading. `Gone` only where a complete mirror or the origin itself says
    /// so.
    pub async fn open(
        &self,
        uri: &str,
        origins: Origins,
        bytes_max: u64,
    ) -> Result<Found, MaterialError> {
        check_components(uri)?;
        if origins == Origins::Network {
            check_scheme(uri)?;
        }
        let mut looked_at = Vec::new();
        let mut gone = false;
        let mut problem = None;
        let mirrors = self.mirrors.iter().filter_map(|m| Some((m.locate(uri)?, Some(m))));
        let origin = (uri.to_owned(), None);
        for (place, mirror) in mirrors.chain([origin]) {
            match self.ask(&place, mirror, bytes_max).await {
                Ok(Answer::Has(found)) => return Ok(found),
                Ok(Answer::Lacks { certain, place }) => {
                    looked_at.push(place);
                    if certain {
                        gone = true;
                        break;
                    }
                }
                Err(error) => {
                    problem.get_or_insert(error);
                }
            }
        }
        match problem {
            // A source that failed says nothing: it might have had it.
            Some(error) => Err(error),
            None if gone => Err(MaterialError::Gone {
                uri: uri.to_owned(),
                looked_at: format!("looked for at {}", looked_at.join(", ")),
            }),
            None => Err(MaterialError::Unavailable {
                uri: uri.to_owned(),
                problem: format!("not at {}, which need not be complete", looked_at.join(", ")),
            }),
        }
    }

    /// The whole material in memory, by a URI that leads over the network.
    pub async fn read(
        &self,
        uri: &str,
        bytes_max: u64,
    ) -> Result<(Vec<u8>, String), MaterialError> {
        self.read_from(uri, Origins::Network, bytes_max).await
    }

    /// The whole material in memory.
    pub async fn read_from(
        &self,
        uri: &str,
        origins: Origins,
        bytes_max: u64,
    ) -> Result<(Vec<u8>, String), MaterialError> {
        let Found { from, bytes, .. } = self.open(uri, origins, bytes_max).await?;
        let label = uri.to_owned();
        let read = tokio::task::spawn_blocking(move || {
            let mut all = Vec::new();
            bytes.take(bytes_max.saturating_add(1)).read_to_end(&mut all).map(|_| all)
        });
        let all = read.await.map_err(io::Error::other).flatten();
        let all = all.map_err(|e| unavailable(&label, &e))?;
        if all.len() as u64 > bytes_max {
            let problem = format!("expected at most {bytes_max} bytes, found more");
            return Err(MaterialError::Limit { uri: label, problem });
        }
        Ok((all, from))
    }

    /// Asks one source; the origin where there is no mirror.
    async fn ask(
        &self,
        place: &str,
        mirror: Option<&Mirror>,
        max: u64,
    ) -> Result<Answer, MaterialError> {
        let complete = mirror.is_none_or(|mirror| mirror.complete);
        if let Some(path) = folder_path(place) {
            let root = mirror.and_then(|mirror| folder_path(&mirror.url));
            return open_file(&path, root.filter(|_| complete).as_deref());
        }
        match self.fetcher.get(place, max).await {
            Ok(Some(body)) => {
                let bytes = Box::new(body.into_blocking_reader());
                Ok(Answer::Has(Found { from: place.to_owned(), bytes, local: false }))
            }
            Ok(None) => Ok(Answer::Lacks { certain: complete, place: place.to_owned() }),
            Err(error) => Err(unavailable(place, &error)),
        }
    }
}

fn unavailable(uri: &str, problem: &dyn std::fmt::Display) -> MaterialError {
    MaterialError::Unavailable { uri: uri.to_owned(), problem: problem.to_string() }
}

/// `file:///srv/mirror/x` or a plain path; none for what goes over the network.
pub fn folder_path(place: &str) -> Option<PathBuf> {
    match Url::parse(place) {
        Ok(url) if url.scheme() == "file" => url.to_file_path().ok(),
        Ok(url) if matches!(url.scheme(), "http" | "https") => None,
        _ => Some(PathBuf::from(place)),
    }
}

/// Opens a file. `complete`: the folder of a mirror that is said to have everything.
fn open_file(path: &Path, complete: Option<&Path>) -> Result<Answer, MaterialError> {
    let shown = path.display().to_string();
    // Without O_NONBLOCK a pipe would hold this thread until somebody writes into it.
    let opened = File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
    match opened {
        Ok(file) if file.metadata().is_ok_and(|m| m.is_file()) => {
            let from = format!("file://{shown}");
            Ok(Answer::Has(Found { from, bytes: Box::new(file), local: true }))
        }
        Ok(_) => Err(unavailable(&shown, &"expected a file, found something else")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // A mirror that is missing or empty is not mounted; that says nothing.
            let there =
                |root: &Path| root.read_dir().is_ok_and(|mut entries| entries.next().is_some());
            if complete.is_some_and(|root| !there(root)) {
                return Err(unavailable(&shown, &"the folder of this mirror is missing or empty"));
            }
            Ok(Answer::Lacks { certain: complete.is_some(), place: shown })
        }
        Err(error) => Err(unavailable(&shown, &error)),
    }
}

/// Refuses what does not lead over the network. That is a defect of the document that names it, and
/// says nothing about an image.
fn check_scheme(uri: &str) -> Result<(), MaterialError> {
    if Url::parse(uri).is_ok_and(|url| matches!(url.scheme(), "http" | "https")) {
        return Ok(());
    }
    let uri: String = uri.chars().take(300).collect();
    Err(unavailable(&uri, &"expected a URL that begins with https:// or http://"))
}

/// Refuses what could climb out of a mirror's folder or hide what is asked for.
fn check_components(uri: &str) -> Result<(), MaterialError> {
    let path = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    let bad = path.split('/').any(|c| matches!(c, "." | "..") || c.contains('\\'))
        || uri.chars().any(|c| c.is_control() || matches!(c, '?' | '#' | '%'));
    if bad {
        let problem = format!("expected a URI of plain path components, found {uri:?}");
        return Err(MaterialError::Limit { uri: uri.chars().take(300).collect(), problem });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(folder: &Path, complete: bool) -> Places {
        let url = format!("file://{}/", folder.display());
        let mirror = Mirror { prefix: "https://packages.test/".into(), url, complete };
        Places::new(vec![mirror], &NetworkPolicy::default()).unwrap()
    }

    #[tokio::test]
    async fn gone_is_said_only_where_a_complete_source_says_so() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), b"x").unwrap();
        let complete = places(dir.path(), true);
        let (bytes, from) = complete.read("https://packages.test/a", 10).await.unwrap();
        assert_eq!(bytes, b"x");
        assert!(from.starts_with("file:///"));
        let gone = complete.read("https://packages.test/b", 10).await.unwrap_err();
        assert!(matches!(gone, MaterialError::Gone { .. }), "{gone}");
        let partial = places(dir.path(), false);
        let unknown = partial.read("https://packages.test/b", 10).await.unwrap_err();
        assert!(matches!(unknown, MaterialError::Unavailable { .. }), "{unknown}");
    }

    #[tokio::test]
    async fn a_mirror_that_is_not_mounted_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let point = dir.path().join("mirror");
        let ask = async || places(&point, true).read("https://packages.test/a", 10).await;
        // Neither a folder that is not there, nor an empty one where something should be mounted.
        let missing = ask().await.unwrap_err();
        assert!(matches!(missing, MaterialError::Unavailable { .. }), "{missing}");
        std::fs::create_dir(&point).unwrap();
        let empty = ask().await.unwrap_err();
        assert!(matches!(empty, MaterialError::Unavailable { .. }), "{empty}");
        std::fs::write(point.join("b"), b"x").unwrap();
        let gone = ask().await.unwrap_err();
        assert!(matches!(gone, MaterialError::Gone { .. }), "{gone}");
    }

    #[tokio::test]
    async fn files_of_this_machine_only_for_the_one_who_calls() {
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("secret");
        std::fs::write(&secret, b"s").unwrap();
        let places = Places::new(Vec::new(), &NetworkPolicy::default()).unwrap();
        let plain = secret.to_str().unwrap().to_owned();
        for uri in [plain.clone(), format!("file://{plain}"), "ftp://a.test/x".to_owned()] {
            let refused = places.read(&uri, 10).await.unwrap_err();
            assert!(refused.gap().is_none(), "{refused}");
            assert!(refused.to_string().contains("https://"), "{refused}");
        }
        let read = places.read_from(&plain, Origins::AlsoLocal, 10).await.unwrap();
        assert_eq!(read.0, b"s");
        // A pipe that nobody writes into is no file, and is not waited for.
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let refused = places.read_from(pipe.to_str().unwrap(), Origins::AlsoLocal, 10).await;
        assert!(refused.unwrap_err().to_string().contains("expected a file"));
    }

    #[tokio::test]
    async fn nothing_outside_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let places = places(dir.path(), true);
        for uri in ["https://packages.test/../x", "https://packages.test/%2e%2e/x"] {
            let refused = places.read(uri, 10).await.unwrap_err();
            assert!(matches!(refused, MaterialError::Limit { .. }), "{refused}");
        }
    }
}
