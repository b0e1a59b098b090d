//! Arbitrary numbers that are the same in every run.

/// SplitMix64. Recorded results depend on its numbers.
#[derive(Clone, Debug)]
pub struct Noise(u64);

impl Noise {
    /// Any seed is as good as any other, neighbours included.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 if there is none.
    pub fn below(&mut self, end: u64) -> u64 {
        self.bits() % end.max(1)
    }

    /// From −1 to 1, the latter not included.
    pub fn value(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    /// So many from −1 to 1.
    pub fn values(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.value()).collect()
    }

    /// So many whole numbers from −128 to 127.
    pub fn pixels(&mut self, count: usize) -> Vec<f32> {
        let pixel = |_| (self.bits() >> 56) as f32 - 128.0;
        (0..count).map(pixel).collect()
    }
}
