//! Pooling with Caffe's windows.

use super::layer::{Backward, Forward, Layer};
use rayon::prelude::*;
use skimjit_models::Shape;
use skimjit_models::ops::{PoolMethod, PoolRange, Pooling as Op};

/// No input has this maximum.
const NOWHERE: u32 = u32::MAX;

/// Pooling.
pub struct Pooling {
    method: PoolMethod,
    /// Maxima start at 0.
    relu: bool,
    /// Elements of an input plane, and its width.
    input: [usize; 2],
    rows: Vec<PoolRange>,
    columns: Vec<PoolRange>,
    /// Where each maximum was.
    winners: Vec<u32>,
}

impl Pooling {
    /// From attributes and shapes.
    pub fn new(op: &Op, input: &Shape, output: &Shape) -> Self {
        let [rows, columns] = [0, 1].map(|axis| {
            let (from, to) = (input.dim(2 + axis), output.dim(2 + axis));
            let range = |index| op.range(axis, from, index);
            (0..to).map(range).collect()
        });
        let [ih, iw] = [input.dim(2) as usize, input.dim(3) as usize];
        Self {
            method: op.method,
            relu: op.relu,
            input: [ih * iw, iw],
            rows,
            columns,
            winners: Vec::new(),
        }
    }
    fn output(&self) -> usize {
        self.rows.len() * self.columns.len()
    }
    /// Every window with the elements of its rows: first index and length of each.
    fn windows(&self) -> impl Iterator<Item = (&PoolRange, &PoolRange)> {
        let columns = &self.columns;
        self.rows
            .iter()
            .flat_map(move |y| columns.iter().map(move |x| (y, x)))
    }
    fn maximum(&self, plane: &[f32], output: &mut [f32], winners: &mut [u32]) {
        let start = if self.relu { 0.0 } else { -f32::MAX };
        let results = output.iter_mut().zip(winners);
        for ((y, x), (result, winner)) in self.windows().zip(results) {
            let (mut best, mut place) = (start, NOWHERE);
            for row in y.start..y.end {
                let first = row as usize * self.input[1];
                let line = &plane[first + x.start as usize..first + x.end as usize];
                for (offset, &value) in line.iter().enumerate() {
                    if value > best {
                        best = value;
                        place = (first + x.start as usize + offset) as u32;
                    }
                }
            }
            (*result, *winner) = (best, place);
        }
    }
    fn average(&self, plane: &[f32], output: &mut [f32]) {
        for ((y, x), result) in self.windows().zip(output) {
            let sum: f32 = (y.start..y.end)
                .map(|row| {
                    let first = row as usize * self.input[1];
                    let line = &plane[first + x.start as usize..first + x.end as usize];
                    line.iter().sum::<f32>()
                })
                .sum();
            *result = sum / (y.divisor * x.divisor) as f32;
        }
    }
    fn spread(&self, gradient: &[f32], plane: &mut [f32]) {
        for ((y, x), gradient) in self.windows().zip(gradient) {
            let share = gradient / (y.divisor * x.divisor) as f32;
            for row in y.start..y.end {
                let first = row as usize * self.input[1];
                let line = &mut plane[first + x.start as usize..first + x.end as usize];
                line.iter_mut().for_each(|sum| *sum += share);
            }
        }
    }
}

impl Layer for Pooling {
    fn forward(&mut self, run: Forward<'_>) {
        let count = self.output();
        let mut winners = std::mem::take(&mut self.winners);
        let planes = run.inputs[0].par_chunks_exact(self.input[0]);
        let results = run.output.par_chunks_exact_mut(count);
        match self.method {
            PoolMethod::Max => {
                winners.resize(results.len() * count, NOWHERE);
                let results = results.zip(winners.par_chunks_exact_mut(count));
                let all = planes.zip(results);
                all.for_each(|(plane, (output, winners))| self.maximum(plane, output, winners));
            }
            PoolMethod::Average => {
                let all = planes.zip(results);
                all.for_each(|(plane, output)| self.average(plane, output));
            }
        }
        self.winners = winners;
    }

    fn backward(&mut self, run: Backward<'_>) {
        let Some(into) = &mut run.input_gradients[0] else {
            return;
        };
        let count = self.output();
        let planes = into.par_chunks_exact_mut(self.input[0]);
        let gradients = run.output_gradient.par_chunks_exact(count);
        match self.method {
            PoolMethod::Max => {
                let winners = self.winners.par_chunks_exact(count);
                planes
                    .zip(gradients.zip(winners))
                    .for_each(|(plane, (gradients, winners))| {
                        plane.fill(0.0);
                        for (gradient, &winner) in gradients.iter().zip(winners) {
                            if winner != NOWHERE {
                                plane[winner as usize] += gradient;
                            }
                        }
                    });
            }
            PoolMethod::Average => planes.zip(gradients).for_each(|(plane, gradients)| {
                plane.fill(0.0);
                self.spread(gradients, plane);
            }),
        }
    }
}
