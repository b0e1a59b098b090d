//! One node → kernel problem.

use super::analysis::Analysis;
use skimjit_kernels::{
    BinaryProblem, ChannelwiseProblem, ConvProblem, DeconvProblem, Divisor, EltwiseKind,
    EltwiseProblem, FcProblem, FunctionProblem, Fused, LrnProblem, Over, Planes, PoolProblem,
    Problem, ResampleProblem, SoftmaxProblem, StandardizeProblem, Values,
};
use skimjit_models::ops::{Activation, BinaryOp, EltwiseOp, PostOps, Window};
use skimjit_models::{ElementType, Elements, Op, Pattern, ValueId, Weight, WeightId, ops};
use std::borrow::Cow;
use std::ops::Range;

/// Images from which on an inner product runs as a convolution over the batch.
const COLUMN_BATCH: u32 = 3;

fn fused(post: &PostOps) -> Option<Fused> {
    post.activation.and_then(Fused::of)
}

/// False for what kernels cannot do behind a layer.
fn can_be_fused(op: &Op) -> bool {
    let post = match op {
        Op::Convolution(op) | Op::Deconvolution(op) => op.post,
        Op::InnerProduct(op) => op.post,
        Op::Eltwise(op) => op.post,
        Op::Binary(op) => op.post,
        _ => return true,
    };
    post.activation.is_none() || fused(&post).is_some()
}

/// Weights of a layer, row-major.
enum Stored<'g> {
    /// All of them.
    All(Cow<'g, [f32]>),
    /// As the graph has them, of a sparse one.
    NonZeros(Cow<'g, Elements>),
}

/// A layer as a kernel problem.
pub(super) struct Job<'g> {
    pub problem: Problem,
    weights: Stored<'g>,
    pub bias: &'g [f32],
    /// Type of the weights.
    pub element: ElementType,
    pub operands: Vec<ValueId>,
    pub output: ValueId,
    /// Runs once for the whole batch, on columns.
    pub columns: bool,
}

impl<'g> Job<'g> {
    /// Where the weights are not zero.
    pub fn pattern(&self) -> Pattern {
        let [rows, cols] = self.problem.matrix().map(|n| n as u32);
        match &self.weights {
            Stored::All(values) => Pattern::from_weights(rows, cols, values),
            Stored::NonZeros(elements) => elements.places.pattern(),
        }
    }

    /// The weights, as they go to kernels.
    pub fn values(&self) -> Values<'_> {
        match &self.weights {
            Stored::All(values) => Values::All(values),
            Stored::NonZeros(elements) => Values::NonZeros(&elements.values),
        }
    }

    /// What is left once there is a kernel.
    pub fn without_weights(self) -> Self {
        Self {
            weights: Stored::All(Cow::Borrowed(&[])),
            ..self
        }
    }

    fn with_weights(self, weights: &'g Weight, bias: &'g [f32]) -> Self {
        let [rows, cols] = self.problem.matrix().map(|n| n as u32);
        let fits = |elements: &&Elements| {
            let places = &elements.places;
            (places.rows(), places.cols()) == (rows, cols)
        };
        let element = weights.element();
        let weights = match weights.elements().filter(fits) {
            Some(elements) => Stored::NonZeros(elements.nonzero()),
            None => Stored::All(Cow::Borrowed(weights.data())),
        };
        Self {
            weights,
            bias,
            element,
            ..self
        }
    }
}

impl<'g> Analysis<'g> {
    /// The kernel problem of a node; `None` for nodes that are views or run on the reference.
    pub(super) fn job(&self, node: usize) -> Option<Job<'g>> {
        if self.coupled[node] || self.is_fused_sum(node) || !self.has_finite_weights(node) {
            return None;
        }
        let nodes = &self.graph.nodes;
        let behind = self.fused_sum(node).map(|sum| &nodes[sum].op);
        if !can_be_fused(&nodes[node].op) || !behind.is_none_or(can_be_fused) {
            return None;
        }
        match &nodes[node].op {
            Op::Convolution(op) => Some(self.convolution(node, op)),
            Op::Deconvolution(op) => self.deconvolution(node, op),
            Op::InnerProduct(op) if op.axis == 1 => Some(self.inner_product(node, op)),
            Op::Pooling(op) if !op.mask => Some(self.pooling(node, op)),
            Op::Lrn(op) => {
                let problem = LrnProblem {
                    planes: self.source(node),
                    size: op.size,
                    within_channel: op.within_channel,
                    alpha: op.alpha,
                    beta: op.beta,
                    k: if op.within_channel { 1.0 } else { op.k },
                };
                Some(self.plain(node, Problem::Lrn(problem)))
            }
            &Op::Softmax { axis } => self.softmax(node, axis, false),
            &Op::LogSoftmax { axis } => self.softmax(node, axis, true),
            Op::Standardize(op) => self.standardize(node, op),
            Op::Mvn(op) => self.mean_variance(node, op),
            Op::Normalize(op) => Some(self.normalize(node, op)),
            Op::Eltwise(op) => Some(self.eltwise(node, op)),
            Op::Activation(op) => self.activation(node, *op),
            Op::Binary(op) => self.binary(node, op),
            Op::PRelu(op) => Some(self.prelu(node, op.slope)),
            Op::Resize(op) => self.resize(node, op),
            Op::Scale(op) => self.scale(node, op),
            _ => None,
        }
    }

    /// A job without weights, on the node's own operands and result.
    fn plain(&self, node: usize, problem: Problem) -> Job<'g> {
        let described = &self.graph.nodes[node];
        Job {
            problem,
            weights: Stored::All(Cow::Borrowed(&[])),
            bias: &[],
            element: ElementType::F32,
            operands: described.inputs.clone(),
            output: described.output,
            columns: false,
        }
    }

    fn source(&self, node: usize) -> Planes {
        self.info(self.operand(node, 0)).planes
    }

    fn target(&self, node: usize) -> Planes {
        self.info(self.result(node)).planes
    }

    fn bias(&self, bias: Option<WeightId>) -> &'g [f32] {
        let graph = self.graph;
        bias.map_or(&[], |id| graph.weight(id).data())
    }

    fn convolution(&self, node: usize, op: &'g ops::Convolution) -> Job<'g> {
        let graph = self.graph;
        let sum = self.fused_sum(node);
        let input = self.operand(node, 0);
        let output = sum.map_or(self.result(node), |sum| self.result(sum));
        let (src, dst) = (self.info(input), self.info(output));
        let post = match sum.map(|sum| &graph.nodes[sum].op) {
            Some(Op::Eltwise(sum)) => sum.post,
            _ => op.post,
        };
        let post = fused(&post);
        // Of a padded window the one pixel may not be the source's.
        let pointwise = src.planes.hw() == 1
            && op.window.kernel == [1, 1]
            && !op.window.is_padded()
            && op.groups == 1;
        let problem = if pointwise && sum.is_none() && dst.planes.hw() == 1 {
            Problem::Fc(FcProblem {
                inputs: src.planes.c,
                outputs: dst.planes.c,
                post,
            })
        } else {
            Problem::Conv(ConvProblem {
                src: src.planes,
                dst: dst.planes,
                window: op.window,
                groups: op.groups,
                post,
                residual: sum.is_some(),
            })
        };
        let mut operands = vec![input];
        if let Some(sum) = sum {
            let other = graph.nodes[sum]
                .inputs
                .iter()
                .find(|&&id| id != self.result(node));
            operands.extend(other);
        }
        Job {
            operands,
            output,
            ..self.plain(node, problem)
        }
        .with_weights(graph.weight(op.weights), self.bias(op.bias))
    }

    /// Of each channel by itself; others have become convolutions.
    fn deconvolution(&self, node: usize, op: &'g ops::Convolution) -> Option<Job<'g>> {
        let (src, dst) = (self.source(node), self.target(node));
        if [src.c, dst.c] != [op.groups; 2] {
            return None;
        }
        let problem = Problem::Deconv(DeconvProblem {
            src,
            dst,
            window: op.window,
            post: fused(&op.post),
        });
        let weights = self.graph.weight(op.weights);
        Some(
            self.plain(node, problem)
                .with_weights(weights, self.bias(op.bias)),
        )
    }

    fn inner_product(&self, node: usize, op: &ops::InnerProduct) -> Job<'g> {
        let weights = self.graph.weight(op.weights);
        let inputs = (weights.shape().count() / op.outputs as usize) as u32;
        let post = fused(&op.post);
        let columns = !self.is_per_image(node) && self.batch >= COLUMN_BATCH;
        let problem = if columns {
            let planes = |c: u32| Planes::with_gap(c, 1, self.batch, 0);
            Problem::Conv(ConvProblem {
                src: planes(inputs),
                dst: planes(op.outputs),
                window: Window::square(1, 1, 0),
                groups: 1,
                post,
                residual: false,
            })
        } else {
            Problem::Fc(FcProblem {
                inputs,
                outputs: op.outputs,
                post,
            })
        };
        let (plain, bias) = (self.plain(node, problem), self.bias(op.bias));
        let job = Job { columns, ..plain };
        if !op.transpose {
            return job.with_weights(weights, bias);
        }
        let turned = transpose(weights.data(), inputs as usize, op.outputs as usize);
        Job {
            weights: Stored::All(Cow::Owned(turned)),
            bias,
            element: weights.element(),
            ..job
        }
    }

    fn pooling(&self, node: usize, op: &ops::Pooling) -> Job<'g> {
        let (src, dst) = (self.source(node), self.target(node));
        let problem = Problem::Pool(PoolProblem {
            src,
            dst,
            window: op.effective_window([src.h, src.w]),
            method: op.method,
            relu: op.relu,
        });
        self.plain(node, problem)
    }

    fn eltwise(&self, node: usize, op: &ops::Eltwise) -> Job<'g> {
        let kind = match &op.op {
            EltwiseOp::Sum { coefficients } => EltwiseKind::Sum(coefficients.clone()),
            EltwiseOp::Product => EltwiseKind::Product,
            EltwiseOp::Max => EltwiseKind::Max,
        };
        let problem = Problem::Eltwise(EltwiseProblem {
            elems: self.target(node).elems() as u32,
            operands: self.graph.nodes[node].inputs.len() as u32,
            kind,
            post: fused(&op.post),
        });
        self.plain(node, problem)
    }

    /// Of two operands the one that is as large as the result is read as the result is written.
    fn binary(&self, node: usize, op: &ops::Binary) -> Option<Job<'g>> {
        let dst = self.target(node);
        let operands = [0, 1].map(|index| self.operand(node, index));
        let form = self.info(self.result(node)).form;
        let is_whole = |id: ValueId| {
            let info = self.info(id);
            info.planes == dst && info.form == form
        };
        // Of other ranks the axes do not belong together as channels and pixels do.
        let shapes = operands.map(|id| self.graph.shape(id));
        if shapes[0].rank() != shapes[1].rank() {
            return None;
        }
        let whole = (0..2).find(|&index| is_whole(operands[index]))?;
        let part = operands[1 - whole];
        let problem = BinaryProblem {
            part: self.info(part).planes,
            dst,
            op: op.op,
            part_first: whole == 1,
            post: fused(&op.post),
        };
        Some(Job {
            operands: vec![part, operands[whole]],
            ..self.plain(node, Problem::Binary(problem))
        })
    }

    /// Of height and width; other axes are resized by the reference.
    fn resize(&self, node: usize, op: &ops::Resize) -> Option<Job<'g>> {
        let rank = self.graph.shape(self.operand(node, 0)).rank();
        if rank != 4 || op.axes.iter().any(|resized| resized.axis < 2) {
            return None;
        }
        let problem = ResampleProblem {
            src: self.source(node),
            dst: self.target(node),
            op: op.clone(),
        };
        Some(self.plain(node, Problem::Resample(problem)))
    }

    fn activation(&self, node: usize, op: Activation) -> Option<Job<'g>> {
        let channels = self.source(node).c as usize;
        match op {
            // A maximum alone: a slope of 0 as a factor would make NaN of an infinity.
            Activation::ReLU { slope: 0.0 } => Some(self.rectified(node)),
            Activation::ReLU { slope } => {
                let constants = [1.0, 0.0, slope].repeat(channels);
                Some(self.channelwise(node, constants, false, true))
            }
            Activation::Power {
                power: 1.0,
                scale,
                shift,
            } => {
                let constants = [scale, shift, 0.0].repeat(channels);
                Some(self.channelwise(node, constants, true, false))
            }
            function => Some(self.function(node, function)),
        }
    }

    fn function(&self, node: usize, function: Activation) -> Job<'g> {
        let (src, dst) = (self.source(node), self.target(node));
        let problem = FunctionProblem { src, dst, function };
        self.plain(node, Problem::Function(problem))
    }

    /// Which elements of an image's planes groups along some axes are, and planes without gaps in which they are that.
    /// None for the batch's axis, and for channels and rows of planes with gaps.
    fn groups(&self, node: usize, axes: Range<usize>) -> Option<(Over, [Planes; 2])> {
        let shape = self.graph.shape(self.operand(node, 0));
        let planes = [self.source(node), self.target(node)];
        let (begin, end, rank) = (axes.start, axes.end, shape.rank());
        if begin == 0 || end > rank {
            return None;
        }
        if planes.iter().all(|planes| planes.gap() == 0) {
            let [outer, count, inner] =
                [1..begin, begin..end, end..rank].map(|axes| shape.count_of(axes.start, axes.end));
            let all = Planes::compact(outer as u32, count as u32, inner as u32);
            return match inner {
                1 => Some((Over::Plane, [all; 2])),
                _ => Some((Over::Rows, [all; 2])),
            };
        }
        let over = match (begin, end == rank) {
            (1, true) => Over::Image,
            (1, _) if end == 2 => Over::Channels,
            (2, true) => Over::Plane,
            (2, _) if end == 3 => Over::Rows,
            (3, true) => Over::Columns,
            _ => return None,
        };
        Some((over, planes))
    }

    fn softmax(&self, node: usize, axis: u32, log: bool) -> Option<Job<'g>> {
        let axis = axis as usize;
        let (over, [planes, dst]) = self.groups(node, axis..axis + 1)?;
        let problem = SoftmaxProblem { planes, over, log };
        (planes == dst).then(|| self.plain(node, Problem::Softmax(problem)))
    }

    fn standardize(&self, node: usize, op: &ops::Standardize) -> Option<Job<'g>> {
        let rank = self.graph.shape(self.operand(node, 0)).rank();
        let (over, [src, dst]) = self.groups(node, op.axes(rank))?;
        let problem = StandardizeProblem {
            src,
            dst,
            over,
            divisor: Divisor::Deviation,
            eps: op.eps,
        };
        Some(self.plain(node, Problem::Standardize(problem)))
    }

    /// Planes of three axes become others in the result, which is the reference's.
    fn mean_variance(&self, node: usize, op: &ops::Mvn) -> Option<Job<'g>> {
        if self.graph.shape(self.operand(node, 0)).rank() != 4 {
            return None;
        }
        let first = if op.across_channels { 1 } else { 2 };
        let (over, [src, dst]) = self.groups(node, first..4)?;
        let divisor = match op.normalize_variance {
            true => Divisor::DeviationAndEps,
            false => Divisor::One,
        };
        let problem = StandardizeProblem {
            src,
            dst,
            over,
            divisor,
            eps: op.eps,
        };
        Some(self.plain(node, Problem::Standardize(problem)))
    }

    /// A factor for all channels is one for each.
    fn normalize(&self, node: usize, op: &ops::Normalize) -> Job<'g> {
        let (src, dst) = (self.source(node), self.target(node));
        let problem = StandardizeProblem {
            src,
            dst,
            over: match op.across_spatial {
                true => Over::Image,
                false => Over::Channels,
            },
            divisor: Divisor::Norm,
            eps: op.eps,
        };
        let scale = self.graph.weight(op.scale).data();
        let scales = (0..src.c as usize).map(|c| scale[c.min(scale.len() - 1)]);
        Job {
            weights: Stored::All(Cow::Owned(scales.collect())),
            ..self.plain(node, Problem::Standardize(problem))
        }
    }

    /// A ReLU by itself; operand and result have one layout.
    fn rectified(&self, node: usize) -> Job<'g> {
        let planes = self.target(node);
        debug_assert_eq!(planes, self.source(node));
        let problem = Problem::Eltwise(EltwiseProblem {
            elems: planes.elems() as u32,
            operands: 1,
            kind: EltwiseKind::Max,
            post: Some(Fused::relu(0.0)),
        });
        self.plain(node, problem)
    }

    fn prelu(&self, node: usize, slope: WeightId) -> Job<'g> {
        let slopes = self.graph.weight(slope).data();
        let channels = self.source(node).c as usize;
        let slopes = (0..channels).map(|c| slopes[c.min(slopes.len() - 1)]);
        let constants = slopes.flat_map(|slope| [1.0, 0.0, slope]).collect();
        self.channelwise(node, constants, false, true)
    }

    /// Learned factors and offsets, one per channel, or those of an operand; other Scale layers run on the
    /// reference.
    fn scale(&self, node: usize, op: &ops::Scale) -> Option<Job<'g>> {
        let graph = self.graph;
        if graph.nodes[node].inputs.len() == 2 {
            return self.scale_by_operand(node, op);
        }
        let channels = self.source(node).c as usize;
        let per_channel =
            |id: Option<WeightId>| id.is_none_or(|id| graph.weight(id).data().len() == channels);
        if op.axis != 1 || !per_channel(op.scale) || !per_channel(op.bias) {
            return None;
        }
        let constant = |id: Option<WeightId>, c: usize, default: f32| {
            id.map_or(default, |id| graph.weight(id).data()[c])
        };
        let constants = (0..channels)
            .flat_map(|c| [constant(op.scale, c, 1.0), constant(op.bias, c, 0.0), 0.0])
            .collect();
        Some(self.channelwise(node, constants, true, false))
    }

    /// A factor or summand for each element, for each channel of each image, or for all of its elements.
    fn scale_by_operand(&self, node: usize, op: &ops::Scale) -> Option<Job<'g>> {
        let operands = [0, 1].map(|index| self.operand(node, index));
        let [whole, part] = operands.map(|id| self.graph.shape(id).dims());
        let dst = self.target(node);
        let [of_whole, of_part] = operands.map(|id| self.info(id));
        let per_channel = matches!(part.len(), 1 | 2) && whole.len() == 4;
        let fits = op.axis == 0 && (per_channel || whole == part);
        if op.bias.is_some() || !fits || of_whole.planes != dst {
            return None;
        }
        let problem = BinaryProblem {
            part: of_part.planes,
            dst,
            op: match op.add_operand {
                true => BinaryOp::Add,
                false => BinaryOp::Mul,
            },
            part_first: false,
            post: None,
        };
        Some(Job {
            operands: vec![operands[1], operands[0]],
            ..self.plain(node, Problem::Binary(problem))
        })
    }

    fn channelwise(&self, node: usize, constants: Vec<f32>, affine: bool, leaky: bool) -> Job<'g> {
        let (src, dst) = (self.source(node), self.target(node));
        let problem = Problem::Channelwise(ChannelwiseProblem {
            src,
            dst,
            affine,
            leaky,
        });
        Job {
            weights: Stored::All(Cow::Owned(constants)),
            ..self.plain(node, problem)
        }
    }
}

/// `columns × rows` to `rows × columns`.
fn transpose(values: &[f32], columns: usize, rows: usize) -> Vec<f32> {
    let mut out = vec![0.0; values.len()];
    for (column, line) in values.chunks_exact(rows).enumerate() {
        for (row, &value) in line.iter().enumerate() {
            out[row * columns + column] = value;
        }
    }
    out
}
