//! Code that walks through the channels of planes whose layouts differ.

use crate::Planes;
use crate::emit::{COUNT, DST, SRC, TMP, vector_bytes};
use crate::problem::{check_planes, refuse};
use crate::variant::Unsupported;
use skimjit_jit::asm::{Gp, M, Mem, V, VectorAsm};

/// Refuses planes of other dims, or beyond the limits.
pub fn same_dims(src: &Planes, dst: &Planes) -> Result<(), Unsupported> {
    check_planes(src)?;
    check_planes(dst)?;
    let dims = |p: &Planes| [p.c, p.h, p.w];
    if dims(src) != dims(dst) {
        return refuse(format!("{src:?} to {dst:?}, expected the same dims"));
    }
    Ok(())
}

/// `COUNT` channels: `begin` at the beginning of each, `compute` with some vectors in the first of the registers `xs`.
/// The last vector of a plane has the lanes of a mask.
pub fn emit_planes<A: VectorAsm>(
    asm: &mut A,
    [src, dst]: [&Planes; 2],
    (xs, mask): (&[V], M),
    begin: impl Fn(&mut A),
    compute: impl Fn(&mut A, usize),
) {
    const AT: Gp = Gp::R9;
    let bytes = vector_bytes::<A>();
    let vectors = |asm: &mut A, count: usize| {
        let at = |base, i: usize| Mem::indexed(base, AT, 1, i as i32 * bytes);
        for (i, &x) in xs[..count].iter().enumerate() {
            asm.load(x, at(SRC, i));
        }
        compute(asm, count);
        for (i, &x) in xs[..count].iter().enumerate() {
            asm.store(at(DST, i), x);
        }
        asm.add_imm(AT, count as i32 * bytes);
    };
    let whole = dst.hw() as usize / A::LANES;
    asm.counted_loop(COUNT, |asm| {
        begin(asm);
        asm.mov_imm(AT, 0);
        for (count, times) in [(xs.len(), whole / xs.len()), (1, whole % xs.len())] {
            if times > 0 {
                asm.mov_imm(TMP, times as i64);
                asm.counted_loop(TMP, |asm| vectors(asm, count));
            }
        }
        if !dst.hw().is_multiple_of(A::LANES as u32) {
            asm.load_masked(xs[0], Mem::indexed(SRC, AT, 1, 0), mask);
            compute(asm, 1);
            asm.store_masked(Mem::indexed(DST, AT, 1, 0), xs[0], mask);
        }
        asm.add_imm(SRC, src.pitch as i32 * 4);
        asm.add_imm(DST, dst.pitch as i32 * 4);
    });
}
