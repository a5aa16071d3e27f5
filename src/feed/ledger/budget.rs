//! How many requests may start: a rate, a quarter of it kept for what people wait for, and places for what is under way.
//!
//! The rate says when anybody's next request may start. The places say whose: a namespace whose requests hang holds some of them for
//! as long as the client's time limit, so it gets never all, and once it is known to be slow at most half together with others like it.
//! It knows nothing of what is asked.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

/// An answer of OKMS takes a fraction of a second. Whoever waits this long for one is taken for slow until one comes sooner.
const SLOW: Duration = Duration::from_secs(2);

/// From which part of the rate a request is paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purse {
    /// Three quarters, for whatever is due.
    Shared,
    /// A quarter, for what people wait for.
    Kept,
}

/// What a namespace asks a place for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wants {
    Routine,
    Urgent,
    /// While it is in doubt whether the store works: nobody sends more than one.
    InDoubt,
}

/// The budget of one store.
pub struct Budget {
    /// The whole rate, so that a full purse beside another is no more than that.
    all: Bucket,
    shared: Bucket,
    kept: Bucket,
    places: Places,
}

impl Budget {
    pub fn new(now: Instant, rate: f64, concurrent: usize) -> Self {
        Self {
            all: Bucket::new(now, rate, 1.0),
            // One more than that, so that what has to wait for the other loses nothing meanwhile.
            shared: Bucket::new(now, rate * 0.75, 2.0),
            kept: Bucket::new(now, rate * 0.25, 2.0),
            places: Places { all: concurrent.max(1), ..Places::default() },
        }
    }

    /// Other rates from now on; what is under way still counts.
    pub fn change(&mut self, now: Instant, rate: f64, concurrent: usize) {
        let places = Places { all: concurrent.max(1), ..std::mem::take(&mut self.places) };
        *self = Self { places, ..Self::new(now, rate, concurrent) };
    }

    /// The earliest moment at which a request may be paid from this purse.
    pub fn ready(&mut self, now: Instant, purse: Purse) -> Instant {
        let own = match purse {
            Purse::Shared => &mut self.shared,
            Purse::Kept => &mut self.kept,
        };
        own.ready(now).max(self.all.ready(now))
    }

    /// Pays for a request, and notes that it is under way.
    pub fn start(&mut self, now: Instant, purse: Purse, namespace: &Arc<str>, value: bool) {
        self.all.spend();
        match purse {
            Purse::Shared => self.shared.spend(),
            Purse::Kept => self.kept.spend(),
        }
        self.places.start(now, namespace, value);
    }

    /// A request ended.
    pub fn end(&mut self, now: Instant, namespace: &Arc<str>, started: Instant, value: bool) {
        self.places.end(now, namespace, started, value);
    }

    /// Nothing that was saved up may be spent at once: OKMS has just come back.
    pub fn calm(&mut self, now: Instant) {
        for bucket in [&mut self.all, &mut self.shared, &mut self.kept] {
            bucket.filled = now;
            bucket.tokens = bucket.tokens.min(1.0);
        }
    }

    /// A namespace reads nothing here any more.
    pub fn forget(&mut self, namespace: &Arc<str>) {
        self.places.slow.remove(namespace);
    }

    pub fn places(&self) -> &Places {
        &self.places
    }
}

/// Who has how many requests under way.
#[derive(Default)]
pub struct Places {
    all: usize,
    taken: usize,
    spaces: HashMap<Arc<str>, Taken>,
    /// Namespaces whose last answer was slow.
    slow: HashSet<Arc<str>>,
}

struct Taken {
    requests: usize,
    /// Those among them whose answer may hold a value.
    values: usize,
    /// When an answer last came, or the first of them began.
    moved: Instant,
}

impl Places {
    pub fn is_full(&self) -> bool {
        self.taken >= self.all
    }

    /// Whether a namespace may have one more request under way.
    ///
    /// A quarter of the places, one at least, is for namespaces that have none, and one more for what is urgent in those that have
    /// some. Of the slow ones each has to leave half of the places: so many are left however many of them there are.
    pub fn has_room(&self, now: Instant, namespace: &Arc<str>, wants: Wants) -> bool {
        let free = self.all.saturating_sub(self.taken);
        if free == 0 {
            return false;
        }
        let left = (self.all / 4).max(1);
        let half = self.all / 2;
        match (self.is_slow(now, namespace), self.under_way(namespace), wants) {
            (false, 0, _) => true,
            (true, 0, _) => free > half,
            (_, _, Wants::InDoubt) => false,
            (true, ..) => free > half.max(left),
            (false, _, Wants::Urgent) => free > left,
            (false, _, Wants::Routine) => free > left + 1,
        }
    }

    /// Whether a namespace may have one more request under way whose answer may hold a value, where the store has so many and may
    /// have at most so many: one is for a namespace that has none, and the slow ones together leave half.
    pub fn has_room_for_value(&self, now: Instant, namespace: &Arc<str>, reads: usize, most: usize) -> bool {
        let own = self.spaces.get(namespace).map_or(0, |taken| taken.values);
        match (self.is_slow(now, namespace), own) {
            (true, _) => reads < (most / 2).max(1),
            (false, 0) => true,
            (false, _) => reads + 1 < most,
        }
    }

    /// Of how many namespaces something is remembered.
    #[cfg(test)]
    pub fn remembered(&self) -> usize {
        self.spaces.len() + self.slow.len()
    }

    fn is_slow(&self, now: Instant, namespace: &Arc<str>) -> bool {
        let hangs = |taken: &Taken| now.saturating_duration_since(taken.moved) >= SLOW;
        self.slow.contains(namespace) || self.spaces.get(namespace).is_some_and(hangs)
    }

    fn under_way(&self, namespace: &Arc<str>) -> usize {
        self.spaces.get(namespace).map_or(0, |taken| taken.requests)
    }

    fn start(&mut self, now: Instant, namespace: &Arc<str>, value: bool) {
        let none = Taken { requests: 0, values: 0, moved: now };
        let own = self.spaces.entry(namespace.clone()).or_insert(none);
        own.requests += 1;
        own.values += usize::from(value);
        self.taken += 1;
    }

    fn end(&mut self, now: Instant, namespace: &Arc<str>, started: Instant, value: bool) {
        let Some(own) = self.spaces.get_mut(namespace) else { return };
        own.requests -= 1;
        own.values -= usize::from(value);
        own.moved = now;
        if own.requests == 0 {
            self.spaces.remove(namespace);
        }
        self.taken -= 1;
        if now.saturating_duration_since(started) >= SLOW {
            self.slow.insert(namespace.clone());
        } else {
            self.slow.remove(namespace);
        }
    }
}

/// A token bucket that holds one second's worth, and at least so many as it is made with.
struct Bucket {
    rate: f64,
    most: f64,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    fn new(now: Instant, rate: f64, least: f64) -> Self {
        let rate = rate.max(0.025);
        let most = rate.max(least);
        Self { rate, most, tokens: most, filled: now }
    }

    /// The earliest moment at which a token is there.
    fn ready(&mut self, now: Instant) -> Instant {
        let passed = now.saturating_duration_since(self.filled);
        self.tokens = (self.tokens + passed.as_secs_f64() * self.rate).min(self.most);
        self.filled = now;
        if self.tokens >= 1.0 {
            now
        } else {
            // A nanosecond more, so that rounding does not find a token missing by a hair.
            now + Duration::from_secs_f64((1.0 - self.tokens) / self.rate) + Duration::from_nanos(1)
        }
    }

    fn spend(&mut self) {
        self.tokens -= 1.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ns(name: &str) -> Arc<str> {
        name.into()
    }

    fn paid(budget: &mut Budget, now: Instant, purse: Purse) -> bool {
        let ready = budget.ready(now, purse) <= now;
        if ready {
            budget.start(now, purse, &ns("a"), false);
        }
        ready
    }

    /// Starts as many as there is room for.
    fn fill(budget: &mut Budget, now: Instant, namespace: &str, wants: Wants) -> usize {
        let mut started = 0;
        while budget.places().has_room(now, &ns(namespace), wants) {
            budget.places.start(now, &ns(namespace), false);
            started += 1;
        }
        started
    }

    #[test]
    fn a_quarter_is_kept_for_what_people_wait_for() {
        let now = Instant::now();
        let mut budget = Budget::new(now, 20.0, 100);
        let shared = (0..100).filter(|_| paid(&mut budget, now, Purse::Shared)).count();
        let kept = (0..100).filter(|_| paid(&mut budget, now, Purse::Kept)).count();
        assert_eq!((shared, kept), (15, 5));
    }

    #[test]
    fn both_purses_together_are_no_more_than_the_rate() {
        let start = Instant::now();
        for rate in [0.2, 1.0, 3.0, 20.0] {
            let mut budget = Budget::new(start, rate, 1000);
            let seconds = 200;
            let mut paid_for = 0;
            for step in 0..seconds * 10 {
                let now = start + Duration::from_millis(100) * step;
                for purse in [Purse::Kept, Purse::Shared] {
                    paid_for += (0..100).filter(|_| paid(&mut budget, now, purse)).count();
                }
            }
            let most = rate.max(1.0) + rate * f64::from(seconds);
            let paid_for = f64::from(u32::try_from(paid_for).unwrap());
            assert!(paid_for <= most && paid_for >= most * 0.9 - 2.0, "{paid_for} of {most} at {rate}/s");
        }
    }

    #[test]
    fn an_empty_bucket_says_when_it_has_a_token_again() {
        let now = Instant::now();
        let mut budget = Budget::new(now, 1.0, 100);
        assert!(paid(&mut budget, now, Purse::Shared));
        let later = budget.ready(now, Purse::Shared);
        assert!(later > now);
        assert!(paid(&mut budget, later, Purse::Shared), "at the moment that was named there is a token");
    }

    #[test]
    fn no_namespace_holds_all_places() {
        let now = Instant::now();
        for (places, most, routine) in [(1, 1, 1), (2, 1, 1), (3, 2, 1), (4, 3, 2), (8, 6, 5), (64, 48, 47)] {
            let mut budget = Budget::new(now, 1000.0, places);
            assert_eq!(fill(&mut budget, now, "a", Wants::Routine), routine, "routine of {places}");
            assert_eq!(fill(&mut budget, now, "a", Wants::Urgent), most - routine, "urgent of {places}");
            assert_eq!(fill(&mut budget, now, "b", Wants::Routine), usize::from(places > 1), "others of {places}");
        }
    }

    #[test]
    fn slow_namespaces_leave_half_of_the_places_however_many_they_are() {
        let start = Instant::now();
        let later = start + SLOW;
        for places in [2, 3, 8, 64] {
            let mut budget = Budget::new(start, 1000.0, places);
            for n in 0..100 {
                budget.places.start(start, &ns(&format!("slow-{n}")), false);
                budget.end(later, &ns(&format!("slow-{n}")), start, false);
            }
            let held: usize = (0..100).map(|n| fill(&mut budget, later, &format!("slow-{n}"), Wants::Urgent)).sum();
            assert_eq!(held, places - places / 2);
            assert!(fill(&mut budget, later, "quick", Wants::Routine) >= 1);
        }
        let mut budget = Budget::new(start, 1000.0, 1);
        budget.places.start(start, &ns("slow"), false);
        budget.end(later, &ns("slow"), start, false);
        assert_eq!(fill(&mut budget, later, "slow", Wants::Urgent), 1, "the only place is for everybody");
        budget.end(later, &ns("slow"), later, false);
        assert!(budget.places.slow.is_empty(), "and who is quick again is not slow any more");
    }

    #[test]
    fn what_was_saved_up_is_not_spent_at_once_after_a_rest() {
        let now = Instant::now();
        let mut budget = Budget::new(now, 20.0, 100);
        let now = now + Duration::from_mins(15);
        budget.calm(now);
        assert!(paid(&mut budget, now, Purse::Shared) && !paid(&mut budget, now, Purse::Shared));
    }
}
