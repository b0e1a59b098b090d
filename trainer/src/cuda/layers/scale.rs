//! Scale, Bias and PReLU: factors and offsets that are shared along some axes.

use super::native::{Backward, Forward, Native};
use super::sums::{ChannelSums, Summed};
use crate::cuda::device::{Args, Device};
use crate::layer::{Place, Scale as Attributes};
use skimjit_models::{Result, Shape};

/// y = x·factor + offset.
pub struct Scale {
    sums: ChannelSums,
    factor: Option<Place>,
    offset: Option<Place>,
}

impl Scale {
    /// From attributes and the operand's shape.
    pub fn new(device: &mut dyn Device, attributes: &Attributes, input: &Shape) -> Result<Self> {
        let (axis, shared) = (attributes.axis, attributes.shared);
        Ok(Self {
            sums: ChannelSums::broadcast(device, input, axis, shared)?,
            factor: attributes.factor,
            offset: attributes.offset,
        })
    }
}

/// Address of a shared operand, 0 when there is none.
fn at(place: Option<Place>, inputs: &[u64], weights: &[u64]) -> u64 {
    match place {
        None => 0,
        Some(Place::Weight(index)) => weights[index],
        Some(Place::Operand) => inputs[1],
    }
}

impl Native for Scale {
    fn forward(&mut self, device: &mut dyn Device, run: &Forward<'_>) -> Result<()> {
        let [factor, offset] =
            [self.factor, self.offset].map(|place| at(place, run.inputs, run.weights));
        let p = [run.inputs[0], factor, offset, run.output];
        device.launch("scale", &Args::new(&p, &self.sums.numbers(), &[]))
    }
    fn backward(&mut self, device: &mut dyn Device, run: &Backward<'_>) -> Result<()> {
        let (x, dy) = (run.inputs[0], run.output_gradient);
        let wanted = [
            (self.factor, Summed::Product(dy, x)),
            (self.offset, Summed::Plain(dy)),
        ];
        for (place, what) in wanted {
            match (place, at(place, run.input_gradients, run.weight_gradients)) {
                (_, 0) => {}
                (Some(Place::Operand), into) => self.sums.write(device, what, into)?,
                (_, into) => self.sums.add(device, what, into)?,
            }
        }
        let factor = at(self.factor, run.inputs, run.weights);
        match run.input_gradients[0] {
            0 => Ok(()),
            into => {
                let args = Args::new(&[dy, factor, 0, into], &self.sums.numbers(), &[]);
                device.launch("scale", &args)
            }
        }
    }
}

/// y = max(x, 0) + slope·min(x, 0).
pub struct PRelu {
    sums: ChannelSums,
}

impl PRelu {
    /// From the operand's shape and the number of slopes.
    pub fn new(device: &mut dyn Device, input: &Shape, slopes: usize) -> Result<Self> {
        let sums = ChannelSums::broadcast(device, input, 1, slopes)?;
        Ok(Self { sums })
    }
}

impl Native for PRelu {
    fn forward(&mut self, device: &mut dyn Device, run: &Forward<'_>) -> Result<()> {
        let p = [run.inputs[0], run.weights[0], run.output];
        device.launch("prelu", &Args::new(&p, &self.sums.numbers(), &[]))
    }
    fn backward(&mut self, device: &mut dyn Device, run: &Backward<'_>) -> Result<()> {
        let (x, dy) = (run.inputs[0], run.output_gradient);
        if run.weight_gradients[0] != 0 {
            let what = Summed::Negative(dy, x);
            self.sums.add(device, what, run.weight_gradients[0])?;
        }
        match run.input_gradients[0] {
            0 => Ok(()),
            into => {
                let p = [x, run.weights[0], dy, into];
                device.launch("prelu_back", &Args::new(&p, &self.sums.numbers(), &[]))
            }
        }
    }
}
