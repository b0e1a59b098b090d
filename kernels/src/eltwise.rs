//! Elementwise combination of several operands.

use crate::emit::{AUX, COUNT, DST, SRC, TMP, load_arg, relu, vector_bytes};
use crate::variant::{Built, Cost, KernelError, Task, Unsupported, Variant, Weights, balanced};
use crate::{AlignedBuf, EltwiseKind, EltwiseProblem, Extent, Footprint, KernelArgs, Problem};
use skimjit_jit::Isa;
use skimjit_jit::asm::{Avx2Asm, Avx512Asm, Cond, Gp, M, Mem, V, VectorAsm};
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

impl Variant for Eltwise {
    fn name(&self) -> &'static str {
        "eltwise"
    }
    fn supports(&self, problem: &Problem, _isa: Isa) -> Result<(), Unsupported> {
        let Problem::Eltwise(problem) = problem else {
            return Err(Unsupported::family("elementwise combinations"));
        };
        let (elems, operands) = (problem.elems, problem.operands);
        if !(1..=MOST_OPERANDS).contains(&operands) {
            let found = format!("{operands} operands, expected 1 to {MOST_OPERANDS}");
            return Err(Unsupported(found));
        }
        match &problem.kind {
            EltwiseKind::Sum(coefficients) if coefficients.len() != operands as usize => {
                let found = coefficients.len();
                Err(Unsupported(format!(
                    "{found} coefficients of {operands} operands"
                )))
            }
            _ if elems == 0 => Err(Unsupported("no elements, expected at least 1".into())),
            _ => Ok(()),
        }
    }
    fn cost(&self, problem: &Problem, _pattern: &Pattern, isa: Isa) -> Cost {
        let Problem::Eltwise(problem) = problem else {
            unreachable!("supported")
        };
        let lanes = if isa == Isa::Avx512 { 16 } else { 8 };
        let vectors = f64::from(problem.elems / lanes + 1);
        Cost {
            cycles: vectors * 1.5 * f64::from(problem.operands),
            code_bytes: 256,
        }
    }
    fn build(
        &self,
        problem: &Problem,
        _weights: Weights<'_>,
        isa: Isa,
    ) -> Result<Built, KernelError> {
        self.supports(problem, isa)?;
        let Problem::Eltwise(problem) = problem else {
            unreachable!("supported")
        };
        Ok(match isa {
            Isa::Avx2 => build::<Avx2Asm>(problem),
            Isa::Avx512 => build::<Avx512Asm>(problem),
        })
    }
}

fn build<A: VectorAsm>(problem: &EltwiseProblem) -> Built {
    let lanes = A::LANES as u32;
    let mut packed = AlignedBuf::new();
    let tail = (problem.elems - 1) % lanes + 1;
    packed.extend(&A::mask_bytes(((1u64 << tail) - 1) as u32));
    packed.align(64);
    let mut asm = A::new();
    let entries = vec![
        emit(&mut asm, problem, false),
        emit(&mut asm, problem, true),
    ];
    let whole = problem.elems.div_ceil(lanes) - 1;
    let task = |entry: u32, first: u32, count: u32| {
        let offset = i64::from(first) * i64::from(lanes) * 4;
        let (count, cost) = (u64::from(count), count as f32);
        Task {
            entry,
            src: offset,
            dst: offset,
            wei: 0,
            bias: 0,
            aux: 0,
            count,
            cost,
        }
    };
    let mut tasks: Vec<Task> = balanced(whole, whole.div_ceil(TASKS))
        .map(|range| task(0, range.start, range.len() as u32))
        .collect();
    tasks.push(task(1, whole, 1));
    let extent = Extent {
        before: 0,
        after: problem.elems as usize,
    };
    Built {
        code: asm.finish(),
        entries,
        packed: packed.into(),
        tasks,
        staging: None,
        footprint: Footprint {
            src: extent,
            dst: extent,
            scratch_bytes: 0,
        },
    }
}

fn emit<A: VectorAsm>(asm: &mut A, problem: &EltwiseProblem, last: bool) -> usize {
    let (acc, x, zero, tmp, slope) = (V(0), V(1), V(2), V(3), V(4));
    let mask = if A::ISA == Isa::Avx512 { M(1) } else { M(5) };
    asm.align(64);
    let entry = asm.offset();
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
    let coefficient = |i: usize| match &problem.kind {
        EltwiseKind::Sum(_) => V(6 + i as u8),
        _ => zero,
    };
    if let EltwiseKind::Sum(coefficients) = &problem.kind {
        for (i, &value) in coefficients.iter().enumerate() {
            asm.broadcast_imm(coefficient(i), value, TMP);
        }
    }
    let load = |asm: &mut A, x: V, operand: Gp| {
        let mem = Mem::new(operand, 0);
        if last {
            asm.load_masked(x, mem, mask)
        } else {
            asm.load(x, mem)
        }
    };
    let top = asm.new_label();
    asm.bind(top);
    load(asm, acc, OPERANDS[0]);
    if let EltwiseKind::Sum(_) = problem.kind {
        asm.vmul(acc, acc, coefficient(0));
    }
    let operands = OPERANDS.iter().take(problem.operands as usize);
    for (i, &operand) in operands.enumerate().skip(1) {
        load(asm, x, operand);
        match problem.kind {
            EltwiseKind::Sum(_) => asm.fma(acc, x, coefficient(i)),
            EltwiseKind::Product => asm.vmul(acc, acc, x),
            // Only a greater operand replaces the maximum, so NaN never does.
            EltwiseKind::Max => asm.vmax(acc, x, acc),
        }
    }
    if let Some(post) = problem.relu {
        relu(asm, acc, post, zero, tmp, slope);
    }
    let out = Mem::new(DST, 0);
    if last {
        asm.store_masked(out, acc, mask)
    } else {
        asm.store(out, acc)
    }
    for &operand in &OPERANDS[..problem.operands as usize] {
        asm.add_imm(operand, vector_bytes::<A>());
    }
    asm.add_imm(DST, vector_bytes::<A>());
    asm.dec(COUNT);
    asm.jcc(Cond::NotEqual, top);
    asm.ret();
    entry
}
