//! Every number that the queue works with, each with its reason.
//!
//! Invariant: everything that grows has a limit here, and every wait an end.

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// The numbers. `default()` is what protocol.md says; tests and the demo shorten the waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// An offer that nobody takes lapses: 30 s.
    pub offer_ms: u64,
    /// Workers are heard each 15 s.
    pub heartbeat_ms: u64,
    /// Silence that makes a suspect: 60 s, four heartbeats.
    pub suspect_ms: u64,
    /// Silence after which a lease is over, at least: 10 min (else 25 % of the p95 build time).
    pub expire_ms_min: u64,
    /// How long an operator that did not take an offer is left alone: 60 s.
    pub skip_ms: u64,
    /// How long a job with open slots waits for an operator before it is judged as it is: 10 min.
    pub exhausted_ms: u64,
    /// A worker counts as present for so long after it was heard: 5 min.
    pub present_ms: u64,
    /// A job that no worker ever took is parked: 30 days.
    pub unroutable_ms: u64,
    /// Leases of one attempt that may end without an answer, for each slot: 8.
    pub tries_per_slot_max: u32,
    /// Openings of a job because of dissent, the first included: 3.
    pub attempts_max: u32,
    /// Jobs that are announced and not done, on disk: 1,000,000 (about 1 GB of index).
    pub unfinished_max: u64,
    /// The same for one tenant: a tenth, so that one tenant cannot fill the queue.
    pub unfinished_per_tenant_max: u64,
    /// Waiting jobs in memory: 20,000 at about 1.5 KB.
    pub window_max: usize,
    /// Jobs that somebody has a part in: above it no new ones are begun. 100,000.
    pub active_max: usize,
    /// Workers that are known at a time: 100,000 at about 0.5 KB.
    pub workers_max: usize,
    /// Executions of one worker at a time: 256.
    pub leases_per_worker_max: u32,
    /// Jobs that one worker is shown at once: 4.
    pub offers_per_worker_max: u32,
    /// Announcements of one tenant: so many at once, then so many in a second.
    pub announce: Rate,
    /// Observations of one worker.
    pub submit: Rate,
    /// Offers that draw on one registry.
    pub registry: Rate,
    /// Volunteer observations of one operator for one job: 8, two late ones in each attempt and some.
    pub volunteers_per_operator_max: usize,
    /// Bytes of their envelopes: 3 MiB, one of the largest (2 MiB in base64).
    pub volunteer_bytes_per_operator_max: u64,
    /// Bytes of the envelopes of all volunteers for one job: 8 MiB, a quarter of the message that
    /// carries the job's evidence.
    pub volunteer_bytes_per_job_max: u64,
    /// The first word of an operator is heard up to this length, whatever others filled: 256 KiB, a
    /// dissent with 800 materials.
    pub volunteer_bytes_always: u64,
    /// Between two jobs of one tenant and class, in the order of the queue: 1 s. A tenant with a
    /// thousand jobs thus stands behind another one's first for a quarter of an hour at most.
    pub tenant_spacing_ms: u64,
    /// Jobs that are looked at for one offer: 256.
    pub scan_max: usize,
    /// Effects after which a tick leaves the rest to the next one: 4096. Each is at most an offer with
    /// its signed lease (1.2 KB), and all records of one turn are one group of the journal (16 MiB).
    pub effects_per_tick_max: usize,
}

/// A token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// So many at once.
    pub burst: u64,
    /// Then so many in a second.
    pub per_second: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            offer_ms: 30 * SECOND,
            heartbeat_ms: 15 * SECOND,
            suspect_ms: MINUTE,
            expire_ms_min: 10 * MINUTE,
            skip_ms: MINUTE,
            exhausted_ms: 10 * MINUTE,
            present_ms: 5 * MINUTE,
            unroutable_ms: 30 * DAY,
            tries_per_slot_max: 8,
            attempts_max: 3,
            unfinished_max: 1_000_000,
            unfinished_per_tenant_max: 100_000,
            window_max: 20_000,
            active_max: 100_000,
            workers_max: 100_000,
            leases_per_worker_max: 256,
            offers_per_worker_max: 4,
            announce: Rate { burst: 10_000, per_second: 1000 },
            submit: Rate { burst: 200, per_second: 20 },
            registry: Rate { burst: 1000, per_second: 200 },
            volunteers_per_operator_max: 8,
            volunteer_bytes_per_operator_max: 3 << 20,
            volunteer_bytes_per_job_max: 8 << 20,
            volunteer_bytes_always: 256 << 10,
            tenant_spacing_ms: SECOND,
            scan_max: 256,
            effects_per_tick_max: 4096,
        }
    }
}
