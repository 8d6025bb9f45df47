//! The repositories of a configuration: where they are, and their pins.
//!
//! Invariant: the order is that of apko, which decides ties: a set sorted by the text as written. A
//! folder is named by its path as the system resolves it; what is written into the image stays the
//! text of the configuration.

use super::AssembleFailure;
use rebuild::apko::{ImageConfiguration, config::PinnedRepository};
use std::{collections::BTreeSet, path::Path};

/// One repository of the build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildRepository {
    /// `edge` of `@edge https://…`; empty for most.
    pub pin: String,
    /// The URL without its trailing slashes, or the absolute path of a folder.
    pub base: String,
    /// True for a folder of this machine.
    pub local: bool,
}

/// Repositories of the configuration and of the call.
pub fn of(
    config: &ImageConfiguration,
    extra: &[String],
) -> Result<Vec<BuildRepository>, AssembleFailure> {
    let own = config.repositories_for_build();
    let set: BTreeSet<&str> =
        own.iter().chain(extra).map(|text| text.trim_end_matches('/')).collect();
    set.into_iter().map(parse).collect()
}

fn parse(text: &str) -> Result<BuildRepository, AssembleFailure> {
    let PinnedRepository { pin, address } = PinnedRepository::parse(text).ok_or_else(|| {
        AssembleFailure::Usage(format!("expected `@name address`, found repository {text:?}"))
    })?;
    let pin = pin.to_owned();
    if address.contains("://") && !address.starts_with("file://") {
        return Ok(BuildRepository { pin, base: address.to_owned(), local: false });
    }
    let path = address.strip_prefix("file://").unwrap_or(address);
    // A folder that is not there is like one without an index: apko ignores it.
    let base = std::fs::canonicalize(path).or_else(|_| std::path::absolute(Path::new(path)));
    let base = base.map_err(|error| {
        AssembleFailure::Usage(format!("expected a folder or a URL, found {text:?}: {error}"))
    })?;
    match base.to_str() {
        Some(base) => Ok(BuildRepository { pin, base: base.to_owned(), local: true }),
        None => Err(AssembleFailure::Usage(format!("expected a path in UTF-8, found {text:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorted_as_written_and_found_by_path() {
        let folder = tempfile::tempdir().unwrap();
        let local = folder.path().to_str().unwrap().to_owned();
        let mut config = ImageConfiguration::default();
        config.contents.repositories = vec!["https://b.test/x/".into(), local.clone()];
        let extra = ["@edge https://a.test/y".to_owned()];
        let found = of(&config, &extra).unwrap();
        let texts: Vec<_> = found.iter().map(|r| (r.pin.as_str(), r.local)).collect();
        assert_eq!(texts, [("", true), ("edge", false), ("", false)]);
        assert_eq!(found[1].base, "https://a.test/y");
        assert_eq!(found[2].base, "https://b.test/x");
        assert!(of(&config, &["@edge".to_owned()]).is_err());
    }
}
