//! References against formulas written the other way round (scatter instead of gather, padded
//! copies instead of clipped ranges).

mod ops_cases;

use ops_cases::{Case, Random};
use proptest::prelude::*;
use skimjit_models::ops::*;
use skimjit_models::{Op, Shape, Tensor};

fn dims(shape: &Shape) -> [usize; 4] {
    [0, 1, 2, 3].map(|axis| shape.dim(axis) as usize)
}

fn relu(post: PostOps, x: f64) -> f32 {
    match post.activation {
        Some(Activation::ReLU { slope }) if x < 0.0 => (x * f64::from(slope)) as f32,
        _ => x as f32,
    }
}

/// Every pair (input pixel, kernel element) adds to the output pixel that it belongs to.
fn scatter(case: &Case, output: &Shape) -> Vec<f32> {
    let (conv, transposed) = match &case.op {
        Op::Convolution(conv) => (conv, false),
        Op::Deconvolution(conv) => (conv, true),
        op => panic!("{op:?}"),
    };
    let ([n, ic, ih, iw], [_, oc, oh, ow]) = (dims(case.inputs[0].shape()), dims(output));
    let [_, weight_ic, kh, kw] = dims(case.weights[0].shape());
    let groups = conv.groups as usize;
    let mut sums = vec![0.0f64; output.count()];
    let step = |axis: usize, at: usize, tap: usize| {
        let [s, p, d] = [
            conv.window.stride,
            conv.window.pad_begin,
            conv.window.dilation,
        ]
        .map(|pair| i64::from(pair[axis]));
        // The "small" index times the stride is the "large" index.
        at as i64 * s - p + tap as i64 * d
    };
    let (small, large) = if transposed {
        ([ih, iw], [oh, ow])
    } else {
        ([oh, ow], [ih, iw])
    };
    for image in 0..n {
        for (o, c) in (0..oc).flat_map(|o| (0..ic).map(move |c| (o, c))) {
            if o / (oc / groups) != c / (ic / groups) {
                continue;
            }
            for (u, v) in (0..kh).flat_map(|u| (0..kw).map(move |v| (u, v))) {
                let (row, column) = if transposed {
                    (c, o % (oc / groups))
                } else {
                    (o, c % (ic / groups))
                };
                let w = case.weights[0].data()[((row * weight_ic + column) * kh + u) * kw + v];
                for (y, x) in (0..small[0]).flat_map(|y| (0..small[1]).map(move |x| (y, x))) {
                    let (ly, lx) = (step(0, y, u), step(1, x, v));
                    if ly < 0 || lx < 0 || ly >= large[0] as i64 || lx >= large[1] as i64 {
                        continue;
                    }
                    let (ly, lx) = (ly as usize, lx as usize);
                    let ((iy, ix), (oy, ox)) = if transposed {
                        ((y, x), (ly, lx))
                    } else {
                        ((ly, lx), (y, x))
                    };
                    let src = case.inputs[0].data()[((image * ic + c) * ih + iy) * iw + ix];
                    sums[((image * oc + o) * oh + oy) * ow + ox] += f64::from(w) * f64::from(src);
                }
            }
        }
    }
    let bias = |o: usize| {
        conv.bias
            .map_or(0.0, |_| f64::from(case.weights[1].data()[o]))
    };
    let finish = |(i, sum): (usize, f64)| relu(conv.post, sum + bias(i / (oh * ow) % oc));
    sums.into_iter().enumerate().map(finish).collect()
}

/// One pooled value from Caffe's and ONNX's formulas, over a plane with a border of `None`.
fn pool(pooling: &Pooling, plane: &[f32], [h, w]: [usize; 2], [y, x]: [usize; 2]) -> f32 {
    let window = if pooling.global {
        Window {
            kernel: [h as u32, w as u32],
            stride: [1; 2],
            pad_begin: [0; 2],
            pad_end: [0; 2],
            dilation: [1; 2],
        }
    } else {
        pooling.window
    };
    let begin = move |axis: usize, at: usize| {
        at as i64 * i64::from(window.stride[axis]) - i64::from(window.pad_begin[axis])
    };
    let (mut best, mut index, mut sum, mut cells) = (-f32::MAX, -1.0, 0.0, 0.0);
    let (mut inside, mut cubes) = (0.0, 0.0);
    if pooling.relu {
        best = 0.0;
    }
    let taps = |axis: usize, at: usize| {
        let tap = move |tap| begin(axis, at) + i64::from(tap * window.dilation[axis]);
        (0..window.kernel[axis]).map(tap)
    };
    for i in taps(0, y) {
        for j in taps(1, x) {
            if i >= h as i64 + i64::from(window.pad_end[0])
                || j >= w as i64 + i64::from(window.pad_end[1])
            {
                continue;
            }
            cells += 1.0;
            if i < 0 || j < 0 || i >= h as i64 || j >= w as i64 {
                continue;
            }
            let at = i as usize * w + j as usize;
            sum += f64::from(plane[at]);
            inside += 1.0;
            cubes += f64::from(plane[at]).abs().powi(3);
            if plane[at] > best {
                (best, index) = (plane[at], at as f32);
            }
        }
    }
    match pooling.method {
        PoolMethod::Average | PoolMethod::AverageInside if inside == 0.0 => 0.0,
        PoolMethod::Average => (sum / cells) as f32,
        PoolMethod::AverageInside => (sum / inside) as f32,
        PoolMethod::Lp { p: 3 } => cubes.powf(1.0 / 3.0) as f32,
        PoolMethod::Lp { .. } => unreachable!("only cubes are made"),
        PoolMethod::Max if pooling.mask => index,
        PoolMethod::Max => best,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Checklist 9.
    #[test]
    fn convolution_and_deconvolution(seed: u64, transposed: bool) {
        let case = ops_cases::convolution(&mut Random::new(seed), transposed);
        let output = case.output();
        let expected = scatter(&case, output.shape());
        prop_assert_eq!(output.data(), expected);
    }

    /// Checklist 13.
    #[test]
    fn pooling(seed: u64) {
        let case = ops_cases::pooling(&mut Random::new(seed));
        let Op::Pooling(pooling) = &case.op else { unreachable!() };
        let output = case.output();
        let ([_, _, h, w], [_, _, oh, ow]) = (dims(case.inputs[0].shape()), dims(output.shape()));
        let planes = case.inputs[0].data().chunks_exact(h * w);
        for (plane, found) in planes.zip(output.data().chunks_exact(oh * ow)) {
            for (i, &found) in found.iter().enumerate() {
                prop_assert_eq!(found, pool(pooling, plane, [h, w], [i / ow, i % ow]));
            }
        }
    }

    /// Checklist 15.
    #[test]
    fn inner_product(seed: u64) {
        let case = ops_cases::inner_product(&mut Random::new(seed));
        let Op::InnerProduct(op) = &case.op else { unreachable!() };
        let output = case.output();
        let outputs = op.outputs as usize;
        let rows = output.data().len() / outputs;
        let summed = case.inputs[0].data().len() / rows;
        for (index, &found) in output.data().iter().enumerate() {
            let (m, o) = (index / outputs, index % outputs);
            let mut sum = op.bias.map_or(0.0, |_| f64::from(case.weights[1].data()[o]));
            for k in 0..summed {
                let at = if op.transpose { k * outputs + o } else { o * summed + k };
                sum += f64::from(case.weights[0].data()[at])
                    * f64::from(case.inputs[0].data()[m * summed + k]);
            }
            prop_assert_eq!(found, relu(op.post, sum));
        }
    }

    #[test]
    fn winograd_equals_direct_convolution(seed: u64) {
        let mut random = Random::new(seed);
        let mut case = ops_cases::winograd(&mut random);
        let Op::WinogradConvolution(op) = case.op.clone() else { unreachable!() };
        let group_ic = case.weights[0].shape().dim(3);
        let kernel = random.tensor(&[op.oc, group_ic, op.kernel, op.kernel]);
        case.weights[0] = transform(&kernel).into();
        let found = case.output();
        let weights = vec![kernel.into(), case.weights[1].clone()];
        let (window, post) = (op.window(), PostOps::default());
        let (oc, groups, bias) = (op.oc, op.groups, op.bias);
        let direct = Convolution { window, oc, groups, weights: op.weights, bias, post };
        let direct = Case { op: Op::Convolution(direct), inputs: case.inputs, weights };
        let expected = direct.output();
        prop_assert_eq!(found.shape(), expected.shape());
        prop_assert_eq!(
            case.op.macs(&[direct.inputs[0].shape()], &case.weights),
            direct.op.macs(&direct.shapes(), &direct.weights)
        );
        for (a, b) in found.data().iter().zip(expected.data()) {
            prop_assert!((a - b).abs() < 1e-3, "{} {}", a, b);
        }
    }
}

/// Rows of G for kernels 3 and 5.
fn winograd_g(kernel: u32) -> Vec<Vec<f64>> {
    let row = |factor: f64, row: &[i32]| row.iter().map(|&x| factor * f64::from(x)).collect();
    if kernel == 3 {
        return vec![
            row(1.0 / 4.0, &[1, 0, 0]),
            row(-1.0 / 6.0, &[1, 1, 1]),
            row(-1.0 / 6.0, &[1, -1, 1]),
            row(1.0 / 24.0, &[1, 2, 4]),
            row(1.0 / 24.0, &[1, -2, 4]),
            row(1.0, &[0, 0, 1]),
        ];
    }
    vec![
        row(1.0, &[1, 0, 0, 0, 0]),
        row(-2.0 / 9.0, &[1, 1, 1, 1, 1]),
        row(-2.0 / 9.0, &[1, -1, 1, -1, 1]),
        row(1.0 / 90.0, &[1, 2, 4, 8, 16]),
        row(1.0 / 90.0, &[1, -2, 4, -8, 16]),
        row(1.0 / 180.0, &[16, 8, 4, 2, 1]),
        row(1.0 / 180.0, &[16, -8, 4, -2, 1]),
        row(1.0, &[0, 0, 0, 0, 1]),
    ]
}

/// U = G g Gᵀ of every kernel, stored `m × m × oc × ic`.
fn transform(kernel: &Tensor) -> Tensor {
    let [oc, ic, k, _] = dims(kernel.shape());
    let g = winograd_g(k as u32);
    let m = g.len();
    let mut data = vec![0.0; m * m * oc * ic];
    for (i, j) in (0..m).flat_map(|i| (0..m).map(move |j| (i, j))) {
        for plane in 0..oc * ic {
            let mut sum = 0.0;
            for (u, v) in (0..k).flat_map(|u| (0..k).map(move |v| (u, v))) {
                sum += g[i][u] * f64::from(kernel.data()[(plane * k + u) * k + v]) * g[j][v];
            }
            data[(i * m + j) * oc * ic + plane] = sum as f32;
        }
    }
    Tensor::new(
        Shape::new([m, m, oc, ic].map(|dim| dim as u32)).unwrap(),
        data,
    )
}

#[test]
fn channels_that_normalisation_sees() {
    let case = Case {
        op: Op::Lrn(Lrn {
            size: 5,
            alpha: 1.0,
            beta: 0.75,
            k: 1.0,
            within_channel: false,
        }),
        inputs: vec![Random::new(1).tensor(&[2, 7, 2, 3])],
        weights: vec![],
    };
    let (found, src) = (case.output(), case.inputs[0].data());
    for (i, &y) in found.data().iter().enumerate() {
        let c = i / 6 % 7;
        let squares: f64 = (0..7usize)
            .filter(|other| other.abs_diff(c) <= 2)
            .map(|other| f64::from(src[i + other * 6 - c * 6]).powi(2))
            .sum();
        let expected = f64::from(src[i]) * (1.0 + squares / 5.0).powf(-0.75);
        assert!((f64::from(y) - expected).abs() < 1e-7);
    }
}

#[test]
fn losses_by_hand() {
    let run = |loss: Loss, inputs: &[(&[u32], &[f32])], matrix: &[f32]| {
        let tensor = |(dims, data): &(&[u32], &[f32])| {
            Tensor::new(Shape::new(*dims).unwrap(), data.to_vec())
        };
        let weights = vec![Tensor::new(Shape::new([2, 2]).unwrap(), matrix.to_vec()).into()];
        let inputs = inputs.iter().map(tensor).collect();
        f64::from(
            Case {
                op: Op::Loss(loss),
                inputs,
                weights,
            }
            .output()
            .data()[0],
        )
    };
    let identity = [1.0, 0.0, 0.0, 1.0];
    let close = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-6, "{found}");
    let p: (&[u32], &[f32]) = (&[2, 2], &[0.25, 0.75, 0.5, 0.5]);
    let labels: (&[u32], &[f32]) = (&[2], &[1.0, 0.0]);
    let (axis, normalization) = (1, Normalization::Valid);
    let logs = -(0.75f64.ln() + 0.5f64.ln());
    let softmax = |ignore_label| Loss::SoftmaxWithLoss {
        axis,
        ignore_label,
        normalization,
    };
    close(run(softmax(None), &[p, labels], &identity), logs / 2.0);
    close(
        run(softmax(Some(0)), &[p, labels], &identity),
        -(0.75f64.ln()),
    );
    assert!(run(softmax(None), &[p, (&[2], &[2.0, 0.0])], &identity).is_nan());
    close(
        run(Loss::MultinomialLogistic, &[p, labels], &identity),
        logs / 2.0,
    );
    let infogain = Loss::Infogain {
        matrix: Some(skimjit_models::WeightId(0)),
        axis,
        ignore_label: None,
        normalization,
    };
    close(run(infogain.clone(), &[p, labels], &identity), logs / 2.0);
    let half = -(0.5 * 0.25f64.ln() + 0.75f64.ln() + 0.5f64.ln());
    close(
        run(infogain, &[p, labels], &[1.0, 0.0, 0.5, 1.0]),
        half / 2.0,
    );
    close(
        run(
            Loss::Euclidean,
            &[p, (&[2, 2], &[0.25, 1.75, 0.5, -0.5])],
            &identity,
        ),
        0.5,
    );
    // Margins: 1 + 0.25, 1 − 0.75; 1 − 0.5, 1 + 0.5.
    close(
        run(Loss::Hinge { l2: false }, &[p, labels], &identity),
        (1.5 + 2.0) / 2.0,
    );
    close(
        run(Loss::Hinge { l2: true }, &[p, labels], &identity),
        (1.625 + 2.5) / 2.0,
    );
    let cross = Loss::SigmoidCrossEntropy {
        ignore_label: None,
        normalization,
    };
    let expected = 2.0 * 2f64.ln();
    let half = run(
        cross,
        &[(&[1, 2], &[0.0, 0.0]), (&[1, 2], &[1.0, 0.0])],
        &identity,
    );
    close(half * 2.0, expected);
    let contrastive = |legacy| Loss::Contrastive {
        margin: 2.0,
        legacy,
    };
    let zeros: (&[u32], &[f32]) = (&[2, 2], &[0.0; 4]);
    let a: (&[u32], &[f32]) = (&[2, 2], &[0.6, 0.8, 1.0, 0.0]);
    let pairs = [a, zeros, (&[2], &[1.0, 0.0])];
    close(
        run(contrastive(false), &pairs, &identity),
        (1.0 + 1.0) / 4.0,
    );
    close(run(contrastive(true), &pairs, &identity), (1.0 + 1.0) / 4.0);
}
