//! Convolution and inner product: matrix products.

use super::super::device::{Args, Device, Operand, Product, behind};
use super::{Backward, ChannelSums, Forward, Native};
use crate::cpu::columns::Columns;
use skimjit_models::ops;
use skimjit_models::{Result, Shape};

pub struct Convolution {
    images: usize,
    groups: usize,
    /// Output channels of a group.
    filters: usize,
    columns: Columns,
    /// Windows of a group of an image; 0 where they are the image.
    windows: u64,
    bias: ChannelSums,
}

impl Convolution {
    pub fn new(
        device: &mut dyn Device,
        op: &ops::Convolution,
        input: &Shape,
        output: &Shape,
    ) -> Result<Self> {
        let groups = op.groups as usize;
        let plane = |shape: &Shape| [shape.dim(2) as usize, shape.dim(3) as usize];
        let columns = Columns {
            channels: input.dim(1) as usize / groups,
            input: plane(input),
            output: plane(output),
            window: op.window,
        };
        let images = input.dim(0) as usize;
        let pixels = columns.columns();
        let windows = if columns.is_image() {
            0
        } else {
            device.allocate(columns.rows() * pixels)?
        };
        Ok(Self {
            images,
            groups,
            filters: op.oc as usize / groups,
            windows,
            bias: ChannelSums::new(device, [images, op.oc as usize, pixels])?,
            columns,
        })
    }
    fn input(&self) -> usize {
        self.columns.channels * self.columns.input[0] * self.columns.input[1]
    }
    fn output(&self) -> usize {
        self.filters * self.columns.columns()
    }
    fn weights(&self) -> usize {
        self.filters * self.columns.rows()
    }
    fn geometry(&self, count: usize) -> Vec<usize> {
        let window = &self.columns.window;
        let mut numbers = vec![count];
        numbers.extend(self.columns.input);
        numbers.extend(self.columns.output);
        for pair in [window.kernel, window.stride, window.pad, window.dilation] {
            numbers.extend(pair.map(|number| number as usize));
        }
        numbers
    }
    /// The windows of a group of an image, as a matrix.
    fn gathered(&self, device: &mut dyn Device, image: u64) -> Result<u64> {
        if self.columns.is_image() {
            return Ok(image);
        }
        let count = self.columns.rows() * self.columns.columns();
        let args = Args::new(&[image, self.windows], &self.geometry(count), &[]);
        device.launch("gather", &args)?;
        Ok(self.windows)
    }
    /// Offsets of input, output and weights of every group of every image.
    fn parts(&self) -> impl Iterator<Item = [usize; 3]> + use<> {
        let (groups, input, output) = (self.groups, self.input(), self.output());
        let weights = self.weights();
        (0..self.images * groups)
            .map(move |part| [part * input, part * output, part % groups * weights])
    }
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

impl Native for Convolution {
    fn forward(&mut self, device: &mut dyn Device, run: &mut Forward<'_>) -> Result<()> {
        let (rows, pixels) = (self.columns.rows(), self.columns.columns());
        for [input, output, weights] in self.parts() {
            let windows = self.gathered(device, behind(run.inputs[0], input))?;
            device.multiply(&Product {
                size: [self.filters, pixels, rows],
                a: plain(behind(run.weights[0], weights)),
                b: plain(windows),
                c: behind(run.output, output),
                accumulate: false,
            })?;
        }
        match run.weights.get(1) {
            None => Ok(()),
            Some(&bias) => {
                let channels = self.groups * self.filters;
                let numbers = [self.images * channels * pixels, pixels, channels];
                let args = Args::new(&[run.output, 0, bias, run.output], &numbers, &[]);
                device.launch("scale", &args)
            }
        }
    }

    fn backward(&mut self, device: &mut dyn Device, run: &Backward<'_>) -> Result<()> {
        let (rows, pixels) = (self.columns.rows(), self.columns.columns());
        for [input, output, weights] in self.parts() {
            let gradient = behind(run.output_gradient, output);
            if run.weight_gradients[0] != 0 {
                let windows = self.gathered(device, behind(run.inputs[0], input))?;
                device.multiply(&Product {
                    size: [self.filters, rows, pixels],
                    a: plain(gradient),
                    b: transposed(windows),
                    c: behind(run.weight_gradients[0], weights),
                    accumulate: true,
                })?;
            }
            if run.input_gradients[0] == 0 {
                continue;
            }
            let into = behind(run.input_gradients[0], input);
            let direct = self.columns.is_image();
            device.multiply(&Product {
                size: [rows, pixels, self.filters],
                a: transposed(behind(run.weights[0], weights)),
                b: plain(gradient),
                c: if direct { into } else { self.windows },
                accumulate: false,
            })?;
            if !direct {
                let args = Args::new(&[self.windows, into], &self.geometry(self.input()), &[]);
                device.launch("scatter", &args)?;
            }
        }
        match run.weight_gradients.get(1) {
            Some(&into) if into != 0 => self.bias.add(device, run.output_gradient, 0, into),
            _ => Ok(()),
        }
    }
}

pub struct InnerProduct {
    images: usize,
    inputs: usize,
    outputs: usize,
    /// Weights lie as inputs × outputs.
    transposed: bool,
    bias: ChannelSums,
}

impl InnerProduct {
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
    fn forward(&mut self, device: &mut dyn Device, run: &mut Forward<'_>) -> Result<()> {
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
            self.bias.add(device, dy, 0, into)?;
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
