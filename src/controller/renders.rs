//! Who may render templates now: they take processor time, up to a second for those of one Secret where it hashes passwords.
//!
//! One object of a namespace at a time, and few in all, so that whoever makes many or heavy ones waits for himself, and there is room
//! for everybody else. Whoever gets no turn does not wait for one, but comes again: it would hold a place that others need.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rand::RngExt;

/// How many render at once: the processors that the chart asks for leave room beside them.
const MAX_AT_ONCE: usize = 2;

/// When to come again after so many turns that were missed: soon, since most take a millisecond, and later where many wait for long
/// ones.
pub(super) fn come_again(missed: u32) -> Duration {
    let doubled = Duration::from_millis(25).saturating_mul(1_u32.checked_shl(missed).unwrap_or(u32::MAX));
    doubled.min(Duration::from_secs(10)).mul_f64(rand::rng().random_range(0.5..1.5))
}

/// The namespaces in which something is being rendered.
#[derive(Default)]
pub(super) struct Renders(Mutex<HashSet<Arc<str>>>);

/// Leave to render, until it is dropped.
pub(super) struct Turn<'a> {
    renders: &'a Renders,
    namespace: Arc<str>,
}

impl Renders {
    pub fn turn(&self, namespace: &Arc<str>) -> Option<Turn<'_>> {
        let mut busy = self.lock();
        let free = busy.len() < MAX_AT_ONCE && busy.insert(namespace.clone());
        free.then(|| Turn { renders: self, namespace: namespace.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Arc<str>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.renders.lock().remove(&self.namespace);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_misses_many_turns_comes_later() {
        assert!(come_again(1) < Duration::from_millis(100));
        assert!((5..=15).contains(&come_again(u32::MAX).as_secs()));
    }

    #[test]
    fn a_namespace_has_one_turn_and_leaves_others_theirs() {
        let renders = Renders::default();
        let namespace = |name: &str| Arc::<str>::from(name);
        let one = renders.turn(&namespace("a"));
        assert!(one.is_some() && renders.turn(&namespace("a")).is_none());
        let two = renders.turn(&namespace("b"));
        assert!(two.is_some() && renders.turn(&namespace("c")).is_none());
        drop(one);
        assert!(renders.turn(&namespace("c")).is_some() && renders.turn(&namespace("a")).is_some());
    }
}
