//! Layers that run on the device: one file per family, as those of the CPU engine.

mod activation;
mod batch_norm;
mod combine;
mod convolution;
mod inner_product;
mod lrn;
mod pooling;
mod scale;
mod softmax;
mod sums;

use super::device::{Device, Operand};
use crate::cpu::batch_norm::Attributes;
use activation::{Copy, Dropout, Function};
use batch_norm::BatchNorm;
use combine::{Concat, Maximum, Product, Slice, Sum};
use convolution::Convolution;
use inner_product::InnerProduct;
use lrn::Lrn;
use pooling::Pooling;
use scale::{PRelu, Scale};
use skimjit_models::ops::EltwiseOp;
use skimjit_models::{Op, Result, Shape};
use softmax::Softmax;

/// Addresses of a forward run.
pub struct Forward<'a> {
    /// Operands.
    pub inputs: &'a [u64],
    /// Result; in place, it is the operand.
    pub output: u64,
    /// Weights.
    pub weights: &'a [u64],
    /// Memory for the time of the run, as much as [`Native::scratch`] asks for.
    pub scratch: u64,
    /// Chooses random numbers.
    pub turn: u64,
}

/// Addresses of a backward run.
pub struct Backward<'a> {
    /// Operands.
    pub inputs: &'a [u64],
    /// Result.
    pub output: u64,
    /// Gradient of the result.
    pub output_gradient: u64,
    /// Gradients of the operands, to be overwritten; 0 where nobody wants them.
    pub input_gradients: &'a [u64],
    /// Weights.
    pub weights: &'a [u64],
    /// Gradients of the weights, to be added to; 0 where nobody wants them.
    pub weight_gradients: &'a [u64],
    /// Memory for the time of the run.
    pub scratch: u64,
}

/// A layer with its memory on the device.
pub trait Native: Send {
    /// Elements of memory that a run needs besides.
    fn scratch(&self) -> usize {
        0
    }
    /// Computes the result.
    fn forward(&mut self, device: &mut dyn Device, run: &Forward<'_>) -> Result<()>;
    /// Computes the gradients.
    fn backward(&mut self, device: &mut dyn Device, run: &Backward<'_>) -> Result<()>;
}

/// Shapes of a node, and what its definition and its neighbours say.
pub struct Place<'a> {
    /// Of the operands.
    pub inputs: &'a [&'a Shape],
    /// Of the result.
    pub output: &'a Shape,
    /// Elements of its first weight.
    pub weight: usize,
    /// Of BatchNorm layers.
    pub norm: Option<Attributes>,
    /// Share of elements that a Dropout drops in training, and which Dropout of the network it is.
    pub dropout: Option<(f32, u64)>,
    /// A pooling that draws its elements, which the CPU does.
    pub draws: bool,
    /// The gradient of a Softmax's result is already that of its scores.
    pub passes_gradient: bool,
}

/// The device's layer for an operation; `None` where only the CPU has one: losses, judges like Accuracy,
/// STOCHASTIC poolings in training, and Winograd convolutions.
pub fn native(
    device: &mut dyn Device,
    op: &Op,
    place: &Place<'_>,
) -> Result<Option<Box<dyn Native>>> {
    let (inputs, output) = (place.inputs, place.output);
    let count = output.count();
    Ok(Some(match op {
        Op::Convolution(op) => Box::new(Convolution::new(device, op, [inputs[0], output], false)?),
        Op::Deconvolution(op) => Box::new(Convolution::new(device, op, [output, inputs[0]], true)?),
        Op::InnerProduct(op) => Box::new(InnerProduct::new(device, op, inputs[0])?),
        Op::Pooling(op) if !op.mask && !place.draws => {
            Box::new(Pooling::new(device, op, inputs[0], output)?)
        }
        Op::Activation(op) => Box::new(Function::new(count, op)),
        Op::PRelu(_) => Box::new(PRelu::new(device, inputs[0], place.weight)?),
        Op::Lrn(op) => Box::new(Lrn::new(device, op, output)?),
        Op::BatchNorm(_) => match &place.norm {
            Some(attributes) => Box::new(BatchNorm::new(device, attributes, output)?),
            None => return Ok(None),
        },
        Op::Scale(op) => Box::new(Scale::new(device, op, inputs, place.weight)?),
        Op::Eltwise(op) => match &op.op {
            EltwiseOp::Sum { coefficients } => Box::new(Sum::new(count, coefficients)),
            EltwiseOp::Product => Box::new(Product::new(count)),
            EltwiseOp::Max => Box::new(Maximum::new(device, count)?),
        },
        Op::Concat { axis } => Box::new(Concat::new(*axis, inputs)),
        Op::Slice(op) => Box::new(Slice::new(op, inputs[0])),
        Op::Softmax { axis } => Box::new(Softmax::new(*axis, output, place.passes_gradient)),
        Op::Identity => match place.dropout {
            Some((ratio, number)) => Box::new(Dropout::new(device, count, ratio, number)?),
            None => Box::new(Copy(count)),
        },
        Op::Flatten { .. } | Op::Reshape(_) => Box::new(Copy(count)),
        _ => return Ok(None),
    }))
}

fn plain(address: u64) -> Operand {
    Operand {
        address,
        transposed: false,
    }
}

fn transposed(address: u64) -> Operand {
    Operand {
        address,
        transposed: true,
    }
}
