//! How far the clock of OKMS is from ours ([`Clock`]), by the `Date` of its answers.
//!
//! Certificates end, and versions are deactivated, at a time: whoever has another clock judges them wrongly. What comes from a cache, or
//! is no date that a server would have today, says nothing.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI64, Ordering},
};

use jiff::{SignedDuration, Timestamp, fmt::rfc2822};
use reqwest::header::{AGE, DATE, HeaderMap};

/// What is tolerated: five minutes, as Kerberos does. Clocks that are kept are within a second; the rest is for slow answers.
const TOLERANCE: SignedDuration = SignedDuration::from_mins(5);

/// Within this they agree again. What drifts slowly would be told anew with each answer at a single bound.
const AGREEMENT: SignedDuration = SignedDuration::from_mins(4);

/// No server has an earlier clock than this, from before the first release, or a later one than this, the end of the century.
const PLAUSIBLE: std::ops::Range<Timestamp> =
    Timestamp::constant(1_735_689_600, 0)..Timestamp::constant(4_102_444_800, 0);

/// Stands for an offset that is not known.
const UNKNOWN: i64 = i64::MIN;

/// The difference between two clocks, shared with the client that measures it.
#[derive(Debug, Clone)]
pub struct Clock(Arc<Measured>);

#[derive(Debug)]
struct Measured {
    offset: AtomicI64,
    differs: AtomicBool,
}

/// The clocks differ by too much. `Display` is a stable sentence that says what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the clock of the operator and that of OKMS differ by more than five minutes: set the clock of the node by NTP; until then ends \
     of certificates and planned deactivations may be judged wrongly"
)]
pub struct ClockProblem;

impl Default for Clock {
    fn default() -> Self {
        Self(Arc::new(Measured { offset: AtomicI64::new(UNKNOWN), differs: AtomicBool::new(false) }))
    }
}

impl Clock {
    /// By how much OKMS is ahead of us, to a second; negative where it is behind. `None` before an answer has said so.
    pub fn offset(&self) -> Option<SignedDuration> {
        match self.0.offset.load(Ordering::Relaxed) {
            UNKNOWN => None,
            seconds => Some(SignedDuration::from_secs(seconds)),
        }
    }

    pub fn problem(&self) -> Option<ClockProblem> {
        self.0.differs.load(Ordering::Relaxed).then_some(ClockProblem)
    }

    /// Notes what an answer says that was asked for and came at these times. Answers whether the clocks differ by too much, if that is
    /// news.
    pub(super) fn note(&self, headers: &HeaderMap, asked: Timestamp, came: Timestamp) -> Option<bool> {
        let offset = offset(headers, asked, came)?;
        let before = self.0.offset.swap(offset.as_secs(), Ordering::Relaxed);
        let bound = if self.0.differs.load(Ordering::Relaxed) { AGREEMENT } else { TOLERANCE };
        let differs = offset.abs() > bound;
        let differed = self.0.differs.swap(differs, Ordering::Relaxed);
        (before == UNKNOWN || differed != differs).then_some(differs)
    }
}

/// The answer was made somewhen between the two times; what is within them is no difference.
fn offset(headers: &HeaderMap, asked: Timestamp, came: Timestamp) -> Option<SignedDuration> {
    if headers.contains_key(AGE) {
        return None;
    }
    let date = headers.get(DATE)?.to_str().ok()?;
    let date = rfc2822::DateTimeParser::new().parse_timestamp(date).ok().filter(|date| PLAUSIBLE.contains(date))?;
    Some(if date > came {
        date.duration_since(came)
    } else if date < asked {
        date.duration_since(asked)
    } else {
        SignedDuration::ZERO
    })
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn dated(date: &str) -> HeaderMap {
        HeaderMap::from_iter([(DATE, HeaderValue::from_str(date).unwrap())])
    }

    fn seen(headers: &HeaderMap) -> Option<i64> {
        let (asked, came) = (at("2026-10-21T07:28:00Z"), at("2026-10-21T07:28:30Z"));
        offset(headers, asked, came).map(|offset| offset.as_secs())
    }

    #[test]
    fn the_offset_is_what_the_time_of_the_request_does_not_explain() {
        for (date, seconds) in [
            ("Wed, 21 Oct 2026 07:28:00 GMT", 0),
            ("Wed, 21 Oct 2026 07:28:30 GMT", 0),
            ("Wed, 21 Oct 2026 07:38:30 GMT", 600),
            ("Wed, 21 Oct 2026 07:18:00 GMT", -600),
        ] {
            assert_eq!(seen(&dated(date)), Some(seconds), "{date}");
        }
    }

    #[test]
    fn what_is_absent_or_implausible_says_nothing() {
        for date in ["", "today", "Thu, 01 Jan 1970 00:00:00 GMT", "Wed, 01 Jan 9000 00:00:00 GMT", "1792567680"] {
            assert_eq!(seen(&dated(date)), None, "{date}");
        }
        assert_eq!(seen(&HeaderMap::new()), None);
        let mut cached = dated("Wed, 21 Oct 2026 01:00:00 GMT");
        cached.insert(AGE, HeaderValue::from_static("23280"));
        assert_eq!(seen(&cached), None);
    }

    #[test]
    fn a_difference_is_news_once() {
        let clock = Clock::default();
        assert_eq!((clock.offset(), clock.problem()), (None, None));
        let now = at("2026-10-21T07:28:00Z");
        let note = |date| clock.note(&dated(date), now, now);
        assert_eq!(note("nonsense"), None);
        assert_eq!(note("Wed, 21 Oct 2026 07:28:00 GMT"), Some(false));
        assert_eq!(note("Wed, 21 Oct 2026 07:33:00 GMT"), None, "five minutes are tolerated");
        assert_eq!(clock.problem(), None);
        assert_eq!(note("Wed, 21 Oct 2026 07:33:01 GMT"), Some(true));
        assert_eq!(note("Wed, 21 Oct 2026 07:20:00 GMT"), None);
        assert_eq!((clock.offset(), clock.problem()), (Some(SignedDuration::from_mins(-8)), Some(ClockProblem)));
        assert_eq!(note("Wed, 21 Oct 2026 07:23:00 GMT"), None, "what is at the bound is not told again and again");
        assert_eq!(note("Wed, 21 Oct 2026 07:22:59 GMT"), None);
        assert_eq!(note("Wed, 21 Oct 2026 07:24:00 GMT"), Some(false));
        assert_eq!(note("Wed, 21 Oct 2026 07:23:00 GMT"), None);
        let sentence = ClockProblem.to_string();
        assert!(!sentence.contains(|c: char| c.is_ascii_digit()), "{sentence}");
    }
}
