//! Values in memory: set aside in one piece for all sources of an object, kept until the last who waits for one has settled.
//!
//! What an object needs is taken as a whole or not at all, so no two objects can each hold what the other waits for. Nothing is held
//! longer than [`Timing::value_ttl`](super::Timing::value_ttl).

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use super::{
    Ledger, Now, ObjectId, Timer,
    entry::{Aside, Kept},
    room::USUAL,
};
use crate::model::{Mark, Source, Value};

impl Ledger {
    /// Takes the room for a read of this source on behalf of a namespace. `for_users`: the value is waited for, so those of the other
    /// sources have to fit as well.
    pub(super) fn take_room(&mut self, now: Now, namespace: &Arc<str>, source: &Source, for_users: bool) -> bool {
        let (reads, most) = (self.account.reads(), self.account.most_reads());
        self.budget.places().has_room_for_value(now.mono, namespace, reads, most)
            && (!for_users || self.set_aside(now, source))
            && self.account.start_read()
    }

    fn set_aside(&mut self, now: Now, source: &Source) -> bool {
        let Some(entry) = self.entries.get(source) else { return false };
        if entry.aside.is_some() {
            return true;
        }
        let awaits = |id: &&ObjectId| {
            self.objects.get(id).and_then(|object| object.open_round()).is_some_and(|round| round.data)
        };
        let Some(object) = entry.users.iter().find(awaits).and_then(|id| self.objects.get(id)) else { return false };
        let lacking: BTreeSet<Source> = object
            .wishes
            .iter()
            .map(|wish| &wish.source)
            .filter(|source| self.entries.get(source).is_some_and(|entry| entry.aside.is_none()))
            .cloned()
            .collect();
        if !self.account.set_aside(lacking.len() * USUAL) {
            return false;
        }
        let until = now.mono + self.timing.value_ttl;
        for source in lacking {
            if let Some(entry) = self.entries.get_mut(&source) {
                entry.aside = Some(Aside { bytes: USUAL, until });
                self.timers.insert((until, Timer::Expire(source)));
            }
        }
        true
    }

    /// Keeps a value that was read; answers whether there is room for it.
    pub(super) fn keep(&mut self, now: Now, source: &Source, mark: Mark, value: Value) -> bool {
        let until = now.mono + self.timing.value_ttl;
        let Some(entry) = self.entries.get_mut(source) else { return true };
        let (aside, bytes) = (entry.aside.map_or(0, |aside| aside.bytes), value.size());
        if bytes > aside && !self.account.stretch(bytes - aside) {
            self.drop_value(source);
            return false;
        }
        self.account.give_back(aside.saturating_sub(bytes));
        entry.value = Some(Kept { mark, value });
        entry.aside = Some(Aside { bytes, until });
        self.timers.insert((until, Timer::Expire(source.clone())));
        true
    }

    /// Drops the value of a source, and what is set aside for it, once nobody waits for it.
    pub(super) fn release(&mut self, source: &Source) {
        let Some(entry) = self.entries.get(source).filter(|entry| entry.aside.is_some()) else { return };
        let awaits = |id: &&ObjectId| self.objects.get(id).is_some_and(|object| object.round_with_data().is_some());
        // From the one who was found waiting the last time: else thousands who settle one after the other each look at all of them.
        let found = match &entry.awaited_by {
            Some(last) => entry.users.range(last..).chain(entry.users.range(..last)).find(awaits),
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

    /// What is kept, or set aside, may not be any longer.
    pub(super) fn expire(&mut self, now: Instant, source: &Source) {
        if self.entries.get(source).and_then(|entry| entry.aside).is_some_and(|aside| aside.until <= now) {
            self.drop_value(source);
        }
    }

    pub(super) fn drop_value(&mut self, source: &Source) {
        let Some(entry) = self.entries.get_mut(source) else { return };
        entry.value = None;
        if let Some(aside) = entry.aside.take() {
            self.account.give_back(aside.bytes);
        }
    }
}
