//! Compiles the .proto files with a compiler in Rust, so that a fresh machine needs no `protoc`.
//! Writes the descriptor set beside the code, for gRPC reflection.

use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let files = ["common", "worker", "image", "admin"].map(|f| format!("assay/v1/{f}.proto"));
    for file in &files {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(&files, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?).join("assay_v1.bin");
    fs::write(out, prost::Message::encode_to_vec(&descriptors))?;
    tonic_prost_build::configure().build_transport(true).compile_fds(descriptors)?;
    Ok(())
}
