//! The log: each request, what the API server said to it and what was answered.

use std::collections::VecDeque;
use std::time::Instant;

use crate::fault::{FaultId, Matching, Plan};
use crate::request::{Asked, Verb};

/// How many requests are remembered; the oldest are forgotten first. Some hundred bytes each.
const CAPACITY: usize = 1 << 18;

/// One request.
#[derive(Clone, Debug)]
pub struct Record {
    /// When it arrived.
    pub at: Instant,
    pub verb: Verb,
    /// As RBAC spells it, without its group: `secrets`, `okmssecrets/status`; empty for what is no resource.
    pub resource: String,
    /// Empty: none.
    pub namespace: String,
    /// Empty: none. That in the body, for what is created; the path, for what is no resource.
    pub name: String,
    pub dry_run: bool,
    pub agent: String,
    /// The faults that hit it.
    pub faults: Vec<FaultId>,
    /// What the API server said to it. Absent: nothing yet, or it was not asked, or it could not be reached.
    pub upstream: Option<u16>,
    /// What was answered, and when. Absent: nothing yet, or nothing ever, since the connection was reset, or given up.
    pub answered: Option<(u16, Instant)>,
}

impl Record {
    /// Whether the request changed something in the cluster.
    pub fn took_effect(&self) -> bool {
        self.verb.is_write() && !self.dry_run && self.upstream.is_some_and(|status| (200..300).contains(&status))
    }

    pub fn is(&self, matching: &Matching) -> bool {
        let Self { verb, resource, namespace, name, dry_run, agent, .. } = self.clone();
        matching.meets(&Asked { verb, resource, namespace, name, dry_run }, &agent)
    }
}

/// The name of a record.
#[derive(Clone, Copy)]
pub(crate) struct RecordId(usize);

#[derive(Default)]
pub(crate) struct Log {
    records: VecDeque<Record>,
    forgotten: usize,
}

impl Log {
    pub(crate) fn arrived(&mut self, asked: Asked, agent: String, plan: &Plan, at: Instant) -> RecordId {
        if self.records.len() == CAPACITY {
            self.records.pop_front();
            self.forgotten += 1;
        }
        let Asked { verb, resource, namespace, name, dry_run } = asked;
        let faults = plan.hit_by.clone();
        let (upstream, answered) = (None, None);
        self.records.push_back(Record {
            at,
            verb,
            resource,
            namespace,
            name,
            dry_run,
            agent,
            faults,
            upstream,
            answered,
        });
        RecordId(self.forgotten + self.records.len() - 1)
    }

    /// Changes a record, if it is remembered still.
    pub(crate) fn change(&mut self, id: RecordId, change: impl FnOnce(&mut Record)) {
        if let Some(record) = id.0.checked_sub(self.forgotten).and_then(|index| self.records.get_mut(index)) {
            change(record);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.forgotten += self.records.len();
        self.records.clear();
    }

    pub(crate) fn records(&mut self) -> &[Record] {
        self.records.make_contiguous()
    }
}
