//! What the operator remembers of each `OkmsSecret`, by uid: one row, dropped with the object. It holds no values.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rand::RngExt;

use super::Config;
use crate::{
    api::OkmsSecretStatus,
    model::{Mark, StoreName},
    plan::Written,
};

/// Everything that is remembered of one object.
#[derive(Default)]
pub(super) struct Row {
    /// The target as it was last seen or written.
    pub target: Option<KnownTarget>,
    /// The status as it was last written: the watch may still show an older one.
    pub status: Option<OkmsSecretStatus>,
    /// The generation for which the content was found not to render: it is read again when it changes, not to find out the same.
    pub unrenderable: Option<i64>,
    /// The API server refused the last write: the values are wanted again for the next try.
    pub refused: bool,
    /// Since when this generation waits for OKMS.
    pub pending: Option<(i64, Instant)>,
    /// The store whose desk knows the object.
    pub reads_from: Option<StoreName>,
    /// Failures of the Kubernetes API in a row, and until when to wait.
    pub failures: u32,
    pub wait_until: Option<Instant>,
}

/// A target that is ours and equals the rendering of what it was made from.
#[derive(Clone)]
pub(super) struct KnownTarget {
    pub name: String,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    pub written: Written,
    /// What it was made from, for each source.
    pub marks: Vec<Option<Mark>>,
    pub keys: usize,
}

impl Row {
    /// How long the object still has to wait after a failure of the Kubernetes API. Events do not shorten it.
    pub fn waits(&self, now: Instant) -> Option<Duration> {
        self.wait_until.map(|until| until.saturating_duration_since(now)).filter(|wait| !wait.is_zero())
    }

    /// The Kubernetes API failed once more; answers how long to wait.
    pub fn failed(&mut self, now: Instant, config: &Config) -> Duration {
        let doubled = config.backoff_first.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        let wait = doubled.min(config.backoff_cap).mul_f64(rand::rng().random_range(0.8..1.2));
        self.failures += 1;
        self.wait_until = Some(now + wait);
        wait
    }

    pub fn succeeded(&mut self) {
        self.failures = 0;
        self.wait_until = None;
    }

    /// Since when the given generation waits for OKMS.
    pub fn pending_since(&mut self, generation: i64, now: Instant) -> Instant {
        match self.pending {
            Some((known, since)) if known == generation => since,
            _ => {
                self.pending = Some((generation, now));
                now
            }
        }
    }
}

/// The rows of all objects.
#[derive(Default)]
pub(super) struct Rows(Mutex<HashMap<Arc<str>, Row>>);

impl Rows {
    /// Takes a row out for as long as its object is reconciled, which no two tasks do at once. A reconcile that panics loses it, and
    /// the next one starts from what the cluster shows.
    pub fn take(&self, uid: &str) -> Row {
        self.lock().remove(uid).unwrap_or_default()
    }

    pub fn put(&self, uid: Arc<str>, row: Row) {
        self.lock().insert(uid, row);
    }

    pub fn drop(&self, uid: &str) {
        self.lock().remove(uid);
    }

    /// Drops every row whose object is not there any more.
    pub fn retain(&self, live: &HashSet<Arc<str>>) {
        self.lock().retain(|uid, _| live.contains(uid));
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Row>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_double_the_wait_and_a_success_ends_it() {
        let (now, config) = (Instant::now(), Config::default());
        let mut row = Row::default();
        let waits: Vec<f64> = (0..4).map(|_| row.failed(now, &config).as_secs_f64()).collect();
        for (wait, expected) in waits.iter().zip([1.0, 2.0, 4.0, 8.0]) {
            assert!((wait / expected - 1.0).abs() <= 0.2, "{waits:?}");
        }
        assert!(row.waits(now).is_some());
        row.succeeded();
        assert!(row.waits(now).is_none());
    }

    #[test]
    fn a_new_generation_waits_from_its_own_start() {
        let now = Instant::now();
        let mut row = Row::default();
        assert_eq!(row.pending_since(1, now), now);
        assert_eq!(row.pending_since(1, now + Duration::from_secs(5)), now);
        assert_eq!(row.pending_since(2, now + Duration::from_secs(5)), now + Duration::from_secs(5));
    }

    #[test]
    fn rows_of_objects_that_are_gone_are_swept() {
        let rows = Rows::default();
        rows.put("a".into(), Row::default());
        rows.put("b".into(), Row::default());
        rows.retain(&["b".into()].into());
        assert_eq!(rows.len(), 1);
    }
}
