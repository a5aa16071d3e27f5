//! How far a certificate is from its end, in the steps that people are told of. It reads no clock.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// The last step that was passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::controller) enum Stage {
    Expired,
    Within(u8),
}

impl Stage {
    /// The reason of the condition.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Expired => "Expired",
            Self::Within(1) => "ExpiresWithin1Day",
            Self::Within(7) => "ExpiresWithin7Days",
            Self::Within(_) => "ExpiresWithin30Days",
        }
    }
}

/// Days before the end, the last first.
const STEPS: [u8; 3] = [1, 7, 30];

/// Where a certificate stands that ends at `not_after`; `None` while there is time.
pub(in crate::controller) fn stage(not_after: Timestamp, now: Timestamp) -> Option<Stage> {
    if now > not_after {
        return Some(Stage::Expired);
    }
    STEPS.into_iter().find(|days| now >= before(not_after, *days)).map(Stage::Within)
}

/// How long until the next step; `None` after the last.
pub(super) fn next(not_after: Timestamp, now: Timestamp) -> Option<Duration> {
    let ends = not_after.saturating_add(SignedDuration::from_millis(1)).unwrap_or(Timestamp::MAX);
    let steps = STEPS.into_iter().map(|days| before(not_after, days)).chain([ends]);
    steps.filter(|step| *step > now).min().map(|step| step.duration_since(now).unsigned_abs())
}

fn before(not_after: Timestamp, days: u8) -> Timestamp {
    not_after.saturating_sub(SignedDuration::from_hours(24 * i64::from(days))).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn each_step_is_passed_once() {
        let end = at(100 * DAY);
        for (now, expected) in [
            (at(0), None),
            (at(70 * DAY - 1), None),
            (at(70 * DAY), Some("ExpiresWithin30Days")),
            (at(93 * DAY - 1), Some("ExpiresWithin30Days")),
            (at(93 * DAY), Some("ExpiresWithin7Days")),
            (at(99 * DAY), Some("ExpiresWithin1Day")),
            (end, Some("ExpiresWithin1Day")),
            (at(100 * DAY + 1), Some("Expired")),
        ] {
            assert_eq!(stage(end, now).map(Stage::reason), expected, "{now}");
        }
    }

    #[test]
    fn the_next_step_is_another_one() {
        let end = at(100 * DAY);
        let mut now = at(0);
        let mut steps = Vec::new();
        while let Some(wait) = next(end, now) {
            now = now.saturating_add(SignedDuration::try_from(wait).unwrap()).unwrap();
            steps.push(stage(end, now).unwrap().reason());
        }
        assert_eq!(steps, ["ExpiresWithin30Days", "ExpiresWithin7Days", "ExpiresWithin1Day", "Expired"]);
    }

    #[test]
    fn a_certificate_without_an_end_is_never_near_it() {
        assert_eq!(stage(Timestamp::MAX, at(0)), None);
        assert!(next(Timestamp::MAX, at(0)).is_some());
    }
}
