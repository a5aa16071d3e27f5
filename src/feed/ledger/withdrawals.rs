//! The limit on deletions: a mistake in OKMS, or in this program, must not empty a cluster.
//!
//! At most so many targets of a store are withdrawn within an hour. What exceeds that is held until a person confirms it by id or
//! the answers of OKMS change; it is never released by time alone.

use std::{
    collections::{BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};

use super::ObjectId;

const WINDOW: Duration = Duration::from_hours(1);

/// A limit below this would hold the ordinary clean-up of a small store.
const FLOOR: usize = 10;

/// How many targets of a store may be withdrawn in an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WithdrawalLimit {
    Number(usize),
    Percent(u8),
}

impl WithdrawalLimit {
    fn of(self, targets: usize) -> usize {
        match self {
            Self::Number(number) => number,
            Self::Percent(percent) => (targets * usize::from(percent)).div_ceil(100),
        }
        .max(FLOOR)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    Granted,
    Held,
}

/// The withdrawals of one store.
pub struct Withdrawals {
    granted: VecDeque<Instant>,
    /// Those granted whose object still has the withdrawn target: asking again costs nothing.
    open: BTreeSet<ObjectId>,
    held: BTreeSet<ObjectId>,
    confirmed: BTreeSet<ObjectId>,
    /// Names the held set as it was when it last grew.
    id: String,
    changed: bool,
}

impl Withdrawals {
    /// `withdrawn`: how many were withdrawn within the last hour, before these books were opened.
    pub fn new(now: Instant, withdrawn: usize) -> Self {
        Self {
            granted: std::iter::repeat_n(now, withdrawn).collect(),
            open: BTreeSet::new(),
            held: BTreeSet::new(),
            confirmed: BTreeSet::new(),
            id: String::new(),
            changed: false,
        }
    }

    pub fn admit(
        &mut self,
        now: Instant,
        object: &ObjectId,
        was_held: bool,
        limit: WithdrawalLimit,
        targets: usize,
    ) -> Admission {
        while self.granted.front().is_some_and(|granted| now.saturating_duration_since(*granted) >= WINDOW) {
            self.granted.pop_front();
        }
        if self.open.contains(object) || self.confirmed.contains(object) {
            return Admission::Granted;
        }
        let held = was_held || self.held.contains(object);
        if !held && self.granted.len() < limit.of(targets + self.granted.len()) {
            self.granted.push_back(now);
            self.open.insert(object.clone());
            return Admission::Granted;
        }
        if self.held.insert(object.clone()) {
            self.id = name(&self.held);
            self.changed = true;
        }
        Admission::Held
    }

    /// Releases all that are held if `id` names them; answers whom.
    pub fn confirm(&mut self, id: &str) -> Vec<ObjectId> {
        if self.held.is_empty() || id != self.id {
            return Vec::new();
        }
        self.changed = true;
        let released: Vec<_> = std::mem::take(&mut self.held).into_iter().collect();
        self.confirmed.extend(released.iter().cloned());
        released
    }

    /// The object is gone, or its source is not withdrawn any more.
    pub fn forget(&mut self, object: &ObjectId) {
        self.changed |= self.held.remove(object);
        self.open.remove(object);
        self.confirmed.remove(object);
    }

    pub fn held(&self) -> Option<(String, usize)> {
        (!self.held.is_empty()).then(|| (self.id.clone(), self.held.len()))
    }

    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }
}

/// A short name of a set of objects, the same after a restart.
fn name(held: &BTreeSet<ObjectId>) -> String {
    let mut hash = Sha256::new();
    for object in held {
        hash.update(object.uid.as_bytes());
        hash.update([0]);
    }
    hash.finalize().iter().take(4).fold(String::new(), |name, byte| format!("{name}{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(n: usize) -> ObjectId {
        ObjectId { uid: format!("uid-{n}").into(), namespace: "ns".into(), name: format!("o{n}").into() }
    }

    fn wave(books: &mut Withdrawals, now: Instant, of: usize) -> usize {
        let limit = WithdrawalLimit::Percent(20);
        (0..of).filter(|n| books.admit(now, &object(*n), false, limit, of - n) == Admission::Granted).count()
    }

    #[test]
    fn a_wave_stops_at_the_limit_and_never_resumes_by_time() {
        let now = Instant::now();
        let mut books = Withdrawals::new(now, 0);
        assert_eq!(wave(&mut books, now, 100), 20);
        assert_eq!(books.held().unwrap().1, 80);
        assert_eq!(wave(&mut books, now + WINDOW * 2, 100), 20, "the same twenty; the rest stays held");
    }

    #[test]
    fn a_small_store_may_withdraw_ten() {
        let now = Instant::now();
        assert_eq!(wave(&mut Withdrawals::new(now, 0), now, 15), 10);
        assert_eq!(wave(&mut Withdrawals::new(now, 7), now, 15), 3, "what happened before a restart counts");
    }

    #[test]
    fn a_confirmation_names_what_it_confirms() {
        let now = Instant::now();
        let limit = WithdrawalLimit::Number(0);
        let mut books = Withdrawals::new(now, 10);
        books.admit(now, &object(1), false, limit, 0);
        let (first, _) = books.held().unwrap();
        books.admit(now, &object(2), false, limit, 0);
        assert!(books.confirm(&first).is_empty(), "the set grew since");
        books.forget(&object(1));
        let (second, count) = books.held().unwrap();
        assert_eq!(count, 1);
        assert_eq!(books.confirm(&second), [object(2)]);
        assert_eq!(books.admit(now, &object(2), true, limit, 0), Admission::Granted);
    }

    #[test]
    fn what_was_held_before_a_restart_is_still_held() {
        let now = Instant::now();
        let mut books = Withdrawals::new(now, 0);
        assert_eq!(books.admit(now, &object(1), true, WithdrawalLimit::Percent(20), 100), Admission::Held);
    }
}
