//! The keys that this coordinator signed verdicts with: its own, and those that it had before.
//!
//! ```text
//! start -> VERDICT_KEY record, unless the newest one is this key's
//! ```
//! An administrator replaces `verdict.key` while the coordinator is stopped. What lies in the
//! journal, and what was published, is still what this coordinator said: it is read, and replaced.
//! Invariant: a key is known only because a coordinator held it while it worked on this journal and
//! put that on record; a key that merely signed something is a stranger's. It must never sign with a
//! former key, and never decide whose leases count: that is the policy's `[coordinator] key`.

use super::{Core, DaemonError};
use crate::{
    journal::{Kind, NewRecord},
    store::{Store, StoreError},
};
use attest::{
    Digest,
    dsse::{Envelope, EnvelopeError},
    id::JournalPosition,
    key::PublicKey,
    vsa::{VerdictRecord, VerdictRecordError},
};
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// Former keys that are tried, the newest: each costs a verification (0.1 ms) where none fits.
const FORMER_MAX: usize = 16;
/// Records that are read at a time: 400 bytes each.
const PAGE: usize = 500;
/// How long a key that could not be put on record waits for the next try.
const AGAIN: Duration = Duration::from_secs(5);

const SCHEMA: &str = "assay/verdict-key/v1";

/// A key that the coordinator started with. Unknown fields are for later versions.
#[derive(Debug, Serialize, Deserialize)]
struct VerdictKey {
    schema: String,
    /// PEM.
    key: String,
}

/// Why a verdict in the journal can't be read.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// No envelope.
    #[error(transparent)]
    Envelope(EnvelopeError),
    /// Nobody of this coordinator signed it.
    #[error(
        "expected a verdict by this coordinator's key {own} or by one of {former} former keys that \
         are on record, found another signature"
    )]
    Stranger {
        /// The key of today.
        own: Digest,
        /// How many others are known.
        former: usize,
    },
    /// Signed, and no verdict.
    #[error(transparent)]
    Verdict(#[from] VerdictRecordError),
}

/// See the module's head.
#[derive(Debug, Clone)]
pub struct Signers {
    own: PublicKey,
    /// The newest first.
    former: Vec<PublicKey>,
}

/// What the records of keys are about.
fn about_keys() -> Digest {
    Digest::of(b"verdict keys of this coordinator")
}

/// The keys on record, the oldest first.
fn on_record(store: &dyn Store) -> Result<Vec<PublicKey>, StoreError> {
    let (mut found, mut from) = (Vec::new(), JournalPosition(0));
    loop {
        let page = store.records_about(Kind::VERDICT_KEY, &about_keys(), from, PAGE)?;
        let Some(last) = page.last() else { return Ok(found) };
        from = last.position.next();
        let read = page.iter().filter_map(|stored| {
            let record: VerdictKey = serde_json::from_slice(&stored.body).ok()?;
            PublicKey::from_pem(&record.key).ok().filter(|_| record.schema == SCHEMA)
        });
        for key in read {
            // One that came back is as new as its last start.
            found.retain(|known| *known != key);
            found.push(key);
        }
    }
}

impl Signers {
    /// The key of today, and those on record.
    pub fn read(store: &dyn Store, own: &PublicKey) -> Result<Self, StoreError> {
        let known = on_record(store)?.into_iter().rev().filter(|key| key != own);
        Ok(Self { own: own.clone(), former: known.take(FORMER_MAX).collect() })
    }

    /// Whether this coordinator signed an envelope, today or before.
    pub fn signed(&self, envelope: &Envelope) -> bool {
        self.all().any(|key| envelope.verify(key).is_ok())
    }

    /// Reads a verdict of the journal.
    pub fn verdict(&self, body: &[u8]) -> Result<VerdictRecord, SignerError> {
        let envelope = Envelope::parse(body).map_err(SignerError::Envelope)?;
        for key in self.all() {
            match VerdictRecord::open(&envelope, key) {
                Err(VerdictRecordError::Envelope(EnvelopeError::Key(_))) => {}
                read => return Ok(read?),
            }
        }
        Err(SignerError::Stranger { own: self.own.id(), former: self.former.len() })
    }

    fn all(&self) -> impl Iterator<Item = &PublicKey> {
        std::iter::once(&self.own).chain(&self.former)
    }
}

/// Puts on record that the coordinator works with its key, until that succeeds or it is told to
/// stop: a full disk must not keep it from starting.
pub async fn run(core: Arc<Core>, stop: CancellationToken) -> Result<(), DaemonError> {
    loop {
        match keep(&core).await {
            Ok(()) => return Ok(()),
            Err(error) if error.retry_after_ms().is_some() => {
                tracing::warn!(%error, "the verdict key is not on record yet");
            }
            Err(error) => return Err(error.into()),
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN) => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}

/// Puts the key on record unless it is the newest there.
pub(super) async fn keep(core: &Core) -> Result<(), StoreError> {
    let own = core.loaded.public_key();
    if on_record(core.store.as_ref())?.last() == Some(own) {
        return Ok(());
    }
    let record = VerdictKey { schema: SCHEMA.to_owned(), key: own.to_pem() };
    // Text only: writing it as JSON cannot fail.
    let body = serde_json::to_vec(&record).unwrap_or_default();
    core.store.append(vec![NewRecord::new(Kind::VERDICT_KEY, about_keys(), body)]).await?;
    tracing::info!(key.id = %own.id(), key.former = core.signers.former.len(), "new verdict key");
    Ok(())
}

#[cfg(test)]
mod tests;
