//! Layers that combine or cut operands: Eltwise, Concat, Slice.

use super::native::{Backward, Forward, Native};
use crate::cuda::device::{Args, Device};
use skimjit_models::ops;
use skimjit_models::{Result, Shape};

/// Weighted sum of operands.
pub struct Sum {
    count: usize,
    coefficients: Vec<f32>,
}

impl Sum {
    /// From a factor per operand.
    pub fn new(count: usize, coefficients: &[f32]) -> Self {
        Self {
            count,
            coefficients: coefficients.to_vec(),
        }
    }
}

impl Native for Sum {
    fn forward(&mut self, device: &mut dyn Device, run: &Forward<'_>) -> Result<()> {
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

/// Product of operands.
pub struct Product {
    count: usize,
}

impl Product {
    /// Of so many elements.
    pub fn new(count: usize) -> Self {
        Self { count }
    }
    /// `y = first · others`.
    fn multiply(
        &self,
        device: &mut dyn Device,
        first: u64,
        others: impl Iterator<Item = u64>,
        y: u64,
    ) -> Result<()> {
        copy(
            device,
            [1, self.count],
            (first, self.count, 0),
            (y, self.count, 0),
        )?;
        for x in others {
            device.launch("multiply", &Args::new(&[y, x, y], &[self.count], &[]))?;
        }
        Ok(())
    }
}

impl Native for Product {
    fn forward(&mut self, device: &mut dyn Device, run: &Forward<'_>) -> Result<()> {
        let others = run.inputs[1..].iter().copied();
        self.multiply(device, run.inputs[0], others, run.output)
    }
    fn backward(&mut self, device: &mut dyn Device, run: &Backward<'_>) -> Result<()> {
        for (operand, &into) in run.input_gradients.iter().enumerate() {
            if into == 0 {
                continue;
            }
            let others = run.inputs.iter().enumerate();
            let others = others
                .filter(|&(other, _)| other != operand)
                .map(|(_, &x)| x);
            self.multiply(device, run.output_gradient, others, into)?;
        }
        Ok(())
    }
}

/// Maximum of operands.
pub struct Maximum {
    count: usize,
    /// Operand with the maximum, per element.
    winners: u64,
}

impl Maximum {
    /// Of so many elements.
    pub fn new(device: &mut dyn Device, count: usize) -> Result<Self> {
        let winners = device.allocate(count)?;
        Ok(Self { count, winners })
    }
}

impl Native for Maximum {
    fn forward(&mut self, device: &mut dyn Device, run: &Forward<'_>) -> Result<()> {
        for (operand, &x) in run.inputs.iter().enumerate() {
            let p = [x, run.output, self.winners];
            device.launch("maximum", &Args::new(&p, &[self.count, operand], &[]))?;
        }
        Ok(())
    }
    fn backward(&mut self, device: &mut dyn Device, run: &Backward<'_>) -> Result<()> {
        for (operand, &into) in run.input_gradients.iter().enumerate() {
            if into != 0 {
                let p = [run.output_gradient, self.winners, into];
                device.launch("maximum_back", &Args::new(&p, &[self.count, operand], &[]))?;
            }
        }
        Ok(())
    }
}

/// Copies `rows` times `width` elements; a side is its address, its row and where the part begins in it.
pub fn copy(
    device: &mut dyn Device,
    [rows, width]: [usize; 2],
    from: (u64, usize, usize),
    to: (u64, usize, usize),
) -> Result<()> {
    let numbers = [rows * width, width, from.1, from.2, to.1, to.2];
    device.launch("copy_part", &Args::new(&[from.0, to.0], &numbers, &[]))
}

/// Concatenation: per outer position, the operands' parts one after the other.
pub struct Concat {
    outer: usize,
    parts: Vec<usize>,
}

impl Concat {
    /// From the operands' shapes.
    pub fn new(axis: u32, shapes: &[Shape]) -> Self {
        let axis = axis as usize;
        let part = |shape: &Shape| shape.count_of(axis, shape.rank());
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
    fn forward(&mut self, device: &mut dyn Device, run: &Forward<'_>) -> Result<()> {
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

/// A part of an axis.
pub struct Slice {
    rows: usize,
    /// Elements of a row of the operand and of the result, and where the result begins.
    whole: usize,
    part: usize,
    first: usize,
}

impl Slice {
    /// From attributes and the operand's shape.
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
    fn forward(&mut self, device: &mut dyn Device, run: &Forward<'_>) -> Result<()> {
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
