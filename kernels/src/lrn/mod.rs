//! Local response normalisation.

pub mod across;
pub mod within;

use crate::LrnProblem;
use crate::problem::{check_planes, refuse};
use crate::variant::Unsupported;
use skimjit_jit::asm::{V, VectorAsm};

/// Refuses exponents that are not made of roots, and windows without a middle.
fn check(problem: &LrnProblem) -> Result<(), Unsupported> {
    check_planes(&problem.planes)?;
    let (beta, size) = (problem.beta, problem.size);
    if ![0.5, 0.75, 1.0].contains(&beta) {
        return refuse(format!("beta {beta}, expected 0.5, 0.75 or 1"));
    }
    match size % 2 {
        0 => refuse(format!("a window of {size}, expected an odd one")),
        _ => Ok(()),
    }
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
