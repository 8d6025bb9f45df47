//! `assay diff A B`: what differs between two images, platform by platform.

use super::{named, policy_file};
use crate::{
    exit::{Failure, Outcome},
    output::{self, Format},
    scratch::Scratch,
};
use attest::{Level, Platform, policy::Policy};
use oci::{Image, ImageSource, SourceOptions};
use rebuild::compare::{Comparison, Options, compare, render_text_of};
use std::path::{Path, PathBuf};
use worker::pipeline::{network, published::PublishedImage};

/// Arguments of `diff`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The first image.
    a: String,
    /// The second image.
    b: String,
    /// The platform; needed where an image has several.
    #[arg(long)]
    platform: Option<Platform>,
    /// A policy, for its exceptions of network safety; else the user's own.
    #[arg(long)]
    policy: Option<PathBuf>,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs the command. Exit 0: equal to the manifest; 10: something differs.
pub async fn run(args: Args) -> Outcome {
    let policy = policy_file::find_any(args.policy.as_deref())?;
    let folder = Scratch::new()?;
    let a = fetch(&args.a, &args, &policy, &folder.path().join("a")).await?;
    let b = fetch(&args.b, &args, &policy, &folder.path().join("b")).await?;
    let comparison =
        tokio::task::spawn_blocking(move || compare(&a, &b, &Options::default())).await??;
    print(&comparison, args.format)?;
    Ok(if comparison.level == Level::Manifest { 0 } else { 10 })
}

async fn fetch(
    image: &str,
    args: &Args,
    policy: &Policy,
    folder: &Path,
) -> Result<PublishedImage, Failure> {
    let reference = named::image(image)?;
    let options = SourceOptions { network: network(policy), ..SourceOptions::default() };
    let source = ImageSource::open(&reference, &options)?;
    let found = Image::read(&source, &reference).await?;
    let wanted = |e: &&oci::IndexEntry| args.platform.as_ref().is_none_or(|p| *p == e.platform);
    let entries: Vec<_> = found.entries.iter().filter(wanted).collect();
    let [entry] = entries.as_slice() else {
        let names: Vec<String> = found.entries.iter().map(|e| e.platform.to_string()).collect();
        return Err(Failure::Usage(format!(
            "expected one platform of {image}: give --platform, one of {}",
            names.join(", ")
        )));
    };
    std::fs::create_dir_all(folder)?;
    Ok(PublishedImage::fetch(&source, &found.subject(entry), folder).await?)
}

fn print(comparison: &Comparison, format: Format) -> Result<(), Failure> {
    match format {
        Format::Json => {
            let explanation: serde_json::Value =
                serde_json::from_slice(&comparison.explanation.to_bytes()?)?;
            output::json(&serde_json::json!({
                "schema": "assay/diff/v1",
                "level": comparison.level,
                "a": comparison.published,
                "b": comparison.rebuilt,
                "explanation": explanation,
            }))?;
        }
        Format::Text => output::data(&render_text_of(&comparison.explanation, "A -> B"))?,
    }
    Ok(())
}
