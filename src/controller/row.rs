//! What the operator remembers of each `OkmsSecret`, by uid: one row, dropped with the object. It holds no values.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use rand::RngExt;

use super::{Config, named::Follow, renders, report::Said, retries::Retries};
use crate::{
    api::{OkmsSecretStatus, Reason},
    k8s::LastStatus,
    model::{Mark, OkmsId, StoreName},
    plan::Written,
};

/// Everything that is remembered of one object.
#[derive(Default)]
pub(super) struct Row {
    /// The target as it was last seen or written.
    pub target: Option<KnownTarget>,
    /// A Secret that the watch does not show was there when the target was created.
    pub in_the_way: bool,
    pub status: LastStatus<OkmsSecretStatus>,
    pub to_warn: ToWarn,
    /// When the content of the target was changed from here. A status that has to be written again says the same.
    pub changed: Option<Timestamp>,
    /// The same for a write whose answer was lost: if the target is found as it was to be, it was changed then.
    pub perhaps_changed: Option<Timestamp>,
    /// What was found not to render: it is read again when that changes, not to find out the same.
    pub unrenderable: Option<Box<(MadeBy, Vec<Option<Mark>>)>>,
    /// The last write was refused.
    pub refused: Option<Box<Refused>>,
    /// It was not its turn to render.
    pub waits_to_render: Option<renders::Waiting>,
    /// What the object depends on beside its store and its target.
    pub follows: Vec<Follow>,
    /// How often somebody undid what was written.
    pub fight: Fight,
    /// The check that somebody last asked for, and how many were.
    pub refresh: Option<Box<Refresh>>,
    pub refreshes: u32,
    /// What the status is to say of a withdrawal that was carried out for a generation, until it does: before anything else.
    pub unsaid: Option<Box<(i64, Said)>>,
    /// What is not done yet.
    pub pending: Option<Box<Pending>>,
    /// The store that its spec named when it was last looked at: what is held of it there stays so.
    pub reads_from: Option<StoreName>,
    /// How often in a row somebody else's write came between.
    pub conflicts: u32,
    /// Of whatever the Kubernetes API is asked for.
    pub retries: Retries,
}

/// What began to fail, and is told of by an event once the status is known to say it.
#[derive(Default)]
pub(super) struct ToWarn {
    /// By what was said last.
    pub said: Option<Reason>,
    /// By what was said since then while something is still going on. It takes back nothing that was written without an answer before.
    pub meanwhile: Option<Reason>,
}

impl ToWarn {
    /// Whether the status that is there now is to be told of. If it is, whatever else was tried is not there.
    pub fn take(&mut self, reason: &str) -> bool {
        let is_to_be = [self.said, self.meanwhile].into_iter().flatten().any(|began| began.as_str() == reason);
        if is_to_be {
            *self = Self::default();
        }
        is_to_be
    }
}

/// A target that is ours and equals the rendering of what it was made from.
#[derive(Clone)]
pub(super) struct KnownTarget {
    pub name: String,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    pub written: Written,
    /// What it was made from, for each source.
    pub marks: Vec<Option<Mark>>,
    pub keys: usize,
    pub made_by: MadeBy,
}

/// What a target is made by, beside its sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MadeBy {
    pub generation: i64,
    /// What the marks are of: those of two domains say nothing of each other.
    pub okms_id: OkmsId,
    /// Names the templates that do not stand in the spec.
    pub templates: Option<String>,
}

/// A write that was refused: the same is not tried at once again, whatever wakes the object.
pub(super) struct Refused {
    pub made_by: MadeBy,
    pub at: Instant,
    /// Of the target as it is since.
    pub resource_version: Option<String>,
}

impl Refused {
    /// How long not to try, for a target that has this resourceVersion now. Somebody who changes it may have put right what was wrong.
    pub fn rests(
        &self,
        made_by: &MadeBy,
        resource_version: Option<&str>,
        now: Instant,
        config: &Config,
    ) -> Option<Duration> {
        let changed = self.resource_version.as_deref() != resource_version;
        let rest = if changed { config.retry_refused / 20 } else { config.retry_refused };
        let left = rest.checked_sub(now.saturating_duration_since(self.at))?;
        (self.made_by == *made_by && !left.is_zero()).then_some(left)
    }
}

/// A generation that is not done yet.
pub(super) struct Pending {
    generation: i64,
    pub since: Instant,
    /// Since when, as far as is known, it has not been held back.
    pub asked: Option<Instant>,
}

/// A check that somebody asked for.
pub(super) struct Refresh {
    pub value: String,
    pub at: Instant,
}

/// Somebody undoes what the operator writes, which writes it again: not for ever.
#[derive(Default)]
pub(super) struct Fight {
    /// When the same content was last written once more, as often as makes a fight.
    repairs: VecDeque<Instant>,
    /// It was given up: from then on it is tried once in a window, until one repair stands that long.
    lost: bool,
}

impl Fight {
    /// Whether the same content may be written once more.
    pub fn may_repair(&mut self, now: Instant, config: &Config) -> bool {
        let window = config.conflict_window;
        let stood = self.repairs.back().is_none_or(|last| now.saturating_duration_since(*last) >= window * 2);
        self.lost &= !stood;
        let recent = self.repairs.iter().filter(|repair| now.saturating_duration_since(**repair) < window).count();
        self.lost |= recent >= config.conflict_repairs;
        self.rests(now, config).is_none()
    }

    /// It was written once more.
    pub fn repaired(&mut self, now: Instant, config: &Config) {
        self.repairs.push_back(now);
        while self.repairs.len() > config.conflict_repairs {
            self.repairs.pop_front();
        }
    }

    /// How long the target is left as it is.
    pub fn rests(&self, now: Instant, config: &Config) -> Option<Duration> {
        let last = self.repairs.back().filter(|_| self.lost)?;
        config.conflict_window.checked_sub(now.saturating_duration_since(*last)).filter(|rest| !rest.is_zero())
    }
}

impl Row {
    /// Somebody else's write came between a look at an object and the write that followed from it. Answers when to look again, which is
    /// almost at once; every sixth time it is a failure like another, so that nobody is fought without a pause.
    pub fn conflicted(&mut self) -> Option<Duration> {
        self.conflicts += 1;
        let pause = Duration::from_millis(10).mul_f64(rand::rng().random_range(0.5..1.5));
        (!self.conflicts.is_multiple_of(6)).then_some(pause)
    }

    pub fn succeeded(&mut self) {
        self.conflicts = 0;
        self.retries.succeeded();
    }

    /// The target was found as it shall be; `now` if it was changed for that in this run.
    pub fn is_in_step(&mut self, now: Option<Timestamp>) {
        let before = self.perhaps_changed.take();
        self.changed = now.or(before).or(self.changed);
    }

    /// The given generation is not done yet.
    pub fn pending(&mut self, generation: i64, now: Instant) -> &mut Pending {
        let same = self.pending.take().filter(|pending| pending.generation == generation);
        self.pending.insert(same.unwrap_or_else(|| Box::new(Pending { generation, since: now, asked: None })))
    }
}

/// The rows of all objects.
#[derive(Default)]
pub(super) struct Rows(Mutex<HashMap<Arc<str>, Box<Row>>>);

impl Rows {
    /// Takes a row out for as long as its object is reconciled, which no two tasks do at once. A reconcile that panics loses it, and
    /// the next one starts from what the cluster shows.
    pub fn take(&self, uid: &str) -> Box<Row> {
        self.lock().remove(uid).unwrap_or_default()
    }

    pub fn put(&self, uid: Arc<str>, row: Box<Row>) {
        self.lock().insert(uid, row);
    }

    pub fn drop(&self, uid: &str) {
        self.lock().remove(uid);
    }

    /// Drops every row whose object is not there any more.
    pub fn retain(&self, live: &HashSet<Arc<str>>) {
        self.lock().retain(|uid, _| live.contains(uid));
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Box<Row>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_came_between_is_looked_at_almost_at_once_but_not_without_a_pause() {
        let mut row = Row::default();
        let at_once: Vec<bool> = (0..12).map(|_| row.conflicted().is_some()).collect();
        assert_eq!(at_once, [[true; 5].as_slice(), &[false], &[true; 5], &[false]].concat());
        row.conflicted();
        row.succeeded();
        assert!((0..5).all(|_| row.conflicted().is_some_and(|pause| pause < Duration::from_millis(20))));
    }

    #[test]
    fn what_was_refused_rests_and_less_where_something_changed() {
        let (at, config) = (Instant::now(), Config::default());
        let okms_id: OkmsId = "1f0c3a5e-75b8-40a3-9b0e-71ffe5ff03cb".parse().unwrap();
        let made_by = |generation| MadeBy { generation, okms_id: okms_id.clone(), templates: None };
        let refused = Refused { made_by: made_by(1), at, resource_version: Some("7".to_owned()) };
        let rests = |generation, version, seconds| {
            refused.rests(&made_by(generation), Some(version), at + Duration::from_secs(seconds), &config)
        };
        assert_eq!(rests(1, "7", 1), Some(Duration::from_secs(59)));
        assert_eq!(rests(1, "8", 1), Some(Duration::from_secs(2)));
        assert_eq!((rests(1, "7", 60), rests(1, "8", 3), rests(2, "7", 1)), (None, None, None));
    }

    #[test]
    fn what_is_undone_again_and_again_is_tried_once_in_a_window() {
        let (start, config) = (Instant::now(), Config::default());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut fight = Fight::default();
        let mut repairs = |second: &u64| {
            let may = fight.may_repair(at(*second), &config);
            if may {
                fight.repaired(at(*second), &config);
            }
            may
        };
        assert_eq!((0..20).filter(&mut repairs).count(), config.conflict_repairs);
        let tried: Vec<u64> = (20..2000).filter(&mut repairs).collect();
        assert_eq!(tried, [604, 1204, 1804], "a window after the last repair");
        // One repair stood for two windows: all is well.
        assert_eq!((4000..4010).filter(&mut repairs).count(), config.conflict_repairs);
    }

    #[test]
    fn repairs_that_are_far_apart_are_no_fight() {
        let (start, config) = (Instant::now(), Config::default());
        let mut fight = Fight::default();
        for now in (0..50).map(|n| start + Duration::from_secs(151 * n)) {
            assert!(fight.may_repair(now, &config));
            fight.repaired(now, &config);
        }
        let refused = |fight: &mut Fight| (0..50).filter(|_| !fight.may_repair(start, &config)).count();
        assert_eq!(refused(&mut Fight::default()), 0, "what is not written is no repair");
    }

    #[test]
    fn a_change_is_dated_by_its_write_though_its_answer_was_lost() {
        let at = |second| Some(Timestamp::from_second(second).unwrap());
        let mut row = Row { changed: at(1), perhaps_changed: at(2), ..Row::default() };
        row.is_in_step(None);
        assert_eq!((row.changed, row.perhaps_changed), (at(2), None), "it was made");
        row.is_in_step(None);
        assert_eq!(row.changed, at(2), "nothing happened since");
        row.perhaps_changed = at(3);
        row.is_in_step(at(4));
        assert_eq!((row.changed, row.perhaps_changed), (at(4), None), "it was not made, but the next one was");
    }

    #[test]
    fn a_new_generation_waits_from_its_own_start() {
        let now = Instant::now();
        let mut row = Row::default();
        let later = now + Duration::from_secs(5);
        assert_eq!(row.pending(1, now).since, now);
        assert_eq!(row.pending(1, later).since, now);
        assert_eq!(row.pending(2, later).since, later);
    }

    #[test]
    fn rows_of_objects_that_are_gone_are_swept() {
        let rows = Rows::default();
        rows.put("a".into(), Box::default());
        rows.put("b".into(), Box::default());
        rows.retain(&["b".into()].into());
        assert_eq!(rows.len(), 1);
    }
}
