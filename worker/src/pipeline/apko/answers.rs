//! What an error of one part answers about the rebuild as a whole.
//!
//! Invariant: a source or a machine that failed is operational, what the recipe or this version
//! cannot say is a gap, what went past a limit is a limit. None of them is ever a difference of two
//! images.

use crate::material::MaterialError;
use crate::pipeline::attempt::Answer;
use attest::{Gap, GapCode};
use rebuild::{apko::AssembleError, compare::CompareError};

pub(super) fn of_material(error: MaterialError) -> Answer {
    match (&error, error.gap()) {
        (MaterialError::Gone { .. }, Some(gap)) => Answer::InputGone(gap),
        (MaterialError::Limit { .. }, _) => {
            Answer::Limit { limit: "material".to_owned(), detail: error.to_string() }
        }
        (_, Some(gap)) => Answer::RecipeInvalid(vec![gap]),
        (_, None) => Answer::Operational(error.to_string()),
    }
}

/// What follows where an answer hangs on an index that could not be used.
pub(super) fn of_index(error: &MaterialError) -> Answer {
    let detail = format!("the order of installation cannot be told: {error}");
    match error.gap() {
        Some(gap) => Answer::RecipeInvalid(vec![Gap::new(gap.code, detail)]),
        None => Answer::Operational(detail),
    }
}

pub(super) fn of_assembly(error: AssembleError) -> Answer {
    let detail = error.to_string();
    match (&error, error.gap()) {
        (AssembleError::Unsupported(gaps), _) => Answer::RecipeInvalid(gaps.clone()),
        (_, None) => Answer::Operational(detail),
        (_, Some(gap)) if gap.code == GapCode::Limit => {
            Answer::Limit { limit: "assembly".to_owned(), detail }
        }
        _ => Answer::BuildFailed { class: "assembly".to_owned(), detail },
    }
}

pub(super) fn of_comparison(error: &CompareError) -> Answer {
    match error.gap() {
        Some(gap) if gap.code == GapCode::Limit => {
            Answer::Limit { limit: "comparison".to_owned(), detail: gap.detail }
        }
        Some(gap) => Answer::RecipeInvalid(vec![gap]),
        None => Answer::Operational(error.to_string()),
    }
}
