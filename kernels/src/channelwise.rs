//! Elementwise functions with per-channel constants: Scale, Bias, ReLU, PReLU.

use crate::emit::{AUX, WEI, load_args};
use crate::planes::{emit_planes, same_dims};
use crate::variant::{
    Built, Cost, KernelError, Task, TypedVariant, Unsupported, Weighting, Weights, balanced,
};
use crate::{AlignedBuf, ChannelwiseProblem, Extent, Footprint};
use skimjit_jit::Isa;
use skimjit_jit::asm::{Mem, V, VectorAsm};
use skimjit_models::Pattern;

/// `t = src·scale[c] + shift[c]; dst = max(t, 0) + slope[c]·min(t, 0)`.
///
/// * src, dst: planes; layouts may differ; the gap of dst is not touched.
/// * weights: per channel scale, shift, slope (three `f32`; unused ones are ignored), row-major.
/// * task = some channels.
pub struct Channelwise;

const TASKS: u32 = 16;

impl TypedVariant for Channelwise {
    type Problem = ChannelwiseProblem;
    const NAME: &'static str = "channelwise";
    const WEIGHTING: Weighting = Weighting::Unweighted;
    const EXAMPLE: &'static str =
        "channelwise src=3x5x5x48 dst=3x5x5x48 affine=1 leaky=1 density=100 scale=1 seed=1";

    fn supports(problem: &ChannelwiseProblem, _isa: Isa) -> Result<(), Unsupported> {
        same_dims(&problem.src, &problem.dst)
    }
    fn cost(problem: &ChannelwiseProblem, _pattern: &Pattern, isa: Isa) -> Cost {
        let vectors = problem.dst.hw().div_ceil(isa.lanes()) * problem.dst.c;
        Cost {
            cycles: f64::from(vectors) * 2.0,
            code_bytes: 256,
        }
    }
    fn build<A: VectorAsm>(
        problem: &ChannelwiseProblem,
        weights: Weights<'_>,
    ) -> Result<Built, KernelError> {
        let (src, dst) = (&problem.src, &problem.dst);
        let mut packed = AlignedBuf::new();
        packed.extend(&A::first_lanes(dst.hw() % A::LANES as u32));
        let constants = packed.align(64);
        packed.extend_f32(weights.all().iter().copied());
        let mut asm = A::new();
        emit(&mut asm, problem);
        let tasks = balanced(dst.c, dst.c.div_ceil(TASKS)).map(|channels| Task {
            wei: constants + u64::from(channels.start) * 12,
            ..Task::of_channels(channels, src, dst)
        });
        let footprint = Footprint::new(Extent::of(src), Extent::of(dst));
        Ok(Built::new(asm, [0], packed, tasks.collect(), footprint))
    }
}

fn emit<A: VectorAsm>(asm: &mut A, problem: &ChannelwiseProblem) {
    let (x, scale, shift, slope, zero, low) = (V(0), V(1), V(2), V(3), V(4), V(5));
    let mask = A::mask(1, V(6));
    load_args(asm);
    asm.zero(zero);
    asm.load_mask(mask, Mem::new(AUX, 0));
    let begin = |asm: &mut A| {
        for (constant, at) in [(scale, 0), (shift, 4), (slope, 8)] {
            asm.broadcast(constant, Mem::new(WEI, at));
        }
        asm.add_imm(WEI, 12);
    };
    let compute = |asm: &mut A, _| {
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
    emit_planes(
        asm,
        [&problem.src, &problem.dst],
        (&[x], mask),
        begin,
        compute,
    );
    asm.ret();
}
