//! How long to leave the Kubernetes API alone after it failed.

use std::time::{Duration, Instant};

use super::Config;

/// Failures in a row, of whatever is tried for one object.
#[derive(Default)]
pub(super) struct Retries {
    failures: u32,
    until: Option<Instant>,
}

impl Retries {
    /// How long there is still to wait. Events do not shorten it.
    pub fn waits(&self, now: Instant) -> Option<Duration> {
        self.until.map(|until| until.saturating_duration_since(now)).filter(|wait| !wait.is_zero())
    }

    /// It failed once more; answers how long to wait: at least for as long as the API server asks.
    pub fn failed(&mut self, now: Instant, retry_after: Duration, config: &Config) -> Duration {
        let wait = config.backoff(self.failures).max(retry_after);
        self.failures += 1;
        self.until = Some(now + wait);
        wait
    }

    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// How often it failed since it last went well.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_double_the_wait_and_a_success_ends_it() {
        let (now, config) = (Instant::now(), Config::default());
        let mut retries = Retries::default();
        let waits: Vec<f64> = (0..4).map(|_| retries.failed(now, Duration::ZERO, &config).as_secs_f64()).collect();
        for (wait, expected) in waits.iter().zip([1.0, 2.0, 4.0, 8.0]) {
            assert!((wait / expected - 1.0).abs() <= 0.2, "{waits:?}");
        }
        assert!(retries.waits(now).is_some());
        retries.succeeded();
        assert!(retries.waits(now).is_none());
    }

    #[test]
    fn the_api_server_is_left_alone_for_as_long_as_it_asks() {
        let (now, config, minute) = (Instant::now(), Config::default(), Duration::from_mins(1));
        assert_eq!(Retries::default().failed(now, minute, &config), minute);
        assert!(Retries { failures: 20, until: None }.failed(now, minute, &config) > minute);
    }
}
