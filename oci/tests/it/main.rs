//! Tests of `oci` from outside: published layouts, hostile layouts, registries with faults, real
//! registries.

mod hostile_layout;
mod published;
