//! Mean 0, variance 1, norm 1.

use crate::emit::{AUX, COUNT, SRC, WEI, entry, load_args, store};
use crate::groups::{Groups, RUNS, TO, vector_at};
use crate::planes::same_dims;
use crate::problem::refuse;
use crate::variant::{Built, Cost, KernelError, TypedVariant, Unsupported, Weighting, Weights};
use crate::{AlignedBuf, Divisor, Extent, Footprint, Over, StandardizeProblem};
use skimjit_jit::Isa;
use skimjit_jit::asm::{Gp, M, Mem, V, VectorAsm};
use skimjit_models::Pattern;

/// `dst = (src − mean) / √(variance + eps)` and its kin ([`Divisor`]), mean and variance over groups.
///
/// The variance is the mean of squared distances from the mean, in a pass of its own: nothing cancels. Where nothing
/// is added to it, the distances are added up as well, for a mean so exact that equal elements are 0.
/// * src, dst: planes; layouts may differ; the gap of dst is not touched. Where elements of a group lie side by side
///   lanes are summed; otherwise a lane is a group.
/// * weights: of [`Divisor::Norm`], one `f32` per channel.
/// * task = some vectors of groups, or some groups.
/// * refused: an eps that is not positive where there is one; over channels or rows [`Divisor::DeviationAndEps`] and
///   [`Divisor::One`], over anything but channels and images [`Divisor::Norm`].
pub struct Standardize;

/// Vectors side by side: sums that do not wait for each other.
const VECTORS: u8 = 4;

impl TypedVariant for Standardize {
    type Problem = StandardizeProblem;
    const NAME: &'static str = "standardize";
    const WEIGHTING: Weighting = Weighting::Unweighted;
    const EXAMPLE: &'static str = "standardize src=5x9x9x96 dst=5x9x9x81 over=Channels by=Deviation eps=0.00001 density=100 scale=1 seed=1";

    fn supports(problem: &StandardizeProblem, _isa: Isa) -> Result<(), Unsupported> {
        same_dims(&problem.src, &problem.dst)?;
        let (over, divisor) = (problem.over, problem.divisor);
        if divisor != Divisor::One && !(problem.eps > 0.0 && problem.eps.is_finite()) {
            return refuse(format!("an eps of {}, expected more than 0", problem.eps));
        }
        let fits = match divisor {
            Divisor::Deviation => true,
            Divisor::DeviationAndEps | Divisor::One => !matches!(over, Over::Channels | Over::Rows),
            Divisor::Norm => matches!(over, Over::Channels | Over::Image),
        };
        match fits {
            true => Ok(()),
            false => refuse(format!("{divisor:?} over {over:?}")),
        }
    }
    fn cost(problem: &StandardizeProblem, _pattern: &Pattern, isa: Isa) -> Cost {
        let groups = groups(problem);
        let roots = f64::from(problem.dst.hw().div_ceil(isa.lanes()));
        Cost {
            cycles: groups.vectors(isa.lanes()) * 4.0 + (roots + groups.reductions()) * 40.0,
            code_bytes: 1024,
        }
    }
    fn build<A: VectorAsm>(
        problem: &StandardizeProblem,
        weights: Weights<'_>,
    ) -> Result<Built, KernelError> {
        let (groups, lanes) = (groups(problem), A::LANES as u32);
        let mut packed = AlignedBuf::new();
        packed.extend(&A::first_lanes(groups.last_lanes(lanes)));
        let scales = packed.align(64);
        packed.extend_f32(weights.all().iter().copied());
        let mut asm = A::new();
        let lasts: &[bool] = if groups.side_by_side {
            &[false, true]
        } else {
            &[true]
        };
        let emit = |&last: &bool| emit(&mut asm, (problem, &groups), last);
        let entries: Vec<usize> = lasts.iter().map(emit).collect();
        let mut tasks = groups.tasks(lanes);
        tasks.iter_mut().for_each(|task| task.wei = scales);
        let footprint = Footprint::new(Extent::of(&problem.src), Extent::of(&problem.dst));
        Ok(Built::new(asm, entries, packed, tasks, footprint))
    }
}

fn groups(problem: &StandardizeProblem) -> Groups {
    Groups::new(
        [&problem.src, &problem.dst],
        problem.over,
        problem.is_scaled(),
    )
}

/// Address of the constants.
const CONSTANTS: Gp = Gp::Rbx;
/// The factor of the current run.
const SCALES: Gp = Gp::R11;

const fn registers(first: u8) -> [V; VECTORS as usize] {
    [V(first), V(first + 1), V(first + 2), V(first + 3)]
}
/// Elements.
const XS: [V; VECTORS as usize] = registers(0);
/// Sums, then means; of one group the first one.
const MEANS: [V; VECTORS as usize] = registers(VECTORS);
/// Sums of squares, then factors; of one group the first one.
const SQUARES: [V; VECTORS as usize] = registers(2 * VECTORS);
/// Sums of distances from the mean, for one group: those means that are not needed any more, and one more.
const DISTANCES: [V; VECTORS as usize] = [MEANS[1], MEANS[2], MEANS[3], V(3 * VECTORS)];
/// 1.
const ONE: V = V(3 * VECTORS + 1);
/// The factor of the current run.
const SCALE: V = V(3 * VECTORS + 2);

/// Some vectors of groups side by side, or one group.
struct Part<'a> {
    problem: &'a StandardizeProblem,
    groups: &'a Groups,
    /// Vectors at once.
    count: usize,
    /// Lanes of what is masked.
    mask: Option<M>,
}

/// `last`: what is masked is, of groups side by side one vector.
fn emit<A: VectorAsm>(
    asm: &mut A,
    (problem, groups): (&StandardizeProblem, &Groups),
    last: bool,
) -> usize {
    let mask = last.then(|| A::mask(1, V(15)));
    let part = |asm: &mut A, count: usize| {
        Part {
            problem,
            groups,
            count,
            mask,
        }
        .emit(asm);
        groups.advance(asm, count);
    };
    entry(asm, &[CONSTANTS, RUNS], |asm| {
        load_args(asm);
        asm.lea_constants(CONSTANTS);
        if let Some(mask) = mask {
            asm.load_mask(mask, Mem::new(AUX, 0));
        }
        match (groups.side_by_side, last) {
            (true, false) => asm.counted_loop_by(COUNT, XS.len(), part),
            (true, true) => asm.counted_loop(COUNT, |asm| part(asm, 1)),
            (false, _) => asm.counted_loop(COUNT, |asm| part(asm, XS.len())),
        }
    })
}

impl Part<'_> {
    fn emit<A: VectorAsm>(&self, asm: &mut A) {
        if !self.problem.is_scaled() {
            self.find_means(asm);
        }
        if self.problem.divisor != Divisor::One {
            self.add_squares(asm);
            self.find_factors(asm);
        }
        self.apply(asm);
    }

    /// Registers with one value per vector of groups, or one for the group.
    fn results<'a>(&self, registers: &'a [V]) -> &'a [V] {
        match self.groups.side_by_side {
            true => &registers[..self.count],
            false => &registers[..1],
        }
    }

    fn result(&self, registers: &[V], i: usize) -> V {
        registers[if self.groups.side_by_side { i } else { 0 }]
    }

    /// One sum of all lanes in the first of the registers, for one group.
    fn combine<A: VectorAsm>(&self, asm: &mut A, sums: &[V]) {
        if self.groups.side_by_side {
            return;
        }
        let sum = sums[0];
        sums[1..self.count]
            .iter()
            .for_each(|&other| asm.vadd(sum, sum, other));
        asm.sum_lanes(sum, sum, XS[0]);
        asm.broadcast_lane0(sum, sum);
    }

    fn walk<A: VectorAsm>(
        &self,
        asm: &mut A,
        begin: &dyn Fn(&mut A),
        body: &dyn Fn(&mut A, usize, Option<M>),
    ) {
        let xs = (&XS[..self.count], self.mask);
        self.groups.walk(asm, SRC, xs, begin, &|asm, count, mask| {
            (0..count).for_each(|i| body(asm, i, mask));
        });
    }

    fn number<A: VectorAsm>(asm: &mut A, value: f32) -> Mem {
        asm.constant(CONSTANTS, value.to_bits())
    }

    /// What a sum is multiplied by for a mean.
    fn share(&self) -> f32 {
        1.0 / self.groups.elems() as f32
    }

    fn find_means<A: VectorAsm>(&self, asm: &mut A) {
        MEANS[..self.count].iter().for_each(|&mean| asm.zero(mean));
        self.walk(asm, &|_| {}, &|asm, i, _| {
            asm.vadd(MEANS[i], MEANS[i], XS[i])
        });
        self.combine(asm, &MEANS);
        let share = Self::number(asm, self.share());
        for &mean in self.results(&MEANS) {
            asm.vmul_mem(mean, mean, share);
        }
    }

    fn centre<A: VectorAsm>(&self, asm: &mut A, i: usize) {
        if !self.problem.is_scaled() {
            asm.vsub(XS[i], XS[i], self.result(&MEANS, i));
        }
    }

    /// Distances from the mean are added up where nothing else is part of the variance.
    fn adds_distances(&self) -> bool {
        self.problem.divisor == Divisor::DeviationAndEps
    }

    fn add_squares<A: VectorAsm>(&self, asm: &mut A) {
        let sums = &SQUARES[..self.count];
        sums.iter().for_each(|&sum| asm.zero(sum));
        if self.adds_distances() {
            DISTANCES.iter().for_each(|&sum| asm.zero(sum));
        }
        self.walk(asm, &|_| {}, &|asm, i, mask| {
            let x = XS[i];
            self.centre(asm, i);
            if let Some(mask) = mask {
                // Outside it was 0.
                asm.vmask_zero(x, x, mask);
            }
            asm.fma(SQUARES[i], x, x);
            if self.adds_distances() {
                asm.vadd(DISTANCES[i], DISTANCES[i], x);
            }
        });
        self.combine(asm, &SQUARES);
    }

    /// factor = 1 / divisor.
    fn find_factors<A: VectorAsm>(&self, asm: &mut A) {
        let [share, eps, one] =
            [self.share(), self.problem.eps, 1.0].map(|value| Self::number(asm, value));
        asm.load(ONE, one);
        if self.adds_distances() {
            self.correct(asm, share);
        }
        for &factor in self.results(&SQUARES) {
            match self.problem.divisor {
                Divisor::DeviationAndEps => {
                    asm.vsqrt(factor, factor);
                    asm.vadd_mem(factor, factor, eps);
                }
                divisor => {
                    if divisor == Divisor::Deviation {
                        asm.vmul_mem(factor, factor, share);
                    }
                    asm.vadd_mem(factor, factor, eps);
                    asm.vsqrt(factor, factor);
                }
            }
            asm.vdiv(factor, ONE, factor);
        }
    }

    /// The mean distance from the mean is what the mean is off; variance = mean square − its square.
    fn correct<A: VectorAsm>(&self, asm: &mut A, share: Mem) {
        let ([mean, ..], [square, ..], [distance, zero, ..]) = (MEANS, SQUARES, DISTANCES);
        self.combine(asm, &DISTANCES);
        asm.vmul_mem(distance, distance, share);
        asm.vadd(mean, mean, distance);
        asm.vmul_mem(square, square, share);
        asm.fnma(square, distance, distance);
        asm.zero(zero);
        asm.vmax(square, zero, square);
    }

    fn apply<A: VectorAsm>(&self, asm: &mut A) {
        let scaled = self.problem.is_scaled();
        if scaled {
            asm.mov(SCALES, WEI);
        }
        let begin = |asm: &mut A| {
            if scaled {
                asm.broadcast(SCALE, Mem::new(SCALES, 0));
                asm.add_imm(SCALES, 4);
            }
        };
        self.walk(asm, &begin, &|asm, i, mask| {
            let x = XS[i];
            self.centre(asm, i);
            if self.problem.divisor != Divisor::One {
                asm.vmul(x, x, self.result(&SQUARES, i));
            }
            if scaled {
                asm.vmul(x, x, SCALE);
            }
            store(asm, vector_at::<A>(TO, i), x, mask);
        });
    }
}
