//! Local response normalisation across channels.

use super::{check, emit_power};
use crate::emit::{AUX, COUNT, DST, SRC, TMP, entry, load_args, store, vector_bytes};
use crate::problem::refuse;
use crate::variant::{
    Built, Cost, KernelError, TypedVariant, Unsupported, Weighting, Weights, last_lanes,
    vector_tasks,
};
use crate::{AlignedBuf, Extent, Footprint, LrnProblem, limits};
use skimjit_jit::Isa;
use skimjit_jit::asm::{Mem, V, VectorAsm};
use skimjit_models::Pattern;

/// LRN across channels: `dst[c] = src[c] · (k + alpha/size · Σ src[c']²)^−beta`, c' in the window.
///
/// One vector of pixels walks through all channels with the window's squares in registers; the sum
/// is formed anew for each channel, so no rounding error builds up.
/// * src, dst: planes of the same layout. * task = some vectors of pixels.
/// * refused: beta other than 0.5, 0.75 and 1, windows over [`limits::LRN_SIZE`], more than
///   `MOST_CHANNELS` channels (the channel loop is unrolled).
pub struct AcrossChannels;

const MOST_CHANNELS: u32 = 2048;
const TASKS: u32 = 16;

impl TypedVariant for AcrossChannels {
    type Problem = LrnProblem;
    const NAME: &'static str = "lrn.across";
    const WEIGHTING: Weighting = Weighting::Unweighted;
    const EXAMPLE: &'static str =
        "lrn src=3x5x5x48 size=3 alpha=0.5 beta=0.75 k0=1 density=100 bias=1 scale=1 seed=1";

    fn supports(problem: &LrnProblem, _isa: Isa) -> Result<(), Unsupported> {
        check(problem)?;
        if problem.within_channel {
            return refuse("a window within a channel, expected one across channels".into());
        }
        let (size, channels) = (problem.size, problem.planes.c);
        if size > limits::LRN_SIZE || channels > MOST_CHANNELS {
            return refuse(format!(
                "a window of {size} in {channels} channels, expected at most {} and {MOST_CHANNELS}",
                limits::LRN_SIZE
            ));
        }
        Ok(())
    }
    fn cost(problem: &LrnProblem, _pattern: &Pattern, isa: Isa) -> Cost {
        let vectors = f64::from(problem.planes.hw().div_ceil(isa.lanes()) * problem.planes.c);
        Cost {
            cycles: vectors * 25.0,
            code_bytes: u64::from(problem.planes.c) * 100,
        }
    }
    fn build<A: VectorAsm>(
        problem: &LrnProblem,
        _weights: Weights<'_>,
    ) -> Result<Built, KernelError> {
        let (planes, lanes) = (&problem.planes, A::LANES as u32);
        let mut packed = AlignedBuf::new();
        packed.extend(&A::first_lanes(last_lanes(planes.hw(), lanes)));
        packed.align(64);
        let mut asm = A::new();
        let entries = [false, true].map(|last| emit(&mut asm, problem, last));
        let read = planes.last_plane() + planes.hw().next_multiple_of(lanes) as usize;
        let footprint = Footprint::new(Extent::from_base(read), Extent::of(planes));
        let tasks = vector_tasks(planes.hw(), lanes, TASKS);
        Ok(Built::new(asm, entries, packed, tasks, footprint))
    }
}

fn emit<A: VectorAsm>(asm: &mut A, problem: &LrnProblem, last: bool) -> usize {
    let half = problem.size / 2;
    let square = |c: u32| V((c % problem.size) as u8);
    let (alpha, k, x, sum, root) = (V(9), V(10), V(11), V(12), V(13));
    let mask = A::mask(1, V(14));
    let plane = |c: u32| (c * problem.planes.pitch) as i32 * 4;
    let enter = |asm: &mut A, c: u32| {
        if c < problem.planes.c {
            asm.load(square(c), Mem::new(SRC, plane(c)));
            asm.vmul(square(c), square(c), square(c));
        }
    };
    let channel = |asm: &mut A, c: u32| {
        enter(asm, c + half);
        let window = c.saturating_sub(half)..(c + half + 1).min(problem.planes.c);
        asm.vmov(sum, square(window.start));
        (window.start + 1..window.end).for_each(|other| asm.vadd(sum, sum, square(other)));
        asm.vmov(root, k);
        asm.fma(root, sum, alpha);
        asm.load(x, Mem::new(SRC, plane(c)));
        emit_power(asm, problem.beta, root, sum);
        asm.vdiv(x, x, root);
        store(asm, Mem::new(DST, plane(c)), x, last.then_some(mask));
    };
    entry(asm, &[], |asm| {
        load_args(asm);
        asm.broadcast_imm(alpha, problem.alpha / problem.size as f32, TMP);
        asm.broadcast_imm(k, problem.k, TMP);
        if last {
            asm.load_mask(mask, Mem::new(AUX, 0));
        }
        asm.counted_loop(COUNT, |asm| {
            (0..half).for_each(|c| enter(asm, c));
            (0..problem.planes.c).for_each(|c| channel(asm, c));
            asm.add_imm(SRC, vector_bytes::<A>());
            asm.add_imm(DST, vector_bytes::<A>());
        });
    })
}
