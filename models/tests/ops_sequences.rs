//! Recurrent layers, table look-ups and layers that choose or rearrange, against numbers of PyTorch and
//! NumPy (float64), made from the same formula.
#![expect(
    clippy::excessive_precision,
    reason = "numbers as the other program printed them"
)]

mod ops_cases;

use ops_cases::{Case, Random};
use skimjit_models::ops::*;
use skimjit_models::{Op, Shape, Tensor, WeightId};

/// sin(0.7·i + phase), rounded to three decimals.
fn wave(dims: &[u32], phase: f64) -> Tensor {
    let shape = Shape::new(dims).unwrap();
    let value = |i: usize| ((0.7 * i as f64 + phase).sin() * 1e3).round() / 1e3;
    let data = (0..shape.count()).map(|i| value(i) as f32).collect();
    Tensor::new(shape, data)
}

fn tensor(dims: &[u32], data: &[f32]) -> Tensor {
    Tensor::new(Shape::new(dims).unwrap(), data.to_vec())
}

fn case(op: Op, inputs: Vec<Tensor>, weights: Vec<Tensor>) -> Case {
    let weights = weights.into_iter().map(Into::into).collect();
    Case {
        op,
        inputs,
        weights,
    }
}

#[track_caller]
fn close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (index, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!(
            (a - b).abs() < 2e-7 * b.abs().max(1.0),
            "element {index}: {a} {b}"
        );
    }
}

/// 3 steps of 2 sequences of 3 elements, 2 outputs; sequence 0 starts at step 0, sequence 1 goes on
/// from the state and starts anew in step 1.
fn operands(fixed: bool, states: usize) -> Vec<Tensor> {
    let cont = tensor(&[3, 2], &[0.0, 1.0, 1.0, 0.0, 1.0, 1.0]);
    let mut inputs = vec![wave(&[3, 2, 3], 0.1), cont];
    if fixed {
        inputs.push(wave(&[2, 2], 0.6));
    }
    let phases = [0.7, 0.8].into_iter().take(states);
    inputs.extend(phases.map(|phase| wave(&[1, 2, 2], phase)));
    inputs
}

fn recurrent(lstm: bool, fixed: bool, initial: bool) -> Case {
    let gates = if lstm { 8 } else { 2 };
    let mut weights = vec![wave(&[gates, 3], 0.2), wave(&[gates], 0.3)];
    let mut add = |tensor: Tensor| {
        weights.push(tensor);
        WeightId(weights.len() as u32 - 1)
    };
    let static_weights = fixed.then(|| add(wave(&[gates, 2], 0.4)));
    let hidden_weights = add(wave(&[gates, 2], 0.5));
    let cell = if lstm {
        Cell::Lstm
    } else {
        let weights = add(wave(&[2, 2], 0.9));
        let bias = add(wave(&[2], 1.1));
        Cell::Rnn { weights, bias }
    };
    let states = match (initial, lstm) {
        (false, _) => 0,
        (true, false) => 1,
        (true, true) => 2,
    };
    let op = Op::Recurrent(Recurrent {
        outputs: 2,
        cell,
        initial,
        input_weights: WeightId(0),
        input_bias: WeightId(1),
        static_weights,
        hidden_weights,
    });
    case(op, operands(fixed, states), weights)
}

#[test]
fn lstm() {
    let found = recurrent(true, false, false).output();
    assert_eq!(found.shape().dims(), [4, 2, 2]);
    let plain = [
        0.18435733,
        -0.06820412,
        -0.28744427,
        -0.00430427,
        0.08077514,
        -0.48920371,
        0.18920534,
        -0.06663292,
        -0.11821307,
        -0.02506742,
        0.08234544,
        -0.49048486,
    ];
    close(&found.data()[..12], &plain);
    let fixed = [
        0.27678010,
        -0.27669370,
        -0.23660503,
        -0.29063600,
        0.07499099,
        -0.67471578,
        0.25561046,
        -0.23779978,
        -0.18969057,
        -0.28291747,
        0.11493488,
        -0.66773664,
    ];
    close(&recurrent(true, true, false).output().data()[..12], &fixed);
    let exposed = [
        0.18435733,
        -0.06820412,
        -0.03575898,
        -0.24130007,
        0.08077514,
        -0.48920371,
        0.18920534,
        -0.06663292,
        -0.11821307,
        -0.02506742,
        0.08234544,
        -0.49048486,
        -0.18202284,
        -0.17232440,
        0.22586948,
        -0.69227232,
    ];
    close(recurrent(true, false, true).output().data(), &exposed);
}

#[test]
fn rnn() {
    let plain = [
        0.96991294, 0.94132137, 0.96281886, 0.84940545, 0.91414283, 0.70478898, 0.97058962,
        0.94160103, 0.98343315, 0.92594297, 0.91710297, 0.71388005,
    ];
    close(
        &recurrent(false, false, false).output().data()[..12],
        &plain,
    );
    let fixed = [
        0.98888801, 0.95138859, 0.98545675, 0.93032706, 0.98772848, 0.94048219, 0.98888662,
        0.95108247, 0.99034988, 0.95197151, 0.98509053, 0.92869642,
    ];
    close(&recurrent(false, true, false).output().data()[..12], &fixed);
    let exposed = [
        0.96991294,
        0.94132137,
        0.98529939,
        0.92988609,
        0.91414283,
        0.70478898,
        0.97058962,
        0.94160103,
        0.98343315,
        0.92594297,
        0.91710297,
        0.71388005,
        0.69768032,
        0.95530674,
        -0.27494697,
        0.89476906,
    ];
    close(recurrent(false, false, true).output().data(), &exposed);
}

/// Two halves of a sequence with the state carried over are the whole.
#[test]
fn exposed_states_carry_on() {
    let whole = recurrent(true, false, true);
    let steps = |tensor: &Tensor, begin: usize, end: usize| {
        let mut dims = tensor.shape().dims().to_vec();
        dims[0] = (end - begin) as u32;
        let row = tensor.data().len() / tensor.shape().dim(0) as usize;
        self::tensor(&dims, &tensor.data()[begin * row..end * row])
    };
    let half = |begin, end, h, c| {
        let mut inputs: Vec<Tensor> = whole.inputs[..2]
            .iter()
            .map(|tensor| steps(tensor, begin, end))
            .collect();
        inputs.extend([h, c]);
        let (op, weights) = (whole.op.clone(), whole.weights.clone());
        let case = Case {
            op,
            inputs,
            weights,
        };
        case.output()
    };
    let first = half(0, 2, whole.inputs[2].clone(), whole.inputs[3].clone());
    let second = half(2, 3, steps(&first, 1, 2), steps(&first, 2, 3));
    assert_eq!(second.data(), &whole.output().data()[8..]);
}

#[test]
fn recurrent_layers_refuse_what_does_not_fit() {
    let field = |change: &dyn Fn(&mut Case)| {
        let mut case = recurrent(true, true, true);
        change(&mut case);
        let error = case.op.infer_shape(&case.shapes(), &case.weights);
        error.unwrap_err().field.unwrap_or_default()
    };
    let set = |bottom: usize, dims: &'static [u32]| {
        move |case: &mut Case| case.inputs[bottom] = wave(dims, 0.0)
    };
    assert_eq!(field(&|case| case.inputs.truncate(3)), "inputs");
    assert_eq!(field(&set(0, &[3, 2])), "input[0]");
    assert_eq!(field(&set(1, &[3, 3])), "input[1]");
    assert_eq!(field(&set(1, &[6])), "input[1]");
    assert_eq!(field(&set(2, &[3, 2])), "input[2]");
    assert_eq!(field(&set(2, &[2])), "input[2]");
    assert_eq!(field(&set(3, &[2, 2])), "input[3]");
    assert_eq!(field(&set(4, &[1, 2, 3])), "input[4]");
    let weight = |blob: usize, dims: &'static [u32]| {
        move |case: &mut Case| case.weights[blob] = wave(dims, 0.0).into()
    };
    assert_eq!(field(&weight(0, &[8, 2])), "weights[0].shape");
    assert_eq!(field(&weight(1, &[2])), "weights[1].shape");
    assert_eq!(field(&weight(2, &[2, 2])), "weights[2].shape");
    assert_eq!(field(&weight(3, &[8, 3])), "weights[3].shape");
    let mut case = recurrent(false, false, false);
    case.weights[4] = wave(&[3], 0.0).into();
    let error = case.op.infer_shape(&case.shapes(), &case.weights);
    assert_eq!(error.unwrap_err().field.unwrap(), "weights[4].shape");
    // 3 steps of 2 sequences: 8 gates of 3 + 2 products; an RNN has 2 gates and 2·2 more products.
    let macs = |case: Case| case.op.macs(&case.shapes(), &case.weights);
    assert_eq!(macs(recurrent(true, false, false)), 6 * 8 * 5);
    assert_eq!(macs(recurrent(true, true, false)), 6 * 8 * 5 + 2 * 8 * 2);
    assert_eq!(macs(recurrent(false, false, false)), 6 * (2 * 5 + 4));
}

#[test]
fn lstm_unit() {
    let mut gates = wave(&[1, 2, 8], 0.2);
    gates.data_mut().iter_mut().for_each(|x| *x *= 2.0);
    let inputs = vec![wave(&[1, 2, 2], 0.1), gates, tensor(&[1, 2], &[1.0, 0.0])];
    let unit = |hidden| case(Op::LstmUnit(LstmUnit { hidden }), inputs.clone(), vec![]);
    let c = [-0.48415234, -0.20210857, -0.22524967, -0.58007562];
    close(unit(false).output().data(), &c);
    let h = [-0.25626726, -0.05130774, -0.18003775, -0.29360377];
    close(unit(true).output().data(), &h);
    for (bottom, dims) in [(0, &[2, 2, 2][..]), (1, &[1, 2, 6]), (2, &[2])] {
        let mut case = unit(true);
        case.inputs[bottom] = wave(dims, 0.0);
        let error = case.op.infer_shape(&case.shapes(), &[]).unwrap_err();
        assert_eq!(error.field.unwrap(), format!("input[{bottom}]"));
    }
}

#[test]
fn mean_variance_normalisation() {
    let run = |across_channels, normalize_variance| {
        let op = Mvn {
            normalize_variance,
            across_channels,
            eps: 0.01,
        };
        case(Op::Mvn(op), vec![wave(&[2, 2, 1, 3], 0.1)], vec![]).output()
    };
    let expected = [
        -0.50466667,
        0.11233333,
        0.39233333,
        0.60666667,
        0.03766667,
        -0.64433333,
        -0.10733333,
        -0.15033333,
        0.25766667,
        -0.49800000,
        0.11400000,
        0.38400000,
    ];
    close(run(false, false).data(), &expected);
    let expected = [
        -1.31179559,
        0.29199149,
        1.01980410,
        1.16350587,
        0.07223965,
        -1.23574552,
        -0.55601146,
        -0.77876139,
        1.33477284,
        -1.31402645,
        0.30080124,
        1.01322522,
    ];
    close(run(false, true).data(), &expected);
    let expected = [
        -0.30300000,
        0.31400000,
        0.59400000,
        0.40500000,
        -0.16400000,
        -0.84600000,
        -0.81916667,
        -0.86216667,
        -0.45416667,
        0.21383333,
        0.82583333,
        1.09583333,
    ];
    close(run(true, false).data(), &expected);
    let expected = [
        -0.60409666,
        0.62602756,
        1.18426870,
        0.80745593,
        -0.32696981,
        -1.68668573,
        -1.05140932,
        -1.10660028,
        -0.58292785,
        0.27445741,
        1.05996606,
        1.40651399,
    ];
    close(run(true, true).data(), &expected);
    let op = Op::Mvn(Mvn {
        normalize_variance: true,
        across_channels: false,
        eps: 1e-9,
    });
    let flat = Shape::new([2, 3]).unwrap();
    let shape = op.infer_shape(&[&flat], &[]).unwrap();
    assert_eq!(shape.dims(), [2, 3, 1, 1]);
    let deep = Shape::new([1; 5]).unwrap();
    assert!(op.infer_shape(&[&deep], &[]).is_err());
}

/// PyTorch's unfold.
#[test]
fn windows_as_channels() {
    let window = Window {
        kernel: [2, 2],
        stride: [1, 2],
        pad_begin: [1, 0],
        pad_end: [1, 0],
        dilation: [1, 2],
    };
    let op = Op::Im2col(Im2col { window });
    let found = case(op, vec![wave(&[1, 2, 3, 4], 0.1)], vec![]).output();
    assert_eq!(found.shape().dims(), [1, 8, 4, 1]);
    let expected = [
        0.0, 0.1, 0.239, -0.551, 0.0, 0.997, -0.916, 0.729, 0.1, 0.239, -0.551, 0.0, 0.997, -0.916,
        0.729, 0.0, 0.0, 0.798, -0.954, 0.999, 0.0, -0.458, 0.133, 0.206, 0.798, -0.954, 0.999,
        0.0, -0.458, 0.133, 0.206, 0.0,
    ];
    close(found.data(), &expected);
}

/// A convolution is the product of its weights and the windows.
#[test]
fn windows_times_weights_are_a_convolution() {
    for seed in 0..50 {
        let case = ops_cases::convolution(&mut Random::new(seed), false);
        let Op::Convolution(conv) = &case.op else {
            panic!("{case:?}")
        };
        if conv.groups != 1 || conv.bias.is_some() || conv.post.activation.is_some() {
            continue;
        }
        let (window, oc) = (conv.window, conv.oc as usize);
        let op = Op::Im2col(Im2col { window });
        let columns = Case {
            op,
            inputs: case.inputs.clone(),
            weights: vec![],
        };
        let (columns, expected) = (columns.output(), case.output());
        let channels = columns.shape().dim(1) as usize;
        let plane = columns.shape().count_of(2, 4);
        for (index, &y) in expected.data().iter().enumerate() {
            let (n, o, at) = (index / plane / oc, index / plane % oc, index % plane);
            let product = |c: usize| {
                let column = columns.data()[(n * channels + c) * plane + at];
                f64::from(column) * f64::from(case.weights[0].data()[o * channels + c])
            };
            let sum: f64 = (0..channels).map(product).sum();
            assert_eq!(sum as f32, y, "seed {seed}");
        }
    }
}

#[test]
fn rows_of_a_table() {
    let table = wave(&[4, 3], 0.1);
    let rows: Vec<&[f32]> = table.data().chunks_exact(3).collect();
    let run = |bias: Option<WeightId>, indices: Tensor| {
        let op = Op::Embed(Embed {
            outputs: 3,
            weights: WeightId(0),
            bias,
        });
        let bias = tensor(&[3], &[10.0, 20.0, 30.0]);
        case(op, vec![indices], vec![table.clone(), bias]).output()
    };
    let found = run(None, tensor(&[2, 1, 2], &[3.0, 0.0, 1.9, 3.0]));
    assert_eq!(found.shape().dims(), [2, 1, 2, 3]);
    assert_eq!(found.data(), [rows[3], rows[0], rows[1], rows[3]].concat());
    let found = run(Some(WeightId(1)), tensor(&[1], &[2.0]));
    let expected: Vec<f32> = (0..3)
        .map(|i| (f64::from(rows[2][i]) + 10.0 * (i + 1) as f64) as f32)
        .collect();
    assert_eq!(found.data(), expected);
    // What is no row shows.
    for index in [-1.0, 4.0, 1e30, f32::NAN] {
        assert!(run(None, tensor(&[1], &[index])).data()[0].is_nan());
    }
}

#[test]
fn chosen_images() {
    let x = wave(&[3, 2], 0.1);
    let rows: Vec<&[f32]> = x.data().chunks_exact(2).collect();
    let indices = tensor(&[4], &[2.0, 0.0, 2.0, 1.0]);
    let found = case(Op::BatchReindex, vec![x.clone(), indices], vec![]).output();
    assert_eq!(found.shape().dims(), [4, 2]);
    assert_eq!(found.data(), [rows[2], rows[0], rows[2], rows[1]].concat());
    let wrong = tensor(&[2], &[1.0, 3.0]);
    let found = case(Op::BatchReindex, vec![x.clone(), wrong], vec![]).output();
    assert_eq!(&found.data()[..2], rows[1]);
    assert!(found.data()[2..].iter().all(|x| x.is_nan()));

    let filter = |selector: Tensor| case(Op::Filter, vec![x.clone(), selector], vec![]);
    let found = filter(tensor(&[3, 1, 1], &[0.0, -2.0, 0.5])).output();
    assert_eq!(found.data(), [rows[1], rows[2], &[0.0, 0.0]].concat());
    let none = filter(tensor(&[3], &[0.0; 3])).output();
    assert_eq!(none.data(), [0.0; 6]);
    for dims in [&[2][..], &[3, 2], &[1, 3]] {
        let case = filter(wave(dims, 0.0));
        assert!(case.op.infer_shape(&case.shapes(), &[]).is_err());
    }
}

/// Formulas of `losses_by_hand` over more elements, numbers of PyTorch's losses.
#[test]
fn losses() {
    let run = |loss: Loss, inputs: Vec<Tensor>, weights: Vec<Tensor>| {
        case(Op::Loss(loss), inputs, weights).output().data()[0]
    };
    let mut scores = wave(&[2, 3, 2], 0.1);
    scores.data_mut().iter_mut().for_each(|x| *x *= 3.0);
    let targets = [1.0, 0.0, 0.0, -1.0, 1.0, 1.0, 0.0, 0.0, -1.0, 1.0, 0.0, 1.0];
    let targets = tensor(&[2, 3, 2], &targets);
    // 10 of 12 targets count; the batch has 2 images.
    for (normalization, divisor) in [
        (Normalization::Valid, 10.0),
        (Normalization::Full, 12.0),
        (Normalization::BatchSize, 2.0),
        (Normalization::None, 1.0),
    ] {
        let loss = Loss::SigmoidCrossEntropy {
            ignore_label: Some(-1),
            normalization,
        };
        let found = run(loss, vec![scores.clone(), targets.clone()], vec![]);
        close(&[found], &[10.808_846_61 / divisor]);
    }
    let (a, b) = (wave(&[3, 4], 0.1), wave(&[3, 4], 0.9));
    close(
        &[run(Loss::Euclidean, vec![a.clone(), b.clone()], vec![])],
        &[0.55620933],
    );
    let similar = tensor(&[3], &[1.0, 0.0, 0.0]);
    for (legacy, expected) in [(false, 0.23807370), (true, 0.29528)] {
        let loss = Loss::Contrastive {
            margin: 1.5,
            legacy,
        };
        let inputs = vec![a.clone(), b.clone(), similar.clone()];
        close(&[run(loss, inputs, vec![])], &[expected]);
    }
    let labels = tensor(&[3], &[2.0, 0.0, 3.0]);
    for (l2, expected) in [(false, 3.12233333), (true, 4.25460033)] {
        let inputs = vec![a.clone(), labels.clone()];
        close(&[run(Loss::Hinge { l2 }, inputs, vec![])], &[expected]);
    }
    let p = case(Op::Softmax { axis: 1 }, vec![a], vec![]).output();
    let inputs = vec![p, labels];
    close(
        &[run(Loss::MultinomialLogistic, inputs.clone(), vec![])],
        &[0.90647416],
    );
    let mut matrix = wave(&[4, 4], 0.4);
    matrix.data_mut().iter_mut().for_each(|x| *x = x.abs());
    let infogain = Loss::Infogain {
        matrix: Some(WeightId(0)),
        axis: 1,
        ignore_label: None,
        normalization: Normalization::BatchSize,
    };
    close(&[run(infogain, inputs, vec![matrix])], &[3.71771776]);
}
