//! How much time passed in which the operator could do its work. What has to be done within a bound is measured by that, so that nobody
//! is blamed for what could not be done while it was paused.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::chaos::history::{History, Trouble};

/// The times in which the operator was kept from its work, in order, without overlaps.
pub(super) struct Calm(Vec<(Timestamp, Timestamp)>);

impl Calm {
    /// With these kinds of trouble, each lasting longer by what it takes to recover from it: some time, and as long again as it lasted,
    /// because waits double while it lasts.
    pub(super) fn of(history: &History, troubles: &[(Trouble, Duration)]) -> Self {
        let mut spans: Vec<_> = history
            .troubles
            .iter()
            .filter_map(|troubled| {
                let (_, recovery) = troubles.iter().find(|(trouble, _)| *trouble == troubled.trouble)?;
                let to = troubled.to.unwrap_or(Timestamp::MAX);
                Some((troubled.from, later(to, *recovery + between(troubled.from, to))))
            })
            .collect();
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

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn calm() -> Calm {
        let mut history = History::new(String::new());
        let troubled = |trouble, from, to| Troubled { trouble, from: at(from), to: Some(at(to)) };
        history.troubles = vec![
            troubled(Trouble::Operator, 10, 20),
            troubled(Trouble::Operator, 35, 40),
            troubled(Trouble::Okms, 60, 70),
        ];
        Calm::of(&history, &[(Trouble::Operator, Duration::from_secs(5))])
    }

    #[test]
    fn trouble_and_what_it_takes_to_recover_from_it_do_not_count() {
        // 10 to 35 and 35 to 50.
        assert_eq!(calm().between(at(0), at(60)), Duration::from_secs(20));
        assert_eq!(calm().between(at(12), at(30)), Duration::ZERO);
        assert_eq!(calm().between(at(60), at(70)), Duration::from_secs(10), "another trouble");
        assert_eq!(calm().between(at(70), at(60)), Duration::ZERO);
    }

    #[test]
    fn looking_back_skips_trouble() {
        assert_eq!(calm().before(at(100), Duration::from_secs(50)), at(50));
        assert_eq!(calm().before(at(100), Duration::from_secs(55)), at(5));
        assert_eq!(calm().before(at(45), Duration::from_secs(5)), at(5));
        assert_eq!(calm().before(at(9), Duration::from_secs(5)), at(4));
    }
}
