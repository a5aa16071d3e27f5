//! What comes back: answers and failures of requests, and what each means for its source, for the store and for who waits.

use std::time::{Duration, Instant};

use super::{
    Call, Fault, FaultKind, Ledger, Now, ObjectId, Outcome, Purpose, Request,
    breaker::{Breaker, Health, Probed, Suspect},
    bulk::{is_settled, wall_of},
    entry::{Entry, Mode, Seen, withdrawn_among},
    timing::phase,
};
use crate::model::{Facts, Mark, Reading, Source, StoreTrouble};

/// How a check came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    ByItself,
    /// By the check of another source of its path, or by a page of the list: from then on they have their turn together.
    WithOthers,
}

const LAGGING: &str = "OKMS answered with an older version than before, as a lagging replica does";

/// Where checks have to read the data, the cheap check is tried again after so many: rights change.
const CHEAP_CHECK_AFTER: u32 = 10;

impl Ledger {
    /// A new credential is there: it replaces the one in use once it has proven itself.
    pub fn propose_credential(&mut self, now: Now) -> u64 {
        self.breaker.propose(now)
    }

    /// A new credential cannot be used: the one in use stays, where there is one.
    pub fn reject_credential(&mut self, now: Now, trouble: StoreTrouble) {
        if self.breaker.is_connected() {
            self.todo.store_changed |= self.breaker.reject(trouble);
        } else {
            self.disconnect(now, trouble);
        }
    }

    /// No request may be made any more: the credential is gone.
    pub fn disconnect(&mut self, now: Now, trouble: StoreTrouble) {
        if self.breaker.is_disconnected_by(&trouble) {
            return;
        }
        self.ask_suspects_again(now);
        self.breaker.disconnect(trouble);
        self.store_changed(now);
    }

    /// A request ended.
    pub fn answer(&mut self, now: Now, request: &Request, outcome: Outcome) {
        let Some(flight) = self.flights.remove(&request.ticket) else { return };
        if let Some(namespace) = &flight.namespace {
            self.budget.end(now.mono, namespace, flight.started, flight.data);
            if !self.shares.knows(namespace) {
                self.budget.forget(namespace);
            }
            if flight.data {
                self.account.end_read();
            }
        }
        // A failure with a credential that is not in use any more says nothing about the one that is.
        let outdated = request.candidate.is_none() && flight.credential != self.breaker.in_use();
        let outcome = Some(outcome).filter(|outcome| !(outdated && matches!(outcome, Outcome::Failed(_))));
        match (flight.purpose, outcome) {
            (Purpose::Probe, Some(outcome)) if !outdated => self.probe_ended(now, request, flight.started, outcome),
            (Purpose::Probe, _) => {}
            (Purpose::Check(source), outcome) => self.check_ended(now, request, &source, flight.started, outcome),
            (Purpose::Read(source), outcome) => self.read_ended(now, &source, flight.started, outcome),
            (Purpose::Page(walk), outcome) => self.page_ended(now, walk, flight.started, outcome),
        }
    }

    /// The candidate credential that has proven itself since this was last asked: it is to replace the one in use, before anything
    /// else is asked of these books.
    pub fn take_promoted(&mut self) -> Option<u64> {
        self.promoted.take()
    }

    fn probe_ended(&mut self, now: Now, request: &Request, started: Instant, outcome: Outcome) {
        let stands = |breaker: &Breaker| (breaker.health.clone(), breaker.rejected.clone(), breaker.is_proving());
        let before = stands(&self.breaker);
        let was_down = matches!(self.breaker.health, Health::Down { .. });
        // That OKMS finds no list shows a working identity as well. That it does not find a path shows nothing: the root is asked then,
        // so that one not-found never confirms another.
        let fault = match outcome {
            Outcome::Failed(fault) if fault.kind != FaultKind::NotFound || request.call != Call::Root => Some(fault),
            _ => None,
        };
        let probed = self.breaker.probed(now, request.candidate, &request.call, fault.as_ref(), &self.timing);
        if was_down && self.breaker.health == Health::Ready {
            self.budget.calm(now.mono);
            self.spread_overdue(now);
        }
        match probed {
            Probed::Undecided => return,
            Probed::Works => {
                for suspect in self.breaker.told_apart(now, started) {
                    if suspect.fault.kind == FaultKind::NotFound {
                        self.missed(now, &suspect.source, suspect.started);
                    } else {
                        self.blame_path(now, suspect);
                    }
                }
            }
            Probed::Promoted => {
                self.promoted = request.candidate;
                self.ask_suspects_again(now);
                self.retry_everything(now);
            }
            Probed::Fails => {
                if !was_down && matches!(self.breaker.health, Health::Down { .. }) {
                    self.acquit_paths(now);
                }
                self.ask_suspects_again(now);
            }
        }
        // The status of a store names the certificate in use, so a new one is news in any case.
        if probed == Probed::Promoted || before != stands(&self.breaker) {
            self.store_changed(now);
        }
    }

    /// Whether it was the store or the path was not found out: both are asked again. A store that is down rests as long as any of them
    /// was asked to.
    pub(super) fn ask_suspects_again(&mut self, now: Now) {
        for suspect in std::mem::take(&mut self.breaker.suspects) {
            self.breaker.rest(now, &suspect.fault, &self.timing);
            self.requeue(now, &suspect.source);
        }
    }

    /// The store works again, or does not any more: whoever this makes a difference to hears of it.
    pub(super) fn store_changed(&mut self, now: Now) {
        self.todo.store_changed = true;
        let ids: Vec<ObjectId> = self.objects.keys().cloned().collect();
        for id in ids {
            self.review(now, &id, None);
        }
    }

    /// A new credential may have other rights.
    fn retry_everything(&mut self, now: Now) {
        self.walks.forgive();
        let sources: Vec<Source> = self.entries.keys().cloned().collect();
        for source in sources {
            if let Some(entry) = self.entries.get_mut(&source)
                && (entry.problem.is_some() || entry.mode == Mode::Data)
                && !entry.problem.as_ref().is_some_and(|problem| problem.rests(now.mono))
            {
                entry.mode = Mode::Metadata;
                if let Some(problem) = &mut entry.problem {
                    // How long the old one was refused says nothing of this one.
                    (problem.until, problem.failures) = (now.mono, 0);
                }
                self.requeue(now, &source);
            }
        }
    }

    /// Without an outcome there is nothing to conclude, and the source is asked again.
    fn check_ended(
        &mut self,
        now: Now,
        request: &Request,
        source: &Source,
        started: Instant,
        outcome: Option<Outcome>,
    ) {
        let by_metadata = matches!(request.call, Call::Metadata(_));
        let served = if by_metadata { self.siblings(source) } else { vec![source.clone()] };
        for source in &served {
            if let Some(entry) = self.entries.get_mut(source) {
                entry.busy = false;
            }
        }
        match outcome {
            Some(Outcome::Metadata(facts)) => {
                self.breaker.answered(now, &source.path);
                for other in &served {
                    let asked = if other == source { Asked::ByItself } else { Asked::WithOthers };
                    self.take_facts(now, other, started, &facts, asked);
                }
            }
            Some(Outcome::Data(reading)) => {
                self.breaker.heard(now);
                self.take_reading(now, source, started, reading);
            }
            Some(Outcome::Failed(fault)) => {
                for source in &served {
                    self.check_failed(now, source, started, &fault, by_metadata);
                }
            }
            Some(Outcome::Root | Outcome::Page(_)) | None => {
                for source in &served {
                    self.requeue(now, source);
                }
            }
        }
    }

    fn check_failed(&mut self, now: Now, source: &Source, started: Instant, fault: &Fault, by_metadata: bool) {
        let Some(entry) = self.entries.get_mut(source) else { return };
        match fault.kind {
            FaultKind::NotFound => self.missed(now, source, started),
            FaultKind::Refused if by_metadata && !matches!(self.breaker.health, Health::Down { .. }) => {
                // Perhaps only the data is granted.
                (entry.mode, entry.by_data) = (Mode::Data, 0);
                self.requeue(now, source);
            }
            _ => {
                // Whatever can be had next, what is cheap is tried first: a refusal of everything was none of a single right.
                entry.mode = Mode::Metadata;
                self.failed(now, source, started, fault, false);
            }
        }
    }

    fn read_ended(&mut self, now: Now, source: &Source, started: Instant, outcome: Option<Outcome>) {
        let Some(entry) = self.entries.get_mut(source) else { return };
        entry.busy = false;
        match outcome {
            Some(Outcome::Data(reading)) => {
                self.breaker.heard(now);
                match (&entry.seen, reading) {
                    (Some(Seen::Active { mark: expected, .. }), Reading::Data { mark, value, .. })
                        if mark.is_same_as(expected) =>
                    {
                        entry.disagreed = 0;
                        if self.keep(now, source, mark, value) {
                            self.is_read(source, started);
                            self.review_users(now, source, started);
                            self.release(source);
                        } else {
                            // Far beyond what OKMS takes for one secret: it waits until others have gone.
                            let fault = Fault {
                                kind: FaultKind::TooLarge,
                                message: "there is no room for a secret of this size beside the others".to_owned(),
                                retry_after: None,
                            };
                            let suspect =
                                Suspect { source: source.clone(), fault, started, failed: now.mono, of_read: true };
                            self.blame_path(now, suspect);
                        }
                    }
                    _ => self.disagreed(now, source, started),
                }
            }
            Some(Outcome::Failed(fault)) if fault.kind == FaultKind::NotFound => self.disagreed(now, source, started),
            Some(Outcome::Failed(fault)) => self.failed(now, source, started, &fault, true),
            Some(Outcome::Metadata(_) | Outcome::Root | Outcome::Page(_)) | None => self.requeue(now, source),
        }
        // A check that fell due meanwhile found the source busy.
        if self.entries.get(source).is_some_and(|entry| entry.is_due(now.mono)) {
            self.requeue(now, source);
        }
    }

    /// The data was there, and there was room for it: nothing is wrong with it.
    fn is_read(&mut self, source: &Source, started: Instant) {
        if let Some(entry) = self.entries.get_mut(source) {
            entry.problem = None;
        }
        self.breaker.acquit(source, true, started);
    }

    /// A read did not bring what the check before it had shown: withdrawn or made again since, which the next check will show; or a
    /// lagging replica, which may go on for a while.
    fn disagreed(&mut self, now: Now, source: &Source, started: Instant) {
        let Some(entry) = self.entries.get_mut(source) else { return };
        entry.disagreed += 1;
        if entry.disagreed == 1 {
            self.requeue(now, source);
        } else {
            self.contradicted(now, source, started, "OKMS does not serve the version that it lists", true);
        }
    }

    /// OKMS's own not-found: it counts as proof only when seen twice, far enough apart, while the store works.
    fn missed(&mut self, now: Now, source: &Source, started: Instant) {
        let Some(entry) = self.entries.get_mut(source) else { return };
        let (first, confirmed) = match entry.seen {
            Some(Seen::Missing { confirmed: true, first }) => (first, true),
            Some(Seen::Missing { first, .. }) if started >= first + self.timing.confirm_after => {
                if !self.breaker.worked_since(first) {
                    let message = "OKMS does not find this secret, and nothing else shows that it works".to_owned();
                    let fault = Fault { kind: FaultKind::NotFound, message, retry_after: None };
                    let suspect = Suspect { source: source.clone(), fault, started, failed: now.mono, of_read: false };
                    self.breaker.suspect(now, suspect);
                    return;
                }
                (first, true)
            }
            Some(Seen::Missing { first, .. }) => (first, false),
            _ => (now.mono, false),
        };
        if entry.take(Seen::Missing { first, confirmed }) {
            self.breaker.acquit(source, true, started);
        }
        entry.mode = Mode::Metadata;
        entry.current = None;
        entry.withdrawn.clear();
        self.seen(now, source, started, Asked::ByItself);
    }

    fn take_facts(&mut self, now: Now, source: &Source, started: Instant, facts: &Facts, asked: Asked) {
        let held: Vec<Mark> = self.held_of(source).collect();
        let seen = Seen::of_facts(source, facts, now.wall);
        let belied = seen.as_ref().is_ok_and(|seen| self.is_list_belied(now, source, seen.as_ref(), facts));
        let audit_every = self.audit_every();
        let Some(entry) = self.entries.get_mut(source) else { return };
        match seen {
            Err(message) => self.contradicted(now, source, started, message, false),
            Ok(None) => {
                entry.mode = Mode::Data;
                self.requeue(now, source);
            }
            Ok(Some(seen)) => {
                if lags(source, entry, &seen) {
                    self.contradicted(now, source, started, LAGGING, false);
                    return;
                }
                let others = held.into_iter().filter(|held| seen.mark().is_none_or(|mark| !mark.is_same_as(held)));
                entry.withdrawn = withdrawn_among(others, facts, now.wall);
                entry.current = facts.current;
                let began = wall_of(now, started);
                entry.settled = seen.mark().is_some_and(|mark| is_settled(mark, began, self.timing.list_after));
                entry.audit = started.checked_add(audit_every);
                if entry.take(seen) {
                    self.breaker.acquit(source, true, started);
                }
                self.seen(now, source, started, asked);
                if belied {
                    self.distrust_list(now);
                }
            }
        }
    }

    /// A check by data.
    fn take_reading(&mut self, now: Now, source: &Source, started: Instant, reading: Reading) {
        let (seen, value) = match reading {
            // Beside data a time of deletion is a plan, whatever our clock says.
            Reading::Data { mark, facts, value } => {
                (Seen::Active { mark, deactivates_at: facts.deletion_time }, Some((mark, value)))
            }
            Reading::Unreadable { version, facts } => (Seen::of_version(version, &facts, now.wall), None),
        };
        let Some(entry) = self.entries.get_mut(source) else { return };
        if value.is_none() && matches!(seen, Seen::Active { .. }) {
            let message = "OKMS answered with an active version but without its data";
            self.contradicted(now, source, started, message, false);
            return;
        }
        if lags(source, entry, &seen) {
            self.contradicted(now, source, started, LAGGING, false);
            return;
        }
        entry.settled = false;
        let failed_before = entry.problem.is_some();
        if entry.take(seen) {
            self.breaker.acquit(source, true, started);
        }
        // Such an answer says nothing of any other version.
        entry.withdrawn.clear();
        match entry.mode {
            Mode::Data => {
                entry.current = None;
                // What is granted again may be more than this.
                entry.by_data = if failed_before { CHEAP_CHECK_AFTER } else { entry.by_data + 1 };
            }
            // What was read instead of being checked is what metadata would have called the current one.
            Mode::Metadata => entry.current = entry.seen.as_ref().and_then(Seen::mark).map(|mark| mark.version),
        }
        if entry.by_data >= CHEAP_CHECK_AFTER {
            entry.by_data = 0;
            entry.mode = Mode::Metadata;
        }
        if let Some((mark, value)) = value {
            entry.disagreed = 0;
            if self.keep(now, source, mark, value) {
                self.is_read(source, started);
            }
        }
        self.seen(now, source, started, Asked::ByItself);
    }

    /// A check ended well: everybody who reads this source hears of what changed for them.
    pub(super) fn seen(&mut self, now: Now, source: &Source, started: Instant, asked: Asked) {
        let interval = self.interval_of(source);
        let floor = self.entries.get(source).map_or(Duration::ZERO, |entry| self.floor_of_entry(entry));
        let evidence = self.held_of(source).next().is_some();
        let optional = self.is_optional(source);
        let timing = self.timing.clone();
        let Some(entry) = self.entries.get_mut(source) else { return };
        // What is checked for the first time, or was held up for longer than its turn, is so together with others.
        let apart = std::mem::take(&mut entry.apart);
        let late = entry
            .checked
            .replace(started)
            .is_none_or(|last| interval.is_some_and(|turn| last + turn * 3 / 2 < started));
        let bunched = late && !apart;
        let hastened = std::mem::replace(&mut entry.floor, floor) > floor;
        if entry.problem.as_ref().is_some_and(|problem| !problem.of_read) {
            entry.problem = None;
        }
        self.breaker.acquit(source, false, started);
        if let Some(mark) = entry.seen.as_ref().and_then(Seen::mark) {
            entry.newest = Some(*mark);
        }
        let needs_a_person = match &entry.seen {
            Some(Seen::Missing { confirmed, .. }) => *confirmed || !evidence,
            Some(Seen::NoVersion | Seen::VersionNotFound) => true,
            _ => false,
        };
        // A check that somebody had made before its time does not show that it lasts.
        let turn = entry.due.filter(|due| *due > started);
        let in_turn = turn.is_none();
        entry.slow = match (needs_a_person, in_turn) {
            (false, _) => 0,
            (true, true) => entry.slow + 1,
            (true, false) => entry.slow.max(1),
        };
        // Where nothing need be there, nobody is called: it is checked like any other.
        let usual = interval.filter(|_| optional);
        let slow = usual.unwrap_or_else(|| timing.slow(entry.slow, interval));
        let again = interval.map(|interval| {
            let due = self.in_company(started + if bunched { phase(interval) } else { interval }, interval);
            // A check before its turn leaves that where it was: what is looked at in one storm is not so together from then on.
            turn.filter(|_| asked == Asked::ByItself).map_or(due, |turn| turn.min(due))
        });
        let Some(entry) = self.entries.get(source) else { return };
        let confirm = if evidence { timing.confirm_after } else { slow };
        let due = entry.next_due(again, started + slow, confirm);
        self.schedule(source, due);
        if hastened {
            self.rearm_users(now, source);
        }
        self.review_users(now, source, started);
        self.release(source);
    }

    pub(super) fn review_users(&mut self, now: Now, source: &Source, started: Instant) {
        let Some(entry) = self.entries.get(source) else { return };
        let users: Vec<ObjectId> = entry.users.iter().cloned().collect();
        for id in users {
            self.review(now, &id, Some(started));
        }
    }
}

/// Whether an answer is older than one that was seen before. A pin means one version for ever: nothing is older.
fn lags(source: &Source, entry: &Entry, seen: &Seen) -> bool {
    let newest = entry.newest.as_ref().filter(|_| source.pin.is_none());
    matches!((seen.mark(), newest), (Some(mark), Some(newest)) if mark.is_stale_after(newest))
}
