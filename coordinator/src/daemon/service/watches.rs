//! Watches, as clients add, list and remove them.
//!
//! Invariant: a client sees and ends its own watches only; administrators see and end all.

use super::store_status;
use crate::{
    daemon::{
        Core,
        watch::{Watch, WatchError},
    },
    setup::config::ClientRule,
};
use attest::policy::{PatternError, TagPattern};
use proto::{convert, status, v1};
use tonic::Status;

fn watch_status(error: &WatchError) -> Status {
    match error {
        WatchError::Store(error) => store_status(error),
        WatchError::Interval(_) => status::malformed(error),
        WatchError::Unknown(_) => status::missing(error),
        WatchError::TooMany { .. } => status::precondition(error),
        WatchError::Record { .. } => status::unavailable(error),
    }
}

pub(super) async fn add(
    core: &Core,
    client: ClientRule,
    message: v1::AddWatchRequest,
) -> Result<String, Status> {
    let repository = convert::repository(&message.repository)?;
    if oci::reference::host_and_path(&repository).is_none() {
        return Err(status::malformed(format!(
            "expected a repository with its registry, like registry.example/team/app, found \
             {repository}"
        )));
    }
    let tags: TagPattern =
        message.tag_pattern.parse().map_err(|error: PatternError| status::malformed(error))?;
    let interval_seconds = message.interval_seconds;
    let watch = Watch { repository, tags, interval_seconds, tenant: client.name };
    core.watches.add(core.store.as_ref(), watch).await.map_err(|error| watch_status(&error))
}

pub(super) fn list(core: &Core, client: &ClientRule) -> Vec<v1::WatchedRepository> {
    let own = |watch: &Watch| client.administrator || watch.tenant == client.name;
    let all = core.watches.list().into_iter().filter(|(_, standing)| own(&standing.watch));
    all.map(|(id, standing)| v1::WatchedRepository {
        watch: id,
        repository: standing.watch.repository.to_string(),
        tag_pattern: standing.watch.tags.to_string(),
        interval_seconds: standing.watch.interval_seconds,
        last_checked: standing.last_checked.map_or(0, |at| at.unix()),
        last_error: standing.last_error,
    })
    .collect()
}

pub(super) async fn remove(core: &Core, client: &ClientRule, id: &str) -> Result<(), Status> {
    let may = |watch: &Watch| client.administrator || watch.tenant == client.name;
    let removed = core.watches.remove(core.store.as_ref(), id, may).await;
    removed.map_err(|error| watch_status(&error))
}
