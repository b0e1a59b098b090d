//! Networks that nobody thought of: layers of every kind behind each other, side by side and joined.

use crate::network::Random;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use skimjit_models::ops::{
    Activation, BatchNorm, Binary, BinaryOp, Convolution, Coordinates, DepthOrder, Eltwise,
    EltwiseOp, Gather, Im2col, InnerProduct, Lrn, Mvn, NearestRounding, Pad, PadMode, PoolMethod,
    Pooling, PostOps, Reduce, ReduceOp, Reduction, ReductionOp, Resize, ResizeAxis, ResizeMethod,
    ResizeSize, Rounding, Scale, Slice, Window,
};
use skimjit_models::{Graph, Op, Shape, ValueId, WeightId};
use std::fmt;

/// Most elements of a value, for one image.
const MOST_ELEMENTS: usize = 12_000;
/// Most layers of a network.
const MOST_LAYERS: usize = 12;

/// What a layer does. Numbers that do not fit its operand make it disappear.
#[derive(Clone, Debug)]
enum Kind {
    Convolution {
        oc: u32,
        window: Window,
        groups: Groups,
        density: f32,
        bias: bool,
        relu: Option<f32>,
    },
    Pooling(Pooling),
    InnerProduct {
        outputs: u32,
        axis: u32,
        transpose: bool,
        density: f32,
        relu: Option<f32>,
    },
    Eltwise(Combination, Option<f32>),
    Concat,
    Slice(Index, Index),
    /// A function of a value and one like it, or of a value and its means.
    Binary(BinaryOp, bool, Option<f32>),
    Normalised,
    Scaled,
    /// Any op without weights.
    Plain(Op),
}

#[derive(Clone, Copy, Debug)]
enum Groups {
    One,
    Two,
    Depthwise,
}

#[derive(Clone, Copy, Debug)]
enum Combination {
    Sum(f32, f32),
    Product,
    Max,
}

/// A layer and its operands: so many values back.
#[derive(Clone, Debug)]
struct Layer {
    kind: Kind,
    from: usize,
    others: Vec<Index>,
}

/// A network, before the layers that do not fit are left out.
#[derive(Clone)]
pub struct Recipe {
    inputs: Vec<[u32; 3]>,
    layers: Vec<Layer>,
    /// Inner values that are outputs too.
    kept: Vec<Index>,
    seed: u64,
}

/// A line, where the derived form fills pages.
impl fmt::Debug for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            inputs,
            layers,
            kept,
            seed,
        } = self;
        let line = format!("inputs {inputs:?}, layers {layers:?}, kept {kept:?}, seed {seed}");
        f.write_str(&line)
    }
}

impl Recipe {
    /// Any network.
    pub fn any() -> impl Strategy<Value = Self> {
        let side = prop_oneof![3 => 1u32..20, 1 => Just(7u32), 1 => Just(13u32)];
        let input = (1u32..24, side.clone(), side).prop_map(|(c, h, w)| [c, h, w]);
        let inputs = prop_oneof![4 => vec(input.clone(), 1), 1 => vec(input, 2)];
        let kept = vec(any::<Index>(), 0..3);
        (inputs, vec(layer(), 1..=MOST_LAYERS), kept, any::<u64>()).prop_map(
            |(inputs, layers, kept, seed)| Self {
                inputs,
                layers,
                kept,
                seed,
            },
        )
    }

    /// The network of those layers that fit. What no layer reads is an output.
    pub fn graph(&self, batch: u32) -> Graph {
        let mut builder = Builder {
            graph: Graph::default(),
            values: Vec::new(),
            random: Random::new(self.seed),
        };
        for (index, [c, h, w]) in self.inputs.iter().enumerate() {
            let shape = Shape::new([batch, *c, *h, *w]).expect("small dims");
            let input = builder.graph.add_value(format!("data{index}"), shape);
            builder.graph.inputs.push(input);
            builder.values.push(input);
        }
        self.layers.iter().for_each(|layer| builder.add(layer));
        builder.finish(&self.kept)
    }

    /// Random images for each input.
    pub fn images(&self, n: u32) -> Vec<skimjit_models::Tensor> {
        let mut random = Random::new(self.seed ^ 0xda7a);
        let images = |&[c, h, w]: &[u32; 3]| random.tensor(&[n, c, h, w], 1.0);
        self.inputs.iter().map(images).collect()
    }
}

fn layer() -> impl Strategy<Value = Layer> {
    // Mostly chains; now and then something from far back.
    let from = prop_oneof![5 => Just(0usize), 2 => 1usize..3, 1 => 0usize..MOST_LAYERS];
    (kind(), from, vec(any::<Index>(), 1..3)).prop_map(|(kind, from, others)| Layer {
        kind,
        from,
        others,
    })
}

fn kind() -> impl Strategy<Value = Kind> {
    let combination = prop_oneof![
        Just(Combination::Sum(1.0, 1.0)),
        Just(Combination::Sum(0.5, -2.0)),
        Just(Combination::Product),
        Just(Combination::Max),
    ];
    let slice = any::<(Index, Index)>();
    prop_oneof![
        8 => convolution(),
        3 => pooling().prop_map(Kind::Pooling),
        3 => inner_product(),
        3 => (combination, relu()).prop_map(|(op, relu)| Kind::Eltwise(op, relu)),
        3 => Just(Kind::Concat),
        2 => slice.prop_map(|(begin, end)| Kind::Slice(begin, end)),
        2 => binary(),
        1 => Just(Kind::Normalised),
        1 => Just(Kind::Scaled),
        5 => plain().prop_map(Kind::Plain),
    ]
}

fn binary() -> impl Strategy<Value = Kind> {
    let ops = [
        BinaryOp::Add,
        BinaryOp::Sub,
        BinaryOp::Mul,
        BinaryOp::Max,
        BinaryOp::Min,
    ];
    let op = proptest::sample::select(ops.to_vec());
    (op, any::<bool>(), relu()).prop_map(|(op, means, relu)| Kind::Binary(op, means, relu))
}

/// Slope of a fused ReLU.
fn relu() -> impl Strategy<Value = Option<f32>> {
    prop_oneof![Just(None), Just(Some(0.0)), Just(Some(0.1))]
}

fn density() -> impl Strategy<Value = f32> {
    let some = prop_oneof![Just(0.0f32), Just(0.05), Just(0.2), Just(0.5)];
    prop_oneof![1 => some, 1 => Just(1.0f32)]
}

fn window(most: u32) -> impl Strategy<Value = Window> {
    let square = prop_oneof![Just(1u32), Just(3), Just(5)];
    let square = square.prop_map(|kernel| Window::square(kernel, 1, kernel / 2));
    let pair = |low: u32, high: u32| proptest::array::uniform2(low..=high);
    let pads = [pair(0, 2), pair(0, 2)];
    let any = (pair(1, most), pair(1, 3), pads, pair(1, 2));
    let any = any.prop_map(|(kernel, stride, [pad_begin, pad_end], dilation)| Window {
        kernel,
        stride,
        pad_begin,
        pad_end,
        dilation,
    });
    prop_oneof![square, any]
}

fn convolution() -> impl Strategy<Value = Kind> {
    let groups = prop_oneof![
        4 => Just(Groups::One),
        1 => Just(Groups::Two),
        1 => Just(Groups::Depthwise)
    ];
    let shape = (1u32..48, window(7), groups);
    (shape, density(), any::<bool>(), relu()).prop_map(
        |((oc, window, groups), density, bias, relu)| Kind::Convolution {
            oc,
            window,
            groups,
            density,
            bias,
            relu,
        },
    )
}

fn pooling() -> impl Strategy<Value = Pooling> {
    let method = prop_oneof![Just(PoolMethod::Max), Just(PoolMethod::Average)];
    let flags = any::<(bool, bool)>();
    let usual = prop_oneof![Just((3, 2, 0)), Just((2, 2, 0)), Just((3, 1, 1))];
    let usual = usual.prop_map(|(kernel, stride, pad)| Window::square(kernel, stride, pad));
    let window = prop_oneof![usual, window(5)];
    (method, window, 0u32..5, flags).prop_map(|(method, window, global, (round_down, relu))| {
        let window = Window {
            dilation: [1; 2],
            ..window
        };
        Pooling {
            method,
            window: if global == 0 {
                Window::square(1, 1, 0)
            } else {
                window
            },
            global: global == 0,
            made_for: None,
            rounding: match round_down {
                true => Rounding::Down,
                false => Rounding::Up,
            },
            relu: relu && method == PoolMethod::Max,
            mask: false,
        }
    })
}

fn inner_product() -> impl Strategy<Value = Kind> {
    let axis = prop_oneof![6 => Just(1u32), 1 => Just(2u32)];
    (1u32..200, axis, any::<bool>(), density(), relu()).prop_map(
        |(outputs, axis, transpose, density, relu)| Kind::InnerProduct {
            outputs,
            axis,
            transpose,
            density,
            relu,
        },
    )
}

fn plain() -> impl Strategy<Value = Op> {
    let slope = prop_oneof![3 => Just(0.0f32), 1 => Just(0.25)];
    let relu = slope.prop_map(|slope| Op::Activation(Activation::ReLU { slope }));
    let lrn = (0u32..3, any::<bool>()).prop_map(|(half, within_channel)| {
        Op::Lrn(Lrn {
            size: 2 * half + 1,
            alpha: 0.1,
            beta: 0.75,
            k: 1.0,
            within_channel,
        })
    });
    let mean = |axis| {
        Op::Reduction(Reduction {
            op: ReductionOp::Mean,
            axis,
            coeff: 1.0,
        })
    };
    let flat = Op::Flatten {
        axis: 1,
        end_axis: 3,
    };
    let mvn = any::<(bool, bool)>().prop_map(|(normalize_variance, across_channels)| {
        Op::Mvn(Mvn {
            normalize_variance,
            across_channels,
            eps: 0.1,
        })
    });
    let im2col = window(3).prop_map(|window| Op::Im2col(Im2col { window }));
    prop_oneof![
        1 => mvn,
        1 => im2col,
        6 => relu,
        4 => lrn,
        2 => Just(Op::Softmax { axis: 1 }),
        2 => Just(Op::Identity),
        1 => Just(Op::Activation(Activation::Sigmoid)),
        1 => Just(Op::Activation(Activation::TanH)),
        3 => function().prop_map(Op::Activation),
        3 => movement(),
        1 => Just(flat),
        1 => Just(mean(1)),
        // These mix the images of a batch.
        1 => Just(Op::Softmax { axis: 0 }),
        1 => Just(Op::Concat { axis: 0 }),
    ]
}

/// Functions with kernels, and one without.
fn function() -> impl Strategy<Value = Activation> {
    use Activation::*;
    let clip = Clip { min: 0.0, max: 0.5 };
    let all = [
        clip,
        HardSwish,
        Mish,
        Softsign,
        Swish { beta: 1.0 },
        Elu { alpha: 0.5 },
        Gelu { tanh: false },
        Erf,
        Sin,
    ];
    proptest::sample::select(all.to_vec())
}

/// Ops that only move elements.
fn movement() -> impl Strategy<Value = Op> {
    let resize = |axis| ResizeAxis {
        axis,
        size: ResizeSize::Scale(2.0),
        roi: [0.0, 1.0],
    };
    let all = [
        Op::Pad(Pad {
            begin: vec![0, 0, 1, 2],
            end: vec![0, 1, 0, -1],
            mode: PadMode::Edge,
        }),
        Op::Gather(Gather {
            axis: 1,
            indices: vec![1, 0, 1],
        }),
        Op::Resize(Resize {
            axes: vec![resize(2), resize(3)],
            method: ResizeMethod::Nearest(NearestRounding::Floor),
            coordinates: Coordinates::Asymmetric,
            antialias: false,
            exclude_outside: false,
            extrapolation: 0.0,
        }),
        Op::DepthToSpace {
            block: 2,
            order: DepthOrder::Dcr,
        },
        Op::SpaceToDepth { block: 2 },
        Op::Permute {
            order: vec![0, 2, 3, 1],
        },
        Op::Expand { dims: vec![1, 3] },
    ];
    proptest::sample::select(all.to_vec())
}

/// A graph under construction and the values that layers may read.
struct Builder {
    graph: Graph,
    values: Vec<ValueId>,
    random: Random,
}

impl Builder {
    fn add(&mut self, layer: &Layer) {
        let from = self.values[self.values.len() - 1 - layer.from % self.values.len()];
        let Some((op, inputs)) = self.op(layer, from) else {
            return;
        };
        let name = format!("layer{}", self.graph.nodes.len());
        let batch = self.graph.shape(self.graph.inputs[0]).dim(0) as usize;
        // What does not fit its operand is left out.
        let shapes: Vec<&Shape> = inputs.iter().map(|&id| self.graph.shape(id)).collect();
        let fits = op.infer_shape(&shapes, &self.graph.weights);
        if fits.is_ok_and(|shape| shape.count() <= MOST_ELEMENTS * batch) {
            let value = self.graph.add_node(&name, op, inputs, &name);
            self.values.push(value.expect("its shape was inferred"));
        }
    }

    fn op(&mut self, layer: &Layer, from: ValueId) -> Option<(Op, Vec<ValueId>)> {
        let op = match &layer.kind {
            Kind::Convolution { .. } => self.convolution(&layer.kind, from)?,
            Kind::InnerProduct { .. } => self.inner_product(&layer.kind, from)?,
            Kind::Pooling(op) => Op::Pooling(op.clone()),
            Kind::Eltwise(combination, relu) => {
                let same = |a: &Shape, b: &Shape| a == b;
                let other = self.alike(from, layer.others[0], same);
                let op = match *combination {
                    Combination::Sum(a, b) => EltwiseOp::Sum {
                        coefficients: vec![a, b],
                    },
                    Combination::Product => EltwiseOp::Product,
                    Combination::Max => EltwiseOp::Max,
                };
                let post = PostOps::from(*relu);
                return Some((Op::Eltwise(Eltwise { op, post }), vec![from, other]));
            }
            Kind::Concat => {
                let others = layer.others.iter();
                let others = others.map(|&index| self.alike(from, index, same_but_for_channels));
                let inputs = std::iter::once(from).chain(others).collect();
                return Some((Op::Concat { axis: 1 }, inputs));
            }
            Kind::Slice(begin, end) => {
                let channels = self.channels(from)? as usize;
                let begin = begin.index(channels);
                let end = begin + 1 + end.index(channels - begin);
                Op::Slice(Slice {
                    axis: 1,
                    begin: begin as u32,
                    end: end as u32,
                })
            }
            &Kind::Binary(op, means, relu) => {
                let other = match means {
                    true => self.means(from)?,
                    false => self.alike(from, layer.others[0], |a, b| a == b),
                };
                let post = PostOps::from(relu);
                let inputs = match layer.others.len() {
                    1 => vec![from, other],
                    _ => vec![other, from],
                };
                return Some((Op::Binary(Binary { op, post }), inputs));
            }
            Kind::Normalised => self.batch_norm(from)?,
            Kind::Scaled => self.scale(from)?,
            Kind::Plain(op) => op.clone(),
        };
        Some((op, vec![from]))
    }

    fn convolution(&mut self, kind: &Kind, from: ValueId) -> Option<Op> {
        let &Kind::Convolution {
            oc,
            window,
            groups,
            density,
            bias,
            relu,
        } = kind
        else {
            return None;
        };
        let ic = self.channels(from)?;
        let (oc, groups) = match groups {
            Groups::One => (oc, 1),
            Groups::Two if ic % 2 == 0 => (oc.next_multiple_of(2), 2),
            Groups::Two => (oc, 1),
            Groups::Depthwise => (ic, ic),
        };
        let [kh, kw] = window.kernel;
        let weights = self.weights(&[oc, ic / groups, kh, kw], density);
        let bias = bias.then(|| self.weights(&[oc, 1], 1.0));
        Some(Op::Convolution(Convolution {
            window,
            oc,
            groups,
            weights,
            bias: bias.map(|id| self.flat(id)),
            post: PostOps::from(relu),
        }))
    }

    fn inner_product(&mut self, kind: &Kind, from: ValueId) -> Option<Op> {
        let &Kind::InnerProduct {
            outputs,
            axis,
            transpose,
            density,
            relu,
        } = kind
        else {
            return None;
        };
        let shape = self.graph.shape(from);
        if shape.rank() <= axis as usize {
            return None;
        }
        let inputs = shape.count_of(axis as usize, shape.rank()) as u32;
        let dims = if transpose {
            [inputs, outputs]
        } else {
            [outputs, inputs]
        };
        let weights = self.weights(&dims, density);
        let bias = self.weights(&[outputs, 1], 1.0);
        Some(Op::InnerProduct(InnerProduct {
            outputs,
            axis,
            transpose,
            weights,
            bias: Some(self.flat(bias)),
            post: PostOps::from(relu),
        }))
    }

    fn batch_norm(&mut self, from: ValueId) -> Option<Op> {
        let channels = self.channels(from)?;
        let mean = self.random.tensor(&[channels], 1.0);
        let mut variance = self.random.tensor(&[channels], 1.0);
        variance
            .data_mut()
            .iter_mut()
            .for_each(|x| *x = 0.5 + x.abs());
        let mut factor = self.random.tensor(&[1], 1.0);
        factor.data_mut()[0] = 1.0;
        let statistics = [mean, variance, factor].map(|tensor| self.graph.add_weight(tensor));
        Some(Op::BatchNorm(BatchNorm {
            statistics: Some(statistics),
            running: true,
            momentum: 0.9,
            eps: 1e-5,
        }))
    }

    fn scale(&mut self, from: ValueId) -> Option<Op> {
        let channels = self.channels(from)?;
        let [scale, bias] = [0; 2].map(|_| {
            let tensor = self.random.tensor(&[channels], 1.0);
            self.graph.add_weight(tensor)
        });
        Some(Op::Scale(Scale {
            axis: 1,
            scale: Some(scale),
            bias: Some(bias),
            add_operand: false,
        }))
    }

    /// The mean of each plane.
    fn means(&mut self, from: ValueId) -> Option<ValueId> {
        let op = Op::Reduce(Reduce {
            op: ReduceOp::Mean,
            axes: vec![2, 3],
            keep: true,
        });
        let name = format!("layer{}", self.graph.nodes.len());
        self.graph.add_node(&name, op, vec![from], &name).ok()
    }

    fn channels(&self, value: ValueId) -> Option<u32> {
        let shape = self.graph.shape(value);
        (shape.rank() > 1).then(|| shape.dim(1))
    }

    /// Weights that keep values at about 1, whatever is summed over.
    fn weights(&mut self, dims: &[u32], density: f32) -> WeightId {
        let mut tensor = self.random.tensor(dims, density);
        let summed: u32 = dims[1..].iter().product();
        let scale = 1.5 / (summed as f32 * density).max(1.0).sqrt();
        tensor.data_mut().iter_mut().for_each(|x| *x *= scale);
        self.graph.add_weight(tensor)
    }

    /// A weight of one axis instead of two.
    fn flat(&mut self, id: WeightId) -> WeightId {
        let data = self.graph.weight(id).data().to_vec();
        let shape = Shape::new([data.len() as u32]).expect("small dims");
        let tensor = skimjit_models::Tensor::new(shape, data);
        self.graph.add_weight(tensor)
    }

    /// One of the values whose shape is like that of `value`; at least `value` itself is.
    fn alike(&self, value: ValueId, index: Index, like: fn(&Shape, &Shape) -> bool) -> ValueId {
        let shape = self.graph.shape(value);
        let all = self.values.iter();
        let found = all.filter(|&&other| like(shape, self.graph.shape(other)));
        let found: Vec<ValueId> = found.copied().collect();
        *index.get(&found)
    }

    fn finish(mut self, kept: &[Index]) -> Graph {
        let made: Vec<ValueId> = self.graph.nodes.iter().map(|node| node.output).collect();
        let read = |id: &ValueId| self.graph.nodes.iter().any(|node| node.inputs.contains(id));
        let mut outputs: Vec<ValueId> = made.iter().copied().filter(|id| !read(id)).collect();
        for index in kept.iter().filter(|_| !made.is_empty()) {
            outputs.push(*index.get(&made));
        }
        outputs.sort_unstable();
        outputs.dedup();
        self.graph.outputs = outputs;
        self.graph
    }
}

fn same_but_for_channels(a: &Shape, b: &Shape) -> bool {
    let without = |shape: &Shape| {
        let mut dims = shape.dims().to_vec();
        if dims.len() > 1 {
            dims[1] = 0;
        }
        dims
    };
    without(a) == without(b)
}
