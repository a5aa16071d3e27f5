//! Checks by the list of all secrets: what a page proves, and what is checked by path all the same.
//!
//! A page proves one thing only: that a source without a pin is as its last check by path showed it. It shows no other version than
//! the current one, times in whole seconds, and only what the identity may see; so it never proves that anything is gone, never
//! brings a mark, and what it does not show unchanged is checked by path at once. A list may lag, or not move at all, so that what it
//! does show is audited: checked by path all the same, now and then. When walks are made is decided
//! in [`super::walks`].

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};

use super::{
    Call, Checks, Fault, FaultKind, Ledger, Now, Outcome, Purpose,
    budget::{Purse, Wants},
    entry::{Entry, Mode, Seen},
    outcomes::Asked,
    timing::phase,
    walks::{After, BEGIN, ByPath, Plan, STAY, Tally, count},
};
use crate::model::{Facts, Listed, Mark, Source};

/// On whose behalf pages are asked for. No namespace is called so.
const NOBODY: &str = "";

impl Ledger {
    /// Which way sources without a pin are checked at rest.
    pub fn checks(&self) -> Checks {
        self.walks.checks()
    }

    /// Begins walks, and ends those that take too long. `open`: requests may be made.
    pub(super) fn mind_walks(&mut self, now: Now, open: bool) {
        if !open {
            self.walks.suspend(now.mono);
            return;
        }
        if self.walks.is_late(now.mono) {
            self.give_up_walks(now, ByPath::Failing, None);
        }
        self.walks.begin_due(now.mono);
        if let Some(pages) = self.walks.considers(now.mono) {
            let tally = self.tally(|source, entry| self.is_provable(source, entry));
            match Plan::of(&tally, pages, self.shares.rate(), BEGIN) {
                Some(plan) => {
                    self.pace_audits(&tally);
                    self.walks.begin(now.mono, plan);
                }
                None => self.walks.stay_by_path(),
            }
        }
    }

    /// Asks for a page, if one is wanted and has a place.
    pub(super) fn start_page(&mut self, now: Now) -> bool {
        let nobody: Arc<str> = NOBODY.into();
        if !self.walks.wants_page() || !self.budget.places().has_room(now.mono, &nobody, Wants::Routine) {
            return false;
        }
        let Some((walk, cursor)) = self.walks.start_page() else { return false };
        self.budget.start(now.mono, Purse::Shared, &nobody, false);
        self.launch(now, Call::Page(cursor), None, Some(nobody), Purpose::Page(walk));
        true
    }

    /// A page came, or did not. Without an outcome there is nothing to conclude, and the walk begins anew.
    pub(super) fn page_ended(&mut self, now: Now, walk: u64, started: Instant, outcome: Option<Outcome>) {
        if !self.walks.is_at(walk) {
            return;
        }
        let page = match outcome {
            Some(Outcome::Page(page)) => page,
            Some(Outcome::Failed(fault)) => return self.page_failed(now, &fault),
            Some(_) => return self.give_up_walks(now, ByPath::Refused, None),
            None => return self.walks.suspend(now.mono),
        };
        // An empty list may be anybody's.
        if !page.secrets.is_empty() {
            self.breaker.heard(now);
        }
        for listed in page.secrets {
            self.take_listed(now, started, &listed);
        }
        match self.walks.turn(now.mono, page.next) {
            Some(After::Nothing { started, pages }) => self.walk_ended(now, started, pages),
            Some(After::Circle) => self.give_up_walks(now, ByPath::Refused, None),
            Some(After::TooLong) => self.give_up_walks(now, ByPath::Cheaper, None),
            Some(After::Another) | None => {}
        }
    }

    /// A list that cannot be had is no fault of the store: the checks by path, which go on, will tell if it is more. Where it may well
    /// concern every request, the probe tells first.
    fn page_failed(&mut self, now: Now, fault: &Fault) {
        let asked = self.timing.asked_for(fault.retry_after);
        match fault.kind {
            FaultKind::RateLimited | FaultKind::Tls => {
                self.give_up_walks(now, ByPath::Failing, asked);
                self.breaker.doubt(now);
            }
            FaultKind::Unavailable => self.give_up_walks(now, ByPath::Failing, asked),
            FaultKind::Refused | FaultKind::NotFound | FaultKind::TooLarge | FaultKind::Unexpected => {
                self.give_up_walks(now, ByPath::Refused, asked);
            }
        }
    }

    fn take_listed(&mut self, now: Now, started: Instant, listed: &Listed) {
        let source = Source { path: listed.path.clone(), pin: None };
        let Some(entry) = self.entries.get(&source) else { return };
        if !(self.is_provable(&source, entry) && is_unchanged(entry, listed, now.wall)) {
            if entry.listed {
                self.check_by_path(now, &source);
            }
            return;
        }
        // A check by path that is under way, or began later, tells more. But the next one can be a walk.
        let fresher = entry.busy || entry.checked.is_some_and(|checked| checked >= started);
        let audit_every = self.audit_every();
        if let Some(entry) = self.entries.get_mut(&source)
            && !std::mem::replace(&mut entry.listed, true)
        {
            entry.audit = now.mono.checked_add(phase(audit_every));
            self.charge(&source, false);
        }
        if !fresher {
            self.breaker.listed(&source.path);
            // The page may have been made at any moment since it was asked for.
            self.seen(now, &source, started, Asked::WithOthers);
            if self.entries.get(&source).is_some_and(|entry| entry.is_to_be_audited(now.mono)) {
                self.requeue(now, &source);
            }
        }
    }

    /// How often what the list shows unchanged is checked by path.
    pub(super) fn audit_every(&self) -> Duration {
        self.walks.audit_every.max(self.timing.audit_every)
    }

    /// Audits get a fifth of what is routine, as walks do. Answers how many there are in a second.
    fn pace_audits(&mut self, tally: &Tally) -> f64 {
        let audited = count(tally.intervals.values().sum());
        let least = Duration::try_from_secs_f64(audited / (self.shares.rate() / 5.0));
        self.walks.audit_every = least.unwrap_or_default();
        audited / self.audit_every().as_secs_f64()
    }

    /// A check by path brought something else than the list shows, which it ought to have shown when it was last believed: such a list
    /// is not followed for a while.
    pub(super) fn distrust_list(&mut self, now: Now) {
        let rest = self.timing.audit_every;
        self.give_up_walks(now, ByPath::Unsuitable, Some(rest));
    }

    /// Whether what a check by path brings for a source was so long before a page was asked for that showed it unchanged.
    pub(super) fn is_list_belied(&self, now: Now, source: &Source, seen: Option<&Seen>, facts: &Facts) -> bool {
        let Some((entry, seen)) = self.entries.get(source).zip(seen) else { return false };
        let since = match (seen, &entry.seen) {
            (Seen::Active { mark, .. }, Some(Seen::Active { mark: known, .. })) if !mark.is_same_as(known) => {
                mark.created_at
            }
            (Seen::Withdrawn { mark, .. }, Some(Seen::Active { .. })) => {
                let version = facts.versions.as_ref().and_then(|versions| versions.get(&mark.version));
                version.and_then(|facts| facts.deletion_time)
            }
            _ => None,
        };
        let shown = entry.checked.filter(|_| entry.listed).and_then(|checked| wall_of(now, checked));
        // By so much the two clocks may differ.
        let (Some(since), Some(shown), Ok(apart)) =
            (since, shown, SignedDuration::try_from(self.timing.list_after / 2))
        else {
            return false;
        };
        shown.duration_since(since) > apart
    }

    /// The list did not show that a source is unchanged.
    fn check_by_path(&mut self, now: Now, source: &Source) {
        let Some(entry) = self.entries.get_mut(source) else { return };
        entry.listed = false;
        // What failed, or is not there, has waits of its own.
        let waits = entry.waits();
        self.charge(source, false);
        if !waits {
            self.requeue(now, source);
        }
    }

    /// A walk came to the end of the list.
    fn walk_ended(&mut self, now: Now, started: Instant, pages: usize) {
        let missed =
            |entry: &Entry| entry.listed && !entry.busy && entry.checked.is_none_or(|checked| checked < started);
        let missed = self.entries.iter().filter(|(_, entry)| missed(entry));
        let missed: Vec<Source> = missed.map(|(source, _)| source.clone()).collect();
        for source in missed {
            self.check_by_path(now, &source);
        }
        let tally = self.tally(|_, entry| entry.listed);
        let Some(plan) = Plan::of(&tally, pages, self.shares.rate(), STAY) else {
            let provable = self.tally(|source, entry| self.is_provable(source, entry));
            let shown: usize = tally.intervals.values().sum();
            let few = shown * 2 < provable.intervals.values().sum();
            self.give_up_walks(now, if few { ByPath::Unsuitable } else { ByPath::Cheaper }, None);
            return;
        };
        self.walks.go_on(plan, started);
        let audits = self.pace_audits(&tally);
        self.shares.reserve(plan.cost() + audits);
        self.charge_listed();
    }

    /// Everything is checked by path again.
    fn give_up_walks(&mut self, now: Now, why: ByPath, asked: Option<Duration>) {
        self.walks.fall_back(now.mono, why, asked, &self.timing);
        self.shares.reserve(0.0);
        for source in self.charge_listed() {
            if let Some(entry) = self.entries.get_mut(&source) {
                entry.listed = false;
                // It fell due, and waited for the walk.
                if entry.is_due(now.mono) {
                    self.requeue(now, &source);
                }
            }
        }
    }

    /// Charges what was listed by the way in force now; answers what that is.
    fn charge_listed(&mut self) -> Vec<Source> {
        let listed = self.entries.iter().filter(|(_, entry)| entry.listed);
        let listed: Vec<Source> = listed.map(|(source, _)| source.clone()).collect();
        for source in &listed {
            self.charge(source, false);
        }
        listed
    }

    /// Whether the next walk is to check this source: the last one did, and walks are as frequent as it has to be checked.
    pub(super) fn is_covered(&self, entry: &Entry) -> bool {
        let shortest = self.walks.plan().map(|plan| plan.shortest);
        entry.listed && shortest.is_some_and(|shortest| entry.shortest_interval() >= Some(shortest))
    }

    /// Whether a source that fell due is left to the list. If the walk does not show it, or does not come, it is checked by path then.
    pub(super) fn is_left_to_walk(&mut self, now: Now, source: &Source) -> bool {
        let Some(entry) = self.entries.get(source) else { return false };
        let awaited =
            entry.users.iter().filter_map(|id| self.objects.get(id)).any(|object| object.open_round().is_some());
        if awaited || entry.is_to_be_audited(now.mono) || !self.is_provable(source, entry) {
            return false;
        }
        let covered = self.is_covered(entry);
        if !covered {
            self.walks.want();
        }
        covered
    }

    /// Whether a page could prove that a source is unchanged: nothing is to be found out of it but that.
    fn is_provable(&self, source: &Source, entry: &Entry) -> bool {
        let Some(Seen::Active { mark, .. }) = &entry.seen else { return false };
        let alone = || {
            // A pin of the same path is checked by path in any case, and the answer serves this too.
            let next = self.entries.range((std::ops::Bound::Excluded(source), std::ops::Bound::Unbounded)).next();
            next.is_none_or(|(next, _)| next.path != source.path)
        };
        source.pin.is_none()
            && entry.mode == Mode::Metadata
            && entry.settled
            // Otherwise its checks by path go on as they are.
            && entry.shortest_interval().is_none_or(|interval| interval < self.timing.audit_every)
            && entry.problem.is_none()
            && entry.disagreed == 0
            && alone()
            // A version that is in a target and not the current one is no part of a list.
            && self.held_of(source).all(|held| mark.is_same_as(&held))
    }

    fn tally(&self, counts: impl Fn(&Source, &Entry) -> bool) -> Tally {
        let mut tally = Tally::default();
        for (source, entry) in &self.entries {
            let Some(interval) = entry.shortest_interval() else { continue };
            tally.by_path += 1.0 / interval.as_secs_f64().max(0.001);
            if counts(source, entry) {
                *tally.intervals.entry(interval).or_default() += 1;
            }
        }
        tally
    }
}

/// What the other clock showed at a moment that is past.
pub(super) fn wall_of(now: Now, moment: Instant) -> Option<Timestamp> {
    now.wall.checked_sub(now.mono.saturating_duration_since(moment)).ok()
}

/// Whether a list shows a source as it was last seen.
fn is_unchanged(entry: &Entry, listed: &Listed, now: Timestamp) -> bool {
    let Some(Seen::Active { mark, deactivates_at }) = &entry.seen else { return false };
    listed.shows(mark) && listed.ends_at(*deactivates_at) && deactivates_at.is_none_or(|end| end > now)
}

/// Whether a check by path that began then was late enough for a list to be believed from there on.
///
/// A list tells times in whole seconds. A secret that was deleted and made again within the second in which its version was made looks
/// the same there; by path, where times have nanoseconds, it does not. So a list is believed only of what was seen by path long after that
/// second: what is made again after that has another second. The creation is by the clock of OKMS and the check by ours, and
/// the two may differ by minutes before a store says so.
pub(super) fn is_settled(mark: &Mark, began: Option<Timestamp>, after: Duration) -> bool {
    let (Some(created), Some(began), Ok(after)) = (mark.created_at, began, SignedDuration::try_from(after)) else {
        return false;
    };
    began.duration_since(created) >= after
}
