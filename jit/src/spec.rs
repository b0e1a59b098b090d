//! Identity of what code is generated from, so that equal kernels are generated, timed and kept once.

use std::hash::Hasher;

/// 128-bit identity of a kernel specification; the same in every process and on every machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SpecHash(pub u128);

/// Hashes a specification (anything `Hash`) to a [`SpecHash`].
///
/// Two independent 64-bit lanes of multiply and rotate over 8-byte words. Accidental collisions are
/// out of reach; it is not built to withstand someone who searches for them, so code for models of
/// mutually distrusting owners belongs into separate caches.
#[derive(Clone, Debug)]
pub struct SpecHasher {
    lanes: [u64; 2],
    words: u64,
}

/// Odd multipliers with about half of their bits set.
const MULTIPLIERS: [u64; 2] = [0x9E6C_63D0_876A_9A4B, 0xD1B5_4A32_D192_ED03];
const SEEDS: [u64; 2] = [0x736B_696D_6A69_7431, 0x7370_6563_6861_7368];

impl SpecHasher {
    /// An empty hash.
    pub fn new() -> Self {
        Self {
            lanes: SEEDS,
            words: 0,
        }
    }

    /// All 128 bits of what was written so far.
    pub fn finish128(&self) -> SpecHash {
        let [a, b] = self.lanes;
        let first = finalize(a ^ b.rotate_left(32) ^ self.words);
        let second = finalize(b.wrapping_add(first).wrapping_add(self.words));
        SpecHash(u128::from(first) << 64 | u128::from(second))
    }

    #[inline]
    fn mix(&mut self, word: u64) {
        let [a, b] = &mut self.lanes;
        *a = (*a ^ word).wrapping_mul(MULTIPLIERS[0]).rotate_left(29);
        *b = b
            .wrapping_add(word.rotate_left(17))
            .wrapping_mul(MULTIPLIERS[1]);
        *b ^= *b >> 31;
        self.words += 1;
    }
}

/// Spreads every input bit over the whole word.
fn finalize(mut word: u64) -> u64 {
    for multiplier in MULTIPLIERS {
        word ^= word >> 32;
        word = word.wrapping_mul(multiplier);
    }
    word ^ word >> 29
}

impl Default for SpecHasher {
    fn default() -> Self {
        Self::new()
    }
}

/// Integers are hashed by value: the defaults would go through native-endian bytes and, for
/// `usize`, the pointer size.
impl Hasher for SpecHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, tail) = bytes.as_chunks::<8>();
        for &word in words {
            self.mix(u64::from_le_bytes(word));
        }
        let mut last = [0; 8];
        last[..tail.len()].copy_from_slice(tail);
        self.mix(u64::from_le_bytes(last));
        // Tells a zero tail from a shorter one.
        self.mix(bytes.len() as u64);
    }
    fn write_u8(&mut self, value: u8) {
        self.mix(value.into());
    }
    fn write_u16(&mut self, value: u16) {
        self.mix(value.into());
    }
    fn write_u32(&mut self, value: u32) {
        self.mix(value.into());
    }
    fn write_u64(&mut self, value: u64) {
        self.mix(value);
    }
    fn write_u128(&mut self, value: u128) {
        self.mix(value as u64);
        self.mix((value >> 64) as u64);
    }
    fn write_usize(&mut self, value: usize) {
        self.mix(value as u64);
    }
    fn write_i8(&mut self, value: i8) {
        self.mix(i64::from(value) as u64);
    }
    fn write_i16(&mut self, value: i16) {
        self.mix(i64::from(value) as u64);
    }
    fn write_i32(&mut self, value: i32) {
        self.mix(i64::from(value) as u64);
    }
    fn write_i64(&mut self, value: i64) {
        self.mix(value as u64);
    }
    fn write_i128(&mut self, value: i128) {
        self.write_u128(value as u128);
    }
    fn write_isize(&mut self, value: isize) {
        self.mix(value as i64 as u64);
    }
    /// The upper half of [`SpecHasher::finish128`].
    fn finish(&self) -> u64 {
        (self.finish128().0 >> 64) as u64
    }
}
