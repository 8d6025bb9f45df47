//! The connection of a client or administrator to a coordinator.
//!
//! Invariant: TLS with the authority that was given, a client certificate of the client's own key;
//! what the coordinator answers is shown, never believed where a signature could decide.

use crate::{
    exit::{Failure, Outcome},
    output::{self, Format},
};
use attest::{dsse::Envelope, time::Timestamp};
use proto::{
    MESSAGE_BYTES_MAX,
    v1::{
        self, admin_service_client::AdminServiceClient, image_service_client::ImageServiceClient,
    },
};
use std::{
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};
use tonic::transport::Channel;
use worker::daemon::{connect, identity::Identity};

/// How a coordinator is reached.
#[derive(Debug, Clone, clap::Args)]
pub struct Connection {
    /// https://host:port of the coordinator's gRPC.
    #[arg(long, env = "ASSAY_COORDINATOR")]
    pub(super) coordinator: String,
    /// PEM of the authority of its certificate (`ca.pem` of its folder).
    #[arg(long, env = "ASSAY_CA")]
    pub(super) ca: Option<PathBuf>,
    /// This client's key, as the coordinator's configuration names it (mode 0600).
    #[arg(long, env = "ASSAY_KEY")]
    pub(super) key: PathBuf,
}

impl Connection {
    fn channel(&self) -> Result<Channel, Failure> {
        let ca = self.ca.as_ref().map(std::fs::read_to_string).transpose().map_err(|error| {
            Failure::Usage(format!("expected to read the authority's PEM: {error}"))
        })?;
        let identity = Identity::load(&self.key)?;
        Ok(connect::channel(&self.coordinator, ca.as_deref(), &identity)?)
    }

    /// The service about images.
    pub fn images(&self) -> Result<ImageServiceClient<Channel>, Failure> {
        Ok(ImageServiceClient::new(self.channel()?)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX))
    }

    /// The service for administrators.
    pub fn admin(&self) -> Result<AdminServiceClient<Channel>, Failure> {
        Ok(AdminServiceClient::new(self.channel()?))
    }
}

/// What a refused or failed call means for the command line.
pub fn failed(status: tonic::Status) -> Failure {
    let text = connect::chain(&status);
    match status.code() {
        tonic::Code::InvalidArgument => Failure::Usage(status.message().to_owned()),
        _ => Failure::Operation(anyhow::anyhow!("the coordinator says: {text}")),
    }
}

/// This machine's clock. One that says nothing is an error: taken for 1970 it would open again
/// whatever has ended since.
pub fn now() -> Result<Timestamp, Failure> {
    moment(SystemTime::now())
}

fn moment(clock: SystemTime) -> Result<Timestamp, Failure> {
    let unread = |found: String| {
        Failure::Operation(anyhow::anyhow!(
            "expected this machine's clock to say a time of the years 1970 to 9999, found {found}. \
             Set the clock"
        ))
    };
    let since = clock
        .duration_since(UNIX_EPOCH)
        .map_err(|error| unread(format!("one {} s before 1970", error.duration().as_secs())))?;
    let seconds = since.as_secs();
    let time = i64::try_from(seconds).ok().and_then(|s| Timestamp::from_unix(s).ok());
    time.ok_or_else(|| unread(format!("one {seconds} s after 1970")))
}

/// Hands in an operator's record.
pub async fn add_operator(connection: &Connection, record: &Envelope) -> Result<(), Failure> {
    let request = v1::AddOperatorRequest { record_envelope: record.to_json() };
    let answer = connection.admin()?.add_operator(request).await.map_err(failed)?;
    let position = answer.into_inner().journal_position;
    output::say(&format!("the operator is in the journal, at {position}"));
    Ok(())
}

/// Hands in a worker's record.
pub async fn enroll_worker(connection: &Connection, record: &Envelope) -> Result<(), Failure> {
    let request = v1::EnrollWorkerRequest { record_envelope: record.to_json() };
    let answer = connection.admin()?.enroll_worker(request).await.map_err(failed)?;
    let position = answer.into_inner().journal_position;
    output::say(&format!("the worker is in the journal, at {position}"));
    Ok(())
}

/// Hands in a revocation.
pub async fn revoke(connection: &Connection, revocation: &Envelope) -> Result<(), Failure> {
    let request = v1::RevokeRequest { revocation_envelope: revocation.to_json() };
    let answer = connection.admin()?.revoke(request).await.map_err(failed)?;
    let position = answer.into_inner().journal_position;
    output::say(&format!("the revocation is in the journal, at {position}"));
    Ok(())
}

/// Prints operators and workers.
pub async fn list_operators(connection: &Connection, format: Format) -> Outcome {
    let request = v1::ListOperatorsRequest {};
    let answer = connection.admin()?.list_operators(request).await.map_err(failed)?;
    let operators = answer.into_inner().operators;
    match format {
        Format::Json => {
            let list: Vec<_> = operators.iter().map(operator_json).collect();
            let value = serde_json::json!({"schema": "assay/operators/v1", "operators": list});
            output::json(&value)?;
        }
        Format::Text => {
            let mut rows = Vec::new();
            for operator in &operators {
                let state = if operator.revoked { "revoked" } else { "" };
                rows.push(vec![operator.operator.clone(), String::new(), state.to_owned()]);
                for worker in &operator.workers {
                    rows.push(vec![
                        String::new(),
                        worker.worker.clone(),
                        worker.state.clone(),
                        worker.leases.to_string(),
                        last_seen(worker).unwrap_or_else(|| "-".to_owned()),
                        version(worker).unwrap_or("-").to_owned(),
                    ]);
                }
            }
            let header = ["OPERATOR", "WORKER", "STATE", "LEASES", "LAST SEEN", "VERSION"];
            output::data(&output::table(&header, &rows))?;
        }
    }
    Ok(0)
}

/// When a worker was heard last; none where it was not since the coordinator's start.
fn last_seen(worker: &v1::WorkerSummary) -> Option<String> {
    let at = Timestamp::from_unix(worker.last_seen).ok().filter(|_| worker.last_seen > 0);
    at.map(|at| at.to_string())
}

fn version(worker: &v1::WorkerSummary) -> Option<&str> {
    Some(worker.worker_version.as_str()).filter(|version| !version.is_empty())
}

fn operator_json(operator: &v1::OperatorSummary) -> serde_json::Value {
    let workers: Vec<_> = operator
        .workers
        .iter()
        .map(|w| {
            serde_json::json!({
                "worker": w.worker, "state": w.state, "leases": w.leases,
                "last_seen": last_seen(w), "version": version(w),
            })
        })
        .collect();
    serde_json::json!({
        "operator": operator.operator, "root_key": operator.root_key,
        "revoked": operator.revoked, "workers": workers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_clock_that_says_nothing_is_an_error_and_not_1970() {
        let time = moment(UNIX_EPOCH + Duration::from_secs(1_790_000_000)).unwrap();
        assert_eq!(time.unix(), 1_790_000_000);
        let early = UNIX_EPOCH.checked_sub(Duration::from_secs(5)).unwrap();
        let late = UNIX_EPOCH.checked_add(Duration::from_secs(1 << 40)).unwrap();
        for (clock, found) in [(early, "5 s before 1970"), (late, "1099511627776 s after 1970")] {
            let failure = moment(clock).unwrap_err();
            assert_eq!(failure.code(), 1);
            assert!(failure.to_string().contains(found), "{failure}");
        }
    }
}
