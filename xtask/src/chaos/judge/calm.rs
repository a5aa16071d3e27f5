//! How much time passed in which the operator could do its work. What has to be done within a bound is measured by that, so that nobody
//! is blamed for what could not be done while it was paused.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::chaos::history::{History, Trouble, Troubled};

/// The times in which the operator was kept from its work, in order, without overlaps.
pub(super) struct Calm(Vec<(Timestamp, Timestamp)>);

/// What it takes to recover from some kind of trouble.
#[derive(Clone, Copy)]
pub(super) struct Recovery {
    pub(super) from: Trouble,
    /// So long, and a little longer than it lasted, because waits double while it lasts, give or take a tenth.
    pub(super) first: Duration,
    /// The waits are of one leader, and the next one begins anew.
    pub(super) in_term: bool,
    /// Waits are so long that they may go on doubling over a pause which is shorter than one.
    pub(super) spans_pauses: bool,
}

/// The longest wait, and a tenth.
const LONGEST: Duration = Duration::from_mins(11);

impl Recovery {
    /// How long it takes after trouble of this length.
    pub(super) fn after(self, lasted: Duration) -> Duration {
        Self::waits(self.first, lasted)
    }

    /// The longest wait of somebody who tried for so long, having waited this long after the first time.
    pub(super) fn waits(first: Duration, lasted: Duration) -> Duration {
        first.saturating_add(lasted.saturating_mul(5) / 4).min(LONGEST)
    }

    /// When such trouble kept the operator from its work, including what it took to recover.
    fn spans(self, history: &History, concerns: impl Fn(&Troubled) -> bool) -> Vec<(Timestamp, Timestamp)> {
        let mine = history.troubles.iter().filter(|troubled| troubled.trouble == self.from && concerns(troubled));
        let mut spans: Vec<_> = mine.map(|troubled| (troubled.from, troubled.to.unwrap_or(Timestamp::MAX))).collect();
        spans.sort();
        let terms = if self.in_term { history.terms.as_slice() } else { &[] };
        let over = |(from, to): (Timestamp, Timestamp)| {
            let led = terms.iter().map(|term| seen_late(*term)).filter(|term| *term <= to).max();
            let end = later(to, self.after(between(led.map_or(from, |led| led.max(from)), to)));
            let next = terms.iter().copied().filter(|term| *term > to).min();
            next.map_or(end, |next| next.min(end))
        };
        let mut joined: Vec<(Timestamp, Timestamp)> = Vec::new();
        for (from, to) in spans {
            match joined.last_mut() {
                Some(last) if last.1 >= from || (self.spans_pauses && over(*last) >= from) => last.1 = to.max(last.1),
                _ => joined.push((from, to)),
            }
        }
        joined.into_iter().map(|span| (span.0, over(span))).collect()
    }
}

impl Calm {
    /// Without these kinds of trouble, so far as they concern somebody.
    pub(super) fn of(history: &History, recoveries: &[Recovery], concerns: impl Fn(&Troubled) -> bool) -> Self {
        let mut spans: Vec<_> = recoveries.iter().flat_map(|recovery| recovery.spans(history, &concerns)).collect();
        spans.sort();
        let mut merged: Vec<(Timestamp, Timestamp)> = Vec::new();
        for (from, to) in spans {
            match merged.last_mut() {
                Some((_, end)) if *end >= from => *end = to.max(*end),
                _ => merged.push((from, to)),
            }
        }
        Self(merged)
    }

    /// The calm time between two moments.
    pub(super) fn between(&self, from: Timestamp, to: Timestamp) -> Duration {
        let troubled: Duration = self.0.iter().map(|(begin, end)| between((*begin).max(from), (*end).min(to))).sum();
        between(from, to).saturating_sub(troubled)
    }

    /// The moment from which on so much calm time passed until `to`.
    pub(super) fn before(&self, to: Timestamp, mut calm: Duration) -> Timestamp {
        let mut at = to;
        for (begin, end) in self.0.iter().rev().filter(|(begin, _)| *begin < to) {
            let since = between(*end, at);
            if since >= calm {
                break;
            }
            calm -= since;
            at = *begin;
        }
        earlier(at, calm)
    }
}

/// The earliest moment at which an operator may have begun to lead that was seen to lead at a moment.
pub(super) fn seen_late(term: Timestamp) -> Timestamp {
    earlier(term, Duration::from_secs(5))
}

/// Nothing where the second is not later.
pub(super) fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

pub(super) fn later(at: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    at.saturating_add(by).unwrap_or(Timestamp::MAX)
}

pub(super) fn earlier(at: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    at.saturating_sub(by).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::history::Troubled;

    const OPERATOR: Recovery =
        Recovery { from: Trouble::Operator, first: Duration::from_secs(3), in_term: true, spans_pauses: true };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn calm() -> Calm {
        let recovery = Recovery { spans_pauses: false, ..OPERATOR };
        Calm::of(&history(), &[recovery], |_| true)
    }

    fn history() -> History {
        let mut history = History::new(String::new());
        let troubled = |trouble, from, to| Troubled { trouble, paths: None, from: at(from), to: Some(at(to)) };
        history.troubles = vec![
            troubled(Trouble::Operator, 10, 18),
            troubled(Trouble::Operator, 31, 35),
            troubled(Trouble::Okms, 60, 70),
        ];
        history
    }

    #[test]
    fn trouble_and_what_it_takes_to_recover_from_it_do_not_count() {
        // 10 to 31 and 31 to 43.
        assert_eq!(calm().between(at(0), at(60)), Duration::from_secs(27));
        assert_eq!(calm().between(at(12), at(30)), Duration::ZERO);
        assert_eq!(calm().between(at(60), at(70)), Duration::from_secs(10), "another trouble");
        assert_eq!(calm().between(at(70), at(60)), Duration::ZERO);
    }

    #[test]
    fn looking_back_skips_trouble() {
        assert_eq!(calm().before(at(100), Duration::from_secs(50)), at(50));
        assert_eq!(calm().before(at(100), Duration::from_secs(62)), at(5));
        assert_eq!(calm().before(at(40), Duration::from_secs(5)), at(5));
        assert_eq!(calm().before(at(9), Duration::from_secs(5)), at(4));
    }

    #[test]
    fn waits_that_double_over_a_pause_last_as_long_as_both_and_never_for_ever() {
        let calm = Calm::of(&history(), &[OPERATOR], |_| true);
        // 10 to 35, and 3 and 31.25 seconds more.
        assert_eq!(calm.between(at(0), at(80)), Duration::from_millis(10_000 + 10_750));
        assert_eq!(OPERATOR.after(Duration::MAX), LONGEST);
    }

    #[test]
    fn another_leader_begins_anew() {
        let mut history = history();
        history.terms = vec![at(25)];
        let calm = Calm::of(&history, &[OPERATOR], |_| true);
        // 10 to 25, and 31 to 43.
        assert_eq!(calm.between(at(0), at(60)), Duration::from_secs(10 + 6 + 17));
        history.terms = vec![at(39)];
        let calm = Calm::of(&history, &[OPERATOR], |_| true);
        assert_eq!(calm.between(at(0), at(60)), Duration::from_secs(10 + 21), "10 to 39");
        history.terms = vec![at(20), at(38)];
        let calm = Calm::of(&history, &[OPERATOR], |_| true);
        assert_eq!(calm.between(at(0), at(60)), Duration::from_secs(10 + 11 + 22), "10 to 20, and 31 to 38");
    }

    #[test]
    fn trouble_of_others_does_not_count() {
        let recovery = Recovery { from: Trouble::Okms, first: Duration::ZERO, in_term: false, spans_pauses: false };
        let mut history = history();
        for troubled in &mut history.troubles {
            troubled.paths = Some(vec!["team/*".to_owned(), "shared/a".to_owned()]);
        }
        let troubled = |path| {
            let calm = Calm::of(&history, &[recovery], |troubled| troubled.concerns(&[path]));
            calm.between(at(60), at(70)).is_zero()
        };
        assert!(troubled("team/a") && troubled("shared/a"));
        assert!(!troubled("shared/b") && !troubled("teams/a"));
    }
}
