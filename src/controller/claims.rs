//! How many targets name an `OkmsSecret`, so that what a renamed target left behind is looked for only where there may be something:
//! a search goes through all targets of all namespaces.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
};

use kube::{ResourceExt, runtime::reflector};

use super::context::TargetMeta;
use crate::{k8s::Seen, plan};

/// The counts, by a hash of namespace and name. Two of the same hash are searched for in vain, and nothing more.
#[derive(Default)]
pub(super) struct Claims {
    hasher: RandomState,
    counts: Mutex<HashMap<u64, u32>>,
}

impl Claims {
    /// Keeps count of what the watch of targets sees; `all` is what it knows.
    pub fn see(&self, seen: &Seen<'_, TargetMeta>, all: &reflector::Store<TargetMeta>) {
        match seen {
            Seen::There { now, before } => {
                self.count(now, 1);
                if let Some(before) = before {
                    self.count(before, -1);
                }
            }
            Seen::Gone(meta) => self.count(meta, -1),
            // A watch that was interrupted has missed deletions.
            Seen::Listed => {
                let mut counts = HashMap::new();
                for meta in all.state() {
                    let namespace = meta.namespace().unwrap_or_default();
                    for name in plan::claimants(&meta.metadata) {
                        *counts.entry(self.key(&namespace, &name)).or_default() += 1;
                    }
                }
                *self.counts() = counts;
            }
        }
    }

    /// How many targets name the `OkmsSecret`.
    pub fn of(&self, namespace: &str, name: &str) -> u32 {
        self.counts().get(&self.key(namespace, name)).copied().unwrap_or(0)
    }

    fn count(&self, meta: &TargetMeta, by: i32) {
        let namespace = meta.namespace().unwrap_or_default();
        for name in plan::claimants(&meta.metadata) {
            let key = self.key(&namespace, &name);
            let mut counts = self.counts();
            let count = counts.entry(key).or_default();
            *count = count.saturating_add_signed(by);
            if *count == 0 {
                counts.remove(&key);
            }
        }
    }

    fn key(&self, namespace: &str, name: &str) -> u64 {
        self.hasher.hash_one((namespace, name))
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<u64, u32>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use kube::runtime::{reflector::store, watcher::Event};

    use super::*;
    use crate::api::names;

    fn target(name: &str, owner: &str) -> TargetMeta {
        let mut meta = TargetMeta::default();
        (meta.metadata.namespace, meta.metadata.name) = (Some("shop".to_owned()), Some(name.to_owned()));
        meta.annotations_mut().insert(names::OWNER_ANNOTATION.to_owned(), owner.to_owned());
        meta
    }

    #[test]
    fn targets_are_counted_by_whom_they_name() {
        let (all, _) = store();
        let claims = Claims::default();
        let (old, new, other) = (target("old", "db"), target("new", "db"), target("old", "cache"));
        claims.see(&Seen::There { now: &old, before: None }, &all);
        claims.see(&Seen::There { now: &new, before: None }, &all);
        assert_eq!((claims.of("shop", "db"), claims.of("shop", "cache"), claims.of("team", "db")), (2, 0, 0));
        claims.see(&Seen::There { now: &other, before: Some(&old) }, &all);
        assert_eq!((claims.of("shop", "db"), claims.of("shop", "cache")), (1, 1));
        claims.see(&Seen::Gone(&new), &all);
        assert_eq!((claims.of("shop", "db"), claims.counts().len()), (0, 1));
    }

    #[test]
    fn what_went_while_nobody_watched_is_not_counted_any_more() {
        let (all, mut writer) = store();
        let claims = Claims::default();
        for name in ["old", "new"] {
            claims.see(&Seen::There { now: &target(name, "db"), before: None }, &all);
        }
        for event in [Event::Init, Event::InitApply(target("new", "db")), Event::InitDone] {
            writer.apply_watcher_event(&event);
        }
        claims.see(&Seen::Listed, &all);
        assert_eq!(claims.of("shop", "db"), 1);
    }
}
