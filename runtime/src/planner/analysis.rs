//! What there is to know of a network before any kernel is: which nodes follow each other image by image,
//! how values lie in memory, and what nodes leave to others.

use crate::buffers::{Form, Home};
use crate::plan::{Basis, Choice, MOST_PORTS, Port};
use crate::session::finite;
use crate::{Options, PlanError};
use skimjit_kernels::{Planes, limits};
use skimjit_models::ops::EltwiseOp;
use skimjit_models::{Graph, Op, Shape, ValueId, ops};
use std::collections::HashMap;

/// What the planner knows about a value.
#[derive(Clone, Copy)]
pub(super) struct ValueInfo {
    /// Natural form.
    pub form: Form,
    /// Arena.
    pub home: Home,
    /// Layout of that form for one image (rows: as one array).
    pub planes: Planes,
}

/// See the module.
pub(super) struct Analysis<'g> {
    pub graph: &'g Graph,
    pub batch: u32,
    /// Segment of each node.
    pub segment_of: Vec<usize>,
    /// Segments that are computed image by image.
    pub per_image: Vec<bool>,
    /// Nodes whose result depends on the whole batch.
    pub coupled: Vec<bool>,
    values: Vec<ValueInfo>,
    /// Concat that a value is a part of: the result and the first channel.
    pub parent: HashMap<ValueId, (ValueId, u32)>,
    /// Of convolutions that also do the sum behind them: that sum; and of those sums: the convolution.
    fused: Vec<Option<usize>>,
    /// Nodes that read each value.
    pub readers: Vec<Vec<usize>>,
    /// Weights that are all finite numbers.
    finite_weights: Vec<bool>,
}

impl<'g> Analysis<'g> {
    pub fn of(graph: &'g Graph, options: &Options) -> Result<Self, PlanError> {
        let batch = graph.inputs.first().map_or(1, |&id| graph.shape(id).dim(0));
        check_sizes(graph, batch)?;
        let coupled = couplings(graph, batch);
        let (segment_of, per_image) = segments(graph, batch, &coupled);
        let mut analysis = Self {
            graph,
            batch,
            segment_of,
            per_image,
            coupled,
            values: Vec::new(),
            parent: HashMap::new(),
            fused: fusible_sums(graph),
            readers: readers(graph),
            finite_weights: options.map(&graph.weights, |weight| finite(weight.stored())),
        };
        analysis.describe_values();
        analysis.find_concats();
        Ok(analysis)
    }

    /// Form, arena and layout of every value.
    fn describe_values(&mut self) {
        let gaps = gaps(self.graph);
        let values = self.graph.values.iter().map(|value| &value.shape);
        self.values = values
            .zip(self.homes())
            .map(|(shape, home)| {
                let (c, h, w) = image_dims(shape);
                let planar = shape.rank() == 4 && h * w > 1 && home != Home::Whole;
                let (form, planes) = if planar {
                    let gap = gaps.get(&(h, w)).copied().unwrap_or(0);
                    (Form::Planes, Planes::with_gap(c, h, w, gap))
                } else if home == Home::Whole {
                    (Form::Rows, Planes::compact(shape.count() as u32, 1, 1))
                } else {
                    (Form::Rows, Planes::compact(c, h, w))
                };
                ValueInfo { form, home, planes }
            })
            .collect();
    }

    /// Image arena when producer and consumers are in one per-image segment.
    fn homes(&self) -> Vec<Home> {
        let count = self.graph.values.len();
        let mut touched: Vec<Vec<usize>> = vec![Vec::new(); count];
        let mut whole = vec![false; count];
        for &id in &self.graph.inputs {
            whole[id.0 as usize] = !is_batched(self.graph.shape(id), self.batch);
        }
        for (index, node) in self.graph.nodes.iter().enumerate() {
            touched[node.output.0 as usize].push(self.segment_of[index]);
            for id in &node.inputs {
                touched[id.0 as usize].push(self.segment_of[index]);
            }
            whole[node.output.0 as usize] = self.coupled[index];
        }
        let last = self.per_image.len() - 1;
        // Outputs are stored at the end of the last segment.
        for id in &self.graph.outputs {
            touched[id.0 as usize].push(last);
        }
        (0..count)
            .map(|index| {
                let segments = &touched[index];
                let one = segments.windows(2).all(|pair| pair[0] == pair[1]);
                match (whole[index], one, segments.first()) {
                    (true, ..) => Home::Whole,
                    (_, true, Some(&segment)) if self.per_image[segment] => Home::Image,
                    _ => Home::Batch,
                }
            })
            .collect()
    }

    /// Values that can be written straight into a concatenation along channels.
    fn find_concats(&mut self) {
        for (index, node) in self.graph.nodes.iter().enumerate() {
            if !matches!(node.op, Op::Concat { axis: 1 }) || self.coupled[index] {
                continue;
            }
            let result = self.values[node.output.0 as usize];
            let mut channel = 0;
            for &input in &node.inputs {
                let info = self.values[input.0 as usize];
                let same = info.form == result.form
                    && info.home == result.home
                    && info.planes.pitch == result.planes.pitch;
                let free = !self.parent.contains_key(&input) && !self.graph.inputs.contains(&input);
                if same && free {
                    self.parent.insert(input, (node.output, channel));
                }
                channel += info.planes.c;
            }
        }
    }

    pub fn info(&self, value: ValueId) -> ValueInfo {
        self.values[value.0 as usize]
    }

    pub fn operand(&self, node: usize, index: usize) -> ValueId {
        self.graph.nodes[node].inputs[index]
    }

    pub fn result(&self, node: usize) -> ValueId {
        self.graph.nodes[node].output
    }

    /// An input or output.
    pub fn port(&self, value: ValueId) -> Port {
        let shape = self.graph.shape(value).clone();
        let per_image = self.info(value).home != Home::Whole;
        let images = if per_image { self.batch as usize } else { 1 };
        Port {
            value,
            name: self.graph.value(value).name.clone(),
            elems: shape.count() / images,
            shape,
            per_image,
        }
    }

    /// The sum behind a convolution that does it.
    pub fn fused_sum(&self, conv: usize) -> Option<usize> {
        self.fused[conv].filter(|&sum| sum > conv)
    }

    /// True for a sum that the convolution before it does.
    pub fn is_fused_sum(&self, node: usize) -> bool {
        self.fused[node].is_some_and(|conv| conv < node)
    }

    /// The sum behind a convolution is computed by itself.
    pub fn split_sum(&mut self, conv: usize) {
        if let Some(sum) = self.fused_sum(conv) {
            (self.fused[conv], self.fused[sum]) = (None, None);
        }
    }

    /// What is to be said of a node, but for its kernel.
    pub fn choice(&self, node: usize, variant: &str) -> Choice {
        let graph = self.graph;
        let described = &graph.nodes[node];
        let shapes: Vec<&Shape> = described.inputs.iter().map(|&id| graph.shape(id)).collect();
        let macs = described.op.macs(&shapes, &graph.weights) / u64::from(self.batch.max(1));
        Choice {
            layer: described.name.clone(),
            kind: described.op.name(),
            shape: graph.shape(described.output).to_string(),
            density: None,
            variant: variant.to_owned(),
            basis: Basis::Only,
            candidates: vec![],
            code_bytes: 0,
            weight_bytes: 0,
            build_ns: 0,
            cycles: 0.0,
            macs_nonzero: macs,
            macs,
            rejected: vec![],
        }
    }

    /// True for nodes that are computed image by image.
    pub fn is_per_image(&self, node: usize) -> bool {
        self.per_image[self.segment_of[node]]
    }

    /// True when images are not independent of each other.
    pub fn is_coupled(&self) -> bool {
        let mut inputs = self.graph.inputs.iter();
        self.coupled.contains(&true) || inputs.any(|&id| self.info(id).home == Home::Whole)
    }

    /// Kernels may multiply by the zeros around planes, and what that gives with an infinite weight is no
    /// zero.
    pub fn has_finite_weights(&self, node: usize) -> bool {
        let weights = self.graph.nodes[node].op.weights();
        weights.iter().all(|id| self.finite_weights[id.0 as usize])
    }
}

/// Refuses networks that are too large to be run.
fn check_sizes(graph: &Graph, batch: u32) -> Result<(), PlanError> {
    let ports = graph.inputs.len().max(graph.outputs.len());
    if ports > MOST_PORTS {
        return Err(PlanError::ports(ports));
    }
    for value in &graph.values {
        let images = match is_batched(&value.shape, batch) {
            true => u64::from(batch),
            false => 1,
        };
        if value.shape.count() as u64 / images > limits::OPERAND_ELEMS {
            return Err(PlanError::size(&value.name, &value.shape));
        }
    }
    Ok(())
}

/// True when the first axis is the batch. An input of which it is not belongs to the batch as a whole.
fn is_batched(shape: &Shape, batch: u32) -> bool {
    shape.rank() > 0 && shape.dim(0) == batch
}

/// Nodes whose result depends on the whole batch, directly or through an operand.
fn couplings(graph: &Graph, batch: u32) -> Vec<bool> {
    let batched = |id: &ValueId| is_batched(graph.shape(*id), batch);
    let mut whole = vec![false; graph.values.len()];
    for id in &graph.inputs {
        whole[id.0 as usize] = !batched(id);
    }
    graph
        .nodes
        .iter()
        .map(|node| {
            let shapes: Vec<&Shape> = node.inputs.iter().map(|&id| graph.shape(id)).collect();
            // A batch of one image has nothing to couple.
            let mixes = batch > 1 && !node.op.per_image(&shapes);
            let coupled = mixes
                || !batched(&node.output)
                || node.inputs.iter().any(|id| whole[id.0 as usize]);
            whole[node.output.0 as usize] = coupled;
            coupled
        })
        .collect()
}

/// Smallest weights of an inner product (bytes) that are worth waiting for the whole batch.
const BATCHED_WEIGHTS: usize = 64 << 10;

/// Runs of nodes that are computed image by image or for the whole batch.
fn segments(graph: &Graph, batch: u32, coupled: &[bool]) -> (Vec<usize>, Vec<bool>) {
    let mut per_image = Vec::new();
    let mut segment_of = Vec::new();
    for (node, &coupled) in graph.nodes.iter().zip(coupled) {
        let heavy = match &node.op {
            Op::InnerProduct(op) => {
                batch > 1 && graph.weight(op.weights).shape().count() * 4 >= BATCHED_WEIGHTS
            }
            _ => false,
        };
        let single = !coupled && !heavy;
        if per_image.last() != Some(&single) {
            per_image.push(single);
        }
        segment_of.push(per_image.len() - 1);
    }
    if per_image.is_empty() {
        per_image.push(true);
    }
    (segment_of, per_image)
}

/// Zeros that same-size convolutions read behind planes of each size.
fn gaps(graph: &Graph) -> HashMap<(u32, u32), u32> {
    let mut gaps = HashMap::new();
    for node in &graph.nodes {
        let Op::Convolution(op) = &node.op else {
            continue;
        };
        let (_, h, w) = image_dims(graph.shape(node.inputs[0]));
        let (_, oh, ow) = image_dims(graph.shape(node.output));
        if op.window.stride == [1, 1] && (h, w) == (oh, ow) {
            let gap = gaps.entry((h, w)).or_insert(0);
            *gap = (*gap).max(skimjit_kernels::gap(&op.window, w) as u32);
        }
    }
    gaps
}

/// Sums of two operands that the convolution computing one of them can do, and those convolutions.
fn fusible_sums(graph: &Graph) -> Vec<Option<usize>> {
    let producer: HashMap<ValueId, usize> = graph
        .nodes
        .iter()
        .enumerate()
        .map(|(index, node)| (node.output, index))
        .collect();
    let mut uses: HashMap<ValueId, usize> = HashMap::new();
    let operands = graph
        .nodes
        .iter()
        .flat_map(|node| &node.inputs)
        .chain(&graph.outputs);
    operands.for_each(|&id| *uses.entry(id).or_default() += 1);
    let mut fused = vec![None; graph.nodes.len()];
    for (index, node) in graph.nodes.iter().enumerate() {
        let Op::Eltwise(ops::Eltwise {
            op: EltwiseOp::Sum { coefficients },
            ..
        }) = &node.op
        else {
            continue;
        };
        if node.inputs.len() != 2 || coefficients.iter().any(|&c| c != 1.0) {
            continue;
        }
        // The later operand, if a convolution made it, can add the earlier one.
        let made = |id: &ValueId| producer.get(id).copied();
        let Some(&last) = node.inputs.iter().max_by_key(|&id| made(id)) else {
            continue;
        };
        let Some(conv) = made(&last) else { continue };
        let plain =
            matches!(&graph.nodes[conv].op, Op::Convolution(op) if op.post.activation.is_none());
        let (_, h, w) = image_dims(graph.shape(last));
        if plain && uses[&last] == 1 && node.inputs[0] != node.inputs[1] && h * w > 1 {
            (fused[conv], fused[index]) = (Some(index), Some(conv));
        }
    }
    fused
}

/// Nodes that read each value.
fn readers(graph: &Graph) -> Vec<Vec<usize>> {
    let mut readers = vec![Vec::new(); graph.values.len()];
    for (index, node) in graph.nodes.iter().enumerate() {
        for id in &node.inputs {
            readers[id.0 as usize].push(index);
        }
    }
    readers
}

/// Channels, height and width of one image; further axes count as width.
pub(super) fn image_dims(shape: &Shape) -> (u32, u32, u32) {
    let rank = shape.rank();
    match rank {
        0 | 1 => (1, 1, 1),
        2 => (shape.dim(1), 1, 1),
        3 => (shape.dim(1), 1, shape.dim(2)),
        _ => (shape.dim(1), shape.dim(2), shape.count_of(3, rank) as u32),
    }
}
