//! `assay submit IMAGE`: asks a coordinator to judge an image; with `--wait`, follows it to the end.

use super::{fleet::Connection, status};
use crate::{
    exit::Outcome,
    output::{self, Format},
    progress::Spinner,
};
use clap::ValueEnum;
use proto::v1;

/// The schema of what is printed.
const SUBMIT_SCHEMA: &str = "assay/submit/v1";

/// How urgent it is.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub enum Urgency {
    /// A gate waits for it.
    Gate,
    /// It was just pushed.
    #[default]
    Push,
    /// It was judged before.
    Recheck,
    /// Whenever there is time.
    Backfill,
}

impl Urgency {
    fn priority(self) -> v1::Priority {
        match self {
            Self::Gate => v1::Priority::Gate,
            Self::Push => v1::Priority::Push,
            Self::Recheck => v1::Priority::Recheck,
            Self::Backfill => v1::Priority::Backfill,
        }
    }
}

/// Arguments of `submit`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// registry/repo:tag or registry/repo@sha256:…
    image: String,
    /// Waits for the verdict; the exit code is then the verdict's.
    #[arg(long)]
    wait: bool,
    /// How urgent it is.
    #[arg(long, value_enum, default_value_t)]
    priority: Urgency,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    connection: Connection,
}

/// Runs the command. With `--format json` a failure is one JSON value, too.
pub async fn run(args: Args) -> Outcome {
    let (format, image) = (args.format, args.image.clone());
    let outcome = submitted(args).await;
    if let (Err(failure), Format::Json) = (&outcome, format) {
        output::json(&failure.json(SUBMIT_SCHEMA, &image))?;
    }
    outcome
}

async fn submitted(args: Args) -> Outcome {
    let mut client = args.connection.images()?;
    let request = v1::SubmitImageRequest {
        image: args.image.clone(),
        priority: args.priority.priority().into(),
    };
    let submitted = args.connection.ask_long(client.submit(request)).await?;
    let spinner = Spinner::new(&format!("{}@{}", submitted.repository, submitted.digest));
    let mut known_state = String::new();
    let state = loop {
        let request = v1::WatchImageRequest {
            repository: submitted.repository.clone(),
            digest: submitted.digest.clone(),
            known_state: known_state.clone(),
            wait_seconds: if args.wait { 30 } else { 0 },
        };
        let state = args.connection.ask_long(client.watch(request)).await?;
        if !args.wait || status::is_settled(&state) {
            break state;
        }
        spinner.say(status::summary(&state));
        known_state.clone_from(&state.state_digest);
    };
    drop(spinner);
    let exit = if args.wait { status::exit(&state) } else { 0 };
    match args.format {
        Format::Json => output::json(&status::json(SUBMIT_SCHEMA, &args.image, &state, exit))?,
        Format::Text => output::data(&status::text(&state))?,
    }
    Ok(exit)
}
