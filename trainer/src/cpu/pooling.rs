//! Pooling with Caffe's windows.

use super::layer::{Backward, Forward, Layer};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;
use skimjit_models::Shape;
use skimjit_models::ops::{PoolMethod, PoolRange, Pooling as Op};

/// No input has this maximum.
const NOWHERE: u32 = u32::MAX;

/// Numbers of random streams: behind those of dropouts, which count from 1.
const STREAMS: u64 = 1 << 20;

/// Which element, or what of all, a window gives.
#[derive(Clone, Copy)]
enum Method {
    Max,
    Average,
    /// One element, drawn with a chance in proportion to its value; the number tells layers apart.
    Draw(u64),
}

/// Pooling.
pub struct Pooling {
    method: Method,
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
    /// From attributes and shapes. `draws`: one element of each window is drawn; the number tells layers
    /// apart.
    pub fn new(op: &Op, input: &Shape, output: &Shape, draws: Option<u64>) -> Self {
        let [rows, columns] = [0, 1].map(|axis| {
            let (from, to) = (input.dim(2 + axis), output.dim(2 + axis));
            let range = |index| op.range(axis, from, index);
            (0..to).map(range).collect()
        });
        let [ih, iw] = [input.dim(2) as usize, input.dim(3) as usize];
        Self {
            method: match (draws, op.method) {
                (Some(number), _) => Method::Draw(number),
                (None, PoolMethod::Max) => Method::Max,
                // Others are refused before.
                (None, _) => Method::Average,
            },
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
    /// Caffe's way: sums until a random part of the whole is reached. The last element stands in where
    /// that never happens (negative sums, NaN), for which Caffe gives what was in memory before.
    fn draw(
        &self,
        plane: &[f32],
        output: &mut [f32],
        winners: &mut [u32],
        random: &mut ChaCha8Rng,
    ) {
        let results = output.iter_mut().zip(winners);
        for ((y, x), (result, winner)) in self.windows().zip(results) {
            let line = |row: u32| row as usize * self.input[1];
            let places = || {
                let rows = y.start..y.end;
                rows.flat_map(move |row| (x.start..x.end).map(move |at| line(row) + at as usize))
            };
            let sum: f32 = places().map(|place| plane[place]).sum();
            // More than 0 and at most 1.
            let part = (f64::from(random.next_u32()) + 1.0) / 2f64.powi(32);
            let wanted = part as f32 * sum;
            let mut reached = 0.0;
            let drawn = places().find(|&place| {
                reached += plane[place];
                reached >= wanted
            });
            let place = drawn.or_else(|| places().next_back());
            *result = place.map_or(0.0, |place| plane[place]);
            *winner = place.map_or(NOWHERE, |place| place as u32);
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
            Method::Draw(number) => {
                winners.resize(results.len() * count, NOWHERE);
                let results = results.zip(winners.par_chunks_exact_mut(count));
                let all = planes.zip(results).enumerate();
                // Planes have numbers of their own for any number of threads.
                all.for_each(|(index, (plane, (output, winners)))| {
                    let mut random = ChaCha8Rng::seed_from_u64(run.turn);
                    random.set_stream((STREAMS | number) << 40 | index as u64);
                    self.draw(plane, output, winners, &mut random);
                });
            }
            Method::Max => {
                winners.resize(results.len() * count, NOWHERE);
                let results = results.zip(winners.par_chunks_exact_mut(count));
                let all = planes.zip(results);
                all.for_each(|(plane, (output, winners))| self.maximum(plane, output, winners));
            }
            Method::Average => {
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
            Method::Max | Method::Draw(_) => {
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
            Method::Average => planes.zip(gradients).for_each(|(plane, gradients)| {
                plane.fill(0.0);
                self.spread(gradients, plane);
            }),
        }
    }
}
