//! Inner products of one input row: bound by the bytes of the weights.
//!
//! Batches are run as 1×1 convolutions over transposed operands (see the planner), where every weight
//! is used once per vector of images.

pub mod ell;
pub mod gemv;
pub mod sell;

use crate::variant::Unsupported;
use crate::{Extent, FcProblem, Footprint, Problem, limits};

/// Checks that the problem is an inner product of a size that 32-bit displacements can address.
fn problem(problem: &Problem) -> Result<&FcProblem, Unsupported> {
    let Problem::Fc(problem) = problem else {
        return Err(Unsupported::family("inner products"));
    };
    let widest = u64::from(problem.inputs.max(problem.outputs));
    let least = problem.inputs.min(problem.outputs);
    if least == 0 || widest > limits::OPERAND_ELEMS / 16 {
        let most = limits::OPERAND_ELEMS / 16;
        let (inputs, outputs) = (problem.inputs, problem.outputs);
        let found = format!("{inputs} inputs and {outputs} outputs");
        return Err(Unsupported(format!(
            "{found}, expected 1 to {most} of each"
        )));
    }
    Ok(problem)
}

fn footprint(problem: &FcProblem) -> Footprint {
    let extent = |elems: u32| Extent {
        before: 0,
        after: elems as usize,
    };
    Footprint {
        src: extent(problem.inputs),
        dst: extent(problem.outputs),
        scratch_bytes: 0,
    }
}
