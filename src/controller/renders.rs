//! Who may render templates now: they take processor time, up to a second for those of one Secret where it hashes passwords.
//!
//! One object of a namespace at a time, and few in all, so that whoever makes many or heavy ones waits for himself, and there is room
//! for everybody else. Whoever gets no turn stands in the line of its namespace and is woken when it has one; the lines take turns. It
//! does not wait in a reconcile, which would hold a place that others need.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::context::Context;
use crate::feed::ObjectId;

/// How many render at once: the processors that the chart asks for leave room beside them.
const MAX_AT_ONCE: usize = 2;

/// How long a place is kept for whoever is called. One that is gone, or has nothing to render any more, does not come.
const KEPT_FOR: Duration = Duration::from_secs(10);

/// When to come again though nobody calls.
pub(super) const COME_AGAIN: Duration = Duration::from_mins(1);

/// Who renders, is called, or waits.
#[derive(Default)]
pub(super) struct Renders(Mutex<State>);

#[derive(Default)]
struct State {
    /// The namespaces in which something is being rendered.
    busy: HashSet<Arc<str>>,
    /// By namespace, who was called, and when.
    called: HashMap<Arc<str>, (ObjectId, Instant)>,
    /// By namespace, who waits.
    lines: HashMap<Arc<str>, VecDeque<ObjectId>>,
    /// The namespaces in which somebody waits, in the order of their turns.
    turns: VecDeque<Arc<str>>,
    waiting: HashSet<ObjectId>,
}

/// Leave to render, until it is dropped; then the next is called.
pub(super) struct Turn<'a> {
    context: &'a Context,
    namespace: Arc<str>,
}

impl Renders {
    /// A turn for an object, or a place in the line.
    pub fn turn<'a>(&self, context: &'a Context, id: &ObjectId) -> Option<Turn<'a>> {
        let has_turn = self.lock().has_turn(id, Instant::now());
        has_turn.then(|| Turn { context, namespace: id.namespace.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let called = self.context.renders.lock().ended(&self.namespace, Instant::now());
        for id in called {
            self.context.wake(&id.namespace, &id.name);
        }
    }
}

impl State {
    fn has_turn(&mut self, id: &ObjectId, now: Instant) -> bool {
        self.called.retain(|_, (_, at)| now.saturating_duration_since(*at) < KEPT_FOR);
        let namespace = &id.namespace;
        if self.called.get(namespace).is_some_and(|(called, _)| called == id) {
            self.called.remove(namespace);
            return self.busy.insert(namespace.clone());
        }
        // Nobody who could have the place has waited for longer: those of its own namespace, and others whose turn it is.
        let first = self.lines.get(namespace).is_none_or(|line| line.front() == Some(id));
        if first && self.has_place(namespace) && self.next_namespace().is_none_or(|next| next == *namespace) {
            self.leave(namespace);
            return self.busy.insert(namespace.clone());
        }
        if self.waiting.insert(id.clone()) {
            let line = self.lines.entry(namespace.clone()).or_default();
            if line.is_empty() {
                self.turns.push_back(namespace.clone());
            }
            line.push_back(id.clone());
        }
        false
    }

    /// Something was rendered in a namespace; answers whom to call.
    fn ended(&mut self, namespace: &Arc<str>, now: Instant) -> Vec<ObjectId> {
        self.busy.remove(namespace);
        let mut called = Vec::new();
        while let Some(next) = self.next_namespace() {
            let Some(id) = self.leave(&next) else { break };
            self.called.insert(next, (id.clone(), now));
            called.push(id);
        }
        called
    }

    /// The namespace whose turn it is, if there is a place.
    fn next_namespace(&self) -> Option<Arc<str>> {
        self.turns.iter().find(|namespace| self.has_place(namespace)).cloned()
    }

    fn has_place(&self, namespace: &Arc<str>) -> bool {
        self.busy.len() + self.called.len() < MAX_AT_ONCE
            && !self.busy.contains(namespace)
            && !self.called.contains_key(namespace)
    }

    /// Takes the first of a namespace out of its line.
    fn leave(&mut self, namespace: &Arc<str>) -> Option<ObjectId> {
        let line = self.lines.get_mut(namespace)?;
        let id = line.pop_front()?;
        let is_empty = line.is_empty();
        self.waiting.remove(&id);
        self.turns.retain(|other| other != namespace);
        if is_empty {
            self.lines.remove(namespace);
        } else {
            self.turns.push_back(namespace.clone());
        }
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(namespace: &str, name: &str) -> ObjectId {
        ObjectId { uid: format!("{namespace}/{name}").into(), namespace: namespace.into(), name: name.into() }
    }

    fn names(called: &[ObjectId]) -> Vec<&str> {
        called.iter().map(|id| &*id.uid).collect()
    }

    #[test]
    fn a_namespace_has_one_turn_and_the_lines_take_theirs() {
        let (mut state, now) = (State::default(), Instant::now());
        assert!(state.has_turn(&id("a", "1"), now) && state.has_turn(&id("b", "1"), now));
        // Two crowds, and one who comes last.
        for n in 2..100 {
            assert!(!state.has_turn(&id("a", &n.to_string()), now) && !state.has_turn(&id("b", &n.to_string()), now));
        }
        assert!(!state.has_turn(&id("c", "1"), now));
        assert!(!state.has_turn(&id("a", "2"), now), "nor does it wait twice");
        assert_eq!(names(&state.ended(&"a".into(), now)), ["a/2"]);
        assert!(!state.has_turn(&id("d", "1"), now), "the place is kept");
        assert!(state.has_turn(&id("a", "2"), now));
        assert_eq!(names(&state.ended(&"b".into(), now)), ["b/2"]);
        assert!(state.has_turn(&id("b", "2"), now));
        assert_eq!(names(&state.ended(&"a".into(), now)), ["c/1"], "before a hundred of those who had turns");
        assert!(state.has_turn(&id("c", "1"), now));
        assert_eq!(names(&state.ended(&"b".into(), now)), ["a/3"]);
        assert!(state.has_turn(&id("a", "3"), now));
        assert_eq!(names(&state.ended(&"c".into(), now)), ["d/1"]);
    }

    #[test]
    fn whoever_is_called_and_does_not_come_holds_nobody_up() {
        let (mut state, now) = (State::default(), Instant::now());
        for namespace in ["a", "b"] {
            assert!(state.has_turn(&id(namespace, "1"), now));
        }
        assert!(!state.has_turn(&id("c", "gone"), now) && !state.has_turn(&id("d", "1"), now));
        assert_eq!(names(&state.ended(&"a".into(), now)), ["c/gone"]);
        assert!(!state.has_turn(&id("d", "1"), now));
        let later = now + KEPT_FOR;
        assert!(state.has_turn(&id("d", "1"), later), "it comes again");
        assert!(state.ended(&"d".into(), later).is_empty() && state.ended(&"b".into(), later).is_empty());
        assert!(state.busy.is_empty() && state.lines.is_empty() && state.turns.is_empty() && state.waiting.is_empty());
    }
}
