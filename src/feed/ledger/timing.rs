//! The durations of the ledger, with where each comes from. Tests shorten them.

use std::time::Duration;

use rand::RngExt;

/// How much later than asked for a request is made again at most.
const RETRY_SPREAD: Duration = Duration::from_secs(10);

/// Durations of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// A synced object is believed for at least this long while checks fail; else for three of its intervals.
    pub staleness_floor: Duration,
    /// The second not-found that proves a deletion comes at least this long after the first.
    pub confirm_after: Duration,
    /// Once OKMS is back, what was told that it is down is checked within this, or one interval if that is shorter.
    pub told_within: Duration,
    /// A value that was read is dropped after this at the latest.
    pub value_ttl: Duration,
    /// What needs a person (forbidden, not found) is tried again after this, then doubling …
    pub slow_first: Duration,
    /// … up to this, or the interval if that is longer.
    pub slow_cap: Duration,
    /// What may mend by itself is tried again after this, then doubling …
    pub backoff_first: Duration,
    /// … up to this.
    pub backoff_cap: Duration,
    /// A `Retry-After` is obeyed up to this, whether it is the store's or one path's.
    pub retry_after_cap: Duration,
    /// A list of secrets is believed about a version that was checked by path so long after it was made: twice as long as the clock of
    /// OKMS may differ from ours before its store says so.
    pub list_after: Duration,
    /// What the list shows unchanged is checked by path this often all the same, or as often as a fifth of the rate allows: so long a
    /// list that lags may hide something. It is also how long a list is left alone that did.
    pub audit_every: Duration,
    /// After a walk of the list that was in vain, another is tried after this, then doubling …
    pub walk_first: Duration,
    /// … up to this.
    pub walk_cap: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            staleness_floor: Duration::from_mins(5),
            confirm_after: Duration::from_secs(15),
            told_within: Duration::from_mins(1),
            value_ttl: Duration::from_mins(1),
            slow_first: Duration::from_secs(30),
            slow_cap: Duration::from_mins(10),
            backoff_first: Duration::from_secs(1),
            backoff_cap: Duration::from_mins(1),
            retry_after_cap: Duration::from_mins(15),
            list_after: Duration::from_mins(10),
            audit_every: Duration::from_hours(1),
            walk_first: Duration::from_mins(1),
            walk_cap: Duration::from_hours(1),
        }
    }
}

impl Timing {
    /// How long to wait after the n-th failure in a row (the first is 1) of something that may mend by itself.
    pub fn backoff(&self, failures: u32) -> Duration {
        jittered(doubled(self.backoff_first, failures).min(self.backoff_cap))
    }

    /// How long no walk is tried after the n-th in a row that was in vain.
    pub fn without_walks(&self, failures: u32) -> Duration {
        jittered(doubled(self.walk_first, failures).min(self.walk_cap))
    }

    /// How long OKMS itself asked to wait: never shorter, and a little longer, so that not everybody comes back at one moment.
    pub fn asked_for(&self, retry_after: Option<Duration>) -> Option<Duration> {
        let asked = retry_after?.min(self.retry_after_cap);
        Some(asked + asked.mul_f64(rand::rng().random_range(0.0..0.1)).min(RETRY_SPREAD))
    }

    /// The same for something that needs a person.
    pub fn slow(&self, failures: u32, interval: Option<Duration>) -> Duration {
        let cap = interval.map_or(self.slow_cap, |interval| interval.max(self.slow_cap));
        jittered(doubled(self.slow_first, failures).min(cap))
    }
}

fn doubled(first: Duration, failures: u32) -> Duration {
    first.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX))
}

/// Ten percent around the given duration, so that what failed together is not tried again together.
fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(rand::rng().random_range(0.9..1.1))
}

/// A random part of an interval, so that what began together spreads over it.
pub(super) fn phase(interval: Duration) -> Duration {
    interval.mul_f64(rand::rng().random_range(0.5..1.0))
}

/// A random part of a span, so that what is due at one moment spreads over it.
pub(super) fn some_of(span: Duration) -> Duration {
    span.mul_f64(rand::rng().random_range(0.0..1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_okms_asks_for_is_never_cut_short_but_by_the_cap() {
        let timing = Timing::default();
        for asked in [0, 1, 60, 900] {
            let asked = Duration::from_secs(asked);
            let wait = timing.asked_for(Some(asked)).unwrap();
            assert!(wait >= asked && wait <= asked + asked / 10 && wait <= asked + RETRY_SPREAD, "{wait:?}");
        }
        let wait = timing.asked_for(Some(Duration::from_hours(24))).unwrap();
        assert!(wait >= timing.retry_after_cap && wait <= timing.retry_after_cap + RETRY_SPREAD, "{wait:?}");
        assert_eq!(timing.asked_for(None), None);
    }

    #[test]
    fn waits_double_up_to_their_cap() {
        let timing = Timing::default();
        let near = |wait: Duration, seconds: f64| (wait.as_secs_f64() / seconds - 1.0).abs() <= 0.1;
        assert!(near(timing.backoff(1), 1.0) && near(timing.backoff(4), 8.0) && near(timing.backoff(200), 60.0));
        assert!(
            near(timing.slow(1, None), 30.0) && near(timing.slow(2, None), 60.0) && near(timing.slow(99, None), 600.0)
        );
        assert!(near(timing.slow(99, Some(Duration::from_hours(1))), 3600.0), "never more often than the interval");
    }
}
