//! Observations that were read in this process, so that one is read once.
//!
//! A coordinator meets the same observation when it is submitted and in each judgement of its job; a
//! reading parses it and writes it again to compare the spelling. Invariant: an entry is named by
//! SHA-256 of what is signed (payload type and payload), and stands here only after
//! [`Observation::decode`] accepted exactly these bytes, so no answer changes. It must never hold what
//! was refused, and says nothing about who signed.

use super::Observation;
use crate::id::ObservationId;
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

/// Bytes of the payloads whose observations are kept: about a thousand of 8 KiB. What was read from
/// them takes two to three times as much.
const PAYLOAD_BYTES_MAX: usize = 8 << 20;

#[derive(Default)]
struct Known {
    observations: HashMap<ObservationId, (Arc<Observation>, usize)>,
    order: VecDeque<ObservationId>,
    bytes: usize,
}

static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);

/// The observation, if it was read before.
pub(super) fn get(id: &ObservationId) -> Option<Arc<Observation>> {
    let known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known.observations.get(id).map(|(observation, _)| Arc::clone(observation))
}

/// It was read, from a payload of so many bytes.
pub(super) fn keep(id: ObservationId, observation: &Arc<Observation>, bytes: usize) {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner).keep(id, observation, bytes);
}

impl Known {
    /// The oldest go first. One that is larger than all of it together is not kept.
    fn keep(&mut self, id: ObservationId, observation: &Arc<Observation>, bytes: usize) {
        if bytes > PAYLOAD_BYTES_MAX || self.observations.contains_key(&id) {
            return;
        }
        self.observations.insert(id, (Arc::clone(observation), bytes));
        self.order.push_back(id);
        self.bytes += bytes;
        while self.bytes > PAYLOAD_BYTES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.bytes -= self.observations.remove(&oldest).map_or(0, |(_, bytes)| bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::sample, *};
    use crate::{Digest, dsse::Envelope, key::SigningKey};

    #[test]
    fn what_was_read_is_read_again_alike_and_what_was_refused_is_refused_again() {
        let key = SigningKey::generate().unwrap();
        let mut observation = sample();
        observation.worker = crate::id::WorkerId(key.public().id());
        let envelope = observation.sign(&key).unwrap();
        assert!(get(&envelope.observation_id()).is_none());
        let first = Observation::read(&envelope).unwrap();
        assert!(Arc::ptr_eq(&first, &Observation::read(&envelope).unwrap()));
        assert_eq!(*first, Observation::decode(&envelope.payload_type, &envelope.payload).unwrap());
        let mut two = envelope.clone();
        two.signatures.push(two.signatures[0].clone());
        let mut type_only = envelope.clone();
        type_only.payload_type = super::super::OUTCOME_TYPE.to_owned();
        let mut spelling = envelope.clone();
        spelling.payload.push(b' ');
        let refused: [Envelope; 3] = [two, type_only, spelling];
        for _ in 0..2 {
            assert!(refused.iter().all(|envelope| Observation::read(envelope).is_err()));
        }
    }

    #[test]
    fn the_oldest_go_first_and_the_bytes_are_bounded() {
        let observation = Arc::new(sample());
        let ids: Vec<_> = (0..5u8).map(|n| ObservationId(Digest::of(&[n]))).collect();
        let mut known = Known::default();
        known.keep(ids[0], &observation, PAYLOAD_BYTES_MAX + 1);
        assert_eq!(known.bytes, 0);
        for id in &ids {
            known.keep(*id, &observation, PAYLOAD_BYTES_MAX / 3);
            known.keep(*id, &observation, PAYLOAD_BYTES_MAX / 3);
        }
        let kept: Vec<bool> = ids.iter().map(|id| known.observations.contains_key(id)).collect();
        assert_eq!(kept, [false, false, true, true, true]);
        assert_eq!((known.bytes, known.order.len()), (PAYLOAD_BYTES_MAX / 3 * 3, 3));
    }
}
