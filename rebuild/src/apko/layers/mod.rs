//! From the finished tree to layers: which entry goes where, and writing them as tar streams.
//!
//! Invariant: planning touches no content and decides everything; after it the layers are
//! independent of each other and can be written on several threads, in any order, to the same
//! bytes. No layer is ever held in memory.

mod groups;
mod hash;
mod owners;
mod plan;
mod write;

pub use groups::{Group, groups};
pub use owners::Owners;
pub use plan::{Entry, Form, LayerPlan, Planner};
pub use write::{Blob, Depth, Discard, LayerSink, WrittenLayer, write_layers};
