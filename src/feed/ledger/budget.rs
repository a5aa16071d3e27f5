//! How many requests may start: a rate with a quarter kept for what people wait for, and a number under way at once.

use std::time::{Duration, Instant};

/// The budget of one store.
pub struct Budget {
    /// Everything.
    all: Bucket,
    /// Routine checks, which also take from `all`.
    routine: Bucket,
    concurrent: usize,
    under_way: usize,
}

impl Budget {
    pub fn new(now: Instant, rate: f64, concurrent: usize) -> Self {
        Self {
            all: Bucket::new(now, rate),
            routine: Bucket::new(now, rate * 0.75),
            concurrent: concurrent.max(1),
            under_way: 0,
        }
    }

    /// Other rates from now on; what is under way still counts.
    pub fn change(&mut self, now: Instant, rate: f64, concurrent: usize) {
        *self = Self { under_way: self.under_way, ..Self::new(now, rate, concurrent) };
    }

    /// Takes leave for one request, or says when to ask again (`None`: when one under way has ended).
    pub fn take(&mut self, now: Instant, routine: bool) -> Result<(), Option<Instant>> {
        let concurrent = if routine { (self.concurrent * 3 / 4).max(1) } else { self.concurrent };
        if self.under_way >= concurrent {
            return Err(None);
        }
        let ready = if routine { self.all.ready(now).max(self.routine.ready(now)) } else { self.all.ready(now) };
        if ready > now {
            return Err(Some(ready));
        }
        self.all.spend();
        if routine {
            self.routine.spend();
        }
        self.under_way += 1;
        Ok(())
    }

    /// A request ended.
    pub fn give_back(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }
}

/// A token bucket that holds one second's worth, at least one.
struct Bucket {
    rate: f64,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    fn new(now: Instant, rate: f64) -> Self {
        let rate = rate.max(0.1);
        Self { rate, tokens: rate.max(1.0), filled: now }
    }

    /// The earliest moment at which a token is there.
    fn ready(&mut self, now: Instant) -> Instant {
        let passed = now.saturating_duration_since(self.filled);
        self.tokens = (self.tokens + passed.as_secs_f64() * self.rate).min(self.rate.max(1.0));
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

    #[test]
    fn a_quarter_is_kept_for_what_people_wait_for() {
        let now = Instant::now();
        let mut budget = Budget::new(now, 20.0, 100);
        let routine = (0..100).filter(|_| budget.take(now, true).is_ok()).count();
        let urgent = (0..100).filter(|_| budget.take(now, false).is_ok()).count();
        assert_eq!((routine, urgent), (15, 5));
    }

    #[test]
    fn an_empty_bucket_says_when_it_has_a_token_again() {
        let now = Instant::now();
        let mut budget = Budget::new(now, 1.0, 100);
        budget.take(now, false).unwrap();
        let later = budget.take(now, false).unwrap_err().expect("the rate is spent, not the places");
        budget.take(later, false).expect("at the moment that was named there is a token");
    }

    #[test]
    fn requests_under_way_are_bounded() {
        let now = Instant::now();
        let mut budget = Budget::new(now, 1000.0, 4);
        assert_eq!((0..10).filter(|_| budget.take(now, true).is_ok()).count(), 3);
        assert_eq!((0..10).filter(|_| budget.take(now, false).is_ok()).count(), 1);
        assert_eq!(budget.take(now, false), Err(None));
        budget.give_back();
        budget.take(now, false).expect("a place is free again");
    }
}
