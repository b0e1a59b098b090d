//! The engine against the reference interpreter, layer by layer.

use crate::error::Result;
use crate::{CompileOptions, Engine, Keep, Model, Shared};
use serde::Serialize;
use skimjit_models::{Graph, Op, Tensor, ValueId, interpreter};

/// Comparison of one blob.
#[derive(Clone, Debug, Serialize)]
pub struct BlobCheck {
    /// Layer that computes the blob.
    pub layer: String,
    /// Blob name.
    pub blob: String,
    /// Variant that computed it.
    pub variant: String,
    /// Largest absolute difference.
    pub difference: f64,
    /// Largest absolute value of the reference.
    pub magnitude: f64,
    /// Largest difference over magnitude.
    pub relative: f64,
    /// A sum grew beyond the largest float (3.4e38): the engine adds in float, the reference in double.
    pub overflow: bool,
    /// Within the tolerance.
    pub passed: bool,
}

/// Result of [`verify`].
#[derive(Clone, Debug, Serialize)]
pub struct Verification {
    /// Tolerance: largest difference over largest magnitude.
    pub tolerance: f64,
    /// Every layer that is left after the graph passes, each with all earlier layers before it.
    pub layers: Vec<BlobCheck>,
    /// The network's outputs, computed by the plan as it is used (everything fused).
    pub outputs: Vec<BlobCheck>,
}

impl Verification {
    /// First difference in layer order, else in the outputs.
    pub fn first_failure(&self) -> Option<&BlobCheck> {
        self.layers
            .iter()
            .chain(&self.outputs)
            .find(|check| !check.passed)
    }
}

/// Compares engine and reference on `inputs` (`N × …` arrays; N is the batch).
pub fn verify(
    model: &Model,
    options: &CompileOptions,
    inputs: &[Tensor],
    tolerance: f64,
) -> Result<Verification> {
    verify_with(model, options, &Shared::alone(options)?, inputs, tolerance)
}

/// [`verify`] on the threads of other engines.
pub fn verify_with(
    model: &Model,
    options: &CompileOptions,
    shared: &Shared,
    inputs: &[Tensor],
    tolerance: f64,
) -> Result<Verification> {
    let n = inputs.first().map_or(1, |input| input.shape().dim(0));
    let options = &CompileOptions {
        keep_weights: true,
        ..options.clone()
    };
    let keep = CompileOptions {
        keep: Keep::Optimized,
        ..options.clone()
    };
    let kept = model.compile_with(&keep, shared)?;
    let reference = interpreter::run(&kept.graph().with_batch(n)?, inputs)?;
    let mut layers = compare(&kept, inputs, &outputs_of(&kept, &reference), tolerance)?;
    note_overflows(&mut layers, kept.graph(), &reference);
    drop(kept);
    let engine = model.compile_with(options, shared)?;
    // With the same layers fused, the values are the same ones.
    let expected = match options.keep {
        Keep::Outputs | Keep::Optimized => outputs_of(&engine, &reference),
        Keep::Named(_) | Keep::All => {
            let values = interpreter::run(&engine.graph().with_batch(n)?, inputs)?;
            outputs_of(&engine, &values)
        }
    };
    let mut outputs = compare(&engine, inputs, &expected, tolerance)?;
    // What went wrong in a layer is seen in the outputs behind it.
    let overflow = layers.iter().any(|layer| layer.overflow);
    for output in outputs.iter_mut().filter(|output| !output.passed) {
        output.overflow |= overflow;
    }
    Ok(Verification {
        tolerance,
        layers,
        outputs,
    })
}

/// Marks the differences of layers whose sums can grow beyond the largest float on the way, though the
/// result in double is smaller, and those of values that are beyond it themselves.
fn note_overflows(checks: &mut [BlobCheck], graph: &Graph, values: &[Tensor]) {
    for (check, &output) in checks.iter_mut().zip(&graph.outputs) {
        let node = graph.nodes.iter().find(|node| node.output == output);
        let largest = |id: &ValueId| {
            values
                .get(id.0 as usize)
                .map_or(0.0, |value| magnitude(value.data()))
        };
        let Some(node) = node else { continue };
        let operand = node.inputs.iter().map(largest).fold(0.0, f64::max);
        if !operand.is_finite() {
            // It came with the operand, which has been told of.
            check.overflow = false;
        } else if !check.passed && largest_sum(graph, &node.op) * operand > f64::from(f32::MAX) {
            check.overflow = true;
        }
    }
}

/// Largest sum of the magnitudes of an output's weights: times the largest operand, what its sum can reach.
fn largest_sum(graph: &Graph, op: &Op) -> f64 {
    let weights = match op {
        Op::Convolution(op) | Op::Deconvolution(op) => graph.weight(op.weights),
        Op::InnerProduct(op) => graph.weight(op.weights),
        _ => return 1.0,
    };
    let rows = weights.shape().dim(0).max(1) as usize;
    let row = (weights.data().len() / rows).max(1);
    let sum = |row: &[f32]| row.iter().map(|&w| f64::from(w.abs())).sum::<f64>();
    weights.data().chunks(row).map(sum).fold(0.0, f64::max)
}

fn magnitude(values: &[f32]) -> f64 {
    values
        .iter()
        .fold(0.0, |most, x| most.max(f64::from(x.abs())))
}

/// The engine's outputs among all values of its graph.
fn outputs_of(engine: &Engine, values: &[Tensor]) -> Vec<Tensor> {
    engine
        .graph()
        .outputs
        .iter()
        .map(|id| values[id.0 as usize].clone())
        .collect()
}

/// Compares the engine's outputs with arrays in the same order.
pub fn compare(
    engine: &Engine,
    inputs: &[Tensor],
    expected: &[Tensor],
    tolerance: f64,
) -> Result<Vec<BlobCheck>> {
    let found = engine.run(&mut engine.session(), inputs)?;
    let plan = engine.plan();
    let checks =
        plan.outputs
            .iter()
            .zip(found.iter().zip(expected))
            .map(|(port, (found, expected))| {
                let node = engine
                    .graph()
                    .nodes
                    .iter()
                    .find(|node| node.output == port.value);
                let layer = node.map_or(port.name.clone(), |node| node.name.clone());
                let choice = plan
                    .choices
                    .iter()
                    .rev()
                    .find(|choice| choice.layer == layer);
                let variant = choice.map_or(String::new(), |choice| choice.variant.clone());
                check(
                    layer,
                    port.name.clone(),
                    variant,
                    found.data(),
                    expected.data(),
                    tolerance,
                )
            });
    Ok(checks.collect())
}

/// Compares two arrays. NaN where the other has none is an infinite difference.
pub fn check(
    layer: String,
    blob: String,
    variant: String,
    found: &[f32],
    expected: &[f32],
    tolerance: f64,
) -> BlobCheck {
    let apart = |a: f32, b: f32| match (a.is_nan(), b.is_nan()) {
        (true, true) => 0.0,
        (false, false) if a == b => 0.0,
        (false, false) => (f64::from(a) - f64::from(b)).abs(),
        _ => f64::INFINITY,
    };
    let pairs = found.iter().zip(expected);
    let mut difference = pairs.fold(0f64, |most, (&a, &b)| most.max(apart(a, b)));
    if found.len() != expected.len() {
        difference = f64::INFINITY;
    }
    let magnitude = magnitude(expected);
    let infinite = |values: &[f32]| values.iter().any(|value| value.is_infinite());
    let lost = found
        .iter()
        .zip(expected)
        .any(|(a, b)| !a.is_finite() && b.is_finite());
    let relative = if difference == 0.0 {
        0.0
    } else {
        difference / magnitude.max(f64::MIN_POSITIVE)
    };
    let passed = relative <= tolerance;
    BlobCheck {
        layer,
        blob,
        variant,
        difference,
        magnitude,
        relative,
        overflow: lost || infinite(expected),
        passed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(found: &[f32], expected: &[f32]) -> BlobCheck {
        check("l".into(), "b".into(), "v".into(), found, expected, 1e-4)
    }

    #[test]
    fn a_sum_beyond_float_is_an_overflow_and_not_only_a_difference() {
        let infinite = of(&[f32::INFINITY, 1.0], &[1e38, 1.0]);
        assert!(!infinite.passed && infinite.overflow);
        let nothing = of(&[f32::NAN], &[1e38]);
        assert!(!nothing.passed && nothing.overflow);
        let both = of(&[f32::INFINITY], &[f32::INFINITY]);
        assert!(both.passed && both.overflow);
        let different = of(&[1.0], &[2.0]);
        assert!(!different.passed && !different.overflow);
    }
}
