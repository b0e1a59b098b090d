//! Softmax over channels.

use crate::emit::{AUX, COUNT, DST, SRC, TMP, WEI, entry, load, load_args, store, vector_bytes};
use crate::lockstep::{Lockstep, R};
use crate::problem::check_planes;
use crate::variant::{
    Built, Cost, KernelError, Task, TypedVariant, Unsupported, Weighting, Weights, last_lanes,
    vector_tasks,
};
use crate::{AlignedBuf, Extent, Footprint, SoftmaxProblem};
use skimjit_jit::Isa;
use skimjit_jit::asm::{Gp, Mem, V, VectorAsm};
use skimjit_models::Pattern;

/// Softmax over the channels of each pixel: subtract the maximum, exponentiate, divide by the sum.
///
/// * src, dst: planes of the same layout. Channels that lie side by side (pitch 1) are one row whose
///   lanes are summed; otherwise a lane is a pixel.
/// * task = some vectors of pixels, or the whole row.
pub struct Softmax;

const TASKS: u32 = 16;

/// Address of the constants; there are no weights.
const CONSTANTS: Gp = WEI;

impl TypedVariant for Softmax {
    type Problem = SoftmaxProblem;
    const NAME: &'static str = "softmax";
    const WEIGHTING: Weighting = Weighting::Unweighted;
    const EXAMPLE: &'static str = "softmax src=5x3x3x16 density=100 bias=1 scale=1 seed=1";

    fn supports(problem: &SoftmaxProblem, _isa: Isa) -> Result<(), Unsupported> {
        check_planes(&problem.planes)
    }
    fn cost(problem: &SoftmaxProblem, _pattern: &Pattern, isa: Isa) -> Cost {
        let elems = f64::from(problem.planes.hw()) * f64::from(problem.planes.c);
        Cost {
            cycles: elems / f64::from(isa.lanes()) * 25.0,
            code_bytes: 1024,
        }
    }
    fn build<A: VectorAsm>(
        problem: &SoftmaxProblem,
        _weights: Weights<'_>,
    ) -> Result<Built, KernelError> {
        let (planes, lanes) = (&problem.planes, A::LANES as u32);
        let row = planes.hw() == 1 && planes.pitch == 1;
        let along = if row { planes.c } else { planes.hw() };
        let mut packed = AlignedBuf::new();
        write_tables::<A>(&mut packed, last_lanes(along, lanes));
        let mut asm = A::new();
        let (entries, tasks) = if row {
            let task = Task {
                count: 1,
                cost: 1.0,
                ..Task::default()
            };
            let whole = along.div_ceil(lanes) - 1;
            (vec![emit_row(&mut asm, whole)], vec![task])
        } else {
            let entries = [false, true].map(|last| emit_pixels(&mut asm, problem, last));
            (entries.to_vec(), vector_tasks(along, lanes, TASKS))
        };
        let footprint = Footprint::new(Extent::of(planes), Extent::of(planes));
        Ok(Built::new(asm, entries, packed, tasks, footprint))
    }
}

/// Offset of the tail's mask, then of its additive mask (0 inside, lowest outside).
fn tail() -> [Mem; 2] {
    [0, 64].map(|at| Mem::new(AUX, at))
}

fn write_tables<A: VectorAsm>(packed: &mut AlignedBuf, tail_lanes: u32) {
    packed.extend(&A::first_lanes(tail_lanes));
    packed.align(64);
    packed.extend_f32(
        (0..A::LANES as u32).map(|lane| if lane < tail_lanes { 0.0 } else { -f32::MAX }),
    );
}

/// `x = e^(x − most)`; overwrites others.
fn emit_exp<A: VectorAsm>(asm: &mut A, [x, most]: [V; 2]) {
    let (n, t) = (V(4), V(5));
    asm.vsub(x, x, most);
    Lockstep::new(asm, CONSTANTS, &[vec![x, n, t]]).exp(R(0), [R(1), R(2)]);
    asm.vmov(x, n);
}

/// Walks `whole` vectors and the tail of a row: loads each (outside lanes lowest), calls `body` with
/// the vector in `x`, and stores it when `store` is set.
fn emit_walk<A: VectorAsm>(
    asm: &mut A,
    whole: u32,
    from: Gp,
    x: V,
    store: bool,
    body: impl Fn(&mut A),
) {
    const AT: Gp = Gp::R9;
    let [mask_mem, lowest] = tail();
    let mask = A::mask(1, V(15));
    asm.mov_imm(AT, 0);
    if whole > 0 {
        asm.mov_imm(TMP, i64::from(whole));
        asm.counted_loop(TMP, |asm| {
            asm.load(x, Mem::indexed(from, AT, 1, 0));
            body(asm);
            if store {
                asm.store(Mem::indexed(DST, AT, 1, 0), x);
            }
            asm.add_imm(AT, vector_bytes::<A>());
        });
    }
    asm.load_mask(mask, mask_mem);
    asm.load_masked(x, Mem::indexed(from, AT, 1, 0), mask);
    asm.vadd_mem(x, x, lowest);
    body(asm);
    if store {
        asm.store_masked(Mem::indexed(DST, AT, 1, 0), x, mask);
    }
}

fn emit_row<A: VectorAsm>(asm: &mut A, whole: u32) -> usize {
    let (x, most, sum, tmp) = (V(0), V(1), V(2), V(3));
    load_args(asm);
    asm.lea_constants(CONSTANTS);
    asm.broadcast_imm(most, f32::NEG_INFINITY, TMP);
    emit_walk(asm, whole, SRC, x, false, |asm| asm.vmax(most, most, x));
    asm.max_lanes(most, most, tmp);
    asm.broadcast_lane0(most, most);
    asm.zero(sum);
    emit_walk(asm, whole, SRC, x, true, |asm| {
        emit_exp(asm, [x, most]);
        asm.vadd(sum, sum, x);
    });
    asm.sum_lanes(sum, sum, tmp);
    asm.broadcast_lane0(sum, sum);
    emit_walk(asm, whole, DST, x, true, |asm| asm.vdiv(x, x, sum));
    asm.ret();
    0
}

/// Channels one after the other, a lane per pixel; `last`: one vector whose accesses are masked.
fn emit_pixels<A: VectorAsm>(asm: &mut A, problem: &SoftmaxProblem, last: bool) -> usize {
    const FROM: Gp = Gp::R9;
    const TO: Gp = Gp::R10;
    let (x, most, sum) = (V(0), V(1), V(2));
    let mask = A::mask(1, V(15));
    let pitch = problem.planes.pitch as i32 * 4;
    let masked = last.then_some(mask);
    let channels = |asm: &mut A, from: Gp, stored: bool, body: &dyn Fn(&mut A)| {
        asm.mov(FROM, from);
        asm.mov(TO, DST);
        asm.mov_imm(TMP, i64::from(problem.planes.c));
        asm.counted_loop(TMP, |asm| {
            load(asm, x, Mem::new(FROM, 0), masked);
            body(asm);
            if stored {
                store(asm, Mem::new(TO, 0), x, masked);
            }
            asm.add_imm(FROM, pitch);
            asm.add_imm(TO, pitch);
        });
    };
    entry(asm, &[], |asm| {
        load_args(asm);
        asm.lea_constants(CONSTANTS);
        if last {
            asm.load_mask(mask, tail()[0]);
        }
        asm.counted_loop(COUNT, |asm| {
            asm.broadcast_imm(most, f32::NEG_INFINITY, TMP);
            channels(asm, SRC, false, &|asm| asm.vmax(most, most, x));
            asm.zero(sum);
            channels(asm, SRC, true, &|asm| {
                emit_exp(asm, [x, most]);
                asm.vadd(sum, sum, x);
            });
            channels(asm, DST, true, &|asm| asm.vdiv(x, x, sum));
            asm.add_imm(SRC, vector_bytes::<A>());
            asm.add_imm(DST, vector_bytes::<A>());
        });
    })
}
