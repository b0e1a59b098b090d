//! Rice codes in a bit stream, least significant bit first.
//!
//! A code of parameter k is the quotient `value >> k` as that many 0 bits and a 1, then the low k
//! bits. Gaps between random positions of density p are geometric, for which the best k is within
//! a few percent of the entropy; k = 0 is a bitmap.

/// Largest parameter; quotient and remainder then still fit one refill each.
pub const MAX_PARAMETER: u32 = 31;

/// Bits of all `gaps` with the best parameter, and that parameter.
///
/// The size is convex in k (each step halves the quotients' sum at the price of one bit a code),
/// so the first k that does not improve ends the search.
pub fn best_parameter(gaps: impl Iterator<Item = u32> + Clone) -> (u32, u64) {
    let size = |k: u32| {
        gaps.clone()
            .map(|gap| u64::from(gap >> k) + 1 + u64::from(k))
            .sum::<u64>()
    };
    let mut best = (0, size(0));
    for k in 1..=MAX_PARAMETER {
        let bits = size(k);
        if bits >= best.1 {
            break;
        }
        best = (k, bits);
    }
    best
}

/// Appends codes to bytes.
pub struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    buffer: u64,
    filled: u32,
}

impl<'a> BitWriter<'a> {
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        Self {
            out,
            buffer: 0,
            filled: 0,
        }
    }
    /// `bits` ≤ 32 low bits of `value`; the rest of `value` is zero.
    fn push(&mut self, value: u64, bits: u32) {
        self.buffer |= value << self.filled;
        self.filled += bits;
        if self.filled >= 32 {
            self.out.extend((self.buffer as u32).to_le_bytes());
            self.buffer >>= 32;
            self.filled -= 32;
        }
    }
    pub fn rice(&mut self, value: u32, parameter: u32) {
        let mut quotient = value >> parameter;
        while quotient >= 31 {
            self.push(0, 31);
            quotient -= 31;
        }
        self.push(1 << quotient, quotient + 1);
        self.push(u64::from(value) & ((1 << parameter) - 1), parameter);
    }
    /// Pads the last byte with zeros.
    pub fn finish(self) {
        let bytes = self.filled.div_ceil(8) as usize;
        self.out.extend(&self.buffer.to_le_bytes()[..bytes]);
    }
}

/// Reads codes; yields `None` at the end of the bytes.
pub struct BitReader<'a> {
    bytes: &'a [u8],
    buffer: u64,
    /// Valid low bits of `buffer`; bits above may already hold what the next refill adds again.
    filled: u32,
}

impl<'a> BitReader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            buffer: 0,
            filled: 0,
        }
    }
    /// At least 56 valid bits, or all that are left.
    #[inline(always)]
    fn refill(&mut self) {
        if let Some((word, _)) = self.bytes.split_first_chunk::<8>() {
            self.buffer |= u64::from_le_bytes(*word) << self.filled;
            self.bytes = &self.bytes[(63 - self.filled as usize) / 8..];
            self.filled |= 56;
            return;
        }
        while self.filled < 56
            && let Some((&byte, rest)) = self.bytes.split_first()
        {
            self.buffer |= u64::from(byte) << self.filled;
            self.filled += 8;
            self.bytes = rest;
        }
    }
    #[inline(always)]
    pub fn rice(&mut self, parameter: u32) -> Option<u64> {
        let mut quotient = 0u64;
        loop {
            self.refill();
            let zeros = self.buffer.trailing_zeros();
            if zeros < self.filled {
                quotient += u64::from(zeros);
                self.buffer >>= zeros + 1;
                self.filled -= zeros + 1;
                break;
            }
            if self.filled == 0 {
                return None;
            }
            quotient += u64::from(self.filled);
            self.buffer = 0;
            self.filled = 0;
        }
        if self.filled < parameter {
            self.refill();
        }
        if self.filled < parameter || quotient > u64::from(u32::MAX) {
            return None;
        }
        let low = self.buffer & ((1 << parameter) - 1);
        self.buffer >>= parameter;
        self.filled -= parameter;
        Some(quotient << parameter | low)
    }
    /// True when nothing but the zero padding of the last byte is left.
    pub fn is_finished(&mut self) -> bool {
        self.refill();
        self.filled < 8 && self.buffer == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_every_parameter_come_back() {
        let values = [0, 1, 2, 30, 31, 32, 63, 64, 1000, 65_537];
        for parameter in 0..=MAX_PARAMETER {
            let mut bytes = Vec::new();
            let mut writer = BitWriter::new(&mut bytes);
            values
                .iter()
                .for_each(|&value| writer.rice(value, parameter));
            writer.finish();
            let mut reader = BitReader::new(&bytes);
            for &value in &values {
                assert_eq!(
                    reader.rice(parameter),
                    Some(u64::from(value)),
                    "k = {parameter}"
                );
            }
            assert!(reader.is_finished());
        }
    }

    #[test]
    fn best_parameter_is_the_smallest_of_all() {
        for gaps in [
            vec![0u32; 9],
            vec![5; 7],
            vec![1, 900, 3, 70_000],
            vec![u32::MAX >> 1],
            vec![],
        ] {
            let (k, bits) = best_parameter(gaps.iter().copied());
            for other in 0..=MAX_PARAMETER {
                let size: u64 = gaps
                    .iter()
                    .map(|&gap| u64::from(gap >> other) + 1 + u64::from(other))
                    .sum();
                assert!(bits <= size, "{gaps:?}: k = {k} against {other}");
            }
        }
    }

    #[test]
    fn the_end_is_noticed_inside_a_code() {
        assert_eq!(BitReader::new(&[]).rice(0), None);
        assert_eq!(BitReader::new(&[0; 20]).rice(3), None);
        assert_eq!(BitReader::new(&[0x80]).rice(4), None);
    }
}
