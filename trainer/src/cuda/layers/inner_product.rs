//! Inner product: three matrix products.

use super::native::{Backward, Forward, Native, plain, transposed};
use super::sums::{ChannelSums, Summed};
use crate::cuda::device::{Args, Device, Operand, Product};
use skimjit_models::ops;
use skimjit_models::{Result, Shape};

/// Inner product.
pub struct InnerProduct {
    images: usize,
    inputs: usize,
    outputs: usize,
    /// Weights lie as inputs × outputs.
    transposed: bool,
    bias: ChannelSums,
}

impl InnerProduct {
    /// From attributes and the operand's shape.
    pub fn new(device: &mut dyn Device, op: &ops::InnerProduct, input: &Shape) -> Result<Self> {
        let axis = op.axis as usize;
        let (images, outputs) = (input.count_of(0, axis), op.outputs as usize);
        Ok(Self {
            images,
            inputs: input.count_of(axis, input.rank()),
            outputs,
            transposed: op.transpose,
            bias: ChannelSums::new(device, [images, outputs, 1])?,
        })
    }
    /// outputs × inputs.
    fn weights(&self, address: u64) -> Operand {
        Operand {
            address,
            transposed: self.transposed,
        }
    }
}

impl Native for InnerProduct {
    fn forward(&mut self, device: &mut dyn Device, run: &Forward<'_>) -> Result<()> {
        let weights = self.weights(run.weights[0]);
        device.multiply(&Product {
            size: [self.images, self.outputs, self.inputs],
            a: plain(run.inputs[0]),
            b: Operand {
                transposed: !weights.transposed,
                ..weights
            },
            c: run.output,
            accumulate: false,
        })?;
        match run.weights.get(1) {
            None => Ok(()),
            Some(&bias) => {
                let numbers = [self.images * self.outputs, 1, self.outputs];
                let args = Args::new(&[run.output, 0, bias, run.output], &numbers, &[]);
                device.launch("scale", &args)
            }
        }
    }

    fn backward(&mut self, device: &mut dyn Device, run: &Backward<'_>) -> Result<()> {
        let (dy, x) = (run.output_gradient, run.inputs[0]);
        if run.weight_gradients[0] != 0 {
            let (size, a, b) = if self.transposed {
                ([self.inputs, self.outputs, self.images], x, dy)
            } else {
                ([self.outputs, self.inputs, self.images], dy, x)
            };
            device.multiply(&Product {
                size,
                a: transposed(a),
                b: plain(b),
                c: run.weight_gradients[0],
                accumulate: true,
            })?;
        }
        if let Some(&into) = run.weight_gradients.get(1).filter(|&&into| into != 0) {
            self.bias.add(device, Summed::Plain(dy), into)?;
        }
        if run.input_gradients[0] != 0 {
            device.multiply(&Product {
                size: [self.images, self.inputs, self.outputs],
                a: plain(dy),
                b: self.weights(run.weights[0]),
                c: run.input_gradients[0],
                accumulate: false,
            })?;
        }
        Ok(())
    }
}
