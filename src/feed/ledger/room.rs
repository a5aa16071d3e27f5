//! How much memory values take: one bound for all stores of a process.
//!
//! A [`Room`] is numbers that all ledgers share: reads under way, each of which may bring the largest answer there can be, bytes that are
//! kept until a reconcile has used them, and values that no reconcile has come for yet ([`super::lead`]). Of the first two a store takes no more than it leaves to the others, so that one that hangs or hoards
//! leaves something to each; and those of namespaces, of which anybody may make some, leave half to the others, however many they are.
//! It does no I/O and waits for nobody; what does not fit is asked for later.
//!
//! These two are apart so that nobody can wait for one while holding what another needs: a read always ends by itself, and what is kept is
//! taken in one piece for all sources of an object.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Reads under way at once, of all stores: with the largest answer that the client takes, 1 MiB, that is 10 MiB.
const READS: usize = 10;

/// Bytes of values that are kept at once, of all stores: together with the reads 16 MiB.
pub const KEPT: usize = 6 << 20;

/// The most data that OKMS takes for one secret: what is set aside before a value is read. A larger one is kept where there is room.
pub const USUAL: usize = 64 << 10;

/// Values that may wait at once for somebody to come, of all stores: what some seconds write on a slow cluster.
pub const LEAD: usize = 128;

/// What all ledgers of a process share.
#[derive(Debug, Default)]
pub struct Room {
    all: Taken,
    /// What of that is taken by stores of namespaces.
    of_namespaces: Taken,
    /// Values that somebody was woken for.
    awaited: AtomicUsize,
}

/// Reads under way, and bytes kept.
#[derive(Debug, Default)]
struct Taken {
    reads: AtomicUsize,
    kept: AtomicUsize,
}

impl Room {
    /// Reads under way, and bytes kept.
    pub fn taken(&self) -> (usize, usize) {
        (self.all.reads.load(Ordering::Relaxed), self.all.kept.load(Ordering::Relaxed))
    }

    /// Values that somebody was woken for, who has not come yet.
    pub fn awaited(&self) -> usize {
        self.awaited.load(Ordering::Relaxed)
    }

    /// Whether the reconciles do not follow. While that is so, what waits for them wavers about the bound.
    pub fn is_ahead(&self) -> bool {
        self.awaited() >= LEAD / 2
    }

    pub fn await_one(&self) {
        self.awaited.fetch_add(1, Ordering::Relaxed);
    }

    pub fn fetched(&self, values: usize) {
        change(&self.awaited, |awaited| awaited.checked_sub(values));
    }
}

/// The part of one store, which is given back when the store is gone.
pub struct Account {
    room: Arc<Room>,
    of_namespace: bool,
    reads: usize,
    kept: usize,
}

impl Account {
    /// `of_namespace`: of a store that belongs to one.
    pub fn new(room: Arc<Room>, of_namespace: bool) -> Self {
        Self { room, of_namespace, reads: 0, kept: 0 }
    }

    pub fn room(&self) -> &Arc<Room> {
        &self.room
    }

    /// The most bytes that this store could ever keep.
    pub fn most_kept(&self) -> usize {
        if self.of_namespace { KEPT / 2 } else { KEPT }
    }

    /// Reads of this store that are under way.
    pub fn reads(&self) -> usize {
        self.reads
    }

    /// How many reads of this store may be under way at most while so many of others are.
    pub fn most_reads(&self) -> usize {
        // As many as leave the others twice that.
        (READS.saturating_sub(self.room.taken().0) + self.reads).div_ceil(3)
    }

    /// Takes leave for one more read.
    pub fn start_read(&mut self) -> bool {
        let own = self.reads;
        let fits = self.take(|room| &room.reads, READS, 1, |free| 2 * own < free);
        self.reads += usize::from(fits);
        fits
    }

    pub fn end_read(&mut self) {
        self.reads = self.reads.saturating_sub(1);
        self.give(|room| &room.reads, 1);
    }

    /// Sets so many bytes aside, all or none.
    pub fn set_aside(&mut self, bytes: usize) -> bool {
        let own = self.kept;
        self.keep(bytes, |free| bytes <= free && (own == 0 || 2 * (own + bytes) <= free))
    }

    /// Takes more for a value that turned out larger than usual, whatever the others would be left.
    pub fn stretch(&mut self, bytes: usize) -> bool {
        self.keep(bytes, |free| bytes <= free)
    }

    pub fn give_back(&mut self, bytes: usize) {
        self.kept = self.kept.saturating_sub(bytes);
        self.give(|room| &room.kept, bytes);
    }

    fn keep(&mut self, bytes: usize, fits: impl Fn(usize) -> bool) -> bool {
        let taken = self.take(|room| &room.kept, KEPT, bytes, fits);
        self.kept += if taken { bytes } else { 0 };
        taken
    }

    /// Takes so much of `most`, if it fits into what is free.
    fn take(
        &self,
        of: impl Fn(&Taken) -> &AtomicUsize,
        most: usize,
        amount: usize,
        fits: impl Fn(usize) -> bool,
    ) -> bool {
        let Room { all, of_namespaces, .. } = &*self.room;
        let half = |taken| (taken + amount <= most / 2).then_some(taken + amount);
        if self.of_namespace && !change(of(of_namespaces), half) {
            return false;
        }
        let taken = change(of(all), |taken| fits(most.saturating_sub(taken)).then_some(taken + amount));
        if self.of_namespace && !taken {
            change(of(of_namespaces), |taken| taken.checked_sub(amount));
        }
        taken
    }

    fn give(&self, of: impl Fn(&Taken) -> &AtomicUsize, amount: usize) {
        let Room { all, of_namespaces, .. } = &*self.room;
        for part in [Some(all), self.of_namespace.then_some(of_namespaces)].into_iter().flatten() {
            change(of(part), |taken| taken.checked_sub(amount));
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.give(|room| &room.reads, self.reads);
        self.give(|room| &room.kept, self.kept);
    }
}

fn change(counter: &AtomicUsize, change: impl Fn(usize) -> Option<usize>) -> bool {
    counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(account: &mut Account) -> usize {
        (0..100).filter(|_| account.start_read()).count()
    }

    #[test]
    fn a_store_that_takes_all_it_gets_leaves_something_to_others() {
        let room = Arc::new(Room::default());
        let mut stores: Vec<Account> = (0..5).map(|_| Account::new(room.clone(), false)).collect();
        let got: Vec<usize> = stores.iter_mut().map(reads).collect();
        assert_eq!(got, [4, 2, 2, 1, 1]);
        assert_eq!(room.taken().0, READS);
        stores.truncate(1);
        assert_eq!(room.taken().0, 4, "what is gone has given back what it had");
    }

    #[test]
    fn stores_of_namespaces_leave_half_however_many_they_are() {
        let room = Arc::new(Room::default());
        let mut own: Vec<Account> = (0..50).map(|_| Account::new(room.clone(), true)).collect();
        assert_eq!(own.iter_mut().map(reads).sum::<usize>(), READS / 2);
        let kept: Vec<bool> = own.iter_mut().map(|store| store.set_aside(1 << 19)).collect();
        assert_eq!(kept.iter().filter(|kept| **kept).count(), KEPT / 2 / (1 << 19));
        let mut shared = Account::new(room.clone(), false);
        assert!(reads(&mut shared) >= 2 && shared.set_aside(1 << 20));
        assert!(!own.iter_mut().any(|store| store.stretch(1)));
        drop(own);
        assert_eq!((room.taken().1, reads(&mut Account::new(room, true))), (1 << 20, 3));
    }

    #[test]
    fn bytes_are_taken_whole_and_never_beyond_the_bound() {
        let room = Arc::new(Room::default());
        let (mut one, mut other) = (Account::new(room.clone(), false), Account::new(room.clone(), false));
        assert!(one.set_aside(1 << 20) && one.set_aside(1 << 20) && !one.set_aside(1 << 20));
        assert!(other.set_aside(1 << 20), "the other gets some too");
        assert!(one.stretch(3 << 20) && !one.stretch(1), "a large value may take the rest, and no more");
        assert_eq!(room.taken().1, KEPT);
        one.give_back(5 << 20);
        drop(other);
        assert_eq!(room.taken().1, 0);
    }
}
