//! Pooling with Caffe's windows.

use super::native::{Backward, Forward, Native};
use crate::cuda::device::{Args, Device};
use skimjit_models::ops::{self, PoolMethod};
use skimjit_models::{Result, Shape};

/// Pooling.
pub struct Pooling {
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
    /// From attributes and shapes.
    pub fn new(
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
        let pairs = [window.kernel, window.stride, window.pad_begin].concat();
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
    fn forward(&mut self, device: &mut dyn Device, run: &Forward<'_>) -> Result<()> {
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
