//! The books of one store: what is wanted, when it is due, what was last seen, and what to ask OKMS next.
//!
//! A state machine without I/O: it is fed with [`Ask`]s of reconciles and with [`Outcome`]s of requests, `now` is an argument, and
//! [`Ledger::poll`] answers with the requests to start and the objects to wake. It never sleeps, never reads a clock and never
//! calls anybody, so that every order of events can be tested.
//!
//! * [`object`] is the state of an `OkmsSecret`: its sources, the round it waits for, what it was last told;
//! * [`entry`] is the state of a source: what was last seen, when it is due, the value that somebody waits for;
//! * [`breaker`] decides whether a failure is the store's or one path's, by asking the probe;
//! * [`lanes`] and [`budget`] give the order and the rate, [`withdrawals`] the limit on deletions.

mod breaker;
mod budget;
mod entry;
mod lanes;
mod object;
mod outcomes;
mod readings;
mod requests;
#[cfg(test)]
mod tests;
mod timing;
mod withdrawals;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use self::{
    breaker::Breaker,
    budget::Budget,
    entry::Entry,
    lanes::Lanes,
    object::{Object, Round},
    withdrawals::Withdrawals,
};
use crate::model::{Facts, Finding, Mark, Path, Reading, Source, StoreTrouble, Version};

pub use self::{
    breaker::Health,
    lanes::Lane,
    timing::Timing,
    withdrawals::{Admission, WithdrawalLimit},
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
}

/// What came of a [`Request`].
pub enum Outcome {
    Metadata(Facts),
    Data(Reading),
    Root,
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
    timing: Timing,
    limits: Limits,
    objects: HashMap<ObjectId, Object>,
    entries: BTreeMap<Source, Entry>,
    timers: BTreeSet<(Instant, Timer)>,
    lanes: Lanes,
    budget: Budget,
    breaker: Breaker,
    withdrawals: Withdrawals,
    flights: HashMap<u64, Flight>,
    next_ticket: u64,
    todo: Todo,
    /// The candidate credential of this number proved itself, and nobody has been told yet.
    promoted: Option<u64>,
    /// What the store's status was last told of the budget, and for which floor of the intervals that was worked out.
    throttled: (Duration, Option<Duration>),
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
    Probe,
}

impl Ledger {
    /// Opens the books of a store. `withdrawn` are the withdrawals of the last hour as the cluster remembers them.
    pub fn new(now: Now, limits: Limits, timing: Timing, withdrawn: usize) -> Self {
        Self {
            budget: Budget::new(now.mono, limits.requests_per_second, limits.concurrent_requests),
            withdrawals: Withdrawals::new(now.mono, withdrawn),
            timing,
            limits,
            objects: HashMap::new(),
            entries: BTreeMap::new(),
            timers: BTreeSet::new(),
            lanes: Lanes::default(),
            breaker: Breaker::default(),
            flights: HashMap::new(),
            next_ticket: 0,
            todo: Todo::default(),
            promoted: None,
            throttled: (Duration::ZERO, None),
        }
    }

    /// The limits of the store changed.
    pub fn set_limits(&mut self, now: Now, limits: Limits) {
        if self.limits != limits {
            self.budget.change(now.mono, limits.requests_per_second, limits.concurrent_requests);
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
                round.delivered = delivered;
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

    /// The reconcile acted on what it was told: values that it waited for are not needed any more. `held` is what the target is
    /// made from now, for each source.
    pub fn settle(&mut self, id: &ObjectId, held: &[Option<Mark>]) {
        let Some(object) = self.objects.get_mut(id) else { return };
        // What was not answered yet is still waited for: the object was told of a failure, and kept what it has.
        object.round.take_if(|round| round.delivered);
        for (wish, held) in object.wishes.iter_mut().zip(held) {
            wish.held = *held;
        }
        let sources: Vec<Source> = object.wishes.iter().map(|wish| wish.source.clone()).collect();
        for source in sources {
            self.release(&source);
        }
    }

    /// The object is gone, suspended, or reads from another store now. Answers whether it was known.
    pub fn forget(&mut self, id: &ObjectId) -> bool {
        self.clear_withdrawal(id);
        self.remove(id)
    }

    fn remove(&mut self, id: &ObjectId) -> bool {
        let Some(object) = self.objects.remove(id) else { return false };
        if let Some(moment) = object.watched {
            self.timers.remove(&(moment, Timer::Stale(id.clone())));
        }
        for wish in object.wishes {
            self.leave(id, &wish.source);
        }
        true
    }

    /// Forgets every object whose uid is not among the living.
    pub fn retain(&mut self, live: &HashSet<Arc<str>>) {
        let gone: Vec<ObjectId> = self.objects.keys().filter(|id| !live.contains(&id.uid)).cloned().collect();
        for id in gone {
            self.forget(&id);
        }
    }

    /// Asks for leave to delete (or empty) the target of an object because its source was withdrawn.
    pub fn admit_withdrawal(&mut self, now: Now, id: &ObjectId, was_held: bool) -> Admission {
        let targets = self.objects.values().filter(|object| object.has_target()).count();
        let admission = self.withdrawals.admit(now.mono, id, was_held, self.limits.withdrawals, targets);
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

    /// The interval that the budget can hold, when the number of sources asks for more than it gives.
    pub fn throttled_to(&self) -> Option<Duration> {
        let floor = self.interval_floor();
        let asked = self.objects.values().filter_map(|object| object.interval).min()?;
        // In steps, so that not every new source is a new message.
        let steps = floor.as_secs_f64() / THROTTLE_STEP.as_secs_f64();
        (floor > asked).then(|| THROTTLE_STEP.mul_f64(steps.ceil()))
    }

    /// The interval in force for an asked one.
    fn effective_interval(&self, asked: Duration) -> Duration {
        asked.max(self.interval_floor())
    }

    /// Whether a new credential waits to be proven.
    pub fn is_proving(&self) -> bool {
        self.breaker.has_candidate()
    }

    /// How many sources are in which state, and when the one that waits longest was last checked.
    pub fn sources(&self) -> (BTreeMap<&'static str, usize>, Option<Instant>) {
        let mut states = BTreeMap::new();
        for entry in self.entries.values() {
            *states.entry(entry.state()).or_default() += 1;
        }
        (states, self.entries.values().filter_map(|entry| entry.checked).min())
    }

    /// Has the store's status told when the budget begins or ceases to hold what is asked of it.
    fn watch_throttle(&mut self) {
        let floor = Duration::from_secs(self.interval_floor().as_secs());
        if floor != self.throttled.0 {
            let throttled = self.throttled_to();
            self.todo.store_changed |= throttled != self.throttled.1;
            self.throttled = (floor, throttled);
        }
    }

    /// Three quarters of the rate serve routine checks; the rest is kept for what people wait for.
    fn interval_floor(&self) -> Duration {
        #[expect(clippy::cast_precision_loss, reason = "a number of sources is far below 2^52")]
        let paths = self.entries.len() as f64;
        Duration::from_secs_f64(paths / (0.75 * self.limits.requests_per_second))
    }

    /// How long an object may stand on its last good check.
    fn staleness_bound(&self, interval: Duration) -> Duration {
        self.timing.staleness_floor.max(self.effective_interval(interval) * 3)
    }

    fn enlist(&mut self, now: Now, ask: Ask) {
        let Ask { object: id, generation, refresh, sources, need, interval, lane } = ask;
        let known = self.objects.get(&id);
        let refreshed = known.map_or(refresh > 0, |object| object.refresh != refresh);
        let changed = known.is_none_or(|object| object.generation != generation || !object.same_sources(&sources));
        if changed {
            self.remove(&id);
            // What somebody changed is checked anew; what merely starts is content with the check that others on the path got, if
            // that is not older than it would itself let one become.
            let recent = interval.unwrap_or(self.timing.staleness_floor).min(self.timing.staleness_floor);
            let since = match need {
                _ if refreshed => Some(now.mono),
                Need::Data => Some(now.mono),
                Need::Check => now.mono.checked_sub(self.effective_interval(recent)),
            };
            let round = Some(Round { since, data: need == Need::Data, delivered: false });
            let object = Object {
                generation,
                refresh,
                wishes: sources,
                interval,
                lane,
                enlisted: now.mono,
                round,
                told: None,
                watched: None,
            };
            for wish in &object.wishes {
                let entry = self.entries.entry(wish.source.clone()).or_default();
                entry.users.insert(id.clone());
            }
            self.objects.insert(id.clone(), object);
        } else if let Some(object) = self.objects.get_mut(&id) {
            object.wishes = sources;
            object.interval = interval;
            object.lane = lane;
            if refreshed {
                // What is known of the sources stays known, but does not count for this.
                let data = object.round.is_some_and(|round| round.data);
                object.refresh = refresh;
                object.told = None;
                object.round = Some(Round { since: Some(now.mono), data, delivered: false });
            }
            match &mut object.round {
                Some(round) => round.data |= need == Need::Data,
                None if need == Need::Data => {
                    object.round = Some(Round { since: Some(now.mono), data: true, delivered: false });
                }
                None => {}
            }
        }
        self.hasten(&id);
    }

    /// Brings the next check of a source forward, where this object wants it sooner than whoever was there before.
    fn hasten(&mut self, id: &ObjectId) {
        let Some(object) = self.objects.get(id) else { return };
        let Some(interval) = object.interval.map(|asked| self.effective_interval(asked)) else { return };
        let sources: Vec<Source> = object.wishes.iter().map(|wish| wish.source.clone()).collect();
        for source in sources {
            let Some(entry) = self.entries.get(&source) else { continue };
            let Some(due) = entry.checked.map(|checked| checked + interval) else { continue };
            // What needs a person, or failed, has waits of its own.
            if entry.due.is_none() || (!entry.waits() && entry.due.is_some_and(|old| due < old)) {
                self.schedule(&source, Some(due));
            }
        }
    }

    fn leave(&mut self, id: &ObjectId, source: &Source) {
        if let Some(entry) = self.entries.get_mut(source) {
            entry.users.remove(id);
            if entry.users.is_empty() {
                self.schedule(source, None);
                self.entries.remove(source);
                return;
            }
        }
        self.release(source);
    }

    /// Drops the value of a source once nobody waits for it.
    fn release(&mut self, source: &Source) {
        let Some(entry) = self.entries.get(source).filter(|entry| entry.value.is_some()) else { return };
        let awaited =
            entry.users.iter().any(|id| self.objects.get(id).is_some_and(|object| object.round_with_data().is_some()));
        if !awaited && let Some(entry) = self.entries.get_mut(source) {
            entry.value = None;
        }
    }
}
