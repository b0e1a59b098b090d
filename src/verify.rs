//! The engine against the reference interpreter, layer by layer.

use crate::error::Result;
use crate::model::{CompileOptions, Engine, Keep, Model};
use serde::Serialize;
use skimjit_models::{Tensor, interpreter};

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
    let n = inputs.first().map_or(1, |input| input.shape().dim(0));
    let keep = CompileOptions {
        keep: Keep::Optimized,
        ..options.clone()
    };
    let kept = model.compile(&keep)?;
    let reference = interpreter::run(&kept.graph().with_batch(n)?, inputs)?;
    let layers = compare(&kept, inputs, &outputs_of(&kept, &reference), tolerance)?;
    drop(kept);
    let engine = model.compile(options)?;
    // With the same layers fused, the values are the same ones.
    let expected = match options.keep {
        Keep::Outputs | Keep::Optimized => outputs_of(&engine, &reference),
        Keep::Named(_) | Keep::All => {
            let values = interpreter::run(&engine.graph().with_batch(n)?, inputs)?;
            outputs_of(&engine, &values)
        }
    };
    let outputs = compare(&engine, inputs, &expected, tolerance)?;
    Ok(Verification {
        tolerance,
        layers,
        outputs,
    })
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
    let magnitude = expected
        .iter()
        .fold(0f64, |most, x| most.max(f64::from(x.abs())));
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
        passed,
    }
}
