//! Gradients of layers whose images are computed one after the other: a batch is cut into blocks, whose parts are
//! summed in order.

use super::layer::Backward;
use super::sums::add;
use rayon::prelude::*;

/// Blocks of a batch.
const BLOCKS: usize = 8;

/// Images of a block.
pub fn images_of_block(images: usize) -> usize {
    images.div_ceil(BLOCKS)
}

/// Gradients of a block; empty where nobody wants them.
pub struct Partial {
    /// Of the weights.
    pub weights: Vec<f32>,
    /// Of the offsets.
    pub bias: Vec<f32>,
}

/// Runs `block` for the gradients of results and the operands of each block. It adds to what it is given of the
/// weights, and writes the gradients of the operands.
pub fn backward(
    run: Backward<'_>,
    images: usize,
    block: impl Fn([&[f32]; 2], Option<&mut [f32]>, &mut Partial) + Sync,
) {
    let [weights, bias] = [0, 1].map(|index| match run.weight_gradients.get(index) {
        Some(Some(_)) => run.weights[index].len(),
        _ => 0,
    });
    let all = images_of_block(images);
    let partial = |operands: [&[f32]; 2], into: Option<&mut [f32]>| {
        let mut partial = Partial {
            weights: vec![0.0; weights],
            bias: vec![0.0; bias],
        };
        block(operands, into, &mut partial);
        partial
    };
    let size = |data: &[f32]| all * (data.len() / images);
    let (dy, x) = (run.output_gradient, run.inputs[0]);
    let blocks = dy.par_chunks(size(dy)).zip(x.par_chunks(size(x)));
    let partials: Vec<Partial> = match &mut run.input_gradients[0] {
        Some(into) => blocks
            .zip(into.par_chunks_mut(size(x)))
            .map(|((dy, x), into)| partial([dy, x], Some(into)))
            .collect(),
        None => blocks.map(|(dy, x)| partial([dy, x], None)).collect(),
    };
    for partial in &partials {
        let parts = [&partial.weights, &partial.bias];
        for (sum, part) in run.weight_gradients.iter_mut().zip(parts) {
            if let Some(sum) = sum {
                add(part, sum);
            }
        }
    }
}
