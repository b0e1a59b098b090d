//! Scale, Bias and PReLU: factors and offsets that are shared along some axes.

use super::layer::{Backward, Forward, Layer};
use crate::layer::{Place, Scale as Attributes};
use rayon::prelude::*;
use skimjit_models::Shape;

/// Where the elements of a shared operand belong: element i to those x with
/// (index / inner) % count == i.
struct Broadcast {
    count: usize,
    inner: usize,
}

impl Broadcast {
    fn new(input: &Shape, axis: usize, count: usize) -> Self {
        let behind = input.count_of(axis, input.rank());
        Self {
            count,
            inner: behind / count,
        }
    }
    /// Sums what `of` makes of the elements that belong to each element of the shared operand.
    fn sums(&self, elements: usize, into: &mut [f32], of: impl Fn(usize) -> f32 + Sync) {
        let outer = elements / (self.count * self.inner);
        into.par_iter_mut().enumerate().for_each(|(shared, sum)| {
            for block in 0..outer {
                let first = (block * self.count + shared) * self.inner;
                *sum += (first..first + self.inner).map(&of).sum::<f32>();
            }
        });
    }
}

/// y = x·factor + offset.
pub struct Scale {
    broadcast: Broadcast,
    /// Places of factor and offset.
    factor: Option<Place>,
    offset: Option<Place>,
}

impl Scale {
    /// From attributes and the operand's shape.
    pub fn new(attributes: &Attributes, input: &Shape) -> Self {
        Self {
            broadcast: Broadcast::new(input, attributes.axis, attributes.shared),
            factor: attributes.factor,
            offset: attributes.offset,
        }
    }
}

fn at<'a>(
    place: Option<Place>,
    inputs: &'a [&[f32]],
    weights: &'a [Vec<f32>],
) -> Option<&'a [f32]> {
    place.map(|place| match place {
        Place::Weight(index) => weights[index].as_slice(),
        Place::Operand => inputs[1],
    })
}

impl Layer for Scale {
    fn forward(&mut self, run: Forward<'_>) {
        let factor = at(self.factor, run.inputs, run.weights);
        let offset = at(self.offset, run.inputs, run.weights);
        let Broadcast { count, inner } = self.broadcast;
        let rows = run.output.par_chunks_exact_mut(inner).enumerate();
        rows.zip(run.inputs[0].par_chunks_exact(inner))
            .for_each(|((row, output), input)| {
                let (a, b) = (
                    factor.map_or(1.0, |f| f[row % count]),
                    offset.map_or(0.0, |o| o[row % count]),
                );
                output
                    .iter_mut()
                    .zip(input)
                    .for_each(|(y, x)| *y = x * a + b);
            });
    }

    fn backward(&mut self, run: Backward<'_>) {
        let (x, dy) = (run.inputs[0], run.output_gradient);
        let Broadcast { count, inner } = self.broadcast;
        for (place, is_factor) in [(self.factor, true), (self.offset, false)] {
            let into = match place {
                Some(Place::Weight(index)) => run.weight_gradients[index].as_mut(),
                Some(Place::Operand) => run.input_gradients[1].as_mut(),
                None => None,
            };
            let Some(into) = into else { continue };
            if matches!(place, Some(Place::Operand)) {
                into.fill(0.0);
            }
            let of = |index: usize| {
                if is_factor {
                    dy[index] * x[index]
                } else {
                    dy[index]
                }
            };
            self.broadcast.sums(dy.len(), into, of);
        }
        let factor = at(self.factor, run.inputs, run.weights);
        if let Some(into) = &mut run.input_gradients[0] {
            let rows = into.par_chunks_exact_mut(inner).enumerate();
            rows.zip(dy.par_chunks_exact(inner))
                .for_each(|((row, into), dy)| {
                    let a = factor.map_or(1.0, |f| f[row % count]);
                    into.iter_mut().zip(dy).for_each(|(dx, dy)| *dx = dy * a);
                });
        }
    }
}

/// y = max(x, 0) + slope·min(x, 0).
pub struct PRelu {
    broadcast: Broadcast,
}

impl PRelu {
    /// From the operand's shape and the number of slopes.
    pub fn new(input: &Shape, slopes: usize) -> Self {
        Self {
            broadcast: Broadcast::new(input, 1, slopes),
        }
    }
}

impl Layer for PRelu {
    fn forward(&mut self, run: Forward<'_>) {
        let slopes = &run.weights[0];
        let Broadcast { count, inner } = self.broadcast;
        let rows = run.output.par_chunks_exact_mut(inner).enumerate();
        rows.zip(run.inputs[0].par_chunks_exact(inner))
            .for_each(|((row, output), input)| {
                let slope = slopes[row % count];
                output
                    .iter_mut()
                    .zip(input)
                    .for_each(|(y, x)| *y = x.max(0.0) + slope * x.min(0.0));
            });
    }

    fn backward(&mut self, run: Backward<'_>) {
        let (x, dy, slopes) = (run.inputs[0], run.output_gradient, &run.weights[0]);
        let Broadcast { count, inner } = self.broadcast;
        if let Some(into) = &mut run.weight_gradients[0] {
            self.broadcast
                .sums(dy.len(), into, |index| dy[index] * x[index].min(0.0));
        }
        if let Some(into) = &mut run.input_gradients[0] {
            let rows = into.par_chunks_exact_mut(inner).enumerate();
            let operands = x.par_chunks_exact(inner).zip(dy.par_chunks_exact(inner));
            rows.zip(operands).for_each(|((row, into), (x, dy))| {
                let slope = slopes[row % count];
                let all = into.iter_mut().zip(x.iter().zip(dy));
                all.for_each(|(dx, (x, dy))| *dx = if *x > 0.0 { *dy } else { dy * slope });
            });
        }
    }
}
