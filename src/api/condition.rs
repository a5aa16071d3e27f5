//! Conditions: how a list of them is changed, and what the CRDs say of them.
//!
//! Nothing here reads a clock or decides what is true; reasons come from [`super::reason`].

use jiff::{Timestamp, Unit};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::{Schema, SchemaGenerator, json_schema};

/// The types of condition that the operator writes.
pub mod kind {
    /// Whether the object is what it promises to be. Always there once the operator saw the object.
    pub const READY: &str = "Ready";
    /// Work is under way. Exists only while True, and never beside [`STALLED`] (kstatus).
    pub const RECONCILING: &str = "Reconciling";
    /// A person has to act. Exists only while True, and never beside [`RECONCILING`] (kstatus).
    pub const STALLED: &str = "Stalled";
    /// On a store: the clock of OKMS is more than five minutes from the operator's. Exists only while True.
    pub const CLOCK_SKEWED: &str = "ClockSkewed";
    /// On a store: the client certificate ends in 30, 7 or 1 days. Exists only while True.
    pub const CREDENTIALS_EXPIRING: &str = "CredentialsExpiring";
    /// On a store: a changed credential is not used, and why. Exists only while True.
    pub const CREDENTIALS_REJECTED: &str = "CredentialsRejected";
    /// On a store: the budget cannot hold the intervals asked for. Exists only while True.
    pub const THROTTLED: &str = "Throttled";
    /// On a store: withdrawals wait to be confirmed. Exists only while True.
    pub const WITHDRAWAL_HELD: &str = "WithdrawalHeld";
}

/// The value of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    True,
    False,
    Unknown,
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// What a condition says, without the times that follow from what it said before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    pub status: Status,
    pub reason: &'static str,
    /// For people. Stable: no times, no request ids, no counters, no values of secrets.
    pub message: String,
}

/// What kstatus should show besides `Ready`. The type makes it impossible to claim both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Progress {
    /// Nothing more to do than to check again.
    Settled,
    Reconciling,
    Stalled,
}

/// Sets `Ready`, and beside it `Reconciling` or `Stalled` with the same reason and message, as `progress` says.
pub fn set_ready(
    conditions: &mut Vec<Condition>,
    ready: Statement,
    progress: Progress,
    generation: i64,
    now: Timestamp,
) {
    let beside = match progress {
        Progress::Settled => None,
        Progress::Reconciling => Some(kind::RECONCILING),
        Progress::Stalled => Some(kind::STALLED),
    };
    for other in [kind::RECONCILING, kind::STALLED] {
        if Some(other) == beside {
            let statement = Statement { status: Status::True, ..ready.clone() };
            set(conditions, other, statement, generation, now);
        } else {
            clear(conditions, other);
        }
    }
    set(conditions, kind::READY, ready, generation, now);
}

/// Sets one condition. `lastTransitionTime` moves only when the status does.
pub fn set(conditions: &mut Vec<Condition>, kind: &str, statement: Statement, generation: i64, now: Timestamp) {
    let mut next = Condition {
        type_: kind.to_owned(),
        status: statement.status.as_str().to_owned(),
        reason: statement.reason.to_owned(),
        message: statement.message,
        observed_generation: Some(generation),
        last_transition_time: time(now),
    };
    if let Some(old) = conditions.iter_mut().find(|condition| condition.type_ == kind) {
        if old.status == next.status {
            next.last_transition_time = old.last_transition_time.clone();
        }
        *old = next;
    } else {
        conditions.push(next);
        conditions.sort_by(|one, other| one.type_.cmp(&other.type_));
    }
}

/// Removes the condition of this type, if there is one.
pub fn clear(conditions: &mut Vec<Condition>, kind: &str) {
    conditions.retain(|condition| condition.type_ != kind);
}

/// The condition of this type.
pub fn find<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// A moment as statuses hold it, in whole seconds: what was written compares equal to what is read back.
pub fn time(now: Timestamp) -> Time {
    let seconds = jiff::TimestampRound::new().smallest(Unit::Second).mode(jiff::RoundMode::Trunc);
    Time(now.round(seconds).unwrap_or(now))
}

/// The schema of a list of conditions, with the limits that Kubernetes documents for them.
pub(super) fn schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "type": {
                    "type": "string", "maxLength": 316,
                    "description": "What the condition is about, such as Ready, Reconciling or Stalled.",
                },
                "status": {"type": "string", "enum": ["True", "False", "Unknown"], "description": "Whether it holds."},
                "observedGeneration": {
                    "type": "integer", "format": "int64", "minimum": 0,
                    "description": "The metadata.generation that the condition was set for.",
                },
                "lastTransitionTime": {
                    "type": "string", "format": "date-time", "description": "When the status last changed.",
                },
                "reason": {
                    "type": "string", "minLength": 1, "maxLength": 1024,
                    "description": "One word for why, for programs.",
                },
                "message": {
                    "type": "string", "maxLength": 32768,
                    "description": "What happened and what to do about it, for people.",
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn statement(status: Status, reason: &'static str) -> Statement {
        Statement { status, reason, message: format!("because of {reason}") }
    }

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let mut conditions = Vec::new();
        set(&mut conditions, kind::READY, statement(Status::False, "Progressing"), 1, at(10));
        set(&mut conditions, kind::READY, statement(Status::False, "Forbidden"), 2, at(20));
        let ready = find(&conditions, kind::READY).unwrap();
        assert_eq!((ready.last_transition_time.0, ready.observed_generation), (at(10), Some(2)));
        assert_eq!((ready.reason.as_str(), ready.message.as_str()), ("Forbidden", "because of Forbidden"));

        set(&mut conditions, kind::READY, statement(Status::True, "Synced"), 2, at(30));
        assert_eq!(find(&conditions, kind::READY).unwrap().last_transition_time.0, at(30));
    }

    #[test]
    fn reconciling_and_stalled_exist_only_while_true_and_never_together() {
        let mut conditions = Vec::new();
        let types = |conditions: &[Condition]| conditions.iter().map(|c| c.type_.clone()).collect::<Vec<_>>();

        set_ready(&mut conditions, statement(Status::False, "Progressing"), Progress::Reconciling, 1, at(1));
        assert_eq!(types(&conditions), ["Ready", "Reconciling"]);
        assert_eq!(find(&conditions, kind::RECONCILING).unwrap().status, "True");

        set_ready(&mut conditions, statement(Status::False, "Forbidden"), Progress::Stalled, 1, at(2));
        assert_eq!(types(&conditions), ["Ready", "Stalled"]);
        assert_eq!(find(&conditions, kind::STALLED).unwrap().reason, "Forbidden");

        set_ready(&mut conditions, statement(Status::True, "Synced"), Progress::Settled, 1, at(3));
        assert_eq!(types(&conditions), ["Ready"]);
    }

    #[test]
    fn setting_the_same_again_changes_nothing() {
        let mut conditions = Vec::new();
        set_ready(&mut conditions, statement(Status::False, "Forbidden"), Progress::Stalled, 1, at(1));
        let before = conditions.clone();
        set_ready(&mut conditions, statement(Status::False, "Forbidden"), Progress::Stalled, 1, at(2));
        assert_eq!(conditions, before);
    }

    #[test]
    fn a_written_time_compares_equal_when_read_back() {
        let written = time(Timestamp::new(100, 999_999_999).unwrap());
        let read: Time = serde_json::from_str(&serde_json::to_string(&written).unwrap()).unwrap();
        assert_eq!(read, written);
    }
}
