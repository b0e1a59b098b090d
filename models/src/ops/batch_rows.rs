//! Layers that choose images of a batch: BatchReindex and Filter.

use super::operation::{Inputs, Operation, Weights};
use super::{axes, operands};
use crate::{Error, Result, Shape};

/// Operands: x (`N × …`), indices (`M`). Image m of the result is image `indices[m]` of x; NaN for an
/// index that is none.
pub(super) struct BatchReindex;

impl Operation for BatchReindex {
    fn infer_shape(&self, inputs: &[&Shape], _weights: &Weights) -> Result<Shape> {
        let [input, indices] = operands::exactly(inputs)?;
        operands::at_least_rank(input, 0, 1)?;
        if indices.rank() != 1 {
            return Err(Error::new(format!("shape {indices}"))
                .field("input[1]")
                .expected("1 axis: the indices"));
        }
        axes::with_dim(input, 0, indices.dim(0).into())
    }

    fn evaluate(&self, inputs: &Inputs, _weights: &Weights, _shape: &Shape, output: &mut [f32]) {
        let images = inputs[0].shape.dim(0) as usize;
        let image = inputs[0].data.len() / images;
        for (dst, &index) in output.chunks_exact_mut(image).zip(inputs[1].data) {
            match operands::index(index, images) {
                Some(n) => dst.copy_from_slice(&inputs[0].data[n * image..][..image]),
                None => dst.fill(f32::NAN),
            }
        }
    }

    fn per_image(&self, _inputs: &[&Shape]) -> bool {
        false
    }
}

/// Operands: x (`N × …`), selector (`N`). The images of x whose selector is not 0, in order.
///
/// Their number depends on data, shapes do not: the result has N images like x, first the chosen
/// ones, then images of zeros. As many of them count as the selector has elements that are not 0.
pub(super) struct Filter;

impl Operation for Filter {
    fn infer_shape(&self, inputs: &[&Shape], _weights: &Weights) -> Result<Shape> {
        let [input, selector] = operands::exactly(inputs)?;
        operands::at_least_rank(input, 0, 1)?;
        let images = input.dim(0);
        if selector.rank() == 0 || selector.dim(0) != images || selector.count() != images as usize
        {
            return Err(Error::new(format!("a selector of shape {selector}"))
                .field("inputs")
                .expected(format!("{images} elements, one per image")));
        }
        Ok(input.clone())
    }

    fn evaluate(&self, inputs: &Inputs, _weights: &Weights, _shape: &Shape, output: &mut [f32]) {
        let image = inputs[0].data.len() / inputs[1].data.len();
        let images = inputs[0].data.chunks_exact(image).zip(inputs[1].data);
        let mut chosen = images.filter(|&(_, &selector)| selector != 0.0);
        for dst in output.chunks_exact_mut(image) {
            match chosen.next() {
                Some((src, _)) => dst.copy_from_slice(src),
                None => dst.fill(0.0),
            }
        }
    }

    fn per_image(&self, _inputs: &[&Shape]) -> bool {
        false
    }
}
