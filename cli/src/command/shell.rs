//! `assay completions SHELL` and `assay man DIR`, made from the same definitions as `--help`.

use crate::{
    exit::{Failure, Outcome},
    output,
};
use std::path::PathBuf;

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
pub struct CompletionsArgs {
    /// For which shell.
    shell: clap_complete::Shell,
}

/// Arguments of `man`.
#[derive(Debug, clap::Args)]
pub struct ManArgs {
    /// Where the pages go; it must exist.
    dir: PathBuf,
}

/// Prints completions.
pub fn completions(mut command: clap::Command, args: &CompletionsArgs) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "assay", &mut script);
    output::data(&String::from_utf8_lossy(&script))?;
    Ok(0)
}

/// Writes one page for each command.
pub fn man(command: clap::Command, args: &ManArgs) -> Outcome {
    if !args.dir.is_dir() {
        let text = format!("expected {} to be a folder", args.dir.display());
        return Err(Failure::Usage(text));
    }
    clap_mangen::generate_to(command, &args.dir)?;
    Ok(0)
}
