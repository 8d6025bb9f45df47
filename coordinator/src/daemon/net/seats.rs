//! Seats: each connection holds one, from the accept to its end.
//!
//! Invariant: never more than `connections_max` in all, nor more than `per_address_max` of one
//! address; a seat comes back when its connection is dropped, whatever the reason. An IPv6 peer
//! counts by its /64: that is what one customer has.

use futures::task::AtomicWaker;
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Context,
};
use tokio::sync::Notify;

/// There is no seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// In all.
    #[error("expected at most {0} connections at the same time, found one more")]
    All(usize),
    /// Of this address.
    #[error("expected at most {0} connections of one address at the same time, found one more")]
    Address(usize),
}

/// The seats of one listener.
#[derive(Debug)]
pub struct Seats {
    connections_max: usize,
    per_address_max: usize,
    taken: Mutex<Taken>,
    left: Notify,
    refused: AtomicU64,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    lines: HashMap<u64, Arc<Line>>,
    by_address: HashMap<IpAddr, usize>,
}

/// What the end of a connection is asked with.
#[derive(Debug, Default)]
struct Line {
    cut: AtomicBool,
    waker: AtomicWaker,
}

/// One connection's place. Dropping it gives it back.
#[derive(Debug)]
pub struct Seat {
    seats: Arc<Seats>,
    number: u64,
    address: IpAddr,
    line: Arc<Line>,
}

impl Seats {
    /// So many in all, so many of one address.
    pub fn new(connections_max: usize, per_address_max: usize) -> Arc<Self> {
        Arc::new(Self {
            connections_max,
            per_address_max,
            taken: Mutex::new(Taken::default()),
            left: Notify::new(),
            refused: AtomicU64::new(0),
        })
    }

    /// A seat for a peer of this address.
    pub fn take(self: &Arc<Self>, address: IpAddr) -> Result<Seat, Full> {
        let address = counted_as(address);
        let mut taken = self.lock();
        let own = taken.by_address.get(&address).copied().unwrap_or_default();
        let full = if taken.lines.len() >= self.connections_max {
            Some(Full::All(self.connections_max))
        } else if own >= self.per_address_max {
            Some(Full::Address(self.per_address_max))
        } else {
            None
        };
        if let Some(full) = full {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(full);
        }
        let (number, line) = (taken.next, Arc::new(Line::default()));
        taken.next += 1;
        taken.lines.insert(number, Arc::clone(&line));
        taken.by_address.insert(address, own + 1);
        Ok(Seat { seats: Arc::clone(self), number, address, line })
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.lock().lines.len()
    }

    /// How many peers were turned away so far.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Every connection that is there now ends with an error at its next step.
    pub fn cut_all(&self) {
        for line in self.lock().lines.values() {
            line.cut.store(true, Ordering::Release);
            line.waker.wake();
        }
    }

    /// Waits until every seat came back.
    pub async fn empty(&self) {
        loop {
            let left = self.left.notified();
            if self.taken() == 0 {
                return;
            }
            left.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Was the connection told to end? If not, the task hears when it is.
    pub(super) fn is_cut(&self, context: &Context<'_>) -> bool {
        self.line.waker.register(context.waker());
        self.line.cut.load(Ordering::Acquire)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.lock();
        taken.lines.remove(&self.number);
        if let Some(own) = taken.by_address.get_mut(&self.address) {
            *own -= 1;
            if *own == 0 {
                taken.by_address.remove(&self.address);
            }
        }
        let empty = taken.lines.is_empty();
        drop(taken);
        if empty {
            self.seats.left.notify_waiters();
        }
    }
}

/// The address that a peer is counted under.
fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let network = u128::from(v6) & !u128::from(u64::MAX);
            IpAddr::V6(network.into())
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn seats_are_bounded_in_all_and_by_address_and_come_back() {
        let seats = Seats::new(3, 2);
        let first = seats.take(address("192.0.2.1")).unwrap();
        let _second = seats.take(address("::ffff:192.0.2.1")).unwrap();
        assert_eq!(seats.take(address("192.0.2.1")).unwrap_err(), Full::Address(2));
        let third = seats.take(address("2001:db8::1")).unwrap();
        assert_eq!(seats.take(address("192.0.2.9")).unwrap_err(), Full::All(3));
        drop(first);
        // The same /64.
        let _fourth = seats.take(address("2001:db8::2")).unwrap();
        drop(third);
        assert_eq!((seats.taken(), seats.refused()), (2, 2));
        assert!(seats.take(address("2001:db8::3")).is_ok());
        assert_eq!(seats.taken(), 2);
    }
}
