//! Who may render templates now: they take processor time, up to a second for those of one Secret where it hashes passwords.
//!
//! One object of a namespace at a time, and few in all, so that whoever makes many or heavy ones waits for himself, and there is room
//! for everybody else. Whoever gets no turn does not wait for one, but comes again: it would hold a place that others need. At first
//! it comes soon; later, those who wait in one namespace come as often together as those of any other, so that a crowd takes no place
//! from who waits alone.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rand::RngExt;

/// How many render at once: the processors that the chart asks for leave room beside them.
const MAX_AT_ONCE: usize = 2;

/// When to come again after the first turn that was missed, and twice as late after each further one: most take a millisecond …
const FIRST: Duration = Duration::from_millis(50);

/// … but where many wait, so long after another for each place.
const APART: Duration = Duration::from_millis(50);

/// How long one object stays away at most.
const LONGEST: Duration = Duration::from_mins(1);

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
    missed: u32,
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
        Waiting { renders: self.clone(), namespace: namespace.clone(), missed: 0 }
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
    pub fn come_again(&mut self) -> Duration {
        let doubled = FIRST.saturating_mul(1_u32.checked_shl(self.missed).unwrap_or(u32::MAX));
        self.missed = self.missed.saturating_add(1);
        doubled.min(self.fair()).min(LONGEST).mul_f64(rand::rng().random_range(0.5..1.5))
    }

    /// How seldom one of so many comes, if each namespace has its part of the places.
    fn fair(&self) -> Duration {
        let spaces = self.renders.lock();
        let here = spaces.get(&self.namespace).map_or(1, |space| space.waiting);
        let crowds = spaces.values().filter(|space| space.waiting > 0).count().div_ceil(MAX_AT_ONCE);
        APART.saturating_mul(here).saturating_mul(u32::try_from(crowds).unwrap_or(u32::MAX))
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

    /// When it comes again after many turns that were missed, in milliseconds.
    fn at_last(waiting: &mut Waiting) -> u128 {
        waiting.missed = 40;
        waiting.come_again().as_millis()
    }

    #[test]
    fn a_crowd_comes_as_often_as_one_who_waits_alone() {
        let renders = Renders::default();
        let mut crowd: Vec<_> = (0..100).map(|_| renders.wait(&namespace("a"))).collect();
        let mut alone = renders.wait(&namespace("b"));
        assert!((25..=75).contains(&crowd[0].come_again().as_millis()), "soon at first");
        assert!((25..=75).contains(&at_last(&mut alone)));
        assert!((2500..=7500).contains(&at_last(&mut crowd[0])));
        drop(crowd);
        let mut left = renders.wait(&namespace("a"));
        assert!(at_last(&mut left) <= 75, "who has gone does not count");
        drop((alone, left));
        assert!(renders.lock().is_empty());
    }

    #[test]
    fn many_crowds_come_no_more_often_than_few() {
        let renders = Renders::default();
        let mut each: Vec<_> = (0..50).map(|n| renders.wait(&namespace(&n.to_string()))).collect();
        assert!((625..=1875).contains(&at_last(&mut each[0])), "50 in 1.25 s on average");
    }

    #[test]
    fn nobody_stays_away_for_long() {
        let renders = Renders::default();
        let mut crowd: Vec<_> = (0..5000).map(|_| renders.wait(&namespace("a"))).collect();
        assert!(at_last(&mut crowd[0]) <= (LONGEST * 3 / 2).as_millis());
    }
}
