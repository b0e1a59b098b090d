//! Layers that run on the device: one file per family.

mod activation;
mod batch_norm;
mod combine;
mod convolution;
mod inner_product;
mod lrn;
pub mod native;
mod pooling;
mod scale;
mod softmax;
mod sums;

use super::device::Device;
use crate::layer::{Kind, LayerSpec};
use activation::{Copy, Dropout, Function};
use batch_norm::BatchNorm;
use combine::{Concat, Maximum, Product, Slice, Sum};
use convolution::Convolution;
use inner_product::InnerProduct;
use lrn::Lrn;
use native::Native;
use pooling::Pooling;
use scale::{PRelu, Scale};
use skimjit_models::Result;
use skimjit_models::ops::EltwiseOp;
use softmax::Softmax;

/// The device's layer of a node; `None` where only the CPU has one: losses, judges like Accuracy, STOCHASTIC
/// poolings in training, Winograd convolutions, and functions that Caffe does not have.
pub fn layer(device: &mut dyn Device, spec: &LayerSpec) -> Result<Option<Box<dyn Native>>> {
    let (inputs, output) = (&spec.inputs, &spec.output);
    let count = output.count();
    Ok(Some(match &spec.kind {
        Kind::Convolution(op) => {
            Box::new(Convolution::new(device, op, [&inputs[0], output], false)?)
        }
        Kind::Deconvolution(op) => {
            Box::new(Convolution::new(device, op, [output, &inputs[0]], true)?)
        }
        Kind::InnerProduct(op) => Box::new(InnerProduct::new(device, op, &inputs[0])?),
        Kind::Pooling(op) => Box::new(Pooling::new(device, op, &inputs[0], output)?),
        Kind::Activation(op) => match Function::new(count, op) {
            Some(function) => Box::new(function),
            None => return Ok(None),
        },
        Kind::PRelu(slopes) => Box::new(PRelu::new(device, &inputs[0], *slopes)?),
        Kind::Lrn(op) => Box::new(Lrn::new(device, op, output)?),
        Kind::BatchNorm(attributes) => Box::new(BatchNorm::new(device, attributes, output)?),
        Kind::Scale(attributes) => Box::new(Scale::new(device, attributes, &inputs[0])?),
        Kind::Eltwise(EltwiseOp::Sum { coefficients }) => Box::new(Sum::new(count, coefficients)),
        Kind::Eltwise(EltwiseOp::Product) => Box::new(Product::new(count)),
        Kind::Eltwise(EltwiseOp::Max) => Box::new(Maximum::new(device, count)?),
        Kind::Concat(axis) => Box::new(Concat::new(*axis, inputs)),
        Kind::Slice(op) => Box::new(Slice::new(op, &inputs[0])),
        Kind::Copy => Box::new(Copy(count)),
        Kind::Dropout(attributes) => Box::new(Dropout::new(device, count, attributes)?),
        Kind::Softmax {
            axis,
            passes_gradient,
        } => Box::new(Softmax::new(*axis, output, *passes_gradient)),
        Kind::Winograd(_) | Kind::StochasticPooling(..) | Kind::Loss(_) | Kind::Reference(_) => {
            return Ok(None);
        }
    }))
}
