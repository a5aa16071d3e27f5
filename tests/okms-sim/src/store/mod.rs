//! The secrets of one OKMS domain: versions, states, settings, pruning, check-and-set.
//!
//! Pure: no clock (`now` is an argument), no network, no JSON shapes, no rights, no limits of the wire. Both API
//! families act on this one store, as they do on the real service (guide "Secret Manager in the control panel").
//! Go to `wire` for what a request looks like, to `store::settings` for durations and defaults.

mod data;
mod settings;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

pub(crate) use self::data::Data;
pub(crate) use self::settings::{Lifetime, Settings, SettingsChange};

/// The highest version number (OpenAPI 2.14.0).
pub(crate) const MAX_VERSION: u32 = 24_000;

/// What the store refuses. The status and the code of the answer are the wire's business.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StoreError {
    /// No secret has this path.
    SecretMissing,
    /// The secret exists, the version never did or was pruned; or it has no version at all.
    VersionMissing,
    /// A secret of this path exists already.
    Exists,
    /// `cas` names a version that is not the current one.
    CasMismatch,
    /// The settings require `cas`, the request has none.
    CasMissing,
    /// Version numbers are used up.
    VersionsExhausted,
}

/// OKMS's states of a version. KV2 calls them live, deleted and destroyed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    Active,
    Deactivated,
    Deleted,
}

#[derive(Clone)]
pub(crate) struct Version {
    pub(crate) created: Timestamp,
    /// When the version is, or will be, deactivated: in the future under a pending `delete_version_after`.
    pub(crate) deactivated: Option<Timestamp>,
    pub(crate) destroyed: bool,
    data: Option<Data>,
}

impl Version {
    pub(crate) fn state(&self, now: Timestamp) -> State {
        if self.destroyed {
            State::Deleted
        } else if self.deactivated.is_some_and(|at| at <= now) {
            State::Deactivated
        } else {
            State::Active
        }
    }

    /// The value, while the version is active.
    pub(crate) fn data(&self, now: Timestamp) -> Option<&Data> {
        match self.state(now) {
            State::Active => self.data.as_ref(),
            State::Deactivated | State::Deleted => None,
        }
    }

    fn set_state(&mut self, state: State, now: Timestamp) {
        // A destroyed version stays as it is: HashiCorp Vault's rule, unknown of OKMS.
        match (self.state(now), state) {
            (State::Deleted, _) | (State::Active, State::Active) | (State::Deactivated, State::Deactivated) => {}
            (_, State::Active) => self.deactivated = None,
            (_, State::Deactivated) => self.deactivated = Some(now),
            (_, State::Deleted) => {
                self.destroyed = true;
                self.data = None;
            }
        }
    }
}

#[derive(Clone)]
pub(crate) struct Secret {
    pub(crate) created: Timestamp,
    pub(crate) updated: Timestamp,
    /// 0 while the secret has no version.
    pub(crate) current: u32,
    /// 0 until the first pruning, then the smallest version kept (okms-cli's live tests show the 0).
    pub(crate) oldest: u32,
    pub(crate) settings: Settings,
    pub(crate) custom_metadata: Option<BTreeMap<String, String>>,
    pub(crate) versions: BTreeMap<u32, Version>,
}

impl Secret {
    fn new(now: Timestamp) -> Self {
        Self {
            created: now,
            updated: now,
            current: 0,
            oldest: 0,
            settings: Settings::default(),
            custom_metadata: None,
            versions: BTreeMap::new(),
        }
    }

    /// The version asked for, or the current one.
    pub(crate) fn version(&self, asked: Option<u32>) -> Result<(u32, &Version), StoreError> {
        let number = asked.unwrap_or(self.current);
        self.versions.get(&number).map(|version| (number, version)).ok_or(StoreError::VersionMissing)
    }

    /// The secret as it was before its newest `back` versions, for a replica that lags. One version stays.
    pub(crate) fn rewound(&self, back: u32) -> Self {
        let mut past = self.clone();
        for _ in 0..back {
            if past.versions.len() < 2 {
                break;
            }
            past.versions.pop_last();
        }
        if let Some((number, newest)) = past.versions.last_key_value() {
            past.current = *number;
            past.updated = newest.created;
        }
        past
    }

    fn check_cas(&self, cas: Option<u32>, required: bool) -> Result<(), StoreError> {
        match cas {
            None if required => Err(StoreError::CasMissing),
            Some(expected) if expected != self.current => Err(StoreError::CasMismatch),
            _ => Ok(()),
        }
    }

    fn append(&mut self, data: Data, config: &Settings, now: Timestamp) -> Result<u32, StoreError> {
        if self.current >= MAX_VERSION {
            return Err(StoreError::VersionsExhausted);
        }
        self.current += 1;
        self.updated = now;
        let deactivated = self.settings.lifetime(config).and_then(|lifetime| lifetime.end(now));
        self.versions.insert(self.current, Version { created: now, deactivated, destroyed: false, data: Some(data) });
        let keep = self.settings.keep(config);
        while self.versions.len() > keep {
            self.versions.pop_first();
            self.oldest = self.versions.first_key_value().map_or(self.current, |(number, _)| *number);
        }
        Ok(self.current)
    }

    fn apply(&mut self, change: MetadataChange, now: Timestamp) {
        self.settings.apply(change.settings);
        match change.custom {
            CustomChange::Keep => {}
            CustomChange::Replace(map) => self.custom_metadata = Some(map),
            CustomChange::Merge(patch) => {
                let map = self.custom_metadata.get_or_insert_default();
                for (key, value) in patch {
                    match value {
                        Some(value) => map.insert(key, value),
                        None => map.remove(&key),
                    };
                }
            }
        }
        self.updated = now;
    }
}

/// A change of settings and custom metadata, from either family.
#[derive(Clone, Default)]
pub(crate) struct MetadataChange {
    pub(crate) settings: SettingsChange,
    pub(crate) custom: CustomChange,
}

#[derive(Clone, Default)]
pub(crate) enum CustomChange {
    #[default]
    Keep,
    Replace(BTreeMap<String, String>),
    /// A merge patch: `None` removes the key.
    Merge(BTreeMap<String, Option<String>>),
}

/// What an update through REST v2 changes; the settings apply before `cas` is checked.
pub(crate) struct Update {
    pub(crate) metadata: Option<MetadataChange>,
    pub(crate) data: Option<Data>,
    pub(crate) cas: Option<u32>,
}

/// Secrets are shared until changed, so that a snapshot of thousands costs a pointer each.
#[derive(Clone, Default)]
pub(crate) struct Store {
    config: Settings,
    secrets: BTreeMap<String, Arc<Secret>>,
}

impl Store {
    pub(crate) fn config(&self) -> &Settings {
        &self.config
    }

    pub(crate) fn set_config(&mut self, change: SettingsChange) {
        self.config.apply(change);
    }

    pub(crate) fn get(&self, path: &str) -> Result<&Secret, StoreError> {
        self.secrets.get(path).map(AsRef::as_ref).ok_or(StoreError::SecretMissing)
    }

    /// Every path, in byte order.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.secrets.keys().map(String::as_str)
    }

    /// The names one level below `folder` (empty: the root) of the secrets that `visible` admits. Folders end
    /// with `/`; a name that is both a secret and a folder appears twice.
    pub(crate) fn children(&self, folder: &str, visible: impl Fn(&str) -> bool) -> BTreeSet<String> {
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        self.secrets
            .range(prefix.clone()..)
            .map(|(path, _)| path.as_str())
            .map_while(|path| path.strip_prefix(&prefix).map(|rest| (path, rest)))
            .filter(|(path, _)| visible(path))
            .map(|(_, rest)| match rest.split_once('/') {
                Some((name, _)) => format!("{name}/"),
                None => rest.to_owned(),
            })
            .collect()
    }

    /// A new version, of a new secret if need be.
    pub(crate) fn write(
        &mut self,
        path: &str,
        data: Data,
        cas: Option<u32>,
        now: Timestamp,
    ) -> Result<u32, StoreError> {
        let fresh = || Arc::new(Secret::new(now));
        let secret = self.secrets.get(path).cloned().unwrap_or_else(fresh);
        secret.check_cas(cas, secret.settings.cas_required(&self.config))?;
        let mut secret = Arc::unwrap_or_clone(secret);
        let number = secret.append(data, &self.config, now)?;
        self.secrets.insert(path.to_owned(), Arc::new(secret));
        Ok(number)
    }

    /// A new secret with its first version. `cas` is never asked for here (REST v2's POST has no such field).
    pub(crate) fn create(
        &mut self,
        path: &str,
        data: Data,
        change: MetadataChange,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if self.secrets.contains_key(path) {
            return Err(StoreError::Exists);
        }
        let mut secret = Secret::new(now);
        secret.apply(change, now);
        secret.append(data, &self.config, now)?;
        self.secrets.insert(path.to_owned(), Arc::new(secret));
        Ok(())
    }

    /// Settings first, then the check, then the version; all of it or nothing. A PUT with `casRequired: false`
    /// and no `cas` therefore succeeds where `cas` was required (okms-cli's live tests).
    pub(crate) fn update(&mut self, path: &str, update: Update, now: Timestamp) -> Result<(), StoreError> {
        let mut secret = self.get(path)?.clone();
        if let Some(change) = update.metadata {
            secret.apply(change, now);
        }
        match update.data {
            Some(data) => {
                secret.check_cas(update.cas, secret.settings.cas_required(&self.config))?;
                secret.append(data, &self.config, now)?;
            }
            None => secret.check_cas(update.cas, false)?,
        }
        self.secrets.insert(path.to_owned(), Arc::new(secret));
        Ok(())
    }

    /// Changes settings or custom metadata without a new version; `create` makes a missing secret, which then
    /// has no version.
    pub(crate) fn set_metadata(
        &mut self,
        path: &str,
        change: MetadataChange,
        create: bool,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if create && !self.secrets.contains_key(path) {
            self.secrets.insert(path.to_owned(), Arc::new(Secret::new(now)));
        }
        self.get_mut(path)?.apply(change, now);
        Ok(())
    }

    pub(crate) fn set_state(
        &mut self,
        path: &str,
        version: u32,
        state: State,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.get_mut(path)?.versions.get_mut(&version).ok_or(StoreError::VersionMissing)?.set_state(state, now);
        Ok(())
    }

    /// The secret and all its versions are gone; one made again starts at version 1.
    pub(crate) fn delete(&mut self, path: &str) -> Result<(), StoreError> {
        self.secrets.remove(path).map(drop).ok_or(StoreError::SecretMissing)
    }

    /// Shows `path` as it was `back` versions ago.
    pub(crate) fn rewind(&mut self, path: &str, back: u32) {
        if let Ok(secret) = self.get(path) {
            let past = secret.rewound(back);
            self.secrets.insert(path.to_owned(), Arc::new(past));
        }
    }

    fn get_mut(&mut self, path: &str) -> Result<&mut Secret, StoreError> {
        self.secrets.get_mut(path).map(Arc::make_mut).ok_or(StoreError::SecretMissing)
    }
}
