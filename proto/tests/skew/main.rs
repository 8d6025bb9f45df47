//! Two peers one version apart still understand each other.
//!
//! `golden/v0.1` holds every message as version 0.1 encodes it, with every field set, and
//! `fields.txt` every number, type and method. Both are only ever added to: a file that exists is
//! what peers in the field send. `ASSAY_RECORD=1` writes what is missing, and overwrites nothing.

mod descriptors;
mod golden;
mod wire;
