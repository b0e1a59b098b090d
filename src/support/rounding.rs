//! Weights rounded at the user's request, and what that does to the network.

use crate::support::noise;
use crate::support::output::Output;
use serde::Serialize;
use skimjit::{CompileOptions, Model, Result};
use skimjit_models::Tensor;
use skimjit_models::passes::Rounded;
use skimjit_program::progress;

/// Report of a rounding.
#[derive(Serialize)]
pub struct Rounding {
    layers: Vec<Rounded>,
    /// Largest difference of an output for a random image, as a share of the largest output.
    output_difference: f64,
}

impl Rounding {
    /// Rounds the weights of all inner products to bfloat16 and measures the difference.
    pub fn inner_products(model: &mut Model, options: &CompileOptions) -> Result<Self> {
        let inputs = noise::usual_inputs(model, options.batch)?;
        let exact = outputs(model, options, &inputs)?;
        let layers = model.round_inner_products();
        let rounded = outputs(model, options, &inputs)?;
        let pairs = exact.iter().zip(&rounded);
        let differences = pairs.map(|(exact, rounded)| difference(exact, rounded));
        Ok(Self {
            layers,
            output_difference: differences.fold(0.0, f64::max),
        })
    }

    /// Prints it.
    pub fn print(&self, out: &mut Output) {
        let largest = self.layers.iter().map(|layer| layer.largest_change);
        out.sentence(format!(
            "rounded: weights of {} inner products to bfloat16, by at most {:.1e} of a weight; a random \
             image's outputs differ by {:.1e} of the largest",
            self.layers.len(),
            largest.fold(0.0, f32::max),
            self.output_difference
        ));
    }
}

fn outputs(model: &Model, options: &CompileOptions, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
    let options = CompileOptions {
        tuning: None,
        ..options.clone()
    };
    let engine = progress::spin("rounding", || model.compile(&options))?;
    engine.run(&mut engine.session(), inputs)
}

fn difference(exact: &Tensor, rounded: &Tensor) -> f64 {
    let largest = exact
        .data()
        .iter()
        .fold(f32::MIN_POSITIVE, |most, x| most.max(x.abs()));
    let pairs = exact.data().iter().zip(rounded.data());
    let most = pairs.fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
    f64::from(most) / f64::from(largest)
}
