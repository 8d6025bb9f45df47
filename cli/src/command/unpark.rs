//! `assay unpark IMAGE|JOB`: jobs that were put aside are asked for again.
//!
//! Invariant: only what is parked is opened; what is judged or open is left as it is, and said so.

use super::{fleet::Connection, status};
use crate::{
    exit::{Failure, Outcome},
    output,
};
use attest::id::JobId;
use proto::v1;

/// Arguments of `unpark`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An image by digest: every parked platform of it; or one job, as `status --format json` names it.
    what: String,
    #[command(flatten)]
    connection: Connection,
}

/// Runs the command.
pub async fn run(args: Args) -> Outcome {
    let jobs = if args.what.parse::<JobId>().is_ok() {
        vec![args.what.clone()]
    } else {
        parked(&args).await?
    };
    let mut admin = args.connection.admin()?;
    for job in jobs {
        let request = v1::UnparkRequest { job: job.clone() };
        args.connection.ask(admin.unpark(request)).await?;
        output::say(&format!("{job} is open again"));
    }
    Ok(0)
}

async fn parked(args: &Args) -> Result<Vec<String>, Failure> {
    let (repository, digest) = status::by_digest(&args.what)?;
    let Some(state) = status::get(&args.connection, &repository, &digest).await? else {
        let text = format!("expected an image that was submitted, found none: {}", args.what);
        return Err(Failure::Operation(anyhow::anyhow!(text)));
    };
    let parked = state.platforms.iter().filter(|platform| platform.phase == "parked");
    let jobs: Vec<String> = parked.map(|platform| platform.job.clone()).collect();
    if jobs.is_empty() {
        return Err(Failure::Operation(anyhow::anyhow!(
            "expected a parked platform, found {}: nothing is to be done",
            status::summary(&state)
        )));
    }
    Ok(jobs)
}
