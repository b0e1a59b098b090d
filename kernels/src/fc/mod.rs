//! Inner products of one input row: bound by the bytes of the weights.
//!
//! Batches are run as 1×1 convolutions over transposed operands (see the planner), where every weight
//! is used once per vector of images.

pub mod ell;
pub mod gemv;
pub mod sell;

use crate::problem::refuse;
use crate::variant::Unsupported;
use crate::{Extent, FcProblem, Footprint, limits};

/// Refuses sizes that 32-bit displacements cannot address.
fn check(problem: &FcProblem) -> Result<(), Unsupported> {
    let (inputs, outputs) = (problem.inputs, problem.outputs);
    let most = limits::OPERAND_ELEMS / 16;
    match inputs.min(outputs) > 0 && u64::from(inputs.max(outputs)) <= most {
        true => Ok(()),
        false => refuse(format!(
            "{inputs} inputs and {outputs} outputs, expected 1 to {most} of each"
        )),
    }
}

/// As [`check`]; indices of inputs have 16 bits.
fn check_indexed(problem: &FcProblem) -> Result<(), Unsupported> {
    check(problem)?;
    match problem.inputs {
        0..=0x1_0000 => Ok(()),
        inputs => refuse(format!("{inputs} inputs, expected at most 65536")),
    }
}

fn footprint(problem: &FcProblem) -> Footprint {
    let extent = |elems: u32| Extent::from_base(elems as usize);
    Footprint::new(extent(problem.inputs), extent(problem.outputs))
}
