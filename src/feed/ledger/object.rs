//! One `OkmsSecret` in the books: what it reads, what it waits for, what it was last told.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::{Answer, Lane, Wish};
use crate::model::{Finding, Mark, StoreTroubleKind, TroubleKind, Verdict, Version, Withdrawal};

pub(super) struct Object {
    pub generation: i64,
    pub refresh: u32,
    pub wishes: Vec<Wish>,
    pub interval: Option<Duration>,
    pub lane: Lane,
    /// When this object was first asked for: staleness counts from here until its sources were checked.
    pub enlisted: Instant,
    /// Absent while the object is at rest.
    pub round: Option<Round>,
    /// What the last [`Answer`] said, without values and words: the object is woken when this would change.
    pub told: Option<Told>,
    /// The moment at which a timer looks whether this object has become stale.
    pub watched: Option<Instant>,
}

/// A set of readings that an object waits for, all made after one trigger.
#[derive(Debug, Clone, Copy)]
pub(super) struct Round {
    /// Only checks that began after this count; absent: any does.
    pub since: Option<Instant>,
    /// Values are wanted too.
    pub data: bool,
    /// When the answer was handed over; the round stays until it is settled, so that a failed write can have the values again.
    pub delivered: Option<Instant>,
}

impl Object {
    pub fn same_sources(&self, wishes: &[Wish]) -> bool {
        self.wishes.iter().map(|wish| &wish.source).eq(wishes.iter().map(|wish| &wish.source))
    }

    pub fn has_target(&self) -> bool {
        self.wishes.iter().any(|wish| wish.held.is_some())
    }

    /// The round, if it is still waited for.
    pub fn open_round(&self) -> Option<&Round> {
        self.round.as_ref().filter(|round| round.delivered.is_none())
    }

    /// The round, if values are wanted or in use.
    pub fn round_with_data(&self) -> Option<&Round> {
        self.round.as_ref().filter(|round| round.data)
    }

    pub fn was_told_down(&self) -> bool {
        matches!(self.told, Some(Told::Down { stale: true, .. }))
    }

    /// What was last told of the n-th source.
    pub fn told_of(&self, n: usize) -> Option<&Said> {
        match &self.told {
            Some(Told::Known { sources, .. }) => sources.get(n).map(|gist| &gist.said),
            _ => None,
        }
    }
}

/// An [`Answer`] reduced to what makes a difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    Down { kind: StoreTroubleKind, stale: bool },
    Known { sources: Vec<Gist>, stale: bool },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gist {
    said: Said,
    current: Option<Version>,
    held: Option<Withdrawal>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    Active(Mark, Option<Timestamp>),
    Withdrawn(Withdrawal, Mark),
    Missing { confirmed: bool },
    NoVersion,
    VersionNotFound,
    Trouble(TroubleKind),
}

impl Told {
    /// Nothing for an answer that is still pending.
    pub fn of(answer: &Answer) -> Option<Self> {
        match answer {
            Answer::Pending => None,
            Answer::Down { trouble, stale } => Some(Self::Down { kind: trouble.kind, stale: *stale }),
            Answer::Known { findings, stale } => {
                // Where OKMS said no, nothing is believed that could become stale.
                let believed =
                    |finding: &Finding| matches!(finding.verdict, Verdict::Active { .. } | Verdict::Trouble(_));
                let stale = *stale && findings.iter().any(believed);
                Some(Self::Known { sources: findings.iter().map(Gist::of).collect(), stale })
            }
        }
    }
}

impl Gist {
    fn of(finding: &Finding) -> Self {
        let said = match &finding.verdict {
            Verdict::Active { mark, deactivates_at, .. } => Said::Active(*mark, *deactivates_at),
            Verdict::Withdrawn { how, mark } => Said::Withdrawn(*how, *mark),
            Verdict::Missing { confirmed } => Said::Missing { confirmed: *confirmed },
            Verdict::NoVersion => Said::NoVersion,
            Verdict::VersionNotFound => Said::VersionNotFound,
            Verdict::Trouble(trouble) => Said::Trouble(trouble.kind),
        };
        Self { said, current: finding.current, held: finding.held }
    }
}

/// Whether a finding is not an answer of OKMS but the lack of one, so that the round goes on.
pub(super) fn has_trouble(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.verdict.is_trouble())
}
