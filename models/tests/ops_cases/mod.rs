//! Random ops with operands and weights that fit, for the op and pass tests.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod onnx;

use skimjit_models::ops::*;
use skimjit_models::{Op, Shape, Tensor, TensorRef, Weight, WeightId};
use skimjit_testing::Noise;
use std::sync::Arc;

/// All of them.
pub const ROUNDINGS: [Rounding; 3] = [Rounding::Down, Rounding::Up, Rounding::UpInside];

/// A small deterministic generator, so that a failing seed can be run again.
pub struct Random(Noise);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(Noise::new(seed))
    }
    pub fn next(&mut self) -> u64 {
        self.0.bits()
    }
    /// From `low` to `high`, both included.
    pub fn range(&mut self, low: u32, high: u32) -> u32 {
        low + self.0.below(u64::from(high - low) + 1) as u32
    }
    pub fn flag(&mut self) -> bool {
        self.next() & 1 == 1
    }
    pub fn pick<T: Clone>(&mut self, items: &[T]) -> T {
        items[self.range(0, items.len() as u32 - 1) as usize].clone()
    }
    /// A multiple of 1/16 between −2 and 2: sums of products of these are exact in `f64`.
    pub fn value(&mut self) -> f32 {
        (self.range(0, 64) as f32 - 32.0) / 16.0
    }
    pub fn tensor(&mut self, dims: &[u32]) -> Tensor {
        let shape = Shape::new(dims).unwrap();
        let data = (0..shape.count()).map(|_| self.value()).collect();
        Tensor::new(shape, data)
    }
    /// Like [`Random::tensor`] with about half of the elements zero.
    pub fn sparse_tensor(&mut self, dims: &[u32]) -> Tensor {
        let mut tensor = self.tensor(dims);
        for value in tensor.data_mut() {
            if self.flag() {
                *value = 0.0;
            }
        }
        tensor
    }
    pub fn window(&mut self) -> Window {
        let mut pair = |low, high| [self.range(low, high), self.range(low, high)];
        Window {
            kernel: pair(1, 4),
            stride: pair(1, 3),
            pad_begin: pair(0, 3),
            pad_end: pair(0, 3),
            dilation: pair(1, 2),
        }
    }
    pub fn post(&mut self) -> PostOps {
        self.pick(&[None, Some(0.0), Some(0.5)]).into()
    }
}

/// An op with its operands.
#[derive(Debug)]
pub struct Case {
    pub op: Op,
    pub inputs: Vec<Tensor>,
    pub weights: Vec<Arc<Weight>>,
}

impl Case {
    pub fn shapes(&self) -> Vec<&Shape> {
        self.inputs.iter().map(Tensor::shape).collect()
    }
    pub fn output(&self) -> Tensor {
        evaluate(&self.op, &self.inputs, &self.weights)
    }
}

pub fn evaluate(op: &Op, inputs: &[Tensor], weights: &[Arc<Weight>]) -> Tensor {
    let shapes: Vec<&Shape> = inputs.iter().map(Tensor::shape).collect();
    let shape = op.infer_shape(&shapes, weights).unwrap();
    // NaN shows elements that are not written.
    let mut output = Tensor::new(shape.clone(), vec![f32::NAN; shape.count()]);
    let operands: Vec<TensorRef<'_>> = inputs.iter().map(Tensor::view).collect();
    op.evaluate(&operands, weights, &shape, output.data_mut());
    output
}

/// A convolution or deconvolution whose kernel fits.
pub fn convolution(random: &mut Random, transposed: bool) -> Case {
    loop {
        let groups = random.range(1, 3);
        let (group_ic, group_oc) = (random.range(1, 3), random.range(1, 3));
        let (ic, oc) = (groups * group_ic, groups * group_oc);
        let window = random.window();
        let [kh, kw] = window.kernel;
        let dims = if transposed {
            [ic, group_oc, kh, kw]
        } else {
            [oc, group_ic, kh, kw]
        };
        let weights = [random.tensor(&dims), random.tensor(&[oc])].map(Arc::<Weight>::from);
        let bias = random.flag().then_some(WeightId(1));
        let post = random.post();
        let conv = Convolution {
            window,
            oc,
            groups,
            weights: WeightId(0),
            bias,
            post,
        };
        let op = if transposed {
            Op::Deconvolution(conv)
        } else {
            Op::Convolution(conv)
        };
        let (n, ih, iw) = (random.range(1, 3), random.range(1, 9), random.range(1, 9));
        let inputs = vec![random.tensor(&[n, ic, ih, iw])];
        let case = Case {
            op,
            inputs,
            weights: weights.into(),
        };
        if case.op.infer_shape(&case.shapes(), &case.weights).is_ok() {
            return case;
        }
    }
}

pub fn pooling(random: &mut Random) -> Case {
    loop {
        let method = random.pick(&[
            PoolMethod::Max,
            PoolMethod::Average,
            PoolMethod::AverageInside,
            PoolMethod::Lp { p: 3 },
        ]);
        let max = method == PoolMethod::Max;
        let pooling = Pooling {
            method,
            window: random.window(),
            global: random.range(0, 7) == 0,
            made_for: None,
            rounding: random.pick(&ROUNDINGS),
            relu: max && random.flag(),
            mask: max && random.range(0, 3) == 0,
        };
        let dims = [
            random.range(1, 3),
            random.range(1, 3),
            random.range(1, 9),
            random.range(1, 9),
        ];
        let (op, inputs) = (Op::Pooling(pooling), vec![random.tensor(&dims)]);
        let case = Case {
            op,
            inputs,
            weights: vec![],
        };
        if case.op.infer_shape(&case.shapes(), &[]).is_ok() {
            return case;
        }
    }
}

/// Dims of a blob of 1 to 5 axes.
pub fn dims(random: &mut Random) -> Vec<u32> {
    (0..random.range(1, 5))
        .map(|_| random.range(1, 4))
        .collect()
}

/// Any op, with operands that it accepts.
pub fn any(random: &mut Random) -> Case {
    loop {
        let case = match random.range(0, 2) {
            0 => onnx::attempt(random),
            _ => attempt(random),
        };
        if case.op.infer_shape(&case.shapes(), &case.weights).is_ok() {
            return case;
        }
    }
}

/// Mostly accepted.
fn attempt(random: &mut Random) -> Case {
    let dims = dims(random);
    let rank = dims.len() as u32;
    let axis = random.range(0, rank - 1);
    let image = [
        2,
        random.range(1, 4),
        random.range(1, 6),
        random.range(1, 6),
    ];
    let x = random.tensor(&dims);
    let one = |op| (op, vec![x.clone()], vec![]);
    let (op, inputs, weights) = match random.range(0, 27) {
        0 => return convolution(random, false),
        1 => return convolution(random, true),
        2 => return pooling(random),
        3 => return winograd(random),
        4 => return inner_product(random),
        5 => one(Op::Activation(activation(random))),
        6 => {
            let slope = if random.flag() {
                random.tensor(&dims[1..2.min(dims.len())])
            } else {
                random.tensor(&[1])
            };
            (
                Op::PRelu(PRelu { slope: WeightId(0) }),
                vec![x],
                vec![slope],
            )
        }
        7 => (lrn(random), vec![random.tensor(&image)], vec![]),
        8 => return batch_norm(random, &dims),
        9 => return scale(random, &dims),
        10 => return eltwise(random, &dims),
        11 => {
            let mut other = dims.clone();
            other[axis as usize] = random.range(1, 4);
            let other = random.tensor(&other);
            (Op::Concat { axis }, vec![x.clone(), other, x], vec![])
        }
        12 => {
            let end = random.range(1, dims[axis as usize]);
            one(Op::Slice(Slice {
                axis,
                begin: random.range(0, end - 1),
                end,
            }))
        }
        13 => one(Op::Flatten {
            axis,
            end_axis: random.range(axis, rank - 1),
        }),
        14 => one(Op::Reshape(Reshape {
            dims: (0..random.range(1, 4))
                .map(|_| random.pick(&[0, 0, -1, 1, 2, 4]))
                .collect(),
            axis: random.pick(&[0, 0, 1, -1, -2]),
            num_axes: random.pick(&[-1, -1, 0, 1, 2]),
        })),
        15 => {
            let mut order: Vec<u32> = (0..rank).collect();
            for i in 1..order.len() {
                order.swap(i, random.range(0, i as u32) as usize);
            }
            one(Op::Permute { order })
        }
        16 => {
            let like: Vec<u32> = dims.iter().map(|&dim| random.range(1, dim)).collect();
            let offset = random.pick(&[vec![], vec![0], vec![1], vec![1; (rank - axis) as usize]]);
            (
                Op::Crop(Crop { axis, offset }),
                vec![x, random.tensor(&like)],
                vec![],
            )
        }
        17 => one(Op::Tile {
            axis,
            tiles: random.range(1, 3),
        }),
        18 => one(Op::ArgMax(ArgMax {
            top_k: random.range(1, 2),
            out_max_val: random.flag(),
            axis: random
                .flag()
                .then_some(axis as i32 - if random.flag() { rank as i32 } else { 0 }),
        })),
        19 => {
            let op = random.pick(&[
                ReductionOp::Sum,
                ReductionOp::AbsSum,
                ReductionOp::SumOfSquares,
                ReductionOp::Mean,
            ]);
            one(Op::Reduction(Reduction {
                op,
                axis: axis as i32,
                coeff: random.value(),
            }))
        }
        20 => one(Op::Softmax { axis }),
        21 => one(Op::Mvn(Mvn {
            normalize_variance: random.flag(),
            across_channels: random.flag(),
            eps: 0.25,
        })),
        22 => {
            let window = random.window();
            let op = Op::Im2col(Im2col { window });
            (op, vec![random.tensor(&image)], vec![])
        }
        23 => return embed(random, &dims),
        24 => return recurrent(random),
        25 => return lstm_unit(random),
        26 => return choice(random, &dims),
        _ => return loss(random),
    };
    Case {
        op,
        inputs,
        weights: weights.into_iter().map(Arc::<Weight>::from).collect(),
    }
}

/// Only indices that are rows.
fn embed(random: &mut Random, dims: &[u32]) -> Case {
    let (rows, outputs) = (random.range(1, 5), random.range(1, 4));
    let mut indices = random.tensor(dims);
    for index in indices.data_mut() {
        *index = random.range(0, rows - 1) as f32;
    }
    let op = Op::Embed(Embed {
        outputs,
        weights: WeightId(0),
        bias: random.flag().then_some(WeightId(1)),
    });
    let weights = [random.tensor(&[rows, outputs]), random.tensor(&[outputs])];
    Case {
        op,
        inputs: vec![indices],
        weights: weights.map(Arc::<Weight>::from).into(),
    }
}

fn recurrent(random: &mut Random) -> Case {
    let (steps, n, elements) = (random.range(1, 4), random.range(1, 3), random.range(1, 4));
    let (outputs, lstm, initial) = (random.range(1, 3), random.flag(), random.flag());
    let mut inputs = vec![
        random.tensor(&[steps, n, elements, 1]),
        random.tensor(&[steps, n]),
    ];
    let gates = if lstm { 4 * outputs } else { outputs };
    let mut weights = vec![random.tensor(&[gates, elements]), random.tensor(&[gates])];
    let static_weights = random.flag().then(|| {
        inputs.push(random.tensor(&[n, 2]));
        weights.push(random.tensor(&[gates, 2]));
        WeightId(2)
    });
    for _ in 0..usize::from(initial) * if lstm { 2 } else { 1 } {
        inputs.push(random.tensor(&[1, n, outputs]));
    }
    let hidden = weights.len() as u32;
    weights.push(random.tensor(&[gates, outputs]));
    weights.extend([
        random.tensor(&[outputs, outputs]),
        random.tensor(&[outputs]),
    ]);
    let (weight, bias) = (WeightId(hidden + 1), WeightId(hidden + 2));
    let cell = if lstm {
        Cell::Lstm
    } else {
        Cell::Rnn {
            weights: weight,
            bias,
        }
    };
    let op = Op::Recurrent(Recurrent {
        outputs,
        cell,
        initial,
        input_weights: WeightId(0),
        input_bias: WeightId(1),
        static_weights,
        hidden_weights: WeightId(hidden),
    });
    Case {
        op,
        inputs,
        weights: weights.into_iter().map(Arc::<Weight>::from).collect(),
    }
}

fn lstm_unit(random: &mut Random) -> Case {
    let (n, d) = (random.range(1, 3), random.range(1, 3));
    let dims: [&[u32]; 3] = [&[1, n, d], &[1, n, 4 * d], &[1, n]];
    let hidden = random.flag();
    Case {
        op: Op::LstmUnit(LstmUnit { hidden }),
        inputs: dims.map(|dims| random.tensor(dims)).into(),
        weights: vec![],
    }
}

/// BatchReindex or Filter.
fn choice(random: &mut Random, dims: &[u32]) -> Case {
    let filter = random.flag();
    let count = if filter { dims[0] } else { random.range(1, 4) };
    let mut second = random.tensor(&[count]);
    for element in second.data_mut() {
        *element = random.range(0, dims[0] - 1) as f32;
    }
    Case {
        op: if filter { Op::Filter } else { Op::BatchReindex },
        inputs: vec![random.tensor(dims), second],
        weights: vec![],
    }
}

pub fn winograd(random: &mut Random) -> Case {
    let kernel = random.pick(&[3, 5]);
    let groups = random.range(1, 2);
    let (group_ic, oc) = (random.range(1, 3), groups * random.range(1, 10));
    let m = kernel + 3;
    let weights =
        [random.tensor(&[m, m, oc, group_ic]), random.tensor(&[oc])].map(Arc::<Weight>::from);
    let pad = [random.range(0, 3), random.range(0, 3)];
    let bias = random.flag().then_some(WeightId(1));
    let op = WinogradConvolution {
        kernel,
        pad,
        oc,
        groups,
        weights: WeightId(0),
        bias,
    };
    let dims = [
        2,
        groups * group_ic,
        random.range(5, 11),
        random.range(5, 11),
    ];
    let inputs = vec![random.tensor(&dims)];
    Case {
        op: Op::WinogradConvolution(op),
        inputs,
        weights: weights.into(),
    }
}

pub fn inner_product(random: &mut Random) -> Case {
    let dims = dims(random);
    let axis = random.range(0, dims.len() as u32 - 1);
    let summed: u32 = dims[axis as usize..].iter().product();
    let outputs = random.pick(&[1, 3, 70]);
    let transpose = random.flag();
    let matrix = if transpose {
        [summed, outputs]
    } else {
        [outputs, summed]
    };
    let weights = [random.tensor(&matrix), random.tensor(&[outputs])].map(Arc::<Weight>::from);
    let bias = random.flag().then_some(WeightId(1));
    let post = random.post();
    let op = InnerProduct {
        outputs,
        axis,
        transpose,
        weights: WeightId(0),
        bias,
        post,
    };
    Case {
        op: Op::InnerProduct(op),
        inputs: vec![random.tensor(&dims)],
        weights: weights.into(),
    }
}

fn activation(random: &mut Random) -> Activation {
    let (a, b) = (random.value(), random.value());
    random.pick(&[
        Activation::ReLU { slope: a },
        Activation::Elu { alpha: a },
        Activation::Sigmoid,
        Activation::TanH,
        Activation::AbsVal,
        Activation::Bnll,
        Activation::Power {
            power: 2.0,
            scale: a,
            shift: b,
        },
        Activation::Exp {
            base: -1.0,
            scale: a,
            shift: b,
        },
        Activation::Log {
            base: 10.0,
            scale: 1.0,
            shift: 3.0,
        },
        Activation::Threshold { threshold: a },
        Activation::Swish { beta: a },
        Activation::Clip { min: a, max: b },
    ])
}

fn lrn(random: &mut Random) -> Op {
    let size = random.pick(&[1, 3, 5, 9]);
    Op::Lrn(Lrn {
        size,
        alpha: 0.5,
        beta: 0.75,
        k: 1.5,
        within_channel: random.flag(),
    })
}

pub fn batch_norm(random: &mut Random, dims: &[u32]) -> Case {
    let channels = if dims.len() == 1 { 1 } else { dims[1] };
    let mut weights = [
        random.tensor(&[channels]),
        random.tensor(&[channels]),
        random.tensor(&[1]),
    ];
    weights[1].data_mut().iter_mut().for_each(|v| *v = v.abs());
    weights[2].data_mut()[0] = random.pick(&[0.0, 1.0, 2.0, 999.98]);
    let statistics = (random.range(0, 3) > 0).then_some([0, 1, 2].map(WeightId));
    let op = Op::BatchNorm(BatchNorm {
        statistics,
        running: random.range(0, 5) > 0,
        momentum: 0.9,
        eps: 0.25,
    });
    Case {
        op,
        inputs: vec![random.tensor(dims)],
        weights: weights.map(Arc::<Weight>::from).into(),
    }
}

pub fn scale(random: &mut Random, dims: &[u32]) -> Case {
    let rank = dims.len() as u32;
    let axis = random.range(0, rank - 1);
    let mut part = || {
        let begin = if random.range(0, 4) == 0 { rank } else { axis };
        let end = random.range(begin, rank);
        random.tensor(&dims[begin as usize..end as usize])
    };
    let weights = [part(), part()].map(Arc::<Weight>::from);
    let second = part();
    let two = random.range(0, 2) == 0;
    let scale = (!two && random.flag()).then_some(WeightId(0));
    let bias = random.flag().then_some(WeightId(1));
    let op = Op::Scale(Scale {
        axis,
        scale,
        bias,
        add_operand: two && random.flag(),
    });
    let x = random.tensor(dims);
    let inputs = if two { vec![x, second] } else { vec![x] };
    Case {
        op,
        inputs,
        weights: weights.into(),
    }
}

fn eltwise(random: &mut Random, dims: &[u32]) -> Case {
    let count = random.range(2, 4);
    let coefficients = (0..count).map(|_| random.value()).collect();
    let ops = [
        EltwiseOp::Product,
        EltwiseOp::Max,
        EltwiseOp::Sum { coefficients },
    ];
    let op = Op::Eltwise(Eltwise {
        op: random.pick(&ops),
        post: random.post(),
    });
    Case {
        op,
        inputs: (0..count).map(|_| random.tensor(dims)).collect(),
        weights: vec![],
    }
}

/// Losses and accuracy, also with labels that are no class.
fn loss(random: &mut Random) -> Case {
    let (n, classes) = (random.range(1, 4), random.range(2, 5));
    let label_shape = Shape::new([n]).unwrap();
    let labels = (0..n)
        .map(|_| random.range(0, classes) as f32 - 0.5)
        .collect();
    let labels = Tensor::new(label_shape, labels);
    let scores = random.tensor(&[n, classes]);
    let normalization = random.pick(&[
        Normalization::Full,
        Normalization::Valid,
        Normalization::BatchSize,
        Normalization::None,
    ]);
    let ignore_label = random.flag().then_some(1);
    let (axis, matrix) = (1, Some(WeightId(0)));
    let loss = random.pick(&[
        Loss::SoftmaxWithLoss {
            axis,
            ignore_label,
            normalization,
        },
        Loss::Hinge { l2: false },
        Loss::MultinomialLogistic,
        Loss::Infogain {
            matrix,
            axis,
            ignore_label,
            normalization,
        },
    ]);
    let top_k = random.range(1, 2);
    let accuracy = Accuracy {
        top_k,
        axis,
        ignore_label,
        per_class: random.flag(),
    };
    let op = if random.flag() {
        Op::Loss(loss)
    } else {
        Op::Accuracy(accuracy)
    };
    let weights = vec![random.tensor(&[classes, classes]).into()];
    Case {
        op,
        inputs: vec![scores, labels],
        weights,
    }
}
