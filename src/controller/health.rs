//! Whether the operator is ready, and whether it is alive.
//!
//! *Ready* is a matter of handles: whoever has to be waited for holds a [`ReadyHandle`] and drops it when it is done; before anybody
//! took one, nothing has begun. *Alive* is a
//! matter of heartbeats: every wake that is served is one, and the controller sends itself a heartbeat through the same path at
//! rest, so that a path that is stuck is noticed; while another process leads, every turn of the wait to lead is one. Nothing here
//! decides what follows; [`crate::process`] answers probes with it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How long nothing may be served before the operator counts as stuck: nine heartbeats of the ten seconds at which the
/// controller sends them. With three failed probes at ten seconds each, a kubelet restarts it after two minutes.
pub const LIVENESS_BOUND: Duration = Duration::from_secs(90);

/// The state of one operator.
pub struct Health {
    bound: Duration,
    last_beat: Mutex<Instant>,
    waits: Arc<Mutex<Waits>>,
}

#[derive(Default)]
struct Waits {
    /// Whether anything was ever waited for.
    begun: bool,
    /// How many handles are out for each thing that is waited for.
    missing: BTreeMap<String, usize>,
}

/// Keeps the operator from being ready until it is dropped.
#[must_use = "the operator is ready as soon as no handle is left"]
pub struct ReadyHandle {
    what: String,
    waits: Arc<Mutex<Waits>>,
}

impl Health {
    /// Alive until `bound` has passed without a [`Health::beat`]; ready when the first handle was taken and the last one dropped.
    pub fn new(bound: Duration) -> Self {
        Self::starting_at(bound, Instant::now())
    }

    fn starting_at(bound: Duration, now: Instant) -> Self {
        Self { bound, last_beat: Mutex::new(now), waits: Arc::default() }
    }

    /// Waits for `what`, which `/readyz` names to people: `the watch of OkmsSecrets`.
    pub fn hold_ready(&self, what: impl Into<String>) -> ReadyHandle {
        let what = what.into();
        let mut waits = lock(&self.waits);
        waits.begun = true;
        *waits.missing.entry(what.clone()).or_default() += 1;
        ReadyHandle { what, waits: Arc::clone(&self.waits) }
    }

    /// What the operator still waits for, sorted; empty once it is ready.
    pub fn waits_for(&self) -> Vec<String> {
        let waits = lock(&self.waits);
        if waits.begun { waits.missing.keys().cloned().collect() } else { vec!["the start".to_owned()] }
    }

    pub fn is_ready(&self) -> bool {
        self.waits_for().is_empty()
    }

    /// A wake was served, or the heartbeat came through.
    pub fn beat(&self) {
        self.beat_at(Instant::now());
    }

    fn beat_at(&self, now: Instant) {
        let mut last = lock(&self.last_beat);
        *last = now.max(*last);
    }

    pub fn is_live(&self) -> bool {
        self.is_live_at(Instant::now())
    }

    fn is_live_at(&self, now: Instant) -> bool {
        now.saturating_duration_since(*lock(&self.last_beat)) <= self.bound
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::new(LIVENESS_BOUND)
    }
}

impl Drop for ReadyHandle {
    fn drop(&mut self) {
        let missing = &mut lock(&self.waits).missing;
        if let Some(count) = missing.get_mut(&self.what) {
            *count -= 1;
            if *count == 0 {
                missing.remove(&self.what);
            }
        }
    }
}

/// A panic elsewhere leaves nothing half done here, since every change is a single step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_ready_when_the_last_handle_is_dropped() {
        let health = Health::default();
        assert_eq!(health.waits_for(), ["the start"]);
        let secrets = health.hold_ready("the watch of Secrets");
        let stores = health.hold_ready("the watch of stores");
        let more_stores = health.hold_ready("the watch of stores");
        assert_eq!(health.waits_for(), ["the watch of Secrets", "the watch of stores"]);
        drop(secrets);
        drop(stores);
        assert_eq!(health.waits_for(), ["the watch of stores"]);
        assert!(!health.is_ready());
        drop(more_stores);
        assert!(health.is_ready());
    }

    #[test]
    fn it_is_alive_as_long_as_it_beats() {
        let start = Instant::now();
        let health = Health::starting_at(LIVENESS_BOUND, start);
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(health.is_live_at(after(90)));
        assert!(!health.is_live_at(after(91)));
        health.beat_at(after(60));
        assert!(health.is_live_at(after(150)));
        assert!(!health.is_live_at(after(151)));
    }

    #[test]
    fn a_late_report_of_an_early_beat_takes_nothing_back() {
        let start = Instant::now();
        let health = Health::starting_at(LIVENESS_BOUND, start);
        health.beat_at(start + Duration::from_secs(80));
        health.beat_at(start + Duration::from_secs(10));
        assert!(health.is_live_at(start + Duration::from_secs(170)));
    }
}
