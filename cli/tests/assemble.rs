//! `assay assemble` with the built binary: every image of the fixtures that the real apko made comes
//! out of the command with the same digests; what is wrong gives its exit code and leaves nothing.

#[path = "assemble/hostile.rs"]
mod hostile;
#[path = "assemble/https.rs"]
mod https;
#[path = "bench/https.rs"]
mod server;
#[path = "assemble/support.rs"]
mod support;
#[path = "assemble/vectors.rs"]
mod vectors;
