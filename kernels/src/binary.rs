//! Sums, differences, products and quotients of two operands, one of which may be repeated.

use crate::emit::{AUX, COUNT, DST, RES, SRC, entry, load, load_args, store, vector_bytes};
use crate::epilogue::Epilogue;
use crate::problem::{check_planes, refuse};
use crate::variant::{
    Built, Cost, KernelError, Task, TypedVariant, Unsupported, Weighting, Weights, balanced,
    last_lanes, vector_tasks,
};
use crate::{AlignedBuf, BinaryProblem, Extent, Footprint, Planes};
use skimjit_jit::Isa;
use skimjit_jit::asm::{Gp, Mem, V, VectorAsm};
use skimjit_models::Pattern;
use skimjit_models::ops::BinaryOp;

/// `dst = post(f(whole, part))`, or with the operands the other way round.
///
/// * whole, dst: planes of the same layout; part: planes of as many channels or one, of as many pixels or one.
///   The gap of dst is not touched.
/// * task = some vectors where nothing has gaps and part is a number or a whole, else some channels.
/// * refused: other functions than the four.
pub struct Binary;

const TASKS: u32 = 16;

impl TypedVariant for Binary {
    type Problem = BinaryProblem;
    const NAME: &'static str = "binary";
    const WEIGHTING: Weighting = Weighting::Unweighted;
    const EXAMPLE: &'static str =
        "binary src=3x1x1x1 dst=3x5x5x48 op=Mul relu=0.5 density=100 bias=1 scale=1 seed=1";

    fn supports(problem: &BinaryProblem, _isa: Isa) -> Result<(), Unsupported> {
        let (part, dst) = (&problem.part, &problem.dst);
        check_planes(part)?;
        check_planes(dst)?;
        let pixels = [part.h, part.w] == [dst.h, dst.w] || part.hw() == 1;
        if !pixels || !(part.c == dst.c || part.c == 1) {
            return refuse(format!("{part:?} repeated to {dst:?}"));
        }
        match problem.op {
            BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div => Ok(()),
            op => refuse(format!("{op:?}, expected Add, Sub, Mul or Div")),
        }
    }
    fn cost(problem: &BinaryProblem, _pattern: &Pattern, isa: Isa) -> Cost {
        let vectors = problem.dst.hw().div_ceil(isa.lanes()) * problem.dst.c;
        Cost {
            cycles: f64::from(vectors) * 3.0,
            code_bytes: 512,
        }
    }
    fn build<A: VectorAsm>(
        problem: &BinaryProblem,
        _weights: Weights<'_>,
    ) -> Result<Built, KernelError> {
        let (part, dst, lanes) = (&problem.part, &problem.dst, A::LANES as u32);
        let mut asm = A::new();
        let emitter = Emitter { problem };
        let (entries, tasks, last) = if emitter.is_row() {
            let elems = dst.c * dst.hw();
            let entries = [false, true].map(|last| emitter.row(&mut asm, last));
            let mut tasks = vector_tasks(elems, lanes, TASKS);
            if emitter.is_number() {
                tasks.iter_mut().for_each(|task| task.src = 0);
            }
            (entries.to_vec(), tasks, last_lanes(elems, lanes))
        } else {
            emitter.planes(&mut asm);
            let part = Planes {
                pitch: emitter.channel_elems(),
                ..*part
            };
            let channels = balanced(dst.c, dst.c.div_ceil(TASKS));
            let tasks = channels.map(|channels| Task::of_channels(channels, &part, dst));
            (vec![0], tasks.collect(), dst.hw() % lanes)
        };
        let mut packed = AlignedBuf::new();
        packed.extend(&A::first_lanes(last));
        let footprint = Footprint::new(Extent::of(part), Extent::of(dst));
        Ok(Built::new(asm, entries, packed, tasks, footprint))
    }
}

/// The whole, then the result.
const X: V = V(0);
/// The part.
const Y: V = V(1);
const ZERO: V = V(2);

struct Emitter<'a> {
    problem: &'a BinaryProblem,
}

impl Emitter<'_> {
    /// The part has one element.
    fn is_number(&self) -> bool {
        self.problem.part.c == 1 && self.problem.part.hw() == 1
    }

    /// The part has all pixels.
    fn has_pixels(&self) -> bool {
        self.problem.part.hw() == self.problem.dst.hw()
    }

    /// Everything is one run of elements.
    fn is_row(&self) -> bool {
        let (part, dst) = (&self.problem.part, &self.problem.dst);
        let compact = |planes: &Planes| planes.pitch == planes.hw() || planes.c == 1;
        let same = part.c == dst.c && self.has_pixels() && compact(part);
        compact(dst) && (same || self.is_number())
    }

    /// Elements from one channel of the part to the next.
    fn channel_elems(&self) -> u32 {
        let part = &self.problem.part;
        if part.c > 1 { part.pitch } else { 0 }
    }

    fn row<A: VectorAsm>(&self, asm: &mut A, last: bool) -> usize {
        let mask = A::mask(1, V(5));
        let masked = last.then_some(mask);
        let repeated = self.is_number();
        entry(asm, &[], |asm| {
            self.begin(asm);
            if last {
                asm.load_mask(mask, Mem::new(AUX, 0));
            }
            if repeated {
                asm.broadcast(Y, Mem::new(SRC, 0));
            }
            asm.counted_loop(COUNT, |asm| {
                load(asm, X, Mem::new(RES, 0), masked);
                if !repeated {
                    load(asm, Y, Mem::new(SRC, 0), masked);
                }
                self.compute(asm);
                store(asm, Mem::new(DST, 0), X, masked);
                for register in [RES, DST] {
                    asm.add_imm(register, vector_bytes::<A>());
                }
                if !repeated {
                    asm.add_imm(SRC, vector_bytes::<A>());
                }
            });
        })
    }

    fn planes<A: VectorAsm>(&self, asm: &mut A) {
        const AT: Gp = Gp::R9;
        // The epilogue overwrites the usual one.
        const VECTORS: Gp = Gp::R10;
        let (dst, bytes) = (&self.problem.dst, vector_bytes::<A>());
        let mask = A::mask(1, V(5));
        self.begin(asm);
        asm.load_mask(mask, Mem::new(AUX, 0));
        let vector = |asm: &mut A, masked| {
            load(asm, X, Mem::indexed(RES, AT, 1, 0), masked);
            if self.has_pixels() {
                load(asm, Y, Mem::indexed(SRC, AT, 1, 0), masked);
            }
            self.compute(asm);
            store(asm, Mem::indexed(DST, AT, 1, 0), X, masked);
        };
        asm.counted_loop(COUNT, |asm| {
            if !self.has_pixels() {
                asm.broadcast(Y, Mem::new(SRC, 0));
            }
            let vectors = dst.hw() / A::LANES as u32;
            asm.mov_imm(AT, 0);
            if vectors > 0 {
                asm.mov_imm(VECTORS, i64::from(vectors));
                asm.counted_loop(VECTORS, |asm| {
                    vector(asm, None);
                    asm.add_imm(AT, bytes);
                });
            }
            if !dst.hw().is_multiple_of(A::LANES as u32) {
                vector(asm, Some(mask));
            }
            asm.add_imm(SRC, self.channel_elems() as i32 * 4);
            asm.add_imm(RES, dst.pitch as i32 * 4);
            asm.add_imm(DST, dst.pitch as i32 * 4);
        });
        asm.ret();
    }

    fn begin<A: VectorAsm>(&self, asm: &mut A) {
        load_args(asm);
        asm.zero(ZERO);
    }

    fn compute<A: VectorAsm>(&self, asm: &mut A) {
        let [a, b] = match self.problem.part_first {
            true => [Y, X],
            false => [X, Y],
        };
        match self.problem.op {
            BinaryOp::Add => asm.vadd(X, a, b),
            BinaryOp::Sub => asm.vsub(X, a, b),
            BinaryOp::Mul => asm.vmul(X, a, b),
            _ => asm.vdiv(X, a, b),
        }
        Epilogue::new(self.problem.post, [ZERO, V(3), V(4)]).apply(asm, X, None);
    }
}
