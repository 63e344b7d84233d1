//! Chance, by seed: every random choice of a test comes from here, and the seed is printed so that a failure can be had
//! again with `cargo xtask test NAME --seed N`.

use std::time::Duration;

/// A source of random choices that can be had again.
#[derive(Debug)]
pub struct Faults {
    seed: u64,
    random: fastrand::Rng,
}

impl Faults {
    /// The choices of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, random: fastrand::Rng::with_seed(seed) }
    }

    /// The seed, to print.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A moment within `span`, in whole milliseconds.
    pub fn moment(&mut self, span: Duration) -> Duration {
        let limit = u64::try_from(span.as_millis()).unwrap_or(u64::MAX).max(1);
        Duration::from_millis(self.random.u64(0..limit))
    }

    /// One of `count` things.
    pub fn choice(&mut self, count: usize) -> usize {
        self.random.usize(0..count.max(1))
    }

    /// A generator of its own for a part that runs beside others, so that its choices do not depend on their speed.
    #[must_use]
    pub fn part(&self, name: &str) -> Self {
        let mixed =
            name.bytes().fold(self.seed, |seed, byte| seed.rotate_left(7) ^ u64::from(byte));
        Self { seed: self.seed, random: fastrand::Rng::with_seed(mixed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_moments() {
        let moments = |seed| {
            let mut faults = Faults::new(seed).part("power");
            (0..20).map(|_| faults.moment(Duration::from_secs(9))).collect::<Vec<_>>()
        };
        assert_eq!(moments(7), moments(7));
        assert_ne!(moments(7), moments(8));
    }
}
