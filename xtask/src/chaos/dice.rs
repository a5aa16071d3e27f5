//! Randomness that a seed decides, for good: a seed that failed must fail again with every later release of every library.

use std::time::Duration;

/// `SplitMix64`: a counter whose every value is scrambled.
#[derive(Clone)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Dice of their own for one purpose, so that more throws for another one do not change them.
    pub(super) fn fork(&self, purpose: &str) -> Self {
        let mut dice = self.clone();
        for byte in purpose.bytes() {
            dice.0 ^= u64::from(byte);
            dice.0 = dice.next();
        }
        dice
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    /// From 0 to below the bound; 0 where that is 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        let thrown = self.next() % u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from(thrown).unwrap_or(0)
    }

    /// Whether something happens that does so in so many of a hundred cases.
    pub(super) fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    /// One of these; nothing where there is none.
    pub(super) fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len()))
    }

    /// One of these; the weight says how often.
    pub(super) fn weighted<T: Copy>(&mut self, from: &[(usize, T)]) -> Option<T> {
        let mut left = self.below(from.iter().map(|(weight, _)| weight).sum());
        from.iter().find_map(|(weight, one)| {
            if left < *weight {
                return Some(*one);
            }
            left -= weight;
            None
        })
    }

    /// Between two durations, to the millisecond.
    pub(super) fn between(&mut self, from: Duration, to: Duration) -> Duration {
        let span = to.saturating_sub(from).as_millis();
        let thrown = self.below(usize::try_from(span).unwrap_or(usize::MAX));
        from + Duration::from_millis(u64::try_from(thrown).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_throws_the_same() {
        let throw = |mut dice: Dice| (0..4).map(|_| dice.below(1000)).collect::<Vec<_>>();
        assert_eq!(throw(Dice::new(7)), throw(Dice::new(7)));
        assert_ne!(throw(Dice::new(7)), throw(Dice::new(8)));
        assert_ne!(throw(Dice::new(7).fork("a")), throw(Dice::new(7).fork("b")));
        assert_eq!(Dice::new(1).next(), 0x910a_2dec_8902_5cc1, "for good");
    }

    #[test]
    fn weights_decide_how_often() {
        let mut dice = Dice::new(1);
        let often = (0..1000).filter(|_| dice.weighted(&[(9, true), (1, false)]) == Some(true)).count();
        assert!((850..950).contains(&often), "{often}");
        assert_eq!(dice.weighted::<u8>(&[]), None);
    }
}
