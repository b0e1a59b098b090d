//! The exponential: what smooth functions are made of.
//!
//! eˣ = 2ⁿ·(1 + p), n being the integer nearest to x/ln 2 and p = eʳ − 1 a polynomial of the rest r, |r| ≤ ln 2 / 2.
//! Both eˣ and eˣ − 1 follow without cancellation.

use crate::lockstep::{Lockstep, R};
use skimjit_jit::asm::VectorAsm;

/// Arguments between which eˣ is neither 0 nor infinite, with some distance.
pub const EXP_RANGE: [f32; 2] = [-87.3, 88.3];
/// The same, of which 1/(1 + eˣ) is no denormal number.
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
/// These bits minus those of a positive number are about its reciprocal.
const RECIPROCAL_GUESS: u32 = 0x7EF3_11C3;

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

    /// y = 1 / (1 + eˣ) without a division, which other instructions wait for: a first guess is 12 % off,
    /// and each of two steps leaves the third power of what it finds. Overwrites x and `n`.
    pub fn logistic(&mut self, x: R, [n, y]: [R; 2]) {
        self.clamp(x, LOGISTIC_RANGE, y);
        self.exp_parts(x, [n, y], 0.0);
        self.fma(n, n, x);
        let one = self.number(1.0);
        self.vadd_mem(n, n, one);
        let guess = self.bits(RECIPROCAL_GUESS);
        self.load(y, guess);
        self.sub_i32(y, y, n);
        // 1/n = y / (1 − e) with e = 1 − n·y, and 1/(1 − e) is about 1 + e + e².
        for _ in 0..2 {
            self.load(x, one);
            self.fnma(x, n, y);
            self.fma(x, x, x);
            self.fma(y, y, x);
        }
    }

    /// x = x / (1 + e^(−beta·x)); overwrites the others.
    pub fn swish(&mut self, x: R, beta: f32, [e, n, y]: [R; 3]) {
        let minus_beta = self.number(-f64::from(beta));
        self.vmul_mem(e, x, minus_beta);
        self.logistic(e, [n, y]);
        self.vmul(x, x, y);
    }
}
