//! A kernel that does nothing but multiply-adds: the machine's peak, measured.

use crate::emit::{COUNT, TMP, load_args};
use crate::variant::{Built, Task};
use crate::{AlignedBuf, Footprint};
use skimjit_jit::asm::{V, VectorAsm};
use skimjit_jit::{Isa, with_assembler};

/// Multiply-adds (vectors) of one trip of the loop: enough independent ones to hide the latency.
const UNROLL: u64 = 12;

/// A kernel of `trips` loop trips, and the floating-point operations it performs.
pub fn kernel(isa: Isa, trips: u64) -> (Built, u64) {
    with_assembler!(isa, A => build::<A>(trips))
}

fn build<A: VectorAsm>(trips: u64) -> (Built, u64) {
    let mut asm = A::new();
    load_args(&mut asm);
    let (a, b) = (V(14), V(15));
    asm.broadcast_imm(a, 0.5, TMP);
    asm.broadcast_imm(b, 0.25, TMP);
    (0..UNROLL as u8).for_each(|acc| asm.zero(V(acc)));
    asm.counted_loop(COUNT, |asm| {
        (0..UNROLL as u8).for_each(|acc| asm.fma(V(acc), a, b));
    });
    asm.ret();
    let task = Task {
        count: trips,
        cost: 1.0,
        ..Task::default()
    };
    let mut packed = AlignedBuf::new();
    packed.extend(&[0; 64]);
    let built = Built::new(asm, [0], packed, vec![task], Footprint::default());
    (built, trips * UNROLL * A::LANES as u64 * 2)
}
