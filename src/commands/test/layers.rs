//! What each layer of a network cost.

use crate::support::times::Times;
use serde::Serialize;
use skimjit::{Engine, Model};
use skimjit_models::{Graph, Node, Op, Shape, passes};
use std::collections::HashSet;

/// A layer.
#[derive(Serialize)]
pub struct Layer {
    pub layer: String,
    pub kind: &'static str,
    /// Kernel, or what became of the layer.
    pub kernel: String,
    /// Time of a batch: thread time over threads.
    pub time_ms: f64,
    /// Of the forwarding time.
    pub share: f64,
    #[serde(flatten)]
    pub work: Option<Work>,
}

/// Speed of a layer that multiplies.
#[derive(Serialize)]
pub struct Work {
    /// Thousand cycles of the slowest thread, per image.
    pub kilocycles_per_image: f64,
    /// As if every weight took part, a multiply-add counting two.
    pub mflop_per_image: f64,
    /// Of the weights that are not zero.
    pub mflop_nonzero_per_image: f64,
    pub dense_equivalent_gflops: f64,
    pub gflops: f64,
}

/// What was run, and how long it took.
pub struct Measured<'a> {
    pub model: &'a Model,
    pub engine: &'a Engine,
    /// Sums over `batches`.
    pub times: &'a Times,
    pub batches: u32,
    pub clock_hz: f64,
}

impl Measured<'_> {
    /// Every layer of the network in its order, those without time of their own included.
    pub fn layers(&self) -> Vec<Layer> {
        let graph = self.model.graph();
        let needed: HashSet<String> = {
            let graph = passes::dead(graph.clone());
            graph.nodes.into_iter().map(|node| node.name).collect()
        };
        let planned = self.engine.graph();
        let line = |node: &Node| {
            let mut nodes = planned.nodes.iter();
            match nodes.position(|planned| planned.name == node.name) {
                Some(index) => self.planned(index),
                None => self.absent(node, graph, !needed.contains(&node.name)),
            }
        };
        graph.nodes.iter().map(line).collect()
    }

    /// Time of copies between layouts that belong to no layer, per batch.
    pub fn copies_ms(&self) -> f64 {
        self.thread_ms(self.sum(&self.times.steps, None))
    }

    /// Thread time outside of all steps, per batch.
    pub fn outside_ms(&self) -> f64 {
        self.thread_ms(self.times.outside)
    }

    /// Elapsed time of a batch.
    pub fn total_ms(&self) -> f64 {
        self.times.wall as f64 / 1e6 / f64::from(self.batches.max(1))
    }

    /// Work of all layers together, in the elapsed time.
    pub fn total_work(&self) -> Work {
        let graph = self.engine.graph();
        let images = self.engine.plan().batch as u64;
        let macs = graph.nodes.iter().map(|node| macs(graph, node, images));
        let [all, nonzero] = macs.fold([0, 0], |sum, macs| [sum[0] + macs[0], sum[1] + macs[1]]);
        self.work([all, nonzero], self.times.wall)
    }

    fn thread_ms(&self, ns: u64) -> f64 {
        let threads = self.engine.threads() as f64;
        ns as f64 / 1e6 / threads / f64::from(self.batches.max(1))
    }

    /// Sum over the steps of a planned node.
    fn sum(&self, times: &[u64], node: Option<usize>) -> u64 {
        let segments = self.engine.plan().segments.iter();
        let steps = segments.flat_map(|segment| &segment.steps);
        let own = steps.zip(times).filter(|(step, _)| step.node == node);
        own.map(|(_, time)| time).sum()
    }

    fn planned(&self, index: usize) -> Layer {
        let graph = self.engine.graph();
        let node = &graph.nodes[index];
        let mut choices = self.engine.plan().choices.iter();
        let choice = choices.find(|choice| choice.layer == node.name);
        let kernel = match choice.map(|choice| choice.variant.as_str()) {
            Some("fused") => match last_operand(graph, node) {
                Some(name) => format!("in {name}"),
                None => "fused".to_owned(),
            },
            Some(variant) => variant.to_owned(),
            None => String::new(),
        };
        let time_ms = self.thread_ms(self.sum(&self.times.steps, Some(index)));
        let longest = self.sum(&self.times.longest, Some(index));
        let macs = macs(graph, node, self.engine.plan().batch as u64);
        Layer {
            layer: node.name.clone(),
            kind: node.op.name(),
            kernel,
            time_ms,
            share: self.share(time_ms),
            work: (macs[0] > 0).then(|| self.work(macs, longest)),
        }
    }

    fn share(&self, time_ms: f64) -> f64 {
        time_ms / self.total_ms().max(f64::MIN_POSITIVE)
    }

    /// Speed of multiply-adds of one image (all, and those not with zero weights), given the time of
    /// all images.
    fn work(&self, [macs, nonzero]: [u64; 2], ns: u64) -> Work {
        let images = self.engine.plan().batch as f64 * f64::from(self.batches.max(1));
        let seconds = (ns as f64 / 1e9).max(f64::MIN_POSITIVE) / images;
        let flop = |macs: u64| 2.0 * macs as f64;
        Work {
            kilocycles_per_image: seconds * self.clock_hz / 1e3,
            mflop_per_image: flop(macs) / 1e6,
            mflop_nonzero_per_image: flop(nonzero) / 1e6,
            dense_equivalent_gflops: flop(macs) / seconds / 1e9,
            gflops: flop(nonzero) / seconds / 1e9,
        }
    }

    /// A layer that the passes took out.
    fn absent(&self, node: &Node, graph: &Graph, unneeded: bool) -> Layer {
        let kernel = match &node.op {
            _ if unneeded => "left out: no output needs it".to_owned(),
            Op::Identity | Op::Dropout { .. } => "left out: a copy".to_owned(),
            _ => match self.absorber(node, graph) {
                Some(name) => format!("in {name}"),
                None => "left out".to_owned(),
            },
        };
        Layer {
            layer: node.name.clone(),
            kind: node.op.name(),
            kernel,
            time_ms: 0.0,
            share: 0.0,
            work: None,
        }
    }

    /// The layer before it that does its work too.
    fn absorber(&self, node: &Node, graph: &Graph) -> Option<String> {
        let planned = &self.engine.graph().nodes;
        let mut node = node;
        while let Some(&input) = node.inputs.first() {
            node = graph.nodes.iter().find(|node| node.output == input)?;
            if planned.iter().any(|planned| planned.name == node.name) {
                return Some(node.name.clone());
            }
        }
        None
    }
}

/// Multiply-adds of one image: all, and those not with zero weights.
fn macs(graph: &Graph, node: &Node, images: u64) -> [u64; 2] {
    let shapes: Vec<&Shape> = node.inputs.iter().map(|&id| graph.shape(id)).collect();
    let macs = node.op.macs(&shapes, &graph.weights) / images.max(1);
    let density = node.op.weights().first().map_or(1.0, |&id| {
        let weights = graph.weight(id).data();
        let nonzero = weights.iter().filter(|&&weight| weight != 0.0).count();
        nonzero as f64 / weights.len().max(1) as f64
    });
    [macs, (macs as f64 * density).round() as u64]
}

/// The operand of a node that is computed last.
fn last_operand<'g>(graph: &'g Graph, node: &Node) -> Option<&'g str> {
    let mut nodes = graph.nodes.iter().rev();
    let last = nodes.find(|earlier| node.inputs.contains(&earlier.output));
    last.map(|node| node.name.as_str())
}
