//! The CPU's memory and its layers: hand-written, over matrix products, images spread over threads.
//!
//! Results do not depend on the number of threads: work is cut into the same parts whatever their
//! number is, and parts are summed in order.

mod activation;
mod batch_norm;
mod blocks;
mod combine;
mod convolution;
mod inner_product;
pub(crate) mod layer;
mod loss;
mod lrn;
pub(crate) mod make;
mod pooling;
mod reference;
mod scale;
mod softmax;
mod sums;
mod winograd;

use crate::layer::LayerSpec;
use crate::memory::{self, Memory};
use crate::param::Role;
use crate::plan::Step;
use crate::update::{self, ParamState, Update};
use layer::{Backward, Forward, Layer};
use skimjit_models::{Result, Weight};
use std::sync::Arc;

/// Arrays and parameters in the memory of this computer.
#[derive(Default)]
pub struct HostMemory {
    params: Vec<ParamState>,
}

impl HostMemory {
    /// Takes values of parameters out, to be put back by [`HostMemory::put`].
    fn take(&mut self, params: &[usize]) -> Vec<Vec<f32>> {
        let take = |&param: &usize| std::mem::take(&mut self.params[param].data);
        params.iter().map(take).collect()
    }
    fn put(&mut self, params: &[usize], weights: Vec<Vec<f32>>) {
        for (&param, data) in params.iter().zip(weights) {
            self.params[param].data = data;
        }
    }
}

impl Memory for HostMemory {
    type Array = Vec<f32>;
    type Layer = Box<dyn Layer>;
    const WAITS: bool = true;

    fn fresh(&self) -> Result<Self> {
        Ok(Self::default())
    }
    fn allocate(&mut self, count: usize) -> Result<Vec<f32>> {
        Ok(vec![0.0; count])
    }
    fn write(&mut self, array: &mut Vec<f32>, data: &[f32]) -> Result<()> {
        array.copy_from_slice(data);
        Ok(())
    }
    fn read(&self, array: &Vec<f32>, count: usize) -> Result<Vec<f32>> {
        Ok(array[..count].to_vec())
    }
    fn add(&mut self, part: &Vec<f32>, sum: &mut Vec<f32>, _count: usize) -> Result<()> {
        sums::add(part, sum);
        Ok(())
    }

    fn layer(&mut self, spec: &LayerSpec, weights: &[Arc<Weight>]) -> Result<Option<Self::Layer>> {
        make::layer(spec, weights).map(Some)
    }

    fn forward(
        &mut self,
        layer: &mut Self::Layer,
        step: &Step,
        run: memory::Forward<'_, Vec<f32>>,
    ) -> Result<()> {
        if step.in_place {
            layer.forward_in_place(run.output, run.turn);
            return Ok(());
        }
        let inputs: Vec<&[f32]> = run.inputs.iter().map(|array| array.as_slice()).collect();
        layer.check(&inputs)?;
        let mut weights = self.take(&step.params);
        layer.forward(Forward {
            inputs: &inputs,
            output: run.output,
            weights: &mut weights,
            turn: run.turn,
        });
        self.put(&step.params, weights);
        Ok(())
    }

    fn backward(
        &mut self,
        layer: &mut Self::Layer,
        step: &Step,
        run: memory::Backward<'_, Vec<f32>>,
    ) -> Result<()> {
        if step.in_place {
            layer.backward_in_place(run.output, run.output_gradient);
            return Ok(());
        }
        let inputs: Vec<&[f32]> = run.inputs.iter().map(|array| array.as_slice()).collect();
        let weights = self.take(&step.params);
        let trained = step.params.iter().zip(&step.trains);
        let mut weight_gradients: Vec<Option<Vec<f32>>> = trained
            .map(|(&param, &trains)| {
                trains.then(|| std::mem::take(&mut self.params[param].gradient))
            })
            .collect();
        layer.backward(Backward {
            inputs: &inputs,
            output: run.output,
            output_gradient: run.output_gradient,
            input_gradients: run.input_gradients,
            weights: &weights,
            weight_gradients: &mut weight_gradients,
        });
        self.put(&step.params, weights);
        for (&param, sum) in step.params.iter().zip(weight_gradients) {
            if let Some(sum) = sum {
                self.params[param].gradient = sum;
            }
        }
        Ok(())
    }

    fn add_param(&mut self, data: Vec<f32>, _role: Role) -> Result<()> {
        self.params.push(ParamState {
            gradient: vec![0.0; data.len()],
            data,
            ..ParamState::default()
        });
        Ok(())
    }
    fn edit(&mut self, param: usize, edit: &mut dyn FnMut(&mut ParamState)) -> Result<()> {
        edit(&mut self.params[param]);
        Ok(())
    }
    fn inspect(&mut self, param: usize, read: &mut dyn FnMut(&ParamState)) -> Result<()> {
        read(&self.params[param]);
        Ok(())
    }
    fn clear_gradients(&mut self) -> Result<()> {
        let params = self.params.iter_mut();
        params.for_each(|state| state.gradient.fill(0.0));
        Ok(())
    }
    fn update(&mut self, param: usize, update: &Update<'_>) -> Result<()> {
        update::apply(update, &mut self.params[param]);
        Ok(())
    }
}
