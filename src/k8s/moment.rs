//! A clock for leases: it goes on while the machine sleeps, and nobody can set it.

use std::{ops::Add, time::Duration};

use rustix::time::{ClockId, clock_gettime};

/// A moment since the machine started. A process that was suspended, or whose machine was, finds that this clock went on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Moment(Duration);

impl Moment {
    pub fn now() -> Self {
        let time = clock_gettime(CLOCK);
        // Neither is negative: it counts from the start of the machine.
        Self(Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0)))
    }

    pub const fn after_boot(time: Duration) -> Self {
        Self(time)
    }

    /// How long it is until `later`; nothing where that is over.
    pub fn until(self, later: Self) -> Duration {
        later.0.saturating_sub(self.0)
    }

    /// In nanoseconds, which last for five centuries.
    pub(super) fn to_nanos(self) -> u64 {
        u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX)
    }

    pub(super) fn from_nanos(nanos: u64) -> Self {
        Self(Duration::from_nanos(nanos))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time))
    }
}

#[cfg(target_os = "linux")]
const CLOCK: ClockId = ClockId::Boottime;

/// Where a developer builds it: macOS counts sleep in it.
#[cfg(not(target_os = "linux"))]
const CLOCK: ClockId = ClockId::Monotonic;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on() {
        let (before, after) = (Moment::now(), Moment::now());
        assert!(before > Moment::default() && after >= before);
        assert_eq!(before.until(before + Duration::from_secs(2)), Duration::from_secs(2));
        assert_eq!((before + Duration::from_secs(2)).until(before), Duration::ZERO);
        assert_eq!(Moment::from_nanos(before.to_nanos()), before);
    }
}
