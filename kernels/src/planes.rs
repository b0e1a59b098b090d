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

/// `COUNT` channels: `begin` at the beginning of each, `compute` with every vector in register `x`. The last
/// vector of a plane has the lanes of a mask.
pub fn emit_planes<A: VectorAsm>(
    asm: &mut A,
    [src, dst]: [&Planes; 2],
    (x, mask): (V, M),
    begin: impl Fn(&mut A),
    mut compute: impl FnMut(&mut A),
) {
    const AT: Gp = Gp::R9;
    let bytes = vector_bytes::<A>();
    asm.counted_loop(COUNT, |asm| {
        begin(asm);
        let vectors = dst.hw() as i32 / A::LANES as i32;
        if vectors > 0 {
            asm.mov_imm(TMP, i64::from(vectors));
            asm.mov_imm(AT, 0);
            asm.counted_loop(TMP, |asm| {
                asm.load(x, Mem::indexed(SRC, AT, 1, 0));
                compute(asm);
                asm.store(Mem::indexed(DST, AT, 1, 0), x);
                asm.add_imm(AT, bytes);
            });
        }
        if !dst.hw().is_multiple_of(A::LANES as u32) {
            asm.load_masked(x, Mem::new(SRC, vectors * bytes), mask);
            compute(asm);
            asm.store_masked(Mem::new(DST, vectors * bytes), x, mask);
        }
        asm.add_imm(SRC, src.pitch as i32 * 4);
        asm.add_imm(DST, dst.pitch as i32 * 4);
    });
}
