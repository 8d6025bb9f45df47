//! apko's own configuration file, YAML, with `include:`.
//!
//! Scalars are taken by the type of their field, as Go's YAML library does: a text field gets what
//! stands there (`1.10` stays `1.10`), a number may be `0o755` or `0755`. Invariant: fields are as
//! strict as in the attested JSON; included files come through the caller, never from a disk here.

use super::{
    CONFIG_BYTES_MAX, ConfigError, ImageConfiguration, architecture,
    decode::{At, Report, Seed, field_gap},
    line_breaks,
};
use serde::de::DeserializeSeed;

const WHAT: &str = "apko configuration";
/// Files that include one another; apko has no bound, people use one level.
const INCLUDES_MAX: usize = 8;

/// Gives the bytes of an included file, or says why not.
pub type Loader<'a> = &'a dyn Fn(&str) -> Result<Vec<u8>, String>;

impl ImageConfiguration {
    /// Reads a configuration and what it includes, with apko's defaults and spellings applied:
    /// repositories without trailing slashes, architectures in OCI's words.
    pub fn from_yaml(yaml: &[u8], loader: Loader<'_>) -> Result<Self, ConfigError> {
        let mut gaps = Vec::new();
        let mut config = read(yaml, &mut gaps)?;
        for _ in 0..INCLUDES_MAX {
            if config.include.is_empty() {
                break;
            }
            let name = std::mem::take(&mut config.include);
            let bytes = loader(&name).map_err(|detail| ConfigError::Include { name, detail })?;
            let included = read(&bytes, &mut gaps)?;
            if !config.archs.is_empty() && !included.archs.is_empty() {
                gaps.push(field_gap("archs: set by the file and by the one it includes"));
            }
            let next = included.include.clone();
            config.include_first(included);
            config.include = next;
        }
        if !config.include.is_empty() {
            gaps.push(field_gap(format!("include: more than {INCLUDES_MAX} files deep")));
        }
        config.normalise();
        gaps.extend(config.check());
        if gaps.is_empty() { Ok(config) } else { Err(ConfigError::Gaps(gaps)) }
    }

    /// apko's defaults and spellings: repositories without trailing slashes, every architecture
    /// where none is named, in OCI's words. Doing it again changes nothing.
    pub fn normalise(&mut self) {
        let contents = &mut self.contents;
        for list in [
            &mut contents.build_repositories,
            &mut contents.runtime_repositories,
            &mut contents.repositories,
        ] {
            for repository in list {
                repository.truncate(repository.trim_end_matches('/').len());
            }
        }
        if self.archs.is_empty() {
            self.archs = architecture::SUPPORTED.iter().map(|name| (*name).to_owned()).collect();
        }
        for name in &mut self.archs {
            *name = architecture::oci(name).to_owned();
        }
    }
}

fn read(yaml: &[u8], gaps: &mut Vec<attest::Gap>) -> Result<ImageConfiguration, ConfigError> {
    if yaml.len() > CONFIG_BYTES_MAX {
        return Err(ConfigError::TooLarge { what: WHAT, bytes: yaml.len() });
    }
    let syntax = |detail: String| ConfigError::Syntax { what: WHAT, detail };
    let text = std::str::from_utf8(yaml).map_err(|error| syntax(error.to_string()))?;
    let text = line_breaks::resolve(text).map_err(|error| syntax(error.to_string()))?;
    let report = Report::default();
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    let config = serde_saphyr::with_deserializer_from_str_with_options(&text, options, |from| {
        Seed::<ImageConfiguration>::new(&At::root(&report)).deserialize(from)
    })
    .map_err(|error| syntax(error.to_string()))?;
    let (unknown, unsupported) = report.unknown();
    gaps.extend(unknown.into_iter().chain(unsupported).map(field_gap));
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none(name: &str) -> Result<Vec<u8>, String> {
        Err(format!("no {name}"))
    }

    fn yaml(text: &str) -> ImageConfiguration {
        ImageConfiguration::from_yaml(text.as_bytes(), &none).unwrap()
    }

    #[test]
    fn scalars_follow_the_field() {
        let config = yaml(
            "cmd: 1.10\nenvironment: {A: 1, B: true, C: ~, D: 0x10}\naccounts:\n  run-as: 65532\n\
             paths:\n- {path: /a, type: directory, permissions: 0o2775, uid: 0}\n\
             - {path: /b, type: directory, permissions: 0755, recursive: yes}\n\
             contents:\n  repositories: [./repo//]\narchs: [x86_64, armv7]\n",
        );
        assert_eq!(config.cmd, "1.10");
        assert_eq!(config.accounts.run_as, "65532");
        let values: Vec<&str> = config.environment.values().map(String::as_str).collect();
        assert_eq!(values, ["1", "true", "", "0x10"]);
        assert_eq!(config.paths[0].permissions, 0o2775);
        assert_eq!((config.paths[0].uid, config.paths[0].gid), (Some(0), None));
        assert_eq!((config.paths[1].permissions, config.paths[1].recursive), (0o755, true));
        assert_eq!(config.contents.repositories, ["./repo"]);
        assert_eq!(config.archs, ["amd64", "arm/v7"]);
        assert_eq!(yaml("").archs.len(), architecture::SUPPORTED.len());
    }

    #[test]
    fn the_includer_wins_and_lists_start_with_the_included() {
        let loader = |name: &str| match name {
            "base.yaml" => Ok(b"cmd: base\nwork-dir: /b\nenvironment: {A: b, B: b}\n\
                contents: {packages: [one]}\nlayering: {strategy: origin, budget: 2}\n"
                .to_vec()),
            _ => none(name),
        };
        let text = "include: base.yaml\ncmd: top\nenvironment: {A: t}\ncontents: {packages: [two]}";
        let config = ImageConfiguration::from_yaml(text.as_bytes(), &loader).unwrap();
        assert_eq!((config.cmd.as_str(), config.work_dir.as_str()), ("top", "/b"));
        assert_eq!(config.contents.packages, ["one", "two"]);
        assert_eq!(config.environment["A"], "t");
        assert_eq!(config.environment["B"], "b");
        assert_eq!(config.layering.map(|l| l.budget), Some(2));
        assert_eq!(config.include, "");
    }

    #[test]
    fn loops_and_missing_includes_end() {
        let itself = |_: &str| Ok(b"include: me.yaml".to_vec());
        let error = ImageConfiguration::from_yaml(b"include: me.yaml", &itself).unwrap_err();
        assert!(error.to_string().contains("files deep"), "{error}");
        let error = ImageConfiguration::from_yaml(b"include: no.yaml", &none).unwrap_err();
        assert!(matches!(error, ConfigError::Include { .. }));
    }

    #[test]
    fn unknown_and_malformed() {
        let error = ImageConfiguration::from_yaml(b"cmd: a\nteleport: mars\n", &none).unwrap_err();
        assert_eq!(error.gaps().len(), 1);
        for bad in ["cmd: [a]", "cmd: a\ncmd: b", "accounts: {users: [{uid: x}]}", "a: *b", "\t-"] {
            assert!(ImageConfiguration::from_yaml(bad.as_bytes(), &none).is_err(), "{bad}");
        }
    }
}
