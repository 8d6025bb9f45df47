//! Alpine's release list (`releases.json`): which keys sign the packages of which branch, on which
//! architecture (apko-assembly, 6.3).
//!
//! For a repository `https://…/alpine/<branch>/<name>` apko adds every key that the list names for
//! the branch and the architecture and that is not deprecated today.
//! Invariant: pure, the day comes from outside; the list decides which URLs are read, never whether
//! a key counts ([`super::listed`]). An entry of another form is an error: a key that is left out in
//! silence would make another image.

use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use url::{Host, Url};

/// Largest list: 30 branches with 10 architectures, 5 keys and 20 releases each are 600 KB.
pub(crate) const LIST_BYTES_MAX: u64 = 8 << 20;
/// Most keys of one architecture: three branches at once, with 20 each.
const KEYS_MAX: usize = 64;

/// The list, as far as it is read.
#[derive(Debug, Deserialize)]
pub(crate) struct ReleaseList {
    release_branches: Vec<Branch>,
}

#[derive(Debug, Deserialize)]
struct Branch {
    rel_branch: String,
    #[serde(default)]
    keys: BTreeMap<String, Vec<ListedKey>>,
}

#[derive(Debug, Deserialize)]
struct ListedKey {
    url: String,
    #[serde(default)]
    deprecated_since: Option<String>,
}

impl ReleaseList {
    /// Reads the list.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        // Not the parser's words: they quote what it found.
        serde_json::from_slice(bytes).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            format!(
                "expected Alpine's list of releases as JSON, found something else at line {line}, \
                 column {column}"
            )
        })
    }

    /// The keys of these branches for an architecture in apk's words, each once, in the list's
    /// order. `today` is `YYYY-MM-DD` in UTC.
    pub(crate) fn keys(
        &self,
        branches: &BTreeSet<&str>,
        arch: &str,
        today: &str,
    ) -> Result<NamedKeys, String> {
        let (mut urls, mut retired): (Vec<String>, BTreeSet<String>) = Default::default();
        let named =
            self.release_branches.iter().filter(|b| branches.contains(b.rel_branch.as_str()));
        for key in named.filter_map(|branch| branch.keys.get(arch)).flatten() {
            // The list writes the @ of the keys' names as a quoted space; apko mends it like this.
            let url = key.url.replace("%20", "@");
            let since = key.deprecated_since.as_deref().filter(|since| !since.is_empty());
            if let Some(since) = since {
                if !is_day(since) {
                    let since: String = since.chars().take(40).collect();
                    return Err(format!("expected a day like 2026-11-26, found {since:?}"));
                }
                // From the first moment of that day on.
                if since <= today {
                    retired.insert(file_name(&url).to_owned());
                    continue;
                }
            }
            if !urls.contains(&url) {
                urls.push(url);
            }
        }
        if urls.len() > KEYS_MAX {
            let found = urls.len();
            return Err(format!("expected at most {KEYS_MAX} keys for {arch}, found {found}"));
        }
        Ok(NamedKeys { urls, retired })
    }
}

/// What the list says of a branch and an architecture.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NamedKeys {
    /// Where the keys of today are.
    pub(crate) urls: Vec<String>,
    /// Names of the files of keys that were in use until some day before.
    pub(crate) retired: BTreeSet<String>,
}

/// The name under which the file of a URL lies in `etc/apk/keys`.
pub(crate) fn file_name(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or(url)
}

/// Reads the address of a list: over TLS, or of this machine.
pub fn address(text: &str) -> Result<String, String> {
    let url = Url::parse(text).ok();
    let of_this_machine = |url: &Url| match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    let good = url.is_some_and(|url| match url.scheme() {
        "https" => url.has_host(),
        "http" => of_this_machine(&url),
        _ => false,
    });
    good.then(|| text.to_owned()).ok_or_else(|| {
        format!(
            "expected https://… of Alpine's release list (http:// of this machine), found {text:?}"
        )
    })
}

/// The branch of a repository of Alpine's shape: `v3.20` of `https://…/alpine/v3.20/main`.
pub(crate) fn branch_of(base: &str) -> Option<&str> {
    let path = base.strip_prefix("https://").or_else(|| base.strip_prefix("http://"))?;
    let (path, name) = path.rsplit_once('/')?;
    let (path, branch) = path.rsplit_once('/')?;
    let host = path.strip_suffix("/alpine")?;
    (![name, branch, host].contains(&"")).then_some(branch)
}

fn is_day(text: &str) -> bool {
    let digits = |range: std::ops::Range<usize>| {
        text.get(range).is_some_and(|part| part.bytes().all(|b| b.is_ascii_digit()))
    };
    text.len() == 10
        && (text.get(4..5), text.get(7..8)) == (Some("-"), Some("-"))
        && digits(0..4)
        && digits(5..7)
        && digits(8..10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> ReleaseList {
        let key = |name: &str, since: serde_json::Value| serde_json::json!({"url": format!("https://keys.assay.test/{name}"), "deprecated_since": since});
        let branches = serde_json::json!({
            "latest_stable": "v3.20",
            "release_branches": [
                {"rel_branch": "edge", "keys": {"x86_64": [
                    key("a", serde_json::Value::Null), key("b%20lists-1", "".into())]}},
                {"rel_branch": "v3.20", "arches": ["x86_64"], "keys": {
                    "x86_64": [key("a", serde_json::Value::Null), key("old", "2022-11-14".into()),
                               key("today", "2026-11-26".into()), key("soon", "2026-11-27".into())],
                    "aarch64": [{"url": "https://keys.assay.test/c"}]}},
                {"rel_branch": "v2.1"}
            ]
        });
        ReleaseList::parse(branches.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn keys_by_branch_architecture_and_day() {
        let keys = |branches: &[&str], arch: &str| {
            let branches = branches.iter().copied().collect();
            let urls = list().keys(&branches, arch, "2026-11-26").unwrap().urls;
            let name = |url: &String| url.rsplit('/').next().unwrap().to_owned();
            urls.iter().map(name).collect::<Vec<_>>()
        };
        assert_eq!(keys(&["v3.20"], "x86_64"), ["a", "soon"]);
        assert_eq!(keys(&["v3.20"], "aarch64"), ["c"]);
        assert_eq!(keys(&["edge", "v3.20"], "x86_64"), ["a", "b@lists-1", "soon"]);
        for (branch, arch) in [("v2.1", "x86_64"), ("v9", "x86_64"), ("v3.20", "s390x")] {
            assert!(keys(&[branch], arch).is_empty(), "{branch} {arch}");
        }
        let named = list().keys(&["v3.20"].into(), "x86_64", "2026-11-26").unwrap();
        assert_eq!(named.retired, ["old".to_owned(), "today".to_owned()].into());
    }

    #[test]
    fn addresses_are_of_tls_or_of_this_machine() {
        for good in ["https://a.test/releases.json", "http://127.0.0.1:8/r", "http://[::1]/r"] {
            assert_eq!(address(good).unwrap(), good);
        }
        for bad in ["http://a.test/r", "http://10.0.0.1/r", "file:///r", "/r", "", "https://"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        assert!(ReleaseList::parse(b"{}").is_err() && ReleaseList::parse(b"<html>").is_err());
        let branch = |keys: serde_json::Value| {
            let list =
                serde_json::json!({"release_branches": [{"rel_branch": "edge", "keys": keys}]});
            ReleaseList::parse(list.to_string().as_bytes())
                .and_then(|list| list.keys(&["edge"].into(), "x86_64", "2026-11-26"))
                .map(|named| named.urls)
        };
        let since = |since: &str| {
            branch(serde_json::json!({"x86_64": [{"url": "u", "deprecated_since": since}]}))
        };
        assert_eq!(since("2026-11-27").unwrap(), ["u"]);
        for bad in ["tomorrow", "2026-11-27T00:00:00Z", "27.11.2026", "2026-1-27x"] {
            assert!(since(bad).is_err(), "{bad}");
        }
        assert!(branch(serde_json::json!({"x86_64": [{}]})).is_err());
        let many: Vec<_> =
            (0..=KEYS_MAX).map(|n| serde_json::json!({"url": n.to_string()})).collect();
        assert!(branch(serde_json::json!({ "x86_64": many })).is_err());
    }

    #[test]
    fn repositories_of_alpines_shape() {
        for (base, branch) in [
            ("https://a.test/alpine/v3.20/main", Some("v3.20")),
            ("http://a.test/mirror/alpine/edge/community", Some("edge")),
            ("https://a.test/alpine/main", None),
            ("https://alpine/v3.20/main", None),
            ("https://a.test/notalpine/v3.20/main", None),
            ("https://a.test/alpine/v3.20/", None),
            ("/srv/alpine/v3.20/main", None),
        ] {
            assert_eq!(branch_of(base), branch, "{base}");
        }
    }
}
