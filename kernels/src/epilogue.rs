//! The end of every kernel: residual, activation, store, with the excess lanes of the last vector
//! left out.

use crate::emit::TMP;
use crate::problem::Relu;
use skimjit_jit::asm::{Cond, Mem, V, VectorAsm};

/// What happens to results before they are stored.
#[derive(Clone, Copy)]
pub struct Epilogue {
    activation: Option<Relu>,
    /// 0 where there is an activation.
    zero: V,
    scratch: [V; 2],
}

impl Epilogue {
    /// With three registers of its own: one that holds 0, and two that an activation with a slope
    /// overwrites.
    pub fn new(activation: Option<Relu>, [zero, tmp, slope]: [V; 3]) -> Self {
        Self {
            activation,
            zero,
            scratch: [tmp, slope],
        }
    }

    /// Whether the two scratch registers and [`TMP`] are overwritten.
    pub fn has_slope(&self) -> bool {
        self.activation.is_some_and(|relu| relu.slope() != 0.0)
    }

    /// Sets the register that holds 0, where it is needed.
    pub fn prepare<A: VectorAsm>(&self, asm: &mut A) {
        if self.activation.is_some() {
            asm.zero(self.zero);
        }
    }

    /// Adds the residual, then `x = max(x, 0) + slope·min(x, 0)`.
    pub fn apply<A: VectorAsm>(&self, asm: &mut A, x: V, residual: Option<Mem>) {
        if let Some(residual) = residual {
            asm.vadd_mem(x, x, residual);
        }
        let Some(activation) = self.activation else {
            return;
        };
        let [below, slope] = self.scratch;
        if self.has_slope() {
            asm.broadcast_imm(slope, activation.slope(), TMP);
            asm.vmin(below, self.zero, x);
        }
        // The second operand wins when either is NaN: NaN stays.
        asm.vmax(x, self.zero, x);
        if self.has_slope() {
            asm.fma(x, below, slope);
        }
    }
}

/// Emits stores that `body` masks or not. Where masked ones are slow, whole vectors are stored
/// wherever the excess lanes do no harm, which the word at `harmless` says when the code runs.
pub fn store_whole_or_masked<A: VectorAsm>(
    asm: &mut A,
    harmless: Mem,
    body: impl Fn(&mut A, bool),
) {
    if A::ISA.descriptor().masked_stores_are_free {
        return body(asm, true);
    }
    let (masked, done) = (asm.new_label(), asm.new_label());
    asm.load32(TMP, harmless);
    asm.cmp_imm(TMP, 0);
    asm.jcc(Cond::Equal, masked);
    body(asm, false);
    asm.jmp(done);
    asm.bind(masked);
    body(asm, true);
    asm.bind(done);
}
