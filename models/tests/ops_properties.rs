//! What holds for every op: no panic on any attributes, and `per_image` is true only where an image
//! really can be computed alone.

mod ops_cases;

use ops_cases::{Random, evaluate};
use proptest::prelude::*;
use skimjit_models::ops::*;
use skimjit_models::{Graph, Node, Op, Shape, Tensor, ValueId, WeightId, artifact};
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
const OPS: usize = 36;

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
    }
}

#[test]
fn garbage_is_made_of_every_op() {
    let mut random = Random::new(1);
    let made: BTreeSet<usize> = (0..5000).map(|_| ordinal(&garbage(&mut random))).collect();
    assert_eq!(made, (0..OPS).collect());
}

fn garbage(random: &mut Random) -> Op {
    let convolution = Convolution {
        window: window(random),
        oc: number(random),
        groups: number(random),
        weights: id(random),
        bias: maybe(random, id),
        post: PostOps {
            relu: maybe(random, float),
        },
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
            method: random.pick(&[PoolMethod::Max, PoolMethod::Average]),
            window: Window {
                dilation: [1; 2],
                ..window(random)
            },
            global: random.flag(),
            made_for: None,
            round_down: random.flag(),
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

/// A graph section that this format's first version wrote: of every op some, each with what was printed of it
/// as its name. `SKIMJIT_BLESS=1` writes it anew, which is right only before a release.
#[test]
fn every_op_of_a_file_of_this_format_is_read() {
    let path =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/format3/every_op.msgpack");
    let mut random = Random::new(3);
    let mut graph = Graph::default();
    while graph.nodes.len() < 400 {
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
    for node in record.nodes() {
        assert_eq!(format!("{:?}", node.op), node.name);
    }
    assert!(record.nodes().iter().any(|node| node.layer() == "a layer"));
}
