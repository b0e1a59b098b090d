//! Elementwise functions with per-channel constants: Scale, Bias, ReLU, PReLU.

use crate::emit::{AUX, COUNT, DST, SRC, TMP, WEI, load_args, vector_bytes};
use crate::problem::check_planes;
use crate::variant::{Built, Cost, KernelError, Task, Unsupported, Variant, Weights, balanced};
use crate::{AlignedBuf, ChannelwiseProblem, Extent, Footprint, Planes, Problem};
use skimjit_jit::Isa;
use skimjit_jit::asm::{Avx2Asm, Avx512Asm, M, Mem, V, VectorAsm};
use skimjit_models::Pattern;

/// `t = src·scale[c] + shift[c]; dst = max(t, 0) + slope[c]·min(t, 0)`.
///
/// * src, dst: planes; layouts may differ; the gap of dst is not touched.
/// * weights: per channel scale, shift, slope (three `f32`; unused ones are ignored), row-major.
/// * task = some channels.
pub struct Channelwise;

const TASKS: u32 = 16;

impl Variant for Channelwise {
    fn name(&self) -> &'static str {
        "channelwise"
    }
    fn supports(&self, problem: &Problem, _isa: Isa) -> Result<(), Unsupported> {
        let Problem::Channelwise(problem) = problem else {
            return Err(Unsupported::family("channelwise functions"));
        };
        check_planes(&problem.src)?;
        check_planes(&problem.dst)?;
        let dims = |p: &Planes| [p.c, p.h, p.w];
        if dims(&problem.src) != dims(&problem.dst) {
            let (src, dst) = (problem.src, problem.dst);
            return Err(Unsupported(format!(
                "{src:?} to {dst:?}, expected the same dims"
            )));
        }
        Ok(())
    }
    fn cost(&self, problem: &Problem, _pattern: &Pattern, isa: Isa) -> Cost {
        let Problem::Channelwise(problem) = problem else {
            unreachable!("supported")
        };
        let lanes = if isa == Isa::Avx512 { 16 } else { 8 };
        let vectors = problem.dst.hw().div_ceil(lanes) * problem.dst.c;
        Cost {
            cycles: f64::from(vectors) * 2.0,
            code_bytes: 256,
        }
    }
    fn build(
        &self,
        problem: &Problem,
        weights: Weights<'_>,
        isa: Isa,
    ) -> Result<Built, KernelError> {
        self.supports(problem, isa)?;
        let Problem::Channelwise(problem) = problem else {
            unreachable!("supported")
        };
        Ok(match isa {
            Isa::Avx2 => build::<Avx2Asm>(problem, weights),
            Isa::Avx512 => build::<Avx512Asm>(problem, weights),
        })
    }
}

fn build<A: VectorAsm>(problem: &ChannelwiseProblem, weights: Weights<'_>) -> Built {
    let mut packed = AlignedBuf::new();
    let tail = problem.dst.hw() % A::LANES as u32;
    packed.extend(&A::mask_bytes((1u32 << tail) - 1));
    let constants = packed.align(64);
    packed.extend_f32(weights.values.iter().copied());
    let mut asm = A::new();
    emit(&mut asm, problem);
    let tasks = balanced(problem.dst.c, problem.dst.c.div_ceil(TASKS))
        .map(|channels| Task {
            entry: 0,
            src: i64::from(channels.start) * i64::from(problem.src.pitch) * 4,
            dst: i64::from(channels.start) * i64::from(problem.dst.pitch) * 4,
            wei: constants + u64::from(channels.start) * 12,
            bias: 0,
            aux: 0,
            count: channels.len() as u64,
            cost: channels.len() as f32,
        })
        .collect();
    let extent = |planes: Planes| Extent {
        before: 0,
        after: (planes.c as usize - 1) * planes.pitch as usize + planes.hw() as usize,
    };
    Built {
        code: asm.finish(),
        entries: vec![0],
        packed: packed.into(),
        tasks,
        staging: None,
        footprint: Footprint {
            src: extent(problem.src),
            dst: extent(problem.dst),
            scratch_bytes: 0,
        },
    }
}

fn emit<A: VectorAsm>(asm: &mut A, problem: &ChannelwiseProblem) {
    use skimjit_jit::asm::Gp;
    const AT: Gp = Gp::R9;
    let (x, scale, shift, slope, zero, low) = (V(0), V(1), V(2), V(3), V(4), V(5));
    let mask = if A::ISA == Isa::Avx512 { M(1) } else { M(6) };
    let bytes = vector_bytes::<A>();
    load_args(asm);
    asm.zero(zero);
    asm.load_mask(mask, Mem::new(AUX, 0));
    let compute = |asm: &mut A| {
        if problem.affine {
            asm.vmul(x, x, scale);
            asm.vadd(x, x, shift);
        }
        if problem.leaky {
            asm.vmin(low, zero, x);
            asm.vmax(x, zero, x);
            asm.fma(x, low, slope);
        }
    };
    asm.counted_loop(COUNT, |asm| {
        asm.broadcast(scale, Mem::new(WEI, 0));
        asm.broadcast(shift, Mem::new(WEI, 4));
        asm.broadcast(slope, Mem::new(WEI, 8));
        let vectors = problem.dst.hw() as i32 / A::LANES as i32;
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
        if !problem.dst.hw().is_multiple_of(A::LANES as u32) {
            asm.load_masked(x, Mem::new(SRC, vectors * bytes), mask);
            compute(asm);
            asm.store_masked(Mem::new(DST, vectors * bytes), x, mask);
        }
        asm.add_imm(SRC, problem.src.pitch as i32 * 4);
        asm.add_imm(DST, problem.dst.pitch as i32 * 4);
        asm.add_imm(WEI, 12);
    });
    asm.ret();
}
