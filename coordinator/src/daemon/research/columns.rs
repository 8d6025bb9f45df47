//! The tables of the research export: their columns, in order, with kind and meaning.
//!
//! Invariant: a column's name and meaning never change and none goes away within a schema's
//! version; new ones come at the end. docs/SCHEMA.md is written from here, and a test says so.

use std::{fmt::Write as _, str::FromStr};

/// One column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// `text`, `integer`, `number`, `digest`, `time`.
    pub kind: &'static str,
    /// What it says.
    pub says: &'static str,
}

/// A table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// What happened to an image or a repository, for people.
    History,
    /// One row for each observation.
    Observations,
    /// One row for each verdict: the interval in which it stood.
    Verdicts,
    /// One row for each step of a job.
    Transitions,
    /// One row for each difference that an explanation names.
    Diffs,
    /// One row for each input of an observation.
    Materials,
    /// One row for each change of a watched tag.
    Tags,
    /// One row for each package that an observation's build was given.
    Packages,
}

/// The table's name is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a table: history, observations, verdicts, transitions, diffs, materials, packages \
     or tags, found {0:?}"
)]
pub struct UnknownTable(String);

impl FromStr for Table {
    type Err = UnknownTable;

    fn from_str(text: &str) -> Result<Self, UnknownTable> {
        let found = Self::ALL.into_iter().find(|table| table.as_str() == text);
        found.ok_or_else(|| UnknownTable(text.chars().take(64).collect()))
    }
}

macro_rules! columns {
    ($(#[$doc:meta])* $table:ident: $($name:literal $kind:ident $says:literal;)+) => {
        $(#[$doc])*
        const $table: &[Column] = &[$(
            Column { name: $name, kind: stringify!($kind), says: $says }
        ),+];
    };
}

columns! {
    HISTORY:
    "position" integer "where it lies in the journal";
    "recorded_at" time "the coordinator's clock when it was written";
    "kind" text "`observation`, `verdict`, `tag`";
    "image_repository" text "where the image is published";
    "manifest_digest" digest "the image; of a tag: what it names";
    "platform" text "`linux/amd64`";
    "job" digest "the job";
    "attempt" integer "which opening of the job";
    "obs_id" digest "the observation";
    "operator" text "whose";
    "worker" digest "which worker's";
    "observed_at" time "the worker's clock; of others: `recorded_at`";
    "outcome" text "of an observation or a verdict, also one that opened its job again; of a tag: \
        `new` or `moved`";
    "failure_class" text "the class of a failure";
    "role" text "how the observation was filed";
    "tag" text "the tag";
    "tag_before" digest "what the tag named before";
}

columns! {
    OBSERVATIONS:
    "obs_id" digest "SHA-256 of what was signed";
    "log_index" integer "index in the public log; null while there is none";
    "position" integer "where its envelope lies in the journal";
    "recorded_at" time "the coordinator's clock when it was filed";
    "job" digest "the job: subject and recipes";
    "attempt" integer "which opening of the job";
    "image_repository" text "where the image is published";
    "tag_when_observed" text "the newest tag under which it had been submitted then; the \
        coordinator's word";
    "index_digest" digest "the index in which it was found; null: none";
    "manifest_digest" digest "the published image";
    "platform" text "`linux/amd64`";
    "publisher" text "who signed the recipe";
    "builder" text "the builder that the recipe names";
    "builder_version" text "its version as attested";
    "rebuilder" text "what rebuilt it";
    "rebuilder_version" text "its version";
    "recipe_digest" digest "the recipe that was rebuilt";
    "source_repository" text "the source that the evidence names";
    "source_commit" text "its commit";
    "epoch" integer "the build epoch that was given, seconds since 1970; null: it followed from \
        the packages";
    "published_at" time "when the image says that it was made";
    "observed_at" time "the worker's clock when it finished; orders nothing";
    "worker" digest "the worker's key";
    "operator" text "the party behind it";
    "env_cpu" text "the CPU's model";
    "env_cpu_vendor" text "its vendor";
    "env_kernel" text "kernel name and release";
    "env_fs" text "the file system of the work folder";
    "env_tz" text "time zone; empty: not set";
    "env_locale" text "locale; empty: not set";
    "env_cpus" integer "CPUs that the build could use";
    "env_umask" text "in octal";
    "env_architecture" text "the worker's own";
    "outcome" text "`OUTPUT`, `BUILD_FAILED`, `RECIPE_INVALID`, `INPUT_UNAVAILABLE`, \
        `TIMEOUT`, `LIMIT_EXCEEDED`, `REFUSED`";
    "failure_class" text "the class of a failure; empty for an output";
    "out_manifest" digest "the manifest that was built";
    "out_config" digest "the configuration that was built";
    "n_layers" integer "layers that were built";
    "layers_equal" integer "layers whose blob is the published one";
    "diff_ids_equal" integer "layers whose content is the published one";
    "level" text "the strongest level that the worker found; informative";
    "differences" integer "differences in its explanation";
    "bytes" integer "bytes of the layers that were built";
    "duration_s" number "fetching, building, comparing";
    "cpu_s" number "CPU time of all of it";
    "input_count" integer "inputs that were fetched";
    "inputs_missing" integer "inputs that could not be had";
    "cache" text "`cold` or `warm`: whether inputs came out of the worker's store";
    "role" text "`counted`, `noted`, `volunteer`, `equivocation`; with stage two of the \
        protocol `audit` and `decoy` come in";
    "verdict_effect" text "in the newest verdict of the job: `counted`, `dissent`, \
        `dissent-resolved`, `failure`, `equivocation`, `not-counted`, `none`; null before the \
        first";
    "worker_version" text "the worker's version";
    "explanation_digest" digest "the explanation of its differences";
}

columns! {
    VERDICTS:
    "position" integer "where it lies in the journal";
    "job" digest "the job";
    "attempt" integer "which opening of the job";
    "image_repository" text "where the image is published";
    "manifest_digest" digest "the published image";
    "platform" text "`linux/amd64`";
    "outcome" text "`reproduced`, `diverged`, `flaky`, `disputed`, `untrusted`, \
        `not-rebuildable`, `inconclusive`";
    "level" text "the level that was reached";
    "reason" text "one sentence";
    "k" integer "distinct operators that are counted";
    "n" integer "distinct operators with an output";
    "required" integer "how many the policy asks for";
    "policy_digest" digest "the policy";
    "from" time "when it was judged";
    "until" time "when the next verdict of the job replaced it; null: it stands";
}

columns! {
    TRANSITIONS:
    "position" integer "where it lies in the journal";
    "recorded_at" time "the coordinator's clock when it was written";
    "at_ms" integer "the coordinator's own clock, milliseconds; stands still while it is down";
    "job" digest "the job";
    "image_repository" text "where the image is published";
    "manifest_digest" digest "the published image";
    "platform" text "`linux/amd64`";
    "from" text "the state before; `leased` stands for `suspect` too where a lease ended, `judged` \
        for `parked` too where an administrator unsettled it";
    "to" text "`announced`, `offered`, `leased`, `suspect`, `observed`, `judged`, `parked`, \
        `expired`, `skipped`, `deferred`";
    "trigger" text "what led to it, one word";
    "slot" integer "which of the wanted observations";
    "operator" text "whose part it is";
    "worker" digest "which worker's";
}

columns! {
    DIFFS:
    "obs_id" digest "the observation";
    "position" integer "where its envelope lies in the journal";
    "n" integer "number in the explanation, from 0";
    "scope" text "which document or stream";
    "layer" integer "which layer, from 0";
    "path" text "a path, or a JSON pointer";
    "kind" text "what differs";
    "cause" text "the likeliest cause";
    "causes" text "all causes, the likeliest first";
    "detector" text "what found it, with its version";
    "causes_version" integer "version of the taxonomy of kinds and causes";
    "before" text "in the published image; null: not there";
    "after" text "in the rebuilt image; null: not there";
    "security" text "what this changes for a container";
}

columns! {
    MATERIALS:
    "obs_id" digest "the observation";
    "position" integer "where its envelope lies in the journal";
    "n" integer "number among the observation's inputs, from 0";
    "uri" text "the URI that the recipe implies";
    "sha256" digest "the bytes";
    "from" text "where they came from, if elsewhere";
    "verified_by" text "what vouched for them";
}

columns! {
    PACKAGES:
    "obs_id" digest "the observation";
    "position" integer "where its envelope lies in the journal";
    "n" integer "the same as in `materials`";
    "image_repository" text "where the image is published";
    "manifest_digest" digest "the published image";
    "platform" text "`linux/amd64`";
    "name" text "the package";
    "version" text "its version";
    "architecture" text "in apk's words";
    "package_repository" text "the repository that the recipe implies";
    "sha256" digest "the package file";
    "from" text "where it came from, if elsewhere";
    "verified_by" text "what vouched for it";
}

columns! {
    TAGS:
    "position" integer "where it lies in the journal";
    "recorded_at" time "the coordinator's clock when it was seen";
    "image_repository" text "the watched repository";
    "tag" text "the tag";
    "digest" digest "what it named";
    "before" digest "what it named before; null: it was new";
}

impl Table {
    /// Every table, in the order of the documentation.
    pub const ALL: [Self; 8] = [
        Self::Observations,
        Self::Verdicts,
        Self::Transitions,
        Self::Diffs,
        Self::Materials,
        Self::Packages,
        Self::Tags,
        Self::History,
    ];

    /// The name in commands.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::History => "history",
            Self::Observations => "observations",
            Self::Verdicts => "verdicts",
            Self::Transitions => "transitions",
            Self::Diffs => "diffs",
            Self::Materials => "materials",
            Self::Packages => "packages",
            Self::Tags => "tags",
        }
    }

    /// The schema that each row names.
    pub fn schema(self) -> String {
        format!("assay/{}/v1", self.as_str())
    }

    /// Its columns, in order.
    pub const fn columns(self) -> &'static [Column] {
        match self {
            Self::History => HISTORY,
            Self::Observations => OBSERVATIONS,
            Self::Verdicts => VERDICTS,
            Self::Transitions => TRANSITIONS,
            Self::Diffs => DIFFS,
            Self::Materials => MATERIALS,
            Self::Packages => PACKAGES,
            Self::Tags => TAGS,
        }
    }
}

/// The tables as docs/SCHEMA.md has them.
pub fn markdown() -> String {
    let mut text = String::new();
    for table in Table::ALL {
        let _ = write!(text, "\n## `{}`\nSchema `{}`.\n\n", table.as_str(), table.schema());
        text.push_str("| column | kind | what it says |\n|---|---|---|\n");
        for Column { name, kind, says } in table.columns() {
            let _ = writeln!(text, "| `{name}` | {kind} | {says} |");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeSet, path::Path};

    #[test]
    fn the_page_and_the_code_agree() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/SCHEMA.md");
        let page = std::fs::read_to_string(path).unwrap();
        let tables = page.find("\n## `").map_or("", |at| &page[at..]);
        assert_eq!(tables, markdown(), "write docs/SCHEMA.md anew from its first `## ` on");
    }

    #[test]
    fn names_are_unique_and_read_back() {
        for table in Table::ALL {
            assert_eq!(table.as_str().parse(), Ok(table));
            let names: BTreeSet<_> = table.columns().iter().map(|c| c.name).collect();
            assert_eq!(names.len(), table.columns().len(), "{table:?}");
        }
        assert!("jobs".parse::<Table>().is_err());
    }
}
