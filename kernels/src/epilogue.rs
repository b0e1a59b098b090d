//! The end of every kernel: residual, activation, store, with the excess lanes of the last vector
//! left out.

use crate::emit::TMP;
use crate::lockstep::{Lockstep, R};
use crate::problem::Fused;
use skimjit_jit::asm::{Cond, Mem, V, VectorAsm};
use skimjit_models::ops::Activation;

/// What happens to results before they are stored.
pub struct Epilogue {
    activation: Option<Activation>,
    /// 0 where an activation compares with it.
    zero: V,
    scratch: [V; 2],
    /// Others that functions of many instructions overwrite.
    spare: Vec<V>,
}

impl Epilogue {
    /// With three registers of its own: one that holds 0 or is overwritten, and two that activations overwrite, but
    /// for a ReLU of slope 0.
    pub fn new(activation: Option<Fused>, [zero, tmp, constant]: [V; 3]) -> Self {
        Self {
            activation: activation.map(Fused::activation),
            zero,
            scratch: [tmp, constant],
            spare: Vec::new(),
        }
    }

    /// With more registers that hold nothing: functions of many instructions take several vectors side by side.
    pub fn with_spare(self, spare: impl IntoIterator<Item = V>) -> Self {
        Self {
            spare: spare.into_iter().collect(),
            ..self
        }
    }

    /// Whether the two scratch registers and [`TMP`] are overwritten.
    pub fn uses_scratch(&self) -> bool {
        !matches!(self.activation, None | Some(PLAIN_RELU))
    }

    /// Sets the register that holds 0, where it is needed.
    pub fn prepare<A: VectorAsm>(&self, asm: &mut A) {
        if !matches!(self.activation, None | Some(Activation::Swish { .. })) {
            asm.zero(self.zero);
        }
    }

    /// Adds the residual, then applies the activation.
    pub fn apply<A: VectorAsm>(&self, asm: &mut A, x: V, residual: Option<Mem>) {
        if let Some(residual) = residual {
            asm.vadd_mem(x, x, residual);
        }
        self.activate(asm, &[x]);
    }

    /// Applies the activation.
    pub fn activate<A: VectorAsm>(&self, asm: &mut A, all: &[V]) {
        if let Some(Activation::Swish { beta }) = self.activation {
            return self.swish(asm, all, beta);
        }
        all.iter().for_each(|&x| self.activate_one(asm, x));
    }

    fn swish<A: VectorAsm>(&self, asm: &mut A, all: &[V], beta: f32) {
        let mut free = vec![self.zero];
        free.extend(self.scratch.iter().chain(&self.spare));
        let names = all.iter().chain(&free).map(|register| register.0);
        let name = names.chain(beta.to_le_bytes()).collect();
        asm.call_shared(name, |asm| {
            asm.lea_constants(TMP);
            let free: Vec<&[V]> = free.chunks_exact(3).collect();
            for some in all.chunks(free.len()) {
                let member = |(&x, free): (&V, &&[V])| [&[x], *free].concat();
                let members: Vec<Vec<V>> = some.iter().zip(&free).map(member).collect();
                Lockstep::new(asm, TMP, &members).swish(R(0), beta, [R(1), R(2), R(3)]);
            }
        });
    }

    /// What takes a few instructions.
    fn activate_one<A: VectorAsm>(&self, asm: &mut A, x: V) {
        let [tmp, constant] = self.scratch;
        // The second operand of extremes wins when either is NaN: NaN stays.
        match self.activation {
            None => {}
            Some(PLAIN_RELU) => asm.vmax(x, self.zero, x),
            Some(Activation::ReLU { slope }) => {
                asm.broadcast_imm(constant, slope, TMP);
                asm.vmin(tmp, self.zero, x);
                asm.vmax(x, self.zero, x);
                asm.fma(x, tmp, constant);
            }
            Some(Activation::Clip { min, max }) => {
                asm.broadcast_imm(constant, min, TMP);
                asm.vmax(x, constant, x);
                asm.broadcast_imm(constant, max, TMP);
                asm.vmin(x, constant, x);
            }
            Some(Activation::HardSwish) => {
                asm.broadcast_imm(constant, 1.0 / 6.0, TMP);
                asm.vmul(tmp, x, constant);
                asm.broadcast_imm(constant, 0.5, TMP);
                asm.vadd(tmp, tmp, constant);
                asm.vmax(tmp, self.zero, tmp);
                asm.broadcast_imm(constant, 1.0, TMP);
                asm.vmin(tmp, constant, tmp);
                asm.vmul(x, x, tmp);
            }
            Some(other) => unreachable!("{other:?} is not fused"),
        }
    }
}

const PLAIN_RELU: Activation = Activation::ReLU { slope: 0.0 };

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
