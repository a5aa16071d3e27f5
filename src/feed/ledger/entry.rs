//! One source in the books: what was last seen of it, when it is due, and the value that somebody waits for.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{ObjectId, users::Users};
use crate::model::{Facts, Mark, Source, State, Trouble, Value, Verdict, Version, VersionFacts, Withdrawal};

/// At rest this holds a version, a creation time and a state; neither values nor fingerprints of values.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "any of them may be with any other")]
pub(super) struct Entry {
    pub users: Users,
    /// The namespaces of the users, with how many are in each.
    readers: Vec<(Arc<str>, usize)>,
    /// The intervals that they ask for, with how many ask for each. Few are different.
    asked: Vec<(Duration, usize)>,
    /// The namespace whose share pays for the checks, and at which interval.
    pub charged: Option<(Arc<str>, Option<Duration>)>,
    pub seen: Option<Seen>,
    /// The current version of the secret, where the answer told it.
    pub current: Option<Version>,
    /// The newest content that OKMS ever showed here: an older one is a lagging replica, not news.
    pub newest: Option<Mark>,
    /// What is in some target, is not what the source means, and was withdrawn.
    pub withdrawn: Vec<(Mark, Withdrawal)>,
    /// The last check by path began so long after the version was made that a list may be believed about it from there on.
    pub settled: bool,
    /// The last walk of the list showed this unchanged.
    pub listed: bool,
    /// While walks show this unchanged, it is checked by path at this moment all the same.
    pub audit: Option<Instant>,
    /// When the last good check began.
    pub checked: Option<Instant>,
    pub problem: Option<Problem>,
    pub value: Option<Kept>,
    /// The memory that the value takes, or may take once it is read.
    pub aside: Option<Aside>,
    /// The size of the value, where it is more than is usually set aside.
    pub large: Option<usize>,
    /// A user that was found waiting for the value: the place to look for the next.
    pub awaited_by: Option<ObjectId>,
    pub mode: Mode,
    pub due: Option<Instant>,
    /// Though late, the check that is due is not so together with others.
    pub apart: bool,
    /// The floor that the next check was scheduled by.
    pub floor: Duration,
    /// A request for this source is under way.
    pub busy: bool,
    /// How often in a row the answer was one that needs a person.
    pub slow: u32,
    /// How often in a row a read did not bring what the check had shown.
    pub disagreed: u32,
    /// How many checks were made by reading data since the cheap one was last tried.
    pub by_data: u32,
}

/// What OKMS last said, in an answer that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    Active { mark: Mark, deactivates_at: Option<Timestamp> },
    Withdrawn { how: Withdrawal, mark: Mark },
    Missing { first: Instant, confirmed: bool },
    NoVersion,
    VersionNotFound,
}

/// Why this source alone cannot be read.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    pub trouble: Trouble,
    pub failures: u32,
    /// When the failed request began.
    pub at: Instant,
    /// Whoever waited then does not have it asked again before this.
    pub until: Instant,
    /// A read of data failed, which a good check of metadata does not mend.
    pub of_read: bool,
    /// What OKMS asked for itself, which may be sooner: nobody has it asked again before, not even who has come since.
    pub rest: Option<Instant>,
}

impl Problem {
    pub fn rests(&self, now: Instant) -> bool {
        self.rest.is_some_and(|rest| rest > now)
    }
}

/// Memory that is taken for a value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Aside {
    pub bytes: usize,
    pub until: Instant,
}

/// A value that was read, until its last user has settled.
pub(super) struct Kept {
    pub mark: Mark,
    pub value: Value,
}

/// How a source is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Mode {
    #[default]
    Metadata,
    /// Where metadata is refused or says nothing of versions: by reading the data.
    Data,
}

impl Entry {
    /// An object reads this. Answers whether it is the first of its namespace.
    pub fn join(&mut self, id: &ObjectId, interval: Option<Duration>) -> bool {
        if !self.users.insert(id) {
            return false;
        }
        count_up(&mut self.asked, interval);
        count_up(&mut self.readers, Some(id.namespace.clone()))
    }

    /// An object does not read this any more. Answers whether it was the last of its namespace.
    pub fn part(&mut self, id: &ObjectId, interval: Option<Duration>) -> bool {
        if !self.users.remove(id) {
            return false;
        }
        count_down(&mut self.asked, interval.as_ref());
        count_down(&mut self.readers, Some(&id.namespace))
    }

    pub fn change_interval(&mut self, former: Option<Duration>, interval: Option<Duration>) {
        count_down(&mut self.asked, former.as_ref());
        count_up(&mut self.asked, interval);
    }

    pub fn shortest_interval(&self) -> Option<Duration> {
        self.asked.iter().map(|(interval, _)| *interval).min()
    }

    pub fn readers(&self) -> impl Iterator<Item = &Arc<str>> {
        self.readers.iter().map(|(namespace, _)| namespace)
    }

    pub fn payer(&self) -> Option<&Arc<str>> {
        self.charged.as_ref().map(|(payer, _)| payer)
    }

    /// Takes what OKMS says now. That something else could not be read means nothing any more. Answers whether it is news.
    pub fn take(&mut self, seen: Seen) -> bool {
        let news = self.seen.as_ref() != Some(&seen);
        if news {
            self.problem = None;
            self.disagreed = 0;
            self.large = None;
        }
        self.seen = Some(seen);
        news
    }

    pub fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// Whether it is time to check by path what the list shows unchanged.
    pub fn is_to_be_audited(&self, now: Instant) -> bool {
        self.listed && self.audit.is_some_and(|audit| audit <= now)
    }

    /// Whether the next check waits for something else than the interval.
    pub fn waits(&self) -> bool {
        let of_check = self.problem.as_ref().is_some_and(|problem| !problem.of_read);
        of_check || !matches!(self.seen, Some(Seen::Active { .. } | Seen::Withdrawn { .. }))
    }

    /// Whether a failed request may be made again.
    pub fn may_retry(&self, now: Instant) -> bool {
        self.problem.as_ref().is_some_and(|problem| problem.until <= now)
    }

    /// The value of exactly this content.
    pub fn value_of(&self, mark: &Mark) -> Option<&Value> {
        self.value.as_ref().filter(|kept| kept.mark.is_same_as(mark)).map(|kept| &kept.value)
    }

    /// The state as metrics name it.
    pub fn state(&self) -> &'static str {
        match (&self.problem, &self.seen) {
            (Some(_), _) => "Failing",
            (None, None) => "Unknown",
            (None, Some(Seen::Active { .. })) => "Active",
            (None, Some(Seen::Withdrawn { how: Withdrawal::VersionDeactivated, .. })) => "Deactivated",
            (None, Some(Seen::Withdrawn { how: Withdrawal::VersionDestroyed, .. })) => "Destroyed",
            (None, Some(Seen::Withdrawn { .. })) => "Deleted",
            (None, Some(Seen::Missing { .. } | Seen::NoVersion | Seen::VersionNotFound)) => "NotFound",
        }
    }

    pub fn withdrawal_of(&self, held: Option<&Mark>) -> Option<Withdrawal> {
        let held = held?;
        self.withdrawn.iter().find(|(mark, _)| mark.is_same_as(held)).map(|(_, how)| *how)
    }

    /// The next check: at `again`, at `slow` where somebody has to do something first, or so long after a not-found that is to be confirmed.
    pub fn next_due(&self, again: Option<Instant>, slow: Instant, confirm: Duration) -> Option<Instant> {
        match self.seen {
            Some(Seen::Missing { first, confirmed: false }) => Some(first + confirm),
            Some(Seen::Missing { .. } | Seen::NoVersion | Seen::VersionNotFound) => again.map(|_| slow),
            _ => again,
        }
    }
}

impl Seen {
    pub fn mark(&self) -> Option<&Mark> {
        match self {
            Self::Active { mark, .. } | Self::Withdrawn { mark, .. } => Some(mark),
            _ => None,
        }
    }

    /// The verdict, without a value.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Active { mark, deactivates_at } => {
                Verdict::Active { mark: *mark, deactivates_at: *deactivates_at, value: None }
            }
            Self::Withdrawn { how, mark } => Verdict::Withdrawn { how: *how, mark: *mark },
            Self::Missing { confirmed, .. } => Verdict::Missing { confirmed: *confirmed },
            Self::NoVersion => Verdict::NoVersion,
            Self::VersionNotFound => Verdict::VersionNotFound,
        }
    }

    /// Reads one version's facts: active, or proof that it was taken back.
    pub fn of_version(version: Version, facts: &VersionFacts, now: Timestamp) -> Self {
        let mark = Mark { version, created_at: facts.created_at };
        match facts.state(now) {
            State::Active => Self::Active { mark, deactivates_at: facts.deletion_time },
            State::Deactivated => Self::Withdrawn { how: Withdrawal::VersionDeactivated, mark },
            State::Destroyed => Self::Withdrawn { how: Withdrawal::VersionDestroyed, mark },
        }
    }

    /// Reads a metadata answer for one source; an error where the answer contradicts itself, `None` where it has no versions.
    pub fn of_facts(source: &Source, facts: &Facts, now: Timestamp) -> Result<Option<Self>, &'static str> {
        let Some(versions) = &facts.versions else { return Ok(None) };
        let seen = match (source.pin.or(facts.current), source.pin) {
            (None, _) if versions.is_empty() => Self::NoVersion,
            (None, _) => return Err("OKMS answered with versions but without saying which is the current one"),
            (Some(version), pin) => match (versions.get(&version), pin) {
                (Some(facts), _) => Self::of_version(version, facts, now),
                (None, Some(pin)) if facts.oldest.is_some_and(|oldest| oldest > pin) => {
                    Self::Withdrawn { how: Withdrawal::VersionPruned, mark: Mark { version, created_at: None } }
                }
                (None, Some(_)) => Self::VersionNotFound,
                (None, None) => return Err("OKMS answered with a current version that is not among the versions"),
            },
        };
        Ok(Some(seen))
    }
}

fn count_up<T: PartialEq>(counts: &mut Vec<(T, usize)>, what: Option<T>) -> bool {
    let Some(what) = what else { return false };
    if let Some((_, count)) = counts.iter_mut().find(|(known, _)| *known == what) {
        *count += 1;
        return false;
    }
    counts.push((what, 1));
    true
}

fn count_down<T: PartialEq>(counts: &mut Vec<(T, usize)>, what: Option<&T>) -> bool {
    let Some(at) = counts.iter().position(|(known, _)| Some(known) == what) else { return false };
    let Some((_, count)) = counts.get_mut(at) else { return false };
    *count -= 1;
    let last = *count == 0;
    if last {
        counts.swap_remove(at);
    }
    last
}

/// Which of the versions that targets were made from, and that are not the one meant now, were withdrawn.
pub(super) fn withdrawn_among(
    held: impl Iterator<Item = Mark>,
    facts: &Facts,
    now: Timestamp,
) -> Vec<(Mark, Withdrawal)> {
    let Some(versions) = &facts.versions else { return Vec::new() };
    let mut withdrawn: Vec<_> = held
        .filter_map(|mark| {
            let facts = versions.get(&mark.version)?;
            let found = Mark { version: mark.version, created_at: facts.created_at };
            let how = match facts.state(now) {
                State::Active => return None,
                State::Deactivated => Withdrawal::VersionDeactivated,
                State::Destroyed => Withdrawal::VersionDestroyed,
            };
            found.is_same_as(&mark).then_some((found, how))
        })
        .collect();
    withdrawn.sort_by_key(|(mark, _)| mark.version);
    withdrawn.dedup();
    withdrawn
}
