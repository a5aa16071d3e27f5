//! Values in memory: set aside in one piece for all sources of an object, kept until the last who waits for one has settled.
//!
//! What an object needs is taken as a whole or not at all, so no two objects can each hold what the other waits for. Nothing is held
//! longer than [`Timing::value_ttl`](super::Timing::value_ttl).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Answer, Ledger, Now, ObjectId, Timer, Wish,
    entry::{Aside, Kept, Seen},
    lanes::{Kind, PLACES},
    room::USUAL,
};
use crate::model::{Mark, Source, Value};

/// How long a value that was handed over is surely there for another try: three of them, since they double from a second.
const RETRY: Duration = Duration::from_secs(5);

/// Looking for what is left over is not free, and what is found that way is not much.
const RECLAIM_EVERY: Duration = Duration::from_secs(1);

/// Whether there is room for a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    Taken,
    /// As many are under way as may be.
    NoPlace,
    /// What all sources of an object need cannot be set aside now.
    NoMemory,
    /// Not with anything else gone either.
    Never,
}

impl Ledger {
    /// Takes the room for a read of this source on behalf of a namespace. `for_users`: the value is waited for, so those of the other
    /// sources have to fit as well.
    pub(super) fn take_room(&mut self, now: Now, namespace: &Arc<str>, source: &Source, for_users: bool) -> Fit {
        let (reads, most) = (self.account.reads(), self.account.most_reads());
        if !self.budget.places().has_room_for_value(now.mono, namespace, reads, most) {
            return Fit::NoPlace;
        }
        let fit = if for_users { self.set_aside(now, source) } else { Fit::Taken };
        if fit == Fit::Taken && !self.account.start_read() { Fit::NoPlace } else { fit }
    }

    fn set_aside(&mut self, now: Now, source: &Source) -> Fit {
        let Some(entry) = self.entries.get(source) else { return Fit::NoMemory };
        if entry.aside.is_some() {
            return Fit::Taken;
        }
        let awaits = |id: &&ObjectId| {
            self.objects.get(id).and_then(|object| object.open_round()).is_some_and(|round| round.data)
        };
        let found = entry.users.iter().find(awaits);
        let Some((id, object)) = found.and_then(|id| Some((id.clone(), self.objects.get(id)?))) else {
            return Fit::Never;
        };
        let lacking: BTreeMap<Source, usize> = object
            .wishes
            .iter()
            .filter_map(|wish| Some((&wish.source, self.entries.get(&wish.source)?)))
            .filter(|(_, entry)| entry.aside.is_none())
            .map(|(source, entry)| (source.clone(), entry.large.unwrap_or(USUAL)))
            .collect();
        let bytes = lacking.values().sum();
        if bytes > self.account.most_kept() {
            return Fit::Never;
        }
        let fits = self.account.set_aside(bytes) || (self.reclaim(now) && self.account.set_aside(bytes));
        if !fits {
            return Fit::NoMemory;
        }
        let until = now.mono + self.timing.value_ttl;
        for (source, bytes) in lacking {
            if let Some(entry) = self.entries.get_mut(&source) {
                entry.aside = Some(Aside { bytes, until });
                self.asides.insert(source.clone());
                if matches!(entry.seen, Some(Seen::Active { .. })) {
                    for lane in PLACES {
                        self.lanes.move_to(Kind::Granted, &id.namespace, &source, lane);
                    }
                }
                self.timers.insert((until, Timer::Expire(source)));
            }
        }
        Fit::Taken
    }

    /// Keeps a value that was read; answers whether there is room for it.
    pub(super) fn keep(&mut self, now: Now, source: &Source, mark: Mark, value: Value) -> bool {
        let until = now.mono + self.timing.value_ttl;
        let Some(entry) = self.entries.get_mut(source) else { return true };
        let (aside, bytes) = (entry.aside.map_or(0, |aside| aside.bytes), value.size());
        entry.large = (bytes > USUAL).then_some(bytes);
        if bytes > aside && !self.account.stretch(bytes - aside) {
            self.drop_value(source);
            self.release_beside(source);
            return false;
        }
        self.account.give_back(aside.saturating_sub(bytes));
        entry.value = Some(Kept { mark, value });
        entry.aside = Some(Aside { bytes, until });
        self.asides.insert(source.clone());
        self.timers.insert((until, Timer::Expire(source.clone())));
        true
    }

    /// Drops the value of a source, and what is set aside for it, once nobody waits for it who has all that it needs set aside. So
    /// nothing is held for anybody who waits for more room.
    pub(super) fn release(&mut self, source: &Source) {
        let Some(entry) = self.entries.get(source).filter(|entry| entry.aside.is_some()) else { return };
        let aside = |wish: &Wish| self.entries.get(&wish.source).is_some_and(|entry| entry.aside.is_some());
        let awaits = |id: &&ObjectId| {
            let object = self.objects.get(id).filter(|object| object.round_with_data().is_some());
            object.is_some_and(|object| object.wishes.iter().all(aside))
        };
        // From the one who was found waiting the last time: else thousands who settle one after the other each look at all of them.
        let found = match &entry.awaited_by {
            Some(last) => entry.users.from(last).find(awaits),
            None => entry.users.iter().find(awaits),
        };
        let found = found.cloned();
        if found.is_none() {
            self.drop_value(source);
        }
        if let Some(entry) = self.entries.get_mut(source) {
            entry.awaited_by = found;
        }
    }

    /// What was held for those who wait for this source too is no use to them without it.
    fn release_beside(&mut self, source: &Source) {
        let users = self.entries.get(source).into_iter().flat_map(|entry| entry.users.iter());
        let objects = users.filter_map(|id| self.objects.get(id));
        let beside: BTreeSet<Source> =
            objects.flat_map(|object| &object.wishes).map(|wish| wish.source.clone()).collect();
        for source in beside {
            self.release(&source);
        }
    }

    /// What is kept, or set aside, may not be any longer.
    pub(super) fn expire(&mut self, now: Now, source: &Source) {
        let Some(entry) = self.entries.get(source) else { return };
        if entry.aside.is_none_or(|aside| aside.until > now.mono) {
            return;
        }
        // Who has everything was woken, and has it read again when it asks. Who waits for something else too needs this again then.
        let incomplete = |id: &&ObjectId| {
            let waits = self.objects.get(id).is_some_and(|object| object.open_round().is_some());
            waits && matches!(self.evaluate(now, id), Answer::Pending)
        };
        let incomplete: Vec<ObjectId> = entry.users.iter().filter(incomplete).cloned().collect();
        self.drop_value(source);
        self.release_beside(source);
        for id in incomplete {
            self.demand(now, &id);
        }
    }

    pub(super) fn drop_value(&mut self, source: &Source) {
        let Some(entry) = self.entries.get_mut(source) else { return };
        entry.value = None;
        if let Some(aside) = entry.aside.take() {
            self.asides.remove(source);
            self.account.give_back(aside.bytes);
        }
        for namespace in entry.readers() {
            self.lead.came(namespace, source);
        }
    }

    /// Drops the values that all have had for a while who waited for them, and did not settle, as after a write that the API server did not
    /// take: whoever tries again soon finds them, and whoever keeps trying may not keep the memory from others. Answers whether there
    /// were any.
    fn reclaim(&mut self, now: Now) -> bool {
        let recently = |at: Instant, within: Duration| now.mono.saturating_duration_since(at) < within;
        if self.reclaimed.is_some_and(|at| recently(at, RECLAIM_EVERY)) {
            return false;
        }
        self.reclaimed = Some(now.mono);
        let left_over = |source: &&Source| {
            self.entries.get(source).filter(|entry| entry.value.is_some()).is_some_and(|entry| {
                let objects = entry.users.iter().filter_map(|id| self.objects.get(id));
                let mut rounds = objects.filter_map(|object| object.round_with_data());
                rounds.all(|round| round.delivered.is_some_and(|at| !recently(at, RETRY)))
            })
        };
        let left_over: Vec<Source> = self.asides.iter().filter(left_over).cloned().collect();
        for source in &left_over {
            self.drop_value(source);
        }
        !left_over.is_empty()
    }
}
