//! What holds for every op: no panic on any attributes, and `per_image` is true only where an image
//! really can be computed alone.

mod ops_cases;

use ops_cases::{Random, evaluate};
use proptest::prelude::*;
use skimjit_models::ops::*;
use skimjit_models::{Derived, Graph, Node, Op, Shape, Tensor, ValueId, WeightId, artifact};
use std::collections::BTreeSet;

/// Image `n` of a batch.
fn image(tensor: &Tensor, n: u32) -> Tensor {
    let count = tensor.data().len() / tensor.shape().dim(0) as usize;
    let data = tensor.data()[n as usize * count..][..count].to_vec();
    Tensor::new(tensor.shape().with_batch(1), data)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn every_element_is_written(seed: u64) {
        let case = ops_cases::any(&mut Random::new(seed));
        let output = case.output();
        let out_of_class = matches!(case.op, Op::Loss(_));
        prop_assert!(out_of_class || !output.data().iter().any(|x| x.is_nan()), "{:?}", case);
        prop_assert!(!case.op.name().is_empty());
        case.op.macs(&case.shapes(), &case.weights);
    }

    #[test]
    fn images_that_are_said_to_be_independent_are(seed: u64) {
        let case = ops_cases::any(&mut Random::new(seed));
        if !case.op.per_image(&case.shapes()) {
            return Ok(());
        }
        let whole = case.output();
        for n in 0..case.inputs[0].shape().dim(0) {
            let alone: Vec<Tensor> = case.inputs.iter().map(|input| image(input, n)).collect();
            let alone = evaluate(&case.op, &alone, &case.weights);
            prop_assert_eq!(&alone, &image(&whole, n), "{:?}", &case);
        }
    }

    #[test]
    fn no_attributes_make_shape_rules_panic(seed: u64) {
        let mut random = Random::new(seed);
        let weights: Vec<_> = (0..4)
            .map(|_| { let dims = ops_cases::dims(&mut random); random.tensor(&dims).into() })
            .collect();
        let op = garbage(&mut random);
        let shapes: Vec<Shape> = (0..random.range(0, 3)).map(|_| garbage_shape(&mut random)).collect();
        let shapes: Vec<&Shape> = shapes.iter().collect();
        if let Ok(output) = op.infer_shape(&shapes, &weights) {
            let inputs = shapes.iter().map(|&shape| (shape.count() < 10_000).then(|| random.tensor(shape.dims())));
            let inputs: Option<Vec<Tensor>> = inputs.collect();
            if let Some(inputs) = inputs.filter(|_| output.count() < 10_000) {
                evaluate(&op, &inputs, &weights);
            }
        }
        let _ = op.per_image(&shapes);
        let _ = op.macs(&shapes, &weights);
        let _ = (op.name(), op.weights());
    }
}

/// A number that is small, or at an edge.
fn number(random: &mut Random) -> u32 {
    let any = random.next() as u32;
    random.pick(&[0, 1, 2, 3, 4, 1 << 16, 1 << 31, u32::MAX - 1, u32::MAX, any])
}

fn pair(random: &mut Random) -> [u32; 2] {
    [number(random), number(random)]
}

fn float(random: &mut Random) -> f32 {
    random.pick(&[
        0.0,
        -1.0,
        1.0,
        f32::NAN,
        f32::INFINITY,
        -f32::INFINITY,
        f32::MAX,
        1e-40,
    ])
}

fn id(random: &mut Random) -> WeightId {
    WeightId(number(random))
}

fn maybe<T>(random: &mut Random, make: impl Fn(&mut Random) -> T) -> Option<T> {
    random.flag().then(|| make(random))
}

/// Also shapes that `Shape::new` refuses but deserialisation lets through.
fn garbage_shape(random: &mut Random) -> Shape {
    let small = ops_cases::dims(random);
    let wild: Vec<u32> = (0..random.range(0, 10)).map(|_| number(random)).collect();
    let dims = if random.flag() { small } else { wild };
    postcard::from_bytes(&postcard::to_allocvec(&dims).unwrap()).unwrap()
}

fn window(random: &mut Random) -> Window {
    Window {
        kernel: pair(random),
        stride: pair(random),
        pad_begin: pair(random),
        pad_end: pair(random),
        dilation: pair(random),
    }
}

/// Ops there are.
const OPS: usize = 54;

/// A number for every op: a new one has to be added here, and then to [`garbage`].
fn ordinal(op: &Op) -> usize {
    match op {
        Op::Convolution(_) => 0,
        Op::Deconvolution(_) => 1,
        Op::WinogradConvolution(_) => 2,
        Op::InnerProduct(_) => 3,
        Op::Pooling(_) => 4,
        Op::Activation(_) => 5,
        Op::PRelu(_) => 6,
        Op::Lrn(_) => 7,
        Op::BatchNorm(_) => 8,
        Op::Scale(_) => 9,
        Op::Eltwise(_) => 10,
        Op::Concat { .. } => 11,
        Op::Slice(_) => 12,
        Op::Flatten { .. } => 13,
        Op::Reshape(_) => 14,
        Op::Permute { .. } => 15,
        Op::Crop(_) => 16,
        Op::Tile { .. } => 17,
        Op::ArgMax(_) => 18,
        Op::Reduction(_) => 19,
        Op::Softmax { .. } => 20,
        Op::Loss(_) => 21,
        Op::Accuracy(_) => 22,
        Op::Identity => 23,
        Op::Constant(_) => 24,
        Op::Embed(_) => 25,
        Op::Mvn(_) => 26,
        Op::Im2col(_) => 27,
        Op::Recurrent(_) => 28,
        Op::LstmUnit(_) => 29,
        Op::BatchReindex => 30,
        Op::Filter => 31,
        Op::Normalize(_) => 32,
        Op::PriorBox(_) => 33,
        Op::DetectionOutput(_) => 34,
        Op::Dropout { .. } => 35,
        Op::Binary(_) => 36,
        Op::Select => 37,
        Op::Expand { .. } => 38,
        Op::Pad(_) => 39,
        Op::Gather(_) => 40,
        Op::Resize(_) => 41,
        Op::DepthToSpace { .. } => 42,
        Op::SpaceToDepth { .. } => 43,
        Op::Reduce(_) => 44,
        Op::LogSoftmax { .. } => 45,
        Op::Standardize(_) => 46,
        Op::LpNormalize { .. } => 47,
        Op::MatMul => 48,
        Op::ArgExtreme(_) => 49,
        Op::TopK(_) => 50,
        Op::CumSum { .. } => 51,
        Op::Sequence(_) => 52,
        Op::NonMaxSuppression(_) => 53,
    }
}

#[test]
fn garbage_is_made_of_every_op() {
    let mut random = Random::new(1);
    let made: BTreeSet<usize> = (0..5000).map(|_| ordinal(&garbage(&mut random))).collect();
    assert_eq!(made, (0..OPS).collect());
}

fn garbage(random: &mut Random) -> Op {
    match random.range(0, 2) {
        0 => garbage_of_onnx(random),
        _ => garbage_of_caffe(random),
    }
}

fn garbage_of_caffe(random: &mut Random) -> Op {
    let convolution = Convolution {
        window: window(random),
        oc: number(random),
        groups: number(random),
        weights: id(random),
        bias: maybe(random, id),
        post: PostOps::from(maybe(random, float)),
    };
    let axis = number(random);
    let ignore_label = Some(number(random) as i32);
    let normalization = Normalization::Full;
    match random.range(0, 33) {
        0 => Op::Convolution(convolution),
        1 => Op::Deconvolution(convolution),
        2 => Op::WinogradConvolution(WinogradConvolution {
            kernel: random.pick(&[3, 5, axis]),
            pad: pair(random),
            oc: number(random),
            groups: number(random),
            weights: id(random),
            bias: maybe(random, id),
        }),
        3 => Op::InnerProduct(InnerProduct {
            outputs: number(random),
            axis,
            transpose: random.flag(),
            weights: id(random),
            bias: maybe(random, id),
            post: convolution.post,
        }),
        4 => Op::Pooling(Pooling {
            method: random.pick(&[
                PoolMethod::Max,
                PoolMethod::Average,
                PoolMethod::AverageInside,
                PoolMethod::Lp { p: axis },
            ]),
            window: window(random),
            global: random.flag(),
            made_for: None,
            rounding: random.pick(&ops_cases::ROUNDINGS),
            relu: random.flag(),
            mask: random.flag(),
        }),
        5 => Op::Activation(random.pick(&[
            Activation::Log {
                base: f32::NAN,
                scale: 0.0,
                shift: 0.0,
            },
            Activation::Exp {
                base: -2.0,
                scale: 0.0,
                shift: 0.0,
            },
            Activation::Clip {
                min: 1.0,
                max: -1.0,
            },
            Activation::Celu { alpha: 0.0 },
            Activation::IsInf {
                negative: true,
                positive: false,
            },
            Activation::Gelu { tanh: true },
        ])),
        6 => Op::PRelu(PRelu { slope: id(random) }),
        7 => Op::Lrn(Lrn {
            size: number(random),
            alpha: float(random),
            beta: float(random),
            k: float(random),
            within_channel: random.flag(),
        }),
        8 => Op::BatchNorm(BatchNorm {
            statistics: maybe(random, |random| [id(random), id(random), id(random)]),
            running: random.flag(),
            momentum: float(random),
            eps: float(random),
        }),
        9 => Op::Scale(Scale {
            axis,
            scale: maybe(random, id),
            bias: maybe(random, id),
            add_operand: random.flag(),
        }),
        10 => Op::Eltwise(Eltwise {
            op: EltwiseOp::Sum {
                coefficients: vec![0.5; random.range(0, 3) as usize],
            },
            post: convolution.post,
        }),
        11 => Op::Concat { axis },
        12 => Op::Slice(Slice {
            axis,
            begin: number(random),
            end: number(random),
        }),
        13 => Op::Flatten {
            axis,
            end_axis: number(random),
        },
        14 => Op::Reshape(Reshape {
            dims: (0..random.range(0, 10))
                .map(|_| {
                    let any = number(random);
                    random.pick(&[0, -1, -2, i64::MIN, i64::MAX, i64::from(any)])
                })
                .collect(),
            axis: number(random) as i32,
            num_axes: number(random) as i32,
        }),
        15 => Op::Permute {
            order: (0..random.range(0, 9)).map(|_| number(random)).collect(),
        },
        16 => Op::Crop(Crop {
            axis,
            offset: pair(random)[..random.range(0, 2) as usize].to_vec(),
        }),
        17 => Op::Tile {
            axis,
            tiles: number(random),
        },
        18 => Op::ArgMax(ArgMax {
            top_k: number(random),
            out_max_val: random.flag(),
            axis: maybe(random, |random| number(random) as i32),
        }),
        19 => Op::Reduction(Reduction {
            op: ReductionOp::Sum,
            axis: axis as i32,
            coeff: 1.0,
        }),
        20 => Op::Softmax { axis },
        22 => Op::Embed(Embed {
            outputs: number(random),
            weights: id(random),
            bias: maybe(random, id),
        }),
        23 => Op::Mvn(Mvn {
            normalize_variance: random.flag(),
            across_channels: random.flag(),
            eps: float(random),
        }),
        24 => Op::Im2col(Im2col {
            window: window(random),
        }),
        25 => Op::Recurrent(Recurrent {
            outputs: number(random),
            cell: if random.flag() {
                Cell::Lstm
            } else {
                Cell::Rnn {
                    weights: id(random),
                    bias: id(random),
                }
            },
            initial: random.flag(),
            input_weights: id(random),
            input_bias: id(random),
            static_weights: maybe(random, id),
            hidden_weights: id(random),
        }),
        26 => Op::LstmUnit(LstmUnit {
            hidden: random.flag(),
        }),
        27 => random.pick(&[Op::BatchReindex, Op::Filter]),
        21 => {
            let matrix = maybe(random, id);
            Op::Loss(random.pick(&[
                Loss::SoftmaxWithLoss {
                    axis,
                    ignore_label,
                    normalization,
                },
                Loss::Infogain {
                    matrix,
                    axis,
                    ignore_label,
                    normalization,
                },
                Loss::Euclidean,
                Loss::SigmoidCrossEntropy {
                    ignore_label,
                    normalization,
                },
                Loss::Hinge { l2: true },
                Loss::MultinomialLogistic,
                Loss::Contrastive {
                    margin: 0.0,
                    legacy: true,
                },
            ]))
        }
        28 => match random.flag() {
            true => Op::Identity,
            false => Op::Dropout {
                ratio: float(random),
            },
        },
        29 => Op::Constant(id(random)),
        30 => Op::Normalize(Normalize {
            across_spatial: random.flag(),
            eps: float(random),
            scale: id(random),
        }),
        31 => Op::PriorBox(PriorBox {
            min_sizes: (0..random.range(0, 3)).map(|_| number(random)).collect(),
            max_sizes: (0..random.range(0, 3)).map(|_| number(random)).collect(),
            aspect_ratios: (0..random.range(0, 3)).map(|_| float(random)).collect(),
            clip: random.flag(),
            variance: [float(random); 4],
            image: maybe(random, pair),
            step: maybe(random, |random| [float(random), float(random)]),
            offset: float(random),
        }),
        32 => Op::DetectionOutput(DetectionOutput {
            classes: number(random),
            share_location: random.flag(),
            background: maybe(random, number),
            code: random.pick(&[BoxCode::Corner, BoxCode::CenterSize, BoxCode::CornerSize]),
            variance_encoded: random.flag(),
            confidence_threshold: maybe(random, float),
            nms_threshold: float(random),
            top_k: maybe(random, number),
            eta: float(random),
            keep_top_k: maybe(random, number),
        }),
        _ => Op::Accuracy(Accuracy {
            top_k: number(random),
            axis,
            ignore_label,
            per_class: true,
        }),
    }
}

/// Some numbers.
fn numbers(random: &mut Random) -> Vec<u32> {
    (0..random.range(0, 9)).map(|_| number(random)).collect()
}

fn signed(random: &mut Random) -> Vec<i32> {
    let small = random.flag();
    let one = |random: &mut Random| match small {
        true => random.range(0, 6) as i32 - 3,
        false => number(random) as i32,
    };
    (0..random.range(0, 5)).map(|_| one(random)).collect()
}

fn garbage_of_onnx(random: &mut Random) -> Op {
    let (axis, k) = (number(random), number(random));
    let [first, second] = [random.flag(), random.flag()];
    match random.range(0, 17) {
        0 => Op::Binary(Binary {
            op: ops_cases::onnx::binary_op(random),
            post: random.post(),
        }),
        1 => Op::Select,
        2 => Op::Expand {
            dims: numbers(random),
        },
        3 => Op::Pad(Pad {
            begin: signed(random),
            end: signed(random),
            mode: ops_cases::onnx::pad_mode(random),
        }),
        4 => Op::Gather(Gather {
            axis,
            indices: numbers(random),
        }),
        5 => Op::Resize(garbage_resize(random)),
        6 => Op::DepthToSpace {
            block: k,
            order: random.pick(&[DepthOrder::Dcr, DepthOrder::Crd]),
        },
        7 => Op::SpaceToDepth { block: k },
        8 => Op::Reduce(Reduce {
            op: ops_cases::onnx::reduce_op(random),
            axes: numbers(random),
            keep: first,
        }),
        9 => Op::LogSoftmax { axis },
        10 => Op::Standardize(Standardize {
            end: None,
            axis,
            eps: float(random),
        }),
        11 => Op::LpNormalize { axis, p: k },
        12 => Op::MatMul,
        13 => Op::ArgExtreme(ArgExtreme {
            axis,
            keep: first,
            last: second,
            smallest: random.flag(),
        }),
        14 => Op::TopK(TopK {
            axis,
            k,
            smallest: first,
            output: random.pick(&[TopKOutput::Values, TopKOutput::Indices]),
        }),
        15 => Op::CumSum {
            axis,
            exclusive: first,
            reverse: second,
        },
        16 => Op::Sequence(garbage_sequence(random)),
        _ => Op::NonMaxSuppression(NonMaxSuppression {
            most: k,
            iou: float(random),
            score: maybe(random, float),
            center: first,
            rows: number(random),
        }),
    }
}

fn garbage_resize(random: &mut Random) -> Resize {
    let axis = |random: &mut Random| ResizeAxis {
        axis: number(random),
        size: match random.flag() {
            true => ResizeSize::Scale(float(random)),
            false => ResizeSize::Size(number(random)),
        },
        roi: [float(random), float(random)],
    };
    Resize {
        axes: (0..random.range(0, 3)).map(|_| axis(random)).collect(),
        method: random.pick(&[
            ResizeMethod::Nearest(NearestRounding::Ceil),
            ResizeMethod::Linear,
            ResizeMethod::Cubic { a: -0.5 },
        ]),
        coordinates: ops_cases::onnx::coordinates(random),
        antialias: random.flag(),
        exclude_outside: random.flag(),
        extrapolation: float(random),
    }
}

fn garbage_sequence(random: &mut Random) -> Sequence {
    Sequence {
        cell: random.pick(&[
            SequenceCell::Rnn,
            SequenceCell::Gru {
                linear_before_reset: true,
            },
            SequenceCell::Lstm { input_forget: true },
        ]),
        direction: random.pick(&[Direction::Reverse, Direction::Bidirectional]),
        hidden: number(random),
        output: random.pick(&[SequenceOutput::LastCell, SequenceOutput::Sequence]),
        input_weights: id(random),
        hidden_weights: id(random),
        bias: maybe(random, id),
        peepholes: maybe(random, id),
        clip: maybe(random, float),
        activations: vec![SequenceActivation::Softsign; random.range(0, 6) as usize],
        initial_hidden: random.flag(),
        initial_cell: random.flag(),
        batch_first: random.flag(),
    }
}

/// A graph section that this format's first version wrote: of every op some, each with what was printed of it
/// as its name. `SKIMJIT_BLESS=1` writes it anew, which is right only before a release.
#[test]
fn every_op_of_a_file_of_this_format_is_read() {
    let path =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/format4/every_op.msgpack");
    let mut random = Random::new(3);
    let mut graph = Graph::default();
    while graph.nodes.len() < 600 {
        let op = garbage(&mut random);
        let text = format!("{op:?}");
        if text.contains("NaN") || text.len() > 1500 {
            continue;
        }
        graph.nodes.push(Node {
            name: text,
            part_of: random.flag().then(|| "a layer".to_owned()),
            op,
            inputs: vec![ValueId(7)],
            output: ValueId(graph.nodes.len() as u32),
            derived: random.pick(&[Derived::No, Derived::Sizes, Derived::Shapes]),
        });
    }
    if std::env::var_os("SKIMJIT_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, artifact::graph::encode(&graph).unwrap()).unwrap();
    }
    let bytes = std::fs::read(&path).unwrap();
    let record = artifact::graph::decode(artifact::container::FORMAT, &bytes).unwrap();
    let made: BTreeSet<usize> = record
        .nodes()
        .iter()
        .map(|node| ordinal(&node.op))
        .collect();
    assert_eq!(made, (0..OPS).collect());
    // A field that came later is none in files that do not have it.
    let without = |text: &str| text.replace("end: None, ", "");
    for node in record.nodes() {
        assert_eq!(without(&format!("{:?}", node.op)), without(&node.name));
    }
    assert!(record.nodes().iter().any(|node| node.layer() == "a layer"));
}

/// The file of format 3, of which a version wrote each op's text as the name of its node.
#[test]
fn every_op_of_a_file_of_format_3_is_read() {
    let path =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/format3/every_op.msgpack");
    let record = artifact::graph::decode(3, &std::fs::read(path).unwrap()).unwrap();
    let made: BTreeSet<usize> = record
        .nodes()
        .iter()
        .map(|node| ordinal(&node.op))
        .collect();
    assert_eq!(made, (0..36).collect());
    for node in record.nodes() {
        let text = format!("{:?}", node.op);
        let text = text.replace("activation: Some(ReLU { slope: ", "relu: Some(");
        let text = text
            .replace(" }) }", ") }")
            .replace("activation: None", "relu: None");
        let text = text.replace("rounding: Up", "round_down: false");
        let text = text.replace("rounding: Down", "round_down: true");
        assert_eq!(text, node.name);
        assert_eq!(node.derived, Derived::No);
    }
}
