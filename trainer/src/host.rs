//! Layers that a memory lacks, computed by the CPU: losses, whose operands are small and whose results the solver
//! reads anyway, and what is rare.

use crate::cpu::layer::{self as cpu, Layer};
use crate::memory::{Backward, Forward, Memory};
use crate::plan::Step;
use skimjit_models::{Result, Shape};

fn read<M: Memory>(memory: &M, arrays: &[&M::Array], shapes: &[Shape]) -> Result<Vec<Vec<f32>>> {
    let all = arrays.iter().zip(shapes);
    all.map(|(array, shape)| memory.read(array, shape.count()))
        .collect()
}

fn weights<M: Memory>(memory: &mut M, params: &[usize]) -> Result<Vec<Vec<f32>>> {
    let mut all = Vec::new();
    for &param in params {
        memory.inspect(param, &mut |state| all.push(state.data.clone()))?;
    }
    Ok(all)
}

fn slices(arrays: &[Vec<f32>]) -> Vec<&[f32]> {
    arrays.iter().map(Vec::as_slice).collect()
}

/// Runs a layer forward. What it changes in its weights is lost: BatchNorm, which does, is in every memory.
pub fn forward<M: Memory>(
    layer: &mut dyn Layer,
    memory: &mut M,
    step: &Step,
    run: Forward<'_, M::Array>,
) -> Result<()> {
    let inputs = read(memory, run.inputs, &step.layer.inputs)?;
    let inputs = slices(&inputs);
    layer.check(&inputs)?;
    let mut output = vec![0.0; step.layer.output.count()];
    layer.forward(cpu::Forward {
        inputs: &inputs,
        output: &mut output,
        weights: &mut weights(memory, &step.params)?,
        turn: run.turn,
    });
    memory.write(run.output, &output)
}

/// Runs a layer backward.
pub fn backward<M: Memory>(
    layer: &mut dyn Layer,
    memory: &mut M,
    step: &Step,
    run: Backward<'_, M::Array>,
) -> Result<()> {
    let inputs = read(memory, run.inputs, &step.layer.inputs)?;
    let output = step.layer.output.count();
    let zeros = |wanted: bool, like: &Vec<f32>| wanted.then(|| vec![0.0; like.len()]);
    let wanted = run.input_gradients.iter().zip(&inputs);
    let mut input_gradients: Vec<_> = wanted
        .map(|(into, input)| zeros(into.is_some(), input))
        .collect();
    let weights = weights(memory, &step.params)?;
    let trained = step.trains.iter().zip(&weights);
    let mut weight_gradients: Vec<_> = trained.map(|(&trains, data)| zeros(trains, data)).collect();
    layer.backward(cpu::Backward {
        inputs: &slices(&inputs),
        output: &memory.read(run.output, output)?,
        output_gradient: &memory.read(run.output_gradient, output)?,
        input_gradients: &mut input_gradients,
        weights: &weights,
        weight_gradients: &mut weight_gradients,
    });
    for (into, data) in run.input_gradients.iter_mut().zip(input_gradients) {
        if let (Some(into), Some(data)) = (into, data) {
            memory.write(into, &data)?;
        }
    }
    for (&param, part) in step.params.iter().zip(weight_gradients) {
        let Some(part) = part else { continue };
        memory.edit(param, &mut |state| {
            let sums = state.gradient.iter_mut().zip(&part);
            sums.for_each(|(sum, part)| *sum += part);
        })?;
    }
    Ok(())
}
