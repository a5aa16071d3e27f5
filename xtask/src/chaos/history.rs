//! What happened on both sides, as the harness knows it by itself: what it did to OKMS, and what the API server told of every Secret,
//! `OkmsSecret`, store and namespace. Nothing in it comes from the operator. It records, and judges nothing.
//!
//! Two clocks are in it. The resourceVersion orders all changes of the cluster, of whatever kind, exactly; the time says when the
//! harness saw them, or between which moments it made a change of OKMS.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use serde_json::Value;

use super::action::{Key, VersionState};

/// The kinds of object that are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Secret,
    OkmsSecret,
    ClusterOkmsStore,
    OkmsStore,
    Namespace,
}

impl Kind {
    pub(super) const ALL: [Self; 5] =
        [Self::Secret, Self::OkmsSecret, Self::ClusterOkmsStore, Self::OkmsStore, Self::Namespace];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Secret => "Secret",
            Self::OkmsSecret => "OkmsSecret",
            Self::ClusterOkmsStore => "ClusterOkmsStore",
            Self::OkmsStore => "OkmsStore",
            Self::Namespace => "Namespace",
        }
    }

    pub(super) fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// One change of an object, as the API server told it.
#[derive(Clone, Debug)]
pub(super) struct Change {
    /// The resourceVersion: a place in the order of everything that ever changed in the cluster.
    pub(super) version: u64,
    pub(super) at: Timestamp,
    pub(super) kind: Kind,
    pub(super) key: Key,
    pub(super) uid: String,
    /// What it is now; nothing once it is deleted.
    pub(super) object: Option<Arc<Value>>,
}

/// One change of OKMS. It happened between the two times.
#[derive(Clone, Debug)]
pub(super) struct OkmsChange {
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
    pub(super) path: String,
    pub(super) what: What,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    Put { version: u32, data: Arc<Value> },
    State { version: u32, state: VersionState },
    Delete,
}

/// Something that keeps the operator from doing its work in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trouble {
    /// No operator runs, or the one that leads is paused.
    Operator,
    /// OKMS, or the way there, has a fault, after which it is asked again before long.
    Okms,
    /// OKMS refuses what is asked, as if it were not granted.
    Grants,
    /// OKMS shows secrets without their newest version, as a replica that lags does.
    Lag,
    /// The API server, or the way there, has a fault.
    Kubernetes,
}

#[derive(Clone, Debug)]
pub(super) struct Troubled {
    pub(super) trouble: Trouble,
    /// The paths it is about, or folders with a star; absent: everything.
    pub(super) paths: Option<Vec<String>>,
    pub(super) from: Timestamp,
    /// Absent while it lasts.
    pub(super) to: Option<Timestamp>,
}

/// Some trouble by its place in the history.
#[derive(Clone, Copy, Debug)]
pub(super) struct TroubleId(usize);

impl Troubled {
    /// Whether it may keep one of these paths from being read.
    pub(super) fn concerns(&self, paths: &[&str]) -> bool {
        let meets = |pattern: &String, path: &&str| match pattern.strip_suffix('*') {
            Some(folder) => path.starts_with(folder),
            None => pattern == path,
        };
        self.paths.as_ref().is_none_or(|mine| mine.iter().any(|pattern| paths.iter().any(|path| meets(pattern, path))))
    }
}

/// Everything that was recorded.
#[derive(Clone, Debug)]
pub(super) struct History {
    pub(super) begun: Timestamp,
    /// Until when everything was watched; absent: until the last change.
    pub(super) ended: Option<Timestamp>,
    /// The domain that all stores read from.
    pub(super) okms_id: String,
    pub(super) okms: Vec<OkmsChange>,
    pub(super) cluster: Vec<Change>,
    /// The resourceVersions that the harness's own writes made.
    pub(super) own_writes: HashSet<u64>,
    /// The uids of what the harness deleted itself.
    pub(super) own_deletions: HashSet<String>,
    pub(super) troubles: Vec<Troubled>,
    /// When an operator began to lead, as far as it said so at all times.
    pub(super) starts: Vec<Timestamp>,
    /// When a process led for the first time, and knew nothing of what those before it waited for.
    pub(super) terms: Vec<Timestamp>,
}

impl History {
    pub(super) fn new(okms_id: String) -> Self {
        Self {
            begun: Timestamp::now(),
            ended: None,
            okms_id,
            okms: Vec::new(),
            cluster: Vec::new(),
            own_writes: HashSet::new(),
            own_deletions: HashSet::new(),
            troubles: Vec::new(),
            starts: Vec::new(),
            terms: Vec::new(),
        }
    }

    pub(super) fn trouble_begins(&mut self, trouble: Trouble) -> TroubleId {
        self.trouble_begins_of(trouble, None)
    }

    /// The same about these paths alone.
    pub(super) fn trouble_begins_of(&mut self, trouble: Trouble, paths: Option<Vec<String>>) -> TroubleId {
        self.troubles.push(Troubled { trouble, paths, from: Timestamp::now(), to: None });
        TroubleId(self.troubles.len() - 1)
    }

    pub(super) fn trouble_ends(&mut self, id: TroubleId) {
        if let Some(troubled) = self.troubles.get_mut(id.0) {
            troubled.to = Some(Timestamp::now());
        }
    }

    /// Whether there was such trouble since then.
    pub(super) fn was_troubled(&self, trouble: Trouble, since: Timestamp) -> bool {
        let mut troubles = self.troubles.iter().filter(|troubled| troubled.trouble == trouble);
        troubles.any(|troubled| troubled.to.is_none_or(|to| to >= since))
    }

    /// A watch tells of a change. Where another one told of a later change before, this one had happened by then.
    pub(super) fn saw(&mut self, mut change: Change) {
        let later = self.cluster.iter().filter(|other| other.version > change.version);
        change.at = later.map(|other| other.at).min().map_or(change.at, |at| at.min(change.at));
        self.cluster.push(change);
    }

    /// The changes of the cluster in their order.
    pub(super) fn in_order(&self) -> Vec<&Change> {
        let mut changes: Vec<_> = self.cluster.iter().collect();
        changes.sort_by_key(|change| change.version);
        changes
    }

    /// Whether the harness made this change itself.
    pub(super) fn is_own(&self, change: &Change) -> bool {
        match change.object {
            Some(_) => self.own_writes.contains(&change.version),
            None => self.own_deletions.contains(&change.uid),
        }
    }

    /// Every object as it is after the last change.
    pub(super) fn present(&self) -> Present<'_> {
        let mut present = Present::default();
        for change in self.in_order() {
            present.take(change);
        }
        present
    }

    /// A time as the log and the violations tell it.
    pub(super) fn moment(&self, at: Timestamp) -> Moment {
        Moment(at.duration_since(self.begun).try_into().unwrap_or_default())
    }
}

/// Seconds since the history began.
pub(super) struct Moment(Duration);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} s", self.0.as_secs_f64())
    }
}

/// The objects that exist at one moment.
#[derive(Clone, Default)]
pub(super) struct Present<'a>(BTreeMap<Kind, BTreeMap<Key, &'a Change>>);

impl<'a> Present<'a> {
    /// Goes one change on; answers what there was before.
    pub(super) fn take(&mut self, change: &'a Change) -> Option<&'a Change> {
        let objects = self.0.entry(change.kind).or_default();
        match change.object {
            Some(_) => objects.insert(change.key.clone(), change),
            None => objects.remove(&change.key),
        }
    }

    pub(super) fn get(&self, kind: Kind, key: &Key) -> Option<&'a Change> {
        self.0.get(&kind)?.get(key).copied()
    }

    pub(super) fn object(&self, kind: Kind, key: &Key) -> Option<&'a Value> {
        self.get(kind, key)?.object.as_deref()
    }

    pub(super) fn all(&self, kind: Kind) -> impl Iterator<Item = &'a Change> {
        self.0.get(&kind).into_iter().flat_map(|objects| objects.values().copied())
    }

    pub(super) fn uids(&self, kind: Kind) -> BTreeSet<&'a str> {
        self.all(kind).map(|change| change.uid.as_str()).collect()
    }

    pub(super) fn by_uid(&self, kind: Kind, uid: &str) -> Option<&'a Change> {
        self.all(kind).find(|change| change.uid == uid)
    }
}

/// The history that several tasks write.
#[derive(Clone)]
pub(super) struct Recorder(Arc<Mutex<History>>);

impl Recorder {
    pub(super) fn new(history: History) -> Self {
        Self(Arc::new(Mutex::new(history)))
    }

    /// Each change of it is complete in one step, so one whose writer panicked is sound.
    pub(super) fn open(&self) -> MutexGuard<'_, History> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A string at a place of an object; empty where there is none.
pub(super) fn text<'v>(object: &'v Value, pointer: &str) -> &'v str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// A map of strings, such as labels.
pub(super) fn texts<'v>(object: &'v Value, pointer: &str) -> HashMap<&'v str, &'v str> {
    let fields = object.pointer(pointer).and_then(Value::as_object);
    fields.into_iter().flatten().filter_map(|(key, value)| Some((key.as_str(), value.as_str()?))).collect()
}
