//! Whose turn it is to be looked at.
//!
//! A queue as client-go's workqueue is: nobody waits in it twice or is looked at twice at once, and whoever is to be looked at again later
//! waits elsewhere until then. In addition it has lines, one for each [`Standing`] in each namespace. The lines take turns, and a line serves
//! who came first, so that a flood of new objects keeps nobody else waiting. kube's own scheduler takes what waits in no order: with thousands
//! waiting, some wait until all the others are done.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures::Stream;
use kube::runtime::reflector::{Lookup, ObjectRef};
use tokio_util::time::{DelayQueue, delay_queue};

/// The longest delay; [`DelayQueue`] panics where one is beyond two years.
const LONGEST: Duration = Duration::from_hours(24);

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

/// What becomes of an object when it is looked at, as far as can be told before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Standing {
    /// It has no status yet: OKMS is to be asked.
    New,
    /// The same, and OKMS has answered. That it need not stand behind all that is new keeps answers from piling up in memory.
    Answered,
    /// Its status says something already.
    Known,
}

/// Who stands in one line.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Line {
    namespace: Box<str>,
    standing: Standing,
}

/// The lines, and who is being looked at. A clone is the same.
#[derive(Clone, Default)]
pub(super) struct Turns(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    lines: HashMap<Line, VecDeque<Key>>,
    /// The lines in which somebody stands, in the order of their turns.
    turns: VecDeque<Line>,
    /// Who waits for a turn, and in which line. Where OKMS has answered meanwhile, an entry in the line of before counts no more.
    waiting: HashMap<Key, Standing>,
    under_way: HashSet<Key>,
    /// Who was woken while under way, and stands in line again after that.
    again: HashMap<Key, Standing>,
    /// Who comes back later, and where in the queue of those.
    later: HashMap<Key, delay_queue::Key>,
    times: DelayQueue<(Key, Standing)>,
    waker: Option<Waker>,
}

impl Turns {
    /// Has somebody stand in line who does not already.
    pub fn wake(&self, key: Key, standing: Standing) {
        self.with(|state| state.stand(key, standing));
    }

    /// Somebody was looked at, and comes back after so long, unless woken before: then what that look says counts.
    pub fn done(&self, key: Key, standing: Standing, back_after: Option<Duration>) {
        self.with(|state| {
            state.under_way.remove(&key);
            if let Some(standing) = state.again.remove(&key) {
                state.stand(key, standing);
            } else if let Some(after) = back_after {
                state.come_back(key, standing, after);
            }
        });
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
    fn stand(&mut self, key: Key, standing: Standing) {
        if self.under_way.contains(&key) {
            let again = self.again.entry(key).or_insert(standing);
            *again = standing.max(*again);
            return;
        }
        let before = self.waiting.get(&key).copied();
        if before.is_some() && (before, standing) != (Some(Standing::New), Standing::Answered) {
            return;
        }
        self.waiting.insert(key.clone(), standing);
        if let Some(place) = self.later.remove(&key) {
            self.times.remove(&place);
            self.give_back_room();
        }
        let line = Line { namespace: key.parts().0.into(), standing };
        let waiting = self.lines.entry(line.clone()).or_default();
        if waiting.is_empty() {
            self.turns.push_back(line);
        }
        waiting.push_back(key);
    }

    fn come_back(&mut self, key: Key, standing: Standing, after: Duration) {
        let place = self.times.insert((key.clone(), standing), after.min(LONGEST));
        self.later.insert(key, place);
    }

    /// The first of the line whose turn it is.
    fn next(&mut self) -> Option<Key> {
        loop {
            let line = self.turns.pop_front()?;
            let waiting = self.lines.get_mut(&line)?;
            let key = waiting.pop_front()?;
            let standing = line.standing;
            if waiting.is_empty() {
                self.lines.remove(&line);
            } else {
                self.turns.push_back(line);
            }
            if self.waiting.get(&key) == Some(&standing) {
                self.waiting.remove(&key);
                self.give_back_room();
                self.under_way.insert(key.clone());
                return Some(key);
            }
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
        while let Poll::Ready(Some(expired)) = state.times.poll_expired(context) {
            let (key, standing) = expired.into_inner();
            state.later.remove(&key);
            state.give_back_room();
            state.stand(key, standing);
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

    #[tokio::test]
    async fn a_flood_keeps_neither_other_namespaces_waiting_nor_what_was_synced_before() {
        let turns = Turns::default();
        for n in 0..50 {
            turns.wake(key("flood", &format!("new-{n}")), Standing::New);
        }
        turns.wake(key("flood", "answered"), Standing::Answered);
        turns.wake(key("flood", "old"), Standing::Known);
        turns.wake(key("other", "new"), Standing::New);
        let first: Vec<_> = (0..5).filter_map(|_| next(&turns)).collect();
        assert_eq!(first, ["flood/new-0", "flood/answered", "flood/old", "other/new", "flood/new-1"]);
        assert_eq!(std::iter::from_fn(|| next(&turns)).count(), 48, "nobody is forgotten");
        assert!(turns.lock().lines.is_empty() && turns.lock().turns.is_empty(), "nor is a line that is empty kept");
    }

    #[tokio::test]
    async fn whoever_is_woken_while_under_way_is_looked_at_once_more_and_once_only() {
        let turns = Turns::default();
        turns.wake(key("ns", "a"), Standing::New);
        turns.wake(key("ns", "a"), Standing::Known);
        assert_eq!((next(&turns), next(&turns)), (Some("ns/a".into()), None));
        turns.wake(key("ns", "a"), Standing::Known);
        turns.wake(key("ns", "a"), Standing::Known);
        assert_eq!(next(&turns), None, "not twice at once");
        turns.done(key("ns", "a"), Standing::Known, Some(Duration::ZERO));
        assert_eq!((next(&turns), next(&turns)), (Some("ns/a".into()), None));
        turns.done(key("ns", "a"), Standing::Known, None);
        assert_eq!(next(&turns), None);
    }

    #[tokio::test]
    async fn whoever_comes_back_later_does_so_once_and_at_once_if_woken_before() {
        let mut turns = Turns::default();
        for name in ["soon", "late", "never"] {
            turns.wake(key("ns", name), Standing::Known);
            assert_eq!(turns.next().await, Some(key("ns", name)));
        }
        turns.done(key("ns", "late"), Standing::Known, Some(Duration::from_hours(1)));
        turns.done(key("ns", "soon"), Standing::Known, Some(Duration::from_millis(10)));
        turns.done(key("ns", "never"), Standing::Known, Some(Duration::MAX));
        assert_eq!(turns.next().await, Some(key("ns", "soon")));
        turns.done(key("ns", "soon"), Standing::Known, None);
        turns.wake(key("ns", "late"), Standing::Known);
        assert_eq!((next(&turns).as_deref(), next(&turns)), (Some("ns/late"), None));
        let state = turns.lock();
        assert_eq!((state.later.len(), state.times.len()), (1, 1), "a wake takes the place of the time");
    }

    #[tokio::test]
    async fn an_answer_counts_wherever_its_object_stands() {
        let turns = Turns::default();
        for name in ["a", "b", "c"] {
            turns.wake(key("ns", name), Standing::New);
        }
        turns.wake(key("ns", "c"), Standing::Answered);
        turns.wake(key("ns", "c"), Standing::New);
        let order: Vec<_> = std::iter::from_fn(|| next(&turns)).collect();
        assert_eq!(order, ["ns/a", "ns/c", "ns/b"], "and it is looked at once");
        turns.wake(key("ns", "a"), Standing::Answered);
        turns.wake(key("ns", "a"), Standing::New);
        turns.wake(key("ns", "d"), Standing::New);
        turns.wake(key("ns", "e"), Standing::New);
        turns.done(key("ns", "a"), Standing::New, None);
        let order: Vec<_> = std::iter::from_fn(|| next(&turns)).collect();
        assert_eq!(order, ["ns/d", "ns/a", "ns/e"], "though it was woken once more after that");
    }

    #[tokio::test]
    async fn a_burst_leaves_no_room_behind() {
        let turns = Turns::default();
        let keys: Vec<Key> = (0..ROOM * 2).map(|n| key("ns", &n.to_string())).collect();
        for round in 0..2 {
            for key in &keys {
                turns.wake(key.clone(), Standing::New);
            }
            assert_eq!(std::iter::from_fn(|| next(&turns)).count(), keys.len(), "round {round}");
            for key in &keys {
                turns.done(key.clone(), Standing::New, Some(Duration::from_hours(1)));
            }
        }
        assert_eq!(turns.lock().later.len(), keys.len());
        for key in &keys {
            turns.wake(key.clone(), Standing::New);
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
        let wake = |turns: &Turns| turns.wake(key("ns", "a"), Standing::Known);
        let comes_back = |turns: &Turns| turns.done(key("ns", "a"), Standing::Known, Some(Duration::ZERO));
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
