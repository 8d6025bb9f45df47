//! The attested configuration: the predicate `https://apko.dev/image-configuration`.
//!
//! It is Terraform's `jsonencode` of the provider's object: keys in alphabetical order, what is not
//! set as `""`, `null`, `[]`, `{}`, `0` or `false`. Invariant: one document gives one configuration
//! or the list of *all* fields that Assay cannot honour; never a part of it.

use super::{
    CONFIG_BYTES_MAX, ConfigError, ImageConfiguration,
    decode::{At, Report, Seed, field_gap},
};
use serde::de::DeserializeSeed;

const WHAT: &str = "attested configuration";

impl ImageConfiguration {
    /// Reads the predicate. It is already locked for one platform.
    pub fn from_attested_json(json: &[u8]) -> Result<Self, ConfigError> {
        if json.len() > CONFIG_BYTES_MAX {
            return Err(ConfigError::TooLarge { what: WHAT, bytes: json.len() });
        }
        let report = Report::default();
        let mut from = serde_json::Deserializer::from_slice(json);
        let config: Self = Seed::new(&At::root(&report))
            .deserialize(&mut from)
            .and_then(|config| from.end().map(|()| config))
            .map_err(|error| ConfigError::Syntax { what: WHAT, detail: error.to_string() })?;
        let (unknown, unsupported) = report.unknown();
        let mut gaps: Vec<_> = unknown.into_iter().chain(unsupported).map(field_gap).collect();
        if !config.include.is_empty() {
            gaps.push(field_gap("include: the included file is not part of the attestation"));
        }
        gaps.extend(config.check());
        if gaps.is_empty() { Ok(config) } else { Err(ConfigError::Gaps(gaps)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use attest::GapCode;

    fn gaps(json: &str) -> Vec<String> {
        match ImageConfiguration::from_attested_json(json.as_bytes()) {
            Err(ConfigError::Gaps(gaps)) => {
                assert!(gaps.iter().all(|gap| gap.code == GapCode::UnsupportedField));
                gaps.into_iter().map(|gap| gap.detail).collect()
            }
            other => panic!("expected gaps, found {other:?}"),
        }
    }

    #[test]
    fn all_unknown_fields_are_named_at_any_depth() {
        let json = r#"{"teleport":{"to":"mars"},"contents":{"baseimage":{"image":"x"},"extra":null},
            "paths":[{"path":"/a","type":"directory","acl":[]}],"format":"erofs",
            "accounts":{"users":[{"username":"u","uid":1,"quota":5}]}}"#;
        let named = [
            "teleport",
            "contents.extra",
            "paths[0].acl",
            "accounts.users[0].quota",
            "contents.baseimage",
            "format",
        ];
        assert_eq!(gaps(json), named);
    }

    #[test]
    fn unset_values_are_unset_and_null_differs_from_zero() {
        let json = r#"{"contents":{"baseimage":{"image":"","apkindex":""},"packages":null},
            "format":"","layering":null,"certificates":null,"cmd":"","environment":{},
            "paths":[{"gid":null,"path":"/a","permissions":493,"recursive":false,"source":"",
            "type":"directory","uid":0}]}"#;
        let config = ImageConfiguration::from_attested_json(json.as_bytes()).unwrap();
        assert_eq!(config.layering, None);
        let [change] = config.paths.as_slice() else { panic!() };
        assert_eq!((change.uid, change.gid, change.permissions), (Some(0), None, 0o755));
    }

    #[test]
    fn wrong_types_are_named_with_their_place() {
        for (json, place) in [
            (r#"{"contents":{"packages":[5]}}"#, "contents.packages[0]"),
            (r#"{"accounts":{"users":[{"uid":-1}]}}"#, "accounts.users[0].uid"),
            (r#"{"accounts":{"users":[{"uid":4294967296}]}}"#, "accounts.users[0].uid"),
            (r#"{"layering":[]}"#, "layering"),
            (r#"{"paths":[{"recursive":"yes"}]}"#, "paths[0].recursive"),
            (r#"{"cmd":"a","cmd":"b"}"#, "cmd"),
            (r#"{"environment":{"A":"1","A":"2"}}"#, "environment.A"),
            (r#"[]"#, "expected an object"),
        ] {
            let error = ImageConfiguration::from_attested_json(json.as_bytes()).unwrap_err();
            assert!(matches!(error, ConfigError::Syntax { .. }));
            assert!(error.to_string().contains(place), "{error}");
        }
        assert!(ImageConfiguration::from_attested_json(b"{} {}").is_err());
        let deep = "[".repeat(100_000);
        assert!(ImageConfiguration::from_attested_json(deep.as_bytes()).is_err());
    }
}
