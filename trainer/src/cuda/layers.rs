//! Layers that run on the device.

use super::device::{Args, Device, Operand, Product, behind};
use crate::cpu::batch_norm::Attributes;
use crate::cpu::columns::Columns;
use crate::cpu::layer::Layer;
use skimjit_models::ops::{self, Activation, EltwiseOp, PoolMethod};
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

struct Convolution {
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
    fn new(
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

struct InnerProduct {
    images: usize,
    inputs: usize,
    outputs: usize,
    /// Weights lie as inputs × outputs.
    transposed: bool,
    bias: ChannelSums,
}

impl InnerProduct {
    fn new(device: &mut dyn Device, op: &ops::InnerProduct, input: &Shape) -> Result<Self> {
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

struct Pooling {
    average: bool,
    /// Least maximum.
    least: f32,
    planes: usize,
    input: [usize; 2],
    output: [usize; 2],
    /// Kernel, stride, pad.
    window: [usize; 6],
    /// Start, end and divisor of the windows along each axis.
    tables: [u64; 2],
    winners: u64,
}

impl Pooling {
    fn new(
        device: &mut dyn Device,
        op: &ops::Pooling,
        input: &Shape,
        output: &Shape,
    ) -> Result<Self> {
        let mut tables = [0; 2];
        for (axis, address) in tables.iter_mut().enumerate() {
            let (from, to) = (input.dim(2 + axis), output.dim(2 + axis));
            let ranges = (0..to).map(|index| op.range(axis, from, index));
            let table: Vec<f32> = ranges
                .flat_map(|range| [range.start, range.end, range.divisor])
                .map(|number| number as f32)
                .collect();
            *address = device.allocate(table.len())?;
            device.upload(*address, &table)?;
        }
        let window = op.effective_window([input.dim(2), input.dim(3)]);
        let pairs = [window.kernel, window.stride, window.pad].concat();
        let mut numbers = [0; 6];
        numbers
            .iter_mut()
            .zip(pairs)
            .for_each(|(to, from)| *to = from as usize);
        let average = op.method == PoolMethod::Average;
        Ok(Self {
            average,
            least: if op.relu { 0.0 } else { -f32::MAX },
            planes: input.count_of(0, 2),
            input: [input.dim(2) as usize, input.dim(3) as usize],
            output: [output.dim(2) as usize, output.dim(3) as usize],
            window: numbers,
            tables,
            winners: if average {
                0
            } else {
                device.allocate(output.count())?
            },
        })
    }
    fn numbers(&self, [h, w]: [usize; 2]) -> Vec<usize> {
        let mut numbers = vec![self.planes * h * w];
        numbers.extend(self.input);
        numbers.extend(self.output);
        numbers.extend(self.window);
        numbers
    }
}

impl Native for Pooling {
    fn forward(&mut self, device: &mut dyn Device, run: &mut Forward<'_>) -> Result<()> {
        let [rows, columns] = self.tables;
        let p = [run.inputs[0], run.output, self.winners, rows, columns];
        let kernel = if self.average {
            "average_pool"
        } else {
            "max_pool"
        };
        device.launch(
            kernel,
            &Args::new(&p, &self.numbers(self.output), &[self.least]),
        )
    }
    fn backward(&mut self, device: &mut dyn Device, run: &Backward<'_>) -> Result<()> {
        let [rows, columns] = self.tables;
        let (into, dy) = (run.input_gradients[0], run.output_gradient);
        if into == 0 {
            return Ok(());
        }
        let p = [into, dy, self.winners, rows, columns];
        device.launch("pool_back", &Args::new(&p, &self.numbers(self.input), &[]))
    }
}

struct Relu {
    count: usize,
    slope: f32,
}

impl Native for Relu {
    fn forward(&mut self, device: &mut dyn Device, run: &mut Forward<'_>) -> Result<()> {
        let args = Args::new(&[run.inputs[0], run.output], &[self.count], &[self.slope]);
        device.launch("relu", &args)
    }
    fn backward(&mut self, device: &mut dyn Device, run: &Backward<'_>) -> Result<()> {
        let p = [run.inputs[0], run.output_gradient, run.input_gradients[0]];
        match p[2] {
            0 => Ok(()),
            _ => device.launch("relu_back", &Args::new(&p, &[self.count], &[self.slope])),
        }
    }
}

struct Lrn {
    numbers: [usize; 4],
    factors: [f32; 3],
    scale: u64,
}

impl Lrn {
    fn new(device: &mut dyn Device, op: &ops::Lrn, shape: &Shape) -> Result<Self> {
        let (channels, pixels) = (shape.dim(1) as usize, shape.count_of(2, shape.rank()));
        let reach = (op.size as usize - 1) / 2;
        Ok(Self {
            numbers: [shape.count(), pixels, channels, reach],
            factors: [op.alpha / op.size as f32, op.beta, op.k],
            scale: device.allocate(shape.count())?,
        })
    }
}

impl Native for Lrn {
    fn forward(&mut self, device: &mut dyn Device, run: &mut Forward<'_>) -> Result<()> {
        let p = [run.inputs[0], run.output, self.scale];
        device.launch("lrn", &Args::new(&p, &self.numbers, &self.factors))
    }
    fn backward(&mut self, device: &mut dyn Device, run: &Backward<'_>) -> Result<()> {
        let (dy, into) = (run.output_gradient, run.input_gradients[0]);
        let p = [run.inputs[0], self.scale, dy, into];
        match into {
            0 => Ok(()),
            _ => device.launch("lrn_back", &Args::new(&p, &self.numbers, &self.factors)),
        }
    }
}

struct BatchNorm {
    images: usize,
    channels: usize,
    pixels: usize,
    eps: f32,
    fraction: f32,
    global: bool,
    training: bool,
    mean: u64,
    inverse: u64,
    /// Two sums of every channel of every image.
    sums: [u64; 2],
}

impl BatchNorm {
    fn new(device: &mut dyn Device, attributes: &Attributes, shape: &Shape) -> Result<Self> {
        let (channels, pixels) = match shape.rank() {
            1 => (1, 1),
            rank => (shape.dim(1) as usize, shape.count_of(2, rank)),
        };
        let images = shape.dim(0) as usize;
        // One after the other: the forward run sees both as pairs.
        let sums = device.allocate(2 * images * channels)?;
        Ok(Self {
            images,
            channels,
            pixels,
            eps: attributes.eps,
            fraction: attributes.fraction,
            global: attributes.global,
            training: attributes.training,
            mean: device.allocate(channels)?,
            inverse: device.allocate(channels)?,
            sums: [sums, behind(sums, images * channels)],
        })
    }
}

impl Native for BatchNorm {
    fn forward(&mut self, device: &mut dyn Device, run: &mut Forward<'_>) -> Result<()> {
        let (x, rows) = (run.inputs[0], self.images * self.channels);
        let running = |index: usize| run.weights.get(index).copied().unwrap_or(0);
        let p = [
            x,
            self.sums[0],
            self.mean,
            self.inverse,
            running(0),
            running(1),
            running(2),
        ];
        let training = usize::from(self.training);
        let numbers = [self.channels, self.images, self.pixels, training];
        let statistics = Args::new(&p, &numbers, &[self.eps, self.fraction]);
        if self.global {
            device.launch("norm_running", &statistics)?;
        } else {
            let numbers = [rows, self.channels, self.pixels];
            device.launch("norm_sums", &Args::new(&[x, self.sums[0]], &numbers, &[]))?;
            device.launch("norm_statistics", &statistics)?;
        }
        let numbers = [rows * self.pixels, self.pixels, self.channels];
        let p = [x, run.output, self.mean, self.inverse];
        device.launch("normalize", &Args::new(&p, &numbers, &[]))
    }

    fn backward(&mut self, device: &mut dyn Device, run: &Backward<'_>) -> Result<()> {
        let (dy, y, into) = (run.output_gradient, run.output, run.input_gradients[0]);
        if into == 0 {
            return Ok(());
        }
        let rows = self.images * self.channels;
        let mut p = [dy, y, into, self.inverse, 0, 0];
        if !self.global {
            p[4..].copy_from_slice(&self.sums);
            for (other, sums) in [0, y].into_iter().zip(self.sums) {
                let args = Args::new(&[dy, other, sums], &[rows, self.pixels], &[]);
                device.launch("row_sums", &args)?;
            }
        }
        let numbers = [rows * self.pixels, self.pixels, self.channels, self.images];
        device.launch("normalize_back", &Args::new(&p, &numbers, &[]))
    }
}

/// y = x·factor + offset, with weights.
struct Scale {
    count: usize,
    inner: usize,
    shared: usize,
    /// Which weights they are.
    factor: Option<usize>,
    offset: Option<usize>,
    sums: ChannelSums,
}

impl Scale {
    fn new(device: &mut dyn Device, op: &ops::Scale, shape: &Shape, shared: usize) -> Result<Self> {
        let count = shape.count();
        let inner = shape.count_of(op.axis as usize, shape.rank()) / shared.max(1);
        let outer = count / (shared * inner).max(1);
        Ok(Self {
            count,
            inner,
            shared,
            factor: op.scale.map(|_| 0),
            offset: op.bias.map(|_| usize::from(op.scale.is_some())),
            sums: ChannelSums::new(device, [outer, shared, inner])?,
        })
    }
}

impl Native for Scale {
    fn forward(&mut self, device: &mut dyn Device, run: &mut Forward<'_>) -> Result<()> {
        let at = |place: Option<usize>| place.map_or(0, |index| run.weights[index]);
        let p = [run.inputs[0], at(self.factor), at(self.offset), run.output];
        device.launch(
            "scale",
            &Args::new(&p, &[self.count, self.inner, self.shared], &[]),
        )
    }
    fn backward(&mut self, device: &mut dyn Device, run: &Backward<'_>) -> Result<()> {
        let dy = run.output_gradient;
        let gradient = |place: Option<usize>| place.map_or(0, |index| run.weight_gradients[index]);
        let sums = [
            (gradient(self.factor), run.inputs[0]),
            (gradient(self.offset), 0),
        ];
        for (into, x) in sums.into_iter().filter(|(into, _)| *into != 0) {
            self.sums.add(device, dy, x, into)?;
        }
        let factor = self.factor.map_or(0, |index| run.weights[index]);
        match run.input_gradients[0] {
            0 => Ok(()),
            into => {
                let numbers = [self.count, self.inner, self.shared];
                device.launch("scale", &Args::new(&[dy, factor, 0, into], &numbers, &[]))
            }
        }
    }
}

struct Sum {
    count: usize,
    coefficients: Vec<f32>,
}

impl Native for Sum {
    fn forward(&mut self, device: &mut dyn Device, run: &mut Forward<'_>) -> Result<()> {
        let operands = run.inputs.iter().zip(&self.coefficients).enumerate();
        for (index, (&x, &c)) in operands {
            let numbers = [self.count, usize::from(index > 0)];
            device.launch("add", &Args::new(&[x, run.output], &numbers, &[c]))?;
        }
        Ok(())
    }
    fn backward(&mut self, device: &mut dyn Device, run: &Backward<'_>) -> Result<()> {
        let all = run.input_gradients.iter().zip(&self.coefficients);
        for (&into, &c) in all.filter(|(into, _)| **into != 0) {
            let args = Args::new(&[run.output_gradient, into], &[self.count, 0], &[c]);
            device.launch("add", &args)?;
        }
        Ok(())
    }
}

/// Copies `rows` times `width` elements; a side is its address, its row and where the part begins in it.
fn copy(
    device: &mut dyn Device,
    [rows, width]: [usize; 2],
    from: (u64, usize, usize),
    to: (u64, usize, usize),
) -> Result<()> {
    let numbers = [rows * width, width, from.1, from.2, to.1, to.2];
    device.launch("copy_part", &Args::new(&[from.0, to.0], &numbers, &[]))
}

struct Concat {
    outer: usize,
    parts: Vec<usize>,
}

impl Concat {
    fn new(axis: u32, shapes: &[&Shape]) -> Self {
        let axis = axis as usize;
        let part = |shape: &&Shape| shape.count_of(axis, shape.rank());
        Self {
            outer: shapes.first().map_or(1, |shape| shape.count_of(0, axis)),
            parts: shapes.iter().map(part).collect(),
        }
    }
    /// Each operand's length and where it begins.
    fn ranges(&self) -> Vec<(usize, usize)> {
        let mut first = 0;
        let range = |&part: &usize| {
            first += part;
            (part, first - part)
        };
        self.parts.iter().map(range).collect()
    }
}

impl Native for Concat {
    fn forward(&mut self, device: &mut dyn Device, run: &mut Forward<'_>) -> Result<()> {
        let whole = self.parts.iter().sum();
        for ((part, first), &x) in self.ranges().into_iter().zip(run.inputs) {
            let to = (run.output, whole, first);
            copy(device, [self.outer, part], (x, part, 0), to)?;
        }
        Ok(())
    }
    fn backward(&mut self, device: &mut dyn Device, run: &Backward<'_>) -> Result<()> {
        let whole = self.parts.iter().sum();
        let all = self.ranges().into_iter().zip(run.input_gradients);
        for ((part, first), &into) in all.filter(|(_, into)| **into != 0) {
            let from = (run.output_gradient, whole, first);
            copy(device, [self.outer, part], from, (into, part, 0))?;
        }
        Ok(())
    }
}

struct Slice {
    rows: usize,
    /// Elements of a row of the operand and of the result, and where the result begins.
    whole: usize,
    part: usize,
    first: usize,
}

impl Slice {
    fn new(op: &ops::Slice, input: &Shape) -> Self {
        let axis = op.axis as usize;
        let inner = input.count_of(axis + 1, input.rank());
        Self {
            rows: input.count_of(0, axis),
            whole: input.count_of(axis, input.rank()),
            part: (op.end - op.begin) as usize * inner,
            first: op.begin as usize * inner,
        }
    }
}

impl Native for Slice {
    fn forward(&mut self, device: &mut dyn Device, run: &mut Forward<'_>) -> Result<()> {
        let from = (run.inputs[0], self.whole, self.first);
        copy(
            device,
            [self.rows, self.part],
            from,
            (run.output, self.part, 0),
        )
    }
    fn backward(&mut self, device: &mut dyn Device, run: &Backward<'_>) -> Result<()> {
        let into = run.input_gradients[0];
        if into == 0 {
            return Ok(());
        }
        device.zero(into, self.rows * self.whole)?;
        let from = (run.output_gradient, self.part, 0);
        copy(
            device,
            [self.rows, self.part],
            from,
            (into, self.whole, self.first),
        )
    }
}

/// Dropout in training: the CPU's layer draws the mask, so that both engines drop the same elements.
struct Dropout {
    count: usize,
    mask: u64,
}

impl Dropout {
    fn apply(&self, device: &mut dyn Device, x: u64, y: u64) -> Result<()> {
        device.launch(
            "multiply",
            &Args::new(&[x, self.mask, y], &[self.count], &[]),
        )
    }
}

impl Native for Dropout {
    fn forward(&mut self, device: &mut dyn Device, run: &mut Forward<'_>) -> Result<()> {
        let mut mask = vec![1.0; self.count];
        run.twin.forward_in_place(&mut mask, run.turn);
        device.upload(self.mask, &mask)?;
        self.apply(device, run.inputs[0], run.output)
    }
    fn backward(&mut self, device: &mut dyn Device, run: &Backward<'_>) -> Result<()> {
        match run.input_gradients[0] {
            0 => Ok(()),
            into => self.apply(device, run.output_gradient, into),
        }
    }
}

/// The same elements in another shape.
struct Copy(usize);

impl Native for Copy {
    fn forward(&mut self, device: &mut dyn Device, run: &mut Forward<'_>) -> Result<()> {
        if run.inputs[0] == run.output {
            return Ok(());
        }
        copy(
            device,
            [1, self.0],
            (run.inputs[0], self.0, 0),
            (run.output, self.0, 0),
        )
    }
    fn backward(&mut self, device: &mut dyn Device, run: &Backward<'_>) -> Result<()> {
        let (dy, into) = (run.output_gradient, run.input_gradients[0]);
        if into == 0 || into == dy {
            return Ok(());
        }
        copy(device, [1, self.0], (dy, self.0, 0), (into, self.0, 0))
    }
}
