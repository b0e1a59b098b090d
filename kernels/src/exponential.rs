//! The exponential: what smooth functions are made of.
//!
//! eˣ = 2ⁿ·(1 + p), n being the integer nearest to x/ln 2 and p = eʳ − 1 a polynomial of the rest r, |r| ≤ ln 2 / 2.
//! Both eˣ and eˣ − 1 follow without cancellation.

use crate::lockstep::{Lockstep, R};
use skimjit_jit::asm::VectorAsm;

/// Arguments between which eˣ is neither 0 nor infinite, with some distance.
pub const EXP_RANGE: [f32; 2] = [-87.3, 88.3];
/// The same, of which 1 + eˣ is finite and 1/(1 + eˣ) no denormal number.
const LOGISTIC_RANGE: [f32; 2] = [-87.3, 87.0];
/// Coefficients of (eʳ − 1 − r) / r², highest power first: Taylor terms 1/7! … 1/2!. The rest is below
/// 2⁻²⁷.
const COEFFICIENTS: [f32; 6] = [
    1.984_127e-4,
    1.388_888_9e-3,
    8.333_334e-3,
    4.166_666_8e-2,
    1.666_666_7e-1,
    0.5,
];
/// −ln 2, of which the first part times an integer below 2¹⁴ is exact.
const MINUS_LN2: [f32; 2] = [-0.693_359_4, 2.121_944_4e-4];
/// 1.5·2²³: a float of this size has no fraction, and its low bits are an integer.
const WHOLE: f32 = 12_582_912.0;
/// What is added to an exponent in the bits of a float.
const BIAS: f32 = 127.0;
/// Coefficients of 2ʳ, |r| ≤ 1/2, highest power first: the largest relative error is 2⁻²⁸.
const POWER_OF_2: [f32; 7] = [
    1.546_144_5e-4,
    1.340_042_8e-3,
    9.618_058e-3,
    5.550_327e-2,
    2.402_265e-1,
    6.931_472e-1,
    1.0,
];

impl<A: VectorAsm> Lockstep<'_, A> {
    /// x = min(max(x, low), high); NaN stays. Overwrites `t`.
    pub fn clamp(&mut self, x: R, [low, high]: [f32; 2], t: R) {
        self.set(t, low.into());
        self.vmax(x, t, x);
        self.set(t, high.into());
        self.vmin(x, t, x);
    }

    /// x = the polynomial of `of` with these coefficients, highest power first.
    pub fn polynomial(&mut self, x: R, of: R, coefficients: &[f32]) {
        for (i, &coefficient) in coefficients.iter().enumerate() {
            let coefficient = self.number(coefficient.into());
            match i {
                0 => self.load(x, coefficient),
                _ => self.fma_then_mem(x, of, coefficient),
            }
        }
    }

    /// n = 2ⁿ⁺ᵐ and x = p, where eˣ = 2ⁿ·(1 + p), of an argument that is clamped; `more` is m. Overwrites `t`.
    fn exp_parts(&mut self, x: R, [n, t]: [R; 2], more: f32) {
        // The sum's last bits are n and the bias: one shift makes them an exponent.
        let whole = f64::from(WHOLE + BIAS + more);
        self.set(n, whole);
        let log2_e = self.number(std::f64::consts::LOG2_E);
        self.fma_mem(n, x, log2_e);
        let undo = self.number(-whole);
        self.vadd_mem(t, n, undo);
        for part in MINUS_LN2 {
            let part = self.number(part.into());
            self.fma_mem(x, t, part);
        }
        self.polynomial(t, x, &COEFFICIENTS);
        self.vmul(t, t, x);
        self.fma(x, t, x);
        self.shl_i32(n, n, 23);
    }

    /// n = eˣ of an argument that is clamped; overwrites x and `t`.
    pub fn exp(&mut self, x: R, [n, t]: [R; 2]) {
        self.clamp(x, EXP_RANGE, t);
        self.exp_parts(x, [n, t], 0.0);
        self.fma(n, n, x);
    }

    /// n = eˣ / 2; overflows where half of eˣ does. Overwrites x and `t`.
    pub fn half_exp(&mut self, x: R, [n, t]: [R; 2]) {
        self.clamp(x, [EXP_RANGE[0], 89.0], t);
        self.exp_parts(x, [n, t], -1.0);
        self.fma(n, n, x);
    }

    /// x = eˣ − 1 of an argument that is clamped at `range`; overwrites `n` and `t`.
    pub fn exp_m1(&mut self, x: R, range: [f32; 2], [n, t]: [R; 2]) {
        self.clamp(x, range, t);
        self.exp_parts(x, [n, t], 0.0);
        self.vmul(x, x, n);
        let minus_one = self.number(-1.0);
        self.vadd_mem(n, n, minus_one);
        self.vadd(x, x, n);
    }

    /// y = 1 + e^(factor·x); overwrites `n` and `r`. Where y cannot grow any more x does neither: x / y is about 0 there,
    /// whatever x was.
    ///
    /// e^(factor·x) = 2ⁿ·2ʳ: the factor and 1/ln 2 are one number, in two parts.
    fn one_plus_exp(&mut self, x: R, factor: f64, [y, n, r]: [R; 3]) {
        let [low, high] = logistic_arguments(factor);
        if factor > 0.0 {
            self.set(n, high);
            self.vmin(x, n, x);
            self.set(n, low);
            self.vmax(y, n, x);
        } else {
            self.set(n, low);
            self.vmax(x, n, x);
            self.set(n, high);
            self.vmin(y, n, x);
        }
        let exponent = factor * std::f64::consts::LOG2_E;
        let first = f64::from(exponent as f32);
        let whole = f64::from(WHOLE + BIAS);
        let parts = [first, exponent - first].map(|part| self.number(part));
        self.set(n, whole);
        self.fma_mem(n, y, parts[0]);
        self.set(r, whole);
        self.vsub(r, r, n);
        parts.into_iter().for_each(|part| self.fma_mem(r, y, part));
        self.polynomial(y, r, &POWER_OF_2);
        self.shl_i32(n, n, 23);
        let one = self.number(1.0);
        self.fma_then_mem(y, n, one);
    }

    /// x = 1 / (1 + e^(factor·x)); overwrites the others.
    pub fn logistic(&mut self, x: R, factor: f64, [y, n, r]: [R; 3]) {
        self.one_plus_exp(x, factor, [y, n, r]);
        self.set(x, 1.0);
        self.vdiv(x, x, y);
    }

    /// x = x / (1 + e^(−beta·x)); overwrites the others.
    pub fn swish(&mut self, x: R, beta: f32, [y, n, r]: [R; 3]) {
        self.one_plus_exp(x, -f64::from(beta), [y, n, r]);
        self.vdiv(x, x, y);
    }
}

/// Arguments between which factor·x is in [`LOGISTIC_RANGE`].
fn logistic_arguments(factor: f64) -> [f64; 2] {
    let most = f64::from(f32::MAX);
    // 0 · ∞ is NaN: an infinite argument becomes a number even where the factor is 0.
    let mut ends = LOGISTIC_RANGE.map(|end| (f64::from(end) / factor).clamp(-most, most));
    if factor == 0.0 {
        ends = [-most, most];
    }
    ends.sort_by(f64::total_cmp);
    ends
}
