//! Proof that a generated kernel computes its layer and stays inside its buffers.
//!
//! The code is decoded by another program than the one that wrote it (iced-x86) and walked, task by
//! task, over made-up addresses. Every load and store is checked against the kernel's declared
//! [`Footprint`](skimjit_kernels::Footprint). Lanes hold elements of a finite field instead of floats
//! (see `value.rs`), inputs are random elements, and the results are compared with those of the layer's
//! definition: a multiply-add that is lost, doubled, or reads the wrong pixel or weight changes a result. Of
//! layers with roots or exponentials (LRN, softmax) it is proved that every result is written, from
//! defined values only.
#![forbid(unsafe_code)]

mod annotation;
mod layer;
mod machine;
mod memory;
mod value;
mod vector;

pub use annotation::{Line, annotate};

use layer::Expected;
use machine::{Executed, Machine, Program, Stop};
use memory::{Memory, Region};
use skimjit_kernels::{Built, KernelArgs, Problem, Task, Weights};
use std::fmt;
use std::mem::{offset_of, size_of};
use value::Lane;

/// What was proved of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Instructions walked.
    pub instructions: u64,
    /// Lanes of multiply-adds.
    pub multiply_adds: u64,
    /// Results compared.
    pub results: u64,
    /// Whether the results have the layer's values, or only are defined.
    pub values: bool,
}

/// How a kernel differs from its layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The task that ran, if code was at fault.
    pub task: Option<u32>,
    /// Offset in the code.
    pub offset: Option<u64>,
    /// The instruction there.
    pub instruction: String,
    /// What it does.
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(task), Some(offset)) = (self.task, self.offset) {
            write!(f, "task {task}, {offset:#x} ({}): ", self.instruction)?;
        }
        f.write_str(&self.what)
    }
}

impl std::error::Error for Fault {}

/// Walks all tasks of a kernel and compares its results with those of the layer.
pub fn verify(problem: &Problem, weights: Weights<'_>, built: &Built) -> Result<Proof, Fault> {
    let program = Program::decode(&built.code.bytes);
    let packed = built.packed.bytes();
    let footprint = &built.footprint;
    let mut memory = Memory::new(
        layer::operands(problem, built),
        footprint.dst,
        footprint.scratch_bytes,
        packed,
    );
    let expected = layer::expected(problem, weights);
    let mut executed = Executed::default();
    let budget = budget(problem, built);
    for (number, task) in built.tasks.iter().enumerate() {
        let at = |offset: Option<u64>, what: String| Fault {
            task: Some(number as u32),
            offset,
            instruction: offset
                .map(|offset| program.text(offset))
                .unwrap_or_default(),
            what,
        };
        memory.task = number as u32;
        memory.scratch.lanes.fill(Lane::POISON);
        memory.arguments = arguments(task, memory.sources.len());
        let Some(&entry) = built.entries.get(task.entry as usize) else {
            return Err(at(
                Some(0),
                format!("starts at entry {}, which does not exist", task.entry),
            ));
        };
        let mut machine = Machine::new(&program, &mut memory, budget - executed.instructions);
        let walked = machine.call(entry as u64);
        executed.instructions += machine.executed.instructions;
        executed.multiply_adds += machine.executed.multiply_adds;
        walked.map_err(|Stop { ip, wrong }| at(Some(ip), wrong.0))?;
    }
    let results = compare(problem, &memory, &expected)?;
    Ok(Proof {
        instructions: executed.instructions,
        multiply_adds: executed.multiply_adds,
        results,
        values: matches!(expected, Expected::Values(_)),
    })
}

/// Instructions after which a kernel does not end any more.
fn budget(problem: &Problem, built: &Built) -> u64 {
    let (operands, result) = layer::layouts(problem);
    let elems: usize = operands
        .iter()
        .chain([&result])
        .map(|planes| planes.elems())
        .sum();
    let macs = match problem {
        Problem::Conv(p) => p.macs(),
        Problem::Fc(p) => u64::from(p.inputs) * u64::from(p.outputs),
        Problem::Pool(p) => {
            u64::from(p.window.kernel[0]) * u64::from(p.window.kernel[1]) * result.elems() as u64
        }
        _ => elems as u64,
    };
    let code = built.code.bytes.len() as u64 * built.tasks.len() as u64;
    100_000 + 8 * (macs + elems as u64 * 16 + code)
}

/// The argument structure of a task, as `CompiledKernel::run` fills it.
fn arguments(task: &Task, operands: usize) -> Vec<u8> {
    let mut bytes = vec![0; size_of::<KernelArgs>()];
    let mut put = |offset: usize, value: u64| {
        bytes[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
    };
    let moved = |base: u64, by: i64| base.wrapping_add_signed(by);
    let sources = offset_of!(KernelArgs, src);
    for operand in 0..operands {
        // Operand 1 lies as the result does.
        let by = match operand {
            0 => task.src,
            1 => task.dst,
            _ => task.src,
        };
        put(
            sources + 8 * operand,
            moved(Region::Source(operand).base(), by),
        );
    }
    let packed = Region::Packed.base();
    put(
        offset_of!(KernelArgs, dst),
        moved(Region::Result.base(), task.dst),
    );
    put(offset_of!(KernelArgs, wei), packed + task.wei);
    put(offset_of!(KernelArgs, bias), packed + task.bias);
    put(offset_of!(KernelArgs, aux), packed + task.aux);
    put(offset_of!(KernelArgs, scratch), Region::Scratch.base());
    put(offset_of!(KernelArgs, count), task.count);
    bytes
}

/// Every result has its value, and nothing else is written.
fn compare(problem: &Problem, memory: &Memory<'_>, expected: &Expected) -> Result<u64, Fault> {
    let (_, planes) = layer::layouts(problem);
    let fault = |what: String| Fault {
        task: None,
        offset: None,
        instruction: String::new(),
        what,
    };
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
            if found.minus(values[number]) != Lane::ZERO {
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
