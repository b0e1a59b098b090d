//! What the nodes of a network do in training: their ops, with what only the definition, the phase and the
//! neighbours say. Back ends make their layers from it, and so agree on what to compute.

use crate::net::Net;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use skimjit_models::ops::{self, EltwiseOp, PoolMethod, PostOps};
use skimjit_models::{Error, Node, Op, Result, Shape};

/// A node as back ends see it.
#[derive(Clone, Debug)]
pub struct LayerSpec {
    /// What it does.
    pub kind: Kind,
    /// Shapes of the operands.
    pub inputs: Vec<Shape>,
    /// Shape of the result.
    pub output: Shape,
}

/// What a layer does.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Convolution.
    Convolution(ops::Convolution),
    /// Deconvolution.
    Deconvolution(ops::Convolution),
    /// Convolution with weights in the Winograd domain.
    Winograd(ops::WinogradConvolution),
    /// Inner product.
    InnerProduct(ops::InnerProduct),
    /// Pooling.
    Pooling(ops::Pooling),
    /// Pooling that draws one element of each window; the number tells layers apart.
    StochasticPooling(ops::Pooling, u64),
    /// An elementwise function.
    Activation(ops::Activation),
    /// PReLU of so many slopes.
    PRelu(usize),
    /// Local response normalisation.
    Lrn(ops::Lrn),
    /// Batch normalisation.
    BatchNorm(BatchNorm),
    /// Scale and Bias.
    Scale(Scale),
    /// Sum, product or maximum of operands.
    Eltwise(EltwiseOp),
    /// Operands one after the other along an axis.
    Concat(u32),
    /// A part of an axis.
    Slice(ops::Slice),
    /// The same elements, perhaps in another shape.
    Copy,
    /// Dropout in training.
    Dropout(Dropout),
    /// Softmax.
    Softmax {
        /// Axis of the classes.
        axis: u32,
        /// The gradient that arrives is already that of the scores: a SoftmaxWithLoss made it.
        passes_gradient: bool,
    },
    /// A loss.
    Loss(ops::Loss),
    /// Only runs forward, by the reference: Accuracy, ArgMax, constants.
    Reference(Op),
}

/// Batch normalisation with Caffe's running sums.
#[derive(Clone, Copy, Debug)]
pub struct BatchNorm {
    /// Epsilon.
    pub eps: f32,
    /// λ, with which old sums are weighted: `moving_average_fraction`.
    pub fraction: f32,
    /// Statistics are the running ones, not those of the batch.
    pub global: bool,
    /// Statistics are added to the running ones.
    pub training: bool,
}

/// y = x·factor + offset.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// First axis of the shared operands.
    pub axis: usize,
    /// Their elements.
    pub shared: usize,
    /// Where the factor is.
    pub factor: Option<Place>,
    /// Where the offset is.
    pub offset: Option<Place>,
}

/// Where a shared operand is.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// A weight, by its index.
    Weight(usize),
    /// The second operand.
    Operand,
}

/// Dropout: y = x·mask/(1 − ratio).
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    /// Share of elements that are dropped.
    ratio: f32,
    /// Which dropout of the network it is, from 1 on: it chooses the streams of random numbers.
    pub number: u64,
}

impl Dropout {
    /// Elements that are drawn from one stream of random numbers.
    pub const CHUNK: usize = 1 << 14;

    /// Numbers below it drop their element.
    pub fn limit(&self) -> u64 {
        (f64::from(self.ratio) * 2f64.powi(32)) as u64
    }
    /// Factor of elements that stay.
    pub fn kept(&self) -> f32 {
        1.0 / (1.0 - self.ratio)
    }
    /// What a turn's numbers are drawn from.
    pub fn random(turn: u64) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(turn)
    }
}

impl LayerSpec {
    /// Of all nodes of a network, in the order of its graph.
    pub fn all(net: &Net) -> Result<Vec<Self>> {
        let mut dropouts = 0;
        let nodes = net.graph.nodes.iter().enumerate();
        let spec = |(index, node): (usize, &Node)| {
            let shape = |&id| net.graph.shape(id).clone();
            let kind = Kind::of(net, index, &mut dropouts);
            Ok(Self {
                kind: kind.map_err(|error: Error| error.layer(node.name.clone()))?,
                inputs: node.inputs.iter().map(shape).collect(),
                output: shape(&node.output),
            })
        };
        nodes.map(spec).collect()
    }
}

impl Kind {
    fn of(net: &Net, index: usize, dropouts: &mut u64) -> Result<Self> {
        let node = &net.graph.nodes[index];
        Ok(match &node.op {
            Op::Convolution(op) => {
                plain(&op.post)?;
                Self::Convolution(op.clone())
            }
            Op::Deconvolution(op) => Self::Deconvolution(op.clone()),
            Op::WinogradConvolution(op) => Self::Winograd(op.clone()),
            Op::InnerProduct(op) => {
                plain(&op.post)?;
                Self::InnerProduct(op.clone())
            }
            Op::Pooling(op) if is_plain_pooling(op) => match net.training.draws.contains(&index) {
                true => Self::StochasticPooling(op.clone(), index as u64),
                false => Self::Pooling(op.clone()),
            },
            Op::Activation(op) => Self::Activation(*op),
            Op::PRelu(op) => Self::PRelu(net.graph.weight(op.slope).shape().count()),
            Op::Lrn(op) => Self::Lrn(op.clone()),
            Op::BatchNorm(op) => Self::BatchNorm(batch_norm(net, op)),
            Op::Scale(op) if is_plain_scale(net, node, op) => Self::Scale(scale(net, node, op)),
            Op::Eltwise(op) => {
                plain(&op.post)?;
                Self::Eltwise(op.op.clone())
            }
            Op::Concat { axis } => Self::Concat(*axis),
            Op::Slice(op) => Self::Slice(op.clone()),
            Op::Dropout { ratio } if net.is_training() => {
                *dropouts += 1;
                Self::Dropout(Dropout {
                    ratio: *ratio,
                    number: *dropouts,
                })
            }
            Op::Flatten { .. } | Op::Reshape(_) | Op::Identity | Op::Dropout { .. } => Self::Copy,
            Op::Softmax { axis } => Self::Softmax {
                axis: *axis,
                passes_gradient: feeds_softmax_loss(net, node)?,
            },
            Op::Loss(op) => Self::Loss(op.clone()),
            op => Self::Reference(op.clone()),
        })
    }

    /// True when the result may take the place of the operand. With a slope that is not negative the result of a
    /// ReLU has the sign of the operand, which is all that its gradient asks for.
    pub fn can_be_in_place(&self) -> bool {
        match self {
            Self::Activation(ops::Activation::ReLU { slope }) => *slope >= 0.0,
            Self::Dropout(_) | Self::Copy => true,
            _ => false,
        }
    }
    /// True when the gradient is made from the result: then it may not be changed by a later layer in place.
    pub fn needs_output(&self) -> bool {
        match self {
            Self::Activation(_) => !self.can_be_in_place(),
            Self::BatchNorm(_) | Self::Softmax { .. } => true,
            _ => false,
        }
    }
    /// False for layers that only run forward. The steps of a Threshold have no gradient, and Caffe refuses to go
    /// back through them.
    pub fn has_gradient(&self) -> bool {
        let threshold = matches!(self, Self::Activation(ops::Activation::Threshold { .. }));
        !threshold && !matches!(self, Self::Reference(_))
    }
    /// True for layers whose weights are parameters: the reference takes them from the graph.
    pub fn has_parameters(&self) -> bool {
        !matches!(self, Self::Loss(_) | Self::Reference(_))
    }
    /// True for operands that have no gradient, like labels.
    pub fn refuses_gradient_of(&self, input: usize) -> bool {
        match self {
            Self::Loss(ops::Loss::Euclidean | ops::Loss::Contrastive { .. }) => input > 1,
            Self::Loss(_) => input > 0,
            _ => false,
        }
    }
}

/// Refuses SkimCaffe's fused layers, which have no gradient there either.
fn plain(post: &PostOps) -> Result<()> {
    match post.activation {
        None => Ok(()),
        Some(_) => Err(Error::new("a fused layer type, which is for inference")
            .field("type")
            .expected("the plain type, followed by ReLU and Pooling layers")),
    }
}

/// True where factor and offset are of one shape, as Caffe's are; others only run forward.
fn is_plain_scale(net: &Net, node: &Node, op: &ops::Scale) -> bool {
    let operand = node.inputs.get(1).map(|&id| net.graph.shape(id));
    let weights = op.scale.into_iter().chain(op.bias);
    let weights = weights.map(|id| net.graph.weight(id).shape());
    let shapes: Vec<&Shape> = operand.into_iter().chain(weights).collect();
    shapes.windows(2).all(|pair| pair[0] == pair[1])
}

/// True for Caffe's poolings; others only run forward.
fn is_plain_pooling(op: &ops::Pooling) -> bool {
    let method = matches!(op.method, PoolMethod::Max | PoolMethod::Average);
    method && op.window.dilation == [1, 1] && !op.mask
}

/// What a BatchNorm does in the network's phase.
fn batch_norm(net: &Net, op: &ops::BatchNorm) -> BatchNorm {
    BatchNorm {
        eps: op.eps,
        fraction: op.momentum,
        global: op.uses_running(),
        training: net.is_training(),
    }
}

fn scale(net: &Net, node: &Node, op: &ops::Scale) -> Scale {
    let operand = node.inputs.get(1).map(|&id| net.graph.shape(id));
    let weight = op.scale.or(op.bias).map(|id| net.graph.weight(id).shape());
    let from_operand = |wanted: bool| (operand.is_some() && wanted).then_some(Place::Operand);
    let factor = op.scale.map(|_| Place::Weight(0));
    let behind = usize::from(op.scale.is_some());
    let offset = op.bias.map(|_| Place::Weight(behind));
    Scale {
        axis: op.axis as usize,
        shared: operand.or(weight).map_or(1, Shape::count),
        factor: factor.or(from_operand(!op.add_operand)),
        offset: offset.or(from_operand(op.add_operand)),
    }
}

/// True when the result is that of a SoftmaxWithLoss, whose gradient is that of the scores.
fn feeds_softmax_loss(net: &Net, node: &Node) -> Result<bool> {
    let graph = &net.graph;
    let takes = |other: &&Node| other.inputs.first() == Some(&node.output);
    let is_loss = |other: &Node| matches!(other.op, Op::Loss(ops::Loss::SoftmaxWithLoss { .. }));
    let consumers: Vec<&Node> = graph.nodes.iter().filter(takes).collect();
    let losses = consumers.iter().filter(|other| is_loss(other)).count();
    let trained = |other: &Node| {
        net.training
            .losses
            .iter()
            .any(|&(id, _)| id == other.output)
            || matches!(other.op, Op::Loss(_))
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
