//! Means of a network's outputs over batches, and its loss.

use serde::Serialize;
use skimjit::{Engine, Model};
use skimjit_models::Tensor;

/// Sums of every element of every output.
pub struct Tally {
    outputs: Vec<Sums>,
    batches: u32,
}

struct Sums {
    blob: String,
    shape: String,
    /// Of its elements in the network's loss.
    loss_weight: Option<f32>,
    /// False for a blob that another layer takes, which is here for the loss only.
    printed: bool,
    sums: Vec<f64>,
}

/// Mean of an output.
#[derive(Serialize)]
pub struct Mean {
    pub blob: String,
    pub shape: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss_weight: Option<f32>,
    /// Of each element over the batches.
    pub mean: Vec<f64>,
}

impl Tally {
    /// Nothing counted yet.
    pub fn new(model: &Model, engine: &Engine) -> Self {
        let graph = model.graph();
        let weight = |blob: &str| {
            let mut losses = model.losses().iter();
            let found = losses.find(|&&(value, _)| graph.value(value).name == blob);
            found.map(|&(_, weight)| weight)
        };
        let own = |blob: &str| graph.outputs.iter().any(|&id| graph.value(id).name == blob);
        let outputs = engine.plan().outputs.iter().map(|port| Sums {
            loss_weight: weight(&port.name),
            printed: own(&port.name),
            sums: vec![0.0; port.shape.count()],
            blob: port.name.clone(),
            shape: port.shape.to_string(),
        });
        Self {
            outputs: outputs.collect(),
            batches: 0,
        }
    }

    /// Counts the outputs of a batch.
    pub fn add(&mut self, outputs: &[Tensor]) {
        for (sums, output) in self.outputs.iter_mut().zip(outputs) {
            let values = output.data().iter();
            sums.sums
                .iter_mut()
                .zip(values)
                .for_each(|(sum, &x)| *sum += f64::from(x));
        }
        self.batches += 1;
    }

    /// Weighted sum of all losses; `None` for a network without.
    pub fn loss(&self) -> Option<f64> {
        let term = |sums: &Sums| {
            let weight = f64::from(sums.loss_weight?);
            Some(weight * sums.sums.iter().sum::<f64>() / f64::from(self.batches.max(1)))
        };
        self.outputs.iter().filter_map(term).reduce(|a, b| a + b)
    }

    /// Every output's mean, in Caffe's order.
    pub fn means(&self) -> Vec<Mean> {
        let printed = self.outputs.iter().filter(|sums| sums.printed);
        let mean = |sums: &Sums| Mean {
            blob: sums.blob.clone(),
            shape: sums.shape.clone(),
            loss_weight: sums.loss_weight,
            mean: sums.means(self.batches),
        };
        printed.map(mean).collect()
    }

    /// Loss and outputs of one element, for a line of progress.
    pub fn line(&self) -> String {
        let loss = self.loss().map(|loss| ("loss", loss));
        let scalars = self
            .outputs
            .iter()
            .filter(|sums| sums.printed && sums.loss_weight.is_none() && sums.sums.len() == 1)
            .map(|sums| (sums.blob.as_str(), sums.means(self.batches)[0]));
        let parts = loss.into_iter().chain(scalars);
        let parts: Vec<String> = parts
            .map(|(name, value)| format!("{name} {value:.4}"))
            .collect();
        parts.join(", ")
    }
}

impl Sums {
    fn means(&self, batches: u32) -> Vec<f64> {
        let batches = f64::from(batches.max(1));
        self.sums.iter().map(|sum| sum / batches).collect()
    }
}
