//! Elementwise combination of several operands.

use crate::emit::{AUX, COUNT, DST, SRC, TMP, entry, load, load_arg, store, vector_bytes};
use crate::epilogue::Epilogue;
use crate::problem::refuse;
use crate::variant::{
    Built, Cost, KernelError, TypedVariant, Unsupported, Weighting, Weights, last_lanes,
    vector_tasks,
};
use crate::{AlignedBuf, EltwiseKind, EltwiseProblem, Extent, Footprint, KernelArgs};
use skimjit_jit::Isa;
use skimjit_jit::asm::{Gp, Mem, V, VectorAsm};
use skimjit_models::Pattern;
use std::mem::offset_of;

/// Sum with coefficients, product or maximum of up to [`MOST_OPERANDS`] arrays.
///
/// * operands, dst: `elems` contiguous elements each. * task = some vectors.
/// * refused: more operands.
pub struct Eltwise;

/// Operands that fit the address registers.
pub const MOST_OPERANDS: u32 = 4;
const TASKS: u32 = 16;
const OPERANDS: [Gp; MOST_OPERANDS as usize] = [SRC, Gp::R9, Gp::R10, Gp::R11];

impl TypedVariant for Eltwise {
    type Problem = EltwiseProblem;
    const NAME: &'static str = "eltwise";
    const WEIGHTING: Weighting = Weighting::Unweighted;
    const EXAMPLE: &'static str =
        "eltwise n=100 of=3 sum=1,-1,2 relu=0 density=100 bias=1 scale=1 seed=1";

    fn supports(problem: &EltwiseProblem, _isa: Isa) -> Result<(), Unsupported> {
        let operands = problem.operands;
        if !(1..=MOST_OPERANDS).contains(&operands) {
            return refuse(format!(
                "{operands} operands, expected 1 to {MOST_OPERANDS}"
            ));
        }
        match &problem.kind {
            EltwiseKind::Sum(coefficients) if coefficients.len() != operands as usize => {
                let found = coefficients.len();
                refuse(format!("{found} coefficients of {operands} operands"))
            }
            _ if problem.elems == 0 => refuse("no elements, expected at least 1".into()),
            _ => Ok(()),
        }
    }
    fn cost(problem: &EltwiseProblem, _pattern: &Pattern, isa: Isa) -> Cost {
        let vectors = f64::from(problem.elems / isa.lanes() + 1);
        Cost {
            cycles: vectors * 1.5 * f64::from(problem.operands),
            code_bytes: 256,
        }
    }
    fn build<A: VectorAsm>(
        problem: &EltwiseProblem,
        _weights: Weights<'_>,
    ) -> Result<Built, KernelError> {
        let (elems, lanes) = (problem.elems, A::LANES as u32);
        let mut packed = AlignedBuf::new();
        packed.extend(&A::first_lanes(last_lanes(elems, lanes)));
        packed.align(64);
        let mut asm = A::new();
        let entries = [false, true].map(|last| emit(&mut asm, problem, last));
        let extent = Extent::from_base(elems as usize);
        let footprint = Footprint::new(extent, extent);
        let tasks = vector_tasks(elems, lanes, TASKS);
        Ok(Built::new(asm, entries, packed, tasks, footprint))
    }
}

fn emit<A: VectorAsm>(asm: &mut A, problem: &EltwiseProblem, last: bool) -> usize {
    let (acc, x, zero, tmp, slope) = (V(0), V(1), V(2), V(3), V(4));
    let mask = A::mask(1, V(5));
    let masked = last.then_some(mask);
    let coefficient = |i: usize| V(6 + i as u8);
    let operands = &OPERANDS[..problem.operands as usize];
    entry(asm, &[], |asm| {
        for (i, &operand) in OPERANDS.iter().enumerate().skip(1) {
            load_arg(asm, operand, Gp::Rdi, offset_of!(KernelArgs, src) + 8 * i);
        }
        load_arg(asm, DST, Gp::Rdi, offset_of!(KernelArgs, dst));
        load_arg(asm, AUX, Gp::Rdi, offset_of!(KernelArgs, aux));
        load_arg(asm, COUNT, Gp::Rdi, offset_of!(KernelArgs, count));
        load_arg(asm, SRC, Gp::Rdi, offset_of!(KernelArgs, src));
        asm.zero(zero);
        if last {
            asm.load_mask(mask, Mem::new(AUX, 0));
        }
        if let EltwiseKind::Sum(coefficients) = &problem.kind {
            for (i, &value) in coefficients.iter().enumerate() {
                asm.broadcast_imm(coefficient(i), value, TMP);
            }
        }
        asm.counted_loop(COUNT, |asm| {
            load(asm, acc, Mem::new(operands[0], 0), masked);
            if let EltwiseKind::Sum(_) = problem.kind {
                asm.vmul(acc, acc, coefficient(0));
            }
            for (i, &operand) in operands.iter().enumerate().skip(1) {
                load(asm, x, Mem::new(operand, 0), masked);
                match problem.kind {
                    EltwiseKind::Sum(_) => asm.fma(acc, x, coefficient(i)),
                    EltwiseKind::Product => asm.vmul(acc, acc, x),
                    // Only a greater operand replaces the maximum, so NaN never does.
                    EltwiseKind::Max => asm.vmax(acc, x, acc),
                }
            }
            Epilogue::new(problem.post, [zero, tmp, slope]).apply(asm, acc, None);
            store(asm, Mem::new(DST, 0), acc, masked);
            for &register in operands.iter().chain([&DST]) {
                asm.add_imm(register, vector_bytes::<A>());
            }
        });
    })
}
