//! Why there is no answer, and where there is more than one.
//!
//! Invariant: an ambiguity is about what apko itself leaves to the random order of a Go map; it
//! names everything that chance may change.

/// A world cannot be resolved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum ResolveError {
    #[error("{asked_by}: expected a package that provides {wanted}, found none in the indexes")]
    NothingProvides { asked_by: String, wanted: String },
    #[error("{asked_by}: expected a package for {wanted}, found all ruled out: {ruled_out}")]
    RuledOut { asked_by: String, wanted: String, ruled_out: String },
    #[error("{package} and {other} both claim {name}")]
    Conflict { package: String, other: String, name: String },
    #[error("{asked_by} wants {wanted}, but {selected} was chosen already")]
    AlreadyChosen { asked_by: String, wanted: String, selected: String },
    #[error("{asked_by}: expected a version in {wanted}, found something else")]
    Version { asked_by: String, wanted: String },
    #[error("expected at most {max} {what}, found more")]
    Limit { what: &'static str, max: u64 },
}

impl ResolveError {
    /// True where a bound was exceeded: too much, not wrong.
    pub fn is_limit(&self) -> bool {
        matches!(self, Self::Limit { .. })
    }
}

/// Something that apko leaves to chance.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ambiguity {
    /// These packages were triggered together (`install_if`) by one entry of the world: apko
    /// installs them in any order, one behind the other, before the entry's own package.
    InstallIf {
        /// The entry of the world.
        world: String,
        /// The packages, in the order that was taken.
        packages: Vec<String>,
        /// True where a triggered package may trigger another: apko may or may not see that.
        chained: bool,
    },
    /// The best of these depends on the order in which they are compared.
    Provider {
        /// What was asked for.
        wanted: String,
        /// `name-version` of those that are not strictly worse, the taken one first.
        candidates: Vec<String>,
    },
    /// Packages of one origin were chosen at several versions; apko remembers any one of them.
    Origin {
        /// The origin.
        origin: String,
        /// The versions.
        versions: Vec<String>,
    },
}
