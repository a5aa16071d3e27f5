//! Is it the store, or one path? A failure that could be either is decided by the store's probe, one per store.
//!
//! While the store is down nothing is asked but the probe. A credential that is to replace the one in use is proven by the same
//! probe first.

use std::time::Instant;

use super::{Call, Fault, FaultKind, Now, Timing};
use crate::model::{Path, Source, StoreTrouble, StoreTroubleKind};

/// Whether a store can be read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Health {
    /// Nothing was asked yet.
    #[default]
    Unproven,
    Ready,
    Down {
        trouble: StoreTrouble,
    },
}

#[derive(Default)]
pub(super) struct Breaker {
    pub health: Health,
    /// Why a candidate credential is not used while another one is.
    pub rejected: Option<StoreTrouble>,
    /// Failures whose cause the probe is to tell.
    pub suspects: Vec<Suspect>,
    /// The credential in use.
    current: Option<Probe>,
    /// The credential that is to be proven.
    candidate: Option<Probe>,
    /// How many credentials were proposed; the number of the last one.
    proposed: u64,
    /// The number of the credential in use; 0 while there is none.
    in_use: u64,
    /// The path whose metadata was last told, by itself or in the list.
    last_good: Option<Path>,
    /// When OKMS last answered well.
    last_answer: Option<Instant>,
}

pub(super) struct Suspect {
    pub source: Source,
    pub fault: Fault,
    pub started: Instant,
    pub failed: Instant,
    pub of_read: bool,
}

/// The probing of one credential.
#[derive(Default)]
struct Probe {
    /// When to probe next; absent: not needed.
    due: Option<Instant>,
    under_way: bool,
    failures: u32,
    /// OKMS asked for rest until then after the one under way had begun.
    rest: Option<Instant>,
}

/// What may be asked besides the probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passage {
    /// Nothing: the store is down, or not proven.
    Closed,
    /// The probe is finding out whether a failure is the store's. Until then nobody sends more than one request, so that a store that
    /// is down is spared, and one whose probe hangs delays nobody.
    InDoubt,
    Open,
}

/// What a finished probe means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Probed {
    /// It must be asked again, at the root.
    Undecided,
    /// The credential in use works.
    Works,
    /// The candidate works, and is the one in use from now on.
    Promoted,
    /// It does not work.
    Fails,
}

impl Breaker {
    /// A new credential is there, to be proven.
    pub fn propose(&mut self, now: Now) -> u64 {
        self.candidate = Some(Probe { due: Some(now.mono), ..Probe::default() });
        // What was said of its predecessor is not true of it.
        self.rejected = None;
        self.proposed += 1;
        self.proposed
    }

    /// There is no usable credential any more.
    pub fn disconnect(&mut self, trouble: StoreTrouble) {
        *self = Self {
            health: Health::Down { trouble },
            last_good: self.last_good.take(),
            proposed: self.proposed,
            ..Self::default()
        };
    }

    /// Whether there is no credential, for exactly this reason.
    pub fn is_disconnected_by(&self, trouble: &StoreTrouble) -> bool {
        let none = self.current.is_none() && self.candidate.is_none();
        none && matches!(&self.health, Health::Down { trouble: told } if told == trouble)
    }

    /// The credential that was to be proven is not usable at all; the one in use stays. Answers whether that is new.
    pub fn reject(&mut self, trouble: StoreTrouble) -> bool {
        let proving = self.candidate.take().is_some();
        let told = self.rejected.replace(trouble);
        proving || told != self.rejected
    }

    /// The number of the credential in use.
    pub fn in_use(&self) -> u64 {
        self.in_use
    }

    /// Whether the metadata of some path was told, by which a candidate can be proven.
    pub fn was_told_metadata(&self) -> bool {
        self.last_good.is_some()
    }

    pub fn is_connected(&self) -> bool {
        self.current.is_some()
    }

    /// Whether there is a candidate of which nothing is known yet.
    pub fn is_proving(&self) -> bool {
        self.candidate.as_ref().is_some_and(|probe| probe.failures == 0)
    }

    /// Whether requests other than the probe may be made.
    pub fn passage(&self) -> Passage {
        let probing = self.current.as_ref().is_some_and(|probe| probe.due.is_some() || probe.under_way);
        match (&self.health, probing) {
            (Health::Ready, false) => Passage::Open,
            (Health::Ready, true) => Passage::InDoubt,
            _ => Passage::Closed,
        }
    }

    /// OKMS told the metadata of this path.
    pub fn answered(&mut self, now: Now, path: &Path) {
        self.last_good = Some(path.clone());
        self.heard(now);
    }

    /// The list told the metadata of this path: who may see it there may ask for it.
    pub fn listed(&mut self, path: &Path) {
        self.last_good = Some(path.clone());
    }

    /// OKMS answered well.
    pub fn heard(&mut self, now: Now) {
        self.last_answer = Some(now.mono);
    }

    /// Whether OKMS has answered well since.
    pub fn worked_since(&self, moment: Instant) -> bool {
        self.health == Health::Ready && self.last_answer.is_some_and(|answer| answer >= moment)
    }

    /// Has the probe tell whether the store works.
    pub fn suspect(&mut self, now: Now, suspect: Suspect) {
        if self.last_good.as_ref() == Some(&suspect.source.path) {
            self.last_good = None;
        }
        let known = |other: &Suspect| other.source == suspect.source && other.of_read == suspect.of_read;
        if !self.suspects.iter().any(known) {
            self.suspects.push(suspect);
        }
        self.doubt(now);
    }

    /// What began then went well: nobody is to be blamed for what was tried for the same before.
    pub fn acquit(&mut self, source: &Source, of_read: bool, began: Instant) {
        let is_over =
            |suspect: &Suspect| suspect.source == *source && suspect.of_read == of_read && suspect.started <= began;
        self.suspects.retain(|suspect| !is_over(suspect));
    }

    /// The failures that a probe which works shows to be the paths' own: those from before it began. In between the store may have gone
    /// down, so those since are for another one.
    pub fn told_apart(&mut self, now: Now, began: Instant) -> Vec<Suspect> {
        let told = self.suspects.extract_if(.., |suspect| suspect.failed <= began).collect();
        if !self.suspects.is_empty() {
            self.doubt(now);
        }
        told
    }

    /// Something failed that may be the store's: the probe is to tell.
    pub fn doubt(&mut self, now: Now) {
        if let Some(probe) = &mut self.current
            && !probe.under_way
        {
            probe.due.get_or_insert(now.mono);
        }
    }

    /// The store as a whole failed.
    pub fn trip(&mut self, now: Now, fault: &Fault, timing: &Timing) {
        self.health = Health::Down { trouble: store_trouble(fault) };
        if let Some(probe) = &mut self.current
            && !probe.under_way
        {
            probe.failures += 1;
            probe.due = Some(now.mono + wait(fault, probe.failures, timing));
        } else {
            self.rest(now, fault, timing);
        }
    }

    /// The store as a whole failed before; this failure may ask for a longer rest.
    pub fn rest(&mut self, now: Now, fault: &Fault, timing: &Timing) {
        let Some(until) = timing.asked_for(fault.retry_after).map(|asked| now.mono + asked) else { return };
        let Some(probe) = &mut self.current else { return };
        if probe.under_way {
            probe.rest = probe.rest.max(Some(until));
        } else {
            probe.due = probe.due.map(|due| due.max(until));
        }
    }

    /// The probe to start now, if any: what to call, and with which candidate.
    pub fn start(&mut self, now: Now) -> Option<(Call, Option<u64>)> {
        let call = self.last_good.clone().map_or(Call::Root, Call::Metadata);
        for (probe, candidate) in [(&mut self.current, None), (&mut self.candidate, Some(self.proposed))] {
            if let Some(probe) = probe
                && !probe.under_way
                && probe.due.is_some_and(|due| due <= now.mono)
            {
                probe.due = None;
                probe.rest = None;
                probe.under_way = true;
                return Some((call, candidate));
            }
        }
        None
    }

    /// When the next probe is due.
    pub fn next(&self) -> Option<Instant> {
        [&self.current, &self.candidate].into_iter().flatten().filter_map(|probe| probe.due).min()
    }

    /// A probe ended.
    pub fn probed(
        &mut self,
        now: Now,
        candidate: Option<u64>,
        call: &Call,
        fault: Option<&Fault>,
        timing: &Timing,
    ) -> Probed {
        let slot = match candidate {
            None => &mut self.current,
            Some(number) if number == self.proposed => &mut self.candidate,
            // Another one has been proposed since.
            Some(_) => return Probed::Undecided,
        };
        let Some(probe) = slot else { return Probed::Undecided };
        probe.under_way = false;
        let rest = probe.rest.take().filter(|rest| *rest > now.mono);
        let Some(fault) = fault else {
            if let (Some(rest), Health::Down { .. }, None) = (rest, &self.health, candidate) {
                // It began before OKMS asked for rest.
                probe.due = Some(rest);
                return Probed::Undecided;
            }
            self.last_answer = Some(now.mono);
            self.health = Health::Ready;
            self.current = Some(Probe::default());
            if let Some(number) = candidate {
                self.in_use = number;
                self.candidate = None;
                self.rejected = None;
                return Probed::Promoted;
            }
            return Probed::Works;
        };
        // A new credential that may not see what the one in use sees would fail the objects that read by it.
        let works = self.in_use != 0 && self.health == Health::Ready;
        let may_less = fault.kind == FaultKind::Refused && candidate.is_some() && works;
        // What may be the fault of that one path alone is asked again at the root.
        let of_the_store = matches!(fault.kind, FaultKind::RateLimited | FaultKind::Tls);
        if !may_less && !of_the_store && matches!(call, Call::Metadata(_)) {
            self.last_good = None;
            probe.due = rest.or(Some(now.mono));
            return Probed::Undecided;
        }
        probe.failures += 1;
        probe.due = rest.max(Some(now.mono + wait(fault, probe.failures, timing)));
        let trouble = store_trouble(fault);
        if candidate.is_some() && self.current.is_some() {
            self.rejected = Some(trouble);
        } else {
            self.health = Health::Down { trouble };
        }
        Probed::Fails
    }
}

fn wait(fault: &Fault, failures: u32, timing: &Timing) -> std::time::Duration {
    // A Retry-After of nothing must not turn a failure into a loop.
    timing.asked_for(fault.retry_after).map_or_else(|| timing.backoff(failures), |asked| asked.max(timing.backoff(1)))
}

fn store_trouble(fault: &Fault) -> StoreTrouble {
    let kind = match fault.kind {
        FaultKind::Refused => StoreTroubleKind::Refused,
        FaultKind::RateLimited => StoreTroubleKind::RateLimited,
        FaultKind::Unavailable => StoreTroubleKind::OkmsUnavailable,
        FaultKind::Tls => StoreTroubleKind::TlsFailed,
        FaultKind::NotFound | FaultKind::TooLarge | FaultKind::Unexpected => StoreTroubleKind::UnexpectedAnswer,
    };
    StoreTrouble { kind, message: fault.message.clone() }
}
