//! What the operator tells Prometheus. Every series is defined in this file or below it, and nowhere else.
//!
//! Events are counted as they happen, through methods in the words of the domain; state is asked for at each scrape
//! ([`Metrics::on_scrape`]). Labels are bounded: stores, and words that this program chooses; never a path, a name of an object or a
//! text of a remote answer. The series of a store go with its [`StoreMetrics`].

mod process;
mod scrape;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Registry, Unit},
};

use self::{process::ProcessSeries, scrape::Scrape};
use crate::model::StoreName;

pub use self::scrape::{Snapshot, StoreSnapshot};

/// The media type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// From an answer of the same region to the longest that a request may take (`limits.timeout`, 30 s by default).
const REQUEST_BUCKETS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0, 30.0];

/// From a reconcile that finds nothing to do to one whose writes meet a slow API server.
const RECONCILE_BUCKETS: [f64; 9] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

/// From a check that was asked for to the slowest of several intervals; 10 s and 60 s are the shortest and the usual interval.
const CHANGE_BUCKETS: [f64; 10] = [0.5, 1.0, 5.0, 10.0, 20.0, 60.0, 120.0, 300.0, 900.0, 3600.0];

/// The series of one operator.
pub struct Metrics {
    registry: Registry,
    scrape: Scrape,
    requests: Family<RequestLabels, Counter>,
    request_duration: Family<OperationLabels, Histogram, fn() -> Histogram>,
    handshakes: Family<StoreLabel, Counter>,
    withdrawals: Family<StoreLabel, Counter>,
    change_to_secret: Histogram,
    reconciles: Family<ReconcileLabels, Counter>,
    reconcile_duration: Histogram,
    in_flight: Gauge,
    panics: Counter,
    leader: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StoreLabel {
    store: String,
}

impl StoreLabel {
    fn of(store: &StoreName) -> Self {
        Self { store: store.full() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabels {
    store: String,
    operation: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    store: String,
    operation: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReconcileLabels {
    outcome: &'static str,
}

/// How a reconcile ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReconcileOutcome {
    /// Everything that can be done was done.
    Settled,
    /// It waits for OKMS, and will be woken.
    Pending,
    /// Somebody else's write came between; it is looked at again almost at once.
    Conflicted,
    /// Kubernetes failed; it will be tried again.
    Failed,
    /// A bug. It was caught, and the object will be tried again.
    Panicked,
}

impl ReconcileOutcome {
    pub const ALL: [Self; 5] = [Self::Settled, Self::Pending, Self::Conflicted, Self::Failed, Self::Panicked];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Pending => "pending",
            Self::Conflicted => "conflicted",
            Self::Failed => "failed",
            Self::Panicked => "panicked",
        }
    }
}

impl Metrics {
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            scrape: Scrape::default(),
            requests: Family::default(),
            request_duration: Family::new_with_constructor(|| Histogram::new(REQUEST_BUCKETS)),
            handshakes: Family::default(),
            withdrawals: Family::default(),
            change_to_secret: Histogram::new(CHANGE_BUCKETS),
            reconciles: Family::default(),
            reconcile_duration: Histogram::new(RECONCILE_BUCKETS),
            in_flight: Gauge::default(),
            panics: Counter::default(),
            leader: Gauge::default(),
        };
        metrics.register();
        // What can be alerted on exists from the start, so that its first increase is seen as one.
        for outcome in ReconcileOutcome::ALL {
            metrics.reconciles.get_or_create(&ReconcileLabels { outcome: outcome.as_str() }).inc_by(0);
        }
        metrics
    }

    /// The suffixes `_total`, `_seconds` and `_info` are added by the registry.
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("okms_requests", "Requests to OKMS by operation and outcome", self.requests.clone());
        registry.register_with_unit(
            "okms_request_duration",
            "Time from the start of a request to OKMS to the end of its answer",
            Unit::Seconds,
            self.request_duration.clone(),
        );
        registry.register("okms_tls_handshakes", "TLS connections made to OKMS", self.handshakes.clone());
        registry.register(
            "okms_withdrawals",
            "Targets that were deleted because their source was withdrawn",
            self.withdrawals.clone(),
        );
        registry.register_with_unit(
            "okms_change_to_secret",
            "Time from the creation of a version in OKMS to its content in the Secret, where the operator saw it happen",
            Unit::Seconds,
            self.change_to_secret.clone(),
        );
        registry.register("okms_operator_reconciles", "Reconciles by outcome", self.reconciles.clone());
        registry.register_with_unit(
            "okms_operator_reconcile_duration",
            "Time that a reconcile took",
            Unit::Seconds,
            self.reconcile_duration.clone(),
        );
        registry.register("okms_operator_reconciles_in_flight", "Reconciles under way", self.in_flight.clone());
        registry.register("okms_operator_panics", "Panics that were caught; each is a bug", self.panics.clone());
        registry.register("okms_leader", "Whether this process leads: 1, or 0 while it stands by", self.leader.clone());
        registry.register(
            "okms_operator_build",
            "The release that runs",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        registry.register_collector(Box::new(self.scrape.clone()));
        registry.register_collector(Box::new(ProcessSeries::new()));
    }

    /// Says where the state comes from. `take` runs at each scrape, so it must be quick; it should hold what it looks at weakly,
    /// since these metrics hold `take`.
    pub fn on_scrape(&self, take: impl Fn() -> Snapshot + Send + Sync + 'static) {
        self.scrape.set(Box::new(take));
    }

    /// Counts for one store; when the last holder drops it, the store's series go.
    pub fn store(self: &Arc<Self>, store: &StoreName) -> Arc<StoreMetrics> {
        let label = StoreLabel::of(store);
        self.handshakes.get_or_create(&label).inc_by(0);
        self.withdrawals.get_or_create(&label).inc_by(0);
        Arc::new(StoreMetrics { metrics: Arc::clone(self), label, seen: Mutex::default() })
    }

    /// New content reached a Secret this long after it was made in OKMS.
    pub fn change_reached_secret(&self, after: Duration) {
        self.change_to_secret.observe(after.as_secs_f64());
    }

    /// This process leads from now on, or not any more.
    pub fn leads(&self, leads: bool) {
        self.leader.set(leads.into());
    }

    /// A reconcile begins.
    pub fn reconcile(&self) -> RunningReconcile<'_> {
        self.in_flight.inc();
        RunningReconcile { metrics: self, started: Instant::now() }
    }

    /// Everything, as [`CONTENT_TYPE`].
    pub fn encode(&self) -> String {
        let mut text = String::new();
        text::encode(&mut text, &self.registry).expect("writing to a String does not fail");
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// A reconcile under way; one that is dropped instead of ended, because the operator stops, is not counted.
#[must_use = "dropping it says that the reconcile was given up"]
pub struct RunningReconcile<'a> {
    metrics: &'a Metrics,
    started: Instant,
}

impl RunningReconcile<'_> {
    pub fn ended(self, outcome: ReconcileOutcome) {
        let metrics = self.metrics;
        metrics.reconciles.get_or_create(&ReconcileLabels { outcome: outcome.as_str() }).inc();
        metrics.reconcile_duration.observe(self.started.elapsed().as_secs_f64());
        if outcome == ReconcileOutcome::Panicked {
            metrics.panics.inc();
        }
    }
}

impl Drop for RunningReconcile<'_> {
    fn drop(&mut self) {
        self.metrics.in_flight.dec();
    }
}

/// Counts for one store.
pub struct StoreMetrics {
    metrics: Arc<Metrics>,
    label: StoreLabel,
    /// The operations and outcomes that have a series.
    seen: Mutex<BTreeSet<(&'static str, &'static str)>>,
}

impl StoreMetrics {
    /// A request to OKMS ended.
    pub fn request(&self, operation: &'static str, outcome: &'static str, took: Duration) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert((operation, outcome));
        self.metrics.requests.get_or_create(&self.request_labels(operation, outcome)).inc();
        self.metrics.request_duration.get_or_create(&self.operation_labels(operation)).observe(took.as_secs_f64());
    }

    /// A new TLS connection was made.
    pub fn handshake(&self) {
        self.metrics.handshakes.get_or_create(&self.label).inc();
    }

    /// A target was deleted because its source was withdrawn.
    pub fn withdrawal(&self) {
        self.metrics.withdrawals.get_or_create(&self.label).inc();
    }

    fn request_labels(&self, operation: &'static str, outcome: &'static str) -> RequestLabels {
        RequestLabels { store: self.label.store.clone(), operation, outcome }
    }

    fn operation_labels(&self, operation: &'static str) -> OperationLabels {
        OperationLabels { store: self.label.store.clone(), operation }
    }
}

impl Drop for StoreMetrics {
    fn drop(&mut self) {
        for (operation, outcome) in self.seen.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            self.metrics.requests.remove(&self.request_labels(operation, outcome));
            self.metrics.request_duration.remove(&self.operation_labels(operation));
        }
        self.metrics.handshakes.remove(&self.label);
        self.metrics.withdrawals.remove(&self.label);
    }
}

#[cfg(test)]
mod tests;
