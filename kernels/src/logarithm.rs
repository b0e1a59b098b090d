//! The natural logarithm.
//!
//! x = 2ᵉ·m with m between √½ and √2, and log m = 2·atanh(s) with s = (m − 1) / (m + 1), |s| ≤ 0.172.

use crate::lockstep::{Lockstep, R};
use skimjit_jit::asm::VectorAsm;

/// Coefficients of (2·atanh(s) − 2·s) / s³ in s², highest power first: 2/9 … 2/3. The rest is below 2⁻²⁸ of the result.
const ATANH: [f32; 4] = [2.0 / 9.0, 2.0 / 7.0, 2.0 / 5.0, 2.0 / 3.0];
/// ln 2, of which the first part times an exponent is exact.
const LN2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
/// The bits of 1.
const ONE: u32 = 0x3F80_0000;
/// The bits of √½.
const ROOT_OF_HALF: u32 = 0x3F35_04F3;
/// The bits of 2²³: added to these, an integer is the fraction of a float.
const WHOLE: u32 = 0x4B00_0000;

impl<A: VectorAsm> Lockstep<'_, A> {
    /// x = log x of what is positive and no denormal number; of others anything. Overwrites the rest.
    pub fn log_of_normal(&mut self, x: R, [e, s, t]: [R; 3]) {
        let shift = self.bits(ONE - ROOT_OF_HALF);
        self.load(t, shift);
        self.add_i32(t, x, t);
        self.shr_i32(e, t, 23);
        // m's bits are x's with e, without its bias, taken from the exponent.
        self.shl_i32(t, e, 23);
        self.sub_i32(x, x, t);
        let one = self.bits(ONE);
        self.load(t, one);
        self.add_i32(x, x, t);
        let whole = self.bits(WHOLE);
        self.load(t, whole);
        self.add_i32(e, e, t);
        let unbiased = self.number(-f64::from(f32::from_bits(WHOLE)) - 127.0);
        self.vadd_mem(e, e, unbiased);
        let [minus_one, two] = [-1.0, 2.0].map(|number| self.number(number));
        self.vadd_mem(x, x, minus_one);
        self.vadd_mem(t, x, two);
        self.vdiv(s, x, t);
        self.vmul(t, s, s);
        self.polynomial(x, t, &ATANH);
        self.vmul(x, x, t);
        self.vmul(x, x, s);
        self.vadd(s, s, s);
        let [high, low] = LN2.map(|part| self.number(part.into()));
        self.fma_mem(x, e, low);
        self.vadd(x, x, s);
        self.fma_mem(x, e, high);
    }
}
