//! Register roles and code shared by the emitters.

use crate::compiled::KernelArgs;
use skimjit_jit::asm::{Gp, M, Mem, V, VectorAsm};
use std::mem::offset_of;

/// Source of the current position.
pub const SRC: Gp = Gp::Rdi;
/// Result of the current position.
pub const DST: Gp = Gp::Rdx;
/// Packed weights, moving.
pub const WEI: Gp = Gp::Rsi;
/// Packed weights, start.
pub const WEI_START: Gp = Gp::R9;
/// Tables.
pub const AUX: Gp = Gp::Rcx;
/// Bias.
pub const BIAS: Gp = Gp::R10;
/// Residual of the current position.
pub const RES: Gp = Gp::R11;
/// Loop counter.
pub const COUNT: Gp = Gp::R8;
/// Free.
pub const TMP: Gp = Gp::Rax;

/// Loads one argument; `args` still holds the pointer to [`KernelArgs`].
pub fn load_arg<A: VectorAsm>(asm: &mut A, dst: Gp, args: Gp, offset: usize) {
    asm.load64(dst, Mem::new(args, offset as i32));
}

/// Loads the arguments every kernel uses into their registers; `Rdi` is overwritten last.
pub fn load_args<A: VectorAsm>(asm: &mut A) {
    let args = Gp::Rdi;
    load_arg(asm, DST, args, offset_of!(KernelArgs, dst));
    load_arg(asm, WEI, args, offset_of!(KernelArgs, wei));
    load_arg(asm, BIAS, args, offset_of!(KernelArgs, bias));
    load_arg(asm, AUX, args, offset_of!(KernelArgs, aux));
    load_arg(asm, COUNT, args, offset_of!(KernelArgs, count));
    load_arg(asm, RES, args, offset_of!(KernelArgs, src) + 8);
    load_arg(asm, SRC, args, offset_of!(KernelArgs, src));
}

/// An entry on a cache line whose code ends by returning; `saved` are registers that the caller wants
/// back. Returns its offset.
pub fn entry<A: VectorAsm>(asm: &mut A, saved: &[Gp], body: impl FnOnce(&mut A)) -> usize {
    asm.align(64);
    let entry = asm.offset();
    saved.iter().for_each(|&register| asm.push(register));
    body(asm);
    saved.iter().rev().for_each(|&register| asm.pop(register));
    asm.ret();
    entry
}

/// Loads all lanes, or those of a mask.
pub fn load<A: VectorAsm>(asm: &mut A, x: V, from: Mem, mask: Option<M>) {
    match mask {
        Some(mask) => asm.load_masked(x, from, mask),
        None => asm.load(x, from),
    }
}

/// Stores all lanes, or those of a mask.
pub fn store<A: VectorAsm>(asm: &mut A, to: Mem, x: V, mask: Option<M>) {
    match mask {
        Some(mask) => asm.store_masked(to, x, mask),
        None => asm.store(to, x),
    }
}

/// Bytes of one vector.
pub fn vector_bytes<A: VectorAsm>() -> i32 {
    4 * A::LANES as i32
}

/// The registers from 0 on as accumulators of `rows` channels × `vectors` vectors.
pub fn accumulators(rows: u32, vectors: u32) -> Vec<Vec<V>> {
    (0..rows)
        .map(|j| (0..vectors).map(|t| V((j * vectors + t) as u8)).collect())
        .collect()
}

/// The last four registers, which kernels leave to the epilogue.
pub fn last_registers<A: VectorAsm>() -> [V; 4] {
    [4, 3, 2, 1].map(|i| V(A::VREGS - i))
}

/// Accumulators of each channel = its bias.
pub fn start_from_bias<A: VectorAsm>(asm: &mut A, accs: &[Vec<V>]) {
    for (j, acc) in accs.iter().enumerate() {
        asm.broadcast(acc[0], Mem::new(BIAS, 4 * j as i32));
        acc[1..].iter().for_each(|&other| asm.vmov(other, acc[0]));
    }
}

/// Transposes the square in registers 0 to LANES − 1, using the LANES registers behind them as well.
/// Returns the registers of the transposed rows, and those that are free.
pub fn transpose<A: VectorAsm>(asm: &mut A) -> [Vec<V>; 2] {
    let lanes = A::LANES;
    let half = |start: usize| (start..start + lanes).map(|i| V(i as u8)).collect();
    let (mut from, mut to): (Vec<V>, Vec<V>) = (half(0), half(lanes));
    // Pairs of rows, then pairs of pairs: afterwards register 4g + j holds columns j, 4 + j, … of
    // rows 4g to 4g + 3, one column in each 128-bit part.
    for (from, to) in from.chunks_exact(4).zip(to.chunks_exact(4)) {
        for pair in [0, 2] {
            asm.unpack_low(to[pair], from[pair], from[pair + 1]);
            asm.unpack_high(to[pair + 1], from[pair], from[pair + 1]);
        }
    }
    for (from, to) in to.chunks_exact(4).zip(from.chunks_exact(4)) {
        for half in [0, 1] {
            asm.shuffle(to[2 * half], from[half], from[2 + half], 0x44);
            asm.shuffle(to[2 * half + 1], from[half], from[2 + half], 0xEE);
        }
    }
    // Now join the parts of different rows: each round doubles the rows of a register.
    let mut rows = 4;
    while rows < lanes {
        for group in (0..lanes).step_by(2 * rows) {
            for i in 0..rows {
                let (a, b) = (from[group + i], from[group + rows + i]);
                asm.even_parts(to[group + i], a, b);
                asm.odd_parts(to[group + rows + i], a, b);
            }
        }
        std::mem::swap(&mut from, &mut to);
        rows *= 2;
    }
    [from, to]
}
