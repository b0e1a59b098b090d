//! Softmax.

use crate::emit::{AUX, COUNT, DST, SRC, TMP, WEI, entry, load_args, store};
use crate::groups::{Groups, RUNS, TO, vector_at};
use crate::lockstep::{Lockstep, R};
use crate::problem::check_planes;
use crate::variant::{Built, Cost, KernelError, TypedVariant, Unsupported, Weighting, Weights};
use crate::{AlignedBuf, Extent, Footprint, SoftmaxProblem};
use skimjit_jit::Isa;
use skimjit_jit::asm::{Gp, M, Mem, V, VectorAsm};
use skimjit_models::Pattern;

/// Softmax over groups: subtract the maximum, exponentiate, divide by the sum; or the logarithm of that, for which the
/// logarithm of the sum is subtracted, and of which all are NaN where one of a group is ∞.
///
/// * src, dst: planes of the same layout. Where elements of a group lie side by side lanes are summed; otherwise a lane
///   is a group.
/// * task = some vectors of groups, or some groups.
pub struct Softmax;

/// Address of the constants; there are no weights.
const CONSTANTS: Gp = WEI;
/// Vectors side by side, of one group.
const VECTORS: u8 = 4;
const MOST: V = V(3 * VECTORS);
const SUM: V = V(3 * VECTORS + 1);
/// Overwritten.
const SPARE: V = V(3 * VECTORS + 2);

impl TypedVariant for Softmax {
    type Problem = SoftmaxProblem;
    const NAME: &'static str = "softmax";
    const WEIGHTING: Weighting = Weighting::Unweighted;
    const EXAMPLE: &'static str =
        "softmax src=5x3x3x16 over=Channels density=100 bias=1 scale=1 seed=1";

    fn supports(problem: &SoftmaxProblem, _isa: Isa) -> Result<(), Unsupported> {
        check_planes(&problem.planes)
    }
    fn cost(problem: &SoftmaxProblem, _pattern: &Pattern, isa: Isa) -> Cost {
        let groups = groups(problem);
        Cost {
            cycles: groups.vectors(isa.lanes()) * 25.0 + groups.reductions() * 30.0,
            code_bytes: 1024,
        }
    }
    fn build<A: VectorAsm>(
        problem: &SoftmaxProblem,
        _weights: Weights<'_>,
    ) -> Result<Built, KernelError> {
        let (groups, lanes) = (groups(problem), A::LANES as u32);
        let mut packed = AlignedBuf::new();
        write_tables::<A>(&mut packed, groups.last_lanes(lanes));
        let mut asm = A::new();
        let lasts: &[bool] = if groups.side_by_side {
            &[false, true]
        } else {
            &[true]
        };
        let emit = |&last: &bool| emit(&mut asm, &groups, problem.log, last);
        let entries: Vec<usize> = lasts.iter().map(emit).collect();
        let extent = Extent::of(&problem.planes);
        let footprint = Footprint::new(extent, extent);
        Ok(Built::new(
            asm,
            entries,
            packed,
            groups.tasks(lanes),
            footprint,
        ))
    }
}

fn groups(problem: &SoftmaxProblem) -> Groups {
    Groups::new([&problem.planes; 2], problem.over, false)
}

/// The mask of the last vector, then its additive mask (0 inside, −∞ outside).
fn write_tables<A: VectorAsm>(packed: &mut AlignedBuf, last_lanes: u32) {
    packed.extend(&A::first_lanes(last_lanes));
    packed.align(64);
    packed.extend_f32((0..A::LANES as u32).map(|lane| {
        if lane < last_lanes {
            0.0
        } else {
            f32::NEG_INFINITY
        }
    }));
}

/// `last`: some of what is loaded is masked.
fn emit<A: VectorAsm>(asm: &mut A, groups: &Groups, log: bool, last: bool) -> usize {
    let mask = last.then(|| A::mask(1, V(15)));
    entry(asm, &[RUNS], |asm| {
        load_args(asm);
        asm.lea_constants(CONSTANTS);
        if let Some(mask) = mask {
            asm.load_mask(mask, Mem::new(AUX, 0));
        }
        asm.counted_loop(COUNT, |asm| {
            Group { groups, log, mask }.emit(asm);
            groups.advance(asm, 1);
        });
    })
}

/// One group, or a vector of groups.
struct Group<'a> {
    groups: &'a Groups,
    log: bool,
    mask: Option<M>,
}

impl Group<'_> {
    fn emit<A: VectorAsm>(&self, asm: &mut A) {
        let reduces = !self.groups.side_by_side;
        asm.broadcast_imm(MOST, f32::NEG_INFINITY, TMP);
        self.walk(asm, SRC, |asm, xs, _| {
            xs.iter().for_each(|&x| asm.vmax(MOST, MOST, x));
        });
        if reduces {
            asm.max_lanes(MOST, MOST, SPARE);
            asm.broadcast_lane0(MOST, MOST);
        }
        asm.zero(SUM);
        self.walk(asm, SRC, |asm, xs, mask| {
            self.add_exponentials(asm, xs, mask)
        });
        if reduces {
            asm.sum_lanes(SUM, SUM, SPARE);
            asm.broadcast_lane0(SUM, SUM);
        }
        match self.log {
            true => self.subtract_logarithm(asm),
            false => self.divide(asm),
        }
    }

    /// `body` with each vector of the group and the mask with which it is stored; lanes outside are −∞.
    fn walk<A: VectorAsm>(&self, asm: &mut A, from: Gp, body: impl Fn(&mut A, &[V], Option<M>)) {
        let side_by_side = self.groups.side_by_side;
        let count = if side_by_side { 1 } else { VECTORS };
        let xs: Vec<V> = (0..count).map(V).collect();
        self.groups
            .walk(asm, from, (&xs, self.mask), &|_| {}, &|asm, count, mask| {
                if mask.is_some() && !side_by_side {
                    asm.vadd_mem(xs[0], xs[0], Mem::new(AUX, 64));
                }
                body(asm, &xs[..count], mask);
            });
    }

    /// Adds up `e^(x − most)`, which is stored unless only the sum is wanted.
    fn add_exponentials<A: VectorAsm>(&self, asm: &mut A, xs: &[V], mask: Option<M>) {
        let members: Vec<Vec<V>> = xs
            .iter()
            .map(|x| [0, 1, 2].map(|r| V(x.0 + r * VECTORS)).to_vec())
            .collect();
        xs.iter().for_each(|&x| asm.vsub(x, x, MOST));
        Lockstep::new(asm, CONSTANTS, &members).exp(R(0), [R(1), R(2)]);
        for (i, member) in members.iter().enumerate() {
            if !self.log {
                store(asm, vector_at::<A>(TO, i), member[1], mask);
            }
            asm.vadd(SUM, SUM, member[1]);
        }
    }

    fn divide<A: VectorAsm>(&self, asm: &mut A) {
        // Never small: the maximum's exponential is 1.
        asm.broadcast_imm(SPARE, 1.0, TMP);
        asm.vdiv(SUM, SPARE, SUM);
        self.walk(asm, DST, |asm, xs, mask| {
            for (i, &x) in xs.iter().enumerate() {
                asm.vmul(x, x, SUM);
                store(asm, vector_at::<A>(TO, i), x, mask);
            }
        });
    }

    fn subtract_logarithm<A: VectorAsm>(&self, asm: &mut A) {
        let members = [vec![V(0), V(1), V(2), V(3)]];
        asm.vmov(V(0), SUM);
        Lockstep::new(asm, CONSTANTS, &members).log_of_normal(R(0), [R(1), R(2), R(3)]);
        // What is not finite stays so: the logarithm looks at bits.
        asm.vsub(SPARE, SUM, SUM);
        asm.vadd(SUM, V(0), SPARE);
        self.walk(asm, SRC, |asm, xs, mask| {
            for (i, &x) in xs.iter().enumerate() {
                asm.vsub(x, x, MOST);
                asm.vsub(x, x, SUM);
                store(asm, vector_at::<A>(TO, i), x, mask);
            }
        });
    }
}
