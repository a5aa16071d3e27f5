//! Whose turn it is to be looked at.
//!
//! A queue as client-go's workqueue is: nobody waits in it twice or is looked at twice at once, and whoever is to be looked at again later
//! waits elsewhere until then. In addition it has lines: in each namespace one of new objects, and one of the others. The lines take turns, and
//! a line serves who came first, so that a flood of new objects keeps nobody else waiting. kube's own scheduler takes what waits in no order:
//! with thousands waiting, some wait until all the others are done.

use std::{
    collections::{HashMap, HashSet, VecDeque},
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

/// What wakes an object that is not new often comes in company: the echo of a write is seen by two watches, one after the other. It
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

/// Who stands in one line.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Line {
    namespace: Box<str>,
    is_new: bool,
}

/// The lines, and who is being looked at. A clone is the same.
#[derive(Clone, Default)]
pub(super) struct Turns(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    lines: HashMap<Line, VecDeque<Key>>,
    /// The lines in which somebody stands, in the order of their turns.
    turns: VecDeque<Line>,
    /// Who stands in a line: nobody in two.
    waiting: HashSet<Key>,
    under_way: HashSet<Key>,
    /// Who was woken while under way, and stands in line again after that.
    again: HashMap<Key, bool>,
    /// Who comes back later, and where in the queue of those.
    later: HashMap<Key, delay_queue::Key>,
    times: DelayQueue<(Key, bool)>,
    waker: Option<Waker>,
}

impl Turns {
    /// Has somebody stand in line who does not already.
    pub fn wake(&self, key: Key, is_new: bool) {
        self.with(|state| state.wake(key, is_new));
    }

    /// Somebody was looked at, and comes back after so long, unless woken before: then what that look says counts.
    pub fn done(&self, key: Key, is_new: bool, back_after: Option<Duration>) {
        self.with(|state| {
            state.under_way.remove(&key);
            if let Some(is_new) = state.again.remove(&key) {
                state.wake(key, is_new);
            } else if let Some(after) = back_after {
                state.come_back(key, is_new, after);
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
    fn wake(&mut self, key: Key, is_new: bool) {
        if self.under_way.contains(&key) {
            self.again.insert(key, is_new);
        } else if is_new {
            self.stand(key, is_new);
        } else {
            self.come_back(key, is_new, COMPANY);
        }
    }

    fn stand(&mut self, key: Key, is_new: bool) {
        if !self.waiting.insert(key.clone()) {
            return;
        }
        if let Some(place) = self.later.remove(&key) {
            self.times.remove(&place);
            self.give_back_room();
        }
        let line = Line { namespace: key.parts().0.into(), is_new };
        let waiting = self.lines.entry(line.clone()).or_default();
        if waiting.is_empty() {
            self.turns.push_back(line);
        }
        waiting.push_back(key);
    }

    /// Has somebody stand in line later, who does not come before that.
    fn come_back(&mut self, key: Key, is_new: bool, after: Duration) {
        let after = after.min(LONGEST);
        match self.later.get(&key) {
            _ if self.waiting.contains(&key) => {}
            Some(place) if self.times.deadline(place) <= Instant::now() + after => {}
            Some(place) => self.times.reset(place, after),
            None => {
                let place = self.times.insert((key.clone(), is_new), after);
                self.later.insert(key, place);
            }
        }
    }

    /// The first of the line whose turn it is.
    fn next(&mut self) -> Option<Key> {
        let line = self.turns.pop_front()?;
        let waiting = self.lines.get_mut(&line)?;
        let key = waiting.pop_front()?;
        if waiting.is_empty() {
            self.lines.remove(&line);
        } else {
            self.turns.push_back(line);
        }
        self.waiting.remove(&key);
        self.give_back_room();
        self.under_way.insert(key.clone());
        Some(key)
    }

    fn give_back_room(&mut self) {
        if self.waiting.is_empty() && self.waiting.capacity() > ROOM {
            self.waiting = HashSet::new();
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
        while let Poll::Ready(Some(expired)) = state.times.poll_expired(context) {
            let (key, is_new) = expired.into_inner();
            state.later.remove(&key);
            state.give_back_room();
            state.stand(key, is_new);
        }
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
        turns.lock().stand(key("flood", "old"), false);
        for n in 0..50 {
            turns.wake(key("flood", &format!("new-{n}")), true);
        }
        turns.wake(key("other", "new"), true);
        turns.lock().stand(key("flood", "older"), false);
        assert_eq!(turns.waiting(), 53);
        let first: Vec<_> = (0..6).filter_map(|_| next(&turns)).collect();
        assert_eq!(first, ["flood/old", "flood/new-0", "other/new", "flood/older", "flood/new-1", "flood/new-2"]);
        assert_eq!(std::iter::from_fn(|| next(&turns)).count(), 47, "nobody is forgotten");
        assert_eq!(turns.waiting(), 0);
        assert!(turns.lock().lines.is_empty() && turns.lock().turns.is_empty(), "nor is a line that is empty kept");
    }

    #[tokio::test]
    async fn what_comes_in_company_is_looked_at_once() {
        let turns = Turns::default();
        for _ in 0..3 {
            turns.wake(key("ns", "a"), false);
        }
        assert_eq!(soon(&turns).await, "ns/a");
        turns.done(key("ns", "a"), false, None);
        assert!(turns.lock().later.is_empty() && turns.lock().waiting.is_empty());
    }

    #[tokio::test]
    async fn whoever_is_woken_while_under_way_is_looked_at_once_more_and_once_only() {
        let turns = Turns::default();
        turns.wake(key("ns", "a"), true);
        turns.wake(key("ns", "a"), true);
        assert_eq!((next(&turns), next(&turns)), (Some("ns/a".into()), None));
        turns.wake(key("ns", "a"), false);
        turns.wake(key("ns", "a"), false);
        assert_eq!(next(&turns), None, "not twice at once");
        turns.done(key("ns", "a"), false, Some(Duration::from_hours(1)));
        assert_eq!(soon(&turns).await, "ns/a");
        turns.done(key("ns", "a"), false, None);
        assert!(turns.lock().later.is_empty() && turns.lock().waiting.is_empty());
    }

    #[tokio::test]
    async fn whoever_comes_back_later_does_so_once_and_soon_if_woken_before() {
        let turns = Turns::default();
        for name in ["soon", "late", "never"] {
            turns.wake(key("ns", name), true);
            assert_eq!(next(&turns), Some(format!("ns/{name}")));
        }
        turns.done(key("ns", "late"), false, Some(Duration::from_hours(1)));
        turns.done(key("ns", "soon"), false, Some(Duration::from_millis(10)));
        turns.done(key("ns", "never"), false, Some(Duration::MAX));
        assert_eq!(soon(&turns).await, "ns/soon");
        turns.done(key("ns", "soon"), false, None);
        turns.wake(key("ns", "late"), false);
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
                turns.wake(key.clone(), true);
            }
            assert_eq!(std::iter::from_fn(|| next(&turns)).count(), keys.len(), "round {round}");
            for key in &keys {
                turns.done(key.clone(), true, Some(Duration::from_hours(1)));
            }
        }
        assert_eq!(turns.lock().later.len(), keys.len());
        for key in &keys {
            turns.wake(key.clone(), true);
        }
        assert_eq!(std::iter::from_fn(|| next(&turns)).count(), keys.len());
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
        let wake = |turns: &Turns| turns.wake(key("ns", "a"), false);
        let comes_back = |turns: &Turns| turns.done(key("ns", "a"), false, Some(Duration::ZERO));
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
