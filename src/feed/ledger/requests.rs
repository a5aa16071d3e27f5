//! What goes out: timers, the order of the lanes, the budget, and the requests that they allow.

use std::{sync::Arc, time::Instant};

use super::{
    Call, Flight, Lane, Ledger, Now, ObjectId, Purpose, Request, Timer, Todo,
    entry::{Entry, Mode, Seen},
};
use crate::model::Source;

/// The values of one store that are in memory at once, in bytes.
const MAX_VALUES: usize = 16 << 20;
/// The largest answer that the client takes, in bytes: what a read under way may add.
const MAX_ANSWER: usize = 1 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Job {
    Check,
    Read,
}

impl Ledger {
    /// Everything there is to do at this moment.
    pub fn poll(&mut self, now: Now) -> Todo {
        self.watch_throttle();
        self.fire_timers(now);
        while let Some((call, candidate)) = self.breaker.start(now) {
            self.launch(now, call, candidate, Purpose::Probe);
        }
        let blocked_until = if self.breaker.lets_through() { self.dispatch(now) } else { None };
        let mut todo = std::mem::take(&mut self.todo);
        let timer = self.timers.first().map(|(moment, _)| *moment);
        todo.next = [timer, self.breaker.next(), blocked_until].into_iter().flatten().min();
        todo.wakes.sort();
        todo.wakes.dedup();
        todo
    }

    fn fire_timers(&mut self, now: Now) {
        while let Some((moment, timer)) = self.timers.first().filter(|(moment, _)| *moment <= now.mono).cloned() {
            self.timers.pop_first();
            match timer {
                Timer::Due(source) => {
                    let wanted = |entry: &&Entry| entry.is_due(now.mono) || entry.may_retry(now.mono);
                    if let Some(entry) = self.entries.get(&source).filter(wanted) {
                        // A retry on behalf of somebody who waits is not routine.
                        let waiting = entry.users.iter().filter_map(|id| {
                            let object = self.objects.get(id)?;
                            object.open_round().map(|_| (object.lane, id.namespace.clone()))
                        });
                        let routine = entry.users.first().map(|id| (Lane::Routine, id.namespace.clone()));
                        if let Some((lane, namespace)) = waiting.min().or(routine) {
                            self.enqueue(lane, &namespace, &source);
                        }
                    }
                }
                Timer::Expire(source) => {
                    if let Some(entry) = self.entries.get_mut(&source)
                        && entry.value.as_ref().is_some_and(|kept| kept.until <= now.mono)
                    {
                        entry.value = None;
                    }
                }
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

    /// Starts what the budget allows, in the order of the lanes; answers when it will allow more.
    fn dispatch(&mut self, now: Now) -> Option<Instant> {
        for lane in [Lane::Change, Lane::Drift, Lane::Verify, Lane::Routine] {
            while let Some((namespace, source)) = self.lanes.pop(lane) {
                let Some(entry) = self.entries.get(&source).filter(|entry| entry.queued == Some(lane)) else {
                    continue;
                };
                let Some(job) = self.job(now, entry) else {
                    self.unqueue(&source);
                    continue;
                };
                let full = (job == Job::Read || entry.mode == Mode::Data) && !self.has_room();
                let leave = if full { Err(None) } else { self.budget.take(now.mono, lane == Lane::Routine) };
                if let Err(retry) = leave {
                    self.lanes.push_front(lane, &namespace, source);
                    return retry;
                }
                self.unqueue(&source);
                self.start(now, source, job);
            }
        }
        None
    }

    /// Puts what an object waits for into its lane.
    pub(super) fn demand(&mut self, now: Now, id: &ObjectId) {
        let Some(object) = self.objects.get(id).filter(|object| object.open_round().is_some()) else { return };
        let lane = object.lane;
        let sources: Vec<Source> = object.wishes.iter().map(|wish| wish.source.clone()).collect();
        for source in sources {
            // Cheap questions first: everybody on a path comes here when an answer for it is there.
            let waits = |entry: &Entry| entry.queued.is_none_or(|queued| lane < queued);
            if self.entries.get(&source).is_some_and(|entry| waits(entry) && self.job(now, entry).is_some()) {
                self.enqueue(lane, &id.namespace, &source);
            }
        }
    }

    fn enqueue(&mut self, lane: Lane, namespace: &Arc<str>, source: &Source) {
        if let Some(entry) = self.entries.get_mut(source)
            && entry.queued.is_none_or(|queued| lane < queued)
        {
            entry.queued = Some(lane);
            self.lanes.push(lane, namespace, source.clone());
        }
    }

    fn unqueue(&mut self, source: &Source) {
        if let Some(entry) = self.entries.get_mut(source) {
            entry.queued = None;
        }
    }

    /// What is to be asked for a source now, if anything.
    fn job(&self, now: Now, entry: &Entry) -> Option<Job> {
        if entry.busy {
            return None;
        }
        let mut read = false;
        for round in entry.users.iter().filter_map(|id| self.objects.get(id)?.open_round()) {
            let counts = |moment: Instant| round.since.is_none_or(|since| moment >= since);
            if entry.problem.as_ref().is_some_and(|problem| problem.until > now.mono && counts(problem.at)) {
                continue;
            }
            if !entry.checked.is_some_and(counts) {
                return Some(Job::Check);
            }
            let unread = matches!(&entry.seen, Some(Seen::Active { mark, .. }) if entry.value_of(mark).is_none());
            read |= round.data && unread;
        }
        // What could not be read may not be what is meant any more: that is checked first. Otherwise a check that is due waits, since
        // where checks take longer than their interval the next is always due.
        let doubtful = entry.disagreed > 0 || entry.problem.as_ref().is_some_and(|problem| problem.of_read);
        if entry.is_due(now.mono) && (doubtful || !read) { Some(Job::Check) } else { read.then_some(Job::Read) }
    }

    /// Whether one more value can be held. What is under way counts with the largest answer there can be.
    fn has_room(&self) -> bool {
        let kept: usize =
            self.entries.values().filter_map(|entry| entry.value.as_ref()).map(|kept| kept.value.size()).sum();
        let reads = self.flights.values().filter(|flight| flight.data).count();
        kept + (reads + 1) * MAX_ANSWER <= MAX_VALUES
    }

    fn start(&mut self, now: Now, source: Source, job: Job) {
        let Some(entry) = self.entries.get_mut(&source) else { return };
        entry.busy = true;
        let call = match (job, entry.mode) {
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
        self.launch(now, call, None, purpose);
    }

    fn launch(&mut self, now: Now, call: Call, candidate: Option<u64>, purpose: Purpose) {
        self.next_ticket += 1;
        let ticket = self.next_ticket;
        let (credential, data) = (self.breaker.in_use(), matches!(call, Call::Data(..)));
        self.flights.insert(ticket, Flight { started: now.mono, credential, data, purpose });
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
        self.flights.values().any(|flight| matches!(&flight.purpose, Purpose::Read(other) if other == source))
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

    /// Asks again at once, in the lane of whoever waits.
    pub(super) fn requeue(&mut self, now: Now, source: &Source) {
        self.schedule(source, Some(now.mono));
    }
}
