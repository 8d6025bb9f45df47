//! Packages and repositories of Alpine's package format, version 2: package files, indexes, keys,
//! versions, and the resolver that turns wishes into an installation order.
//!
//! Invariant: every parser here is a plain function of bytes, bounded, and refuses what could be
//! read in two ways. Reading is not trusting: what a file says about itself is checked, where it
//! came from is a separate question with its own answer. Nothing here touches a file system.

pub mod dependency;
pub mod gzip;
pub mod index;
pub mod key;
pub mod package;
pub mod pkginfo;
pub mod resolver;
pub mod tar;
pub mod version;
