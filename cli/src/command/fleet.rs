//! The connection of a client or administrator to a coordinator.
//!
//! Invariant: TLS with the authority that was given, a client certificate of the client's own key;
//! what the coordinator answers is shown, never believed where a signature could decide.

use crate::{
    exit::{Failure, Outcome},
    no_answer::NoAnswer,
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
    error::Error,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tonic::{Code, Response, Status, transport::Channel};
use worker::daemon::{config::read_text, connect, identity::Identity};

/// So long an answer may take, connecting included.
const ANSWER_MAX: Duration = Duration::from_secs(15);
/// So long where an image is fetched first, much is read, or the call is held for 30 s.
const LONG_ANSWER_MAX: Duration = Duration::from_secs(90);

const SILENT: &str = "something is there and says nothing: is it a coordinator, and is its disk \
                      well? Its log says more";
const NOT_GRPC: &str = "that is not a coordinator's gRPC: is it its port for HTTPS (`listen_http`), \
                        or another service's?";

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
        let usage = |error: &dyn std::fmt::Display| Failure::Usage(error.to_string());
        let ca = self.ca.as_ref().map(|ca| {
            let pem = read_text(ca).map_err(|e| usage(&e))?;
            let named = |e| usage(&format!("{}: {e}", ca.display()));
            connect::check_authority(&pem).map_err(named)?;
            Ok::<_, Failure>(pem)
        });
        let identity = Identity::load(&self.key).map_err(|e| usage(&e))?;
        let channel = connect::channel(&self.coordinator, ca.transpose()?.as_deref(), &identity);
        channel.map_err(|e| usage(&e))
    }

    /// The answer to a call; a coordinator that is silent is not waited for.
    pub async fn ask<T>(&self, call: impl Call<T>) -> Result<T, Failure> {
        self.within(ANSWER_MAX, call).await?.map_err(|status| self.failed(&status))
    }

    /// The same where the other side fetches an image, reads much, or holds the call.
    pub async fn ask_long<T>(&self, call: impl Call<T>) -> Result<T, Failure> {
        self.within(LONG_ANSWER_MAX, call).await?.map_err(|status| self.failed(&status))
    }

    /// The same; none where the coordinator knows nothing of what was asked for.
    pub async fn ask_if_known<T>(&self, call: impl Call<T>) -> Result<Option<T>, Failure> {
        match self.within(ANSWER_MAX, call).await? {
            Ok(answer) => Ok(Some(answer)),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(self.failed(&status)),
        }
    }

    async fn within<T>(
        &self,
        limit: Duration,
        call: impl Call<T>,
    ) -> Result<Result<T, Status>, Failure> {
        match tokio::time::timeout(limit, call).await {
            Ok(answer) => Ok(answer.map(Response::into_inner)),
            Err(_) => Err(Failure::from(NoAnswer {
                address: self.coordinator.clone(),
                found: format!("none within {} s", limit.as_secs()),
                hint: SILENT,
            })),
        }
    }

    fn failed(&self, status: &Status) -> Failure {
        failure(&self.coordinator, self.ca.is_some(), status)
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

/// A call of a coordinator.
pub trait Call<T>: Future<Output = Result<Response<T>, Status>> {}

impl<T, F: Future<Output = Result<Response<T>, Status>>> Call<T> for F {}

/// What a refused or failed call of a coordinator in this process means.
pub fn failed(status: Status) -> Failure {
    failure("the coordinator", true, &status)
}

/// What a refused or failed call means for the command line.
fn failure(address: &str, has_ca: bool, status: &Status) -> Failure {
    let message = status.message().to_owned();
    // Only what came from below the call has a source; but who speaks HTTP/2 and no gRPC has none.
    let no_grpc = message.starts_with("grpc-status header missing");
    match (status.source(), status.code()) {
        // The other side's limit for calls.
        (None, Code::Cancelled | Code::DeadlineExceeded) => {
            let (address, hint) = (address.to_owned(), SILENT);
            let found = format!("that it gave the call up: {message}");
            Failure::from(NoAnswer { address, found, hint })
        }
        (None, Code::InvalidArgument) => Failure::Usage(message),
        (None, _) if !no_grpc => Failure::Operation(anyhow::anyhow!(message)),
        (source, _) => {
            let found = source.map_or(message, last_cause);
            let hint = if no_grpc { NOT_GRPC } else { hint(&found, has_ca) };
            Failure::from(NoAnswer { address: address.to_owned(), found, hint })
        }
    }
}

fn last_cause(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}

/// What to look at, by what TLS, HTTP/2 and the system call their errors.
fn hint(found: &str, has_ca: bool) -> &'static str {
    let has = |words: &[&str]| words.iter().any(|word| found.contains(word));
    if has(&["UnknownIssuer"]) && !has_ca {
        "give the authority of its certificate: --ca or ASSAY_CA, `ca.pem` of its folder"
    } else if has(&["certificate"]) {
        "is --ca (ASSAY_CA) the `ca.pem` of this coordinator, and is its certificate for this name?"
    } else if has(&["corrupt message", "InvalidContentType", "HTTP/2", "http2", "frame", "ALPN"])
        || has(&["ApplicationProtocol"])
    {
        NOT_GRPC
    } else if has(&["imed out", "imeout", "deadline"]) {
        SILENT
    } else {
        "is the coordinator running, and is this the address of its gRPC (`listen` of its \
         coordinator.toml)?"
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
    let answer = connection.ask(connection.admin()?.add_operator(request)).await?;
    let position = answer.journal_position;
    output::say(&format!("the operator is in the journal, at {position}"));
    Ok(())
}

/// Hands in a worker's record.
pub async fn enroll_worker(connection: &Connection, record: &Envelope) -> Result<(), Failure> {
    let request = v1::EnrollWorkerRequest { record_envelope: record.to_json() };
    let answer = connection.ask(connection.admin()?.enroll_worker(request)).await?;
    let position = answer.journal_position;
    output::say(&format!("the worker is in the journal, at {position}"));
    Ok(())
}

/// Hands in a revocation.
pub async fn revoke(connection: &Connection, revocation: &Envelope) -> Result<(), Failure> {
    let request = v1::RevokeRequest { revocation_envelope: revocation.to_json() };
    let answer = connection.ask(connection.admin()?.revoke(request)).await?;
    let position = answer.journal_position;
    output::say(&format!("the revocation is in the journal, at {position}"));
    Ok(())
}

/// Prints operators and workers.
pub async fn list_operators(connection: &Connection, format: Format) -> Outcome {
    let request = v1::ListOperatorsRequest {};
    let answer = connection.ask(connection.admin()?.list_operators(request)).await?;
    let operators = answer.operators;
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

    #[test]
    fn only_what_no_coordinator_said_is_no_answer() {
        let said = Status::permission_denied("alice is no administrator");
        let failure_of = |status: &Status| failure("https://c:1", false, status);
        assert_eq!(failure_of(&said).to_string(), "alice is no administrator");
        assert_eq!(failure_of(&Status::invalid_argument("no")).code(), 2);
        let cut = failure_of(&Status::cancelled("Timeout expired")).to_string();
        assert!(cut.starts_with("expected an answer of https://c:1, found that it gave"), "{cut}");
        let lost = Status::from_error(Box::new(std::io::Error::from_raw_os_error(111)));
        let failure = failure_of(&lost);
        assert!(failure.to_string().starts_with("expected an answer of https://c:1, found Conn"));
        assert!(failure.hint().unwrap().contains("is the coordinator running"));
        let other = Status::unknown("grpc-status header missing, mapped from HTTP status code 404");
        assert!(failure_of(&other).hint().unwrap().contains("not a coordinator's gRPC"));
        let issuer = hint("invalid peer certificate: UnknownIssuer", false);
        assert!(issuer.contains("ASSAY_CA"), "{issuer}");
        assert_ne!(hint("invalid peer certificate: UnknownIssuer", true), issuer);
    }
}
