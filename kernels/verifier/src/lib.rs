//! Proof that a generated kernel computes its layer and stays inside its buffers.
//!
//! The code is decoded by another program than the one that wrote it (iced-x86) and walked, task by
//! task. The proof is closed: an instruction, operand form, prefix, mask, immediate or register that is
//! not on the list of `rules.rs` is refused, by address and bytes, and so is whatever depends on a
//! register, flag, mask or memory that the kernel has not set itself.
//!
//! # What is proved
//!
//! For the given weights, the problem's sizes and every input:
//! * **Memory.** Every load and store of every instruction lies inside the kernel's declared
//!   [`Footprint`], its packed data, its arguments, or the words that it has
//!   pushed itself. Nothing but the result, scratch memory and those words is written; no element of
//!   the result by two tasks; nothing beside the result's planes; no task reads what another one
//!   wrote. Aligned moves are to addresses that are aligned wherever the buffers lie (operands are
//!   promised the alignment of a float only).
//! * **The System V convention.** `rbx`, `rbp`, `r12` to `r15`, `rsp` and the return address are at the
//!   end what they were; the upper parts of vector registers are cleared. Direction flag, MXCSR and x87
//!   stay as they were, no segment, no system call, no self-made jump target: no instruction for those
//!   is on the list. Code for AVX2 has no instruction of AVX-512.
//! * **No dependence on chance.** Registers, flags, masks, scratch memory and the stack start as
//!   undefined, and memory around the operands too (see [`Footprint`] for
//!   the gaps, which are zero). What depends on them reaches no result, no address and no jump.
//! * **The end.** Every task ends within a number of instructions that the problem bounds.
//! * **Values** ([`Scope::Values`]). Lanes hold elements of the field modulo 2⁵⁸ − 27 instead of floats;
//!   inputs are random elements, and results are compared with the layer's definition: both are the
//!   same sum of products (wrong with a probability below 10⁻¹⁰ for all lanes of a kernel together). A
//!   multiply-add that is lost, doubled, or reads a wrong pixel or weight changes a result. Maxima and
//!   minima are compared as the sets of what they were taken of, so no order hides a fault, with the
//!   constants that they start from and which operand wins over NaN. Square roots are a function that
//!   is known by its name.
//!
//! # What is not proved
//!
//! * **Softmax, functions with exponentials or logarithms other than Sigmoid and Swish, Truncate, Not and ThresholdedRelu:
//!   bounds only** ([`Scope::BoundsOnly`]).
//!   All of the above but the values: that every result is written, from defined values. An exponential that is
//!   computed wrongly is not noticed; the engine's own comparison with the reference is what looks at it. (Of Sigmoid
//!   and Swish the formula is proved, steps on the bits of floats as functions that are known by their names.)
//! * Rounding: the order of additions, and whether a multiplication and an addition are fused.
//! * The sign of zeros, and what infinities and NaN do in sums and products: a weight of zero times an
//!   infinity, say. (Which operand of a maximum wins over NaN is proved.)
//! * That the definition of the layer in this crate is Caffe's: tests compare kernels with the
//!   reference.
//! * The code around kernels: copies into staged or transposed forms, threads, and the caller's
//!   promise about its buffers.
#![forbid(unsafe_code)]

mod action;
mod annotation;
mod extremes;
mod fault;
mod layer;
mod machine;
mod memory;
mod program;
mod rules;
mod value;
mod vector;

pub use annotation::{Line, annotate};
pub use fault::{Fault, Kind};

use extremes::Extremes;
use layer::Expected;
use machine::{Executed, Machine, Stop};
use memory::{Cells, Memory, Pointer, Region, Value};
use program::Program;
use skimjit_kernels::jit::Isa;
use skimjit_kernels::stage::Staging;
use skimjit_kernels::{Built, Footprint, KernelArgs, Operands, Problem, Task, Weights};
use std::mem::{offset_of, size_of};

/// How much is proved of the results.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Scope {
    /// They have the layer's values.
    Values,
    /// Bounds only: they are written, inside the buffers, from defined values.
    BoundsOnly,
}

/// What was proved of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Instructions walked.
    pub instructions: u64,
    /// Lanes of multiply-adds.
    pub multiply_adds: u64,
    /// Results compared.
    pub results: u64,
    /// What is known of them.
    pub scope: Scope,
}

/// A layer's definition, evaluated once: what kernels with the same memory are proved against.
pub struct Definition<'a> {
    problem: &'a Problem,
    staging: Option<Staging>,
    footprint: Footprint,
    operands: Vec<Cells>,
    expected: Expected,
}

impl<'a> Definition<'a> {
    /// Of a layer, with operands as `built` wants them.
    pub fn new(problem: &'a Problem, weights: Weights<'_>, built: &Built) -> Self {
        Self {
            problem,
            staging: built.staging,
            footprint: built.footprint,
            operands: layer::operands(problem, built),
            expected: layer::expected(problem, weights),
        }
    }

    /// Walks all tasks of a kernel for `isa` and compares its results with those of the layer.
    pub fn prove(&self, isa: Isa, built: &Built) -> Result<Proof, Fault> {
        if (built.staging, built.footprint) != (self.staging, self.footprint) {
            return Err(Fault::of_results(
                "the kernel has other operands".to_owned(),
            ));
        }
        let program = Program::decode(&built.code, isa);
        let mut memory = Memory::new(
            &self.operands,
            built.footprint.dst,
            built.footprint.scratch_bytes,
            [built.packed.bytes(), built.code.constants()],
        );
        let executed = self.walk(built, &program, &mut memory)?;
        Ok(Proof {
            instructions: executed.instructions,
            multiply_adds: executed.multiply_adds,
            results: compare(self.problem, &memory, &self.expected)?,
            scope: match self.expected {
                Expected::Values(_) => Scope::Values,
                Expected::Defined => Scope::BoundsOnly,
            },
        })
    }

    fn walk(
        &self,
        built: &Built,
        program: &Program<'_>,
        memory: &mut Memory<'_>,
    ) -> Result<Executed, Fault> {
        let mut executed = Executed::default();
        let mut extremes = Extremes::default();
        let budget = budget(self.problem, built);
        for (number, task) in built.tasks.iter().enumerate() {
            let number = number as u32;
            memory.begin(number, arguments(task, self.operands.len()));
            extremes.forget();
            let left = budget.saturating_sub(executed.instructions);
            let mut machine = Machine::new(program, memory, &mut extremes, left);
            // An entry that does not exist is a place where no instruction starts.
            let entry = built.entries.get(task.entry as usize);
            let walked = machine.call(entry.map_or(u64::MAX - 1, |&entry| entry as u64));
            executed.instructions += machine.executed.instructions;
            executed.multiply_adds += machine.executed.multiply_adds;
            walked.map_err(|Stop { ip, wrong }| {
                let (bytes, instruction) = program.show(ip);
                Fault {
                    kind: wrong.kind,
                    task: Some(number),
                    offset: Some(ip),
                    bytes,
                    instruction,
                    what: wrong.what,
                }
            })?;
        }
        Ok(executed)
    }
}

/// Proves one kernel of a layer for `isa`.
pub fn verify(
    problem: &Problem,
    weights: Weights<'_>,
    isa: Isa,
    built: &Built,
) -> Result<Proof, Fault> {
    Definition::new(problem, weights, built).prove(isa, built)
}

/// Instructions after which a kernel does not end any more.
fn budget(problem: &Problem, built: &Built) -> u64 {
    let Operands { src, dst, .. } = problem.operands();
    let elems: usize = src.iter().chain([&dst]).map(|planes| planes.elems()).sum();
    let macs = match problem {
        Problem::Conv(p) => p.macs(),
        Problem::Deconv(p) => {
            u64::from(p.window.kernel[0]) * u64::from(p.window.kernel[1]) * dst.elems() as u64
        }
        Problem::Fc(p) => u64::from(p.inputs) * u64::from(p.outputs),
        Problem::Pool(p) => {
            u64::from(p.window.kernel[0]) * u64::from(p.window.kernel[1]) * dst.elems() as u64
        }
        _ => elems as u64,
    };
    let code = built.code.bytes.len() as u64 * built.tasks.len() as u64;
    100_000 + 8 * (macs + elems as u64 * 16 + code)
}

/// The argument structure of a task, as `CompiledKernel::run` fills it, in words of 8 bytes.
fn arguments(task: &Task, operands: usize) -> Vec<Value> {
    // What is no operand is a null pointer.
    let mut words = vec![Value::Number(0); size_of::<KernelArgs>() / 8];
    let mut put = |offset: usize, value: Value| words[offset / 8] = value;
    let pointer = |region: Region, by: i64| Value::Pointer(Pointer::new(region, by));
    let sources = offset_of!(KernelArgs, src);
    for operand in 0..operands {
        // Operand 1 lies as the result does.
        let by = match operand {
            1 => task.dst,
            _ => task.src,
        };
        put(
            sources + 8 * operand,
            pointer(Region::Source(operand as u8), by),
        );
    }
    let packed = |by: u64| pointer(Region::Packed, by as i64);
    put(
        offset_of!(KernelArgs, dst),
        pointer(Region::Result, task.dst),
    );
    put(offset_of!(KernelArgs, wei), packed(task.wei));
    put(offset_of!(KernelArgs, bias), packed(task.bias));
    put(offset_of!(KernelArgs, aux), packed(task.aux));
    put(offset_of!(KernelArgs, scratch), pointer(Region::Scratch, 0));
    put(offset_of!(KernelArgs, count), Value::Number(task.count));
    words
}

/// Every result has its value, and nothing else is written.
fn compare(problem: &Problem, memory: &Memory<'_>, expected: &Expected) -> Result<u64, Fault> {
    let planes = problem.operands().dst;
    let fault = Fault::of_results;
    let mut compared = 0;
    for (index, &found) in memory.result.lanes.iter().enumerate() {
        let element = index as i64 - memory.result.extent.before as i64;
        let Some((c, pixel)) = layer::inside(&planes, element) else {
            if memory.written(index) {
                return Err(fault(format!(
                    "element {element} of the result is written, outside of its planes"
                )));
            }
            continue;
        };
        compared += 1;
        let (y, x) = (pixel / planes.w, pixel % planes.w);
        let place = || format!("channel {c}, row {y}, column {x}");
        if !memory.written(index) {
            return Err(fault(format!("{} of the result is never written", place())));
        }
        if found.is_poison() {
            return Err(fault(format!(
                "{} of the result depends on undefined memory",
                place()
            )));
        }
        if let Expected::Values(values) = expected {
            let number = c as usize * planes.hw() as usize + pixel as usize;
            let value = values.get(number).copied();
            if !value.is_some_and(|value| found.minus(value).is_zero()) {
                return Err(fault(format!(
                    "{} of the result is not the layer's value",
                    place()
                )));
            }
        }
    }
    let all = u64::from(planes.c) * u64::from(planes.hw());
    if compared != all {
        return Err(fault(format!(
            "the footprint holds {compared} of {all} results"
        )));
    }
    Ok(compared)
}
