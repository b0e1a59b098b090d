//! What a 32-bit lane holds while code is walked.
//!
//! Floating-point values are elements of the field of integers modulo p = 2⁶¹ − 1. A float m·2ᵉ is
//! mapped to m·2ᵉ mod p, which exists for every e because 2⁶¹ = 1 there, and which respects sums and
//! products: a sum of products has one image, whatever its order and whichever rounding the machine
//! would have done. Inputs are random elements. Two polynomials of degree d that differ agree on random
//! inputs with a probability of at most d / p (Schwartz, Zippel), here below 10⁻¹⁶.

use std::fmt;

/// 2⁶¹ − 1, a prime.
const P: u64 = (1 << 61) - 1;
/// Marks lanes that hold raw bits: tables, masks, packed weights before arithmetic.
const BITS: u64 = 1 << 63;
/// A value that the code may read but must not use.
const POISON: u64 = 1 << 62;

/// One lane of a vector, or 4 bytes of memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Lane(u64);

impl Lane {
    /// Zero, as bits and as a number.
    pub const ZERO: Self = Self(0);
    /// Memory outside of what a layer's operands hold.
    pub const POISON: Self = Self(POISON);

    /// Raw bits.
    pub fn bits(bits: u32) -> Self {
        match bits {
            0 => Self::ZERO,
            bits => Self(BITS | u64::from(bits)),
        }
    }

    /// A float.
    pub fn float(value: f32) -> Self {
        let bits = value.to_bits();
        let (fraction, exponent) = (u64::from(bits & 0x7F_FFFF), bits >> 23 & 0xFF);
        if exponent == 0xFF {
            return opaque("special", &[Self::bits(bits)]);
        }
        let (mantissa, exponent) = match exponent {
            0 => (fraction, 1),
            exponent => (fraction | 0x80_0000, exponent),
        };
        // value = mantissa · 2^(exponent − 150); 183 = 3 · 61.
        let magnitude = times_power(mantissa, (exponent + 183 - 150) % 61);
        match value.is_sign_negative() {
            true => Self(magnitude).negated(),
            false => Self(magnitude),
        }
    }

    /// A random element, the same for the same numbers.
    pub fn random(seed: [u64; 3]) -> Self {
        let mixed = seed.into_iter().fold(0x5EED, |hash, word| mix(hash ^ word));
        // Never 0: a product with an input must not vanish.
        Self(mixed % (P - 1) + 1)
    }

    /// The bits, if these are bits.
    pub fn as_bits(self) -> Option<u32> {
        (self.0 == 0 || self.0 & BITS != 0).then_some(self.0 as u32)
    }

    /// True for what must not be used.
    pub fn is_poison(self) -> bool {
        self.0 == POISON
    }

    /// The number: bits become the float that they stand for.
    fn number(self) -> Self {
        match self.as_bits() {
            Some(0) => self,
            Some(bits) => Self::float(f32::from_bits(bits)),
            None => self,
        }
    }

    fn negated(self) -> Self {
        Self(if self.0 == 0 { 0 } else { P - self.0 })
    }

    /// `f` of two numbers; poison stays.
    fn both(self, other: Self, f: impl FnOnce(u64, u64) -> u64) -> Self {
        if self.is_poison() || other.is_poison() {
            return Self::POISON;
        }
        Self(f(self.number().0, other.number().0))
    }

    pub fn plus(self, other: Self) -> Self {
        self.both(other, |a, b| reduce(a + b))
    }

    pub fn minus(self, other: Self) -> Self {
        self.both(other, |a, b| reduce(a + P - b))
    }

    pub fn times(self, other: Self) -> Self {
        self.both(other, product)
    }

    pub fn over(self, other: Self) -> Self {
        self.both(other, |a, b| product(a, power(b, P - 2)))
    }

    /// The larger in an order of its own: what counts is that it is the same for every order of
    /// comparisons, and that nothing is below the least float, where maxima start.
    pub fn max(self, other: Self) -> Self {
        self.both(other, |a, b| if rank(a) >= rank(b) { a } else { b })
    }

    /// The smaller in the order of [`Lane::max`].
    pub fn min(self, other: Self) -> Self {
        self.both(other, |a, b| if rank(a) < rank(b) { a } else { b })
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.is_poison(), self.as_bits()) {
            (true, _) => f.write_str("undefined"),
            (_, Some(bits)) => write!(f, "{bits:#x}"),
            _ => write!(f, "element {:x}", self.0),
        }
    }
}

/// The result of something that is not a polynomial: different for different operands.
pub fn opaque(what: &str, operands: &[Lane]) -> Lane {
    if operands.iter().any(|operand| operand.is_poison()) {
        return Lane::POISON;
    }
    let name = what
        .bytes()
        .fold(1, |hash, byte| mix(hash ^ u64::from(byte)));
    let hash = operands.iter().fold(name, |hash, lane| mix(hash ^ lane.0));
    Lane(hash % P)
}

fn rank(element: u64) -> u64 {
    // Maxima start at −FLT_MAX or −∞.
    let lowest = [f32::MIN, f32::NEG_INFINITY].map(|least| Lane::float(least).0);
    match lowest.contains(&element) {
        true => 0,
        false => mix(element) | 1,
    }
}

fn reduce(sum: u64) -> u64 {
    let folded = (sum & P) + (sum >> 61);
    if folded >= P { folded - P } else { folded }
}

fn product(a: u64, b: u64) -> u64 {
    let wide = u128::from(a) * u128::from(b);
    reduce((wide as u64 & P) + (wide >> 61) as u64)
}

/// `value · 2^by` for values below 2⁶¹.
fn times_power(value: u64, by: u32) -> u64 {
    product(reduce(value), 1 << by)
}

fn power(base: u64, mut exponent: u64) -> u64 {
    let (mut base, mut result) = (base, 1);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = product(result, base);
        }
        base = product(base, base);
        exponent >>= 1;
    }
    result
}

/// SplitMix64's finalizer: a bijection without structure.
fn mix(value: u64) -> u64 {
    let z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn floats_add_and_multiply_as_their_images_do(a in -2048..2048i32, b in -2048..2048i32, e in -20..20i32) {
            let (x, y) = (a as f32 * 2f32.powi(e), b as f32 * 2f32.powi(e));
            prop_assert_eq!(Lane::float(x).plus(Lane::float(y)), Lane::float(x + y));
            prop_assert_eq!(Lane::float(x).minus(Lane::float(y)), Lane::float(x - y));
            prop_assert_eq!(Lane::float(x).times(Lane::float(y)), Lane::float(x * y));
            if b != 0 {
                let quotient = Lane::float(x).over(Lane::float(y));
                prop_assert_eq!(quotient.times(Lane::float(y)), Lane::float(x));
            }
        }

        #[test]
        fn maxima_do_not_depend_on_their_order(seeds in prop::collection::vec(any::<u64>(), 1..8)) {
            let values: Vec<Lane> = seeds.iter().map(|&seed| Lane::random([seed, 0, 0])).collect();
            let forward = values.iter().fold(Lane::float(f32::MIN), |max, &value| max.max(value));
            let backward = values.iter().rev().fold(Lane::float(f32::NEG_INFINITY), |max, &value| value.max(max));
            prop_assert_eq!(forward, backward);
            prop_assert!(values.contains(&forward));
        }
    }

    #[test]
    fn extremes_have_images() {
        for value in [f32::MIN_POSITIVE, f32::MAX, f32::from_bits(1), 1.0, -1.0] {
            assert!(Lane::float(value).0 < P && Lane::float(value) != Lane::ZERO);
            assert_eq!(Lane::float(value).plus(Lane::float(-value)), Lane::ZERO);
        }
        assert_eq!(Lane::float(1.0), Lane(1));
        assert_eq!(Lane::float(-0.0), Lane::ZERO);
        assert!(Lane::POISON.times(Lane::ZERO).is_poison());
    }
}
