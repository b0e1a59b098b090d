//! Elementwise functions, dropout, and layers that only change shapes.

use super::combine::copy;
use super::native::{Backward, Forward, Native};
use crate::cuda::device::{Args, Device};
use crate::layer::Dropout as Attributes;
use skimjit_models::Result;
use skimjit_models::ops::Activation;

/// An elementwise function.
pub struct Function {
    count: usize,
    /// Number of the function in `kernels.cu`, and what it needs to know.
    kind: usize,
    numbers: [f32; 3],
}

impl Function {
    /// From attributes; `None` for functions that only the CPU has.
    pub fn new(count: usize, op: &Activation) -> Option<Self> {
        let (kind, numbers) = match *op {
            Activation::ReLU { slope } => (0, [slope, 0.0, 0.0]),
            Activation::Elu { alpha } => (1, [alpha, 0.0, 0.0]),
            Activation::Sigmoid => (2, [0.0; 3]),
            Activation::TanH => (3, [0.0; 3]),
            Activation::AbsVal => (4, [0.0; 3]),
            Activation::Bnll => (5, [0.0; 3]),
            Activation::Power {
                power,
                scale,
                shift,
            } => (6, [power, scale, shift]),
            Activation::Exp { base, scale, shift } => (7, [base, scale, shift]),
            Activation::Log { base, scale, shift } => (8, [base, scale, shift]),
            Activation::Threshold { threshold } => (9, [threshold, 0.0, 0.0]),
            Activation::Swish { beta } => (10, [beta, 0.0, 0.0]),
            Activation::Clip { min, max } => (11, [min, max, 0.0]),
            _ => return None,
        };
        Some(Self {
            count,
            kind,
            numbers,
        })
    }
}

impl Native for Function {
    fn forward(&mut self, device: &mut dyn Device, run: &Forward<'_>) -> Result<()> {
        let p = [run.inputs[0], run.output];
        let args = Args::new(&p, &[self.count, self.kind], &self.numbers);
        device.launch("activation", &args)
    }
    fn backward(&mut self, device: &mut dyn Device, run: &Backward<'_>) -> Result<()> {
        let (dy, into) = (run.output_gradient, run.input_gradients[0]);
        let p = [run.inputs[0], run.output, dy, into];
        let args = Args::new(&p, &[self.count, self.kind], &self.numbers);
        match into {
            0 => Ok(()),
            _ => device.launch("activation_back", &args),
        }
    }
}

/// Dropout in training. The kernel has the CPU's generator, so that both drop the same elements.
pub struct Dropout {
    count: usize,
    attributes: Attributes,
    /// What each element is multiplied by.
    mask: u64,
}

impl Dropout {
    /// Of so many elements.
    pub fn new(device: &mut dyn Device, count: usize, attributes: &Attributes) -> Result<Self> {
        let mask = device.allocate(count)?;
        Ok(Self {
            count,
            attributes: *attributes,
            mask,
        })
    }
    fn draw(&self, device: &mut dyn Device, turn: u64) -> Result<()> {
        let (number, limit) = (self.attributes.number, self.attributes.limit());
        let blocks = self.count.div_ceil(16);
        let chunk = Attributes::CHUNK;
        let mut numbers = vec![blocks, self.count, number as usize, limit as usize, chunk];
        let key = Attributes::random(turn).get_seed();
        let (words, _) = key.as_chunks::<4>();
        numbers.extend(words.iter().map(|&word| u32::from_le_bytes(word) as usize));
        let kept = self.attributes.kept();
        device.launch("dropout_mask", &Args::new(&[self.mask], &numbers, &[kept]))
    }
    fn apply(&self, device: &mut dyn Device, x: u64, y: u64) -> Result<()> {
        let args = Args::new(&[x, self.mask, y], &[self.count], &[]);
        device.launch("multiply", &args)
    }
}

impl Native for Dropout {
    fn forward(&mut self, device: &mut dyn Device, run: &Forward<'_>) -> Result<()> {
        self.draw(device, run.turn)?;
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
    fn forward(&mut self, device: &mut dyn Device, run: &Forward<'_>) -> Result<()> {
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
