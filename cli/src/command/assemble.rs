//! `assay assemble CONFIG`: a pure Rust `apko build`.

use super::{named, policy_file};
use crate::{
    exit::{Failure, Outcome},
    output::{self, Format},
    progress::Bar,
    scratch::Scratch,
};
use attest::policy::{Mirror, Policy};
use rebuild::apko::BuildTimes;
use std::{path::PathBuf, sync::Arc};
use worker::{
    assemble::{
        AssembleFailure, AssembleProgress, AssembleRequest, AssembleTools, AssembledImage,
        assemble, layout::REFERENCE,
    },
    material::{ContentStore, release_list, store::STORE_BYTES_MAX_DEFAULT},
};

/// The variable that apko reads too.
const EPOCH_VARIABLE: &str = "SOURCE_DATE_EPOCH";

/// Arguments of `assemble`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// apko's YAML, the attested JSON, or apko.lock.json. Relative paths in it are relative to the
    /// working folder.
    config: PathBuf,
    /// Only these architectures, by either name; else those of the configuration.
    #[arg(long = "arch", value_delimiter = ',')]
    architectures: Vec<String>,
    /// The packages to take, in their order (apko.lock.json).
    #[arg(long)]
    lockfile: Option<PathBuf>,
    /// One more repository, a folder or a URL; it is in the image's list too, as for apko.
    #[arg(long = "repository")]
    repositories: Vec<String>,
    /// One more key file; it is in the image too, as for apko.
    #[arg(long = "keyring")]
    keyring: Vec<String>,
    /// Where Alpine's release list (releases.json) is: as apko does, the keys that it names today
    /// are added for repositories like https://…/alpine/v3.20/main. There is no default.
    #[arg(long, value_name = "URL", value_parser = release_list::address)]
    alpine_releases: Option<String>,
    /// Takes indexes without a signature. Packages are still checked against their index.
    #[arg(long)]
    ignore_signatures: bool,
    /// The version to behave like: apko=1.2.39. Else the newest known.
    #[arg(id = "builder", long = "as", value_name = "apko=VERSION", value_parser = version)]
    version: Option<String>,
    /// An image, or a file of package names, one a line, that has the order of installation.
    #[arg(long, value_name = "IMAGE_OR_FILE")]
    order_from: Option<String>,
    /// When the image was built, like 2026-02-01T00:00:00Z.
    #[arg(long, value_parser = date)]
    build_date: Option<i64>,
    /// One annotation, KEY:VALUE; it wins over the configuration.
    #[arg(long = "annotation", value_name = "K:V", value_parser = annotation)]
    annotations: Vec<(String, String)>,
    /// The folder that the OCI layout becomes; new or empty.
    #[arg(long)]
    output: PathBuf,
    /// Reads files whose URI starts with PREFIX from URL: PREFIX=URL.
    #[arg(long = "mirror", value_parser = policy_file::mirror)]
    mirrors: Vec<Mirror>,
    /// A policy, for its exceptions of network safety and its keys of repositories.
    #[arg(long)]
    policy: Option<PathBuf>,
    /// Where inputs are kept between runs; else a folder that goes away.
    #[arg(long, env = "ASSAY_STORE")]
    store: Option<PathBuf>,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

fn version(text: &str) -> Result<String, String> {
    let version = text.strip_prefix("apko=").filter(|version| !version.is_empty());
    version.map(str::to_owned).ok_or_else(|| "expected apko=VERSION, like apko=1.2.39".to_owned())
}

fn date(text: &str) -> Result<i64, String> {
    rebuild::go::time::parse(text).map_err(|error| error.to_string())
}

fn annotation(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once(':').filter(|(key, _)| !key.is_empty());
    let parts = parts.map(|(key, value)| (key.to_owned(), value.to_owned()));
    parts.ok_or_else(|| "expected KEY:VALUE".to_owned())
}

/// The variable as apko reads it: not there, blank, or a number.
fn epoch() -> Result<Option<Option<i64>>, Failure> {
    let Some(value) = std::env::var_os(EPOCH_VARIABLE) else { return Ok(None) };
    let text = value.to_string_lossy();
    match text.trim() {
        "" => Ok(Some(None)),
        number => number.parse().map(|epoch| Some(Some(epoch))).map_err(|_| {
            Failure::Usage(format!("expected {EPOCH_VARIABLE} to be seconds, found {text:?}"))
        }),
    }
}

/// Runs the command.
pub async fn run(args: Args) -> Outcome {
    let policy = match &args.policy {
        Some(path) => policy_file::read(path)?,
        None => Policy::default(),
    };
    let source_date_epoch = epoch()?;
    named::folder_to_make("--store", args.store.as_deref(), named::PRIVATE)?;
    let request = AssembleRequest {
        config: args.config.clone(),
        architectures: args.architectures.clone(),
        lockfile: args.lockfile.clone(),
        repositories: args.repositories.clone(),
        keyring: args.keyring.clone(),
        alpine_releases: args.alpine_releases.clone(),
        ignore_signatures: args.ignore_signatures,
        version: args.version.clone(),
        order_from: args.order_from.clone(),
        times: BuildTimes { source_date_epoch, build_date: args.build_date },
        annotations: args.annotations.clone(),
        output: args.output.clone(),
    };
    let bar = Arc::new(Bar::new());
    let progress: Arc<dyn AssembleProgress> = Arc::<Bar>::clone(&bar);
    let made = build(&args, policy, &request, &progress).await;
    bar.clear();
    match made {
        Ok(made) => {
            match args.format {
                Format::Json => output::json(&made)?,
                Format::Text => output::data(&text(&made, &args))?,
            }
            Ok(0)
        }
        Err(failure) => {
            output::say(&format!("error: {failure}"));
            if let Some(hint) = failure.hint() {
                output::say(&format!("hint: {hint}"));
            }
            Ok(failure.exit())
        }
    }
}

async fn build(
    args: &Args,
    policy: Policy,
    request: &AssembleRequest,
    progress: &Arc<dyn AssembleProgress>,
) -> Result<AssembledImage, AssembleFailure> {
    let work = Scratch::new().map_err(|source| AssembleFailure::Io {
        doing: "making a folder for temporary files".into(),
        source,
    })?;
    let store = match &args.store {
        Some(store) => ContentStore::open(store, STORE_BYTES_MAX_DEFAULT)?,
        None => ContentStore::scratch(work.path().join("store"), STORE_BYTES_MAX_DEFAULT)?,
    };
    let store = Arc::new(store);
    let folder = work.path().to_owned();
    let tools = AssembleTools::new(Arc::new(policy), args.mirrors.clone(), store, folder)?;
    assemble(request, &tools, progress).await
}

fn text(made: &AssembledImage, args: &Args) -> String {
    let rows: Vec<Vec<String>> = made
        .platforms
        .iter()
        .map(|platform| {
            let size: u64 = platform.layers.iter().map(|layer| layer.size).sum();
            vec![
                platform.platform.to_string(),
                platform.manifest.to_string(),
                platform.packages.len().to_string(),
                platform.layers.len().to_string(),
                format!("{:.1} MiB", size as f64 / f64::from(1 << 20)),
            ]
        })
        .collect();
    let table = output::table(&["PLATFORM", "MANIFEST", "PACKAGES", "LAYERS", "SIZE"], &rows);
    let place = args.output.display();
    format!("index {} as by apko {}\nin oci:{place}:{REFERENCE}\n\n{table}", made.index, made.apko)
}
