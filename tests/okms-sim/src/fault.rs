//! Fault injection: what goes wrong, for which requests, how often.
//!
//! Decides only; the answers, pauses and resets happen in `exchange`. Faults are looked at before anything else, also
//! before authentication: what stands in front of OKMS knows neither identities nor secrets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::path::PathPattern;
use crate::store::Store;
use crate::wire::Operation;

/// What goes wrong. Durations are milliseconds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum FaultKind {
    /// An `ErrorResponse` of this status; nothing takes effect.
    Status {
        status: u16,
        /// The header `Retry-After`: seconds or an HTTP date, sent as it stands.
        #[serde(default)]
        retry_after: Option<String>,
    },
    /// A pause before the request is handled.
    Latency { milliseconds: u64 },
    /// The body comes in pieces, spread over this time.
    SlowBody { milliseconds: u64 },
    /// The connection is reset; nothing took effect.
    ResetBeforeEffect,
    /// The request takes effect, then the connection is reset.
    ResetAfterEffect,
    /// Half of the body arrives, then the connection ends.
    TruncatedBody,
    /// A proxy's 502 page in HTML.
    HtmlBadGateway,
    /// 404 with the code of an unknown domain.
    DomainNotFound,
    /// Reads show the secret as it was so many versions ago.
    StaleReads { versions_back: u32 },
    /// Reads show everything as it was when the fault was set.
    FrozenReads,
    /// Writes fail with 503, reads work: OKMS after a fail-over.
    ReadOnly,
    /// Any answer at all. Headers such as `content-type` are sent as given.
    Answer {
        status: u16,
        #[serde(default)]
        headers: BTreeMap<String, String>,
        body: String,
    },
}

impl FaultKind {
    const fn concerns(&self, operation: Operation) -> bool {
        match self {
            Self::StaleReads { .. } | Self::FrozenReads => operation.is_read(),
            Self::ReadOnly => operation.is_write(),
            _ => true,
        }
    }
}

/// A fault with its limits. Without limits it hits every request until it is cleared.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fault {
    pub kind: FaultKind,
    /// Only requests on these paths; requests without a path are then spared.
    #[serde(default)]
    pub path: Option<PathPattern>,
    /// Only these operations; empty: all.
    #[serde(default)]
    pub operations: Vec<Operation>,
    /// Only this domain.
    #[serde(default)]
    pub okms_id: Option<Uuid>,
    /// How many requests it hits; then it is gone.
    #[serde(default)]
    pub times: Option<u32>,
}

impl Fault {
    pub const fn new(kind: FaultKind) -> Self {
        Self { kind, path: None, operations: Vec::new(), okms_id: None, times: None }
    }

    pub const fn status(status: u16) -> Self {
        Self::new(FaultKind::Status { status, retry_after: None })
    }

    /// A status with the header `Retry-After`.
    pub fn status_retry_after(status: u16, retry_after: impl Into<String>) -> Self {
        Self::new(FaultKind::Status { status, retry_after: Some(retry_after.into()) })
    }

    pub fn latency(by: Duration) -> Self {
        Self::new(FaultKind::Latency { milliseconds: milliseconds(by) })
    }

    pub fn slow_body(over: Duration) -> Self {
        Self::new(FaultKind::SlowBody { milliseconds: milliseconds(over) })
    }

    pub const fn stale_reads(versions_back: u32) -> Self {
        Self::new(FaultKind::StaleReads { versions_back })
    }

    /// An answer of `content_type` in place of the real one.
    pub fn answer(status: u16, content_type: &str, body: impl Into<String>) -> Self {
        Self::new(FaultKind::Answer {
            status,
            headers: BTreeMap::from([("content-type".to_owned(), content_type.to_owned())]),
            body: body.into(),
        })
    }

    /// Only requests on paths of this pattern: `x/y`, `x/*` or `*`.
    #[must_use]
    pub fn on_path(mut self, pattern: &str) -> Self {
        self.path = Some(PathPattern::new(pattern));
        self
    }

    #[must_use]
    pub fn on(mut self, operations: &[Operation]) -> Self {
        self.operations = operations.to_vec();
        self
    }

    #[must_use]
    pub const fn in_domain(mut self, okms_id: Uuid) -> Self {
        self.okms_id = Some(okms_id);
        self
    }

    #[must_use]
    pub const fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The name of a fault that is set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FaultId(u64);

impl From<u64> for FaultId {
    /// From what the admin port printed.
    fn from(id: u64) -> Self {
        Self(id)
    }
}

/// When a connection is reset.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reset {
    BeforeEffect,
    AfterEffect,
}

/// An answer given in place of the real one.
pub(crate) enum Canned {
    Status { status: u16, retry_after: Option<String> },
    HtmlBadGateway,
    DomainNotFound,
    Answer { status: u16, headers: BTreeMap<String, String>, body: String },
}

/// What happens to one request. Pauses add up; of answers and resets, the fault set first wins.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) latency: Duration,
    pub(crate) canned: Option<Canned>,
    pub(crate) reset: Option<Reset>,
    pub(crate) slow_body: Option<Duration>,
    pub(crate) truncated: bool,
    pub(crate) versions_back: Option<u32>,
    pub(crate) frozen: Option<Arc<Snapshot>>,
}

/// The stores of all domains at one moment.
pub(crate) type Snapshot = BTreeMap<Uuid, Store>;

struct Set {
    id: FaultId,
    fault: Fault,
    frozen: Option<Arc<Snapshot>>,
}

/// The faults that are set, oldest first.
#[derive(Default)]
pub(crate) struct Faults {
    next: u64,
    set: Vec<Set>,
}

impl Faults {
    pub(crate) fn add(&mut self, fault: Fault, frozen: Option<Arc<Snapshot>>) -> FaultId {
        self.next += 1;
        let id = FaultId(self.next);
        self.set.push(Set { id, fault, frozen });
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
    pub(crate) fn take(&mut self, okms_id: Option<Uuid>, operation: Operation, path: Option<&str>) -> Plan {
        let mut plan = Plan::default();
        for set in &mut self.set {
            let fault = &mut set.fault;
            let hit = fault.times != Some(0)
                && fault.kind.concerns(operation)
                && (fault.operations.is_empty() || fault.operations.contains(&operation))
                && (fault.okms_id.is_none() || fault.okms_id == okms_id)
                && fault.path.as_ref().is_none_or(|pattern| path.is_some_and(|path| pattern.matches(path)));
            if hit && plan.add(&fault.kind, set.frozen.as_ref()) {
                fault.times = fault.times.map(|times| times - 1);
            }
        }
        self.set.retain(|set| set.fault.times != Some(0));
        plan
    }
}

impl Plan {
    /// Whether the fault has a part in the plan.
    fn add(&mut self, kind: &FaultKind, frozen: Option<&Arc<Snapshot>>) -> bool {
        let decided = self.canned.is_some() || self.reset.is_some();
        match kind {
            FaultKind::Latency { milliseconds } => {
                self.latency += Duration::from_millis(*milliseconds);
            }
            FaultKind::SlowBody { milliseconds } => {
                let more = Duration::from_millis(*milliseconds);
                self.slow_body = Some(self.slow_body.unwrap_or_default() + more);
            }
            FaultKind::TruncatedBody => self.truncated = true,
            FaultKind::StaleReads { versions_back } => self.versions_back = Some(*versions_back),
            FaultKind::FrozenReads => self.frozen = frozen.cloned(),
            _ if decided => return false,
            FaultKind::ResetBeforeEffect => self.reset = Some(Reset::BeforeEffect),
            FaultKind::ResetAfterEffect => self.reset = Some(Reset::AfterEffect),
            FaultKind::HtmlBadGateway => self.canned = Some(Canned::HtmlBadGateway),
            FaultKind::DomainNotFound => self.canned = Some(Canned::DomainNotFound),
            FaultKind::ReadOnly => {
                self.canned = Some(Canned::Status { status: 503, retry_after: None });
            }
            FaultKind::Status { status, retry_after } => {
                self.canned = Some(Canned::Status { status: *status, retry_after: retry_after.clone() });
            }
            FaultKind::Answer { status, headers, body } => {
                self.canned = Some(Canned::Answer { status: *status, headers: headers.clone(), body: body.clone() });
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hit(faults: &mut Faults, operation: Operation, path: &str) -> bool {
        let plan = faults.take(None, operation, Some(path));
        plan.canned.is_some() || plan.reset.is_some()
    }

    #[test]
    fn a_fault_hits_its_count_of_matching_requests() {
        let mut faults = Faults::default();
        let fault = Fault::status(500).on_path("prod/*").on(&[Operation::GetSecretRequest]).times(1);
        faults.add(fault, None);
        assert!(!hit(&mut faults, Operation::GetSecretRequest, "test/a"));
        assert!(!hit(&mut faults, Operation::GetSecretsMetadata, "prod/a"));
        assert!(hit(&mut faults, Operation::GetSecretRequest, "prod/a"));
        assert!(!hit(&mut faults, Operation::GetSecretRequest, "prod/a"));
        assert!(faults.list().is_empty());
    }

    #[test]
    fn the_first_answer_wins_and_the_second_keeps_its_count() {
        let mut faults = Faults::default();
        faults.add(Fault::status(500).times(1), None);
        faults.add(Fault::new(FaultKind::ResetBeforeEffect).times(1), None);
        let first = faults.take(None, Operation::GetSecretRequest, None);
        assert!(first.canned.is_some() && first.reset.is_none());
        let second = faults.take(None, Operation::GetSecretRequest, None);
        assert!(second.reset == Some(Reset::BeforeEffect));
    }

    #[test]
    fn read_only_spares_reads() {
        let mut faults = Faults::default();
        faults.add(Fault::new(FaultKind::ReadOnly), None);
        assert!(!hit(&mut faults, Operation::GetSecretRequest, "a"));
        assert!(hit(&mut faults, Operation::PostSecretRequest, "a"));
    }
}
