//! The only room that calls OKMS: what is wanted from each store, when it is due, and what came of it.
//!
//! A [`Feed`] has a desk for each store. A desk is a [`ledger::Ledger`], which decides, and one driver task, which makes the
//! requests that the ledger names. Reconciles [`ask`](Feed::ask) and never wait: they get what is known, or "pending", and are woken
//! when there is an answer. So a routine check that shows nothing new costs no reconcile and no call to Kubernetes.
//!
//! The feed never writes anything anywhere, and it never concludes a withdrawal from an error.

mod driver;
pub mod ledger;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::driver::Desk;
use self::ledger::{Account, Ledger, Now, Room};
pub use self::ledger::{
    Admission, Answer, Ask, Before, ByPath, Checks, Health, Lane, Limits, Need, ObjectId, Timing, Wish, WithdrawalLimit,
};
use crate::{
    model::{Mark, OkmsId, StoreName, StoreTrouble},
    okms::{Client, Endpoint},
};

/// Whom the feed wakes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Wake {
    /// What an object would be told has changed.
    Object(ObjectId),
    /// The standing of a store has changed: its status is to be written.
    Store(StoreName),
}

/// Takes the wakes of the feed. Called by the driver of a desk, which waits for it: it must return at once.
pub type WakeSink = Arc<dyn Fn(Wake) + Send + Sync>;

/// Which domain a desk reads from. Another one is another desk: nothing that is known of one domain holds in another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    pub endpoint: Endpoint,
    pub okms_id: OkmsId,
}

/// What a store's status says of the feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub health: Health,
    pub rejected: Option<StoreTrouble>,
    /// A new credential waits to be proven, and has not failed yet.
    pub proving: bool,
    pub throttled_to: Option<Duration>,
    /// Which way sources are checked at rest.
    pub checks: Checks,
    pub held: Option<(String, usize)>,
    /// How many sources are in which state.
    pub sources: BTreeMap<&'static str, usize>,
    /// How long ago the source that waits longest was last checked.
    pub oldest_check: Option<Duration>,
}

impl Standing {
    /// Whether the newest credential is the one that works.
    pub fn uses_newest(&self) -> bool {
        self.health == Health::Ready && !self.proving && self.rejected.is_none()
    }
}

/// All desks.
pub struct Feed {
    desks: Mutex<HashMap<StoreName, Arc<Desk>>>,
    timing: Timing,
    /// The memory that the values of all stores share.
    room: Arc<Room>,
    sink: WakeSink,
    tasks: TaskTracker,
    cancel: CancellationToken,
    /// Cancelled when a driver has ended by itself.
    broken: CancellationToken,
}

impl Feed {
    /// `cancel` ends the drivers; [`Feed::drained`] waits for them.
    pub fn new(timing: Timing, sink: WakeSink, cancel: CancellationToken) -> Self {
        Self {
            desks: Mutex::default(),
            timing,
            room: Arc::default(),
            sink,
            tasks: TaskTracker::new(),
            cancel,
            broken: CancellationToken::new(),
        }
    }

    /// Opens a desk for a store, or changes the limits of the one that is open. Answers whether the desk is new, so that every
    /// object of the store has to ask again. `before` is what the cluster remembers of the store's withdrawals.
    pub fn open(&self, store: &StoreName, domain: &Domain, limits: Limits, before: impl FnOnce() -> Before) -> bool {
        let now = now(None);
        let mut desks = self.desks();
        if let Some(desk) = desks.get(store).filter(|desk| desk.domain == *domain) {
            desk.ledger().set_limits(now, limits);
            desk.stir();
            return false;
        }
        let account = Account::new(self.room.clone(), store.namespace().is_some());
        let ledger = Ledger::new(now, limits, self.timing.clone(), before(), account);
        let desk = Arc::new(Desk::new(store.clone(), domain.clone(), ledger, self.cancel.child_token()));
        let (broken, run) = (self.broken.clone().drop_guard(), driver::run(desk.clone(), self.sink.clone()));
        self.tasks.spawn(async move {
            run.await;
            broken.disarm();
        });
        if let Some(old) = desks.insert(store.clone(), desk) {
            old.close();
        }
        true
    }

    /// Closes the desk of a store that is gone.
    pub fn close(&self, store: &StoreName) {
        if let Some(desk) = self.desks().remove(store) {
            desk.close();
        }
    }

    /// Hands over a client with a new credential. It is used once it has proven itself.
    pub fn propose(&self, store: &StoreName, client: Client) {
        self.at(store, |desk| desk.propose(desk.now(), client));
    }

    /// A new credential cannot be used. The one in use stays in use.
    pub fn reject(&self, store: &StoreName, trouble: StoreTrouble) {
        self.at(store, |desk| desk.ledger().reject_credential(desk.now(), trouble));
    }

    /// The credential is gone: no call is made any more.
    pub fn disconnect(&self, store: &StoreName, trouble: StoreTrouble) {
        self.at(store, |desk| desk.disconnect(desk.now(), trouble));
    }

    /// Takes what a reconcile wants and answers with what is known; `None` when the store has no desk, or one of another domain than
    /// the asker thinks: what another domain says must not be held against a target.
    pub fn ask(&self, store: &StoreName, okms_id: &OkmsId, ask: Ask) -> Option<Answer> {
        self.at(store, |desk| (desk.domain.okms_id == *okms_id).then(|| desk.ledger().ask(desk.now(), ask))).flatten()
    }

    /// An object that reads from this store is looked at, whatever comes of that: what was read for it is not read ahead any more.
    pub fn came(&self, store: &StoreName, object: &ObjectId) {
        let desk = self.desks().get(store).cloned();
        if let Some(desk) = desk.filter(|desk| desk.ledger().came(object)) {
            desk.stir();
        }
    }

    /// Whether OKMS was not asked yet for what an object waits for, because others are to be written first.
    pub fn holds_back(&self, store: &StoreName, object: &ObjectId) -> bool {
        self.desks().get(store).is_some_and(|desk| desk.ledger().holds_back(object))
    }

    /// The reconcile acted on the answer; `held` is what the target is made from now.
    pub fn settle(&self, store: &StoreName, object: &ObjectId, held: &[Option<Mark>]) {
        self.at(store, |desk| desk.ledger().settle(object, held));
    }

    /// The object is gone, or reads from another store.
    pub fn forget(&self, object: &ObjectId) {
        self.at_each(|ledger| ledger.forget(object));
    }

    /// The object reads nothing for now. A withdrawal that is held stays so.
    pub fn pause(&self, object: &ObjectId) {
        self.at_each(|ledger| ledger.pause(object));
    }

    fn at_each(&self, act: impl Fn(&mut Ledger) -> bool) {
        for desk in self.desks().values() {
            if act(&mut desk.ledger()) {
                desk.stir();
            }
        }
    }

    /// Forgets every object that is not among the living.
    pub fn retain(&self, live: &HashSet<Arc<str>>) {
        for desk in self.desks().values() {
            desk.ledger().retain(live);
            desk.stir();
        }
    }

    /// Asks for leave to withdraw the target of an object.
    pub fn admit_withdrawal(&self, store: &StoreName, object: &ObjectId, was_held: bool) -> Admission {
        self.at(store, |desk| desk.ledger().admit_withdrawal(desk.now(), object, was_held)).unwrap_or(Admission::Held)
    }

    /// The source of an object is not withdrawn, or not any more.
    pub fn clear_withdrawal(&self, store: &StoreName, object: &ObjectId) {
        self.at(store, |desk| desk.ledger().clear_withdrawal(object));
    }

    /// Somebody confirmed the held withdrawals of a store by their id.
    pub fn confirm_withdrawals(&self, store: &StoreName, id: &str) {
        self.at(store, |desk| desk.ledger().confirm_withdrawals(id));
    }

    /// How a store stands; `None` when it has no desk.
    pub fn standing(&self, store: &StoreName) -> Option<Standing> {
        let now = Instant::now();
        self.desks().get(store).map(|desk| {
            let ledger = desk.ledger();
            let (sources, oldest) = ledger.sources();
            Standing {
                health: ledger.health().clone(),
                rejected: ledger.rejected_candidate().cloned(),
                proving: ledger.is_proving(),
                throttled_to: ledger.throttled_to(),
                checks: ledger.checks(),
                held: ledger.held_withdrawals(),
                sources,
                oldest_check: oldest.map(|oldest| now.saturating_duration_since(oldest)),
            }
        })
    }

    /// The domain that a store reads from.
    pub fn domain(&self, store: &StoreName) -> Option<Domain> {
        self.desks().get(store).map(|desk| desk.domain.clone())
    }

    /// Waits until a driver has panicked: nothing is asked of its store any more.
    pub async fn broken(&self) {
        self.broken.cancelled().await;
    }

    /// Waits until every driver has ended, after the feed was cancelled.
    pub async fn drained(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn at<T>(&self, store: &StoreName, act: impl FnOnce(&Desk) -> T) -> Option<T> {
        let desk = self.desks().get(store).cloned()?;
        let result = act(&desk);
        desk.stir();
        Some(result)
    }

    fn desks(&self) -> MutexGuard<'_, HashMap<StoreName, Arc<Desk>>> {
        self.desks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The moment, where the clock of OKMS is so far ahead of ours; `None` where that is not known. What OKMS plans is a fact once both clocks
/// say so: whichever is wrong, nothing that OKMS still serves is taken for withdrawn.
fn now(ahead: Option<SignedDuration>) -> Now {
    // It is told in whole seconds, that have begun.
    let behind = (ahead.unwrap_or_default() + SignedDuration::from_secs(1)).min(SignedDuration::ZERO);
    Now { mono: Instant::now(), wall: Timestamp::now() + behind }
}
