//! Random numbers that depend on a seed and on what they are for, never on which thread asks.

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A sequence of its own for each item of each layer.
    pub fn new(seed: u64, layer: u64, item: u64) -> Self {
        let mut random = Self(seed);
        for word in [layer, item] {
            random.0 = random.next() ^ word;
        }
        random
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`, 0 for 0.
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    /// Any order of `items`, each as likely as another (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_spread_and_repeatable() {
        let draw = |item| Random::new(7, 1, item).below(10);
        let counts = (0..10_000).fold([0; 10], |mut counts, item| {
            counts[draw(item) as usize] += 1;
            counts
        });
        assert!(
            counts.iter().all(|count| (850..1150).contains(count)),
            "{counts:?}"
        );
        assert_eq!(draw(3), draw(3));
        assert_eq!(Random::new(1, 2, 3).below(0), 0);
        let mut items: Vec<u32> = (0..100).collect();
        Random::new(0, 0, 0).shuffle(&mut items);
        assert!(!items.is_sorted());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}
