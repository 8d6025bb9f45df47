//! Large answers to strangers: so many at a time are put together and kept until they were read.
//!
//! Invariant: what is kept for readers is bounded by [`AT_A_TIME`] answers, however many ask and
//! however slowly they read: a reader that takes longer than [`TIME_MAX`] loses its answer, in the
//! middle, so that it is never taken for a whole one. It must never make who asks wait longer than
//! [`WAIT_MAX`] before it says that there is no room.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use bytes::Bytes;
use futures::stream;
use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinError,
};

/// Answers at a time: eight of the largest sets of evidence (64 MiB) are 512 MiB.
const AT_A_TIME: usize = 8;
/// How long who asks waits for its turn.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// How long an answer may take to be read: 64 MiB at 5 Mbit/s take 107 s.
const TIME_MAX: Duration = Duration::from_secs(120);
/// Bytes that are handed on at a time, copied: what is handed on does not keep the whole.
const PIECE_BYTES: usize = 64 << 10;

/// The turns of those who read.
#[derive(Debug, Clone)]
pub struct Turns {
    free: Arc<Semaphore>,
    wait_max: Duration,
    time_max: Duration,
}

impl Default for Turns {
    fn default() -> Self {
        let free = Arc::new(Semaphore::new(AT_A_TIME));
        Self { free, wait_max: WAIT_MAX, time_max: TIME_MAX }
    }
}

/// One turn.
#[derive(Debug)]
pub struct Turn {
    _held: OwnedSemaphorePermit,
    time_max: Duration,
}

/// What is left of an answer, with its turn; both go at once.
type Kept = Arc<Mutex<Option<(Bytes, Turn)>>>;

impl Turns {
    /// Waits for a turn; none if there is none in time.
    pub async fn wait(&self) -> Option<Turn> {
        let free = Arc::clone(&self.free).acquire_owned();
        let held = tokio::time::timeout(self.wait_max, free).await.ok()?.ok()?;
        Some(Turn { _held: held, time_max: self.time_max })
    }
}

impl Turn {
    /// Makes an answer on a thread of its own: megabytes are read and written, and others do not wait
    /// for that. Who hangs up meanwhile does not stop the thread, and its turn is not free before.
    pub async fn make<T: Send + 'static>(
        self,
        make: impl FnOnce() -> T + Send + 'static,
    ) -> Result<(T, Self), JoinError> {
        tokio::task::spawn_blocking(move || (make(), self)).await
    }
}

/// The answer of who waited in vain: to come again in a while.
pub fn later(mut answer: Response) -> Response {
    *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("30"));
    answer
}

/// An answer that holds its turn until it was read, or its time is over.
pub fn body(bytes: Vec<u8>, turn: Turn) -> Body {
    let (length, time_max) = (bytes.len(), turn.time_max);
    let kept: Kept = Arc::new(Mutex::new(Some((Bytes::from(bytes), turn))));
    // Not for the reader to bring about: one that reads nothing is not asked whether it wants more.
    let late = Arc::downgrade(&kept);
    tokio::spawn(async move {
        tokio::time::sleep(time_max).await;
        if let Some(kept) = late.upgrade() {
            take(&kept);
        }
    });
    Body::from_stream(stream::try_unfold((kept, 0), move |(kept, at)| async move {
        if at == length {
            take(&kept);
            return Ok(None);
        }
        match piece(&kept, at) {
            Some(piece) => {
                let next = at + piece.len();
                Ok(Some((piece, (kept, next))))
            }
            None => Err(io::Error::other("the answer was not read in time")),
        }
    }))
}

fn take(kept: &Kept) {
    kept.lock().unwrap_or_else(PoisonError::into_inner).take();
}

fn piece(kept: &Kept, at: usize) -> Option<Bytes> {
    let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    let (bytes, _) = kept.as_ref()?;
    let end = bytes.len().min(at + PIECE_BYTES);
    bytes.get(at..end).map(Bytes::copy_from_slice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::to_bytes;

    fn bytes() -> Vec<u8> {
        (0..PIECE_BYTES * 2 + 7).map(|n| n as u8).collect()
    }

    #[tokio::test]
    async fn who_reads_nothing_keeps_others_waiting_for_a_while_only() {
        let (short, long) = (Duration::from_millis(50), Duration::from_secs(60));
        let turns = Turns { free: Arc::new(Semaphore::new(1)), wait_max: long, time_max: short };
        let held = turns.wait().await.unwrap();
        let hurried = Turns { wait_max: Duration::ZERO, ..turns.clone() };
        assert!(hurried.wait().await.is_none(), "there is no room, and that is said");
        let unread = body(bytes(), held);
        // Nobody reads: the turn comes all the same, when the time is over.
        let turns = Turns { time_max: long, ..turns };
        let turn = turns.wait().await.unwrap();
        let cut = to_bytes(unread, usize::MAX).await;
        assert!(cut.is_err(), "and it is no whole answer");
        // Read to its end, or dropped, it gives its turn back.
        assert_eq!(to_bytes(body(bytes(), turn), usize::MAX).await.unwrap(), bytes());
        drop(body(bytes(), turns.wait().await.unwrap()));
        let nothing = body(Vec::new(), turns.wait().await.unwrap());
        assert!(to_bytes(nothing, 1).await.unwrap().is_empty());
        assert!(turns.wait().await.is_some());
    }

    #[tokio::test]
    async fn who_hangs_up_while_its_answer_is_made_keeps_its_turn_until_it_is_made() {
        let turns = Turns { free: Arc::new(Semaphore::new(1)), ..Turns::default() };
        let hurried = Turns { wait_max: Duration::ZERO, ..turns.clone() };
        let (begun, begins) = tokio::sync::oneshot::channel();
        let (finish, finished) = std::sync::mpsc::channel::<()>();
        let turn = turns.wait().await.unwrap();
        let making = turn.make(move || (begun.send(()), finished.recv()));
        tokio::select! {
            biased;
            _ = making => panic!("nobody let it finish"),
            begun = begins => begun.unwrap(),
        }
        // The reader is gone; what it asked for is still being made.
        assert!(hurried.wait().await.is_none());
        finish.send(()).unwrap();
        assert!(turns.wait().await.is_some());
    }

    #[test]
    fn who_waited_in_vain_is_told_when_to_come_again() {
        let told = later(Response::new(Body::empty()));
        assert_eq!(told.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(told.headers().contains_key(header::RETRY_AFTER));
    }
}
