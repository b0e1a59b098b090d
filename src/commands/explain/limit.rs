//! What the machine allows at best.

use serde::Serialize;
use skimjit::Engine;
use skimjit_models::{Graph, Node, Op};
use skimjit_runtime::Choice;
use skimjit_runtime::jit::CpuInfo;
use skimjit_runtime::machine::Peak;

/// Bytes of a weight of a dense layer.
const DENSE_BYTES: f64 = 4.0;
/// Bytes of a non-zero of a pruned layer: the value and two bytes of position.
const SPARSE_BYTES: f64 = 6.0;
/// Where the CPU does not tell the size of its last-level cache.
const USUAL_L3_BYTES: u64 = 16 << 20;

/// How fast all threads together are at best.
pub struct Speeds {
    /// Of one core.
    pub peak: Peak,
    /// Arithmetic, GFLOP/s.
    pub gflops: f64,
    /// Where the weights come from: memory, or the last-level cache if they fit there. GB/s.
    pub weight_gbps: f64,
    /// Last-level cache, GB/s.
    pub activation_gbps: f64,
    batch: f64,
}

/// Shortest possible times of one batch of a layer.
#[derive(Clone, Copy, Default, Serialize)]
pub struct Limit {
    /// Multiply-adds with weights other than zero.
    pub compute_ms: f64,
    /// Weights and activations.
    pub bytes: u64,
    /// Reading and writing them.
    pub bytes_ms: f64,
    /// The longer one.
    pub limit_ms: f64,
    /// Which one that is.
    pub bound: Bound,
}

/// What limits a layer.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    /// Nothing is computed.
    #[default]
    Nothing,
    /// Arithmetic.
    Compute,
    /// Memory or caches.
    Bytes,
}

impl Speeds {
    pub fn new(engine: &Engine, peak: Peak) -> Self {
        let threads = engine.threads() as f64;
        let choices = engine.plan().choices.iter();
        let total: f64 = choices
            .map(|choice| weight_bytes(weights(engine.graph(), &choice.layer), choice.density))
            .sum();
        let l3 = CpuInfo::query().l3_bytes.unwrap_or(USUAL_L3_BYTES);
        let cached = peak.cache_gbps * threads;
        // Threads share the way to memory.
        let near = total <= l3 as f64 / 2.0;
        Self {
            peak,
            gflops: peak.gflops * threads,
            weight_gbps: if near { cached } else { peak.read_gbps },
            activation_gbps: cached,
            batch: engine.plan().batch as f64,
        }
    }

    pub fn limit(&self, engine: &Engine, choice: &Choice) -> Limit {
        let graph = engine.graph();
        let node = graph.nodes.iter().find(|node| node.name == choice.layer);
        let idle = matches!(choice.variant.as_str(), "view" | "fused");
        let Some(node) = node.filter(|_| !idle) else {
            return Limit::default();
        };
        let read = weight_bytes(weights(graph, &choice.layer), choice.density);
        self.of(
            choice.macs_nonzero as f64,
            read,
            activation_bytes(graph, node),
        )
    }

    /// The limit of that many multiply-adds of an image and bytes of a batch.
    fn of(&self, macs: f64, weight_bytes: f64, activation_bytes: f64) -> Limit {
        let compute_ms = 2.0 * macs * self.batch / (self.gflops * 1e6);
        let bytes_ms = weight_bytes / (self.weight_gbps * 1e6)
            + activation_bytes / (self.activation_gbps * 1e6);
        Limit {
            compute_ms,
            bytes: (weight_bytes + activation_bytes) as u64,
            bytes_ms,
            limit_ms: compute_ms.max(bytes_ms),
            bound: if compute_ms >= bytes_ms {
                Bound::Compute
            } else {
                Bound::Bytes
            },
        }
    }

    /// What the limit becomes when a layer of that density is pruned to another.
    pub fn pruned(&self, limit: &Limit, macs: u64, weights: usize, density: [f64; 2]) -> Limit {
        let [from, to] = density;
        let activations = limit.bytes as f64 - weight_bytes(weights, Some(from));
        self.of(
            macs as f64 * to,
            weight_bytes(weights, Some(to)),
            activations.max(0.0),
        )
    }
}

/// Weights of a layer that can be pruned.
pub fn weights(graph: &Graph, layer: &str) -> usize {
    let node = graph.nodes.iter().find(|node| node.name == layer);
    let id = node.and_then(|node| match &node.op {
        Op::Convolution(op) | Op::Deconvolution(op) => Some(op.weights),
        Op::InnerProduct(op) => Some(op.weights),
        _ => None,
    });
    id.map_or(0, |id| graph.weight(id).shape().count())
}

fn weight_bytes(count: usize, density: Option<f64>) -> f64 {
    let count = count as f64;
    match density {
        Some(density) if density < 1.0 => {
            // Where few are zero, storing all of them takes less.
            count * (density * SPARSE_BYTES).min(DENSE_BYTES)
        }
        _ => count * DENSE_BYTES,
    }
}

fn activation_bytes(graph: &Graph, node: &Node) -> f64 {
    let operands = node.inputs.iter().chain([&node.output]);
    operands
        .map(|&id| graph.shape(id).count() as f64 * 4.0)
        .sum()
}
