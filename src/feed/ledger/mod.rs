//! The books of one store: what is wanted, when it is due, what was last seen, and what to ask OKMS next.
//!
//! A state machine without I/O: it is fed with [`Ask`]s of reconciles and with [`Outcome`]s of requests, `now` is an argument, and
//! [`Ledger::poll`] answers with the requests to start and the objects to wake. It never sleeps, never reads a clock and never
//! calls anybody, so that every order of events can be tested.
//!
//! * [`object`] is the state of an `OkmsSecret`: its sources, the round it waits for, what it was last told;
//! * [`entry`] is the state of a source: what was last seen, when it is due, the value that somebody waits for;
//! * [`breaker`] decides whether a failure is the store's or one path's, by asking the probe;
//! * [`walks`] decides when the list of all secrets is walked in place of checks by path, [`bulk`] what a page of it proves;
//! * [`lanes`] and [`budget`] give the order, the rate and the places, [`shares`] what a namespace may ask for at rest;
//! * [`room`] bounds the memory that values take, for all stores, and [`lead`] how far ahead they are read; [`withdrawals`] bounds
//!   deletions.

mod blame;
mod breaker;
mod budget;
mod bulk;
mod enlist;
mod entry;
mod lanes;
mod lead;
mod object;
mod outcomes;
mod readings;
mod requests;
mod room;
mod shares;
#[cfg(test)]
mod tests;
mod timing;
mod users;
mod values;
mod walks;
mod withdrawals;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use self::{
    breaker::Breaker,
    budget::Budget,
    entry::Entry,
    lanes::Lanes,
    lead::Lead,
    object::Object,
    shares::Shares,
    walks::Walks,
    withdrawals::{Targets, Withdrawals},
};
use crate::model::{Cursor, Facts, Finding, Mark, Page, Path, Reading, Source, StoreTrouble, Version};

pub use self::{
    breaker::Health,
    lanes::Lane,
    room::{Account, Room},
    timing::Timing,
    walks::{ByPath, Checks},
    withdrawals::{Admission, Before, WithdrawalLimit},
};

/// How precisely a store's status tells the interval that its budget can hold.
const THROTTLE_STEP: Duration = Duration::from_secs(10);

/// One moment on two clocks: intervals are measured on the monotonic one, times that OKMS states are compared with the other.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    pub mono: Instant,
    pub wall: Timestamp,
}

/// Which `OkmsSecret`: the uid tells apart two objects that had the same name one after the other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    pub uid: Arc<str>,
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

/// What a reconcile wants to know. Asking again replaces what was asked before.
#[derive(Debug, Clone)]
pub struct Ask {
    pub object: ObjectId,
    /// Changes when the spec changes: everything is then checked anew.
    pub generation: i64,
    /// How long the object has certainly been as it is.
    pub unchanged_for: Duration,
    /// Changes when somebody asks for a check: the same.
    pub refresh: u32,
    pub sources: Vec<Wish>,
    pub need: Need,
    /// How often to check; absent: only when asked.
    pub interval: Option<Duration>,
    pub lane: Lane,
}

/// One source of an [`Ask`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    pub source: Source,
    /// What the target was made from, if it was made from this source.
    pub held: Option<Mark>,
    /// Whether there may be nothing to read: then the others are read without it.
    pub optional: bool,
}

/// Whether the target needs to be rendered whatever the check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The target equals the rendering of what it holds: data is wanted only for another version.
    Check,
    /// The target is absent, drifted, or of another spec: data is wanted in any case.
    Data,
}

/// What an [`Ask`] gets.
#[derive(Clone)]
pub enum Answer {
    /// Not known yet. The object is woken when it is.
    Pending,
    /// The store cannot be read.
    Down { trouble: StoreTrouble, stale: bool },
    /// One finding for each source, in the order asked.
    Known { findings: Vec<Finding>, stale: bool },
}

/// A request that the driver has to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub ticket: u64,
    pub call: Call,
    /// With the credential of this number, which is to be proven, instead of the one in use.
    pub candidate: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// KV2 `GET metadata/{path}`.
    Metadata(Path),
    /// KV2 `GET data/{path}?version=n`.
    Data(Path, Option<Version>),
    /// KV2 `GET metadata?list=true`.
    Root,
    /// REST v2 `GET secret`: the first page of the list of all secrets, or the one at the cursor.
    Page(Option<Cursor>),
}

/// What came of a [`Request`].
pub enum Outcome {
    Metadata(Facts),
    Data(Reading),
    Root,
    Page(Page),
    Failed(Fault),
}

/// Why a request failed, as far as the books care.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub kind: FaultKind,
    /// One stable sentence for people.
    pub message: String,
    pub retry_after: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// A not-found of OKMS's Secret Manager itself, and of nothing else.
    NotFound,
    Refused,
    RateLimited,
    Unavailable,
    Tls,
    TooLarge,
    Unexpected,
}

/// What the driver has to do now.
#[derive(Debug, Default)]
pub struct Todo {
    pub requests: Vec<Request>,
    pub wakes: Vec<ObjectId>,
    /// The store's standing changed: its status is to be written.
    pub store_changed: bool,
    /// When to poll again at the latest.
    pub next: Option<Instant>,
}

/// The rates and limits of one store.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    pub requests_per_second: f64,
    pub concurrent_requests: usize,
    pub withdrawals: WithdrawalLimit,
}

/// The books of one store.
pub struct Ledger {
    opened: Instant,
    timing: Timing,
    limits: Limits,
    objects: HashMap<ObjectId, Object>,
    entries: BTreeMap<Source, Entry>,
    timers: BTreeSet<(Instant, Timer)>,
    lanes: Lanes,
    shares: Shares,
    budget: Budget,
    /// The memory that values of this store take.
    account: Account,
    /// The values that somebody was woken for.
    lead: Lead,
    /// How many objects have a target that was made from this store.
    targets: Targets,
    /// The sources for which memory is set aside, and when it was last looked for what is left over there.
    asides: BTreeSet<Source>,
    reclaimed: Option<Instant>,
    breaker: Breaker,
    walks: Walks,
    withdrawals: Withdrawals,
    flights: HashMap<u64, Flight>,
    next_ticket: u64,
    todo: Todo,
    /// The candidate credential of this number proved itself, and nobody has been told yet.
    promoted: Option<u64>,
    /// What the store's status was last told of the budget.
    throttled: Option<Duration>,
    /// What it was last told of the way that checks go.
    told_checks: Checks,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// A source is due to be checked, or a failed request for it to be made again.
    Due(Source),
    /// A value may not be kept any longer.
    Expire(Source),
    /// An object may have become stale.
    Stale(ObjectId),
}

/// A request under way.
struct Flight {
    started: Instant,
    /// On whose behalf; absent: the store's own probe.
    namespace: Option<Arc<str>>,
    /// The number of the credential in use then.
    credential: u64,
    /// Whether the answer may hold a value.
    data: bool,
    purpose: Purpose,
}

enum Purpose {
    /// The metadata of a path, for every source that has it; or data in place of metadata, for one source.
    Check(Source),
    Read(Source),
    /// The next page of the walk of this number.
    Page(u64),
    Probe,
}

impl Ledger {
    /// Opens the books of a store. `before` is what the cluster remembers of its withdrawals, `account` its part of what all stores share.
    pub fn new(now: Now, limits: Limits, timing: Timing, before: Before, account: Account) -> Self {
        Self {
            shares: Shares::new(limits.requests_per_second),
            budget: Budget::new(now.mono, limits.requests_per_second, limits.concurrent_requests),
            lead: Lead::new(account.room().clone()),
            account,
            walks: Walks::default(),
            withdrawals: Withdrawals::new(now, before),
            opened: now.mono,
            timing,
            limits,
            objects: HashMap::new(),
            entries: BTreeMap::new(),
            timers: BTreeSet::new(),
            lanes: Lanes::default(),
            targets: Targets::default(),
            asides: BTreeSet::new(),
            reclaimed: None,
            breaker: Breaker::default(),
            flights: HashMap::new(),
            next_ticket: 0,
            todo: Todo::default(),
            promoted: None,
            throttled: None,
            told_checks: Checks::Path(ByPath::Cheaper),
        }
    }

    /// The limits of the store changed.
    pub fn set_limits(&mut self, now: Now, limits: Limits) {
        if self.limits != limits {
            self.budget.change(now.mono, limits.requests_per_second, limits.concurrent_requests);
            self.shares.change(limits.requests_per_second);
            self.limits = limits;
        }
    }

    /// Takes what a reconcile wants and answers with what is known. Never waits.
    pub fn ask(&mut self, now: Now, ask: Ask) -> Answer {
        let id = ask.object.clone();
        self.enlist(now, ask);
        self.start_round_on_news(&id, None);
        self.rearm_stale(now, &id);
        let answer = self.evaluate(now, &id);
        let told = object::Told::of(&answer);
        let delivered = matches!(&answer, Answer::Known { findings, .. } if !object::has_trouble(findings));
        if let Some(object) = self.objects.get_mut(&id) {
            if let Some(round) = &mut object.round {
                round.delivered = delivered.then(|| round.delivered.unwrap_or(now.mono));
            }
            if told.is_some() {
                object.told = told;
            }
        }
        if !delivered {
            self.demand(now, &id);
        }
        answer
    }

    /// An object is looked at, whatever comes of that. Answers whether somebody was waited for.
    pub fn came(&mut self, id: &ObjectId) -> bool {
        let wishes = self.objects.get(id).into_iter().flat_map(|object| &object.wishes);
        // For each of them, not up to the first.
        wishes.filter(|wish| self.lead.came(&id.namespace, &wish.source)).count() > 0
    }

    /// Whether OKMS was not asked yet for what an object waits for, because others are to be written first.
    pub fn holds_back(&self, id: &ObjectId) -> bool {
        let waits = |wish: &Wish| self.lanes.waits(&id.namespace, &wish.source, Lane::Change);
        let is_ahead = self.account.room().is_ahead() && self.lead.waits(&id.namespace);
        let object = self.objects.get(id).filter(|_| is_ahead);
        object.is_some_and(|object| object.wishes.iter().any(waits))
    }

    /// Asks for leave to delete (or empty) the target of an object because its source was withdrawn.
    pub fn admit_withdrawal(&mut self, now: Now, id: &ObjectId, was_held: bool) -> Admission {
        let admission = self.withdrawals.admit(now, id, was_held, self.limits.withdrawals, &self.targets);
        self.todo.store_changed |= self.withdrawals.take_changed();
        admission
    }

    /// The source of an object is not withdrawn, or not any more.
    pub fn clear_withdrawal(&mut self, id: &ObjectId) {
        self.withdrawals.forget(id);
        self.todo.store_changed |= self.withdrawals.take_changed();
    }

    /// Somebody confirmed the held withdrawals with this id.
    pub fn confirm_withdrawals(&mut self, id: &str) {
        let confirmed = self.withdrawals.confirm(id);
        self.todo.wakes.extend(confirmed);
        self.todo.store_changed |= self.withdrawals.take_changed();
    }

    /// The id and number of held withdrawals.
    pub fn held_withdrawals(&self) -> Option<(String, usize)> {
        self.withdrawals.held()
    }

    pub fn health(&self) -> &Health {
        &self.breaker.health
    }

    /// Why the newest credential is not used, while an older one still is.
    pub fn rejected_candidate(&self) -> Option<&StoreTrouble> {
        self.breaker.rejected.as_ref()
    }

    /// The longest interval that asked ones are stretched to, when a namespace asks for more than the budget gives it.
    pub fn throttled_to(&self) -> Option<Duration> {
        let of_walks = self.walks.plan().filter(|plan| plan.every > plan.shortest).map(|plan| plan.every);
        let floor = self.shares.longest_floor().max(of_walks.unwrap_or_default());
        // In steps, so that not every new source is a new message.
        let steps = floor.as_secs_f64() / THROTTLE_STEP.as_secs_f64();
        (floor > Duration::ZERO).then(|| THROTTLE_STEP.mul_f64(steps.ceil()))
    }

    /// Whether a new credential waits to be proven, and has not failed yet.
    pub fn is_proving(&self) -> bool {
        self.breaker.is_proving()
    }

    /// How many sources are in which state, and when the one was last checked that waits longest; nobody waits where nobody asks for an
    /// interval.
    pub fn sources(&self) -> (BTreeMap<&'static str, usize>, Option<Instant>) {
        let mut states = BTreeMap::new();
        for entry in self.entries.values() {
            *states.entry(entry.state()).or_default() += 1;
        }
        let checked = self.entries.values().filter(|entry| entry.shortest_interval().is_some());
        (states, checked.filter_map(|entry| entry.checked).min())
    }

    /// Has the store's status told when the budget begins or ceases to hold what is asked of it, and when checks go another way.
    fn watch_standing(&mut self) {
        self.shares.divide();
        let (throttled, checks) = (self.throttled_to(), self.checks());
        self.todo.store_changed |= throttled != self.throttled || checks != self.told_checks;
        (self.throttled, self.told_checks) = (throttled, checks);
    }

    /// A source is not checked more often than this.
    fn floor_of_entry(&self, entry: &Entry) -> Duration {
        match self.walks.plan().filter(|_| self.is_covered(entry)) {
            Some(plan) => plan.every,
            None => entry.payer().map_or(Duration::ZERO, |payer| self.shares.floor(payer)),
        }
    }

    /// No source of these is checked more often than this.
    fn floor_of<'a>(&self, sources: impl Iterator<Item = &'a Source>) -> Duration {
        let entries = sources.filter_map(|source| self.entries.get(source));
        entries.map(|entry| self.floor_of_entry(entry)).max().unwrap_or_default()
    }

    /// The interval in force for an object, if it is checked by itself.
    fn effective_interval(&self, object: &Object) -> Option<Duration> {
        let floor = self.floor_of(object.wishes.iter().map(|wish| &wish.source));
        object.interval.map(|asked| asked.max(floor))
    }

    /// How long an object may stand on its last good check.
    fn staleness_bound(&self, object: &Object) -> Option<Duration> {
        self.effective_interval(object).map(|interval| self.timing.staleness_floor.max(interval * 3))
    }
}
