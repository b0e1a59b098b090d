//! The exponential: what smooth functions are made of.
//!
//! eˣ = 2ⁿ·(1 + p), n being the integer nearest to x/ln 2 and p = eʳ − 1 a polynomial of the rest r, |r| ≤ ln 2 / 2.
//! Both eˣ and eˣ − 1 follow without cancellation.

use skimjit_jit::asm::{Gp, Mem, V, VectorAsm};

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

/// Emits with constants that lie behind the code: their address is in `base`.
#[derive(Clone, Copy)]
pub struct Exponential {
    pub base: Gp,
}

impl Exponential {
    /// A constant in all lanes.
    pub fn number<A: VectorAsm>(self, asm: &mut A, value: f64) -> Mem {
        asm.constant(self.base, (value as f32).to_bits())
    }

    /// A constant into a register.
    pub fn load<A: VectorAsm>(self, asm: &mut A, to: V, value: f64) {
        let at = self.number(asm, value);
        asm.load(to, at);
    }

    /// x = min(max(x, low), high); NaN stays. Overwrites `t`.
    pub fn clamp<A: VectorAsm>(self, asm: &mut A, x: V, [low, high]: [f32; 2], t: V) {
        self.load(asm, t, low.into());
        asm.vmax(x, t, x);
        self.load(asm, t, high.into());
        asm.vmin(x, t, x);
    }

    /// x = the polynomial of `of` with these coefficients, highest power first.
    pub fn polynomial<A: VectorAsm>(self, asm: &mut A, x: V, of: V, coefficients: &[f32]) {
        let Some((&first, others)) = coefficients.split_first() else {
            return asm.zero(x);
        };
        self.load(asm, x, first.into());
        for &coefficient in others {
            let next = self.number(asm, coefficient.into());
            asm.fma_then_mem(x, of, next);
        }
    }

    /// n = 2ⁿ and x = p, where eˣ = 2ⁿ·(1 + p), of an argument that is clamped. Overwrites `t`.
    pub fn parts<A: VectorAsm>(self, asm: &mut A, x: V, [n, t]: [V; 2]) {
        self.scaled_parts(asm, x, [n, t], 0.0);
    }

    /// The same with n = 2ⁿ⁺ᵐ, `more` being m.
    fn scaled_parts<A: VectorAsm>(self, asm: &mut A, x: V, [n, t]: [V; 2], more: f32) {
        // The sum's last bits are n and the bias: one shift makes them an exponent.
        self.load(asm, n, (WHOLE + BIAS + more).into());
        let log2_e = self.number(asm, std::f64::consts::LOG2_E);
        asm.fma_mem(n, x, log2_e);
        let undo = self.number(asm, -f64::from(WHOLE + BIAS + more));
        asm.vadd_mem(t, n, undo);
        for part in MINUS_LN2 {
            let part = self.number(asm, part.into());
            asm.fma_mem(x, t, part);
        }
        self.polynomial(asm, t, x, &COEFFICIENTS);
        asm.vmul(t, t, x);
        asm.fma(x, t, x);
        asm.shl_i32(n, n, 23);
    }

    /// n = eˣ of an argument that is clamped; overwrites x and `t`.
    pub fn exp<A: VectorAsm>(self, asm: &mut A, x: V, [n, t]: [V; 2]) {
        self.clamp(asm, x, EXP_RANGE, t);
        self.parts(asm, x, [n, t]);
        asm.fma(n, n, x);
    }

    /// n = eˣ / 2; overflows where half of eˣ does. Overwrites x and `t`.
    pub fn half_exp<A: VectorAsm>(self, asm: &mut A, x: V, [n, t]: [V; 2]) {
        self.clamp(asm, x, [EXP_RANGE[0], 89.0], t);
        self.scaled_parts(asm, x, [n, t], -1.0);
        asm.fma(n, n, x);
    }

    /// x = eˣ − 1 of an argument that is clamped at `range`; overwrites `n` and `t`.
    pub fn exp_m1<A: VectorAsm>(self, asm: &mut A, x: V, range: [f32; 2], [n, t]: [V; 2]) {
        self.clamp(asm, x, range, t);
        self.parts(asm, x, [n, t]);
        asm.vmul(x, x, n);
        let minus_one = self.number(asm, -1.0);
        asm.vadd_mem(n, n, minus_one);
        asm.vadd(x, x, n);
    }

    /// y = 1 / (1 + eˣ) without a division, which other instructions wait for: a first guess is 12 % off,
    /// and each of two steps leaves the third power of what it finds. Overwrites x and `n`.
    pub fn logistic<A: VectorAsm>(self, asm: &mut A, x: V, [n, y]: [V; 2]) {
        self.clamp(asm, x, LOGISTIC_RANGE, y);
        self.parts(asm, x, [n, y]);
        asm.fma(n, n, x);
        let one = self.number(asm, 1.0);
        asm.vadd_mem(n, n, one);
        let guess = asm.constant(self.base, RECIPROCAL_GUESS);
        asm.load(y, guess);
        asm.sub_i32(y, y, n);
        // 1/n = y / (1 − e) with e = 1 − n·y, and 1/(1 − e) is about 1 + e + e².
        for _ in 0..2 {
            asm.load(x, one);
            asm.fnma(x, n, y);
            asm.fma(x, x, x);
            asm.fma(y, y, x);
        }
    }

    /// x = x / (1 + e^(−beta·x)); overwrites the others.
    pub fn swish<A: VectorAsm>(self, asm: &mut A, x: V, beta: f32, [e, n, y]: [V; 3]) {
        let minus_beta = self.number(asm, -f64::from(beta));
        asm.vmul_mem(e, x, minus_beta);
        self.logistic(asm, e, [n, y]);
        asm.vmul(x, x, y);
    }
}
