//! What goes out: timers, whose turn it is, the budget, and the requests that they allow.
//!
//! Nothing here waits or concludes anything; what comes back is [`super::outcomes`].

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Call, Flight, Lane, Ledger, Now, ObjectId, Purpose, Request, Timer, Todo,
    breaker::Passage,
    budget::{Purse, Wants},
    entry::{Entry, Mode, Problem, Seen},
    lanes::{Allowed, Kind, Next, Turn},
    object::{Object, Round},
    timing::some_of,
    values::Fit,
};
use crate::model::Source;

/// Room that other stores give back is noticed after this at the latest.
const ROOM_RETRY: Duration = Duration::from_millis(250);

/// Checks of one interval are made at so many moments of it …
const COMPANIES: u32 = 60;

/// … or at more, which are so far apart.
const COMPANIES_APART: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Job {
    Check,
    Read,
}

impl Ledger {
    /// Everything there is to do at this moment.
    pub fn poll(&mut self, now: Now) -> Todo {
        self.watch_standing();
        self.fire_timers(now);
        while let Some((call, candidate)) = self.breaker.start(now) {
            self.launch(now, call, candidate, None, Purpose::Probe);
        }
        let passage = self.breaker.passage();
        self.mind_walks(now, passage != Passage::Closed);
        let blocked_until = match passage {
            Passage::Closed => None,
            Passage::InDoubt => self.dispatch(now, true),
            Passage::Open => self.dispatch(now, false),
        };
        self.watch_standing();
        let mut todo = std::mem::take(&mut self.todo);
        let timer = self.timers.first().map(|(moment, _)| *moment);
        let walk = self.walks.next().filter(|_| passage != Passage::Closed);
        todo.next = [timer, self.breaker.next(), walk, blocked_until].into_iter().flatten().min();
        todo.wakes.sort();
        todo.wakes.dedup();
        todo
    }

    fn fire_timers(&mut self, now: Now) {
        while let Some((moment, timer)) = self.timers.first().filter(|(moment, _)| *moment <= now.mono).cloned() {
            self.timers.pop_first();
            match timer {
                Timer::Due(source) => self.fell_due(now, &source),
                Timer::Expire(source) => self.expire(now, &source),
                Timer::Stale(id) => {
                    if let Some(object) = self.objects.get_mut(&id)
                        && object.watched.take_if(|watched| *watched == moment).is_some()
                    {
                        self.rearm_stale(now, &id);
                        self.review(now, &id, None);
                    }
                }
            }
        }
    }

    /// A source waits for its turn, in every namespace that reads it: whichever comes first has it asked for all.
    fn fell_due(&mut self, now: Now, source: &Source) {
        if self.is_left_to_walk(now, source) {
            return;
        }
        let wanted = |entry: &&Entry| entry.is_due(now.mono) || entry.may_retry(now.mono);
        let Some(entry) = self.entries.get(source).filter(wanted) else { return };
        let kind = self.kind_of(source, entry, Job::Check);
        let mut lanes: BTreeSet<(Lane, &Arc<str>)> = BTreeSet::new();
        for id in entry.users.iter() {
            // A retry on behalf of somebody who waits is not routine. But who waits for a turn to be read is checked meanwhile.
            let waits = self.objects.get(id).filter(|object| object.open_round().is_some());
            lanes.extend(waits.map(|object| (object.lane, &id.namespace)));
            if waits.is_none() || kind == Kind::Check {
                lanes.insert((Lane::Routine, &id.namespace));
            }
        }
        for (lane, namespace) in lanes {
            self.lanes.push(lane, namespace, source, kind);
        }
    }

    /// Starts what the budget allows; answers when it will allow more.
    fn dispatch(&mut self, now: Now, doubt: bool) -> Option<Instant> {
        let mut short_of_room = false;
        let mut again: Option<Instant> = None;
        let purses: [(Purse, &[Turn]); 2] =
            [(Purse::Kept, &[Turn::Urgent, Turn::Verify]), (Purse::Shared, &[Turn::Fair])];
        for (purse, turns) in purses {
            let pages = purse == Purse::Shared;
            while (pages && self.walks.wants_page() || turns.iter().any(|turn| self.lanes.turns(*turn) > 0))
                && !self.budget.places().is_full()
            {
                let ready = self.budget.ready(now.mono, purse);
                if ready > now.mono {
                    again = Some(again.map_or(ready, |again| again.min(ready)));
                    break;
                }
                let page_first = pages && self.walks.is_in_turn();
                if !(page_first && self.start_page(now)
                    || turns.iter().any(|turn| self.serve(now, purse, *turn, doubt, &mut short_of_room))
                    || pages && self.start_page(now))
                {
                    break;
                }
            }
        }
        // What this store gives back comes with an answer; what others do is not heard here.
        let room = short_of_room.then(|| now.mono + ROOM_RETRY);
        [again, room].into_iter().flatten().min()
    }

    /// Starts one request of the first namespace in turn that may have one more.
    fn serve(&mut self, now: Now, purse: Purse, turn: Turn, doubt: bool, short_of_room: &mut bool) -> bool {
        let roomy = self.account.reads() < self.account.most_reads();
        *short_of_room |= !roomy;
        for _ in 0..self.lanes.turns(turn) {
            let Some(namespace) = self.lanes.turn(turn) else { return false };
            let mut allowed = Allowed { changes: self.lead.has_room(&namespace), granted: roomy, reads: roomy };
            *short_of_room |= !allowed.changes;
            while let Some(next) = self.lanes.next(turn, &namespace, allowed) {
                let entry = self.entries.get(&next.source);
                let Some((job, kind)) = entry.and_then(|entry| {
                    self.job(now, &next, entry, allowed).map(|job| (job, self.kind_of(&next.source, entry, job)))
                }) else {
                    self.lanes.take_back(&namespace, &next.source, next.lane);
                    self.look_after_rest(now, &next.source);
                    continue;
                };
                if !allowed.has(next.lane, kind) {
                    self.lanes.move_to(kind, &namespace, &next.source, next.lane);
                    continue;
                }
                let wants = match next.lane {
                    _ if doubt => Wants::InDoubt,
                    Lane::Routine => Wants::Routine,
                    Lane::Change | Lane::Drift | Lane::News | Lane::Verify => Wants::Urgent,
                };
                if !self.budget.places().has_room(now.mono, &namespace, wants) {
                    break;
                }
                let value = kind != Kind::Check;
                let fit =
                    if value { self.take_room(now, &namespace, &next.source, job == Job::Read) } else { Fit::Taken };
                match fit {
                    Fit::Taken => {}
                    Fit::NoPlace => {
                        self.lanes.move_to(kind, &namespace, &next.source, next.lane);
                        (allowed.granted, *short_of_room) = (false, true);
                        continue;
                    }
                    Fit::NoMemory => {
                        self.lanes.move_to(Kind::Read, &namespace, &next.source, next.lane);
                        (allowed.reads, *short_of_room) = (false, true);
                        continue;
                    }
                    Fit::Never => {
                        // It was told so when the last of the values came.
                        self.lanes.take_back(&namespace, &next.source, next.lane);
                        continue;
                    }
                }
                self.lanes.take_back(&namespace, &next.source, next.lane);
                self.lanes.had(turn, &namespace);
                self.budget.start(now.mono, purse, &namespace, value);
                self.start(now, namespace, next.source, job);
                return true;
            }
        }
        false
    }

    /// What was due but may not be asked, since OKMS named a time, is due then.
    fn look_after_rest(&mut self, now: Now, source: &Source) {
        let problem = self.entries.get(source).and_then(|entry| entry.problem.as_ref());
        if let Some(rest) = problem.and_then(|problem| problem.rest).filter(|rest| *rest > now.mono) {
            self.timers.insert((rest, Timer::Due(source.clone())));
        }
    }

    /// Puts what an object waits for into its lane.
    pub(super) fn demand(&mut self, now: Now, id: &ObjectId) {
        let Some(object) = self.objects.get(id) else { return };
        let Some(round) = object.open_round().copied() else { return };
        let lane = object.lane;
        let entries = object.wishes.iter().filter_map(|wish| self.entries.get(&wish.source));
        let in_vain = entries.filter_map(|entry| entry.problem.as_ref()).any(|problem| waits(now, problem, &round));
        for wish in &object.wishes {
            // Cheap questions first: everybody on a path comes here when an answer for it is there. Nothing is read while something
            // beside it cannot be.
            let Some(entry) = self.entries.get(&wish.source).filter(|entry| !entry.busy) else { continue };
            if let Some(job) = wanted(now, entry, &round)
                && (job == Job::Check || !in_vain)
                && !self.lanes.waits(&id.namespace, &wish.source, lane)
            {
                self.lanes.push(lane, &id.namespace, &wish.source, self.kind_of(&wish.source, entry, job));
            }
        }
    }

    /// What is to be asked now for a source whose turn it is, if anything.
    fn job(&self, now: Now, next: &Next, entry: &Entry, allowed: Allowed) -> Option<Job> {
        let resting = entry.problem.as_ref().is_some_and(|problem| problem.rests(now.mono) && !problem.of_read);
        if entry.busy || resting {
            return None;
        }
        let mut read = false;
        for object in entry.users.iter().filter_map(|id| self.objects.get(id)) {
            let Some(job) = object.open_round().and_then(|round| wanted(now, entry, round)) else { continue };
            // In the turn of others nothing is read for who has to wait for one. What is wanted in that of changes waits there.
            let counts = allowed.changes || object.lane != Lane::Change || next.lane == Lane::Change;
            match job {
                Job::Check if counts || self.mode_of(&next.source, entry) == Mode::Metadata => return Some(Job::Check),
                Job::Check => {}
                Job::Read => read |= counts,
            }
        }
        // What could not be read may not be what is meant any more: that is checked first. Otherwise a check that is due waits, since
        // where checks take longer than their interval the next is always due.
        let doubtful = entry.disagreed > 0 || entry.problem.as_ref().is_some_and(|problem| problem.of_read);
        // Where no check is due by itself, one is made before what was not there is read again.
        let missed =
            entry.disagreed > 0 && entry.problem.as_ref().is_some_and(|problem| entry.checked < Some(problem.at));
        let checks = (read && missed) || (entry.is_due(now.mono) && (doubtful || !read));
        if checks { Some(Job::Check) } else { read.then_some(Job::Read) }
    }

    fn start(&mut self, now: Now, namespace: Arc<str>, source: Source, job: Job) {
        let Some(entry) = self.entries.get(&source) else { return };
        let mode = self.mode_of(&source, entry);
        let Some(entry) = self.entries.get_mut(&source) else { return };
        entry.busy = true;
        let call = match (job, mode) {
            (Job::Read, _) => {
                let version = entry.seen.as_ref().and_then(Seen::mark).map(|mark| mark.version);
                Call::Data(source.path.clone(), version)
            }
            (Job::Check, Mode::Data) => Call::Data(source.path.clone(), source.pin),
            (Job::Check, Mode::Metadata) => {
                for sibling in self.siblings(&source) {
                    if let Some(entry) = self.entries.get_mut(&sibling) {
                        entry.busy = true;
                    }
                }
                Call::Metadata(source.path.clone())
            }
        };
        let purpose = if job == Job::Read { Purpose::Read(source) } else { Purpose::Check(source) };
        self.launch(now, call, None, Some(namespace), purpose);
    }

    pub(super) fn launch(
        &mut self,
        now: Now,
        call: Call,
        candidate: Option<u64>,
        namespace: Option<Arc<str>>,
        purpose: Purpose,
    ) {
        self.next_ticket += 1;
        let ticket = self.next_ticket;
        let (credential, data) = (self.breaker.in_use(), matches!(call, Call::Data(..)));
        self.flights.insert(ticket, Flight { started: now.mono, namespace, credential, data, purpose });
        self.todo.requests.push(Request { ticket, call, candidate });
    }

    /// The sources of the same path that one metadata answer serves, the given one among them.
    pub(super) fn siblings(&self, source: &Source) -> Vec<Source> {
        let first = Source { path: source.path.clone(), pin: None };
        self.entries
            .range(first..)
            .take_while(|(other, _)| other.path == source.path)
            .filter(|(other, entry)| *other == source || (entry.mode == Mode::Metadata && !self.reading(other)))
            .map(|(other, _)| other.clone())
            .collect()
    }

    fn reading(&self, source: &Source) -> bool {
        self.flights.values().any(|flight| {
            flight.data && matches!(&flight.purpose, Purpose::Read(other) | Purpose::Check(other) if other == source)
        })
    }

    /// How a source is checked now. What nobody has seen or holds yet, and somebody waits for, is read at once: the answer tells as much
    /// of it as metadata would. Not before the metadata of some path was asked for, since a new credential is proven by that.
    fn mode_of(&self, source: &Source, entry: &Entry) -> Mode {
        let is_new = source.pin.is_none() && entry.checked.is_none() && entry.problem.is_none();
        // For who reads several, all are checked first: nothing is read while something beside it cannot be.
        let awaited = || {
            let mut objects = entry.users.iter().filter_map(|id| self.objects.get(id));
            objects.any(|object| object.wishes.len() == 1 && object.open_round().is_some_and(|round| round.data))
        };
        let asks_metadata =
            || self.flights.values().any(|flight| !flight.data && matches!(flight.purpose, Purpose::Check(_)));
        let at_once = is_new
            && awaited()
            && self.held_of(source).next().is_none()
            && (self.breaker.was_told_metadata() || asks_metadata());
        if at_once { Mode::Data } else { entry.mode }
    }

    fn kind_of(&self, source: &Source, entry: &Entry, job: Job) -> Kind {
        match job {
            Job::Check if self.mode_of(source, entry) == Mode::Metadata => Kind::Check,
            // What a check by reading brings is kept only where there is room then.
            Job::Check => Kind::Granted,
            Job::Read if entry.aside.is_some() => Kind::Granted,
            Job::Read => Kind::Read,
        }
    }

    /// A check that is due then, or a little earlier, at one of the moments at which those of this interval are made: the ones of one
    /// moment cost one waking and few writes to the connection.
    pub(super) fn in_company(&self, due: Instant, interval: Duration) -> Instant {
        let apart = (interval / COMPANIES).min(COMPANIES_APART).as_nanos();
        let since = due.saturating_duration_since(self.opened).as_nanos();
        let early = since.checked_rem(apart).and_then(|early| u64::try_from(early).ok());
        early.and_then(|early| due.checked_sub(Duration::from_nanos(early))).unwrap_or(due)
    }

    pub(super) fn schedule(&mut self, source: &Source, due: Option<Instant>) {
        let Some(entry) = self.entries.get_mut(source) else { return };
        if let Some(old) = entry.due {
            self.timers.remove(&(old, Timer::Due(source.clone())));
        }
        entry.due = due;
        if let Some(due) = due {
            self.timers.insert((due, Timer::Due(source.clone())));
        }
    }

    /// OKMS is back. What fell due meanwhile and nobody waits for is checked over one interval, as it is at rest; but before anybody who
    /// reads it becomes stale, and where somebody was told that the store is down, soon enough for who looks at that.
    pub(super) fn spread_overdue(&mut self, now: Now) {
        let audit_every = self.audit_every();
        let mut overdue = Vec::new();
        for (source, entry) in &self.entries {
            let unconfirmed = matches!(entry.seen, Some(Seen::Missing { confirmed: false, .. }));
            let users = || entry.users.iter().filter_map(|id| self.objects.get(id));
            if entry.is_due(now.mono)
                && !unconfirmed
                && let Some(interval) = self.interval_of(source)
                && users().all(|object| object.open_round().is_none())
            {
                let most = users().map(|object| self.may_wait(now, object)).min().unwrap_or_default();
                overdue.push((source.clone(), now.mono + some_of(interval.min(most)), most >= interval));
            }
        }
        for (source, due, apart) in overdue {
            self.schedule(&source, Some(due));
            if let Some(entry) = self.entries.get_mut(&source) {
                entry.apart = apart;
            }
        }
        for entry in self.entries.values_mut().filter(|entry| entry.is_to_be_audited(now.mono)) {
            entry.audit = now.mono.checked_add(some_of(audit_every));
        }
    }

    /// How long a check may wait once OKMS is back.
    fn may_wait(&self, now: Now, object: &Object) -> Duration {
        if object.was_told_down() {
            return self.timing.told_within;
        }
        // The check takes its time too.
        let believed = self.stale_at(object).map(|moment| moment.saturating_duration_since(now.mono).mul_f64(0.8));
        believed.unwrap_or(Duration::MAX)
    }

    /// Asks again at once, in the lane of whoever waits.
    pub(super) fn requeue(&mut self, now: Now, source: &Source) {
        self.schedule(source, Some(now.mono));
    }
}

/// What a round waits for from a source, if anything.
fn wanted(now: Now, entry: &Entry, round: &Round) -> Option<Job> {
    let counts = |moment: Instant| round.since.is_none_or(|since| moment >= since);
    if entry.problem.as_ref().is_some_and(|problem| waits(now, problem, round)) {
        return None;
    }
    if !entry.checked.is_some_and(counts) {
        return Some(Job::Check);
    }
    let unread = matches!(&entry.seen, Some(Seen::Active { mark, .. }) if entry.value_of(mark).is_none());
    (round.data && unread).then_some(Job::Read)
}

/// Whether a round has to wait until what failed may be asked again.
fn waits(now: Now, problem: &Problem, round: &Round) -> bool {
    problem.rests(now.mono) || (problem.until > now.mono && round.since.is_none_or(|since| problem.at >= since))
}
