//! Local response normalisation across channels.

use crate::emit::{AUX, COUNT, DST, SRC, TMP, load_args, vector_bytes};
use crate::problem::check_planes;
use crate::variant::{Built, Cost, KernelError, Task, Unsupported, Variant, Weights};
use crate::{AlignedBuf, Extent, Footprint, LrnProblem, Problem, limits};
use skimjit_jit::Isa;
use skimjit_jit::asm::{Avx2Asm, Avx512Asm, Cond, M, Mem, V, VectorAsm};
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

impl Variant for AcrossChannels {
    fn name(&self) -> &'static str {
        "lrn.across"
    }
    fn supports(&self, problem: &Problem, _isa: Isa) -> Result<(), Unsupported> {
        let Problem::Lrn(problem) = problem else {
            return Err(Unsupported::family("LRN"));
        };
        check_planes(&problem.planes)?;
        if ![0.5, 0.75, 1.0].contains(&problem.beta) {
            return Err(Unsupported(format!(
                "beta {}, expected 0.5, 0.75 or 1",
                problem.beta
            )));
        }
        if problem.size % 2 == 0 {
            return Err(Unsupported(format!(
                "a window of {}, expected an odd one",
                problem.size
            )));
        }
        if problem.size > limits::LRN_SIZE || problem.planes.c > MOST_CHANNELS {
            return Err(Unsupported(format!(
                "a window of {} in {} channels, expected at most {} and {MOST_CHANNELS}",
                problem.size,
                problem.planes.c,
                limits::LRN_SIZE
            )));
        }
        Ok(())
    }
    fn cost(&self, problem: &Problem, _pattern: &Pattern, isa: Isa) -> Cost {
        let Problem::Lrn(problem) = problem else {
            unreachable!("supported")
        };
        let lanes = if isa == Isa::Avx512 { 16 } else { 8 };
        let vectors = f64::from(problem.planes.hw().div_ceil(lanes) * problem.planes.c);
        Cost {
            cycles: vectors * 25.0,
            code_bytes: u64::from(problem.planes.c) * 100,
        }
    }
    fn build(
        &self,
        problem: &Problem,
        _weights: Weights<'_>,
        isa: Isa,
    ) -> Result<Built, KernelError> {
        self.supports(problem, isa)?;
        let Problem::Lrn(problem) = problem else {
            unreachable!("supported")
        };
        Ok(match isa {
            Isa::Avx2 => build::<Avx2Asm>(problem),
            Isa::Avx512 => build::<Avx512Asm>(problem),
        })
    }
}

fn build<A: VectorAsm>(problem: &LrnProblem) -> Built {
    let mut packed = AlignedBuf::new();
    let hw = problem.planes.hw();
    let lanes = A::LANES as u32;
    let tail = (hw - 1) % lanes + 1;
    packed.extend(&A::mask_bytes(((1u64 << tail) - 1) as u32));
    packed.align(64);
    let mut asm = A::new();
    let entries = vec![
        emit(&mut asm, problem, false),
        emit(&mut asm, problem, true),
    ];
    let whole = hw.div_ceil(lanes) - 1;
    let task = |entry: u32, first: u32, count: u32| Task {
        entry,
        src: i64::from(first * lanes) * 4,
        dst: i64::from(first * lanes) * 4,
        wei: 0,
        bias: 0,
        aux: 0,
        count: u64::from(count),
        cost: count as f32,
    };
    let mut tasks: Vec<Task> = crate::variant::balanced(whole, whole.div_ceil(TASKS))
        .map(|range| task(0, range.start, range.len() as u32))
        .collect();
    tasks.push(task(1, whole, 1));
    let last = (problem.planes.c as usize - 1) * problem.planes.pitch as usize;
    Built {
        code: asm.finish(),
        entries,
        packed: packed.into(),
        tasks,
        staging: None,
        footprint: Footprint {
            src: Extent {
                before: 0,
                after: last + hw.next_multiple_of(lanes) as usize,
            },
            dst: Extent {
                before: 0,
                after: last + hw as usize,
            },
            scratch_bytes: 0,
        },
    }
}

fn emit<A: VectorAsm>(asm: &mut A, problem: &LrnProblem, last: bool) -> usize {
    let half = problem.size / 2;
    let square = |c: u32| V((c % problem.size) as u8);
    let (alpha, k, x, sum, root) = (V(9), V(10), V(11), V(12), V(13));
    let mask = if A::ISA == Isa::Avx512 { M(1) } else { M(14) };
    let plane = |c: u32| (c * problem.planes.pitch) as i32 * 4;
    asm.align(64);
    let entry = asm.offset();
    load_args(asm);
    asm.broadcast_imm(alpha, problem.alpha / problem.size as f32, TMP);
    asm.broadcast_imm(k, problem.k, TMP);
    if last {
        asm.load_mask(mask, Mem::new(AUX, 0));
    }
    let top = asm.new_label();
    asm.bind(top);
    let enter = |asm: &mut A, c: u32| {
        if c < problem.planes.c {
            asm.load(square(c), Mem::new(SRC, plane(c)));
            asm.vmul(square(c), square(c), square(c));
        }
    };
    (0..half).for_each(|c| enter(asm, c));
    for c in 0..problem.planes.c {
        enter(asm, c + half);
        let window = c.saturating_sub(half)..(c + half + 1).min(problem.planes.c);
        asm.vmov(sum, square(window.start));
        (window.start + 1..window.end).for_each(|other| asm.vadd(sum, sum, square(other)));
        asm.vmov(root, k);
        asm.fma(root, sum, alpha);
        asm.load(x, Mem::new(SRC, plane(c)));
        emit_power(asm, problem.beta, root, sum);
        asm.vdiv(x, x, root);
        let out = Mem::new(DST, plane(c));
        if last {
            asm.store_masked(out, x, mask)
        } else {
            asm.store(out, x)
        }
    }
    asm.add_imm(SRC, vector_bytes::<A>());
    asm.add_imm(DST, vector_bytes::<A>());
    asm.dec(COUNT);
    asm.jcc(Cond::NotEqual, top);
    asm.ret();
    entry
}

/// `s = s^beta`; clobbers `tmp`.
fn emit_power<A: VectorAsm>(asm: &mut A, beta: f32, s: V, tmp: V) {
    if beta == 1.0 {
        return;
    }
    asm.vsqrt(s, s);
    if beta == 0.75 {
        asm.vsqrt(tmp, s);
        asm.vmul(s, s, tmp);
    }
}
