//! When the list of all secrets is walked in place of checks by path, and how far the present walk is.
//!
//! A walk of the list asks for page after page, and shows of many sources at once that they are unchanged. It is worth that only
//! where it is cheaper, so every decision here is about calls: a list may be longer than what is followed, refused, slow, or silent
//! about versions. Whatever goes wrong with it is no fault of the store and takes nothing from anybody: the checks go by path again,
//! as if there were no list. What a page shows of a source is decided in [`super::bulk`].

use std::{
    collections::{BTreeMap, HashSet},
    time::{Duration, Instant},
};

use super::Timing;
use crate::model::Cursor;

/// So many secrets are on a page at most: so many calls a page can save.
const PAGE: usize = 100;

/// A walk may always take so long: a few answers of OKMS, each a fraction of a second.
const SHORTEST_WALK: Duration = Duration::from_secs(2);

/// Whether a walk pays is not worked out more often than this, since all sources are looked at for it.
const CONSIDER_EVERY: Duration = Duration::from_secs(5);

/// How long a list that was too long is taken to be so.
const REMEMBERED: Duration = Duration::from_hours(1);

/// After so many whole walks in a row it is forgotten how many were in vain before: a list that fails now and then is left alone for
/// longer each time.
const WHOLE_AGAIN: u32 = 3;

/// Which way sources without a pin are checked at rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checks {
    List,
    Path(ByPath),
}

/// Why checks do not go by the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByPath {
    /// A walk would cost more calls than it saves, or few would be saved.
    Cheaper,
    /// The list does not show enough of the secrets at their current version, and it active.
    Unsuitable,
    /// OKMS does not let the identity list, or its answer is none.
    Refused,
    /// The list broke off, or took too long.
    Failing,
}

/// How much a walk has to save: it has to replace so many times the calls that it takes, and the checks of so many sources.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bar {
    calls: f64,
    sources: usize,
}

/// Walks begin where they take half of the calls …
pub(super) const BEGIN: Bar = Bar { calls: 2.0, sources: 20 };

/// … and go on while they take less than two thirds, so that it does not go to and fro.
pub(super) const STAY: Bar = Bar { calls: 1.5, sources: 10 };

/// What walks would be for: how many sources there are at each interval.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub intervals: BTreeMap<Duration, usize>,
    /// Checks per second of all sources of the store, if each were made by path at the interval that is asked for.
    pub by_path: f64,
}

/// How walks are made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Plan {
    /// Sources with this interval or a longer one are checked by walks.
    pub shortest: Duration,
    /// A walk begins so long after the one before: the same, or longer where the rate allows no more.
    pub every: Duration,
    /// How many pages a walk takes, as far as is known.
    pub pages: usize,
    /// With more pages than this a walk is given up.
    most: usize,
}

impl Plan {
    /// Walks replace checks of sources with an interval of theirs or a longer one; those with shorter ones are checked by path as
    /// well. Of the intervals in use it is the one at which most calls are saved.
    ///
    /// Walks get a fifth of `rate`, the calls per second for what is routine, so that one is done in time even while every other call
    /// is somebody else's. Intervals are stretched for that only where checks by
    /// path would have to stretch them too.
    pub fn of(tally: &Tally, pages: usize, rate: f64, bar: Bar) -> Option<Self> {
        let all: usize = tally.intervals.values().sum();
        let pages = pages.max(all.div_ceil(PAGE)).max(1);
        let least = Duration::try_from_secs_f64(count(pages) / (rate / 5.0)).ok()?;
        let plan = |shortest: &Duration| {
            let every = (*shortest).max(least);
            let covered = || tally.intervals.range(shortest..);
            // How many checks by path fall due from one walk to the next.
            let replaced: f64 = covered()
                .map(|(interval, sources)| count(*sources) * every.as_secs_f64() / (*interval).max(every).as_secs_f64())
                .sum();
            let enough = covered().map(|(_, sources)| sources).sum::<usize>() >= bar.sources;
            let may_stretch = every == *shortest || tally.by_path > rate;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "it is positive, and far below what there can be of sources"
            )]
            let most = (replaced / bar.calls) as usize;
            let saved = (replaced - count(pages)) / every.as_secs_f64();
            let pays = enough && may_stretch && pages <= most;
            pays.then_some((saved, Self { shortest: *shortest, every, pages, most }))
        };
        let plans = tally.intervals.keys().filter_map(plan);
        plans.max_by(|(one, _), (other, _)| one.total_cmp(other)).map(|(_, plan)| plan)
    }

    /// Calls per second.
    pub fn cost(&self) -> f64 {
        count(self.pages) / self.every.as_secs_f64()
    }

    /// A walk takes at most so long: half of its period, and what it delays a check by is never more than that.
    fn longest(&self) -> Duration {
        (self.every / 2).max(SHORTEST_WALK)
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
pub(super) fn count(number: usize) -> f64 {
    number as f64
}

/// The state of walks.
pub(super) struct Walks {
    way: Way,
    walk: Option<Walk>,
    /// How many walks began. So an answer to a page of one that was given up is known for that.
    begun: u64,
    /// No walk is tried before this.
    rest: Option<Instant>,
    failures: u32,
    /// How many walks in a row were whole.
    whole: u32,
    /// The rate holds no more frequent audits.
    pub audit_every: Duration,
    /// So many pages the list has at least, as was seen then.
    pages: Option<(usize, Instant)>,
    considered: Option<Instant>,
    /// Something fell due that a walk could have shown.
    wanted: bool,
    /// A page had the last turn.
    had_turn: bool,
}

enum Way {
    Path(ByPath),
    List { plan: Plan, next: Instant },
}

/// A walk under way.
struct Walk {
    plan: Plan,
    started: Instant,
    /// Where the page begins that is next, or under way.
    cursor: Option<Cursor>,
    /// Where pages began.
    cursors: HashSet<Cursor>,
    pages: usize,
    under_way: bool,
}

/// What comes after a page.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum After {
    Another,
    /// It was the last of a walk that began then.
    Nothing {
        started: Instant,
        pages: usize,
    },
    /// The list leads back to where it was.
    Circle,
    /// The list is so long that checks by path are cheaper.
    TooLong,
}

impl Default for Walks {
    fn default() -> Self {
        Self {
            way: Way::Path(ByPath::Cheaper),
            walk: None,
            begun: 0,
            rest: None,
            failures: 0,
            whole: 0,
            audit_every: Duration::ZERO,
            pages: None,
            considered: None,
            wanted: false,
            had_turn: false,
        }
    }
}

impl Walks {
    pub fn checks(&self) -> Checks {
        match self.way {
            Way::Path(why) => Checks::Path(why),
            Way::List { .. } => Checks::List,
        }
    }

    /// How walks are made, where they are.
    pub fn plan(&self) -> Option<&Plan> {
        match &self.way {
            Way::List { plan, .. } => Some(plan),
            Way::Path(_) => None,
        }
    }

    /// Something fell due that a walk could have shown.
    pub fn want(&mut self) {
        self.wanted = true;
    }

    /// Whether it is time to work out whether a walk pays, and with how many pages at least.
    pub fn considers(&mut self, now: Instant) -> Option<usize> {
        let wanted = std::mem::take(&mut self.wanted);
        let by_path = matches!(self.way, Way::Path(_)) && self.walk.is_none();
        let rests = self.rest.is_some_and(|rest| rest > now);
        let recently = |at: Instant, within: Duration| now.saturating_duration_since(at) < within;
        if !wanted || !by_path || rests || self.considered.is_some_and(|at| recently(at, CONSIDER_EVERY)) {
            return None;
        }
        self.considered = Some(now);
        self.pages.take_if(|(_, seen)| !recently(*seen, REMEMBERED));
        Some(self.pages.map_or(1, |(pages, _)| pages))
    }

    /// Whether the next walk is due; it is begun then.
    pub fn begin_due(&mut self, now: Instant) {
        if let Way::List { plan, next } = self.way
            && self.walk.is_none()
            && next <= now
        {
            self.begin(now, plan);
        }
    }

    pub fn begin(&mut self, now: Instant, plan: Plan) {
        self.begun += 1;
        self.walk =
            Some(Walk { plan, started: now, cursor: None, cursors: HashSet::new(), pages: 0, under_way: false });
    }

    /// Whether the present walk takes too long. What is known of the list then is that it is longer.
    pub fn is_late(&mut self, now: Instant) -> bool {
        let late = self.walk.as_ref().filter(|walk| walk.started + walk.plan.longest() <= now);
        if let Some(walk) = late {
            self.pages = Some((walk.plan.pages.max(walk.pages * 2), now));
        }
        late.is_some()
    }

    /// When there is something to do that no answer and no source tells.
    pub fn next(&self) -> Option<Instant> {
        match (&self.walk, &self.way) {
            (Some(walk), _) => Some(walk.started + walk.plan.longest()),
            (None, Way::List { next, .. }) => Some(*next),
            (None, Way::Path(_)) => None,
        }
    }

    /// Nothing may be asked of the store: the walk begins anew once it may be.
    pub fn suspend(&mut self, now: Instant) {
        self.walk = None;
        if let Way::List { next, .. } = &mut self.way {
            *next = now;
        }
    }

    /// Whether a page is to be asked for.
    pub fn wants_page(&self) -> bool {
        self.walk.as_ref().is_some_and(|walk| !walk.under_way)
    }

    /// Every other turn at most is a page's, so that a long list delays nobody by more than as much again.
    pub fn is_in_turn(&mut self) -> bool {
        !std::mem::replace(&mut self.had_turn, false)
    }

    /// The page to ask for, and the number of the walk that it is of.
    pub fn start_page(&mut self) -> Option<(u64, Option<Cursor>)> {
        let walk = self.walk.as_mut().filter(|walk| !walk.under_way)?;
        walk.under_way = true;
        self.had_turn = true;
        Some((self.begun, walk.cursor.clone()))
    }

    /// Whether a page is one of the present walk.
    pub fn is_at(&self, number: u64) -> bool {
        self.walk.is_some() && self.begun == number
    }

    /// A page was read; `next` is where the list goes on. `None` while there is no walk.
    pub fn turn(&mut self, now: Instant, next: Option<Cursor>) -> Option<After> {
        let walk = self.walk.as_mut()?;
        walk.under_way = false;
        walk.pages += 1;
        let (started, pages) = (walk.started, walk.pages);
        let Some(next) = next else {
            self.walk = None;
            self.pages = Some((pages, now));
            return Some(After::Nothing { started, pages });
        };
        if !walk.cursors.insert(next.clone()) {
            return Some(After::Circle);
        }
        walk.cursor = Some(next);
        if pages >= walk.plan.most {
            self.pages = Some((pages + 1, now));
            return Some(After::TooLong);
        }
        Some(After::Another)
    }

    /// The walk that began then was whole, and it pays to make more.
    pub fn go_on(&mut self, plan: Plan, started: Instant) {
        self.whole = self.whole.saturating_add(1);
        if self.whole >= WHOLE_AGAIN {
            self.failures = 0;
        }
        self.way = Way::List { plan, next: started + plan.every };
    }

    /// Checks go by path, and nothing is said against a walk.
    pub fn stay_by_path(&mut self) {
        self.way = Way::Path(ByPath::Cheaper);
    }

    /// Checks go by path again, for a while that doubles, or at once for as long as it ever is. It begins once the time that OKMS asked
    /// for is over.
    pub fn fall_back(&mut self, now: Instant, why: ByPath, asked: Option<Duration>, timing: &Timing) {
        self.walk = None;
        self.whole = 0;
        self.way = Way::Path(why);
        self.failures = if why == ByPath::Refused { u32::MAX } else { self.failures.saturating_add(1) };
        let rest = timing.without_walks(self.failures);
        self.rest = Some(now + asked.unwrap_or_default() + rest);
    }

    /// There is a new credential, which may have other rights.
    pub fn forgive(&mut self) {
        (self.rest, self.failures) = (None, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls per second for what is routine, of a store with the usual rate.
    const RATE: f64 = 15.0;

    fn plan(sources: &[(u64, usize)], pages: usize, bar: Bar) -> Option<(u64, u64, usize)> {
        let intervals: BTreeMap<Duration, usize> =
            sources.iter().map(|(seconds, sources)| (Duration::from_secs(*seconds), *sources)).collect();
        let by_path = intervals.iter().map(|(interval, sources)| count(*sources) / interval.as_secs_f64()).sum();
        let plan = Plan::of(&Tally { intervals, by_path }, pages, RATE, bar)?;
        Some((plan.shortest.as_secs(), plan.every.as_secs(), plan.pages))
    }

    #[test]
    fn a_walk_has_the_period_at_which_most_calls_are_saved() {
        for (sources, pages, expected) in [
            (&[(30, 3000)][..], 1, Some((30, 30, 30))),
            (&[(60, 3000), (10, 20)], 1, Some((60, 60, 31))),
            (&[(60, 3000), (10, 40)], 1, Some((10, 10, 31))),
            (&[(30, 1000), (600, 1000)], 1, Some((30, 30, 20))),
            (&[(3600, 3000)], 40, Some((3600, 3600, 40))),
        ] {
            assert_eq!(plan(sources, pages, BEGIN), expected, "{sources:?} in {pages} pages");
        }
    }

    #[test]
    fn a_walk_takes_half_of_the_calls_at_most_and_is_not_ended_by_one_page_more() {
        assert_eq!(plan(&[(30, 100)], 50, BEGIN), Some((30, 30, 50)));
        assert_eq!(plan(&[(30, 100)], 51, BEGIN), None);
        assert!(plan(&[(30, 100)], 66, STAY).is_some() && plan(&[(30, 100)], 67, STAY).is_none());
        assert!(plan(&[(30, 20)], 1, BEGIN).is_some() && plan(&[(30, 19)], 1, BEGIN).is_none());
        assert!(plan(&[(30, 10)], 1, STAY).is_some() && plan(&[(30, 9)], 1, STAY).is_none());
        assert_eq!(plan(&[], 1, STAY), None);
    }

    #[test]
    fn intervals_are_stretched_for_walks_only_where_paths_would_need_it_too() {
        // Forty pages at three a second take longer than ten seconds, and a hundred and forty sources at that interval fit by path.
        assert_eq!(plan(&[(10, 140)], 40, BEGIN), None);
        assert_eq!(plan(&[(10, 2000)], 60, BEGIN), Some((10, 20, 60)));
    }
}
