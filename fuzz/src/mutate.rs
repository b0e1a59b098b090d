//! Damages inputs, the same way for the same seed on any computer.

/// Numbers that sizes and counts are not expected to have.
const EXTREMES: [u64; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    u64::MAX,
];

/// Longest input that is made.
const LONGEST: usize = 1 << 16;

/// A source of damaged inputs.
pub struct Mutator(u64);

impl Mutator {
    /// The seed decides everything.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// SplitMix64.
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, count: usize) -> usize {
        (self.bits() % count.max(1) as u64) as usize
    }

    /// One of the seeds with one to four faults, or mixed with another one.
    pub fn input(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut data = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(4) {
            self.damage(&mut data, seeds);
        }
        data.truncate(LONGEST.max(seeds.iter().map(Vec::len).max().unwrap_or(0)));
        data
    }

    fn damage(&mut self, data: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let at = self.below(data.len() + 1);
        let kind = self.below(8);
        match kind {
            0 => data.truncate(at),
            1 => self.number(data, at),
            2 => {
                // A part again, or moved.
                let end = (at + 1 + self.below(32)).min(data.len());
                let part = data[at..end].to_vec();
                let to = self.below(data.len() + 1);
                data.splice(to..to, part);
            }
            3 => {
                let end = (at + 1 + self.below(16)).min(data.len());
                data.drain(at..end);
            }
            4 => {
                let other = &seeds[self.below(seeds.len())];
                let from = self.below(other.len() + 1);
                data.splice(at.., other[from..].iter().copied());
            }
            _ if at < data.len() => data[at] ^= 1 << self.below(8),
            _ => data.push(self.bits() as u8),
        }
    }

    /// An extreme number of 1, 2, 4 or 8 bytes in place of what is there.
    fn number(&mut self, data: &mut [u8], at: usize) {
        let value = EXTREMES[self.below(EXTREMES.len())];
        let size = 1 << self.below(4);
        let bytes = match self.below(2) {
            0 => value.to_le_bytes()[..size].to_vec(),
            _ => value.to_be_bytes()[8 - size..].to_vec(),
        };
        let places = data.iter_mut().skip(at);
        places.zip(bytes).for_each(|(place, byte)| *place = byte);
    }
}
