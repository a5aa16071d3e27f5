//! Who may render templates now: they take processor time, up to a second for those of one Secret where it hashes passwords.
//!
//! One object of a namespace at a time, and few in all, so that whoever makes many or heavy ones waits for himself, and there is room
//! for everybody else. Whoever gets no turn does not wait for one, but comes again: it would hold a place that others need. Those who
//! wait in one namespace come as often together as those of any other, so that a crowd takes no place from who waits alone.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rand::RngExt;

/// How many render at once: the processors that the chart asks for leave room beside them.
const MAX_AT_ONCE: usize = 2;

/// How often somebody of a namespace comes again: soon, since most renderings take a millisecond.
const COME_AGAIN: Duration = Duration::from_millis(50);

/// How long one object stays away at most.
const LONGEST: Duration = Duration::from_secs(10);

/// The namespaces in which something is being rendered, or somebody waits for a turn. A clone is the same.
#[derive(Clone, Default)]
pub(super) struct Renders(Arc<Mutex<HashMap<Arc<str>, Space>>>);

#[derive(Default, PartialEq)]
struct Space {
    busy: bool,
    waiting: u32,
}

/// Leave to render, until it is dropped.
pub(super) struct Turn {
    renders: Renders,
    namespace: Arc<str>,
}

/// Somebody waits for a turn, until it is dropped.
pub(super) struct Waiting {
    renders: Renders,
    namespace: Arc<str>,
}

impl Renders {
    pub fn turn(&self, namespace: &Arc<str>) -> Option<Turn> {
        let mut spaces = self.lock();
        if spaces.values().filter(|space| space.busy).count() >= MAX_AT_ONCE {
            return None;
        }
        let space = spaces.entry(namespace.clone()).or_default();
        let free = !std::mem::replace(&mut space.busy, true);
        free.then(|| Turn { renders: self.clone(), namespace: namespace.clone() })
    }

    pub fn wait(&self, namespace: &Arc<str>) -> Waiting {
        self.lock().entry(namespace.clone()).or_default().waiting += 1;
        Waiting { renders: self.clone(), namespace: namespace.clone() }
    }

    fn change(&self, namespace: &Arc<str>, change: impl FnOnce(&mut Space)) {
        let mut spaces = self.lock();
        let Some(space) = spaces.get_mut(namespace) else { return };
        change(space);
        if *space == Space::default() {
            spaces.remove(namespace);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Space>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// When to come again.
    pub fn come_again(&self) -> Duration {
        let waiting = self.renders.lock().get(&self.namespace).map_or(1, |space| space.waiting);
        COME_AGAIN.saturating_mul(waiting).min(LONGEST).mul_f64(rand::rng().random_range(0.5..1.5))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.renders.change(&self.namespace, |space| space.busy = false);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.renders.change(&self.namespace, |space| space.waiting -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(name: &str) -> Arc<str> {
        name.into()
    }

    #[test]
    fn a_namespace_has_one_turn_and_leaves_others_theirs() {
        let renders = Renders::default();
        let one = renders.turn(&namespace("a"));
        assert!(one.is_some() && renders.turn(&namespace("a")).is_none());
        let two = renders.turn(&namespace("b"));
        assert!(two.is_some() && renders.turn(&namespace("c")).is_none());
        drop(one);
        let three = renders.turn(&namespace("c"));
        assert!(three.is_some() && renders.turn(&namespace("a")).is_none());
        drop((two, three));
        assert!(renders.lock().is_empty());
    }

    #[test]
    fn a_crowd_comes_as_often_as_one_who_waits_alone() {
        let renders = Renders::default();
        let crowd: Vec<_> = (0..100).map(|_| renders.wait(&namespace("a"))).collect();
        let alone = renders.wait(&namespace("b"));
        assert!((25..=75).contains(&alone.come_again().as_millis()));
        assert!((2500..=7500).contains(&crowd[0].come_again().as_millis()));
        drop(crowd);
        let left = renders.wait(&namespace("a"));
        assert!(left.come_again() <= Duration::from_millis(75), "who has gone does not count");
        drop((alone, left));
        assert!(renders.lock().is_empty());
    }

    #[test]
    fn nobody_stays_away_for_long() {
        let renders = Renders::default();
        let crowd: Vec<_> = (0..1000).map(|_| renders.wait(&namespace("a"))).collect();
        assert!(crowd[0].come_again() <= LONGEST * 3 / 2);
    }
}
