//! Who wants what: objects and their wishes come, change and go, and the sources with them.
//!
//! It decides nothing about what is asked of OKMS; it keeps count, so that nothing has to be counted again for each request.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Ask, Ledger, Need, Now, ObjectId, Timer,
    object::{Object, Round},
};
use crate::model::{Mark, Source};

impl Ledger {
    /// The reconcile acted on what it was told: values that it waited for are not needed any more. `held` is what the target is
    /// made from now, for each source.
    pub fn settle(&mut self, id: &ObjectId, held: &[Option<Mark>]) {
        let Some(object) = self.objects.get_mut(id) else { return };
        // What was not answered yet is still waited for: the object was told of a failure, and kept what it has.
        object.round.take_if(|round| round.delivered.is_some());
        let before = object.has_target();
        for (wish, held) in object.wishes.iter_mut().zip(held) {
            wish.held = *held;
        }
        let after = object.has_target();
        let sources: Vec<Source> = object.wishes.iter().map(|wish| wish.source.clone()).collect();
        self.targets.change(&id.namespace, before, after);
        if !after {
            self.withdrawals.done(id);
            self.todo.store_changed |= self.withdrawals.take_changed();
        }
        for source in sources {
            self.release(&source);
        }
    }

    /// The object is gone, or reads from another store now. Answers whether it makes a difference to anybody.
    pub fn forget(&mut self, id: &ObjectId) -> bool {
        self.clear_withdrawal(id);
        self.remove(id) || self.todo.store_changed
    }

    /// The object reads nothing for now: it is suspended, or may not. That ends no withdrawal that is held, which only a person or an
    /// answer of OKMS does. Answers whether it makes a difference to anybody.
    pub fn pause(&mut self, id: &ObjectId) -> bool {
        self.withdrawals.pause(id);
        self.todo.store_changed |= self.withdrawals.take_changed();
        self.remove(id) || self.todo.store_changed
    }

    /// Forgets every object whose uid is not among the living.
    pub fn retain(&mut self, live: &HashSet<Arc<str>>) {
        let gone: Vec<ObjectId> = self.objects.keys().filter(|id| !live.contains(&id.uid)).cloned().collect();
        for id in gone {
            self.forget(&id);
        }
        self.withdrawals.retain(live);
        self.todo.store_changed |= self.withdrawals.take_changed();
    }

    pub(super) fn enlist(&mut self, now: Now, ask: Ask) {
        let Ask { object: id, generation, unchanged_for, refresh, sources, need, interval, lane } = ask;
        let known = self.objects.get(&id);
        let refreshed = known.map_or(refresh > 0, |object| object.refresh != refresh);
        let changed = known.is_none_or(|object| object.generation != generation || !object.same_sources(&sources));
        // Several sources are read together, so that they are of one moment.
        let (is_new, alone) = (known.is_none(), sources.len() == 1);
        if changed {
            self.remove(&id);
            let round = Round { since: Some(now.mono), data: need == Need::Data, delivered: None };
            let object = Object {
                generation,
                refresh,
                wishes: sources,
                interval,
                lane,
                enlisted: now.mono,
                round: Some(round),
                told: None,
                watched: None,
            };
            self.insert(&id, object);
            match need {
                _ if refreshed => {}
                Need::Check => self.accept_recent_checks(now, &id, Duration::MAX),
                Need::Data if is_new && alone => self.accept_recent_checks(now, &id, unchanged_for),
                Need::Data => {}
            }
        } else if let Some(object) = self.objects.get_mut(&id) {
            let before = object.has_target();
            object.wishes = sources;
            object.lane = lane;
            let former = std::mem::replace(&mut object.interval, interval);
            self.targets.change(&id.namespace, before, object.has_target());
            if refreshed {
                // What is known of the sources stays known, but does not count for this.
                let data = object.round.is_some_and(|round| round.data);
                object.refresh = refresh;
                object.told = None;
                object.round = Some(Round { since: Some(now.mono), data, delivered: None });
            }
            match &mut object.round {
                Some(round) => round.data |= need == Need::Data,
                None if need == Need::Data => {
                    object.round = Some(Round { since: Some(now.mono), data: true, delivered: None });
                }
                None => {}
            }
            if former != interval {
                self.change_interval(&id, former, interval);
            }
        }
        self.shares.divide();
        self.hasten(now, &id);
    }

    fn insert(&mut self, id: &ObjectId, object: Object) {
        self.shares.joined(&id.namespace);
        self.targets.change(&id.namespace, false, object.has_target());
        for wish in &object.wishes {
            let entry = self.entries.entry(wish.source.clone()).or_default();
            let news = entry.join(id, object.interval);
            self.charge(&wish.source, news);
        }
        self.objects.insert(id.clone(), object);
    }

    fn remove(&mut self, id: &ObjectId) -> bool {
        let Some(object) = self.objects.remove(id) else { return false };
        if let Some(moment) = object.watched {
            self.timers.remove(&(moment, Timer::Stale(id.clone())));
        }
        self.targets.change(&id.namespace, object.has_target(), false);
        for wish in object.wishes {
            self.leave(id, &wish.source, object.interval);
        }
        if self.shares.left(&id.namespace) {
            self.budget.forget(&id.namespace);
        }
        true
    }

    /// What somebody changed is checked anew; what merely starts is content with the check that others on the path got, if that is
    /// not older than it would itself let one become, nor than so long.
    fn accept_recent_checks(&mut self, now: Now, id: &ObjectId, within: Duration) {
        self.shares.divide();
        let floor = self.timing.staleness_floor;
        let Some(object) = self.objects.get(id) else { return };
        let recent = object.interval.unwrap_or(floor).min(floor);
        let recent = recent.max(self.floor_of(object.wishes.iter().map(|wish| &wish.source)));
        if let Some(round) = self.objects.get_mut(id).and_then(|object| object.round.as_mut()) {
            round.since = now.mono.checked_sub(recent.min(within));
        }
    }

    fn change_interval(&mut self, id: &ObjectId, former: Option<Duration>, interval: Option<Duration>) {
        let Some(object) = self.objects.get(id) else { return };
        let sources: HashSet<Source> = object.wishes.iter().map(|wish| wish.source.clone()).collect();
        for source in sources {
            if let Some(entry) = self.entries.get_mut(&source) {
                entry.change_interval(former, interval);
            }
            self.charge(&source, false);
        }
    }

    /// Charges a source to one of the namespaces that read it, at the shortest interval that is asked for, unless it costs nothing since
    /// the list shows it. `news`: they are others than before.
    pub(super) fn charge(&mut self, source: &Source, news: bool) {
        let Some(entry) = self.entries.get(source) else { return };
        let interval = entry.shortest_interval().filter(|_| !self.is_covered(entry));
        let Some(entry) = self.entries.get_mut(source) else { return };
        let payer = match entry.payer() {
            Some(payer) if !news => Some(payer.clone()),
            _ => self.shares.payer(entry.readers()).cloned(),
        };
        let Some(payer) = payer else { return };
        let charged = Some((payer.clone(), interval));
        if entry.charged != charged {
            if let Some((payer, interval)) = std::mem::replace(&mut entry.charged, charged) {
                self.shares.discharge(&payer, interval);
            }
            self.shares.charge(&payer, interval);
        }
    }

    /// Brings the next check of a source forward, where this object wants it sooner than whoever was there before.
    fn hasten(&mut self, now: Now, id: &ObjectId) {
        let Some(object) = self.objects.get(id) else { return };
        let sources: Vec<Source> = object.wishes.iter().map(|wish| wish.source.clone()).collect();
        for source in sources {
            let Some(interval) = self.interval_of(&source) else { continue };
            let Some(entry) = self.entries.get(&source) else { continue };
            let Some(due) = entry.checked.map(|checked| checked + interval) else { continue };
            // What needs a person, or failed, has waits of its own; and what fell due during an outage is checked soon enough.
            let late = |old: Instant| due < old && (due > now.mono || old > now.mono + interval);
            if entry.due.is_none() || (!entry.waits() && entry.due.is_some_and(late)) {
                self.schedule(&source, Some(due));
            }
        }
    }

    fn leave(&mut self, id: &ObjectId, source: &Source, interval: Option<Duration>) {
        let Some(entry) = self.entries.get_mut(source) else { return };
        let news = entry.part(id, interval);
        if news {
            self.lead.came(&id.namespace, source);
        }
        if entry.users.is_empty() {
            if let Some((payer, interval)) = entry.charged.take() {
                self.shares.discharge(&payer, interval);
            }
            self.drop_value(source);
            self.schedule(source, None);
            self.entries.remove(source);
        } else {
            self.charge(source, news);
            self.release(source);
        }
        if news {
            self.lanes.forget(&id.namespace, source);
        }
    }
}
