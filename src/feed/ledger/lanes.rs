//! The order in which due sources are asked: in turn between namespaces, and within one namespace by urgency.
//!
//! Namespaces take turns twice: all of them for most of the rate, and those in which somebody waits for what is kept aside. So a
//! namespace with much to do delays its own routine and nobody else. It knows nothing of rates and places; whoever takes a source out
//! checks whether it is still to be asked.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use crate::model::Source;

/// Why a source is to be asked, most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Somebody applied or changed an object and waits. It is read when its turn to be written is near.
    Change,
    /// A target was edited or deleted and has to be repaired.
    Drift,
    /// OKMS has something else than what a target holds.
    News,
    /// The operator started, or somebody asked, and wants to know whether all is still as it was.
    Verify,
    /// The interval is over.
    Routine,
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Of the namespaces in which a change, a drift or news wait.
    Urgent,
    /// Of the namespaces in which a verification waits.
    Verify,
    /// Of all.
    Fair,
}

/// One fair turn of a namespace in so many goes to its lanes in turn, so that what is urgent there cannot hold up the rest for ever.
const LANE_EVERY: u32 = 4;

/// A queue may hold so many that were taken back or overtaken, beside as many as are waiting, before it is cleaned.
const LITTER: usize = 64;

/// Queues of sources, by namespace. A source may stand in those of several namespaces, and in each once for changes and once for all else:
/// where changes have to wait, what is asked of the same source for another reason does not.
#[derive(Default)]
pub struct Lanes {
    spaces: HashMap<Arc<str>, Space>,
    turns: [VecDeque<Arc<str>>; 3],
    pushed: u64,
}

/// What waits in one namespace.
#[derive(Default)]
struct Space {
    lanes: [Queue; 5],
    /// Where each source stands that waits, for changes and for all else: what a queue holds besides was taken back or overtaken.
    waiting: [HashMap<Source, Place>; 2],
    in_turn: [bool; 3],
    fair_turns: u32,
    queued: usize,
}

#[derive(Clone, Copy)]
struct Place {
    lane: Lane,
    ticket: u64,
}

/// What a source needs to be asked, apart from its turn. Each kind has a queue, so that what lacks something holds up nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    Check,
    /// A read may start; the memory for the value is set aside.
    Granted,
    /// That, and memory.
    Read,
}

/// What may be asked at the moment: checks always, of the lane of changes no other kinds unless it says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowed {
    pub changes: bool,
    pub granted: bool,
    pub reads: bool,
}

impl Allowed {
    pub fn has(self, lane: Lane, kind: Kind) -> bool {
        let in_turn = self.changes || lane != Lane::Change;
        match kind {
            Kind::Check => true,
            Kind::Granted => in_turn && self.granted,
            Kind::Read => in_turn && self.granted && self.reads,
        }
    }
}

const KINDS: [Kind; 3] = [Kind::Check, Kind::Granted, Kind::Read];
const ALL: Allowed = Allowed { changes: true, granted: true, reads: true };

/// One queue for each kind.
#[derive(Default)]
struct Queue([VecDeque<(u64, Source)>; 3]);

/// The next source of a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Next {
    pub lane: Lane,
    pub source: Source,
}

impl Lanes {
    /// Has a source asked on behalf of a namespace.
    pub fn push(&mut self, lane: Lane, namespace: &Arc<str>, source: &Source, kind: Kind) {
        self.pushed += 1;
        let ticket = self.pushed;
        let space = self.spaces.entry(namespace.clone()).or_default();
        if space.place(source, lane).is_some_and(|place| place.lane <= lane) {
            return;
        }
        space.put(Place { lane, ticket }, source, kind);
        let turns = match lane {
            Lane::Change | Lane::Drift | Lane::News => [Some(Turn::Urgent), Some(Turn::Fair)],
            Lane::Verify => [Some(Turn::Verify), Some(Turn::Fair)],
            Lane::Routine => [None, Some(Turn::Fair)],
        };
        for turn in turns.into_iter().flatten() {
            if let Some(in_turn) = space.in_turn.get_mut(turn as usize)
                && !std::mem::replace(in_turn, true)
                && let Some(turns) = self.turns.get_mut(turn as usize)
            {
                turns.push_back(namespace.clone());
            }
        }
    }

    /// How many namespaces there may be to take such a turn.
    pub fn turns(&self, turn: Turn) -> usize {
        self.turns.get(turn as usize).map_or(0, VecDeque::len)
    }

    /// The namespace whose turn it is, which is then the last to have another one.
    pub fn turn(&mut self, turn: Turn) -> Option<Arc<str>> {
        let turns = self.turns.get_mut(turn as usize)?;
        while let Some(namespace) = turns.pop_front() {
            let Some(space) = self.spaces.get_mut(&namespace) else { continue };
            if space.best(turn, ALL).is_some() {
                turns.push_back(namespace.clone());
                return Some(namespace);
            }
            if let Some(in_turn) = space.in_turn.get_mut(turn as usize) {
                *in_turn = false;
            }
            if space.waiting.iter().all(HashMap::is_empty) && !space.in_turn.contains(&true) {
                self.spaces.remove(&namespace);
            }
        }
        None
    }

    /// What a namespace is to ask in such a turn.
    pub fn next(&mut self, turn: Turn, namespace: &Arc<str>, allowed: Allowed) -> Option<Next> {
        let space = self.spaces.get_mut(namespace)?;
        let lane = match turn {
            Turn::Fair if space.fair_turns % LANE_EVERY == LANE_EVERY - 1 => space.next_lane(allowed),
            turn => space.best(turn, allowed),
        };
        let (lane, _, source) = lane?;
        Some(Next { lane, source })
    }

    /// A source needs something else in a lane than it was taken to need: it waits among those that do.
    pub fn move_to(&mut self, kind: Kind, namespace: &Arc<str>, source: &Source, lane: Lane) {
        self.pushed += 1;
        let ticket = self.pushed;
        if let Some(space) = self.spaces.get_mut(namespace)
            && let Some(place) = space.place(source, lane).copied()
        {
            space.put(Place { ticket, ..place }, source, kind);
        }
    }

    /// A namespace had its turn.
    pub fn had(&mut self, turn: Turn, namespace: &Arc<str>) {
        if let (Turn::Fair, Some(space)) = (turn, self.spaces.get_mut(namespace)) {
            space.fair_turns = space.fair_turns.wrapping_add(1);
        }
    }

    /// A source does not wait in a lane of a namespace any more.
    pub fn take_back(&mut self, namespace: &Arc<str>, source: &Source, lane: Lane) {
        if let Some(space) = self.spaces.get_mut(namespace)
            && space.waiting.get_mut(of(lane)).is_some_and(|waiting| waiting.remove(source).is_some())
        {
            space.clean();
        }
    }

    /// Nobody in a namespace reads a source any more.
    pub fn forget(&mut self, namespace: &Arc<str>, source: &Source) {
        for lane in PLACES {
            self.take_back(namespace, source, lane);
        }
    }

    /// Whether a source waits in a namespace as urgently as that.
    pub fn waits(&self, namespace: &Arc<str>, source: &Source, lane: Lane) -> bool {
        self.spaces.get(namespace).and_then(|space| space.place(source, lane)).is_some_and(|place| place.lane <= lane)
    }

    /// How much is held in memory: sources that wait, and what is queued.
    #[cfg(test)]
    pub fn size(&self) -> (usize, usize) {
        self.spaces.values().fold((0, 0), |(waiting, queued), space| (waiting + space.waits(), queued + space.queued))
    }
}

/// A lane for each of the two places of a source.
pub const PLACES: [Lane; 2] = [Lane::Change, Lane::Routine];

/// Which of the two places of a source a lane is for.
const fn of(lane: Lane) -> usize {
    matches!(lane, Lane::Change) as usize
}

impl Space {
    fn place(&self, source: &Source, lane: Lane) -> Option<&Place> {
        self.waiting.get(of(lane))?.get(source)
    }

    fn waits(&self) -> usize {
        self.waiting.iter().map(HashMap::len).sum()
    }

    fn put(&mut self, place: Place, source: &Source, kind: Kind) {
        if let Some(waiting) = self.waiting.get_mut(of(place.lane)) {
            waiting.insert(source.clone(), place);
        }
        let queue = self.lanes.get_mut(place.lane as usize).and_then(|queue| queue.0.get_mut(kind as usize));
        if let Some(queue) = queue {
            queue.push_back((place.ticket, source.clone()));
            self.queued += 1;
        }
        self.clean();
    }

    /// The front of a lane, after what does not wait there any more was thrown away.
    fn front(&mut self, lane: Lane, allowed: Allowed) -> Option<(Lane, u64, Source)> {
        let Self { lanes, waiting, queued, .. } = self;
        let (queue, waiting) = (lanes.get_mut(lane as usize)?, waiting.get(of(lane))?);
        let mut front = |items: &mut VecDeque<(u64, Source)>| {
            while let Some((ticket, source)) = items.front() {
                if waiting.get(source).is_some_and(|place| place.ticket == *ticket) {
                    return Some((lane, *ticket, source.clone()));
                }
                items.pop_front();
                *queued -= 1;
            }
            None
        };
        let kinds = KINDS.iter().zip(&mut queue.0).filter(|(kind, _)| allowed.has(lane, **kind));
        kinds.filter_map(|(_, items)| front(items)).min_by_key(|(_, ticket, _)| *ticket)
    }

    /// The most urgent of those that such a turn is for.
    fn best(&mut self, turn: Turn, allowed: Allowed) -> Option<(Lane, u64, Source)> {
        let lanes: &[Lane] = match turn {
            Turn::Urgent => &[Lane::Change, Lane::Drift, Lane::News],
            Turn::Verify => &[Lane::Verify],
            Turn::Fair => &[Lane::Change, Lane::Drift, Lane::News, Lane::Verify, Lane::Routine],
        };
        lanes.iter().find_map(|lane| self.front(*lane, allowed))
    }

    /// The lanes in turn, the least urgent first; one in which nothing waits passes its turn on.
    fn next_lane(&mut self, allowed: Allowed) -> Option<(Lane, u64, Source)> {
        let mut lanes = [Lane::Routine, Lane::Verify, Lane::News, Lane::Drift, Lane::Change];
        let turn = usize::try_from(self.fair_turns / LANE_EVERY).unwrap_or(0) % lanes.len();
        lanes.rotate_left(turn);
        lanes.into_iter().find_map(|lane| self.front(lane, allowed))
    }

    /// Throws away what does not wait any more, once that is most of what is queued.
    fn clean(&mut self) {
        if self.queued <= 2 * self.waits() + LITTER {
            return;
        }
        let Self { lanes, waiting, queued, .. } = self;
        *queued = 0;
        for items in lanes.iter_mut().flat_map(|queue| &mut queue.0) {
            items.retain(|(ticket, source)| {
                waiting.iter().filter_map(|waiting| waiting.get(source)).any(|place| place.ticket == *ticket)
            });
            *queued += items.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str) -> Source {
        Source { path: path.parse().unwrap(), pin: None }
    }

    fn take(lanes: &mut Lanes, turn: Turn) -> Option<(String, String)> {
        let namespace = lanes.turn(turn)?;
        let next = lanes.next(turn, &namespace, ALL)?;
        lanes.take_back(&namespace, &next.source, next.lane);
        lanes.had(turn, &namespace);
        Some((namespace.to_string(), next.source.to_string()))
    }

    #[test]
    fn a_namespace_with_much_to_do_delays_nobody_else() {
        let (big, small): (Arc<str>, Arc<str>) = ("big".into(), "small".into());
        for (lane, turn) in [(Lane::Routine, Turn::Fair), (Lane::Change, Turn::Fair), (Lane::Change, Turn::Urgent)] {
            let mut lanes = Lanes::default();
            for n in 0..100 {
                lanes.push(lane, &big, &source(&format!("big/{n}")), Kind::Check);
            }
            lanes.push(lane, &small, &source("small/0"), Kind::Check);
            let first_two: Vec<_> = (0..2).filter_map(|_| take(&mut lanes, turn)).map(|(ns, _)| ns).collect();
            assert_eq!(first_two, ["big", "small"]);
            assert_eq!(std::iter::from_fn(|| take(&mut lanes, turn)).count(), 99, "nothing is lost");
        }
    }

    #[test]
    fn what_is_urgent_in_one_namespace_does_not_come_before_the_routine_of_another() {
        let (busy, calm): (Arc<str>, Arc<str>) = ("busy".into(), "calm".into());
        let mut lanes = Lanes::default();
        for n in 0..100 {
            lanes.push(Lane::Change, &busy, &source(&format!("busy/{n}")), Kind::Check);
            lanes.push(Lane::Routine, &calm, &source(&format!("calm/{n}")), Kind::Check);
        }
        let turns: Vec<_> = (0..100).filter_map(|_| take(&mut lanes, Turn::Fair)).collect();
        assert_eq!(turns.iter().filter(|(ns, _)| ns == "calm").count(), 50);
    }

    #[test]
    fn within_a_namespace_the_urgent_comes_first_and_the_rest_is_not_forgotten() {
        let ns: Arc<str> = "a".into();
        let mut lanes = Lanes::default();
        lanes.push(Lane::Routine, &ns, &source("routine"), Kind::Check);
        lanes.push(Lane::Drift, &ns, &source("drift"), Kind::Check);
        for n in 0..8 {
            lanes.push(Lane::Change, &ns, &source(&format!("change/{n}")), Kind::Check);
        }
        let order: Vec<_> = std::iter::from_fn(|| take(&mut lanes, Turn::Fair)).map(|(_, path)| path).collect();
        assert_eq!(order.get(..4).unwrap(), ["change/0", "change/1", "change/2", "routine"]);
        assert_eq!(order.iter().position(|path| path == "drift"), Some(7));
    }

    #[test]
    fn a_source_that_is_wanted_more_urgently_is_asked_once() {
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let mut lanes = Lanes::default();
        lanes.push(Lane::Routine, &a, &source("shared"), Kind::Check);
        lanes.push(Lane::Change, &b, &source("shared"), Kind::Check);
        lanes.push(Lane::Change, &a, &source("shared"), Kind::Check);
        lanes.push(Lane::Routine, &a, &source("shared"), Kind::Check);
        let turns = std::iter::from_fn(|| take(&mut lanes, Turn::Fair)).count();
        assert_eq!(turns, 3, "once for each namespace, and in one also for what is not held up with changes");
        lanes.push(Lane::Routine, &a, &source("shared"), Kind::Check);
        lanes.push(Lane::Drift, &a, &source("shared"), Kind::Check);
        assert_eq!(std::iter::from_fn(|| take(&mut lanes, Turn::Fair)).count(), 1);
    }

    #[test]
    fn what_waits_with_changes_does_not_wait_with_them_for_another_reason() {
        let ns: Arc<str> = "a".into();
        let closed = Allowed { changes: false, ..ALL };
        let mut lanes = Lanes::default();
        let lane = |lanes: &mut Lanes, turn, allowed| lanes.next(turn, &ns, allowed).map(|next| next.lane);
        lanes.push(Lane::Routine, &ns, &source("shared"), Kind::Check);
        lanes.push(Lane::Change, &ns, &source("shared"), Kind::Granted);
        assert_eq!(lane(&mut lanes, Turn::Fair, closed), Some(Lane::Routine));
        lanes.take_back(&ns, &source("shared"), Lane::Routine);
        assert_eq!(lane(&mut lanes, Turn::Fair, closed), None);
        lanes.push(Lane::Drift, &ns, &source("shared"), Kind::Granted);
        assert_eq!(lane(&mut lanes, Turn::Urgent, closed), Some(Lane::Drift));
        assert_eq!(lane(&mut lanes, Turn::Urgent, ALL), Some(Lane::Change));
        lanes.push(Lane::Change, &ns, &source("another"), Kind::Check);
        assert_eq!(lane(&mut lanes, Turn::Urgent, closed), Some(Lane::Change), "checks are not held up");
        for path in ["shared", "another"] {
            lanes.forget(&ns, &source(path));
        }
        assert_eq!(lanes.next(Turn::Fair, &ns, ALL), None);
    }

    #[test]
    fn what_lacks_something_holds_up_nothing_else() {
        let ns: Arc<str> = "a".into();
        let mut lanes = Lanes::default();
        for (path, kind) in [("1", Kind::Check), ("2", Kind::Read), ("3", Kind::Granted), ("4", Kind::Check)] {
            lanes.push(Lane::Change, &ns, &source(path), kind);
        }
        let next = |lanes: &mut Lanes, granted, reads| {
            lanes.next(Turn::Fair, &ns, Allowed { changes: true, granted, reads }).map(|next| next.source.to_string())
        };
        assert_eq!(next(&mut lanes, true, true).as_deref(), Some("1"));
        lanes.move_to(Kind::Read, &ns, &source("1"), Lane::Change);
        assert_eq!(next(&mut lanes, true, true).as_deref(), Some("2"));
        assert_eq!(next(&mut lanes, true, false).as_deref(), Some("3"));
        assert_eq!(next(&mut lanes, false, true).as_deref(), Some("4"));
        let order: Vec<_> = std::iter::from_fn(|| take(&mut lanes, Turn::Fair)).map(|(_, path)| path).collect();
        assert_eq!(order, ["2", "3", "4", "1"]);
    }

    #[test]
    fn what_was_taken_back_does_not_pile_up() {
        let ns: Arc<str> = "a".into();
        let mut lanes = Lanes::default();
        for n in 0..100_000 {
            lanes.push(Lane::Change, &ns, &source(&format!("{n}")), Kind::Check);
            lanes.take_back(&ns, &source(&format!("{n}")), Lane::Change);
        }
        let (waiting, queued) = lanes.size();
        assert!(waiting == 0 && queued <= LITTER, "{queued} are queued");
        assert_eq!((take(&mut lanes, Turn::Fair), take(&mut lanes, Turn::Urgent)), (None, None));
        assert!(lanes.spaces.is_empty());
    }
}
