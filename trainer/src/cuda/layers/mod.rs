//! Layers that run on the device.

mod elementwise;
mod normalization;
mod pooling;
mod product;

use super::device::{Args, Device};
use crate::cpu::batch_norm::Attributes;
use crate::cpu::layer::Layer;
use elementwise::{Concat, Copy, Dropout, Relu, Slice, Sum};
use normalization::{BatchNorm, Lrn, Scale};
use pooling::Pooling;
use product::{Convolution, InnerProduct};
use skimjit_models::ops::{Activation, EltwiseOp};
use skimjit_models::{Op, Result, Shape};

/// Addresses of a forward run.
pub struct Forward<'a> {
    /// Operands.
    pub inputs: &'a [u64],
    /// Result.
    pub output: u64,
    /// Weights.
    pub weights: &'a [u64],
    /// Chooses random numbers.
    pub turn: u64,
    /// The same layer on the CPU: it draws random numbers.
    pub twin: &'a mut dyn Layer,
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
}

/// A layer with its memory on the device.
pub trait Native: Send {
    /// Computes the result.
    fn forward(&mut self, device: &mut dyn Device, run: &mut Forward<'_>) -> Result<()>;
    /// Computes the gradients.
    fn backward(&mut self, device: &mut dyn Device, run: &Backward<'_>) -> Result<()>;
}

/// Shapes of a node.
pub struct Place<'a> {
    /// Of the operands.
    pub inputs: &'a [&'a Shape],
    /// Of the result.
    pub output: &'a Shape,
    /// Elements of its first weight.
    pub weight: usize,
    /// Of BatchNorm layers.
    pub norm: Option<Attributes>,
    /// Dropout in training.
    pub is_dropout: bool,
}

/// The device's layer for an operation; `None` where only the CPU has one.
pub fn native(
    device: &mut dyn Device,
    op: &Op,
    place: &Place<'_>,
) -> Result<Option<Box<dyn Native>>> {
    let (inputs, output) = (place.inputs, place.output);
    Ok(Some(match op {
        Op::Convolution(op) => Box::new(Convolution::new(device, op, inputs[0], output)?),
        Op::InnerProduct(op) => Box::new(InnerProduct::new(device, op, inputs[0])?),
        Op::Pooling(op) if !op.mask => Box::new(Pooling::new(device, op, inputs[0], output)?),
        Op::Activation(Activation::ReLU { slope }) => Box::new(Relu {
            count: output.count(),
            slope: *slope,
        }),
        Op::Lrn(op) if !op.within_channel => Box::new(Lrn::new(device, op, output)?),
        Op::BatchNorm(_) => match &place.norm {
            Some(attributes) => Box::new(BatchNorm::new(device, attributes, output)?),
            None => return Ok(None),
        },
        Op::Scale(op) if inputs.len() == 1 => {
            Box::new(Scale::new(device, op, output, place.weight)?)
        }
        Op::Eltwise(op) => match &op.op {
            EltwiseOp::Sum { coefficients } => Box::new(Sum {
                count: output.count(),
                coefficients: coefficients.clone(),
            }),
            _ => return Ok(None),
        },
        Op::Concat { axis } => Box::new(Concat::new(*axis, inputs)),
        Op::Slice(op) => Box::new(Slice::new(op, inputs[0])),
        Op::Identity if place.is_dropout => Box::new(Dropout {
            count: output.count(),
            mask: device.allocate(output.count())?,
        }),
        Op::Flatten { .. } | Op::Reshape(_) | Op::Identity => Box::new(Copy(output.count())),
        _ => return Ok(None),
    }))
}

/// Adds sums over images and pixels to one element per channel.
struct ChannelSums {
    images: usize,
    channels: usize,
    pixels: usize,
    partial: u64,
}

impl ChannelSums {
    fn new(device: &mut dyn Device, [images, channels, pixels]: [usize; 3]) -> Result<Self> {
        Ok(Self {
            images,
            channels,
            pixels,
            partial: device.allocate(images * channels)?,
        })
    }
    /// into += Σ x, or Σ x·y.
    fn add(&self, device: &mut dyn Device, x: u64, y: u64, into: u64) -> Result<()> {
        let rows = self.images * self.channels;
        let sums = Args::new(&[x, y, self.partial], &[rows, self.pixels], &[]);
        device.launch("row_sums", &sums)?;
        let numbers = [self.channels, self.images];
        device.launch(
            "add_image_sums",
            &Args::new(&[self.partial, into], &numbers, &[]),
        )
    }
}
