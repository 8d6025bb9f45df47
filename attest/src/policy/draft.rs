//! A first policy for an image, written from the signers that were found beside it.
//!
//! Invariant: the draft parses as soon as the files that it names exist. It must never make a
//! found signer trusted by itself: evidence carries hints of keys, not keys, so the person has to
//! bring the key file, from where the publisher hands it out. Everything found is foreign text and
//! is written as a TOML string or behind `#`, without control characters.

use super::{RepositoryPattern, Source};
use crate::Repository;

/// Most signers and package repositories that a draft lists.
const FOUND_MAX: usize = 16;

/// Someone whose statements were found beside the image. Nothing here is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundSigner {
    /// How the evidence names its key: `key sha256:…`, or why it names none.
    pub name: String,
    /// What it states: predicate types.
    pub statements: Vec<String>,
}

/// What a draft is written from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Where the image was read from.
    pub source: Source,
    /// Its repository.
    pub repository: Repository,
    /// Who signed statements about it.
    pub signers: Vec<FoundSigner>,
    /// URLs of package repositories that its (unverified) recipe names.
    pub package_repositories: Vec<String>,
}

/// One line of foreign text for a comment.
fn comment(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars().filter(|c| !c.is_control()) {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

impl Draft {
    /// The policy file's text.
    pub fn to_toml(&self) -> String {
        let pattern = RepositoryPattern::exactly(self.source, &self.repository);
        let mut text = format!(
            "# A policy for {pattern}, drafted by `assay policy init`.\n\
             # Nothing in it was verified: read every line before you rely on it.\n\
             # Unknown keys are refused; `assay policy check` says what is wrong, and in which \
             line.\n"
        );
        self.publishers(&pattern, &mut text);
        self.packages(&mut text);
        text.push_str(REST);
        text
    }

    fn publishers(&self, pattern: &RepositoryPattern, text: &mut String) {
        text.push_str("\n# Whose word about a recipe counts, for which repositories.\n");
        if self.signers.is_empty() {
            text.push_str(
                "# No signed statement was found beside the image: name the publisher's key \
                 yourself.\n",
            );
        }
        for signer in self.signers.iter().take(FOUND_MAX) {
            text.push_str(&format!("# Found: {}\n", comment(&signer.name)));
            for statement in signer.statements.iter().take(FOUND_MAX) {
                text.push_str(&format!("#   states {}\n", comment(statement)));
            }
        }
        text.push_str(
            "# Get the publisher's public key (PEM) from the publisher, not from the registry, \
             and put it\n# beside this file. Compare its fingerprint with what was found.\n",
        );
        let repositories = quoted(&pattern.to_string());
        let count = self.signers.len().clamp(1, FOUND_MAX);
        for number in 1..=count {
            let file =
                if count == 1 { "publisher.pub".into() } else { format!("publisher-{number}.pub") };
            // Only the first is active: the others may be strangers, and each is a decision.
            let mark = if number == 1 { "" } else { "#" };
            text.push_str(&format!(
                "{mark}[[publisher]]\n{mark}repositories = [{repositories}]\n{mark}key = \
                 \"{file}\"\n{mark}transparency = \"none\"\n"
            ));
        }
    }

    fn packages(&self, text: &mut String) {
        text.push_str(
            "\n# Whose packages may be inputs. `pins` are SHA-256 of key files as they lie in \
             etc/apk/keys;\n# with pins, `complete = true` says that no other key may be in an \
             image.\n",
        );
        let mut urls: Vec<String> = self
            .package_repositories
            .iter()
            .filter_map(|url| {
                let pattern = format!("{}/*", url.trim_end_matches('/'));
                pattern.parse::<super::UrlPattern>().ok().map(|p| p.to_string())
            })
            .collect();
        urls.sort_unstable();
        urls.dedup();
        for url in urls.iter().take(FOUND_MAX) {
            text.push_str(&format!(
                "[[package_repository]]              # named by the unverified recipe\nurl = \
                 {}\nkeys = \"discovery\"\n#pins = [\"sha256:<64 hex digits>\"]\ncomplete = \
                 false\n",
                quoted(url)
            ));
        }
        if urls.is_empty() {
            text.push_str(
                "#[[package_repository]]\n#url = \"https://packages.example/*\"\n#keys = \
                 \"discovery\"\n#pins = [\"sha256:<64 hex digits>\"]\n#complete = false\n",
            );
        }
    }
}

/// The tables that nothing found beside an image can fill.
const REST: &str = r#"
# Another place for packages. `complete = true`: what is not there is gone.
#[[mirror]]
#prefix = "https://packages.example/"
#url = "file:///srv/mirror/"
#complete = false

# A registry over plain HTTP, or with a private certificate authority.
#[[registry]]
#host = "127.0.0.1:5000"
#plain_http = true

# For a gate: who rebuilds, and how many must agree.
#[[operator]]
#name = "acme"
#root_key = "acme.pub"
#affiliations = []
#
#[quorum]
#operators = ["acme"]
#reproduced = 1
#level = "config"                    # manifest | manifest-recompressed | config
#tier = "attested"                   # attested | hinted | inferred
#hints = ["epoch", "install-order", "key-set"]

# What a gate does. Without this table it enforces, and an image without a verdict fails.
#[gate]
#mode = "warn"                       # observe | warn | delay | enforce
#unknown = "warn"                    # pass | warn | fail
#max_age = "30d"
"#;
