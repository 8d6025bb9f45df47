//! Submissions that are being taken in: so many of each client at a time, longer than their calls.
//!
//! Invariant: a client waits for places of its own alone, so nobody's slow registry keeps others
//! out; a call is answered in time, and what it began goes on until it is done, takes too long, or
//! the coordinator stops and nobody waits for it any more. It must never hold a place for anything
//! but fetching.

use proto::status;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Images of one client that are fetched at a time; each has the evidence of one platform in memory
/// (15 MiB).
const AT_A_TIME: usize = 8;
/// How long a call waits for a place.
const PLACE_WAIT_MAX: Duration = Duration::from_secs(30);
/// How long a call is held in all: less than a call may take.
const ANSWERED_WITHIN: Duration = Duration::from_secs(60);
/// How long an image may take to be fetched, whoever still waits for it.
const TAKE_IN_MAX: Duration = Duration::from_secs(600);

/// The places of each client; clients are those of the configuration, so the table cannot grow.
#[derive(Debug, Default)]
pub struct TakingIn(Mutex<HashMap<String, Arc<Semaphore>>>);

/// A place, and until when its call wants an answer.
#[derive(Debug)]
pub struct Place {
    held: OwnedSemaphorePermit,
    answer_by: Instant,
}

impl TakingIn {
    /// Waits for a place of this client.
    pub async fn place(&self, client: &str) -> Result<Place, Status> {
        self.place_within(client, PLACE_WAIT_MAX).await
    }

    async fn place_within(&self, client: &str, wait: Duration) -> Result<Place, Status> {
        let answer_by = Instant::now() + ANSWERED_WITHIN;
        let own = {
            let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let own = places.entry(client.to_owned());
            Arc::clone(own.or_insert_with(|| Arc::new(Semaphore::new(AT_A_TIME))))
        };
        match tokio::time::timeout(wait, own.acquire_owned()).await {
            Ok(Ok(held)) => Ok(Place { held, answer_by }),
            _ => {
                let why = format!("expected at most {AT_A_TIME} images of {client} at a time");
                Err(status::exhausted(why, ANSWERED_WITHIN))
            }
        }
    }
}

impl Place {
    /// Does the work in this place. The call of it may end before.
    pub async fn fetch<T: Send + 'static>(
        self,
        image: &str,
        stopping: CancellationToken,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Status> {
        let Self { held, answer_by } = self;
        let (_here, gone) = oneshot::channel::<()>();
        let taking = tokio::spawn(async move {
            let _held = held;
            let forsaken = async {
                let _ = gone.await;
                stopping.cancelled().await;
            };
            tokio::select! {
                done = tokio::time::timeout(TAKE_IN_MAX, work) => done.ok(),
                () = forsaken => None,
            }
        });
        match tokio::time::timeout_at(answer_by, taking).await {
            Ok(Ok(Some(done))) => Ok(done),
            Ok(Err(ended)) => Err(status::unavailable(ended)),
            Err(_) | Ok(Ok(None)) => Err(status::unavailable(format!(
                "expected all of {image} within {} s, found a registry that answers slowly. The \
                 coordinator goes on for {} minutes; submit it again then",
                ANSWERED_WITHIN.as_secs(),
                TAKE_IN_MAX.as_secs() / 60
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_waits_for_the_places_of_another_client() {
        let taking_in = TakingIn::default();
        let mut held = Vec::new();
        for _ in 0..AT_A_TIME {
            held.push(taking_in.place("ci").await.unwrap());
        }
        let refused = taking_in.place_within("ci", Duration::ZERO).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        assert!(status::retry_after(&refused).is_some());
        taking_in.place_within("release", Duration::ZERO).await.unwrap();
        held.pop();
        taking_in.place_within("ci", Duration::ZERO).await.unwrap();
    }

    #[tokio::test]
    async fn what_a_call_began_goes_on_behind_its_answer_and_keeps_its_place() {
        let taking_in = TakingIn::default();
        let mut others = Vec::new();
        for _ in 1..AT_A_TIME {
            others.push(taking_in.place("ci").await.unwrap());
        }
        let late = Place { answer_by: Instant::now(), ..taking_in.place("ci").await.unwrap() };
        let (finish, finished) = oneshot::channel::<()>();
        let (tell, told) = oneshot::channel();
        let work = async move { tell.send(finished.await.is_ok()) };
        let answer = late.fetch("an image", CancellationToken::new(), work).await.unwrap_err();
        assert!(answer.message().contains("answers slowly"), "{}", answer.message());
        assert!(taking_in.place_within("ci", Duration::ZERO).await.is_err());
        finish.send(()).unwrap();
        assert!(told.await.unwrap(), "it was not dropped with its call");
        taking_in.place("ci").await.unwrap();
    }

    #[tokio::test]
    async fn a_stop_ends_what_nobody_waits_for() {
        let taking_in = TakingIn::default();
        let late = Place { answer_by: Instant::now(), ..taking_in.place("ci").await.unwrap() };
        let (stopping, (kept, dropped)) = (CancellationToken::new(), oneshot::channel::<()>());
        let work = async move {
            let _kept = kept;
            std::future::pending::<()>().await;
        };
        assert!(late.fetch("an image", stopping.clone(), work).await.is_err());
        stopping.cancel();
        assert!(dropped.await.is_err());
    }
}
