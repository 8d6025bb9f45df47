//! What an observation may hold: bounds, and the agreement of its digests with its bytes.
//!
//! Invariant: the same checks run before signing and after reading, so nothing can be signed that
//! would be refused, and nothing is read that could not have been signed. An output's digests are
//! those of the manifest that it carries: they can't be claimed apart from it.

use super::{
    MANIFEST_BYTES_MAX, Observation, Outcome, Output, PAYLOAD_BYTES_MAX,
    facts::{Hint, Material},
};
use crate::{
    Digest,
    canonical::CanonicalError,
    dsse::EnvelopeError,
    id::WorkerId,
    image_manifest::{ImageManifest, ManifestError},
    name::NameError,
    recipe::RECIPES_MAX,
    statement::StatementError,
};

/// Most materials: the largest apko images have about 1,000 packages, and two indexes each.
pub const MATERIALS_MAX: usize = 4096;
/// Most layers: the overlay file system of container runtimes stops at 127.
pub const LAYERS_MAX: usize = 127;
/// Most gaps, hints, searched flags, paths of one hint, reasons of one layer.
pub const LIST_MAX: usize = 256;
/// Longest text: a path of Linux has at most 4096 bytes, a URI here no more.
pub const TEXT_BYTES_MAX: usize = 4096;
/// Longest name of a class, limit, hint or flag.
pub const TOKEN_BYTES_MAX: usize = 64;
/// Sizes and durations stay within what every JSON reader keeps exactly.
const INTEGER_MAX: u64 = 1 << 53;

/// What can be wrong with an observation.
#[derive(Debug, thiserror::Error)]
pub enum ObservationError {
    /// Larger than [`PAYLOAD_BYTES_MAX`].
    #[error("expected an observation of at most {PAYLOAD_BYTES_MAX} bytes, found {0}")]
    TooLarge(usize),
    /// Not exactly one signature: the worker's.
    #[error("expected exactly one signature, the worker's, found {0}")]
    Signatures(usize),
    /// Not one of the two payload types.
    #[error("expected an in-toto statement or an outcome as payload type, found {0:?}")]
    PayloadType(String),
    /// Not the JSON of an observation; unknown fields are refused.
    #[error("expected an observation: {0}")]
    Json(#[from] serde_json::Error),
    /// Not an in-toto statement.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// A fixed field has another value.
    #[error("expected {field} to be {expected:?}, found {found:?}")]
    Fixed {
        /// The field.
        field: &'static str,
        /// What it must be.
        expected: String,
        /// What it is, at most 200 characters of it.
        found: String,
    },
    /// The bytes are not those that this version writes for what they say.
    #[error(
        "expected the canonical bytes of the observation, found another spelling from byte {at} on"
    )]
    Spelling {
        /// The first byte that differs.
        at: usize,
    },
    /// A list is too long, or empty where it must not be.
    #[error("expected {field} to have {expected}, found {found}")]
    Count {
        /// The field.
        field: &'static str,
        /// How many were allowed.
        expected: String,
        /// How many there are.
        found: usize,
    },
    /// A text that is too long, empty, or holds control characters.
    #[error("expected {field} to be {expected}")]
    Text {
        /// The field.
        field: &'static str,
        /// What would have been accepted.
        expected: &'static str,
    },
    /// The rebuilt manifest cannot be read.
    #[error("the rebuilt manifest: {0}")]
    Manifest(#[from] ManifestError),
    /// A digest that is not the one of the manifest that the observation carries.
    #[error("expected {field} to be {expected} as in the rebuilt manifest, found {found}")]
    Output {
        /// The field.
        field: &'static str,
        /// What the manifest's bytes say.
        expected: String,
        /// What the observation says.
        found: String,
    },
    /// The key that should sign is not the worker's.
    #[error("expected the key of worker {expected}, found key {found}")]
    OtherKey {
        /// The worker in the observation.
        expected: WorkerId,
        /// The key that was given.
        found: WorkerId,
    },
    /// A name cannot be read.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A digest cannot be read.
    #[error(transparent)]
    Digest(#[from] crate::digest::DigestError),
    /// A number has no canonical form.
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
    /// Signing failed.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
}

/// A text made fit for an observation: one line, at most `bytes_max` bytes, control characters
/// and line breaks turned into spaces. For error messages of builders.
pub fn one_line(text: &str, bytes_max: usize) -> String {
    let mut line = String::with_capacity(text.len().min(bytes_max));
    for c in text.trim().chars() {
        let c = if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') { ' ' } else { c };
        if line.len() + c.len_utf8() > bytes_max {
            break;
        }
        line.push(c);
    }
    line
}

pub(super) fn payload_size(bytes: usize) -> Result<(), ObservationError> {
    if bytes > PAYLOAD_BYTES_MAX { Err(ObservationError::TooLarge(bytes)) } else { Ok(()) }
}

fn text(field: &'static str, value: &str) -> Result<(), ObservationError> {
    if value.len() <= TEXT_BYTES_MAX && !value.chars().any(char::is_control) {
        return Ok(());
    }
    Err(ObservationError::Text { field, expected: "one line of at most 4096 bytes" })
}

fn token(field: &'static str, value: &str) -> Result<(), ObservationError> {
    let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_');
    if (1..=TOKEN_BYTES_MAX).contains(&value.len()) && value.bytes().all(allowed) {
        return Ok(());
    }
    Err(ObservationError::Text { field, expected: "1 to 64 of a-z 0-9 - . _" })
}

fn at_most(field: &'static str, found: usize, max: usize) -> Result<(), ObservationError> {
    if found <= max {
        return Ok(());
    }
    Err(ObservationError::Count { field, expected: format!("at most {max}"), found })
}

pub(super) fn check(observation: &Observation) -> Result<(), ObservationError> {
    for (field, value) in [
        ("tag", &observation.tag),
        ("publisher", &observation.publisher),
        ("source.repository", &observation.source.as_ref().map(|s| s.repository.clone())),
        ("source.commit", &observation.source.as_ref().and_then(|s| s.commit.clone())),
        ("builder.name", &observation.builder.as_ref().map(|b| b.name.clone())),
        ("builder.version", &observation.builder.as_ref().and_then(|b| b.version.clone())),
    ] {
        text(field, value.as_deref().unwrap_or_default())?;
    }
    text("operator_uri", &observation.operator_uri)?;
    if !observation.operator_uri.contains(':') {
        return Err(ObservationError::Text { field: "operator_uri", expected: "a URI" });
    }
    recipes(observation)?;
    environment(observation)?;
    materials(&observation.materials)?;
    hints(&observation.hints)?;
    at_most("searched", observation.searched.len(), LIST_MAX)?;
    for searched in &observation.searched {
        token("searched.flag", &searched.flag)?;
        text("searched.value", &searched.value)?;
    }
    at_most("hygiene", observation.hygiene.len(), LAYERS_MAX)?;
    for fact in &observation.hygiene {
        at_most("hygiene.why", fact.why.len(), LIST_MAX)?;
        fact.why.iter().try_for_each(|why| text("hygiene.why", why))?;
        if !fact.clean && fact.why.is_empty() {
            let expected = "a reason where a layer is not clean";
            return Err(ObservationError::Text { field: "hygiene.why", expected });
        }
    }
    outcome(&observation.outcome)
}

fn recipes(observation: &Observation) -> Result<(), ObservationError> {
    let tried = &observation.recipes_tried;
    at_most("recipes_tried", tried.len(), RECIPES_MAX)?;
    let ordered = tried.windows(2).all(|pair| pair[0] < pair[1]);
    let listed = observation.recipe.is_none_or(|recipe| tried.contains(&recipe));
    if !ordered || !listed {
        return Err(ObservationError::Text {
            field: "recipes_tried",
            expected: "ascending, without repetition, with the recipe among them",
        });
    }
    if observation.output().is_some() && observation.recipe.is_none() {
        return Err(ObservationError::Text { field: "recipe", expected: "there with an OUTPUT" });
    }
    Ok(())
}

fn environment(observation: &Observation) -> Result<(), ObservationError> {
    let environment = &observation.environment;
    for (field, value) in [
        ("environment.worker_version", &environment.worker_version),
        ("environment.rebuilder", &environment.rebuilder),
        ("environment.kernel", &environment.kernel),
        ("environment.cpu", &environment.cpu),
        ("environment.cpu_vendor", &environment.cpu_vendor),
        ("environment.filesystem", &environment.filesystem),
        ("environment.umask", &environment.umask),
        ("environment.timezone", &environment.timezone),
        ("environment.locale", &environment.locale),
        ("environment.architecture", &environment.architecture),
    ] {
        text(field, value)?;
    }
    Ok(())
}

fn materials(materials: &[Material]) -> Result<(), ObservationError> {
    at_most("materials", materials.len(), MATERIALS_MAX)?;
    materials.iter().try_for_each(|material| {
        text("materials.uri", &material.uri)?;
        text("materials.from", material.from.as_deref().unwrap_or_default())?;
        text("materials.verified_by", &material.verified_by)
    })
}

fn hints(hints: &[Hint]) -> Result<(), ObservationError> {
    at_most("hints", hints.len(), LIST_MAX)?;
    hints.iter().try_for_each(|hint| {
        token("hints.name", &hint.name)?;
        at_most("hints.decided", hint.decided.len(), LIST_MAX)?;
        hint.decided.iter().try_for_each(|path| text("hints.decided", path))
    })
}

fn outcome(outcome: &Outcome) -> Result<(), ObservationError> {
    match outcome {
        Outcome::Output(built) => output(built),
        Outcome::BuildFailed { class, detail } => {
            token("class", class)?;
            text("detail", detail)
        }
        Outcome::RecipeInvalid { gaps } => {
            at_most("gaps", gaps.len(), LIST_MAX)?;
            if gaps.is_empty() {
                let expected = "at least one gap".to_owned();
                return Err(ObservationError::Count { field: "gaps", expected, found: 0 });
            }
            gaps.iter().try_for_each(|gap| text("gaps.detail", &gap.detail))
        }
        Outcome::InputUnavailable { gap, uri } => {
            text("gap.detail", &gap.detail)?;
            text("uri", uri)
        }
        Outcome::Timeout { .. } => Ok(()),
        Outcome::LimitExceeded { limit, detail } => {
            token("limit", limit)?;
            text("detail", detail)
        }
        Outcome::Refused { detail, .. } => text("detail", detail),
    }
}

/// The digests of an output are those of the manifest that it carries.
fn output(output: &Output) -> Result<(), ObservationError> {
    at_most("manifest_bytes", output.manifest_bytes.len(), MANIFEST_BYTES_MAX)?;
    at_most("layers", output.layers.len(), LAYERS_MAX)?;
    let differs = |field, expected: String, found: String| {
        if expected == found {
            return Ok(());
        }
        Err(ObservationError::Output { field, expected, found })
    };
    let hashed = Digest::of(&output.manifest_bytes);
    differs("manifest", hashed.to_string(), output.manifest.to_string())?;
    let manifest = ImageManifest::parse(&output.manifest_bytes)?;
    differs("config", manifest.config.digest.to_string(), output.config.to_string())?;
    let counts = (manifest.layers.len().to_string(), output.layers.len().to_string());
    differs("the number of layers", counts.0, counts.1)?;
    for (descriptor, layer) in manifest.layers.iter().zip(&output.layers) {
        if let Some(blob) = layer.blob {
            differs("a layer's blob", descriptor.digest.to_string(), blob.to_string())?;
        }
        differs("a layer's size", descriptor.size.to_string(), layer.size.to_string())?;
        if layer.size > INTEGER_MAX {
            return Err(ObservationError::Text { field: "size", expected: "within 2^53" });
        }
    }
    Ok(())
}
