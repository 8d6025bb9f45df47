//! The gate: decides from a policy and evidence whether an image may pass.
//!
//! ```text
//! check    a reference -> its digest and platforms -> evidence -> judge -> decide -> report
//! image    which images have to be judged: every platform, bound to the digest of the reference
//! collect  evidence from files, folders, coordinators, registries
//! assess   one image: judged again from observations, aged, decided (pure)
//! decision policy + what is known -> admit | warn | deny (pure)
//! promote  moves a tag to a digest that was admitted
//! ```
//! Invariant: what is admitted carries exactly the digest that was judged. The gate judges by
//! itself: a verdict or an attestation in the evidence lends at most its time. Unknown is not good,
//! and what could not be read is neither: it is an error in every mode.
//! It must never rebuild anything, wait for a fleet, or decide by a tag.

pub mod age;
pub mod assess;
pub mod check;
pub mod collect;
pub mod decision;
pub mod error;
pub mod image;
pub mod outcome;
pub mod promote;
pub mod report;

pub use assess::Ruling;
pub use check::{Check, Checked, check};
pub use collect::EvidenceSource;
pub use decision::{Before, Decision, Facts, Rules, decide};
pub use error::GateError;
pub use outcome::{Admission, Class, Outcome};
pub use report::Report;
