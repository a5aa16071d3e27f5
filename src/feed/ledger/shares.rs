//! What each namespace may have of the rate for routine checks, and the intervals that follow from it.
//!
//! Three quarters of the rate are divided so that who asks for less than an equal share gets what it asks for, and the others get
//! equally much of the rest (max-min fairness). Where a namespace asks for more than it gets, its shortest intervals are stretched to a
//! floor. A source that several namespaces read is charged to one of them: that with the fewest.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

/// Checks are counted in so many parts, so that adding and taking away leaves nothing over.
const PARTS: u64 = 1_000_000_000;
const PER_SECOND: f64 = 1e9;

/// The namespaces that read from a store.
pub struct Shares {
    spaces: HashMap<Arc<str>, Space>,
    /// Parts of a check per second that may be made, and that are asked for.
    rate: u64,
    asked: u64,
    /// Parts per second that are spent otherwise.
    reserved: u64,
    outdated: bool,
}

#[derive(Default)]
struct Space {
    objects: usize,
    /// How many sources it pays for, by the interval that is asked for them.
    sources: BTreeMap<Duration, usize>,
    paid: usize,
    asked: u64,
    floor: Duration,
}

impl Shares {
    pub fn new(requests_per_second: f64) -> Self {
        Self { spaces: HashMap::new(), rate: parts(requests_per_second), asked: 0, reserved: 0, outdated: false }
    }

    pub fn change(&mut self, requests_per_second: f64) {
        self.rate = parts(requests_per_second);
        self.outdated = true;
    }

    /// So many calls per second serve all namespaces together, and are not divided.
    pub fn reserve(&mut self, calls_per_second: f64) {
        let reserved = whole(calls_per_second * PER_SECOND);
        self.outdated |= reserved != self.reserved;
        self.reserved = reserved;
    }

    /// Calls per second for what is routine.
    pub fn rate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a rate need not be exact")]
        let parts = self.rate as f64;
        parts / PER_SECOND
    }

    pub fn joined(&mut self, namespace: &Arc<str>) {
        self.spaces.entry(namespace.clone()).or_default().objects += 1;
    }

    /// An object is gone. Answers whether it was the last of its namespace.
    pub fn left(&mut self, namespace: &Arc<str>) -> bool {
        let Some(space) = self.spaces.get_mut(namespace) else { return false };
        space.objects = space.objects.saturating_sub(1);
        let last = space.objects == 0;
        if last {
            self.asked -= space.asked;
            self.spaces.remove(namespace);
            self.outdated = true;
        }
        last
    }

    /// Whether something of this namespace reads from the store.
    pub fn knows(&self, namespace: &Arc<str>) -> bool {
        self.spaces.contains_key(namespace)
    }

    /// Which of the namespaces that read a source is to pay for it: the one that pays for the fewest.
    pub fn payer<'a>(&self, readers: impl Iterator<Item = &'a Arc<str>>) -> Option<&'a Arc<str>> {
        readers.min_by_key(|reader| self.spaces.get(*reader).map_or(0, |space| space.paid))
    }

    /// A namespace pays for one more source, checked at this interval; without one it costs nothing at rest.
    pub fn charge(&mut self, namespace: &Arc<str>, interval: Option<Duration>) {
        let space = self.spaces.entry(namespace.clone()).or_default();
        space.paid += 1;
        let Some(interval) = interval else { return };
        *space.sources.entry(interval).or_default() += 1;
        space.asked += cost(interval);
        self.asked += cost(interval);
        self.outdated = true;
    }

    /// It does not pay for it any more.
    pub fn discharge(&mut self, namespace: &Arc<str>, interval: Option<Duration>) {
        let Some(space) = self.spaces.get_mut(namespace) else { return };
        space.paid = space.paid.saturating_sub(1);
        let Some(interval) = interval else { return };
        let Some(count) = space.sources.get_mut(&interval) else { return };
        *count -= 1;
        if *count == 0 {
            space.sources.remove(&interval);
        }
        space.asked -= cost(interval);
        self.asked -= cost(interval);
        self.outdated = true;
    }

    /// No source that this namespace pays for is checked more often than this.
    pub fn floor(&self, namespace: &Arc<str>) -> Duration {
        self.spaces.get(namespace).map_or(Duration::ZERO, |space| space.floor)
    }

    /// The longest floor of all.
    pub fn longest_floor(&self) -> Duration {
        self.spaces.values().map(|space| space.floor).max().unwrap_or_default()
    }

    /// Works the floors out anew if something has changed. Answers whether it has.
    pub fn divide(&mut self) -> bool {
        if !std::mem::take(&mut self.outdated) {
            return false;
        }
        // What is reserved is of the rate as it was then, of which it took no more than this.
        let rate = self.rate - self.reserved.min(self.rate / 5 * 2);
        if self.asked <= rate {
            for space in self.spaces.values_mut() {
                space.floor = Duration::ZERO;
            }
            return true;
        }
        let mut asking: Vec<u64> = self.spaces.values().map(|space| space.asked).filter(|asked| *asked > 0).collect();
        asking.sort_unstable();
        let (mut rest, mut others) = (rate, asking.len() as u64);
        let mut share = rest / others.max(1);
        for asked in asking {
            share = rest / others.max(1);
            if asked > share {
                break;
            }
            rest -= asked;
            others -= 1;
        }
        for space in self.spaces.values_mut() {
            space.floor = if space.asked > share { space.floor_for(share) } else { Duration::ZERO };
        }
        true
    }
}

impl Space {
    /// To what the shortest intervals have to be stretched so that all sources together cost no more than a share.
    fn floor_for(&self, share: u64) -> Duration {
        let mut beyond = self.asked;
        let mut stretched = 0_u64;
        let mut floor = Duration::ZERO;
        for (interval, count) in &self.sources {
            if stretched > 0 && *interval >= floor {
                break;
            }
            stretched += *count as u64;
            beyond -= cost(*interval) * *count as u64;
            let left = share.saturating_sub(beyond);
            floor = match left {
                0 => Duration::MAX,
                left => Duration::from_nanos(
                    u64::try_from(u128::from(stretched) * u128::from(PARTS) * 1_000_000_000 / u128::from(left))
                        .unwrap_or(u64::MAX),
                ),
            };
        }
        floor
    }
}

/// Three quarters of the rate serve routine checks; the rest is kept for what people wait for.
fn parts(requests_per_second: f64) -> u64 {
    whole(requests_per_second.max(0.1) * 0.75 * PER_SECOND)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate is positive and far below 2^32")]
fn whole(parts: f64) -> u64 {
    parts as u64
}

fn cost(interval: Duration) -> u64 {
    u64::try_from(u128::from(PARTS) * 1000 / interval.as_millis().max(1)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    fn ns(n: usize) -> Arc<str> {
        format!("ns-{n}").into()
    }

    fn shares(rate: f64, namespaces: &[(usize, Duration)]) -> Shares {
        let mut shares = Shares::new(rate);
        for (n, (sources, interval)) in namespaces.iter().enumerate() {
            shares.joined(&ns(n));
            for _ in 0..*sources {
                shares.charge(&ns(n), Some(*interval));
            }
        }
        shares.divide();
        shares
    }

    #[test]
    fn who_asks_for_little_keeps_its_interval_beside_who_asks_for_much() {
        let shares = shares(20.0, &[(10_000, MINUTE), (1, MINUTE), (300, MINUTE)]);
        assert_eq!(shares.floor(&ns(1)), Duration::ZERO);
        assert_eq!(shares.floor(&ns(2)), Duration::ZERO, "five a second is a third of the rate");
        // What the two leave of fifteen a second.
        let floor = shares.floor(&ns(0)).as_secs_f64();
        assert!((floor - 10_000.0 / (15.0 - 301.0 / 60.0)).abs() < 1.0, "{floor}");
    }

    #[test]
    fn only_the_shortest_intervals_are_stretched() {
        let mut shares = shares(20.0, &[(900, MINUTE / 2)]);
        for _ in 0..3600 {
            shares.charge(&ns(0), Some(MINUTE * 60));
        }
        shares.divide();
        assert!((shares.floor(&ns(0)).as_secs_f64() - 900.0 / 14.0).abs() < 1.0, "{:?}", shares.floor(&ns(0)));
    }

    #[test]
    fn what_is_gone_asks_for_nothing() {
        let mut shares = shares(20.0, &[(10_000, MINUTE), (10_000, MINUTE)]);
        let before = shares.floor(&ns(0));
        for _ in 0..10_000 {
            shares.discharge(&ns(1), Some(MINUTE));
        }
        assert!(shares.left(&ns(1)));
        assert!(shares.divide());
        assert!(shares.floor(&ns(0)) <= before / 2 + Duration::from_secs(1));
        assert_eq!((shares.spaces.len(), shares.asked), (1, cost(MINUTE) * 10_000));
    }

    #[test]
    fn a_rate_that_is_lowered_below_what_is_reserved_serves_everybody_all_the_same() {
        let mut shares = shares(20.0, &[(100, MINUTE), (100, MINUTE)]);
        shares.reserve(1.8);
        shares.change(2.0);
        assert!(shares.divide());
        // Two fifths of a call and a half per second are reserved, and each gets half of the rest.
        let floor = shares.longest_floor().as_secs_f64();
        assert!((floor - 100.0 / 0.45).abs() < 1.0, "{floor}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn nobody_gets_less_than_an_equal_share_or_what_it_asks_for(
            namespaces in vec((1..500_usize, 1..600_u64), 1..20),
            rate in 1..100_u32,
        ) {
            let namespaces: Vec<_> = namespaces.iter().map(|(n, s)| (*n, Duration::from_secs(*s))).collect();
            let shares = shares(rate.into(), &namespaces);
            let rate = f64::from(rate) * 0.75;
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let (equal, mut got) = (rate / namespaces.len() as f64, 0.0);
            for (n, (sources, interval)) in namespaces.iter().enumerate() {
                #[expect(clippy::cast_precision_loss, reason = "small numbers")]
                let per_second = |interval: Duration| *sources as f64 / interval.as_secs_f64();
                let gets = per_second((*interval).max(shares.floor(&ns(n))));
                prop_assert!(gets >= per_second(*interval).min(equal) * 0.999, "{gets} of {}", per_second(*interval));
                got += gets;
            }
            prop_assert!(got <= rate * 1.001, "{got} of {rate}");
            let asked = shares.asked > shares.rate;
            prop_assert!(!asked || got >= rate * 0.99, "{got} of {rate} are used");
        }
    }
}
