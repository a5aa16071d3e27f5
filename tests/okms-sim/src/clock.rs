//! The simulator's clock: real time plus an offset that tests move.
//!
//! One clock serves the whole simulator: lifetimes of versions, deletion times and the validity of client
//! certificates and tokens. It never goes backwards by itself and never sleeps.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

#[derive(Default)]
pub(crate) struct Clock {
    offset_nanoseconds: AtomicI64,
}

impl Clock {
    pub(crate) fn now(&self) -> Timestamp {
        let offset = self.offset_nanoseconds.load(Ordering::Relaxed);
        Timestamp::now()
            .saturating_add(SignedDuration::from_nanos(offset))
            .expect("a signed duration has no calendar units, so adding one cannot fail")
    }

    /// Moves the clock forward for good. Offsets beyond 292 years saturate.
    pub(crate) fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_nanos()).unwrap_or(i64::MAX);
        self.offset_nanoseconds
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |offset| Some(offset.saturating_add(by)))
            .expect("the closure always returns a value");
    }
}
