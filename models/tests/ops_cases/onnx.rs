//! Ops that ONNX brings.

use super::{Case, Random, dims};
use skimjit_models::ops::*;
use skimjit_models::{Op, Tensor, Weight, WeightId};
use std::sync::Arc;

pub fn binary_op(random: &mut Random) -> BinaryOp {
    use BinaryOp::*;
    random.pick(&[
        Add,
        Sub,
        Mul,
        Div,
        Pow,
        Min,
        Max,
        Mod,
        Fmod,
        Less,
        LessOrEqual,
        Greater,
        GreaterOrEqual,
        Equal,
        And,
        Or,
        Xor,
    ])
}

pub fn reduce_op(random: &mut Random) -> ReduceOp {
    use ReduceOp::*;
    random.pick(&[
        Sum, Mean, Max, Min, Prod, L1, L2, LogSum, LogSumExp, SumSquare,
    ])
}

pub fn pad_mode(random: &mut Random) -> PadMode {
    let value = random.value();
    random.pick(&[
        PadMode::Constant { value },
        PadMode::Reflect,
        PadMode::Edge,
        PadMode::Wrap,
    ])
}

pub fn coordinates(random: &mut Random) -> Coordinates {
    use Coordinates::*;
    random.pick(&[
        HalfPixel,
        HalfPixelSymmetric,
        PytorchHalfPixel,
        AlignCorners,
        Asymmetric,
        TfCropAndResize,
    ])
}

/// An operand that can be broadcast with one of `dims`: some dims of 1, sometimes fewer axes.
fn broadcast(random: &mut Random, dims: &[u32]) -> Tensor {
    let first = match random.range(0, 3) {
        0 => random.range(0, dims.len() as u32 - 1) as usize,
        _ => 0,
    };
    let one = |&dim: &u32| if random.range(0, 3) == 0 { 1 } else { dim };
    let dims: Vec<u32> = dims[first..].iter().map(one).collect();
    random.tensor(&dims)
}

/// Mostly accepted.
pub fn attempt(random: &mut Random) -> Case {
    let dims = dims(random);
    let rank = dims.len() as u32;
    let axis = random.range(0, rank - 1);
    let dim = dims[axis as usize];
    let x = random.tensor(&dims);
    let flag = random.flag();
    let one = |op| (op, vec![x.clone()]);
    let (op, inputs) = match random.range(0, 18) {
        0 => binary(random, &dims),
        1 => {
            let all = [0; 3].map(|_| broadcast(random, &dims));
            (Op::Select, all.into())
        }
        2 => one(Op::Expand {
            dims: broadcast(random, &dims).shape().dims().to_vec(),
        }),
        3 => {
            let mut pads = || dims.iter().map(|_| random.range(0, 4) as i32 - 1).collect();
            let (begin, end) = (pads(), pads());
            let mode = pad_mode(random);
            one(Op::Pad(Pad { begin, end, mode }))
        }
        4 => one(Op::Gather(Gather {
            axis,
            indices: (0..random.range(1, 5))
                .map(|_| random.range(0, dim - 1))
                .collect(),
        })),
        5 => return resize(random),
        6 => {
            let order = random.pick(&[DepthOrder::Dcr, DepthOrder::Crd]);
            let dims = [2, 4 * random.range(1, 3), random.range(1, 3), 2];
            (
                Op::DepthToSpace { block: 2, order },
                vec![random.tensor(&dims)],
            )
        }
        7 => {
            let dims = [2, random.range(1, 3), 4, 2 * random.range(1, 3)];
            (Op::SpaceToDepth { block: 2 }, vec![random.tensor(&dims)])
        }
        8 => reduce(random, &dims),
        9 => one(Op::LogSoftmax { axis }),
        10 => one(Op::Standardize(Standardize {
            axis,
            end: flag.then_some(axis + 1),
            eps: 0.25,
        })),
        11 => one(Op::LpNormalize {
            axis,
            p: random.range(1, 2),
        }),
        12 => mat_mul(random),
        13 => one(Op::ArgExtreme(ArgExtreme {
            axis,
            keep: random.flag(),
            last: random.flag(),
            smallest: flag,
        })),
        14 => one(Op::TopK(TopK {
            axis,
            k: random.range(1, dim),
            smallest: flag,
            output: random.pick(&[TopKOutput::Values, TopKOutput::Indices]),
        })),
        15 => one(Op::CumSum {
            axis,
            exclusive: random.flag(),
            reverse: flag,
        }),
        16 => return sequence(random),
        17 => suppression(random),
        _ => one(Op::Activation(activation(random))),
    };
    Case {
        op,
        inputs,
        weights: vec![],
    }
}

/// None that makes NaN of numbers.
fn activation(random: &mut Random) -> Activation {
    use Activation::*;
    let (alpha, beta) = (random.value(), random.value());
    random.pick(&[
        Selu { alpha, gamma: beta },
        Celu { alpha: 0.75 },
        HardSigmoid { alpha, beta },
        HardSwish,
        Mish,
        Softsign,
        Gelu { tanh: alpha > beta },
        Erf,
        Sign,
        Floor,
        Ceil,
        Round,
        Truncate,
        Not,
        Sin,
        Cos,
        Tan,
        Atan,
        Sinh,
        Cosh,
        Asinh,
        ThresholdedRelu { alpha },
        Shrink {
            bias: alpha,
            lambda: beta.abs(),
        },
        IsNan,
    ])
}

/// Without NaN: divisors are not 0, bases not negative.
fn binary(random: &mut Random, dims: &[u32]) -> (Op, Vec<Tensor>) {
    let op = binary_op(random);
    let mut operands = [broadcast(random, dims), broadcast(random, dims)];
    for operand in &mut operands {
        let values = operand.data_mut().iter_mut();
        match op {
            BinaryOp::Pow => values.for_each(|x| *x = x.abs() + 0.5),
            BinaryOp::Div | BinaryOp::Mod | BinaryOp::Fmod => {
                values.for_each(|x| *x = if *x == 0.0 { 0.5 } else { *x });
            }
            _ => {}
        }
    }
    let post = random.post();
    (Op::Binary(Binary { op, post }), operands.into())
}

/// Logarithms of positive sums only.
fn reduce(random: &mut Random, dims: &[u32]) -> (Op, Vec<Tensor>) {
    let mut x = random.tensor(dims);
    x.data_mut().iter_mut().for_each(|x| *x = x.abs() + 0.5);
    let axes = (0..dims.len() as u32).filter(|_| random.flag()).collect();
    let (op, keep) = (reduce_op(random), random.flag());
    (Op::Reduce(Reduce { op, axes, keep }), vec![x])
}

fn mat_mul(random: &mut Random) -> (Op, Vec<Tensor>) {
    let [rows, summed, columns] = [0; 3].map(|_| random.range(1, 4));
    let batch: Vec<u32> = (0..random.range(0, 2))
        .map(|_| random.range(1, 3))
        .collect();
    let mut operand = |row: u32, column: u32, vector: u32| {
        if random.range(0, 4) == 0 {
            return random.tensor(&[vector]);
        }
        let mut dims: Vec<u32> = batch.clone();
        if let Some(dim) = dims.first_mut()
            && random.range(0, 2) == 0
        {
            *dim = 1;
        }
        dims.extend([row, column]);
        random.tensor(&dims)
    };
    let a = operand(rows, summed, summed);
    let b = operand(summed, columns, summed);
    (Op::MatMul, vec![a, b])
}

fn resize(random: &mut Random) -> Case {
    let dims = [
        2,
        random.range(1, 3),
        random.range(1, 6),
        random.range(1, 6),
    ];
    let axis = |random: &mut Random, axis: u32| ResizeAxis {
        axis,
        size: match random.flag() {
            true => ResizeSize::Scale(random.pick(&[0.6, 1.0, 1.5, 2.0, 2.7])),
            false => ResizeSize::Size(random.range(1, 7)),
        },
        roi: [random.pick(&[0.0, -0.25]), random.pick(&[1.0, 0.5])],
    };
    let method = random.pick(&[
        ResizeMethod::Nearest(NearestRounding::RoundPreferFloor),
        ResizeMethod::Nearest(NearestRounding::RoundPreferCeil),
        ResizeMethod::Nearest(NearestRounding::Floor),
        ResizeMethod::Nearest(NearestRounding::Ceil),
        ResizeMethod::Linear,
        ResizeMethod::Cubic { a: -0.75 },
    ]);
    let axes = (0..4).filter(|_| random.flag()).collect::<Vec<u32>>();
    let op = Resize {
        axes: axes.into_iter().map(|index| axis(random, index)).collect(),
        method,
        coordinates: coordinates(random),
        antialias: !matches!(method, ResizeMethod::Nearest(_)) && random.flag(),
        exclude_outside: random.flag(),
        extrapolation: random.value(),
    };
    Case {
        op: Op::Resize(op),
        inputs: vec![random.tensor(&dims)],
        weights: vec![],
    }
}

fn sequence(random: &mut Random) -> Case {
    let [steps, n, elements, hidden] = [0; 4].map(|_| random.range(1, 3));
    let linear_before_reset = random.flag();
    let (cell, gates, activations) = random.pick(&[
        (SequenceCell::Rnn, 1, 1),
        (
            SequenceCell::Gru {
                linear_before_reset,
            },
            3,
            2,
        ),
        (
            SequenceCell::Lstm {
                input_forget: linear_before_reset,
            },
            4,
            3,
        ),
    ]);
    let (direction, d) = random.pick(&[
        (Direction::Forward, 1),
        (Direction::Reverse, 1),
        (Direction::Bidirectional, 2),
    ]);
    let lstm = gates == 4;
    let outputs = [
        SequenceOutput::Sequence,
        SequenceOutput::LastHidden,
        SequenceOutput::LastCell,
    ];
    let op = Sequence {
        cell,
        direction,
        hidden,
        output: random.pick(&outputs[..if lstm { 3 } else { 2 }]),
        input_weights: WeightId(0),
        hidden_weights: WeightId(1),
        bias: random.flag().then_some(WeightId(2)),
        peepholes: (lstm && random.flag()).then_some(WeightId(3)),
        clip: random.flag().then_some(0.75),
        activations: (0..activations * d)
            .map(|_| random.pick(&[SequenceActivation::Sigmoid, SequenceActivation::Softsign]))
            .collect(),
        initial_hidden: random.flag(),
        initial_cell: lstm && random.flag(),
        batch_first: random.flag(),
    };
    let (x, state) = match op.batch_first {
        true => ([n, steps, elements], [n, d, hidden]),
        false => ([steps, n, elements], [d, n, hidden]),
    };
    let mut inputs = vec![random.tensor(&x)];
    for _ in 0..u32::from(op.initial_hidden) + u32::from(op.initial_cell) {
        inputs.push(random.tensor(&state));
    }
    let weights = [
        random.tensor(&[d, gates * hidden, elements]),
        random.tensor(&[d, gates * hidden, hidden]),
        random.tensor(&[d, 2 * gates * hidden]),
        random.tensor(&[d, 3 * hidden]),
    ];
    Case {
        op: Op::Sequence(op),
        inputs,
        weights: weights.map(Arc::<Weight>::from).into(),
    }
}

fn suppression(random: &mut Random) -> (Op, Vec<Tensor>) {
    let [n, classes, boxes] = [0; 3].map(|_| random.range(1, 4));
    let op = NonMaxSuppression {
        most: random.range(0, 4),
        iou: random.pick(&[0.0, 0.25, 0.5]),
        score: random.flag().then_some(0.25),
        center: random.flag(),
        rows: random.range(1, 20),
    };
    let inputs = [
        random.tensor(&[n, boxes, 4]),
        random.tensor(&[n, classes, boxes]),
    ];
    (Op::NonMaxSuppression(op), inputs.into())
}
