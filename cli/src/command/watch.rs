//! `assay watch …`: repositories whose tags a coordinator follows.

use super::fleet::Connection;
use crate::{
    exit::Outcome,
    output::{self, Format},
};
use attest::time::Timestamp;
use proto::v1;

/// Subcommands of `watch`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Follows a repository: new tags, and tags that name another image, are submitted. A watch that
    /// is there is looked at now, and gets this interval.
    Add {
        /// registry.example/team/app
        repository: String,
        /// Which tags; `*` matches any characters.
        #[arg(long, default_value = "*")]
        tags: String,
        /// Seconds between looks.
        #[arg(long, default_value_t = 900)]
        interval: u32,
        #[command(flatten)]
        connection: Connection,
    },
    /// What is followed, and how the last look went.
    List {
        /// How the result is printed.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
        #[command(flatten)]
        connection: Connection,
    },
    /// Stops following.
    Remove {
        /// As `watch list` names it.
        watch: String,
        #[command(flatten)]
        connection: Connection,
    },
}

/// Runs a subcommand.
pub async fn run(command: Command) -> Outcome {
    match command {
        Command::Add { repository, tags, interval, connection } => {
            let request =
                v1::AddWatchRequest { repository, tag_pattern: tags, interval_seconds: interval };
            let answer = connection.ask(connection.images()?.add_watch(request)).await?;
            output::data(&answer.watch)?;
        }
        Command::List { format, connection } => {
            let request = v1::ListWatchesRequest {};
            let answer = connection.ask(connection.images()?.list_watches(request)).await?;
            print(&answer.watches, format)?;
        }
        Command::Remove { watch, connection } => {
            let request = v1::RemoveWatchRequest { watch };
            connection.ask(connection.images()?.remove_watch(request)).await?;
        }
    }
    Ok(0)
}

/// When it was looked at last, if it was.
fn looked(watch: &v1::WatchedRepository) -> Option<String> {
    let at = Timestamp::from_unix(watch.last_checked).ok().filter(|_| watch.last_checked > 0);
    at.map(|at| at.to_string())
}

fn print(watches: &[v1::WatchedRepository], format: Format) -> std::io::Result<()> {
    if format == Format::Json {
        let list: Vec<_> = watches
            .iter()
            .map(|w| {
                serde_json::json!({
                    "watch": w.watch, "repository": w.repository, "tags": w.tag_pattern,
                    "interval_seconds": w.interval_seconds, "last_checked": looked(w),
                    "last_error": w.last_error,
                })
            })
            .collect();
        return output::json(&serde_json::json!({"schema": "assay/watch/v1", "watches": list}));
    }
    let rows: Vec<Vec<String>> = watches
        .iter()
        .map(|w| {
            let every = format!("{} s", w.interval_seconds);
            let looked = looked(w).unwrap_or_else(|| "not yet".to_owned());
            let row = [&w.watch, &w.repository, &w.tag_pattern, &every, &looked, &w.last_error];
            row.map(Clone::clone).to_vec()
        })
        .collect();
    output::data(&output::table(
        &["WATCH", "REPOSITORY", "TAGS", "EVERY", "LAST LOOK", "LAST ERROR"],
        &rows,
    ))
}
