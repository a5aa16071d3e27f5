//! Fault injection: what goes wrong, for which requests, how often.
//!
//! Decides only; the answers, pauses and resets happen in `exchange` and `watch`. What is left to chance comes from a seed.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::request::{Asked, Verb};

/// What goes wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FaultKind {
    /// A pause before the request goes on. It arrives at the API server even if whoever sent it has given up meanwhile.
    Delay(Duration),
    /// A refusal, as the API server words it; nothing takes effect.
    Status {
        code: u16,
        /// In seconds, in the header `Retry-After` and in the body.
        retry_after: Option<u32>,
    },
    /// No answer, for as long as the connection lasts; nothing takes effect.
    Hang,
    /// The connection is reset; nothing took effect.
    ResetBeforeEffect,
    /// The request takes effect, then the connection is reset.
    ResetAfterEffect,
    /// The connection of a watch is reset after so many events.
    CutWatch { after: usize },
    /// A watch is told, after so many events, that what it goes on from is too old (410), and ends.
    ExpireWatch { after: usize },
}

/// Which requests are meant: all, but for what is said.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Matching {
    verbs: Vec<Verb>,
    resource: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
    agent: Option<String>,
}

impl Matching {
    pub fn verbs(verbs: &[Verb]) -> Self {
        Self { verbs: verbs.to_vec(), ..Self::default() }
    }

    pub fn reads() -> Self {
        Self::verbs(&Verb::READS)
    }

    pub fn writes() -> Self {
        Self::verbs(&Verb::WRITES)
    }

    pub fn watches() -> Self {
        Self::verbs(&[Verb::Watch])
    }

    /// As RBAC spells it, without its group: `secrets`, `okmssecrets/status`.
    #[must_use]
    pub fn of(mut self, resource: &str) -> Self {
        self.resource = Some(resource.to_owned());
        self
    }

    #[must_use]
    pub fn in_namespace(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Whose user agent begins so.
    #[must_use]
    pub fn by(mut self, agent: &str) -> Self {
        self.agent = Some(agent.to_owned());
        self
    }

    pub(crate) fn meets(&self, asked: &Asked, agent: &str) -> bool {
        let is = |wanted: &Option<String>, it: &str| wanted.as_ref().is_none_or(|wanted| wanted == it);
        (self.verbs.is_empty() || self.verbs.contains(&asked.verb))
            && is(&self.resource, &asked.resource)
            && is(&self.namespace, &asked.namespace)
            && is(&self.name, &asked.name)
            && self.agent.as_ref().is_none_or(|wanted| agent.starts_with(wanted))
    }
}

/// A fault with its limits. Without limits it hits every request until it is cleared.
#[derive(Clone, PartialEq, Debug)]
pub struct Fault {
    pub kind: FaultKind,
    pub matching: Matching,
    /// How many requests it hits; then it is gone.
    pub times: Option<u32>,
    /// Which share of the requests it hits, from 0 to 1.
    pub share: f64,
    /// How long it lasts from when it was set.
    pub lasting: Option<Duration>,
}

impl Fault {
    pub fn new(kind: FaultKind) -> Self {
        Self { kind, matching: Matching::default(), times: None, share: 1.0, lasting: None }
    }

    pub fn status(code: u16) -> Self {
        Self::new(FaultKind::Status { code, retry_after: None })
    }

    /// A status with the header `Retry-After`, in seconds.
    pub fn status_retry_after(code: u16, retry_after: u32) -> Self {
        Self::new(FaultKind::Status { code, retry_after: Some(retry_after) })
    }

    pub fn delay(by: Duration) -> Self {
        Self::new(FaultKind::Delay(by))
    }

    /// Only these requests.
    #[must_use]
    pub fn hitting(mut self, matching: Matching) -> Self {
        self.matching = matching;
        self
    }

    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// Only so many of them, by chance: from 0 to 1.
    #[must_use]
    pub fn share(mut self, share: f64) -> Self {
        self.share = share.clamp(0.0, 1.0);
        self
    }

    #[must_use]
    pub fn lasting(mut self, duration: Duration) -> Self {
        self.lasting = Some(duration);
        self
    }
}

/// The name of a fault that is set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FaultId(u64);

/// In place of the API server's answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Instead {
    Status { code: u16, retry_after: Option<u32> },
    Hang,
    ResetBeforeEffect,
    ResetAfterEffect,
}

/// How a watch ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// With a reset of its connection.
    Cut,
    /// With a 410 in the stream.
    Expired,
}

/// What happens to one request. Pauses add up; of what is mutually exclusive, the fault set first wins.
#[derive(Default, PartialEq, Debug)]
pub(crate) struct Plan {
    pub(crate) hit_by: Vec<FaultId>,
    pub(crate) delay: Duration,
    pub(crate) instead: Option<Instead>,
    /// Of a watch: how it ends, after how many events.
    pub(crate) end: Option<(End, usize)>,
}

impl Plan {
    /// Whether the fault has a part in the plan.
    fn add(&mut self, kind: &FaultKind) -> bool {
        let instead = match *kind {
            FaultKind::Delay(by) => {
                self.delay += by;
                return true;
            }
            FaultKind::CutWatch { after } => return take(&mut self.end, (End::Cut, after)),
            FaultKind::ExpireWatch { after } => return take(&mut self.end, (End::Expired, after)),
            FaultKind::Status { code, retry_after } => Instead::Status { code, retry_after },
            FaultKind::Hang => Instead::Hang,
            FaultKind::ResetBeforeEffect => Instead::ResetBeforeEffect,
            FaultKind::ResetAfterEffect => Instead::ResetAfterEffect,
        };
        take(&mut self.instead, instead)
    }
}

fn take<T>(place: &mut Option<T>, what: T) -> bool {
    let free = place.is_none();
    place.get_or_insert(what);
    free
}

struct Set {
    id: FaultId,
    fault: Fault,
    until: Option<Instant>,
}

/// The faults that are set, oldest first.
pub(crate) struct Faults {
    next: u64,
    set: Vec<Set>,
    chance: StdRng,
}

impl Faults {
    pub(crate) fn new(seed: u64) -> Self {
        Self { next: 0, set: Vec::new(), chance: StdRng::seed_from_u64(seed) }
    }

    pub(crate) fn add(&mut self, fault: Fault, now: Instant) -> FaultId {
        self.next += 1;
        let id = FaultId(self.next);
        let until = fault.lasting.map(|lasting| now + lasting);
        self.set.push(Set { id, fault, until });
        id
    }

    /// Whether it was still there.
    pub(crate) fn remove(&mut self, id: FaultId) -> bool {
        let before = self.set.len();
        self.set.retain(|set| set.id != id);
        self.set.len() < before
    }

    pub(crate) fn clear(&mut self) {
        self.set.clear();
    }

    pub(crate) fn list(&self) -> Vec<(FaultId, Fault)> {
        self.set.iter().map(|set| (set.id, set.fault.clone())).collect()
    }

    /// What happens to this request; counts it against the faults that hit it.
    pub(crate) fn take(&mut self, asked: &Asked, agent: &str, now: Instant) -> Plan {
        let mut plan = Plan::default();
        self.set.retain(|set| set.until.is_none_or(|until| now < until));
        for set in &mut self.set {
            let fault = &mut set.fault;
            let concerned = match fault.kind {
                FaultKind::CutWatch { .. } | FaultKind::ExpireWatch { .. } => asked.verb == Verb::Watch,
                _ => true,
            };
            let hit = fault.times != Some(0)
                && concerned
                && fault.matching.meets(asked, agent)
                && (fault.share >= 1.0 || self.chance.random_bool(fault.share));
            if hit && plan.add(&fault.kind) {
                plan.hit_by.push(set.id);
                fault.times = fault.times.map(|times| times - 1);
            }
        }
        self.set.retain(|set| set.fault.times != Some(0));
        plan
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    fn asked(method: &Method, path: &str) -> Asked {
        Asked::parse(method, path, "")
    }

    fn read() -> Asked {
        asked(&Method::GET, "/api/v1/namespaces/shop/secrets/db")
    }

    fn hits(faults: &mut Faults, asked: &Asked) -> bool {
        !faults.take(asked, "agent/1", Instant::now()).hit_by.is_empty()
    }

    #[test]
    fn a_fault_hits_its_count_of_matching_requests() {
        let mut faults = Faults::new(0);
        let matching = Matching::writes().of("secrets").in_namespace("shop").named("db").by("agent");
        faults.add(Fault::status(500).hitting(matching).times(1), Instant::now());
        let write = asked(&Method::PUT, "/api/v1/namespaces/shop/secrets/db");
        for other in [
            read(),
            asked(&Method::PUT, "/api/v1/namespaces/shop/configmaps/db"),
            asked(&Method::PUT, "/api/v1/namespaces/mine/secrets/db"),
            asked(&Method::PUT, "/api/v1/namespaces/shop/secrets/smtp"),
        ] {
            assert!(!hits(&mut faults, &other), "{other:?}");
        }
        assert!(faults.take(&write, "other/1", Instant::now()).hit_by.is_empty());
        assert!(hits(&mut faults, &write));
        assert!(!hits(&mut faults, &write));
        assert!(faults.list().is_empty());
    }

    #[test]
    fn the_first_answer_wins_and_the_second_keeps_its_count() {
        let mut faults = Faults::new(0);
        faults.add(Fault::status(500).times(1), Instant::now());
        faults.add(Fault::new(FaultKind::Hang).times(1), Instant::now());
        let first = faults.take(&read(), "", Instant::now());
        assert_eq!(first.instead, Some(Instead::Status { code: 500, retry_after: None }));
        assert_eq!(faults.take(&read(), "", Instant::now()).instead, Some(Instead::Hang));
    }

    #[test]
    fn a_fault_ends_with_its_time() {
        let mut faults = Faults::new(0);
        let start = Instant::now();
        faults.add(Fault::status(500).lasting(Duration::from_secs(1)), start);
        assert!(faults.take(&read(), "", start).instead.is_some());
        assert!(faults.take(&read(), "", start + Duration::from_secs(1)).instead.is_none());
    }

    #[test]
    fn a_share_is_the_same_for_the_same_seed() {
        let pattern = |seed| {
            let mut faults = Faults::new(seed);
            faults.add(Fault::status(500).share(0.5), Instant::now());
            (0..64).map(|_| hits(&mut faults, &read())).collect::<Vec<_>>()
        };
        assert_eq!(pattern(1), pattern(1));
        assert_ne!(pattern(1), pattern(2));
        let hit = pattern(1).into_iter().filter(|hit| *hit).count();
        assert!((16..48).contains(&hit), "{hit}");
    }
}
