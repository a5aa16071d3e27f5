//! What OKMS held, and when: from the changes that the harness made to it. What happened within a request happened at some moment of it,
//! so a question about a moment may have two answers, and both are given.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use serde_json::Value;

use crate::chaos::{
    action::VersionState,
    history::{OkmsChange, What},
};

/// How many versions OKMS keeps when nobody said otherwise.
const KEPT_VERSIONS: usize = 10;

/// For each path what it was, one after the other.
pub(super) struct Truth(BTreeMap<String, Vec<Era>>);

/// A path between two changes. It began and ended at the latest and earliest moments that are possible.
pub(super) struct Era {
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
    pub(super) secret: Option<Secret>,
}

#[derive(Clone, Default)]
pub(super) struct Secret {
    current: u32,
    pruned: bool,
    versions: BTreeMap<u32, Version>,
}

#[derive(Clone)]
pub(super) struct Version {
    pub(super) number: u32,
    /// It was created between these.
    pub(super) created: (Timestamp, Timestamp),
    pub(super) content: Arc<Value>,
    pub(super) state: VersionState,
}

/// What a source means at one moment.
pub(super) enum Meaning<'t> {
    Active(&'t Version),
    /// By the reason that a status gives for it.
    Withdrawn(&'static str),
    /// There is no secret.
    Missing,
    VersionNotFound,
}

impl Secret {
    pub(super) fn version(&self, number: u32) -> Option<&Version> {
        self.versions.get(&number)
    }

    fn meaning(&self, pin: Option<u32>) -> Meaning<'_> {
        let number = pin.unwrap_or(self.current);
        match self.versions.get(&number) {
            Some(version) => match version.state {
                VersionState::Active => Meaning::Active(version),
                VersionState::Deactivated => Meaning::Withdrawn("VersionDeactivated"),
                VersionState::Destroyed => Meaning::Withdrawn("VersionDestroyed"),
            },
            None if number < self.current && self.pruned => Meaning::Withdrawn("VersionPruned"),
            None => Meaning::VersionNotFound,
        }
    }
}

impl Era {
    pub(super) fn meaning(&self, pin: Option<u32>) -> Meaning<'_> {
        self.secret.as_ref().map_or(Meaning::Missing, |secret| secret.meaning(pin))
    }
}

impl Truth {
    pub(super) fn new(changes: &[OkmsChange]) -> Self {
        let mut paths: BTreeMap<String, Vec<Era>> = BTreeMap::new();
        for change in changes {
            let eras = paths.entry(change.path.clone()).or_insert_with(|| vec![nothing()]);
            let mut secret = eras.last().and_then(|era| era.secret.clone());
            match &change.what {
                What::Put { version, data } => {
                    let secret = secret.get_or_insert_default();
                    secret.current = *version;
                    let created = (change.from, change.to);
                    let state = VersionState::Active;
                    let made = Version { number: *version, created, content: Arc::clone(data), state };
                    secret.versions.insert(*version, made);
                    while secret.versions.len() > KEPT_VERSIONS {
                        secret.versions.pop_first();
                        secret.pruned = true;
                    }
                }
                What::State { version, state } => {
                    if let Some(version) = secret.as_mut().and_then(|secret| secret.versions.get_mut(version)) {
                        version.state = *state;
                    }
                }
                What::Delete => secret = None,
            }
            if let Some(before) = eras.last_mut() {
                before.to = change.to;
            }
            eras.push(Era { from: change.from, to: Timestamp::MAX, secret });
        }
        Self(paths)
    }

    /// What a path may have been at some moment between two.
    pub(super) fn between(&self, path: &str, from: Timestamp, to: Timestamp) -> impl Iterator<Item = &Era> {
        let eras = self.0.get(path).map_or([].as_slice(), Vec::as_slice);
        eras.iter().filter(move |era| era.from <= to && era.to >= from)
    }

    /// What a path is after all changes.
    pub(super) fn last(&self, path: &str) -> Option<&Era> {
        self.0.get(path)?.last()
    }

    /// Every content that a version of this number had before a moment: a secret that was deleted and made again has such a version
    /// twice.
    pub(super) fn contents(&self, path: &str, number: u32, before: Timestamp) -> Vec<&Version> {
        let mut found: Vec<&Version> = Vec::new();
        for era in self.between(path, Timestamp::MIN, before) {
            if let Some(version) = era.secret.as_ref().and_then(|secret| secret.version(number))
                && found.iter().all(|known| known.created != version.created)
            {
                found.push(version);
            }
        }
        found
    }

    /// The version that was created at a time by OKMS's own clock, which is the harness's.
    pub(super) fn created(&self, path: &str, number: u32, created: Timestamp) -> Option<&Version> {
        let mut all = self.contents(path, number, Timestamp::MAX).into_iter();
        all.find(|version| version.created.0 <= created && created <= version.created.1)
    }

    /// The last moment at which a source may have meant this version and could be read; nothing if it never did.
    pub(super) fn last_meant(&self, path: &str, pin: Option<u32>, version: &Version) -> Option<Timestamp> {
        let eras = self.between(path, Timestamp::MIN, Timestamp::MAX);
        let meant = eras.filter(|era| {
            matches!(era.meaning(pin), Meaning::Active(active)
                if active.number == version.number && active.created == version.created)
        });
        meant.map(|era| era.to).max()
    }
}

/// Before anything was written.
fn nothing() -> Era {
    Era { from: Timestamp::MIN, to: Timestamp::MAX, secret: None }
}
