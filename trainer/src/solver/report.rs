//! What a run tells: lines as SkimCaffe's log has them, and metrics for programs.

use crate::engine::{self, Engine, NetId};
use crate::prune::sparsity::Sparsity;
use serde::{Deserialize, Serialize};

/// Takes what a run tells.
pub trait Report {
    /// A line of the log, or several joined by newlines.
    fn line(&mut self, text: &str);
    /// A record of the metrics.
    fn metrics(&mut self, metrics: &Metrics);
    /// After every iteration.
    fn progress(&mut self, progress: &Progress);
}

/// Where a run is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Iterations done.
    pub iteration: u64,
    /// Iterations in all.
    pub max_iter: u64,
    /// Smoothed loss.
    pub loss: f32,
    /// Learning rate.
    pub rate: f32,
}

/// An element of a network's result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// Blob.
    pub name: String,
    /// Value: the mean over the batches of a test.
    pub value: f64,
    /// Weight in the loss, if it has one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub loss_weight: Option<f32>,
}

/// Elements of the results of a network, in Caffe's order.
pub fn outputs(engine: &dyn Engine, id: NetId) -> Vec<Output> {
    let net = engine.net(id);
    let mut all = Vec::new();
    for &output in &net.graph.outputs {
        let weight = net
            .training
            .losses
            .iter()
            .find(|(id, _)| *id == output)
            .map(|(_, weight)| *weight);
        let name = &net.graph.value(output).name;
        all.extend(engine.value(id, output).into_iter().map(|value| Output {
            name: name.clone(),
            value: f64::from(value),
            loss_weight: weight,
        }));
    }
    all
}

/// Means over the batches of a test.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Judgement {
    /// Of each element of the results.
    pub outputs: Vec<Output>,
    /// Of the weighted sum of the losses.
    pub loss: f64,
}

impl Judgement {
    /// Adds what the last forward run of a network came to.
    pub fn add(&mut self, engine: &dyn Engine, id: NetId) {
        self.loss += f64::from(engine::loss(engine, id));
        let outputs = outputs(engine, id);
        if self.outputs.is_empty() {
            self.outputs = outputs;
        } else {
            let all = self.outputs.iter_mut().zip(outputs);
            all.for_each(|(sum, output)| sum.value += output.value);
        }
    }
    /// Makes means of the sums over so many runs.
    pub fn divide(&mut self, runs: f64) {
        self.loss /= runs;
        self.outputs.iter_mut().for_each(|sum| sum.value /= runs);
    }
}

/// A record: one line of JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Metrics {
    /// A displayed iteration; parameters are those before its update.
    Train {
        /// Iteration.
        iteration: u64,
        /// Smoothed loss.
        loss: f64,
        /// Learning rate.
        rate: f64,
        /// Regularisation terms.
        regularization: f64,
        /// Results of the last batch.
        outputs: Vec<Output>,
        /// Per parameter.
        sparsity: Vec<Sparsity>,
        /// Zeros of all of them, in percent.
        total_sparsity: f64,
        /// Since the start of the run.
        seconds: f64,
    },
    /// A test.
    Test {
        /// Iteration.
        iteration: u64,
        /// Number of the test network.
        net: usize,
        /// Means.
        outputs: Vec<Output>,
        /// Loss, when it was computed.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        loss: Option<f64>,
    },
    /// A snapshot was written.
    Snapshot {
        /// Iteration.
        iteration: u64,
        /// The caffemodel.
        file: String,
    },
    /// What a pruning method did.
    Event {
        /// Iteration.
        iteration: u64,
        /// What.
        text: String,
        /// Numbers that belong to it.
        #[serde(skip_serializing_if = "serde_json::Value::is_null", default)]
        values: serde_json::Value,
    },
}

/// Tells nothing.
pub struct Silent;

impl Report for Silent {
    fn line(&mut self, _text: &str) {}
    fn metrics(&mut self, _metrics: &Metrics) {}
    fn progress(&mut self, _progress: &Progress) {}
}
