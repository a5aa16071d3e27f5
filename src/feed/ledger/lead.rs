//! How far the reads of a store are ahead of the reconciles: the values of what somebody applied that nobody has
//! come for yet.
//!
//! OKMS mostly answers faster than the API server takes writes. What is read long before its turn to be written takes memory meanwhile,
//! may be out of date by then, and has to be read again once a value may not be kept any longer. So what somebody applied is read when
//! its turn is near.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::room::{LEAD, Room};
use crate::model::Source;

/// The part of one store, which is given back when the store is gone.
pub(super) struct Lead {
    room: Arc<Room>,
    /// By the namespace of those who were woken for them. None is empty.
    waiting: BTreeMap<Arc<str>, BTreeSet<Source>>,
}

impl Lead {
    pub fn new(room: Arc<Room>) -> Self {
        Self { room, waiting: BTreeMap::new() }
    }

    /// Somebody of a namespace was woken for the value of a source.
    pub fn woken(&mut self, namespace: &Arc<str>, source: &Source) {
        let waiting = self.waiting.entry(namespace.clone()).or_default();
        if waiting.insert(source.clone()) {
            self.room.await_one();
        }
    }

    /// Somebody of that namespace has come, or the value is gone. Answers whether anybody was waited for.
    pub fn came(&mut self, namespace: &Arc<str>, source: &Source) -> bool {
        let Some(waiting) = self.waiting.get_mut(namespace) else { return false };
        let awaited = waiting.remove(source);
        if awaited {
            self.room.fetched(1);
        }
        if waiting.is_empty() {
            self.waiting.remove(namespace);
        }
        awaited
    }

    /// Whether more may be read for a namespace before its turn. Where nothing waits for it something may in any case, so that no other
    /// holds it up.
    pub fn has_room(&self, namespace: &Arc<str>) -> bool {
        self.room.awaited() < LEAD || !self.waits(namespace)
    }

    /// Whether a value waits for somebody of a namespace.
    pub fn waits(&self, namespace: &Arc<str>) -> bool {
        self.waiting.contains_key(namespace)
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.room.fetched(self.waiting.values().map(BTreeSet::len).sum());
    }
}
