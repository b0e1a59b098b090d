//! Recurrent layers, layers made of other layers, and layers without bottoms or tops: import and
//! numbers. Checklist rows 24, 27 and 28 (and 14).
#![expect(
    clippy::excessive_precision,
    reason = "numbers as the other program printed them"
)]

mod import_support;

use import_support::{
    bare, dims, graph, last_op, layer, net, outputs, refusal, run, weights, with_input,
};
use skimjit_caffe::import::{ImportOptions, import};
use skimjit_caffe::proto::NetParameter;
use skimjit_models::ops::{Cell, Im2col, Window};
use skimjit_models::{Graph, Op, Shape, Tensor, interpreter};

fn wave(dims: &[u32], phase: f64) -> Tensor {
    let shape = Shape::new(dims).unwrap();
    let value = |i: usize| ((0.7 * i as f64 + phase).sin() * 1e3).round() / 1e3;
    let data = (0..shape.count()).map(|i| value(i) as f32).collect();
    Tensor::new(shape, data)
}

#[track_caller]
fn close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (index, (a, b)) in found.iter().zip(expected).enumerate() {
        let near = (a - b).abs() < 1e-6 * b.abs().max(1.0);
        assert!(near, "element {index}: {a} {b}");
    }
}

/// Weight file of layer `it`.
fn file(blobs: &[Tensor]) -> NetParameter {
    let dims: Vec<Vec<i64>> = blobs
        .iter()
        .map(|blob| blob.shape().dims().iter().map(|&dim| dim.into()).collect())
        .collect();
    let blobs: Vec<(&[i64], &[f32])> = dims
        .iter()
        .zip(blobs)
        .map(|(dims, blob)| (&dims[..], blob.data()))
        .collect();
    weights("it", &blobs)
}

fn imported(text: &str, blobs: &[Tensor]) -> Graph {
    import(net(text), vec![file(blobs)], &ImportOptions::default())
        .unwrap_or_else(|error| panic!("{error}"))
        .graph
}

fn with_inputs(inputs: &[(&str, &str)], layer: &str) -> String {
    let input = |(name, dims): &(&str, &str)| {
        let dims: String = dims
            .split_whitespace()
            .map(|dim| format!("dim: {dim} "))
            .collect();
        format!(
            "layer {{ name: '{name}' type: 'Input' top: '{name}' input_param {{ shape {{ {dims} }} }} }}\n"
        )
    };
    let inputs: String = inputs.iter().map(input).collect();
    inputs + layer
}

const SEQUENCE: [(&str, &str); 5] = [
    ("x", "3 2 3"),
    ("cont", "3 2"),
    ("fixed", "2 2"),
    ("h0", "1 2 2"),
    ("c0", "1 2 2"),
];

/// A recurrent layer behind the inputs of those names.
fn sequence(kind: &str, names: &[&str], tops: &str, param: &str) -> String {
    let inputs: Vec<(&str, &str)> = SEQUENCE
        .into_iter()
        .filter(|(name, _)| names.contains(name))
        .collect();
    let bottoms: String = names
        .iter()
        .map(|name| format!("bottom: '{name}' "))
        .collect();
    let layer = format!(
        "layer {{ name: 'it' type: '{kind}' {bottoms} {tops} recurrent_param {{ num_output: 2 {param} }} }}"
    );
    with_inputs(&inputs, &layer)
}

/// Inputs of [`SEQUENCE`], numbers as in `ops_sequences.rs`.
fn values(graph: &Graph) -> Vec<Tensor> {
    let value = |id: &skimjit_models::ValueId| match graph.value(*id).name.as_str() {
        "x" => wave(&[3, 2, 3], 0.1),
        "cont" => Tensor::new(graph.shape(*id).clone(), vec![0., 1., 1., 0., 1., 1.]),
        "fixed" => wave(&[2, 2], 0.6),
        "h0" => wave(&[1, 2, 2], 0.7),
        "c0" => wave(&[1, 2, 2], 0.8),
        name => panic!("{name}"),
    };
    graph.inputs.iter().map(value).collect()
}

fn run_sequence(graph: &Graph) -> Vec<(String, Tensor)> {
    let results = interpreter::run_outputs(graph, &values(graph)).expect("results");
    let names = outputs(graph).into_iter().map(str::to_owned);
    names.zip(results).collect()
}

/// Weights in the order of Caffe's unrolled net: W_xc, b_c, W_xc_static, W_hc. Numbers of PyTorch.
///
/// Checklist 24.
#[test]
fn lstm() {
    let blobs = [
        wave(&[8, 3], 0.2),
        wave(&[8], 0.3),
        wave(&[8, 2], 0.4),
        wave(&[8, 2], 0.5),
    ];
    let graph = imported(
        &sequence("LSTM", &["x", "cont", "fixed"], "top: 'h'", ""),
        &blobs,
    );
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
    let results = run_sequence(&graph);
    assert_eq!(
        (results[0].0.as_str(), dims(&graph, "h")),
        ("h", &[3, 2, 2][..])
    );
    close(results[0].1.data(), &fixed);

    let [w, b, _, hidden] = blobs;
    let text = sequence(
        "LSTM",
        &["x", "cont", "h0", "c0"],
        "top: 'h' top: 'hT' top: 'cT'",
        "expose_hidden: true",
    );
    let graph = imported(&text, &[w, b, hidden]);
    let results = run_sequence(&graph);
    let names: Vec<&str> = results.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["cT", "h", "hT"]);
    close(
        results[0].1.data(),
        &[-0.18202284, -0.17232440, 0.22586948, -0.69227232],
    );
    close(
        results[2].1.data(),
        &[-0.11821307, -0.02506742, 0.08234544, -0.49048486],
    );
    assert_eq!(results[1].1.data()[8..], *results[2].1.data());
    assert_eq!(
        (dims(&graph, "hT"), dims(&graph, "cT")),
        (&[1, 2, 2][..], &[1, 2, 2][..])
    );
}

/// W_xh, b_h, W_xh_static, W_hh, W_ho, b_o.
///
/// Checklist 24.
#[test]
fn rnn() {
    let blobs = [
        wave(&[2, 3], 0.2),
        wave(&[2], 0.3),
        wave(&[2, 2], 0.4),
        wave(&[2, 2], 0.5),
        wave(&[2, 2], 0.9),
        wave(&[2], 1.1),
    ];
    let text = sequence("RNN", &["x", "cont", "fixed"], "top: 'o'", "");
    let graph = imported(&text, &blobs);
    let fixed = [
        0.98888801, 0.95138859, 0.98545675, 0.93032706, 0.98772848, 0.94048219, 0.98888662,
        0.95108247, 0.99034988, 0.95197151, 0.98509053, 0.92869642,
    ];
    close(run_sequence(&graph)[0].1.data(), &fixed);
    let [w, b, _, hidden, output, bias] = blobs;
    let names = ["x", "cont", "h0"];
    let text = sequence("RNN", &names, "top: 'o' top: 'hT'", "expose_hidden: true");
    let results = run_sequence(&imported(&text, &[w, b, hidden, output, bias]));
    close(
        results[0].1.data(),
        &[0.69768032, 0.95530674, -0.27494697, 0.89476906],
    );
    let exposed = [
        0.96991294, 0.94132137, 0.98529939, 0.92988609, 0.91414283, 0.70478898, 0.97058962,
        0.94160103, 0.98343315, 0.92594297, 0.91710297, 0.71388005,
    ];
    close(results[1].1.data(), &exposed);
}

#[test]
fn recurrent_refusals() {
    let refused = |text: &str, words: &[&str]| {
        let error = refusal(text);
        for word in ["layer \"it\""].iter().chain(words) {
            assert!(error.contains(word), "no {word:?} in {error}");
        }
    };
    let none = sequence("LSTM", &["x", "cont"], "top: 'h'", "").replace("num_output: 2", "");
    refused(&none, &["recurrent_param.num_output"]);
    let text = sequence("LSTM", &["x", "cont", "h0", "c0"], "top: 'h'", "");
    refused(&text, &["4 bottoms", "2 or 3"]);
    let text = sequence("LSTM", &["x", "cont"], "top: 'h' top: 'hT'", "");
    refused(&text, &["2 tops", "expose_hidden"]);
    let text = sequence("LSTM", &["x", "cont"], "top: 'h'", "expose_hidden: true");
    refused(&text, &["2 bottoms", "4 or 5"]);
    let text = sequence("RNN", &["x", "fixed"], "top: 'h'", "");
    refused(&text, &["bottom[1]", "3x2"]);
    let text = sequence("RNN", &["cont", "cont"], "top: 'h'", "");
    refused(&text, &["bottom[0]", "3 axes"]);
    let wrong = import(
        net(&sequence("LSTM", &["x", "cont"], "top: 'h'", "")),
        vec![file(&[
            wave(&[8, 3], 0.0),
            wave(&[8], 0.0),
            wave(&[2, 2], 0.0),
        ])],
        &ImportOptions::default(),
    );
    let error = wrong.expect_err("weights of an RNN").to_string();
    assert!(
        error.contains("blobs[2].shape") && error.contains("8x2"),
        "{error}"
    );
    let done = bare(&sequence("LSTM", &["x", "cont"], "top: 'h'", "")).expect("a network");
    assert!(done.warnings[0].to_string().contains("expose_hidden"));
}

#[test]
fn lstm_unit() {
    let text = with_inputs(
        &[("c", "1 2 2"), ("g", "1 2 8"), ("cont", "1 2")],
        "layer { name: 'it' type: 'LSTMUnit' bottom: 'c' bottom: 'g' bottom: 'cont' top: 'c1' top: 'h1' }",
    );
    let graph = graph(&text);
    assert_eq!((outputs(&graph), graph.nodes.len()), (vec!["c1", "h1"], 2));
    assert_eq!(dims(&graph, "h1"), [1, 2, 2]);
}

/// Checklist 24.
#[test]
fn embed() {
    let text = with_input(
        "2 3",
        &layer("Embed", "embed_param { num_output: 2 input_dim: 5 }"),
    );
    let graph = imported(&text, &[wave(&[5, 2], 0.1), wave(&[2], 0.2)]);
    assert_eq!(dims(&graph, "out"), [2, 3, 2]);
    let bare = with_input(
        "2 3",
        &layer(
            "Embed",
            "embed_param { num_output: 2 input_dim: 5 bias_term: false }",
        ),
    );
    assert_eq!(import_support::graph(&bare).weights.len(), 1);
    for (body, field) in [
        ("input_dim: 5", "embed_param.num_output"),
        ("num_output: 2", "embed_param.input_dim"),
    ] {
        let text = with_input("2 3", &layer("Embed", &format!("embed_param {{ {body} }}")));
        assert!(refusal(&text).contains(field));
    }
}

/// Numbers of NumPy: Caffe's rule for kernels, strides and pads, windows cut out of the input.
///
/// Checklist 24.
#[test]
fn pyramids() {
    let run = |body: &str| {
        let text = with_input("1 2 7 8", &layer("SPP", &format!("spp_param {{ {body} }}")));
        let graph = graph(&text);
        let input = wave(&[1, 2, 7, 8], 0.1);
        interpreter::run_outputs(&graph, &[input])
            .unwrap()
            .remove(0)
    };
    let max = [
        1.0, 1.0, 0.999, 0.999, 0.756, 1.0, 1.0, 0.216, 0.997, 0.995, 0.717, 0.997, 0.239, -0.916,
        0.117, 0.999, 0.999, 0.206, -0.487, 0.15, 1.0, 1.0, 0.756, -0.516, 0.183, 1.0, 1.0, 0.14,
        -0.925, 0.216, 0.999, 0.998, 0.107, -0.449, 0.249, 0.997, 0.995, 0.073, -0.6, 0.281, 0.993,
        0.991,
    ];
    let found = run("pyramid_height: 3");
    assert_eq!(found.shape().dims(), [1, 42]);
    close(found.data(), &max);
    let average = [
        0.01698214,
        0.03223214,
        0.20612500,
        -0.05737500,
        -0.49256250,
        0.40325000,
        0.42256250,
        -0.45756250,
        -0.21568750,
        0.36350000,
        0.20425000,
        0.45125000,
        -0.05100000,
        -0.46875000,
        -0.48125000,
        0.65025000,
        0.70200000,
        -0.41175000,
        -0.82500000,
        -0.45575000,
        0.67025000,
        0.68375000,
        0.14600000,
        -0.83550000,
        -0.43025000,
        0.68925000,
        0.43625000,
        -0.09775000,
        -0.46925000,
        -0.06200000,
        0.70725000,
        0.64450000,
        -0.48850000,
        -0.81050000,
        -0.37725000,
        0.72500000,
        0.62375000,
        -0.51300000,
        -0.86050000,
        -0.35000000,
        0.74125000,
        0.60200000,
    ];
    close(run("pyramid_height: 3 pool: AVE").data(), &average);
    assert_eq!(run("pyramid_height: 1").shape().dims(), [1, 2, 1, 1]);
    for (body, word) in [
        ("", "spp_param.pyramid_height"),
        ("pyramid_height: 0", "spp_param.pyramid_height"),
        ("pyramid_height: 5", "8x8 windows in level 3"),
        ("pyramid_height: 4294967295", "spp_param.pyramid_height"),
        ("pyramid_height: 2 pool: STOCHASTIC", "spp_param.pool"),
    ] {
        let text = with_input("1 2 7 8", &layer("SPP", &format!("spp_param {{ {body} }}")));
        let error = refusal(&text);
        assert!(error.contains(word), "{error}");
    }
}

/// Checklist row 14: what Caffe's GPU layer computes at test time.
#[test]
fn stochastic_pooling() {
    let body = "pooling_param { pool: STOCHASTIC kernel_size: 3 stride: 2 }";
    let graph = graph(&with_input("1 1 4 4", &layer("Pooling", body)));
    let x = [
        0.0, 0.0, 0.997, 0.808, 0.0, 0.0, 0.916, 0.959, 0.551, 0.117, 0.729, 0.999, 0.798, 0.223,
        0.458, 0.923,
    ];
    let run = |x: &[f32]| {
        let input = Tensor::new(Shape::new([1, 1, 4, 4]).unwrap(), x.to_vec());
        interpreter::run_outputs(&graph, &[input])
            .unwrap()
            .remove(0)
    };
    close(
        run(&x).data(),
        &[0.81021027, 0.91254660, 0.60675522, 0.83343036],
    );
    // Nothing to choose from is 0, not NaN.
    assert_eq!(run(&[0.0; 16]).data(), [0.0; 4]);
    let padded = "pooling_param { pool: STOCHASTIC kernel_size: 3 pad: 1 }";
    let error = refusal(&with_input("1 1 4 4", &layer("Pooling", padded)));
    assert!(error.contains("pooling_param.pad"), "{error}");
    let floor = "pooling_param { kernel_size: 3 stride: 2 round_mode: FLOOR }";
    let floor = import_support::graph(&with_input("1 1 6 6", &layer("Pooling", floor)));
    assert_eq!(dims(&floor, "out"), [1, 1, 2, 2]);
}

#[test]
fn normalisation_and_windows() {
    let mvn = |body: &str| {
        let graph = graph(&with_input("2 3 4", &layer("MVN", body)));
        assert_eq!(dims(&graph, "out"), [2, 3, 4, 1]);
        match last_op(&graph) {
            Op::Mvn(mvn) => (mvn.normalize_variance, mvn.across_channels, mvn.eps),
            op => panic!("{op:?}"),
        }
    };
    assert_eq!(mvn(""), (true, false, 1e-9));
    let body = "mvn_param { normalize_variance: false across_channels: true eps: 0.5 }";
    assert_eq!(mvn(body), (false, true, 0.5));
    let body = "convolution_param { kernel_h: 2 kernel_w: 3 stride: 2 pad: 1 dilation: 2 }";
    let columns = graph(&with_input("1 2 6 7", &layer("Im2col", body)));
    let window = Window {
        kernel: [2, 3],
        stride: [2, 2],
        pad_begin: [1, 1],
        pad_end: [1, 1],
        dilation: [2, 2],
    };
    assert_eq!(last_op(&columns), &Op::Im2col(Im2col { window }));
    assert_eq!(dims(&columns, "out"), [1, 12, 3, 3]);
    let error = refusal(&with_input("1 2 6", &layer("Im2col", body)));
    assert!(error.contains("two-dimensional"), "{error}");
}

/// Checklist 24.
#[test]
fn chosen_images() {
    let text = with_inputs(
        &[("x", "3 2"), ("i", "4")],
        "layer { name: 'it' type: 'BatchReindex' bottom: 'x' bottom: 'i' top: 'y' }",
    );
    assert_eq!(dims(&graph(&text), "y"), [4, 2]);
    let filter = |rest: &str| {
        with_inputs(
            &[("x", "3 2"), ("y", "3 4"), ("s", "3 1")],
            &format!(
                "layer {{ name: 'it' type: 'Filter' bottom: 'x' bottom: 'y' bottom: 's' top: 'a' top: 'b' }} {rest}"
            ),
        )
    };
    let plain = bare(&filter("")).expect("a network");
    assert_eq!(outputs(&plain.graph), ["a", "b"]);
    assert!(plain.warnings[0].to_string().contains("selector"));
    // Image by image is fine, and pairs of one selector.
    let fine = "layer { name: 'fc' type: 'InnerProduct' bottom: 'b' top: 'c' inner_product_param { num_output: 2 } }
                layer { name: 'sum' type: 'Eltwise' bottom: 'a' bottom: 'c' top: 'sum' }";
    assert_eq!(outputs(&graph(&filter(fine))), ["sum"]);
    for mixing in [
        "layer { name: 'mean' type: 'Reduction' bottom: 'a' top: 'mean' }",
        "layer { name: 'mean' type: 'Eltwise' bottom: 'a' bottom: 'x' top: 'mean' }",
        "layer { name: 'mean' type: 'Concat' bottom: 'a' bottom: 'x' top: 'mean' concat_param { axis: 0 } }",
    ] {
        let error = refusal(&filter(mixing));
        assert!(
            error.contains("layer \"mean\"") && error.contains("Filter"),
            "{error}"
        );
    }
    let twice = "layer { name: 'mean' type: 'Filter' bottom: 'x' bottom: 'a' top: 'mean' }";
    let error = refusal(&filter(twice).replace("3 2", "3 1"));
    assert!(error.contains("layer \"mean\""), "{error}");
    let error = refusal(&filter("").replace("top: 'b' }", "}"));
    assert!(error.contains("1 tops"), "{error}");
}

/// Checklist 27: HDF5Output.
#[test]
fn parameters_and_outputs() {
    let text = "layer { name: 'it' type: 'Parameter' top: 'p' parameter_param { shape { dim: 2 dim: 2 } } }";
    let graph = imported(text, &[wave(&[2, 2], 0.1)]);
    assert_eq!(run(&graph)[0], wave(&[2, 2], 0.1));
    let error = refusal("layer { name: 'it' type: 'Parameter' top: 'p' }");
    assert!(error.contains("parameter_param.shape"), "{error}");

    let text = with_input(
        "2 3",
        "layer { name: 'r' type: 'ReLU' bottom: 'data' top: 'r' }
         layer { name: 'it' type: 'HDF5Output' bottom: 'r' bottom: 'data' hdf5_output_param { file_name: 'o.h5' } }
         layer { name: 's' type: 'Sigmoid' bottom: 'r' top: 's' }",
    );
    let done = bare(&text).expect("a network");
    assert_eq!(outputs(&done.graph), ["data", "r", "s"]);
    let warning = done.warnings[0].to_string();
    assert!(
        warning.contains("\"it\"") && warning.contains("o.h5"),
        "{warning}"
    );
}

/// Without its labels, an HDF5Output still asks for its data.
#[test]
fn outputs_of_training_definitions() {
    let text = "layer { name: 'd' type: 'MemoryData' top: 'x' top: 'label' memory_data_param {
                  batch_size: 2 channels: 1 height: 1 width: 3 } }
         layer { name: 'r' type: 'ReLU' bottom: 'x' top: 'r' }
         layer { name: 'it' type: 'HDF5Output' bottom: 'r' bottom: 'label' }
         layer { name: 's' type: 'Sigmoid' bottom: 'r' top: 's' }";
    let options = ImportOptions {
        data_to_input: true,
        ..ImportOptions::default()
    };
    let graph = import(net(text), Vec::new(), &options)
        .expect("a network")
        .graph;
    assert_eq!((outputs(&graph), graph.inputs.len()), (vec!["r", "s"], 1));
}

/// Checklist row 27: random data of DummyData is a constant, and says so.
#[test]
fn dummy_data_draws_once() {
    let dummy = |filler: &str| {
        let text = format!(
            "layer {{ name: 'd' type: 'DummyData' top: 'a' dummy_data_param {{
                      shape {{ dim: 4 dim: 5 }} data_filler {{ {filler} }} }} }}"
        );
        bare(&text).expect("a network")
    };
    assert!(dummy("value: 2").warnings.is_empty());
    for kind in ["uniform", "gaussian", "positive_unitball", "xavier", "msra"] {
        let done = dummy(&format!("type: '{kind}'"));
        assert!(done.warnings[0].to_string().contains("draws once"));
        assert!(run(&done.graph)[0].data().iter().any(|x| *x != 0.0));
    }
}

/// Checklist row 28: weights that no file has are made by their fillers.
#[test]
fn fillers_make_missing_weights() {
    let text = with_input(
        "1 2 5 5",
        "layer { name: 'conv' type: 'Convolution' bottom: 'data' top: 'conv' convolution_param {
           num_output: 4 kernel_size: 3 weight_filler { type: 'xavier' } bias_filler { value: 0.5 } } }
         layer { name: 'up' type: 'Deconvolution' bottom: 'conv' top: 'up' convolution_param {
           num_output: 4 kernel_size: 4 stride: 2 group: 4 bias_term: false weight_filler { type: 'bilinear' } } }
         layer { name: 'scale' type: 'Scale' bottom: 'up' top: 'scale' scale_param {
           bias_term: true bias_filler { value: -1 } } }
         layer { name: 'bias' type: 'Bias' bottom: 'scale' top: 'bias' bias_param { filler { value: 3 } } }
         layer { name: 'prelu' type: 'PReLU' bottom: 'bias' top: 'prelu' }
         layer { name: 'fc' type: 'InnerProduct' bottom: 'prelu' top: 'fc' inner_product_param {
           num_output: 2 weight_filler { type: 'gaussian' std: 0.1 sparse: 1 } } }",
    );
    let graph = graph(&text);
    let of = |node: usize, blob: usize| {
        let id = graph.nodes[node].op.weights()[blob];
        graph.weight(id).data().to_vec()
    };
    // xavier: ±√(3 / (2·3·3)).
    let conv = of(0, 0);
    let bound = (3f32 / 18.0).sqrt();
    assert!(conv.iter().all(|w| w.abs() < bound) && conv.iter().any(|w| w.abs() > bound / 2.0));
    assert_eq!(of(0, 1), [0.5; 4]);
    assert_eq!(of(1, 0)[5], 0.5625);
    assert_eq!((of(2, 0), of(2, 1)), (vec![1.0; 4], vec![-1.0; 4]));
    assert_eq!((of(3, 0), of(4, 0)), (vec![3.0; 4], vec![0.25; 4]));
    let fc = of(5, 0);
    let zeros = fc.iter().filter(|w| **w == 0.0).count() as f64 / fc.len() as f64;
    assert!((0.4..0.6).contains(&zeros), "{zeros}");
    assert_eq!(of(5, 1), [0.0; 2]);
    // The same numbers every time; a file wins over the filler.
    assert_eq!(import_support::graph(&text).weights, graph.weights);
    let file = weights(
        "fc",
        &[(&[2, fc.len() as i64 / 2], &fc), (&[2], &[7.0, 8.0])],
    );
    let options = ImportOptions {
        allow_missing_weights: true,
        ..ImportOptions::default()
    };
    let graph = import(net(&text), vec![file], &options)
        .expect("a network")
        .graph;
    let id = graph.nodes[5].op.weights()[1];
    assert_eq!(graph.weight(id).data(), [7.0, 8.0]);
    let odd = layer(
        "InnerProduct",
        "inner_product_param { num_output: 2 weight_filler { type: 'odd' } }",
    );
    let error = refusal(&with_input("1 2", &odd));
    assert!(
        error.contains("filler of blobs[0]") && error.contains("positive_unitball"),
        "{error}"
    );
}

#[test]
fn cells_are_told_apart() {
    for (kind, lstm) in [("LSTM", true), ("RNN", false)] {
        let graph = graph(&sequence(kind, &["x", "cont"], "top: 'h'", ""));
        let Op::Recurrent(op) = &graph.nodes[0].op else {
            panic!("{:?}", graph.nodes[0])
        };
        assert_eq!(
            (op.cell == Cell::Lstm, graph.nodes[0].op.name()),
            (lstm, kind)
        );
        assert_eq!(graph.nodes[0].op.weights().len(), if lstm { 3 } else { 5 });
    }
}
