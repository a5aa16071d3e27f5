//! Whose failure it is: the store's, which then rests, or one path's alone, and how long that is left alone.
//!
//! It never concludes that something is gone; a not-found comes here only while nothing else shows that the store works.

use std::time::Instant;

use super::{
    Fault, FaultKind, Ledger, Now, Timer,
    breaker::{Health, Suspect},
    entry::{Mode, Problem, Seen},
};
use crate::model::{Source, StoreTroubleKind, Trouble, TroubleKind};

impl Ledger {
    /// Something failed: the store's fault, or this path's?
    pub(super) fn failed(&mut self, now: Now, source: &Source, started: Instant, fault: &Fault, of_read: bool) {
        let suspect = Suspect { source: source.clone(), fault: fault.clone(), started, failed: now.mono, of_read };
        match fault.kind {
            FaultKind::RateLimited | FaultKind::Tls => {
                self.store_failed(now, fault);
                self.requeue(now, source);
            }
            FaultKind::TooLarge => self.blame_path(now, suspect),
            // Nothing new is said of it.
            _ if self.is_blamed(source) && self.breaker.worked_since(started) => self.blame_path(now, suspect),
            _ if matches!(self.breaker.health, Health::Down { .. }) => {
                self.breaker.rest(now, fault, &self.timing);
                self.requeue(now, source);
            }
            _ => self.breaker.suspect(now, suspect),
        }
    }

    fn is_blamed(&self, source: &Source) -> bool {
        self.entries.get(source).is_some_and(|entry| entry.problem.is_some())
    }

    /// OKMS answered, and what it says cannot be: that is nobody's but this path's.
    pub(super) fn contradicted(&mut self, now: Now, source: &Source, started: Instant, message: &str, of_read: bool) {
        if matches!(self.breaker.health, Health::Down { .. }) {
            self.requeue(now, source);
            return;
        }
        let fault = Fault { kind: FaultKind::Unexpected, message: message.to_owned(), retry_after: None };
        self.blame_path(now, Suspect { source: source.clone(), fault, started, failed: now.mono, of_read });
    }

    /// The failure concerns every request.
    pub(super) fn store_failed(&mut self, now: Now, fault: &Fault) {
        if self.breaker.health == Health::Ready {
            self.breaker.trip(now, fault, &self.timing);
            self.ask_suspects_again(now);
            self.acquit_paths(now);
            self.store_changed(now);
        } else {
            self.breaker.rest(now, fault, &self.timing);
        }
    }

    /// The store does not work any more: that other paths can be read is not true now. What was blamed on one path is asked for again
    /// once the store works, and not told before.
    pub(super) fn acquit_paths(&mut self, now: Now) {
        let may_be_the_stores = |problem: &Problem| {
            problem.rest.is_none()
                && matches!(problem.trouble.kind, TroubleKind::OkmsUnavailable | TroubleKind::UnexpectedAnswer)
        };
        // Nor is a refusal of metadata one of a single right where everything is refused, and no data has shown that it is.
        let refused =
            matches!(&self.breaker.health, Health::Down { trouble } if trouble.kind == StoreTroubleKind::Refused);
        let mut acquitted = Vec::new();
        for (source, entry) in &mut self.entries {
            if refused && entry.mode == Mode::Data && entry.by_data == 0 && !entry.busy {
                entry.mode = Mode::Metadata;
            }
            if entry.problem.take_if(|problem| may_be_the_stores(problem)).is_some() {
                acquitted.push(source.clone());
            }
        }
        for source in acquitted {
            self.requeue(now, &source);
        }
    }

    /// The store works: the failure is this path's alone.
    pub(super) fn blame_path(&mut self, now: Now, suspect: Suspect) {
        let Suspect { source, fault, started, failed: _, of_read } = suspect;
        let interval = self.interval_of(&source);
        let Some(entry) = self.entries.get_mut(&source) else { return };
        // A read may outlast its entry: that nobody can read what the next one does not mean is no trouble.
        if of_read && !matches!(entry.seen, Some(Seen::Active { .. })) {
            return;
        }
        let kind = match fault.kind {
            FaultKind::Refused => TroubleKind::Forbidden,
            FaultKind::Unavailable | FaultKind::RateLimited | FaultKind::Tls => TroubleKind::OkmsUnavailable,
            FaultKind::TooLarge => TroubleKind::TooLarge,
            FaultKind::NotFound | FaultKind::Unexpected => TroubleKind::UnexpectedAnswer,
        };
        // One that somebody had asked for before its time does not show that it lasts.
        let failures = match &entry.problem {
            Some(problem) if started < problem.until => problem.failures,
            Some(problem) => problem.failures + 1,
            None => 1,
        };
        let needs_a_person = matches!(kind, TroubleKind::Forbidden | TroubleKind::TooLarge);
        let wait = if needs_a_person { self.timing.slow(failures, interval) } else { self.timing.backoff(failures) };
        let rest = self.timing.asked_for(fault.retry_after).map(|asked| now.mono + asked);
        let until = rest.unwrap_or(now.mono).max(now.mono + wait);
        let trouble = Trouble { kind, message: fault.message };
        entry.problem = Some(Problem { trouble, failures, at: started, until, of_read, rest });
        if of_read {
            // Checks go on as they do: the next version may be readable.
            self.timers.insert((until, Timer::Due(source.clone())));
        } else {
            self.schedule(&source, Some(until));
        }
        self.review_users(now, &source, started);
    }
}
