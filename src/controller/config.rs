//! How the operator behaves. Every duration is here, so that tests can shorten it; a few are flags of the binary as well.

use std::{path::PathBuf, time::Duration};

use rand::RngExt;

use super::clock::Clock;
use crate::{election, feed::Timing, okms::EndpointPattern};

/// What is held against the stores of namespaces, whose owners choose where a credential goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespacedStores {
    /// The endpoints and token endpoints that they may name.
    pub allowed_endpoints: Vec<EndpointPattern>,
    /// How many of a namespace are served, the oldest first.
    pub max_per_namespace: usize,
}

impl Default for NamespacedStores {
    fn default() -> Self {
        Self { allowed_endpoints: EndpointPattern::ovhcloud(), max_per_namespace: 5 }
    }
}

/// The settings of one operator.
#[derive(Debug, Clone)]
pub struct Config {
    /// The operator's own namespace: where the Secrets that a cluster store refers to are looked up.
    pub namespace: String,
    /// Limits the operator to these namespaces; empty: all.
    pub watch_namespaces: Vec<String>,
    /// Limits the operator to these `ClusterOkmsStore`s; empty: all. Where several operators share a cluster, each store is to be
    /// served by one of them, since each writes its status.
    pub cluster_stores: Vec<String>,
    /// How the stores of namespaces are served; absent: not at all.
    pub namespaced_stores: Option<NamespacedStores>,
    /// The folder below which a store's `mount` is a folder.
    pub mount_root: PathBuf,
    /// Intervals below this are stretched to it; what is in force stands in the status.
    pub min_refresh_interval: Duration,
    /// The interval where neither the object nor its store names one.
    pub refresh_interval: Duration,
    /// A first synchronisation, or that of a changed spec, that takes longer than this is told, unless it only waits for others to be written.
    pub progress_after: Duration,
    /// A target that is missing or drifted for longer than this, while its repair is under way, is told.
    pub drift_after: Duration,
    /// The time of day, as certificates are compared with it.
    pub clock: Clock,
    /// How often that is done at least: a clock may be set.
    pub clock_check: Duration,
    /// How often mounted credentials are looked at. A kubelet takes up to a minute to bring a changed Secret there.
    pub credential_poll: Duration,
    /// When to try again what the API server refused, or what is somebody else's, if nothing tells that it changed.
    pub retry_refused: Duration,
    /// An object is checked because somebody asked for it at most this often.
    pub min_refresh_request: Duration,
    /// Somebody undid what was written so many times …
    pub conflict_repairs: usize,
    /// … within this: then it is written only once in such a time.
    pub conflict_window: Duration,
    /// After a failure of the Kubernetes API an object waits this long, then doubling …
    pub backoff_first: Duration,
    /// … up to this.
    pub backoff_cap: Duration,
    /// When to try again after a panic, which is a bug and does not go away by itself: often enough to mend when its cause does,
    /// seldom enough not to flood the log.
    pub retry_panicked: Duration,
    /// How often the operator sends itself a wake, to prove that wakes are served; while it does not lead, how often it looks at least
    /// whether it may.
    pub heartbeat: Duration,
    /// The election among replicas; absent: this process is the only instance there is.
    pub election: Option<election::Config>,
    /// How many objects are reconciled at once. A reconcile waits only for the Kubernetes API.
    pub concurrency: u16,
    /// The durations of the feed.
    pub timing: Timing,
}

impl Config {
    /// How long to wait after a failure of the Kubernetes API, where so many came before it in a row.
    pub fn backoff(&self, before: u32) -> Duration {
        let doubled = self.backoff_first.saturating_mul(1_u32.checked_shl(before).unwrap_or(u32::MAX));
        doubled.min(self.backoff_cap).mul_f64(rand::rng().random_range(0.8..1.2))
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            namespace: "default".to_owned(),
            watch_namespaces: Vec::new(),
            cluster_stores: Vec::new(),
            namespaced_stores: Some(NamespacedStores::default()),
            mount_root: "/etc/okms".into(),
            min_refresh_interval: Duration::from_secs(10),
            refresh_interval: Duration::from_mins(1),
            progress_after: Duration::from_secs(10),
            drift_after: Duration::from_secs(1),
            clock: Clock::default(),
            clock_check: Duration::from_hours(1),
            credential_poll: Duration::from_secs(5),
            retry_refused: Duration::from_mins(1),
            min_refresh_request: Duration::from_secs(10),
            conflict_repairs: 5,
            conflict_window: Duration::from_mins(10),
            backoff_first: Duration::from_secs(1),
            backoff_cap: Duration::from_mins(5),
            retry_panicked: Duration::from_secs(30),
            heartbeat: Duration::from_secs(10),
            election: None,
            concurrency: 16,
            timing: Timing::default(),
        }
    }
}
