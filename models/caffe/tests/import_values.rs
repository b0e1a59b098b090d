//! What parameters do to numbers: layers without weights, through import and reference, against formulas.

mod import_support;

use import_support::{graph, layer, refusal, with_input};
use skimjit_models::{Graph, Shape, Tensor, interpreter};

const X: [f32; 12] = [
    0.5, -1.25, 2.0, 0.0, 3.5, -0.75, 1.0, 2.0, -3.0, 0.25, 2.0, -0.5,
];

/// Results for an input of the first elements of [`X`].
fn results(graph: &Graph) -> Vec<Tensor> {
    let shape = graph.shape(graph.inputs[0]).clone();
    let data = X[..shape.count()].to_vec();
    interpreter::run_outputs(graph, &[Tensor::new(shape, data)]).expect("results")
}

/// Result of one layer behind an input.
#[track_caller]
fn result(dims: &str, kind: &str, body: &str) -> Tensor {
    results(&graph(&with_input(dims, &layer(kind, body)))).remove(0)
}

#[track_caller]
fn close(found: &[f32], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (index, (&a, &b)) in found.iter().zip(expected).enumerate() {
        let near = (f64::from(a) - b).abs() < 1e-6 * b.abs().max(1.0);
        let same = a == b as f32 || a.is_nan() && b.is_nan();
        assert!(near || same, "element {index}: {a} {b}");
    }
}

/// Checklist row 16: every parameter of the elementwise layers, with and without its default.
#[test]
fn elementwise_functions() {
    let is = |kind: &str, body: &str, function: &dyn Fn(f64) -> f64| {
        let expected: Vec<f64> = X.iter().map(|&x| function(f64::from(x))).collect();
        close(result("2 6", kind, body).data(), &expected);
    };
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    is("ReLU", "", &|x| x.max(0.0));
    is(
        "ReLU",
        "relu_param { negative_slope: 0.1 engine: CAFFE }",
        &|x| x.max(0.0) + f64::from(0.1f32) * x.min(0.0),
    );
    is("PReLU", "", &|x| x.max(0.0) + 0.25 * x.min(0.0));
    let shared = "prelu_param { channel_shared: true filler { value: 0.5 } }";
    is("PReLU", shared, &|x| x.max(0.0) + 0.5 * x.min(0.0));
    let elu = |alpha: f64| move |x: f64| if x > 0.0 { x } else { alpha * (x.exp() - 1.0) };
    is("ELU", "", &elu(1.0));
    is("ELU", "elu_param { alpha: 0.5 }", &elu(0.5));
    is("Sigmoid", "sigmoid_param { engine: CUDNN }", &sigmoid);
    is("TanH", "tanh_param { engine: CAFFE }", &f64::tanh);
    is("AbsVal", "", &f64::abs);
    is("BNLL", "", &|x| x.exp().ln_1p());
    is("Power", "", &|x| x);
    let power = "power_param { power: 2 scale: 3 shift: -1 }";
    is("Power", power, &|x| (3.0 * x - 1.0).powi(2));
    is("Power", "power_param { power: 0.5 shift: 4 }", &|x| {
        (x + 4.0).sqrt()
    });
    is("Exp", "", &f64::exp);
    let exp = "exp_param { base: 2 scale: 0.5 shift: 1 }";
    is("Exp", exp, &|x| 2f64.powf(1.0 + 0.5 * x));
    is("Exp", "exp_param { shift: 1 }", &|x| (x + 1.0).exp());
    is("Log", "", &f64::ln);
    let log = "log_param { base: 10 scale: 2 shift: 7 }";
    is("Log", log, &|x| (2.0 * x + 7.0).log10());
    let step = |threshold: f64| move |x: f64| f64::from(u8::from(x > threshold));
    is("Threshold", "", &step(0.0));
    is("Threshold", "threshold_param { threshold: 2 }", &step(2.0));
    is("Swish", "", &|x| x * sigmoid(x));
    is("Swish", "swish_param { beta: 2 }", &|x| {
        x * sigmoid(2.0 * x)
    });
    is("Clip", "clip_param { min: -1 max: 2 }", &|x| {
        x.clamp(-1.0, 2.0)
    });
    is("Dropout", "dropout_param { dropout_ratio: 0.9 }", &|x| x);
    for (kind, body, field) in [
        ("Log", "log_param { base: 0 }", "log_param.base"),
        ("Log", "log_param { base: 1 }", "log_param.base"),
        ("Exp", "exp_param { base: -2 }", "exp_param.base"),
        ("Clip", "", "clip_param"),
    ] {
        let error = refusal(&with_input("2 6", &layer(kind, body)));
        assert!(error.contains(field), "{error}");
    }
}

/// Checklist row 19: sums with coefficients, products, maxima.
#[test]
fn combinations() {
    let is = |body: &str, combine: &dyn Fn(f64, f64) -> f64| {
        let layers = format!(
            "layer {{ name: 'p' type: 'Power' bottom: 'data' top: 'p' power_param {{ scale: -2 shift: 1 }} }}
             layer {{ name: 'it' type: 'Eltwise' bottom: 'data' bottom: 'p' top: 'out'
                      eltwise_param {{ {body} }} }}"
        );
        let expected: Vec<f64> = X
            .iter()
            .map(|&x| combine(x.into(), 1.0 - 2.0 * f64::from(x)))
            .collect();
        close(
            results(&graph(&with_input("2 6", &layers)))[0].data(),
            &expected,
        );
    };
    is("", &|a, b| a + b);
    is("coeff: 0.5 coeff: -3", &|a, b| 0.5 * a - 3.0 * b);
    is("operation: PROD stable_prod_grad: false", &|a, b| a * b);
    is("operation: MAX", &f64::max);
}

/// Checklist row 19: layers that move elements.
#[test]
fn movements() {
    let x: Vec<f64> = X.iter().map(|&x| f64::from(x)).collect();
    let pick = |order: &[usize]| -> Vec<f64> { order.iter().map(|&i| x[i]).collect() };
    let slice = "layer { name: 's' type: 'Slice' bottom: 'data' top: 'a' top: 'b' slice_param { axis: -1 slice_point: 1 } }
                 layer { name: 'it' type: 'Concat' bottom: 'b' bottom: 'a' top: 'out' concat_param { axis: 0 } }";
    let text = with_input("2 3 2", slice);
    let swapped = pick(&[1, 3, 5, 7, 9, 11, 0, 2, 4, 6, 8, 10]);
    let found = results(&graph(&text)).remove(0);
    assert_eq!(found.shape().dims(), [4, 3, 1]);
    close(found.data(), &swapped);
    let tiled = result("2 3", "Tile", "tile_param { axis: 0 tiles: 2 }");
    assert_eq!(tiled.shape().dims(), [4, 3]);
    close(tiled.data(), &pick(&[0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5]));
    let tiled = result("2 3", "Tile", "tile_param { axis: -1 tiles: 2 }");
    close(tiled.data(), &pick(&[0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5]));
    let reshape = "reshape_param { shape { dim: 3 dim: -1 } axis: 1 num_axes: 1 }";
    let reshaped = result("2 6", "Reshape", reshape);
    assert_eq!(reshaped.shape().dims(), [2, 3, 2]);
    close(reshaped.data(), &x);

    let crop = |body: &str| {
        let layers = format!(
            "layer {{ name: 'p' type: 'Pooling' bottom: 'data' top: 'p' pooling_param {{ kernel_h: 2 kernel_w: 3 }} }}
             layer {{ name: 'it' type: 'Crop' bottom: 'data' bottom: 'p' top: 'out' crop_param {{ {body} }} }}"
        );
        results(&graph(&with_input("1 1 3 4", &layers))).remove(0)
    };
    close(crop("").data(), &pick(&[0, 1, 4, 5]));
    close(crop("offset: 1").data(), &pick(&[5, 6, 9, 10]));
    close(crop("offset: 1 offset: 2").data(), &pick(&[6, 7, 10, 11]));
    close(
        crop("axis: 3 offset: 2").data(),
        &pick(&[2, 3, 6, 7, 10, 11]),
    );
    close(
        crop("axis: -1 offset: 0").data(),
        &pick(&[0, 1, 4, 5, 8, 9]),
    );
}

/// Checklist row 19: ArgMax and Reduction.
#[test]
fn choices_and_sums() {
    // Rows 0.5 −1.25 2 0 3.5 −0.75 and 1 2 −3 0.25 2 −0.5; of equal maxima the later is first.
    let is = |body: &str, dims: &[u32], expected: &[f64]| {
        let found = result("2 6", "ArgMax", &format!("argmax_param {{ {body} }}"));
        assert_eq!(found.shape().dims(), dims, "{body}");
        close(found.data(), expected);
    };
    is("", &[2, 1, 1], &[4.0, 4.0]);
    is("top_k: 2", &[2, 1, 2], &[4.0, 2.0, 4.0, 1.0]);
    let both = [4.0, 2.0, 3.5, 2.0, 4.0, 1.0, 2.0, 2.0];
    is("top_k: 2 out_max_val: true", &[2, 2, 2], &both);
    is("axis: 1 out_max_val: true", &[2, 1], &[3.5, 2.0]);
    is("axis: 0", &[1, 6], &[1.0, 1.0, 0.0, 1.0, 0.0, 1.0]);
    let error = refusal(&with_input(
        "2 6",
        &layer("ArgMax", "argmax_param { top_k: 7 }"),
    ));
    assert!(error.contains("argmax_param.top_k"), "{error}");

    let rows: Vec<Vec<f64>> = X
        .chunks(6)
        .map(|row| row.iter().map(|&x| f64::from(x)).collect())
        .collect();
    type Of = fn(f64) -> f64;
    for (operation, of, divisor) in [
        ("SUM", (|x| x) as Of, 1.0),
        ("ASUM", f64::abs as Of, 1.0),
        ("SUMSQ", (|x| x * x) as Of, 1.0),
        ("MEAN", (|x| x) as Of, 6.0),
    ] {
        let sums: Vec<f64> = rows
            .iter()
            .map(|row| -2.0 * row.iter().map(|&x| of(x)).sum::<f64>() / divisor)
            .collect();
        let body = |axis: i32| {
            format!("reduction_param {{ operation: {operation} axis: {axis} coeff: -2 }}")
        };
        close(result("2 6", "Reduction", &body(-1)).data(), &sums);
        let all = sums.iter().sum::<f64>() / if divisor == 1.0 { 1.0 } else { 2.0 };
        let found = result("2 6", "Reduction", &body(0));
        assert_eq!(found.shape().rank(), 0);
        close(found.data(), &[all]);
    }
}

/// Checklist row 22: the losses of a prototxt, with the file of an infogain matrix.
#[test]
fn losses() {
    let folder = tempfile::tempdir().expect("a folder");
    let matrix = [0.5f32, 0.0, 0.25, 0.0, 2.0, 0.0, 1.0, 0.0, 1.5];
    let shape = Shape::new([1, 1, 3, 3]).expect("a shape");
    let file = folder.path().join("matrix.binaryproto");
    let tensor = Tensor::new(shape, matrix.to_vec());
    skimjit_caffe::write_binaryproto(tensor, &file).expect("a file");
    let run = |kind: &str, body: &str, labels: &[f32]| {
        let count = labels.len();
        let text = format!(
            "layer {{ name: 'in' type: 'Input' top: 'x' top: 'label' input_param {{
                      shape {{ dim: 4 dim: 3 }} shape {{ dim: {count} }} }} }}
             layer {{ name: 'it' type: '{kind}' bottom: 'x' bottom: 'label' top: 'loss' {body} }}"
        );
        let path = folder.path().join("net.prototxt");
        std::fs::write(&path, text).expect("a file");
        let graph = skimjit_caffe::import::load(Some(&path), &[], &Default::default());
        let graph = graph.unwrap_or_else(|error| panic!("{error}")).graph;
        let label_shape = graph.shape(graph.inputs[1]).clone();
        let x = Tensor::new(graph.shape(graph.inputs[0]).clone(), X.to_vec());
        let inputs = [x, Tensor::new(label_shape, labels.to_vec())];
        f64::from(interpreter::run_outputs(&graph, &inputs).expect("a loss")[0].data()[0])
    };
    let labels = [2.0, 0.0, 1.0, 2.0];
    let softmax = |row: &[f32]| -> Vec<f64> {
        let sum: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
        row.iter().map(|&x| f64::from(x).exp() / sum).collect()
    };
    let logs: Vec<Vec<f64>> = X
        .chunks(3)
        .map(|row| softmax(row).iter().map(|p| p.ln()).collect())
        .collect();
    let cross = |n: usize| -logs[n][labels[n] as usize];
    let near = |found: f64, expected: f64| {
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
    };
    let mean = |images: &[usize], of: &dyn Fn(usize) -> f64, divisor: f64| {
        images.iter().map(|&n| of(n)).sum::<f64>() / divisor
    };
    let all = [0, 1, 2, 3];
    near(run("SoftmaxWithLoss", "", &labels), mean(&all, &cross, 4.0));
    let ignore = "loss_param { ignore_label: 2 }";
    near(
        run("SoftmaxWithLoss", ignore, &labels),
        mean(&[1, 2], &cross, 2.0),
    );
    let none = "loss_param { ignore_label: 2 normalization: NONE }";
    near(
        run("SoftmaxWithLoss", none, &labels),
        mean(&[1, 2], &cross, 1.0),
    );
    let infogain = |n: usize| {
        let row = &matrix[labels[n] as usize * 3..][..3];
        let gains = row.iter().zip(&logs[n]);
        -gains.map(|(&gain, log)| f64::from(gain) * log).sum::<f64>()
    };
    let source = |rest: &str| {
        format!("infogain_loss_param {{ source: 'matrix.binaryproto' axis: 1 }} {rest}")
    };
    near(
        run("InfogainLoss", &source(""), &labels),
        mean(&all, &infogain, 4.0),
    );
    let ignoring = source(ignore);
    near(
        run("InfogainLoss", &ignoring, &labels),
        mean(&[1, 2], &infogain, 2.0),
    );
    let of_sigmoid = |t: &[f32], skip: f32, divisor: f64| {
        let terms = X.iter().zip(t).filter(|(_, t)| **t != skip);
        let term = |(&x, &t): (&f32, &f32)| {
            let (x, t) = (f64::from(x), f64::from(t));
            (1.0 + x.exp()).ln() - t * x
        };
        terms.map(term).sum::<f64>() / divisor
    };
    let targets = [1.0, 0.0, 5.0, 1.0, 1.0, 0.0, 5.0, 1.0, 0.0, 0.5, 0.25, 1.0];
    let run = |body| run("SigmoidCrossEntropyLoss", body, &targets);
    near(run(""), of_sigmoid(&targets, 9.0, 4.0));
    let valid = "loss_param { ignore_label: 5 normalization: VALID }";
    near(run(valid), of_sigmoid(&targets, 5.0, 10.0));
    let old = "loss_param { ignore_label: 5 normalize: true }";
    near(run(old), of_sigmoid(&targets, 5.0, 10.0));
    near(
        run("loss_param { ignore_label: 5 normalization: FULL }"),
        of_sigmoid(&targets, 5.0, 12.0),
    );
}
