//! The order in which due sources are asked: by urgency, and within one urgency in turn between namespaces.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use crate::model::Source;

/// Why a source is to be asked, most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Somebody applied or changed an object and waits.
    Change,
    /// A target was edited or deleted and has to be repaired.
    Drift,
    /// The operator started and wants to know whether all is still as it was.
    Verify,
    /// The interval is over.
    Routine,
}

/// Queues of sources. A source may stand in several; whoever takes it out checks whether it is still to be asked.
#[derive(Default)]
pub struct Lanes([Queue; 4]);

impl Lanes {
    pub fn push(&mut self, lane: Lane, namespace: &Arc<str>, source: Source) {
        self.queue(lane).push(namespace, source);
    }

    /// Puts back what could not be started, before everything else of its lane.
    pub fn push_front(&mut self, lane: Lane, namespace: &Arc<str>, source: Source) {
        self.queue(lane).push_front(namespace, source);
    }

    /// The next source of the given lane.
    pub fn pop(&mut self, lane: Lane) -> Option<(Arc<str>, Source)> {
        self.queue(lane).pop()
    }

    fn queue(&mut self, lane: Lane) -> &mut Queue {
        let [change, drift, verify, routine] = &mut self.0;
        match lane {
            Lane::Change => change,
            Lane::Drift => drift,
            Lane::Verify => verify,
            Lane::Routine => routine,
        }
    }
}

/// Sources by namespace, and the namespaces in turn. A namespace without a source is in neither.
#[derive(Default)]
struct Queue {
    turns: VecDeque<Arc<str>>,
    sources: HashMap<Arc<str>, VecDeque<Source>>,
}

impl Queue {
    fn push(&mut self, namespace: &Arc<str>, source: Source) {
        let waiting = self.sources.entry(namespace.clone()).or_default();
        if waiting.is_empty() {
            self.turns.push_back(namespace.clone());
        }
        waiting.push_back(source);
    }

    fn push_front(&mut self, namespace: &Arc<str>, source: Source) {
        let waiting = self.sources.entry(namespace.clone()).or_default();
        if !waiting.is_empty() {
            self.turns.retain(|turn| turn != namespace);
        }
        self.turns.push_front(namespace.clone());
        waiting.push_front(source);
    }

    fn pop(&mut self) -> Option<(Arc<str>, Source)> {
        let namespace = self.turns.pop_front()?;
        let waiting = self.sources.get_mut(&namespace)?;
        let source = waiting.pop_front()?;
        if waiting.is_empty() {
            self.sources.remove(&namespace);
        } else {
            self.turns.push_back(namespace.clone());
        }
        Some((namespace, source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str) -> Source {
        Source { path: path.parse().unwrap(), pin: None }
    }

    #[test]
    fn a_namespace_with_much_to_do_delays_nobody_else() {
        let (big, small): (Arc<str>, Arc<str>) = ("big".into(), "small".into());
        let mut lanes = Lanes::default();
        for n in 0..100 {
            lanes.push(Lane::Routine, &big, source(&format!("big/{n}")));
        }
        lanes.push(Lane::Routine, &small, source("small/0"));
        let first_two: Vec<_> = (0..2).filter_map(|_| lanes.pop(Lane::Routine)).map(|(ns, _)| ns).collect();
        assert_eq!(first_two, [big.clone(), small]);
        assert_eq!(std::iter::from_fn(|| lanes.pop(Lane::Routine)).count(), 99, "nothing is lost");
    }

    #[test]
    fn what_is_put_back_comes_first_again() {
        let ns: Arc<str> = "a".into();
        let mut lanes = Lanes::default();
        lanes.push(Lane::Change, &ns, source("1"));
        lanes.push(Lane::Change, &ns, source("2"));
        let (_, first) = lanes.pop(Lane::Change).unwrap();
        lanes.push_front(Lane::Change, &ns, first);
        let order: Vec<_> = std::iter::from_fn(|| lanes.pop(Lane::Change)).map(|(_, s)| s.to_string()).collect();
        assert_eq!(order, ["1", "2"]);
    }
}
