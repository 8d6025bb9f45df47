//! Writes the seeds of every target: `cargo run -p assay-fuzz-targets --example seeds -- FOLDER`.
//!
//! Invariant: a seed's name is the digest of its bytes, so a second run changes nothing.

use std::{fs, path::PathBuf};

fn main() -> std::io::Result<()> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| panic!("expected a folder, found no argument"));
    for target in targets::ALL {
        let folder = folder.join(target.name);
        fs::create_dir_all(&folder)?;
        for seed in targets::seeds::of(target.name) {
            fs::write(folder.join(&attest::Digest::of(&seed).to_string()[7..23]), seed)?;
        }
    }
    Ok(())
}
