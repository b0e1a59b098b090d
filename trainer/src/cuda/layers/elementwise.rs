//! Elementwise functions, and layers that combine, cut or copy.

use super::super::device::{Args, Device};
use super::{Backward, Forward, Native};
use skimjit_models::ops;
use skimjit_models::{Result, Shape};

/// max(x, 0) + slope·min(x, 0).
pub struct Relu {
    /// Elements.
    pub count: usize,
    /// Slope below 0.
    pub slope: f32,
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

/// Weighted sum of the operands.
pub struct Sum {
    /// Elements.
    pub count: usize,
    /// Factor of each operand.
    pub coefficients: Vec<f32>,
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

pub struct Concat {
    outer: usize,
    parts: Vec<usize>,
}

impl Concat {
    pub fn new(axis: u32, shapes: &[&Shape]) -> Self {
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

pub struct Slice {
    rows: usize,
    /// Elements of a row of the operand and of the result, and where the result begins.
    whole: usize,
    part: usize,
    first: usize,
}

impl Slice {
    pub fn new(op: &ops::Slice, input: &Shape) -> Self {
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
pub struct Dropout {
    /// Elements.
    pub count: usize,
    /// Address of the mask.
    pub mask: u64,
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
pub struct Copy(pub usize);

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
