//! What is remembered of each store: what it was last connected with, what proved to work, what was said of it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{
    super::{
        metrics::StoreMetrics,
        named::{Reference, Watch},
        retries::Retries,
    },
    credential::Parsed,
};
use crate::{
    api::{Auth, CaSource, CertificateStatus, Connection, Store, StoreStatus, condition},
    feed::Domain,
    k8s::LastStatus,
    model::{StoreName, StoreTrouble},
    okms::{self, ClientOptions, Credential, Roots},
};

/// The rows of all stores.
#[derive(Default)]
pub(in crate::controller) struct Stores(Mutex<HashMap<StoreName, Row>>);

#[derive(Default)]
pub(super) struct Row {
    /// What was last handed to the feed, and what the spec says that it is made from.
    pub proposed: Option<Proposal>,
    pub said: Option<Said>,
    /// What the feed found to work.
    pub proven: Option<Proven>,
    /// The certificate that was last found to work.
    pub certificate: Option<CertificateStatus>,
    pub parsed: Parsed,
    pub authorities: Authorities,
    /// How the clock of OKMS differs from ours, as the client that was last handed to the feed finds out.
    pub clock: okms::Clock,
    /// Why what the spec says now cannot be used.
    pub trouble: Option<StoreTrouble>,
    /// Since when what the spec refers to cannot be looked at.
    pub unread_since: Option<Instant>,
    /// The uid and generation that the store's objects last heard of.
    pub heard: Option<(String, i64)>,
    pub status: LastStatus<StoreStatus>,
    /// Of the writes of the status.
    pub retries: Retries,
    /// The conditions that began to fail, and are told of by an event once the status is known to say so.
    pub to_warn: BTreeSet<&'static str>,
    /// The watches over what the store refers to.
    pub watches: HashMap<Reference, Watch>,
    pub metrics: Option<Arc<StoreMetrics>>,
}

/// The certificate authorities that a store refers to, since they were last read: its mounted files are looked at every few seconds, which
/// is no reason to read from the API server what a watch is kept over.
#[derive(Default)]
pub(super) struct Authorities {
    known: Option<(Option<CaSource>, Roots, Instant)>,
    /// How often something that the store refers to was seen to change.
    changes: u64,
}

impl Authorities {
    /// What is still good, if it was read within `age`; and what to say of what is read now.
    pub fn get(&self, ca: Option<&CaSource>, age: Duration) -> (Option<Roots>, u64) {
        let good = self.known.as_ref().filter(|(said, _, at)| said.as_ref() == ca && at.elapsed() < age);
        (good.map(|(_, roots, _)| roots.clone()), self.changes)
    }

    /// They were read; `since` is what was said before. What has changed meanwhile is read again.
    pub fn read(&mut self, ca: Option<CaSource>, roots: Roots, since: u64) {
        self.known = (since == self.changes).then(|| (ca, roots, Instant::now()));
    }

    /// Something that the store refers to was seen to change, or is seen for the first time.
    pub fn changed(&mut self) {
        self.changes = self.changes.wrapping_add(1);
        self.known = None;
    }
}

/// Everything that a client is made of.
#[derive(Clone, PartialEq)]
pub(super) struct Proposal {
    pub domain: Domain,
    pub roots: Roots,
    pub credential: Credential,
    pub options: ClientOptions,
}

/// What is in use, and what the spec said that it was made from.
pub(super) struct Proven {
    pub said: Said,
    pub used: Proposal,
    /// As the client in use finds out.
    pub clock: okms::Clock,
}

/// What a spec says of the connection: whatever else it says needs no proof.
#[derive(Clone, PartialEq)]
pub(super) struct Said {
    pub auth: Auth,
    endpoint: String,
    okms_id: Option<String>,
    ca: Option<CaSource>,
}

impl Said {
    pub fn by(store: &Store) -> Self {
        let Connection { endpoint, okms_id, auth, ca, .. } = store.connection().clone();
        Self { auth, endpoint, okms_id, ca }
    }

    /// Whether the domain is that of the certificate.
    pub fn leaves_domain_to_certificate(&self) -> bool {
        self.okms_id.is_none()
    }
}

impl Row {
    /// What was proposed is what works.
    pub fn settle(&mut self) {
        let (Some(used), Some(said)) = (self.proposed.clone(), self.said.clone()) else { return };
        self.certificate = used.credential.identity().map(|identity| CertificateStatus {
            not_after: condition::time(identity.not_after()),
            serial: identity.serial().to_owned(),
        });
        self.proven = Some(Proven { said, used, clock: self.clock.clone() });
    }

    /// Whether what is in use is what the store says now.
    pub fn uses_what_is_said_by(&self, store: &Store) -> bool {
        self.proven.as_ref().is_some_and(|proven| proven.said == Said::by(store))
    }
}

impl Stores {
    pub(super) fn with<T>(&self, name: &StoreName, act: impl FnOnce(&mut Row) -> T) -> T {
        act(self.lock().entry(name.clone()).or_default())
    }

    pub(super) fn known(&self) -> Vec<StoreName> {
        self.lock().keys().cloned().collect()
    }

    pub(super) fn drop(&self, name: &StoreName) {
        self.lock().remove(name);
    }

    /// Something that a store refers to may have changed.
    pub(super) fn reference_changed(&self, name: &StoreName) {
        if let Some(row) = self.lock().get_mut(name) {
            row.authorities.changed();
        }
    }

    /// Why what the spec of a store says cannot be used.
    pub fn trouble(&self, name: &StoreName) -> Option<String> {
        self.lock().get(name)?.trouble.as_ref().map(|trouble| trouble.message.clone())
    }

    /// Counters of a store.
    pub fn metrics(&self, name: &StoreName) -> Option<Arc<StoreMetrics>> {
        self.lock().get(name).and_then(|row| row.metrics.clone())
    }

    /// When the certificate in use ends.
    pub fn certificate_expires(&self, name: &StoreName) -> Option<Timestamp> {
        self.lock().get(name)?.certificate.as_ref().map(|certificate| certificate.not_after.0)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<StoreName, Row>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
