//! The state that all parts share: domains, switches, faults, counters, open connections.
//!
//! Locks are held for moments, never across an await. Nothing here knows HTTP or TLS.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use jiff::Timestamp;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::clock::Clock;
use crate::connection::Connections;
use crate::counters::{Arrival, Arrivals, Counters};
use crate::fault::{Fault, FaultId, FaultKind, Faults, Snapshot};
use crate::grants::Grants;
use crate::pki::Authority;
use crate::store::Store;
use crate::switches::Switches;
use crate::wire::Operation;

/// A certificate (by serial), a token (by itself) or a service account (by its client id) that was issued.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) grants: Grants,
    pub(crate) revoked: bool,
    pub(crate) not_after: Timestamp,
    /// Whether every domain of the region lets it in.
    pub(crate) anywhere: bool,
    /// The service account whose access token it is: then its grants are those of the account.
    pub(crate) account: Option<String>,
}

impl Identity {
    pub(crate) const fn new(grants: Grants, not_after: Timestamp) -> Self {
        Self { grants, revoked: false, not_after, anywhere: false, account: None }
    }
}

/// A service account of a domain.
pub(crate) struct Account {
    pub(crate) secret: String,
    pub(crate) identity: Identity,
}

/// One domain's state. It has no `Debug`: it holds values.
pub(crate) struct DomainState {
    pub(crate) okms_id: Uuid,
    pub(crate) store: Mutex<Store>,
    pub(crate) certificates: Mutex<BTreeMap<String, Identity>>,
    pub(crate) tokens: Mutex<BTreeMap<String, Identity>>,
    pub(crate) accounts: Mutex<BTreeMap<String, Account>>,
}

impl DomainState {
    pub(crate) fn new(okms_id: Uuid) -> Arc<Self> {
        Arc::new(Self {
            okms_id,
            store: Mutex::default(),
            certificates: Mutex::default(),
            tokens: Mutex::default(),
            accounts: Mutex::default(),
        })
    }
}

pub(crate) struct World {
    pub(crate) clock: Clock,
    pub(crate) connections: Connections,
    users: Authority,
    domains: RwLock<BTreeMap<Uuid, Arc<DomainState>>>,
    switches: RwLock<Arc<Switches>>,
    faults: Mutex<Faults>,
    counters: Mutex<Counters>,
    arrivals: Mutex<Arrivals>,
    pub(crate) counted: Notify,
}

impl World {
    pub(crate) fn new(users: Authority, switches: Switches) -> Self {
        Self {
            clock: Clock::default(),
            connections: Connections::default(),
            users,
            domains: RwLock::default(),
            switches: RwLock::new(Arc::new(switches)),
            faults: Mutex::default(),
            counters: Mutex::default(),
            arrivals: Mutex::default(),
            counted: Notify::new(),
        }
    }

    pub(crate) const fn users_authority(&self) -> &Authority {
        &self.users
    }

    pub(crate) fn add_domain(&self, domain: Arc<DomainState>) {
        self.domains.write().unwrap_or_else(PoisonError::into_inner).insert(domain.okms_id, domain);
    }

    pub(crate) fn domain(&self, okms_id: Uuid) -> Option<Arc<DomainState>> {
        self.domains.read().unwrap_or_else(PoisonError::into_inner).get(&okms_id).cloned()
    }

    pub(crate) fn domains(&self) -> Vec<Arc<DomainState>> {
        self.domains.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The certificate of this serial, and the domain that is served here and issued it.
    pub(crate) fn certificate(&self, serial: &str) -> Option<(Uuid, Identity)> {
        self.domains().iter().find_map(|domain| {
            let identity = locked(&domain.certificates).get(serial).cloned()?;
            Some((domain.okms_id, identity))
        })
    }

    /// Whose token this is. That of a service account may do what the account may, as long as there is one.
    pub(crate) fn token(&self, token: &str) -> Option<(Uuid, Identity)> {
        self.domains().iter().find_map(|domain| {
            let mut identity = locked(&domain.tokens).get(token).cloned()?;
            if let Some(account) = &identity.account {
                let accounts = locked(&domain.accounts);
                let account = &accounts.get(account)?.identity;
                identity.grants = account.grants.clone();
                identity.revoked |= account.revoked;
            }
            Some((domain.okms_id, identity))
        })
    }

    /// The domain of a service account, if the secret is right.
    pub(crate) fn account(&self, client_id: &str, secret: &str) -> Option<Arc<DomainState>> {
        self.domains().into_iter().find(|domain| {
            let accounts = locked(&domain.accounts);
            accounts.get(client_id).is_some_and(|account| account.secret == secret && !account.identity.revoked)
        })
    }

    pub(crate) fn switches(&self) -> Arc<Switches> {
        Arc::clone(&self.switches.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn with_switches(&self, change: impl FnOnce(&mut Switches)) {
        let mut switches = self.switches.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut switches));
    }

    pub(crate) fn add_fault(&self, fault: Fault) -> FaultId {
        let frozen = (fault.kind == FaultKind::FrozenReads).then(|| Arc::new(self.snapshot()));
        self.faults().add(fault, frozen)
    }

    pub(crate) fn faults(&self) -> MutexGuard<'_, Faults> {
        locked(&self.faults)
    }

    pub(crate) fn counters(&self) -> Counters {
        locked(&self.counters).clone()
    }

    /// Counts a request, and writes down when it came.
    pub(crate) fn arrived(&self, operation: Operation, path: Option<&str>, identity: &str) {
        locked(&self.arrivals).add(operation, path);
        self.count(|counters| counters.request(operation, path, identity));
    }

    pub(crate) fn arrivals(&self) -> Vec<Arrival> {
        locked(&self.arrivals).all()
    }

    pub(crate) fn forget_arrivals(&self) {
        locked(&self.arrivals).clear();
    }

    /// Changes the counters, and wakes who waits for them.
    pub(crate) fn count(&self, change: impl FnOnce(&mut Counters)) {
        change(&mut locked(&self.counters));
        self.counted.notify_waiters();
    }

    fn snapshot(&self) -> Snapshot {
        self.domains().iter().map(|domain| (domain.okms_id, locked(&domain.store).clone())).collect()
    }
}

/// A lock whose holder panicked is taken over: every change to what it guards is complete in one step.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
