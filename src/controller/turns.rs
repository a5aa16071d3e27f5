//! Whose turn it is to be looked at.
//!
//! A queue as client-go's workqueue is: nobody waits in it twice or is looked at twice at once, and whoever is to be looked at again later
//! waits elsewhere until then. In addition it has lines: in each namespace one of new objects, one of those that something happened to and
//! one of those that are held back, and one for all namespaces of whoever is looked at because many are. The lines take turns, so that
//! neither a flood of new objects nor a look at all of them keeps anybody else waiting. kube's own scheduler takes what waits in no order:
//! with thousands waiting, some wait until all the others are done.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    iter,
    mem::{Discriminant, discriminant},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures::Stream;
use kube::runtime::reflector::{Lookup, ObjectRef};
use tokio::time::Instant;
use tokio_util::time::{DelayQueue, delay_queue};

/// The longest delay; [`DelayQueue`] panics where one is beyond two years.
const LONGEST: Duration = Duration::from_hours(24);

/// What happens to an object that is not new often comes in company: the echo of a write is seen by two watches, one after the other. It
/// waits this long for the rest of it, and is looked at once.
const COMPANY: Duration = Duration::from_millis(5);

/// Where a burst is over, room for more than this is given back.
const ROOM: usize = 1024;

/// `namespace/name`, in one piece because thousands may wait; the namespace is empty where there is none.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key(Arc<str>);

impl Key {
    pub fn of<K: Lookup>(object: &ObjectRef<K>) -> Self {
        Self(format!("{}/{}", object.namespace.as_deref().unwrap_or_default(), object.name).into())
    }

    pub fn to_ref<K: Lookup<DynamicType = ()>>(&self) -> ObjectRef<K> {
        let (namespace, name) = self.parts();
        let object = ObjectRef::new(name);
        if namespace.is_empty() { object } else { object.within(namespace) }
    }

    fn parts(&self) -> (&str, &str) {
        self.0.split_once('/').unwrap_or_default()
    }
}

/// Why somebody is to be looked at. Whoever waits for less moves when there is more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Why {
    /// Everybody is, for a reason that they share. Whoever changed last comes first: that may not have been seen.
    Everybody { last_change: u64 },
    /// It was held back when it was looked at last, and comes to see whether it still is. So it holds no place for when it is answered:
    /// whom OKMS answers first is looked at first.
    HeldBack,
    /// Something happened that concerns it.
    Happened,
    /// Nothing was ever said of it.
    New,
}

/// When somebody who was looked at is to be so again, if nothing wakes it before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Return {
    pub after: Duration,
    /// It only waits for others to be written first, and is woken when it is answered.
    pub held_back: bool,
}

impl From<Duration> for Return {
    fn from(after: Duration) -> Self {
        Self { after, held_back: false }
    }
}

/// The name of a line. That of everybody is one for all namespaces: who changed last counts across them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Line {
    namespace: Box<str>,
    why: Discriminant<Why>,
}

/// A place in a line: before those who came later for the same.
type Place = (Reverse<Why>, u64);

/// The lines, and who is being looked at. A clone is the same.
#[derive(Clone, Default)]
pub(super) struct Turns(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// With those who have moved since.
    lines: HashMap<Line, BTreeMap<Place, Key>>,
    /// The lines in which somebody stands, in the order of their turns.
    turns: VecDeque<Line>,
    /// Who stands in a line, and where.
    waiting: HashMap<Key, Place>,
    /// How many came so far.
    came: u64,
    under_way: HashSet<Key>,
    /// Who was woken while under way, and stands in line again after that.
    again: HashMap<Key, Why>,
    /// Who stands in line later, and where in the queue of those. Nobody does who stands there for as much.
    later: HashMap<Key, delay_queue::Key>,
    times: DelayQueue<(Key, Why)>,
    waker: Option<Waker>,
}

impl Turns {
    /// Has somebody stand in line who does not already, or only in one of less.
    pub fn wake(&self, key: Key, why: Why) {
        self.with(|state| state.wake(key, why));
    }

    /// Somebody was looked at, and comes back after so long, unless woken before: then what that look says counts.
    pub fn done(&self, key: Key, why: Why, back_after: Option<Duration>) {
        self.with(|state| {
            state.under_way.remove(&key);
            if let Some(why) = state.again.remove(&key) {
                state.wake(key.clone(), why);
            }
            if let Some(after) = back_after {
                state.stand_later(key, why, after);
            }
        });
    }

    /// How many stand in line.
    pub fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Changes something, and tells whoever waits for a turn.
    fn with(&self, change: impl FnOnce(&mut State)) {
        let waker = {
            let mut state = self.lock();
            change(&mut state);
            state.waker.take()
        };
        waker.inspect(Waker::wake_by_ref);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wake(&mut self, key: Key, why: Why) {
        if self.under_way.contains(&key) {
            let again = self.again.entry(key).or_insert(why);
            *again = why.max(*again);
        } else if why == Why::Happened {
            self.stand_later(key, why, COMPANY);
        } else {
            self.stand(key, why);
        }
    }

    fn stand(&mut self, key: Key, why: Why) {
        if self.stands_for(&key, why) {
            return;
        }
        if why >= Why::HeldBack {
            self.forget_later(&key);
        }
        let place = (Reverse(why), self.came);
        self.came += 1;
        self.waiting.insert(key.clone(), place);
        let namespace = if why < Why::HeldBack { "" } else { key.parts().0 };
        let line = Line { namespace: namespace.into(), why: discriminant(&why) };
        let places = self.lines.entry(line.clone()).or_default();
        if places.is_empty() {
            self.turns.push_back(line);
        }
        places.insert(place, key);
    }

    /// Has somebody stand in line later, who does not come before that: at the earliest moment, for the most, of what was said so.
    fn stand_later(&mut self, key: Key, why: Why, after: Duration) {
        if self.stands_for(&key, why) {
            return;
        }
        let (mut why, mut at) = (why, Instant::now() + after.min(LONGEST));
        if let Some(place) = self.later.remove(&key) {
            let before = self.times.remove(&place);
            at = at.min(before.deadline());
            why = why.max(before.into_inner().1);
        }
        let place = self.times.insert_at((key.clone(), why), at);
        self.later.insert(key, place);
    }

    /// Has those stand in line whose time has come.
    fn stand_who_is_due(&mut self, context: &mut Context<'_>) {
        while let Poll::Ready(Some(expired)) = self.times.poll_expired(context) {
            let (key, why) = expired.into_inner();
            self.later.remove(&key);
            self.give_back_room();
            self.stand(key, why);
        }
    }

    /// The first of the line whose turn it is.
    fn next(&mut self) -> Option<Key> {
        while let Some(line) = self.turns.pop_front() {
            let places = self.lines.get_mut(&line)?;
            let first = iter::from_fn(|| places.pop_first()).find(|(place, key)| self.waiting.get(key) == Some(place));
            if places.is_empty() {
                self.lines.remove(&line);
            } else {
                self.turns.push_back(line);
            }
            let Some((_, key)) = first else { continue };
            self.waiting.remove(&key);
            self.forget_later(&key);
            self.give_back_room();
            self.under_way.insert(key.clone());
            return Some(key);
        }
        None
    }

    /// Whether somebody stands in a line for this, or for more.
    fn stands_for(&self, key: &Key, why: Why) -> bool {
        self.waiting.get(key).is_some_and(|(Reverse(stands), _)| *stands >= why)
    }

    fn forget_later(&mut self, key: &Key) {
        if let Some(place) = self.later.remove(key) {
            self.times.remove(&place);
            self.give_back_room();
        }
    }

    fn give_back_room(&mut self) {
        if self.waiting.is_empty() && self.waiting.capacity() > ROOM {
            self.waiting = HashMap::new();
        }
        if self.later.is_empty() && self.later.capacity() > ROOM {
            (self.later, self.times) = (HashMap::new(), DelayQueue::new());
        }
    }
}

/// Whoever is to be looked at now, and is so until [`Turns::done`]. It never ends.
impl Stream for Turns {
    type Item = Key;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Key>> {
        let mut state = self.lock();
        state.stand_who_is_due(context);
        if let Some(key) = state.next() {
            return Poll::Ready(Some(key));
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, StreamExt};
    use k8s_openapi::api::core::v1::{Namespace, Secret};

    use super::*;

    const EVERYBODY: Why = Why::Everybody { last_change: 0 };

    fn key(namespace: &str, name: &str) -> Key {
        Key(format!("{namespace}/{name}").into())
    }

    /// Whoever has a turn now.
    fn next(turns: &Turns) -> Option<String> {
        let key = turns.clone().next().now_or_never()??;
        Some(key.0.to_string())
    }

    /// Whoever has one next.
    async fn soon(turns: &Turns) -> String {
        turns.clone().next().await.unwrap().0.to_string()
    }

    #[tokio::test]
    async fn a_flood_keeps_neither_other_namespaces_waiting_nor_what_was_synced_before() {
        let turns = Turns::default();
        turns.lock().stand(key("flood", "old"), Why::Happened);
        for n in 0..50 {
            turns.wake(key("flood", &format!("new-{n}")), Why::New);
        }
        turns.wake(key("other", "new"), Why::New);
        turns.lock().stand(key("flood", "older"), Why::Happened);
        assert_eq!(turns.waiting(), 53);
        let first: Vec<_> = (0..6).filter_map(|_| next(&turns)).collect();
        assert_eq!(first, ["flood/old", "flood/new-0", "other/new", "flood/older", "flood/new-1", "flood/new-2"]);
        assert_eq!(iter::from_fn(|| next(&turns)).count(), 47, "nobody is forgotten");
        assert_eq!(turns.waiting(), 0);
        assert!(turns.lock().lines.is_empty() && turns.lock().turns.is_empty(), "nor is a line that is empty kept");
    }

    #[tokio::test]
    async fn whoever_something_happened_to_waits_not_for_everybody() {
        let turns = Turns::default();
        for n in 0..5 {
            turns.wake(key("ns", &n.to_string()), EVERYBODY);
        }
        for why in [Why::Happened, EVERYBODY] {
            turns.wake(key("ns", "4"), why);
        }
        // Happens first, and everybody's turn is later.
        for why in [Why::Happened, EVERYBODY] {
            turns.wake(key("ns", "5"), why);
        }
        assert_eq!(turns.waiting(), 6);
        tokio::time::sleep(COMPANY * 2).await;
        let order: Vec<_> = iter::from_fn(|| next(&turns)).collect();
        assert_eq!(order.len(), 6, "each once: {order:?}");
        for name in ["ns/4", "ns/5"] {
            let before = order.iter().position(|next| next == name);
            assert!(before <= Some(3), "{name} waits for half of the others at most: {order:?}");
        }
        assert_eq!(turns.waiting(), 0);
        let state = turns.lock();
        assert!(state.lines.is_empty() && state.turns.is_empty(), "nothing is left where it stood first");
        assert!(state.later.is_empty() && state.times.is_empty());
    }

    #[tokio::test]
    async fn of_everybody_whoever_changed_last_comes_first() {
        let turns = Turns::default();
        for (namespace, last_change) in [("a", 5), ("b", 7), ("c", 7), ("d", 6), ("a", 9), ("b", 1)] {
            turns.wake(key(namespace, "db"), Why::Everybody { last_change });
        }
        assert_eq!(turns.waiting(), 4);
        let order: Vec<_> = iter::from_fn(|| next(&turns)).collect();
        assert_eq!(order, ["a/db", "b/db", "c/db", "d/db"]);
    }

    #[tokio::test]
    async fn whoever_moved_and_comes_again_is_looked_at_once_and_where_it_stands_now() {
        let turns = Turns::default();
        for name in ["a", "b"] {
            turns.wake(key("ns", name), EVERYBODY);
        }
        turns.lock().stand(key("ns", "b"), Why::Happened);
        assert_eq!((next(&turns), next(&turns)), (Some("ns/a".into()), Some("ns/b".into())));
        for name in ["c", "b"] {
            turns.done(key("ns", name), Why::Happened, None);
            turns.wake(key("ns", name), EVERYBODY);
        }
        assert_eq!(turns.waiting(), 2);
        assert_eq!((next(&turns), next(&turns), next(&turns)), (Some("ns/c".into()), Some("ns/b".into()), None));
    }

    #[tokio::test]
    async fn what_happens_while_everybody_is_looked_at_is_not_forgotten() {
        let turns = Turns::default();
        turns.wake(key("ns", "a"), EVERYBODY);
        assert_eq!(next(&turns), Some("ns/a".into()));
        turns.wake(key("ns", "a"), Why::Happened);
        turns.wake(key("ns", "a"), EVERYBODY);
        turns.wake(key("ns", "b"), EVERYBODY);
        turns.wake(key("ns", "c"), EVERYBODY);
        turns.done(key("ns", "a"), Why::Happened, Some(Duration::from_hours(1)));
        assert_eq!(next(&turns), Some("ns/b".into()));
        tokio::time::sleep(COMPANY * 2).await;
        let mut left = [soon(&turns).await, soon(&turns).await];
        left.sort_unstable();
        assert_eq!(left, ["ns/a", "ns/c"]);
        assert_eq!(next(&turns), None);
    }

    #[tokio::test]
    async fn whoever_comes_back_soon_does_so_though_everybody_is_looked_at() {
        let turns = Turns::default();
        for name in ["a", "b", "c"] {
            turns.wake(key("ns", name), Why::New);
            next(&turns);
        }
        turns.wake(key("ns", "b"), EVERYBODY);
        for name in ["a", "b", "c"] {
            turns.done(key("ns", name), Why::Happened, Some(COMPANY));
        }
        turns.wake(key("ns", "a"), EVERYBODY);
        assert_eq!((turns.waiting(), turns.lock().later.len()), (2, 3));
        assert_eq!(next(&turns), Some("ns/b".into()));
        assert_eq!(turns.lock().later.len(), 2, "what it would have come back for is seen now");
        tokio::time::sleep(COMPANY * 2).await;
        let mut left = [soon(&turns).await, soon(&turns).await];
        left.sort_unstable();
        assert_eq!((left, next(&turns)), (["ns/a".into(), "ns/c".into()], None));
    }

    #[tokio::test]
    async fn whoever_is_answered_first_is_looked_at_first_also_of_those_who_have_come_back() {
        let turns = Turns::default();
        for name in ["a", "b", "c"] {
            turns.lock().stand(key("ns", name), Why::HeldBack);
        }
        for name in ["d", "b", "a"] {
            turns.wake(key("ns", name), Why::New);
        }
        assert_eq!(turns.waiting(), 4);
        let order: Vec<_> = iter::from_fn(|| next(&turns)).collect();
        assert_eq!(order, ["ns/c", "ns/d", "ns/b", "ns/a"]);
        assert!(turns.lock().lines.is_empty() && turns.lock().turns.is_empty());
    }

    #[tokio::test]
    async fn whoever_would_come_back_stands_at_the_earliest_moment_for_the_most_that_was_said() {
        for back in [Duration::ZERO, Duration::from_hours(1)] {
            let turns = Turns::default();
            turns.lock().stand_later(key("ns", "a"), Why::HeldBack, back);
            turns.wake(key("ns", "a"), Why::Happened);
            turns.lock().stand_later(key("ns", "a"), Why::HeldBack, Duration::from_hours(2));
            assert_eq!(turns.lock().times.len(), 1, "once");
            tokio::time::timeout(Duration::from_mins(1), async {
                while turns.waiting() == 0 {
                    // Has it look at the times, without taking a turn.
                    turns.lock().stand_who_is_due(&mut Context::from_waker(Waker::noop()));
                    tokio::time::sleep(COMPANY).await;
                }
            })
            .await
            .unwrap();
            assert!(turns.lock().stands_for(&key("ns", "a"), Why::Happened));
        }
    }

    #[tokio::test]
    async fn what_comes_in_company_is_looked_at_once() {
        let turns = Turns::default();
        for _ in 0..3 {
            turns.wake(key("ns", "a"), Why::Happened);
        }
        assert_eq!(soon(&turns).await, "ns/a");
        turns.done(key("ns", "a"), Why::Happened, None);
        assert!(turns.lock().later.is_empty() && turns.lock().waiting.is_empty());
    }

    #[tokio::test]
    async fn whoever_is_woken_while_under_way_is_looked_at_once_more_and_once_only() {
        let turns = Turns::default();
        turns.wake(key("ns", "a"), Why::New);
        turns.wake(key("ns", "a"), Why::New);
        assert_eq!((next(&turns), next(&turns)), (Some("ns/a".into()), None));
        turns.wake(key("ns", "a"), Why::Happened);
        turns.wake(key("ns", "a"), Why::Happened);
        assert_eq!(next(&turns), None, "not twice at once");
        turns.done(key("ns", "a"), Why::Happened, Some(Duration::from_hours(1)));
        assert_eq!(soon(&turns).await, "ns/a");
        turns.done(key("ns", "a"), Why::Happened, None);
        assert!(turns.lock().later.is_empty() && turns.lock().waiting.is_empty());
    }

    #[tokio::test]
    async fn whoever_comes_back_later_does_so_once_and_soon_if_woken_before() {
        let turns = Turns::default();
        for name in ["soon", "late", "never"] {
            turns.wake(key("ns", name), Why::New);
            assert_eq!(next(&turns), Some(format!("ns/{name}")));
        }
        turns.done(key("ns", "late"), Why::Happened, Some(Duration::from_hours(1)));
        turns.done(key("ns", "soon"), Why::Happened, Some(Duration::from_millis(10)));
        turns.done(key("ns", "never"), Why::Happened, Some(Duration::MAX));
        assert_eq!(soon(&turns).await, "ns/soon");
        turns.done(key("ns", "soon"), Why::Happened, None);
        turns.wake(key("ns", "late"), Why::Happened);
        assert_eq!(soon(&turns).await, "ns/late");
        let state = turns.lock();
        assert_eq!((state.later.len(), state.times.len()), (1, 1), "a wake takes the place of the time");
    }

    #[tokio::test]
    async fn a_burst_leaves_no_room_behind() {
        let turns = Turns::default();
        let keys: Vec<Key> = (0..ROOM * 2).map(|n| key("ns", &n.to_string())).collect();
        for round in 0..2 {
            for key in &keys {
                turns.wake(key.clone(), Why::New);
            }
            assert_eq!(iter::from_fn(|| next(&turns)).count(), keys.len(), "round {round}");
            for key in &keys {
                turns.done(key.clone(), Why::Happened, Some(Duration::from_hours(1)));
            }
        }
        assert_eq!(turns.lock().later.len(), keys.len());
        for key in &keys {
            turns.wake(key.clone(), Why::New);
        }
        assert_eq!(iter::from_fn(|| next(&turns)).count(), keys.len());
        let state = turns.lock();
        assert!(
            [state.waiting.capacity(), state.later.capacity(), state.times.capacity()].iter().all(|room| *room <= ROOM)
        );
    }

    #[test]
    fn a_key_is_its_reference() {
        for object in [ObjectRef::<Secret>::new("db").within("shop"), ObjectRef::new("db")] {
            assert_eq!(Key::of(&object).to_ref(), object);
        }
        assert_eq!(Key::of(&ObjectRef::<Namespace>::new("shop")).to_ref(), ObjectRef::<Namespace>::new("shop"));
    }

    #[tokio::test]
    async fn whoever_waits_for_a_turn_is_told_of_it() {
        let turns = Turns::default();
        let wake = |turns: &Turns| turns.wake(key("ns", "a"), Why::Happened);
        let comes_back = |turns: &Turns| turns.done(key("ns", "a"), Why::Happened, Some(Duration::ZERO));
        for happens in [&wake as &dyn Fn(&Turns), &comes_back] {
            let waits = tokio::spawn({
                let mut turns = turns.clone();
                async move { turns.next().await }
            });
            tokio::task::yield_now().await;
            happens(&turns);
            assert_eq!(waits.await.unwrap(), Some(key("ns", "a")));
        }
    }
}
