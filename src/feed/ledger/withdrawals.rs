//! The limit on deletions: a mistake in OKMS, or in this program, must not empty a cluster.
//!
//! At most so many targets of a store are withdrawn within an hour. What exceeds that is held until a person confirms it by id or
//! the answers of OKMS change; it is never released by time alone. An id is good for the set that it named, whatever was held since: it
//! outlives a restart, between the confirmation and the last deletion too, and once it was used it confirms nothing any more.
//!
//! Where several namespaces have targets, none gets more than half of what the others left: whoever makes withdrawals at will, and one can
//! forge what a Secret of one's own was made from, must not have those of others held.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};

use super::{Now, ObjectId};

const WINDOW: Duration = Duration::from_hours(1);

/// A limit below this would hold the ordinary clean-up of a small store.
const FLOOR: usize = 10;

/// How many names of the set that is held are remembered while it grows: at one a second, what somebody looked at a quarter of an hour ago
/// can still be confirmed.
const NAMES: usize = 1024;

/// How many targets of a store may be withdrawn in an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WithdrawalLimit {
    Number(usize),
    Percent(u8),
}

impl WithdrawalLimit {
    fn of(self, targets: usize) -> usize {
        match self {
            Self::Number(number) => number,
            Self::Percent(percent) => (targets * usize::from(percent)).div_ceil(100),
        }
        .max(FLOOR)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    Granted,
    Held,
}

/// What the cluster remembers of a store's withdrawals from before its books were opened.
#[derive(Debug, Clone, Default)]
pub struct Before {
    /// Those that were granted within the last hour.
    pub granted: Vec<ObjectId>,
    /// Whose status says that it is held.
    pub held: Vec<ObjectId>,
    /// The id and the number of held ones that the store's status told.
    pub told: Option<(String, usize)>,
}

/// How many targets a store has.
#[derive(Default)]
pub struct Targets {
    all: usize,
    by_namespace: HashMap<Arc<str>, usize>,
}

impl Targets {
    /// An object has, or had `before`, a target.
    pub fn change(&mut self, namespace: &Arc<str>, before: bool, after: bool) {
        if before == after {
            return;
        }
        let own = self.by_namespace.entry(namespace.clone()).or_default();
        let step = |number: usize| if after { number + 1 } else { number.saturating_sub(1) };
        (self.all, *own) = (step(self.all), step(*own));
        if *own == 0 {
            self.by_namespace.remove(namespace);
        }
    }

    #[cfg(test)]
    pub fn all(&self) -> usize {
        self.all
    }

    /// Those outside of a namespace.
    fn elsewhere(&self, namespace: &Arc<str>) -> usize {
        self.all - self.by_namespace.get(namespace).copied().unwrap_or(0)
    }
}

/// The withdrawals of one store.
pub struct Withdrawals {
    /// When, and in which namespace.
    granted: VecDeque<(Instant, Arc<str>)>,
    /// Those granted whose object still has the withdrawn target: asking again costs nothing.
    open: BTreeSet<ObjectId>,
    /// With the growth of the set that brought each.
    held: BTreeMap<ObjectId, u64>,
    growth: u64,
    /// What the set was called after each growth, the last last.
    names: VecDeque<(u64, String)>,
    confirmed: BTreeSet<ObjectId>,
    /// Those among the confirmed whose target is still there. The status goes on naming their id, so that a successor of this process
    /// knows what was confirmed.
    pending: BTreeSet<ObjectId>,
    /// Those held or pending that read nothing for now. Nobody is told of them, since their own status says something else: what the store's
    /// status counts is what a successor finds. So no id confirms them either, until they are told of again.
    paused: BTreeSet<ObjectId>,
    /// Names the held set as it was when it last grew, or what was confirmed last. No later set gets the same.
    id: String,
    changed: bool,
}

impl Withdrawals {
    pub fn new(now: Now, before: Before) -> Self {
        let Before { granted, held, told } = before;
        let mut books = Self {
            granted: granted.into_iter().map(|object| (now.mono, object.namespace)).collect(),
            open: BTreeSet::new(),
            held: held.into_iter().map(|object| (object, 0)).collect(),
            growth: 0,
            names: VecDeque::new(),
            confirmed: BTreeSet::new(),
            pending: BTreeSet::new(),
            paused: BTreeSet::new(),
            id: String::new(),
            changed: false,
        };
        match told {
            // Who was held after the status was last written was confirmed by nobody.
            Some((id, count)) if books.held.len() <= count => books.call(id),
            _ => books.rename(now),
        }
        books
    }

    pub fn admit(
        &mut self,
        now: Now,
        object: &ObjectId,
        was_held: bool,
        limit: WithdrawalLimit,
        targets: &Targets,
    ) -> Admission {
        while self.granted.front().is_some_and(|(granted, _)| now.mono.saturating_duration_since(*granted) >= WINDOW) {
            self.granted.pop_front();
        }
        let resumed = self.paused.remove(object);
        self.changed |= resumed;
        if self.open.contains(object) || self.confirmed.contains(object) {
            return Admission::Granted;
        }
        let is_held = self.held.contains_key(object);
        if is_held && !resumed {
            return Admission::Held;
        }
        if !is_held
            && !was_held
            && self.has_left(&object.namespace, limit.of(targets.all + self.granted.len()), targets)
        {
            self.granted.push_back((now.mono, object.namespace.clone()));
            self.open.insert(object.clone());
            return Admission::Granted;
        }
        self.growth += 1;
        self.held.insert(object.clone(), self.growth);
        self.rename(now);
        self.changed = true;
        Admission::Held
    }

    /// Whether the limit leaves one more to a namespace.
    fn has_left(&self, namespace: &Arc<str>, limit: usize, targets: &Targets) -> bool {
        let own = self.granted.iter().filter(|(_, granted)| granted == namespace).count();
        let others = self.granted.len() - own;
        let alone = others == 0 && targets.elsewhere(namespace) == 0;
        let left = limit.saturating_sub(others);
        own < if alone { left } else { left.div_ceil(2) }
    }

    /// Releases those that are held and that `id` named; answers whom.
    pub fn confirm(&mut self, id: &str) -> Vec<ObjectId> {
        let Some(growth) = self.names.iter().find(|(_, name)| name == id).map(|(growth, _)| *growth) else {
            return Vec::new();
        };
        self.names.retain(|(named, _)| *named > growth);
        // Who is paused is not among those that were told of, and is told of anew.
        let named = |object: &ObjectId, held: u64| held <= growth && !self.paused.contains(object);
        let (released, held) =
            std::mem::take(&mut self.held).into_iter().partition(|(object, held)| named(object, *held));
        self.held = held;
        let released: Vec<_> = BTreeMap::into_keys(released).collect();
        self.changed |= !released.is_empty();
        self.confirmed.extend(released.iter().cloned());
        self.pending.extend(released.iter().cloned());
        released
    }

    /// The object reads nothing for now. What is held of it stays so.
    pub fn pause(&mut self, object: &ObjectId) {
        if self.held.contains_key(object) || self.pending.contains(object) {
            self.changed |= self.paused.insert(object.clone());
        }
    }

    /// The target of an object is gone.
    pub fn done(&mut self, object: &ObjectId) {
        // Each would be a write of the store's status, so only the last is told.
        self.changed |= self.pending.remove(object) && self.pending.is_subset(&self.paused);
    }

    /// The object is gone, or its source is not withdrawn any more.
    pub fn forget(&mut self, object: &ObjectId) {
        self.paused.remove(object);
        self.done(object);
        self.changed |= self.held.remove(object).is_some();
        self.open.remove(object);
        self.confirmed.remove(object);
    }

    /// Forgets every object whose uid is not among the living.
    pub fn retain(&mut self, live: &HashSet<Arc<str>>) {
        let known = self.open.iter().chain(self.held.keys()).chain(&self.confirmed);
        let gone: Vec<ObjectId> = known.filter(|id| !live.contains(&id.uid)).cloned().collect();
        for id in gone {
            self.forget(&id);
        }
    }

    /// The id and number of those that are held, or were confirmed and still have their target, and are not paused.
    pub fn held(&self) -> Option<(String, usize)> {
        let told = |object: &&ObjectId| !self.paused.contains(*object);
        let held = self.held.keys().filter(told).count();
        let count = if held == 0 { self.pending.iter().filter(told).count() } else { held };
        (count > 0).then(|| (self.id.clone(), count))
    }

    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Gives the set that is held a name that no other ever had: a set is named by its growth, and that is one moment.
    fn rename(&mut self, now: Now) {
        let mut hash = Sha256::new();
        hash.update(now.wall.as_nanosecond().to_be_bytes());
        hash.update(self.held.len().to_be_bytes());
        hash.update(self.id.as_bytes());
        self.call(hash.finalize().iter().take(4).fold(String::new(), |name, byte| format!("{name}{byte:02x}")));
    }

    fn call(&mut self, id: String) {
        self.names.push_back((self.growth, id.clone()));
        if self.names.len() > NAMES {
            self.names.pop_front();
        }
        self.id = id;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(n: usize) -> ObjectId {
        ObjectId { uid: format!("uid-{n}").into(), namespace: "ns".into(), name: format!("o{n}").into() }
    }

    fn now() -> Now {
        Now { mono: Instant::now(), wall: jiff::Timestamp::from_second(2_000_000_000).unwrap() }
    }

    fn later(now: Now, by: Duration) -> Now {
        Now { mono: now.mono + by, wall: now.wall + by }
    }

    fn granted(granted: usize) -> Before {
        Before { granted: (1000..1000 + granted).map(object).collect(), ..Before::default() }
    }

    fn in_namespace(namespace: &str, n: usize) -> ObjectId {
        ObjectId { uid: format!("{namespace}-{n}").into(), namespace: namespace.into(), name: format!("o{n}").into() }
    }

    fn targets(numbers: &[(&str, usize)]) -> Targets {
        let mut targets = Targets::default();
        for (namespace, number) in numbers {
            for _ in 0..*number {
                targets.change(&(*namespace).into(), false, true);
            }
        }
        targets
    }

    fn none() -> Targets {
        Targets::default()
    }

    fn wave(books: &mut Withdrawals, now: Now, of: usize) -> usize {
        let limit = WithdrawalLimit::Percent(20);
        (0..of)
            .filter(|n| books.admit(now, &object(*n), false, limit, &targets(&[("ns", of - n)])) == Admission::Granted)
            .count()
    }

    /// Books whose budget is used up, and in which these are held.
    fn holding(now: Now, objects: std::ops::Range<usize>) -> Withdrawals {
        let mut books = Withdrawals::new(now, granted(FLOOR));
        for n in objects {
            assert_eq!(books.admit(now, &object(n), false, WithdrawalLimit::Number(0), &none()), Admission::Held);
        }
        books
    }

    /// What a successor learns from the statuses, which say that these are held.
    fn restarted(now: Now, books: &Withdrawals, held: std::ops::Range<usize>) -> Withdrawals {
        Withdrawals::new(
            now,
            Before { granted: granted(FLOOR).granted, held: held.map(object).collect(), told: books.held() },
        )
    }

    #[test]
    fn a_wave_stops_at_the_limit_and_never_resumes_by_time() {
        let now = now();
        let mut books = Withdrawals::new(now, granted(0));
        assert_eq!(wave(&mut books, now, 100), 20);
        assert_eq!(books.held().unwrap().1, 80);
        assert_eq!(wave(&mut books, later(now, WINDOW * 2), 100), 20, "the same twenty; the rest stays held");
    }

    #[test]
    fn a_small_store_may_withdraw_ten() {
        let now = now();
        assert_eq!(wave(&mut Withdrawals::new(now, granted(0)), now, 15), 10);
        assert_eq!(wave(&mut Withdrawals::new(now, granted(7)), now, 15), 3, "what happened before a restart counts");
    }

    #[test]
    fn a_confirmation_names_what_it_confirms() {
        let now = now();
        let limit = WithdrawalLimit::Number(0);
        let mut books = holding(now, 1..2);
        let (first, _) = books.held().unwrap();
        books.admit(now, &object(2), false, limit, &none());
        let (second, count) = books.held().unwrap();
        assert!(first != second && count == 2);
        assert_eq!(books.confirm(&first), [object(1)], "what was held since is not what was looked at");
        assert_eq!(books.admit(now, &object(2), true, limit, &none()), Admission::Held);
        assert!(books.confirm(&first).is_empty(), "it was used");
        assert_eq!(books.held().unwrap(), (second.clone(), 1));
        assert_eq!(books.confirm(&second), [object(2)]);
        assert_eq!(books.admit(now, &object(2), true, limit, &none()), Admission::Granted);
    }

    #[test]
    fn who_has_things_held_all_the_time_keeps_nobody_from_confirming_theirs() {
        let start = now();
        let mut books = holding(start, 0..1);
        let (id, _) = books.held().unwrap();
        for n in 1..600 {
            let now = later(start, Duration::from_secs(n as u64));
            books.admit(now, &object(n), false, WithdrawalLimit::Number(0), &none());
        }
        assert_eq!(books.confirm(&id), [object(0)]);
    }

    #[test]
    fn a_namespace_leaves_half_of_the_budget_to_the_others() {
        let now = now();
        let limit = WithdrawalLimit::Percent(20);
        let mut books = Withdrawals::new(now, granted(0));
        let targets = targets(&[("greedy", 30), ("small", 5)]);
        let mut grants = |namespace: &str| {
            let all = (0..30).map(|n| in_namespace(namespace, n));
            all.filter(|id| books.admit(now, id, false, limit, &targets) == Admission::Granted).count()
        };
        assert_eq!((grants("greedy"), grants("small"), grants("third"), grants("fourth")), (5, 3, 1, 1));
    }

    #[test]
    fn who_is_paused_is_told_of_anew_and_confirmed_by_nothing_that_was_told_before() {
        let (now, limit) = (now(), WithdrawalLimit::Number(0));
        let mut books = Withdrawals::new(now, granted(FLOOR));
        for n in [1, 2] {
            assert_eq!(books.admit(now, &object(n), false, limit, &none()), Admission::Held);
        }
        let (before, _) = books.held().unwrap();
        books.pause(&object(1));
        assert_eq!(books.held(), Some((before.clone(), 1)), "as many as have a status that says so");
        assert_eq!(books.confirm(&before), [object(2)]);
        books.done(&object(2));
        assert_eq!(books.held(), None);
        let later = later(now, WINDOW * 2);
        assert_eq!(books.admit(later, &object(1), false, limit, &none()), Admission::Held);
        let (after, count) = books.held().unwrap();
        assert_eq!((after == before, count), (false, 1));
        assert_eq!(books.confirm(&before), []);
        assert_eq!(books.confirm(&after), [object(1)]);
        books.pause(&object(1));
        assert_eq!(books.held(), None, "it is confirmed, and waits for itself");
        assert_eq!(books.admit(later, &object(1), false, limit, &none()), Admission::Granted);
    }

    #[test]
    fn what_was_held_before_a_restart_is_still_held_under_its_id() {
        let now = now();
        let limit = WithdrawalLimit::Percent(20);
        let mut books = Withdrawals::new(now, granted(0));
        assert_eq!(
            books.admit(now, &object(1), true, limit, &targets(&[("ns", 100)])),
            Admission::Held,
            "also if only its status knows"
        );
        let before = holding(now, 0..4);
        let mut after = restarted(later(now, WINDOW * 2), &before, 0..4);
        assert_eq!(after.held(), before.held());
        assert_eq!(
            after.admit(later(now, WINDOW * 2), &object(0), true, limit, &targets(&[("ns", 100)])),
            Admission::Held
        );
        assert_eq!(after.held(), before.held(), "who says again that it was held is no news");
        let grown = restarted(now, &before, 0..5);
        assert_ne!(
            grown.held().unwrap().0,
            before.held().unwrap().0,
            "one was held that the store's status never told"
        );
    }

    #[test]
    fn an_id_that_was_used_confirms_no_later_set() {
        let start = now();
        let mut books = holding(start, 0..3);
        let (id, _) = books.held().unwrap();
        assert_eq!(books.confirm(&id).len(), 3);
        for n in 0..3 {
            books.done(&object(n));
            // The source comes back, and the target with it.
            books.forget(&object(n));
        }
        assert_eq!(books.held(), None);
        for n in 0..3 {
            books.admit(later(start, Duration::from_mins(1)), &object(n), false, WithdrawalLimit::Number(0), &none());
        }
        assert_eq!(books.held().unwrap().1, 3);
        assert!(books.confirm(&id).is_empty(), "the same three, but not what was confirmed");
        let mut after = restarted(later(start, Duration::from_secs(90)), &books, 0..3);
        assert!(after.confirm(&id).is_empty(), "nor after a restart");
        assert_eq!(after.confirm(&books.held().unwrap().0).len(), 3);
    }

    #[test]
    fn a_confirmation_survives_a_restart_before_everything_is_deleted() {
        let now = now();
        let mut books = holding(now, 0..4);
        let (id, _) = books.held().unwrap();
        books.confirm(&id);
        books.done(&object(0));
        books.done(&object(1));
        assert_eq!(books.held(), Some((id.clone(), 2)), "the status goes on naming it");
        let mut after = restarted(now, &books, 2..4);
        assert_eq!(after.confirm(&id), [object(2), object(3)]);
        assert_eq!(after.admit(now, &object(3), true, WithdrawalLimit::Number(0), &none()), Admission::Granted);
        for n in 2..4 {
            after.done(&object(n));
        }
        assert_eq!((after.held(), after.take_changed()), (None, true));
    }

    #[test]
    fn a_set_that_grows_after_a_confirmation_needs_one_of_its_own() {
        let now = now();
        let mut books = holding(now, 0..2);
        let (id, _) = books.held().unwrap();
        books.confirm(&id);
        books.admit(now, &object(7), false, WithdrawalLimit::Number(0), &none());
        assert!(books.confirm(&id).is_empty());
        let mut after = restarted(now, &books, 0..3);
        assert!(
            after.confirm(&id).is_empty() && after.confirm(&books.held().unwrap().0).is_empty(),
            "better twice than wrongly"
        );
    }

    #[test]
    fn the_dead_are_forgotten() {
        let now = now();
        let mut books = restarted(now, &holding(now, 0..3), 0..3);
        books.retain(&[object(1).uid].into());
        assert_eq!(books.held().unwrap().1, 1);
    }
}
