//! What OKMS held, and when: from the changes that the harness made to it. What happened within a request happened at some moment of it,
//! so a question about a moment may have two answers, and both are given.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use serde_json::Value;

use crate::chaos::{
    action::VersionState,
    history::{History, OkmsChange, Trouble, Troubled, What},
};

/// How many versions OKMS keeps when nobody said otherwise.
const KEPT_VERSIONS: usize = 10;

/// For each path what it was, one after the other.
pub(super) struct Truth {
    eras: BTreeMap<String, Vec<Era>>,
    /// What OKMS showed instead while it lagged.
    shown: BTreeMap<String, Vec<Era>>,
}

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

    /// As it was before its newest version, if it has another.
    fn lagging(&self) -> Self {
        let mut lagging = self.clone();
        if lagging.versions.len() > 1 {
            lagging.versions.pop_last();
        }
        lagging.current = lagging.versions.keys().next_back().copied().unwrap_or_default();
        lagging
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
    /// What was shown of it while OKMS lagged.
    fn shown_in(&self, lag: &Troubled) -> Option<Self> {
        let (from, to) = (self.from.max(lag.from), self.to.min(lag.to.unwrap_or(Timestamp::MAX)));
        (from <= to).then(|| Self { from, to, secret: self.secret.as_ref().map(Secret::lagging) })
    }

    pub(super) fn meaning(&self, pin: Option<u32>) -> Meaning<'_> {
        self.secret.as_ref().map_or(Meaning::Missing, |secret| secret.meaning(pin))
    }
}

impl Truth {
    pub(super) fn new(history: &History) -> Self {
        let eras = Self::eras(&history.okms);
        let lags = || history.troubles.iter().filter(|troubled| troubled.trouble == Trouble::Lag);
        let shown = |path: &String, eras: &Vec<Era>| {
            let lags = lags().filter(|lag| lag.concerns(&[path]));
            let shown = lags.flat_map(|lag| eras.iter().filter_map(|era| era.shown_in(lag)));
            (path.clone(), shown.collect())
        };
        Self { shown: eras.iter().map(|(path, eras)| shown(path, eras)).collect(), eras }
    }

    fn eras(changes: &[OkmsChange]) -> BTreeMap<String, Vec<Era>> {
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
        paths
    }

    /// What a path may have been at some moment between two, or was shown as.
    pub(super) fn between(&self, path: &str, from: Timestamp, to: Timestamp) -> impl Iterator<Item = &Era> {
        let all = [&self.eras, &self.shown].into_iter().filter_map(|eras| eras.get(path)).flatten();
        all.filter(move |era| era.from <= to && era.to >= from)
    }

    /// What a path was at a moment, and when that had begun at the latest; nothing where two answers are possible.
    pub(super) fn at(&self, path: &str, at: Timestamp) -> Option<(&Era, Timestamp)> {
        let eras = self.eras.get(path)?;
        let possible = |era: &Era| era.from <= at && era.to >= at;
        let index = eras.iter().position(possible)?;
        let era = eras.get(index)?;
        let begun = index.checked_sub(1).and_then(|before| eras.get(before)).map_or(Timestamp::MIN, |before| before.to);
        (eras.iter().filter(|era| possible(era)).count() == 1).then_some((era, begun))
    }

    /// From when on what a source means had not been found, until a moment; that moment where it was there.
    pub(super) fn missing_since(&self, path: &str, pin: Option<u32>, until: Timestamp) -> Timestamp {
        let eras = self.eras.get(path).map_or([].as_slice(), Vec::as_slice);
        let before = eras.iter().rev().filter(|era| era.from < until);
        let missing = before
            .skip_while(|era| matches!(era.meaning(pin), Meaning::Active(_)))
            .take_while(|era| matches!(era.meaning(pin), Meaning::Missing | Meaning::VersionNotFound));
        missing.last().map_or(until, |era| era.from)
    }

    /// What a path is after all changes.
    pub(super) fn last(&self, path: &str) -> Option<&Era> {
        self.eras.get(path)?.last()
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
