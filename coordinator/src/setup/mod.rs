//! The coordinator's folder: configuration, keys, certificates; `assay coordinator init` makes it.
//!
//! Invariant: a secret lies in a file of mode 0600 and the program refuses to start on one that
//! others can read; `init` never overwrites anything. The coordinator has a verdict key and a TLS
//! key, and no key of any worker or operator.

pub mod check;
pub mod config;
pub mod init;
pub mod secret;

pub use config::{ConfigError, CoordinatorConfig, Loaded};
pub use init::{InitError, InitOptions, init};
pub use secret::{SecretError, read_secret, write_secret};
