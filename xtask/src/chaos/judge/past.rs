//! What the judge asks of a history: what an object was at some time, and how long ago something may count as just now.

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;

use super::{
    calm::{Calm, Recovery, seen_late},
    okms::Truth,
    wanted::Wanted,
};
use crate::chaos::{
    action::Key,
    history::{Change, History, Kind, Trouble, text},
};

/// How long a decision may be made by what an object was, while the operator can work: a watch brings it within moments, and what was
/// begun by then is finished.
const SEEN: Duration = Duration::from_secs(10);

/// How old a reading may be that a write is made of, where OKMS answers.
const READ: Duration = Duration::from_secs(15);

/// The same where one of several sources did not answer: a value is dropped after a minute at the latest.
const READ_IN_TROUBLE: Duration = Duration::from_secs(65);

/// How long the operator may need until it works again as before.
const WORKING: [Recovery; 2] = [
    Recovery { from: Trouble::Operator, first: Duration::from_secs(6), in_term: false, spans_pauses: false },
    Recovery { from: Trouble::Kubernetes, first: Duration::from_secs(8), in_term: false, spans_pauses: false },
];

/// What needs a person is asked again after half a minute, and then after twice as long.
pub(super) const SLOW: Duration = Duration::from_secs(40);

/// The same until it can read.
const READING: [Recovery; 5] = [
    WORKING[0],
    WORKING[1],
    Recovery { from: Trouble::Okms, first: Duration::from_secs(8), in_term: true, spans_pauses: false },
    Recovery { from: Trouble::Lag, first: Duration::from_secs(8), in_term: true, spans_pauses: false },
    Recovery { from: Trouble::Grants, first: SLOW, in_term: true, spans_pauses: true },
];

/// A history, prepared for questions.
pub(super) struct Past<'h> {
    pub(super) history: &'h History,
    pub(super) order: Vec<&'h Change>,
    pub(super) truth: Truth,
    /// Without trouble of the operator or of Kubernetes.
    pub(super) working: Calm,
    changes: HashMap<(Kind, &'h Key), Vec<&'h Change>>,
}

impl<'h> Past<'h> {
    pub(super) fn new(history: &'h History) -> Self {
        let order = history.in_order();
        let mut changes: HashMap<_, Vec<_>> = HashMap::new();
        for change in &order {
            changes.entry((change.kind, &change.key)).or_default().push(*change);
        }
        let working = Calm::of(history, &WORKING, |_| true);
        Self { history, order, truth: Truth::new(history), working, changes }
    }

    /// Without any trouble that may keep one of these paths from being read, or anything else from being done.
    pub(super) fn untroubled(&self, paths: &[&str]) -> Calm {
        Calm::of(self.history, &READING, |troubled| troubled.concerns(paths))
    }

    /// From when on what was so may have been seen at a moment.
    pub(super) fn seen_since(&self, at: Timestamp) -> Timestamp {
        self.working.before(at, SEEN)
    }

    /// From when on a reading may be that a write at a moment is made of, for who asks for this.
    pub(super) fn read_since(&self, wanted: &Wanted, at: Timestamp) -> Timestamp {
        let soon = self.working.before(at, READ);
        let troubled = self.untroubled(&wanted.paths()).between(soon, at) < super::calm::between(soon, at);
        if troubled { self.working.before(at, READ_IN_TROUBLE) } else { soon }
    }

    /// What an object was between two moments; nothing where it did not exist.
    pub(super) fn between(&self, kind: Kind, key: &Key, from: Timestamp, to: Timestamp) -> Vec<&'h Change> {
        let changes = self.changes.get(&(kind, key)).map_or([].as_slice(), Vec::as_slice);
        let until = |index: usize| changes.get(index + 1).map_or(Timestamp::MAX, |next| next.at);
        let within = changes.iter().enumerate();
        within.filter(|(index, change)| change.at <= to && until(*index) >= from).map(|(_, change)| *change).collect()
    }

    /// What an `OkmsSecret` of this name asked for between two moments, the newest first.
    pub(super) fn specs(&self, key: &Key, from: Timestamp, to: Timestamp) -> Vec<Wanted> {
        let mut specs: Vec<Wanted> = Vec::new();
        for change in self.between(Kind::OkmsSecret, key, from, to) {
            let Some(object) = change.object.as_deref() else { continue };
            let wanted = Wanted::of(object);
            // A status alone changed.
            if specs.last().is_none_or(|last| last.uid != wanted.uid || last.generation != wanted.generation) {
                specs.push(wanted);
            }
        }
        specs.reverse();
        specs
    }

    /// The store of an object, as it was between two moments.
    pub(super) fn stores(
        &self,
        wanted: &Wanted,
        from: Timestamp,
        to: Timestamp,
    ) -> impl Iterator<Item = &'h serde_json::Value> + use<'h> {
        let (kind, key) = store_of(wanted);
        self.between(kind, &key, from, to).into_iter().filter_map(|change| change.object.as_deref())
    }

    /// How long what a source means had not been found before a moment, as far as the operator that led then could know.
    pub(super) fn missing_before(&self, path: &str, pin: Option<u32>, until: Timestamp) -> Duration {
        let led = self.history.terms.iter().map(|term| seen_late(*term)).filter(|term| *term <= until).max();
        let since = self.truth.missing_since(path, pin, until).max(led.unwrap_or(self.history.begun));
        super::calm::between(since, until)
    }

    /// Whether the object is checked only when somebody asks for it.
    pub(super) fn is_never_checked(&self, wanted: &Wanted, at: Timestamp) -> bool {
        match &wanted.interval {
            Some(interval) => interval == "0s",
            None => self.stores(wanted, at, at).any(|store| text(store, "/spec/refreshInterval") == "0s"),
        }
    }
}

/// Where the store of an object is found.
pub(super) fn store_of(wanted: &Wanted) -> (Kind, Key) {
    let (kind, name) = &wanted.store;
    let kind = Kind::by_name(kind).unwrap_or(Kind::ClusterOkmsStore);
    let namespace = if kind == Kind::OkmsStore { wanted.object.namespace.clone() } else { String::new() };
    (kind, Key { namespace, name: name.clone() })
}

pub(super) fn namespace_key(namespace: &str) -> Key {
    Key { namespace: String::new(), name: namespace.to_owned() }
}
