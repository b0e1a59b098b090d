//! Layers that combine or cut operands: Eltwise, Concat, Slice.

use super::layer::{Backward, CHUNK, Forward, Layer};
use rayon::prelude::*;
use skimjit_models::Shape;
use skimjit_models::ops::{self, EltwiseOp};

/// Eltwise.
pub struct Eltwise {
    op: EltwiseOp,
    /// Operand with the maximum, per element.
    winners: Vec<u8>,
}

impl Eltwise {
    /// From attributes.
    pub fn new(op: &EltwiseOp) -> Self {
        Self {
            op: op.clone(),
            winners: Vec::new(),
        }
    }
    fn maximum(&mut self, inputs: &[&[f32]], output: &mut [f32]) {
        self.winners.resize(output.len(), 0);
        output.copy_from_slice(inputs[0]);
        self.winners.fill(0);
        for (operand, input) in inputs.iter().enumerate().skip(1) {
            let chunks = output
                .par_chunks_mut(CHUNK)
                .zip(self.winners.par_chunks_mut(CHUNK));
            chunks
                .zip(input.par_chunks(CHUNK))
                .for_each(|((output, winners), input)| {
                    for ((best, winner), x) in output.iter_mut().zip(winners).zip(input) {
                        // Of two equal operands the second wins, later ones only with more.
                        if *x > *best || (operand == 1 && *x == *best) {
                            (*best, *winner) = (*x, operand as u8);
                        }
                    }
                });
        }
    }
}

impl Layer for Eltwise {
    fn forward(&mut self, run: Forward<'_>) {
        let inputs = run.inputs;
        let chunks = run.output.par_chunks_mut(CHUNK).enumerate();
        let range = |chunk: usize, length: usize| chunk * CHUNK..chunk * CHUNK + length;
        match &self.op {
            EltwiseOp::Max => self.maximum(inputs, run.output),
            EltwiseOp::Sum { coefficients } => chunks.for_each(|(chunk, output)| {
                output.fill(0.0);
                for (input, c) in inputs.iter().zip(coefficients) {
                    let input = &input[range(chunk, output.len())];
                    output.iter_mut().zip(input).for_each(|(y, x)| *y += c * x);
                }
            }),
            EltwiseOp::Product => chunks.for_each(|(chunk, output)| {
                output.fill(1.0);
                for input in inputs {
                    let input = &input[range(chunk, output.len())];
                    output.iter_mut().zip(input).for_each(|(y, x)| *y *= x);
                }
            }),
        }
    }

    fn backward(&mut self, run: Backward<'_>) {
        for (operand, into) in run.input_gradients.iter_mut().enumerate() {
            let Some(into) = into else { continue };
            let chunks = into
                .par_chunks_mut(CHUNK)
                .zip(run.output_gradient.par_chunks(CHUNK))
                .enumerate();
            chunks.for_each(|(chunk, (into, dy))| {
                let range = chunk * CHUNK..chunk * CHUNK + into.len();
                match &self.op {
                    EltwiseOp::Sum { coefficients } => {
                        let c = coefficients.get(operand).copied().unwrap_or(1.0);
                        into.iter_mut()
                            .zip(dy)
                            .for_each(|(into, dy)| *into = c * dy);
                    }
                    EltwiseOp::Product => {
                        into.copy_from_slice(dy);
                        for (other, input) in run.inputs.iter().enumerate() {
                            if other != operand {
                                let input = &input[range.clone()];
                                into.iter_mut().zip(input).for_each(|(into, x)| *into *= x);
                            }
                        }
                    }
                    EltwiseOp::Max => {
                        let winners = &self.winners[range];
                        for ((into, dy), winner) in into.iter_mut().zip(dy).zip(winners) {
                            *into = if usize::from(*winner) == operand {
                                *dy
                            } else {
                                0.0
                            };
                        }
                    }
                }
            });
        }
    }
}

/// Concatenation: per outer position, the operands' parts one after the other.
pub struct Concat {
    outer: usize,
    parts: Vec<usize>,
}

impl Concat {
    /// From the operands' shapes.
    pub fn new(axis: u32, shapes: &[Shape]) -> Self {
        let axis = axis as usize;
        Self {
            outer: shapes.first().map_or(1, |shape| shape.count_of(0, axis)),
            parts: shapes
                .iter()
                .map(|shape| shape.count_of(axis, shape.rank()))
                .collect(),
        }
    }
    fn whole(&self) -> usize {
        self.parts.iter().sum()
    }
}

impl Layer for Concat {
    fn forward(&mut self, run: Forward<'_>) {
        let whole = self.whole();
        let rows = run.output.par_chunks_exact_mut(whole).enumerate();
        rows.for_each(|(outer, row)| {
            let mut rest = row;
            for (input, &part) in run.inputs.iter().zip(&self.parts) {
                let (to, behind) = rest.split_at_mut(part);
                to.copy_from_slice(&input[outer * part..(outer + 1) * part]);
                rest = behind;
            }
        });
    }
    fn backward(&mut self, run: Backward<'_>) {
        let whole = self.whole();
        let mut first = 0;
        for (into, &part) in run.input_gradients.iter_mut().zip(&self.parts) {
            if let Some(into) = into {
                for outer in 0..self.outer {
                    let from = outer * whole + first;
                    let to = outer * part..(outer + 1) * part;
                    into[to].copy_from_slice(&run.output_gradient[from..from + part]);
                }
            }
            first += part;
        }
    }
}

/// A part of an axis.
pub struct Slice {
    /// Elements of the operand and of the result per outer position, and where the result starts.
    whole: usize,
    part: usize,
    first: usize,
}

impl Slice {
    /// From attributes and the operand's shape.
    pub fn new(op: &ops::Slice, input: &Shape) -> Self {
        let axis = op.axis as usize;
        let inner = input.count_of(axis + 1, input.rank());
        Self {
            whole: input.count_of(axis, input.rank()),
            part: (op.end - op.begin) as usize * inner,
            first: op.begin as usize * inner,
        }
    }
}

impl Layer for Slice {
    fn forward(&mut self, run: Forward<'_>) {
        let rows = run.inputs[0].chunks_exact(self.whole);
        let rows = rows.zip(run.output.chunks_exact_mut(self.part));
        rows.for_each(|(from, to)| to.copy_from_slice(&from[self.first..self.first + self.part]));
    }
    fn backward(&mut self, run: Backward<'_>) {
        if let Some(into) = &mut run.input_gradients[0] {
            into.fill(0.0);
            let rows = into.chunks_exact_mut(self.whole);
            let rows = rows.zip(run.output_gradient.chunks_exact(self.part));
            rows.for_each(|(to, from)| {
                to[self.first..self.first + self.part].copy_from_slice(from)
            });
        }
    }
}
