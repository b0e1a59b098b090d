//! Layers from the nodes of a network.

use super::activation::{Activation, Copy, Dropout};
use super::batch_norm::{Attributes, BatchNorm};
use super::combine::{Concat, Eltwise, Slice};
use super::convolution::Convolution;
use super::inner_product::InnerProduct;
use super::layer::Layer;
use super::loss::Loss;
use super::lrn::Lrn;
use super::pooling::Pooling;
use super::reference::Reference;
use super::scale::{PRelu, Scale};
use super::softmax::Softmax;
use super::winograd::Winograd;
use crate::net::Net;
use skimjit_caffe::proto::Phase;
use skimjit_models::ops::{self, PostOps};
use skimjit_models::{Error, Node, Op, Result, Shape};

/// Makes the layers of a network, one after the other.
pub struct Maker<'a> {
    net: &'a Net,
    dropouts: u64,
}

impl<'a> Maker<'a> {
    /// For a network.
    pub fn new(net: &'a Net) -> Self {
        Self { net, dropouts: 0 }
    }

    /// The layer of a node.
    pub fn make(&mut self, index: usize) -> Result<Box<dyn Layer>> {
        let net = self.net;
        let node = &net.graph.nodes[index];
        let shapes: Vec<&Shape> = node.inputs.iter().map(|&id| net.graph.shape(id)).collect();
        let output = net.graph.shape(node.output);
        Ok(match &node.op {
            Op::Convolution(op) => {
                plain(&op.post)?;
                Box::new(Convolution::new(op, shapes[0], output))
            }
            Op::Deconvolution(op) => Box::new(Convolution::transposed(op, shapes[0], output)),
            Op::WinogradConvolution(op) => Box::new(Winograd::new(op, shapes[0], output)?),
            Op::InnerProduct(op) => {
                plain(&op.post)?;
                Box::new(InnerProduct::new(op, shapes[0]))
            }
            Op::Pooling(op) if !op.mask => {
                let draws = draws(net, node).then_some(index as u64);
                Box::new(Pooling::new(op, shapes[0], output, draws))
            }
            Op::Activation(op) => Box::new(Activation::new(op)),
            Op::PRelu(op) => Box::new(PRelu::new(shapes[0], net.graph.weight(op.slope).shape())),
            Op::Lrn(op) => Box::new(Lrn::new(op, shapes[0])),
            Op::BatchNorm(_) => {
                let attributes = norm(net, node).unwrap_or_default();
                Box::new(BatchNorm::new(&attributes, shapes[0]))
            }
            Op::Scale(op) => {
                let weight = op.scale.or(op.bias).map(|id| net.graph.weight(id).shape());
                Box::new(Scale::new(op, shapes[0], shapes.get(1).copied(), weight))
            }
            Op::Eltwise(op) => {
                plain(&op.post)?;
                Box::new(Eltwise::new(&op.op))
            }
            Op::Concat { axis } => Box::new(Concat::new(*axis, &shapes)),
            Op::Slice(op) => Box::new(Slice::new(op, shapes[0])),
            Op::Flatten { .. } | Op::Reshape(_) => Box::new(Copy),
            Op::Identity => self.identity(node)?,
            Op::Softmax { axis } => {
                let passes = feeds_softmax_loss(net, node)?;
                Box::new(Softmax::new(*axis, shapes[0], passes))
            }
            Op::Loss(kind) => {
                let shapes = shapes.into_iter().cloned().collect();
                Box::new(Loss::new(kind, shapes, net.graph.weights.clone()))
            }
            op => {
                let shapes = shapes.into_iter().cloned().collect();
                let weights = net.graph.weights.clone();
                Box::new(Reference::new(op.clone(), shapes, output.clone(), weights))
            }
        })
    }

    /// Dropout in training; otherwise a copy.
    fn identity(&mut self, node: &Node) -> Result<Box<dyn Layer>> {
        let Some(ratio) = dropout(self.net, node) else {
            return Ok(Box::new(Copy));
        };
        if !(0.0..1.0).contains(&ratio) {
            return Err(Error::new(ratio.to_string())
                .field("dropout_param.dropout_ratio")
                .expected("0 or more and less than 1"));
        }
        self.dropouts += 1;
        Ok(Box::new(Dropout::new(ratio, self.dropouts)))
    }
}

/// True when the result is that of a SoftmaxWithLoss, whose gradient is that of the scores.
pub fn feeds_softmax_loss(net: &Net, node: &Node) -> Result<bool> {
    let graph = &net.graph;
    let takes = |other: &&Node| other.inputs.first() == Some(&node.output);
    let is_loss = |other: &Node| matches!(other.op, Op::Loss(ops::Loss::SoftmaxWithLoss { .. }));
    let consumers: Vec<&Node> = graph.nodes.iter().filter(takes).collect();
    let losses = consumers.iter().filter(|other| is_loss(other)).count();
    let trained = |other: &Node| {
        net.losses.iter().any(|&(id, _)| id == other.output) || matches!(other.op, Op::Loss(_))
    };
    let others = consumers
        .iter()
        .filter(|other| !is_loss(other) && trained(other))
        .count();
    if losses > 1 || (losses == 1 && others > 0) {
        return Err(Error::new("probabilities that several losses take")
            .expected("one loss for each SoftmaxWithLoss")
            .hint("add a Softmax layer for the other loss"));
    }
    Ok(losses == 1)
}

/// What a BatchNorm does, as its definition and the phase say.
pub fn norm(net: &Net, node: &Node) -> Option<Attributes> {
    let Op::BatchNorm(op) = &node.op else {
        return None;
    };
    let param = net
        .layer_of(node)
        .and_then(|layer| layer.batch_norm_param.clone())
        .unwrap_or_default();
    let training = net.phase == Phase::Train;
    Some(Attributes {
        eps: op.eps,
        fraction: param.moving_average_fraction(),
        global: op.statistics.is_some() && param.use_global_stats.unwrap_or(!training),
        training,
    })
}

/// True for a pooling that draws: STOCHASTIC, in training.
pub fn draws(net: &Net, node: &Node) -> bool {
    net.phase == Phase::Train && net.layer_of(node).is_some_and(crate::net::draws)
}

/// Share of elements that a Dropout layer drops; `None` for other layers, and in tests.
pub fn dropout(net: &Net, node: &Node) -> Option<f32> {
    let layer = net.layer_of(node)?;
    let drops = layer.r#type() == "Dropout" && net.phase == Phase::Train;
    let param = layer.dropout_param.clone().unwrap_or_default();
    drops.then(|| param.dropout_ratio())
}

/// Refuses SkimCaffe's fused layers, which have no gradient there either.
fn plain(post: &PostOps) -> Result<()> {
    match post.relu {
        None => Ok(()),
        Some(_) => Err(Error::new("a fused layer type, which is for inference")
            .field("type")
            .expected("the plain type, followed by ReLU and Pooling layers")),
    }
}
