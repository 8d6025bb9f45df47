//! What a monitoring system reads: counters of this process, and what the store says when asked.
//!
//! Names carry their unit. Invariant: counting decides nothing and never fails; labels have few
//! values that are known beforehand (never an image, a worker or a tenant), so that no client can
//! grow the table.

use crate::{journal::Spread, queue::Class, store::Store};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text},
    metrics::{MetricType, counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

/// Labels: fixed names, values from closed lists.
type One = [(&'static str, String); 1];
type Two = [(&'static str, String); 2];

/// Upper bounds of ages: a minute to a month, in seconds.
const AGE_SECONDS: [f64; 8] =
    [60.0, 600.0, 3600.0, 21_600.0, 86_400.0, 259_200.0, 864_000.0, 2_592_000.0];
/// Upper bounds of what a call takes, in seconds.
const CALL_SECONDS: [f64; 9] = [0.001, 0.005, 0.02, 0.05, 0.1, 0.5, 1.0, 10.0, 60.0];

/// The counters of a coordinator.
pub struct Metrics {
    registry: Registry,
    verdicts: Family<One, Counter>,
    evidence_age: Histogram,
    calls: Family<Two, Counter>,
    call_seconds: Family<One, Histogram, fn() -> Histogram>,
    connections: Family<Two, Counter>,
    publications: Family<One, Counter>,
    watch_looks: Family<One, Counter>,
    tags_seen: Counter,
    tags_failed: Counter,
    unreadable: Counter,
    former_policy: Family<One, Counter>,
    former_policy_left: Gauge<f64, AtomicU64>,
    former_policy_failed: Gauge<u64, AtomicU64>,
    newest_observation: Arc<AtomicI64>,
}

fn call_seconds() -> Histogram {
    Histogram::new(CALL_SECONDS)
}

impl Metrics {
    /// The counters of a daemon over this store.
    pub fn new(store: &Arc<dyn Store>) -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            verdicts: Family::default(),
            evidence_age: Histogram::new(AGE_SECONDS),
            calls: Family::default(),
            call_seconds: Family::new_with_constructor(call_seconds),
            connections: Family::default(),
            publications: Family::default(),
            watch_looks: Family::default(),
            tags_seen: Counter::default(),
            tags_failed: Counter::default(),
            unreadable: Counter::default(),
            former_policy: Family::default(),
            former_policy_left: Gauge::default(),
            former_policy_failed: Gauge::default(),
            newest_observation: Arc::default(),
        };
        metrics.register(store);
        metrics
    }

    fn register(&mut self, store: &Arc<dyn Store>) {
        let registry = &mut self.registry;
        let up = Gauge::<i64>::default();
        up.set(super::wall::now().unix());
        registry.register("assay_start_time_seconds", "When this process began, Unix time", up);
        registry.register(
            "assay_verdicts",
            "Judgements that were recorded, by outcome",
            self.verdicts.clone(),
        );
        registry.register(
            "assay_verdict_evidence_age_seconds",
            "Age of the oldest observation when a job was judged",
            self.evidence_age.clone(),
        );
        registry.register("assay_grpc_requests", "Calls, by method and code", self.calls.clone());
        registry.register(
            "assay_grpc_request_duration_seconds",
            "How long calls took until they were answered; Sync and Watch are held on purpose",
            self.call_seconds.clone(),
        );
        registry.register(
            "assay_connections",
            "Connections, by listener and by how the handshake went",
            self.connections.clone(),
        );
        registry.register(
            "assay_publications",
            "Attestations that were pushed or could not be, by result",
            self.publications.clone(),
        );
        registry.register(
            "assay_watch_looks",
            "Looks at watched repositories, by result",
            self.watch_looks.clone(),
        );
        registry.register(
            "assay_watch_tags_seen",
            "Tags of watched repositories that were new or named another image",
            self.tags_seen.clone(),
        );
        registry.register(
            "assay_watch_tags_failed",
            "Images of watched tags that could not be taken in at a look",
            self.tags_failed.clone(),
        );
        let (store, newest) = (Arc::downgrade(store), Arc::clone(&self.newest_observation));
        registry.register_collector(Box::new(StoreFigures { store, newest }));
        self.register_what_is_made_anew();
    }

    /// All of it, as OpenMetrics text.
    pub fn render(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// A job was judged; `oldest` is when its oldest observation was made.
    pub fn judged(&self, outcome: &str, oldest: Option<i64>) {
        self.verdicts.get_or_create(&[("outcome", outcome.to_owned())]).inc();
        if let Some(oldest) = oldest {
            let age = super::wall::now().unix().saturating_sub(oldest);
            self.evidence_age.observe(age.max(0) as f64);
        }
    }

    /// An observation is on disk.
    pub fn observed(&self) {
        self.newest_observation.fetch_max(super::wall::now().unix(), Ordering::Relaxed);
    }

    /// A call was answered.
    pub fn called(&self, method: &str, code: &str, seconds: f64) {
        let labels = [("method", method.to_owned()), ("code", code.to_owned())];
        self.calls.get_or_create(&labels).inc();
        self.call_seconds.get_or_create(&[("method", method.to_owned())]).observe(seconds);
    }

    /// A connection was accepted or refused.
    pub fn connected(&self, listener: &'static str, result: &'static str) {
        let labels = [("listener", listener.to_owned()), ("result", result.to_owned())];
        self.connections.get_or_create(&labels).inc();
    }

    /// An attestation was pushed, or could not be.
    pub fn published(&self, result: &'static str) {
        self.publications.get_or_create(&[("result", result.to_owned())]).inc();
    }

    /// A look at a watched repository is over.
    pub fn looked(&self, result: &'static str) {
        self.watch_looks.get_or_create(&[("result", result.to_owned())]).inc();
    }

    /// The image of a watched tag could not be taken in; the look went on.
    pub fn tag_failed(&self) {
        self.tags_failed.inc();
    }

    fn register_what_is_made_anew(&mut self) {
        self.registry.register(
            "assay_verdicts_unreadable",
            "Verdicts that no key of this coordinator signed, or that are none: judged anew",
            self.unreadable.clone(),
        );
        self.registry.register(
            "assay_former_policy_verdicts",
            "Verdicts of a former policy that were made anew or could not be, by result",
            self.former_policy.clone(),
        );
        self.registry.register(
            "assay_former_policy_left_ratio",
            "Share of the jobs that are still to be looked at for a verdict of a former policy",
            self.former_policy_left.clone(),
        );
        self.registry.register(
            "assay_former_policy_failed_jobs",
            "Jobs whose verdict of a former policy could not be made anew: tried again",
            self.former_policy_failed.clone(),
        );
    }

    /// A verdict of a former policy was made anew, or could not be.
    pub fn former_policy_judged(&self, result: &'static str) {
        self.former_policy.get_or_create(&[("result", result.to_owned())]).inc();
    }

    /// Such a share of the jobs is still to be looked at for a verdict of a former policy.
    pub fn former_policy_left(&self, share: f64) {
        self.former_policy_left.set(share);
    }

    /// So many jobs keep their verdict of a former policy because they could not be judged, at least.
    pub fn former_policy_failed(&self, jobs: usize) {
        self.former_policy_failed.set(jobs as u64);
    }

    /// A verdict in the journal could not be read.
    pub fn verdict_unreadable(&self) {
        self.unreadable.inc();
    }

    /// A tag was new, or named another image than before.
    pub fn tag_seen(&self) {
        self.tags_seen.inc();
    }
}

/// Asks the store at each scrape.
struct StoreFigures {
    store: Weak<dyn Store>,
    newest: Arc<AtomicI64>,
}

impl fmt::Debug for StoreFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreFigures")
    }
}

impl Collector for StoreFigures {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let Some(store) = self.store.upgrade() else { return Ok(()) };
        let (figures, totals) = (store.figures(), store.totals());
        let mut of = encoder.encode_descriptor(
            "assay_queue_unfinished_jobs",
            "Jobs that are not judged or parked, by class",
            None,
            MetricType::Gauge,
        )?;
        for class in Class::ALL {
            let label = [("class", class.as_str())];
            of.encode_family(&label)?.encode_gauge(&totals.by_class[class as usize])?;
        }
        let oldest = figures.oldest_waiting.map_or(0, |at| store.now().since(at) / 1000);
        let age = match self.newest.load(Ordering::Relaxed) {
            0 => 0,
            at => super::wall::now().unix().saturating_sub(at).max(0).unsigned_abs(),
        };
        let (disk, end) = (store.disk_figures(), store.end());
        for (name, help, value) in [
            ("assay_queue_oldest_job_age_seconds", "Age of the oldest unfinished job", oldest),
            ("assay_queue_jobs_in_memory", "Jobs in memory", figures.jobs_in_memory as u64),
            ("assay_leases", "Leases that are out", figures.leases as u64),
            ("assay_offers", "Offers that are out", figures.offers as u64),
            ("assay_suspect_leases", "Leases not heard of for 60 s", figures.suspects as u64),
            ("assay_known_workers", "Workers heard of lately", figures.workers as u64),
            ("assay_newest_observation_age_seconds", "Since the last one came; 0: none yet", age),
            ("assay_journal_records", "Durable records", end.0),
            (
                "assay_index_lag_records",
                "Durable records that the index has not followed",
                end.0.saturating_sub(disk.indexed.0),
            ),
        ] {
            encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)?;
        }
        let mut of = encoder.encode_descriptor(
            "assay_job_changes",
            "Decisions about jobs since the start: leases, expiries, observations, by kind",
            None,
            MetricType::Counter,
        )?;
        for (change, count) in store.tallies() {
            let label = [("change", change)];
            of.encode_family(&label)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        let name = "assay_journal_sync_duration_seconds";
        let of = encoder.encode_descriptor(
            name,
            "How long the journal's fdatasync took",
            None,
            MetricType::Histogram,
        )?;
        spread(of, &disk.syncs.micros, 1e6)?;
        let of = encoder.encode_descriptor(
            "assay_journal_group_appends",
            "Appends that one sync served",
            None,
            MetricType::Histogram,
        )?;
        spread(of, &disk.syncs.groups, 1.0)
    }
}

/// A histogram of what was counted, in units of `per`.
fn spread(mut of: MetricEncoder<'_>, spread: &Spread, per: f64) -> Result<(), fmt::Error> {
    let bounds = spread.bounds.iter().map(|bound| *bound as f64 / per).chain([f64::MAX]);
    let buckets: Vec<(f64, u64)> = bounds.zip(spread.counts.iter().copied()).collect();
    let count = spread.counts.iter().sum();
    of.encode_histogram::<NoLabelSet>(spread.sum as f64 / per, count, &buckets, None)
}
