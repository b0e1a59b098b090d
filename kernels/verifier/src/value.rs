//! What a 32-bit lane holds while code is walked.
//!
//! Floating-point values are elements of the field of integers modulo p = 2⁵⁸ − 27, a prime. A float
//! m·2ᵉ is mapped to m·2ᵉ mod p, which exists for every e, and which respects sums and products: a sum
//! of products has one image, whatever its order and whichever rounding the machine would have done.
//! All powers of two that floats have are different modulo p (modulo 2⁶¹ − 1, say, 2⁶¹ would be 1).
//! Inputs are random elements. Two polynomials of degree d that differ agree on random inputs with a
//! probability of at most d / p (Schwartz, Zippel), here below 10⁻¹⁵.
//!
//! What is not a polynomial is a function of which only the name is known: an element that depends on
//! the name and the operands, and on nothing else ([`opaque`]). Maxima and minima are sets of operands
//! (see `extremes.rs`).
//!
//! The sign of a zero, rounding, and what infinities do in sums and products are not modelled.

use std::fmt;

/// Bits of an element.
const ELEMENT_BITS: u32 = 58;
/// 2⁵⁸ modulo [`P`].
const FOLD: u64 = 27;
/// A prime.
const P: u64 = (1 << ELEMENT_BITS) - FOLD;
/// Powers of two, from that of the smallest float on: 2⁻¹⁴⁹, ….
const POWERS: [u64; 254] = powers();
/// Marks lanes that hold raw bits: tables, masks, packed weights before arithmetic.
const BITS: u64 = 1 << 63;
/// A value that the code may read but must not use.
const POISON: u64 = 1 << 62;
/// Zero as the result of arithmetic. It equals zero, but the machine may be left with a rounding
/// error: no mask and no address may be made from it.
const CANCELLED: u64 = P;

/// Where the images of infinities and NaNs are hashed from.
const SPECIAL: u64 = 0x5BEC_1A15;

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
            return Self::element(mix(SPECIAL ^ u64::from(bits)));
        }
        let (mantissa, exponent) = match exponent {
            0 => (fraction, 1),
            exponent => (fraction | 0x80_0000, exponent),
        };
        // value = mantissa · 2^(exponent − 150).
        let magnitude = product(mantissa, POWERS[exponent as usize - 1]);
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

    /// An element by its number, which may be any.
    pub fn element(number: u64) -> Self {
        Self(number % P)
    }

    /// The element as a number below p; `None` for what must not be used.
    pub fn as_element(self) -> Option<u64> {
        (!self.is_poison()).then(|| self.number().0 % P)
    }

    /// The bits, if these are bits.
    pub fn as_bits(self) -> Option<u32> {
        (self.0 == 0 || self.0 & BITS != 0).then_some(self.0 as u32)
    }

    /// True for what must not be used.
    pub fn is_poison(self) -> bool {
        self.0 == POISON
    }

    /// True for the number zero.
    pub fn is_zero(self) -> bool {
        self.0 == 0 || self.0 == CANCELLED
    }

    /// What stands for the same number in arithmetic, and is not converted again.
    pub fn as_number(self) -> Self {
        match self.is_poison() {
            true => self,
            false => self.number(),
        }
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
        Self((P - self.0 % P) % P)
    }

    /// `f` of two numbers; poison stays.
    fn both(self, other: Self, f: impl FnOnce(u64, u64) -> u64) -> Self {
        if self.is_poison() || other.is_poison() {
            return Self::POISON;
        }
        match f(self.number().0, other.number().0) {
            0 => Self(CANCELLED),
            element => Self(element),
        }
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
    // The same numbers are the same operands, however they were come by.
    let element = |lane: &Lane| lane.number().0 % P;
    let hash = operands
        .iter()
        .fold(name, |hash, lane| mix(hash ^ element(lane)));
    Lane(hash % P)
}

/// A sum of two elements, each at most p.
const fn reduce(sum: u64) -> u64 {
    if sum >= P { sum - P } else { sum }
}

const fn product(a: u64, b: u64) -> u64 {
    const LOW: u64 = (1 << ELEMENT_BITS) - 1;
    let wide = a as u128 * b as u128;
    // Below 2⁶³, then below 2⁵⁸ + 2¹⁰.
    let folded = (wide as u64 & LOW) + (wide >> ELEMENT_BITS) as u64 * FOLD;
    reduce((folded & LOW) + (folded >> ELEMENT_BITS) * FOLD)
}

const fn powers() -> [u64; 254] {
    const HALF: u64 = P.div_ceil(2);
    let mut power = 1;
    let mut exponent = 0;
    while exponent > -149 {
        power = product(power, HALF);
        exponent -= 1;
    }
    let mut powers = [0; 254];
    let mut index = 0;
    while index < powers.len() {
        powers[index] = power;
        power = reduce(2 * power);
        index += 1;
    }
    powers
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
pub fn mix(value: u64) -> u64 {
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
            let same = |a: Lane, b: Lane| a.minus(b).is_zero();
            prop_assert!(same(Lane::float(x).plus(Lane::float(y)), Lane::float(x + y)));
            prop_assert!(same(Lane::float(x).minus(Lane::float(y)), Lane::float(x - y)));
            prop_assert!(same(Lane::float(x).times(Lane::float(y)), Lane::float(x * y)));
            if b != 0 {
                let quotient = Lane::float(x).over(Lane::float(y));
                prop_assert!(same(quotient.times(Lane::float(y)), Lane::float(x)));
            }
        }
    }

    #[test]
    fn extremes_have_images() {
        for value in [f32::MIN_POSITIVE, f32::MAX, f32::from_bits(1), 1.0, -1.0] {
            assert!(Lane::float(value).0 < P && Lane::float(value) != Lane::ZERO);
            let sum = Lane::float(value).plus(Lane::float(-value));
            assert!(sum.is_zero() && sum.as_bits().is_none());
        }
        assert_eq!(Lane::float(1.0), Lane(1));
        assert_eq!(Lane::float(-3.0).plus(Lane::float(4.0)), Lane(1));
        assert_eq!(Lane::float(-0.0), Lane::ZERO);
        assert!(Lane::POISON.times(Lane::ZERO).is_poison());
    }

    #[test]
    fn scales_of_floats_are_different() {
        // Products of four floats.
        let mut seen = std::collections::HashSet::new();
        let mut element = Lane::float(f32::from_bits(1));
        for _ in 0..4 * 280 {
            assert!(seen.insert(element.0));
            element = element.times(Lane::float(2.0));
        }
        let [half, tiny] = [0x3F00_0000, 0x0200_0000].map(|bits| Lane::float(f32::from_bits(bits)));
        assert_ne!(half, tiny);
    }
}
