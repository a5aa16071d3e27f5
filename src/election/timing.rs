//! The three durations of an election, in the order that makes it safe.

use std::time::Duration;

/// Named as in client-go, and held to the same order: whoever leads stops before anybody else may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    lease_duration: Duration,
    renew_deadline: Duration,
    retry_period: Duration,
}

/// Why durations make no safe election.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Disorder {
    #[error("the lease duration has to be in whole seconds, up to an hour")]
    LeaseDuration,
    #[error("the lease duration has to be longer than the renew deadline")]
    RenewDeadline,
    #[error("the renew deadline has to be longer than the retry period by more than a fifth")]
    RetryPeriod,
    #[error("the retry period has to be longer than nothing")]
    NoRetryPeriod,
}

/// How much longer than the retry period a rest may be, so that those who contend do not meet again and again.
pub(super) const JITTER: f64 = 1.2;

/// Longer ones help nobody, and are likelier to be mistakes.
const LONGEST: Duration = Duration::from_hours(1);

impl Timing {
    /// `lease_duration`: how long others wait for a holder that is not heard of any more. `renew_deadline`: how long the holder acts on
    /// a renewal. `retry_period`: how often it renews.
    pub fn new(lease_duration: Duration, renew_deadline: Duration, retry_period: Duration) -> Result<Self, Disorder> {
        if lease_duration.subsec_nanos() != 0 || lease_duration > LONGEST {
            return Err(Disorder::LeaseDuration);
        }
        if lease_duration <= renew_deadline {
            return Err(Disorder::RenewDeadline);
        }
        // At most an hour.
        if renew_deadline <= retry_period || renew_deadline <= retry_period.mul_f64(JITTER) {
            return Err(Disorder::RetryPeriod);
        }
        if retry_period.is_zero() {
            return Err(Disorder::NoRetryPeriod);
        }
        Ok(Self { lease_duration, renew_deadline, retry_period })
    }

    pub fn lease_duration(&self) -> Duration {
        self.lease_duration
    }

    pub fn renew_deadline(&self) -> Duration {
        self.renew_deadline
    }

    pub fn retry_period(&self) -> Duration {
        self.retry_period
    }

    /// As a Lease says it.
    pub(super) fn lease_seconds(&self) -> i32 {
        i32::try_from(self.lease_duration.as_secs()).unwrap_or(i32::MAX)
    }
}

impl Default for Timing {
    /// Those of client-go's users: a dead leader is replaced within a quarter of a minute, an API server may be away for ten seconds.
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { lease_duration: seconds(15), renew_deadline: seconds(10), retry_period: seconds(2) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_held() {
        let timing = |lease, renew, retry| {
            Timing::new(Duration::from_millis(lease), Duration::from_millis(renew), Duration::from_millis(retry))
        };
        assert_eq!(timing(15_000, 10_000, 2_000), Ok(Timing::default()));
        assert_eq!(timing(1_000, 999, 1).map(|timing| timing.lease_seconds()), Ok(1));
        for (durations, disorder) in [
            ((10_000, 10_000, 2_000), Disorder::RenewDeadline),
            ((1_500, 1_000, 200), Disorder::LeaseDuration),
            ((3_601_000, 1_000, 200), Disorder::LeaseDuration),
            ((15_000, 10_000, 10_000), Disorder::RetryPeriod),
            ((15_000, 10_000, 9_000), Disorder::RetryPeriod),
            ((15_000, 10_000, u64::MAX), Disorder::RetryPeriod),
            ((15_000, 10_000, 0), Disorder::NoRetryPeriod),
            ((0, 0, 0), Disorder::RenewDeadline),
        ] {
            let (lease, renew, retry) = durations;
            assert_eq!(timing(lease, renew, retry), Err(disorder), "{durations:?}");
        }
    }
}
