//! The memory of NVIDIA GPUs and its layers: kernels of their own, matrix products by cuBLAS.
//!
//! Libraries are looked for when a GPU is opened, so that it builds where there are none. Losses, judges like
//! Accuracy, and Winograd convolutions are left to the CPU. Sums are made in an order that does not depend on how
//! the GPU schedules threads, and random numbers are those of the CPU: both agree up to rounding.

pub mod device;
mod driver;
#[cfg(test)]
mod layer_tests;
mod layers;
mod params;
#[cfg(test)]
mod tests;

use crate::layer::LayerSpec;
use crate::memory::{self, Memory};
use crate::param::Role;
use crate::plan::Step;
use crate::update::{ParamState, Update};
use device::{Args, Device};

use layers::native::{Backward, Forward, Native};
use params::Mirror;
use skimjit_models::{Result, Weight};
use std::sync::Arc;

/// Arrays and parameters on a device.
pub struct DeviceMemory {
    device: Box<dyn Device>,
    params: Vec<Mirror>,
    /// Memory that layers share, its elements, and how many they ask for.
    scratch: (u64, usize),
    needed: usize,
}

impl DeviceMemory {
    /// That of GPU `number`.
    pub fn open(number: usize) -> Result<Self> {
        Ok(Self::on(Box::new(driver::Driver::open(number)?)))
    }
    /// That of a device.
    pub fn on(device: Box<dyn Device>) -> Self {
        Self {
            device,
            params: Vec::new(),
            scratch: (0, 0),
            needed: 0,
        }
    }
    /// Asked for once all layers are known: the device frees nothing.
    fn scratch(&mut self) -> Result<u64> {
        if self.scratch.1 < self.needed {
            self.scratch = (self.device.allocate(self.needed)?, self.needed);
        }
        Ok(self.scratch.0)
    }
    fn weights(&mut self, step: &Step) -> Result<Vec<u64>> {
        let device = self.device.as_mut();
        let params = step.params.iter();
        let address = |&param: &usize| self.params[param].address(device);
        params.map(address).collect()
    }
}

/// Addresses of operands; in place, the operand is the result.
fn operands(step: &Step, inputs: &[&u64], output: u64) -> Vec<u64> {
    match step.in_place {
        true => vec![output],
        false => inputs.iter().map(|&&address| address).collect(),
    }
}

impl Memory for DeviceMemory {
    type Array = u64;
    type Layer = Box<dyn Native>;
    const WAITS: bool = false;

    fn fresh(&self) -> Result<Self> {
        Ok(Self::on(self.device.fresh()?))
    }
    fn allocate(&mut self, count: usize) -> Result<u64> {
        self.device.allocate(count)
    }
    fn write(&mut self, array: &mut u64, data: &[f32]) -> Result<()> {
        self.device.upload(*array, data)
    }
    fn read(&self, array: &u64, count: usize) -> Result<Vec<f32>> {
        let mut data = vec![0.0; count];
        self.device.download(*array, &mut data)?;
        Ok(data)
    }
    fn add(&mut self, part: &u64, sum: &mut u64, count: usize) -> Result<()> {
        let args = Args::new(&[*part, *sum], &[count, 1], &[1.0]);
        self.device.launch("add", &args)
    }

    fn layer(&mut self, spec: &LayerSpec, _: &[Arc<Weight>]) -> Result<Option<Self::Layer>> {
        let layer = layers::layer(self.device.as_mut(), spec)?;
        let needed = layer.as_ref().map_or(0, |layer| layer.scratch());
        self.needed = self.needed.max(needed);
        Ok(layer)
    }

    fn forward(
        &mut self,
        layer: &mut Self::Layer,
        step: &Step,
        run: memory::Forward<'_, u64>,
    ) -> Result<()> {
        let run = Forward {
            inputs: &operands(step, run.inputs, *run.output),
            output: *run.output,
            weights: &self.weights(step)?,
            scratch: self.scratch()?,
            turn: run.turn,
        };
        layer.forward(self.device.as_mut(), &run)
    }

    fn backward(
        &mut self,
        layer: &mut Self::Layer,
        step: &Step,
        run: memory::Backward<'_, u64>,
    ) -> Result<()> {
        let weights = self.weights(step)?;
        let trained = step.params.iter().zip(&step.trains);
        let gradients = trained.map(|(&param, &trains)| match trains {
            true => self.params[param].gradient(),
            false => 0,
        });
        let gradients: Vec<u64> = gradients.collect();
        let into = run.input_gradients.iter().copied();
        let into: Vec<u64> = match step.in_place {
            true => vec![*run.output_gradient],
            false => into.map(Option::unwrap_or_default).collect(),
        };
        let run = Backward {
            inputs: &operands(step, run.inputs, *run.output),
            output: *run.output,
            output_gradient: *run.output_gradient,
            input_gradients: &into,
            weights: &weights,
            weight_gradients: &gradients,
            scratch: self.scratch()?,
        };
        layer.backward(self.device.as_mut(), &run)
    }

    fn add_param(&mut self, data: Vec<f32>, role: Role) -> Result<()> {
        let mirror = Mirror::new(self.device.as_mut(), data, role)?;
        self.params.push(mirror);
        Ok(())
    }
    fn edit(&mut self, param: usize, edit: &mut dyn FnMut(&mut ParamState)) -> Result<()> {
        self.params[param].edit(self.device.as_ref(), edit)
    }
    fn inspect(&mut self, param: usize, read: &mut dyn FnMut(&ParamState)) -> Result<()> {
        self.params[param].inspect(self.device.as_ref(), read)
    }
    fn clear_gradients(&mut self) -> Result<()> {
        let device = self.device.as_mut();
        let mut params = self.params.iter_mut();
        params.try_for_each(|param| param.clear_gradient(device))
    }
    fn update(&mut self, param: usize, update: &Update<'_>) -> Result<()> {
        self.params[param].update(self.device.as_mut(), update)
    }
}
