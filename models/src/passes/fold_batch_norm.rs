//! Folds BatchNorm, Scale and Bias into the layer before them.

use super::dead;
use super::uses::Uses;
use crate::ops::{Activation, PostOps, Scale};
use crate::{Graph, Node, Op, Shape, Tensor, ValueId, WeightId};

/// Folds chains of BatchNorm (running statistics), Scale and Bias with one weight per channel into
/// the convolution, deconvolution or inner product before them. A chain behind anything else
/// becomes one Scale. Values in between must be no outputs and have no other reader.
///
/// Factors are combined in `f64` and each weight is rounded once. A weight of exactly zero stays
/// zero, so that a pruned pattern survives. New tensors are made, so that other nodes that share the
/// old ones are not affected. A chain with factors or weights that are not finite is left alone.
#[must_use]
pub fn run(graph: Graph) -> Graph {
    let mut graph = fold_bias_of_rows(graph);
    let uses = Uses::of(&graph);
    let mut visited = vec![false; graph.nodes.len()];
    let mut removed = vec![false; graph.nodes.len()];
    for start in 0..graph.nodes.len() {
        if visited[start] {
            continue;
        }
        let (chain, affine) = chain_from(&graph, &uses, start);
        chain.iter().for_each(|&index| visited[index] = true);
        let Some(affine) = affine.filter(Affine::is_finite) else {
            continue;
        };
        let input = graph.nodes[start].inputs[0];
        let base = uses
            .producer(input)
            .filter(|_| uses.only_reader(input) == Some(start));
        let output = graph.nodes[chain[chain.len() - 1]].output;
        if base.is_some_and(|base| fold(&mut graph, base, &affine, output)) {
            chain.iter().for_each(|&index| removed[index] = true);
        } else if collapse(&mut graph, &chain, &affine, output) {
            chain[1..].iter().for_each(|&index| removed[index] = true);
        }
    }
    let mut removed = removed.into_iter();
    graph.nodes.retain(|_| removed.next() == Some(false));
    dead(graph)
}

/// Gives inner products over the last of several axes the offset behind them.
fn fold_bias_of_rows(mut graph: Graph) -> Graph {
    let uses = Uses::of(&graph);
    let mut removed = vec![false; graph.nodes.len()];
    for (index, removed) in removed.iter_mut().enumerate() {
        let node = &graph.nodes[index];
        let (Op::Scale(scale), &[y]) = (&node.op, node.inputs.as_slice()) else {
            continue;
        };
        let (None, Some(bias), axis) = (scale.scale, scale.bias, scale.axis) else {
            continue;
        };
        let (output, only) = (node.output, uses.only_reader(y));
        let Some(base) = uses.producer(y).filter(|_| only == Some(index)) else {
            continue;
        };
        let dims = graph.weight(bias).shape().dims().to_vec();
        let base = &mut graph.nodes[base];
        if let Op::InnerProduct(op) = &mut base.op
            && op.bias.is_none()
            && op.post == PostOps::default()
            && op.axis == axis
            && dims == [op.outputs]
        {
            op.bias = Some(bias);
            base.output = output;
            *removed = true;
        }
    }
    let mut removed = removed.into_iter();
    graph.nodes.retain(|_| removed.next() == Some(false));
    dead(graph)
}

/// The nodes from `start` on that are affine and only feed each other, and what they do together.
/// When `start` itself is not affine: that node and `None`.
fn chain_from(graph: &Graph, uses: &Uses, start: usize) -> (Vec<usize>, Option<Affine>) {
    let mut chain = vec![start];
    let mut affine = Affine::of(graph, &graph.nodes[start]);
    let mut last = start;
    while let Some(so_far) = &affine {
        let Some(next) = uses.only_reader(graph.nodes[last].output) else {
            break;
        };
        let Some(then) = Affine::of(graph, &graph.nodes[next]) else {
            break;
        };
        affine = Some(so_far.then(&then));
        chain.push(next);
        last = next;
    }
    (chain, affine)
}

/// y = factor·x + offset per channel (axis 1).
struct Affine {
    factor: Vec<f64>,
    offset: Vec<f64>,
}

impl Affine {
    /// What the node does to its operand, if that is an affine function with constant factors.
    fn of(graph: &Graph, node: &Node) -> Option<Self> {
        let &[input] = node.inputs.as_slice() else {
            return None;
        };
        let channels = *graph.shape(input).dims().get(1)? as usize;
        match &node.op {
            Op::BatchNorm(op) if op.uses_running() => {
                let statistics = (0..channels).map(|c| op.running_statistics(&graph.weights, c));
                let normalise = |[mean, variance]: [f64; 2]| {
                    let factor = 1.0 / (variance + f64::from(op.eps)).sqrt();
                    (factor, -mean * factor)
                };
                let (factor, offset) = statistics.map(normalise).unzip();
                Some(Self { factor, offset })
            }
            Op::Scale(op) if op.axis == 1 && !op.add_operand => {
                let values = |id: Option<WeightId>, default: f64| match id {
                    None => Some(vec![default; channels]),
                    Some(id) => {
                        let weight = graph.weight(id);
                        let per_channel = weight.shape().dims() == [channels as u32];
                        per_channel.then(|| weight.data().iter().map(|&w| w.into()).collect())
                    }
                };
                Some(Self {
                    factor: values(op.scale, 1.0)?,
                    offset: values(op.bias, 0.0)?,
                })
            }
            &Op::Activation(Activation::Power {
                power: 1.0,
                scale,
                shift,
            }) => Some(Self {
                factor: vec![scale.into(); channels],
                offset: vec![shift.into(); channels],
            }),
            _ => None,
        }
    }

    /// This function, then another.
    fn then(&self, other: &Self) -> Self {
        let second = || other.factor.iter().zip(&other.offset);
        let factor = self
            .factor
            .iter()
            .zip(second())
            .map(|(a, (b, _))| a * b)
            .collect();
        let offset = self
            .offset
            .iter()
            .zip(second())
            .map(|(a, (b, c))| a * b + c)
            .collect();
        Self { factor, offset }
    }

    fn is_finite(&self) -> bool {
        self.factor
            .iter()
            .chain(&self.offset)
            .all(|x| x.is_finite())
    }
}

/// Folds `affine` into node `base`, which then computes `output`. False, and nothing changed, when
/// the node cannot take it.
fn fold(graph: &mut Graph, base: usize, affine: &Affine, output: ValueId) -> bool {
    let mut op = graph.nodes[base].op.clone();
    let Some(channel_of) = channel_of(&op, graph) else {
        return false;
    };
    let (weights, bias) = match &mut op {
        Op::Convolution(op) | Op::Deconvolution(op) => (&mut op.weights, &mut op.bias),
        Op::InnerProduct(op) => (&mut op.weights, &mut op.bias),
        _ => return false,
    };
    let old = graph.weight(*weights);
    let scaled = old.map(|index, w| match w {
        0.0 => w,
        _ => (f64::from(w) * affine.factor[channel_of(index)]) as f32,
    });
    let old_bias = |o: usize| bias.map_or(0.0, |id| f64::from(graph.weight(id).data()[o]));
    let both = affine.factor.iter().zip(&affine.offset).enumerate();
    let moved = both
        .map(|(o, (factor, offset))| old_bias(o) * factor + offset)
        .collect();
    let Some(moved) = channel_tensor(moved) else {
        return false;
    };
    if !scaled.stored().iter().all(|w| w.is_finite()) {
        return false;
    }
    // A Bias layer alone leaves the weights as they are, shared or not.
    if affine.factor.iter().any(|&factor| factor != 1.0) {
        *weights = graph.add_weight(scaled);
    }
    *bias = Some(graph.add_weight(moved));
    graph.nodes[base].op = op;
    graph.nodes[base].output = output;
    true
}

/// Output channel that the weight element of an index belongs to, for ops that a factor per output
/// channel can be folded into.
fn channel_of(op: &Op, graph: &Graph) -> Option<Box<dyn Fn(usize) -> usize>> {
    let none = PostOps::default();
    match op {
        Op::Convolution(op) if op.post == none => {
            let row = graph.weight(op.weights).shape().count() / op.oc as usize;
            Some(Box::new(move |index| index / row))
        }
        Op::Deconvolution(op) if op.post == none => {
            let [ic, group_oc, kh, kw] =
                [0, 1, 2, 3].map(|axis| graph.weight(op.weights).shape().dim(axis) as usize);
            let group_ic = ic / op.groups as usize;
            Some(Box::new(move |index| {
                let (c, o) = (index / (group_oc * kh * kw), index / (kh * kw) % group_oc);
                c / group_ic * group_oc + o
            }))
        }
        // With another axis the outputs would not be axis 1 of the result.
        Op::InnerProduct(op) if op.post == none && op.axis == 1 => {
            let outputs = op.outputs as usize;
            let row = graph.weight(op.weights).shape().count() / outputs;
            let transpose = op.transpose;
            Some(Box::new(move |index| {
                if transpose {
                    index % outputs
                } else {
                    index / row
                }
            }))
        }
        _ => None,
    }
}

/// Replaces a chain by one Scale at its first node, unless it is a single one already.
fn collapse(graph: &mut Graph, chain: &[usize], affine: &Affine, output: ValueId) -> bool {
    if chain.len() == 1 && matches!(graph.nodes[chain[0]].op, Op::Scale(_) | Op::Activation(_)) {
        return false;
    }
    let tensors = [&affine.factor, &affine.offset].map(|values| channel_tensor(values.clone()));
    let [Some(factor), Some(offset)] = tensors else {
        return false;
    };
    let (scale, bias) = (
        Some(graph.add_weight(factor)),
        Some(graph.add_weight(offset)),
    );
    let first = &mut graph.nodes[chain[0]];
    first.op = Op::Scale(Scale {
        axis: 1,
        scale,
        bias,
        add_operand: false,
    });
    first.output = output;
    true
}

/// One rounded value per channel, when all are finite.
fn channel_tensor(values: Vec<f64>) -> Option<Tensor> {
    let shape = Shape::new([u32::try_from(values.len()).ok()?]).ok()?;
    let values: Vec<f32> = values.into_iter().map(|x| x as f32).collect();
    values
        .iter()
        .all(|x| x.is_finite())
        .then(|| Tensor::new(shape, values))
}
