//! How apko makes an image from a configuration and packages, to the byte, by apko's version.
//!
//! Invariant: the same configuration, packages in the same order, keys, times and behaviour give
//! the same bytes on any machine and any number of threads. Nothing comes from the published
//! image; what is not supported is a gap, never a different image.
//!
//! The way of the data: [`config`] says what to make, [`behaviour`] how that version of apko does
//! it; the packages are installed into a tree ([`fs`], [`install`]), the build adds its own files
//! ([`post`]), the tree is cut into layers ([`layers`]) and described ([`oci`]).

pub mod assemble;
pub mod behaviour;
pub mod config;
mod content;
pub mod database;
pub mod error;
pub mod fs;
pub mod install;
pub mod layers;
pub mod oci;
pub mod post;
pub mod times;

pub use assemble::{AssembledLayer, Assembly, AssemblyInput, assemble};
pub use behaviour::{Behaviour, Capability};
pub use config::{ConfigError, ImageConfiguration};
pub use error::AssembleError;
pub use install::{Conflict, Rule};
pub use layers::{Blob, Depth, Discard, LayerSink, WrittenLayer};
pub use oci::{IndexEntry, index};
pub use times::BuildTimes;
