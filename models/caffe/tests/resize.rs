//! A network that is resized is the one that an import for the new shape gives, or it is refused: for
//! every layer type, and for whole networks.

mod import_support;

use import_support::{graph, layer, with_input};
use skimjit_caffe::import::{ImportOptions, load};
use skimjit_models::{Graph, Shape};
use skimjit_testing::data;
use std::path::Path;

/// What becomes of a layer type behind an input whose batch, height and width change.
enum Outcome {
    /// The same as an import for the new shape.
    Follows,
    /// An error with these words.
    Refused(&'static [&'static str]),
}
use Outcome::{Follows, Refused};

const OLD: [u32; 4] = [1, 4, 10, 12];
const NEW: [u32; 4] = [3, 4, 16, 18];

/// Layers from `data` to `out`; `{n}` stands for the batch.
#[rustfmt::skip]
const LAYERS: &[(&str, &str, Outcome)] = &[
    ("AbsVal", "", Follows),
    ("ArgMax", "", Follows),
    ("ArgMax", "argmax_param { axis: 1 out_max_val: true }", Follows),
    ("ArgMax", "argmax_param { top_k: 400 }", Follows),
    ("BNLL", "", Follows),
    ("BatchNorm", "", Follows),
    ("BatchNorm", "batch_norm_param { use_global_stats: false }", Follows),
    ("Bias", "", Follows),
    ("Bias", "bias_param { axis: 1 num_axes: -1 }", Refused(&["weights[0]", "4x10x12", "3x4x16x18"])),
    ("Clip", "clip_param { min: 0 max: 6 }", Follows),
    ("Convolution", "convolution_param { num_output: 3 kernel_size: 3 pad: 1 stride: 2 }", Follows),
    ("Convolution", "convolution_param { num_output: 4 kernel_size: 3 dilation: 2 group: 2 }", Follows),
    ("ConvolutionDepthwise", "convolution_param { num_output: 4 kernel_size: 3 }", Follows),
    ("Deconvolution", "convolution_param { num_output: 2 kernel_size: 4 pad: 1 stride: 2 }", Follows),
    ("DepthwiseConvolution", "convolution_param { num_output: 4 kernel_size: 3 }", Follows),
    ("Dropout", "", Follows),
    ("ELU", "", Follows),
    ("Embed", "embed_param { num_output: 3 input_dim: 5 }", Follows),
    ("Exp", "", Follows),
    ("Flatten", "", Follows),
    ("Flatten", "flatten_param { axis: -2 end_axis: -1 }", Follows),
    ("InnerProduct", "inner_product_param { num_output: 5 }",
        Refused(&["input[0]", "1152 inputs", "480", "1x4x10x12", "3x4x16x18"])),
    ("InnerProduct", "inner_product_param { num_output: 5 axis: -1 }", Refused(&["18 inputs", "12"])),
    ("Im2col", "convolution_param { kernel_size: 3 stride: 2 pad: 1 }", Follows),
    ("LRN", "", Follows),
    ("LRN", "lrn_param { norm_region: WITHIN_CHANNEL local_size: 3 }", Follows),
    ("Log", "", Follows),
    ("MVN", "", Follows),
    ("Normalize", "norm_param { across_spatial: false channel_shared: false }", Follows),
    ("PReLU", "", Follows),
    ("Permute", "permute_param { order: 0 order: 2 order: 3 order: 1 }", Follows),
    ("Pooling", "pooling_param { pool: AVE global_pooling: true }", Follows),
    ("Pooling", "pooling_param { pool: MAX kernel_size: 3 stride: 2 pad: 1 }", Follows),
    ("Pooling", "pooling_param { pool: AVE kernel_h: 10 kernel_w: 12 }", Follows),
    ("Power", "power_param { power: 2 }", Follows),
    ("ReLU", "", Follows),
    ("Reduction", "reduction_param { axis: -2 operation: MEAN }", Follows),
    ("Reshape", "reshape_param { shape { dim: 0 dim: -1 } }", Follows),
    ("Reshape", "reshape_param { shape { dim: 0 dim: 0 dim: -1 } }", Follows),
    ("Reshape", "reshape_param { shape { dim: 1 dim: -1 dim: 4 } }", Follows),
    ("Reshape", "reshape_param { shape { dim: -1 dim: 1 } axis: -3 num_axes: 1 }", Follows),
    ("Reshape", "reshape_param { shape { dim: 0 dim: 480 } }", Refused(&["dims", "3456"])),
    ("SPP", "spp_param { pyramid_height: 2 }", Refused(&["input[0]", "planes of 16x18", "10x12"])),
    ("Scale", "scale_param { bias_term: true }", Follows),
    ("Scale", "scale_param { axis: 2 num_axes: 1 }", Refused(&["weights[0]", "shape 10"])),
    ("Sigmoid", "", Follows),
    ("Slice", "", Follows),
    ("Slice", "slice_param { axis: 1 }", Follows),
    ("Softmax", "", Follows),
    ("Softmax", "softmax_param { axis: -1 }", Follows),
    ("Swish", "", Follows),
    ("TanH", "", Follows),
    ("Threshold", "", Follows),
    ("Tile", "tile_param { axis: 2 tiles: 3 }", Follows),
    ("Winograd", "convolution_param { num_output: 3 kernel_size: 3 pad: 1 }", Follows),
];

fn text(dims: [u32; 4]) -> String {
    dims.map(|dim| dim.to_string()).join(" ")
}

fn resize(graph: &Graph, dims: [u32; 4]) -> Result<Graph, String> {
    let shape = Shape::new(dims).unwrap();
    let resized = graph.with_input_shapes(&[("data", shape)]);
    resized.map_err(|error| error.to_string())
}

/// Same layers with the same attributes, and the same shapes.
#[track_caller]
fn assert_same(found: &Graph, expected: &Graph, what: &str) {
    found.check().expect(what);
    assert_eq!(found.nodes, expected.nodes, "{what}");
    assert_eq!(found.values, expected.values, "{what}");
    assert_eq!(found.inputs, expected.inputs, "{what}");
    assert_eq!(found.outputs, expected.outputs, "{what}");
    let shapes =
        |graph: &Graph| -> Vec<Shape> { graph.weights.iter().map(|w| w.shape().clone()).collect() };
    assert_eq!(shapes(found), shapes(expected), "{what}");
}

#[test]
fn every_layer_type_follows_or_is_refused() {
    for (kind, body, outcome) in LAYERS {
        let text = |dims| with_input(&text(dims), &layer(kind, body));
        let found = resize(&graph(&text(OLD)), NEW);
        match (outcome, found) {
            (Follows, Ok(found)) => assert_same(&found, &graph(&text(NEW)), &text(NEW)),
            (Refused(words), Err(error)) => {
                let words = words.iter().chain(&["layer \"it", "was made for"]);
                words.for_each(|word| assert!(error.contains(word), "no {word:?} in {error}"));
            }
            (_, found) => panic!("{kind} {body}: {:?}", found.map(|graph| graph.nodes)),
        }
    }
}

/// Every type of the table is in the list above, but those that have more than one operand or none: a
/// new type must say what becomes of it at another size.
#[test]
fn the_list_is_complete() {
    let elsewhere = [
        "Accuracy",
        "BatchReindex",
        "Concat",
        "Crop",
        // ops_detection.rs
        "DetectionOutput",
        "Eltwise",
        "Filter",
        "HDF5Output",
        "LSTM",
        "LSTMUnit",
        "Parameter",
        "PriorBox",
        "RNN",
        "Split",
        "Silence",
    ];
    // The same converters under other names.
    let same = |kind: &str| kind.starts_with("MKL") || kind.contains("ReLU");
    // Data and labels come from outside, and labels have a batch only.
    let outside = |kind: &str| kind.ends_with("Data") || kind.ends_with("Loss") || kind == "Input";
    let supported = skimjit_caffe::import::supported_markdown();
    let table = supported.split("## Known").next().unwrap_or_default();
    for line in table.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let kind = line.split('|').nth(1).unwrap_or_default().trim();
        let listed = LAYERS.iter().any(|(listed, ..)| *listed == kind);
        assert!(
            listed || same(kind) || outside(kind) || elsewhere.contains(&kind),
            "{kind} is missing: add it to LAYERS, or test it below"
        );
    }
}

#[test]
fn layers_with_several_operands_follow() {
    let small = "layer { name: 'small' type: 'Pooling' bottom: 'data' top: 'small' \
                 pooling_param { pool: MAX kernel_size: 2 stride: 2 } }\n";
    let two = |kind: &str, second: &str, body: &str| {
        format!(
            "{small}layer {{ name: 'it' type: '{kind}' bottom: 'data' bottom: '{second}' top: 'out' {body} }}"
        )
    };
    let cases = [
        two("Concat", "data", "concat_param { axis: 2 }"),
        two("Concat", "data", ""),
        two("Eltwise", "data", "eltwise_param { operation: MAX }"),
        two("Crop", "small", "crop_param { axis: 2 offset: 1 }"),
        two("PriorBox", "data", "prior_box_param { min_size: 5 }"),
        two("Scale", "data", "scale_param { axis: 0 }"),
        two("Bias", "data", "bias_param { axis: 0 }"),
        "layer { name: 'it' type: 'Split' bottom: 'data' top: 'a' top: 'b' }".to_owned(),
        "layer { name: 'it' type: 'Slice' bottom: 'data' top: 'a' top: 'b' }".to_owned(),
    ];
    for case in cases {
        let text = |dims| with_input(&text(dims), &case);
        let found =
            resize(&graph(&text(OLD)), NEW).unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_same(&found, &graph(&text(NEW)), &case);
    }
}

/// Equal parts change with the axis, parts between points do not; the network does not know any more
/// which of the two it was.
#[test]
fn slices_of_an_axis_that_changes_are_refused() {
    for body in ["", "slice_param { slice_point: 5 }"] {
        for axis in [0, 2, 3] {
            let body = body.replace("slice_param {", &format!("slice_param {{ axis: {axis}"));
            let body = if body.is_empty() {
                format!("slice_param {{ axis: {axis} }}")
            } else {
                body
            };
            let slice = format!(
                "layer {{ name: 'it' type: 'Slice' bottom: 'data' top: 'a' top: 'b' {body} }}"
            );
            let old = graph(&with_input("8 4 10 12", &slice));
            let error = resize(&old, [10, 4, 14, 16]).unwrap_err();
            for word in ["layer \"it\"", "input[0]", &format!("axis {axis}")] {
                assert!(error.contains(word), "no {word:?} in {error}");
            }
            assert_eq!(resize(&old, [8, 4, 10, 12]).unwrap().values, old.values);
        }
    }
}

/// A constant keeps its shape, as in Caffe; who combines it with what changes says that it cannot.
#[test]
fn constants_keep_their_shape() {
    let net = |dims| {
        with_input(
            &text(dims),
            "layer { name: 'ones' type: 'DummyData' top: 'ones' dummy_data_param { shape { \
             dim: 1 dim: 4 dim: 10 dim: 12 } } }\n\
             layer { name: 'it' type: 'Eltwise' bottom: 'data' bottom: 'ones' top: 'out' }",
        )
    };
    let error = resize(&graph(&net(OLD)), NEW).unwrap_err();
    for word in ["layer \"it\"", "1x4x10x12", "3x4x16x18"] {
        assert!(error.contains(word), "no {word:?} in {error}");
    }
}

#[test]
fn inputs_are_named_and_keep_their_axes() {
    let graph = graph(&with_input(&text(OLD), &layer("ReLU", "")));
    let error = |name: &str, dims: &[u32]| {
        let shape = Shape::new(dims).unwrap();
        graph
            .with_input_shapes(&[(name, shape)])
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        error("image", &[1, 4, 5, 5]),
        "found no input \"image\", expected one of: data"
    );
    assert_eq!(
        error("data", &[4, 5, 5]),
        "input \"data\": found shape 4x5x5, expected 4 axes, like 1x4x10x12"
    );
    assert!(graph.with_batch(0).is_err());
    assert!(graph.with_batch(u32::MAX).is_err());
    assert_eq!(graph.with_input_shapes(&[]).unwrap().values, graph.values);
}

/// Channels are what weights fix as well.
#[test]
fn other_channels_are_refused() {
    let conv = "convolution_param { num_output: 3 kernel_size: 3 }";
    for kind in ["Convolution", "Deconvolution", "Winograd"] {
        let old = graph(&with_input(&text(OLD), &layer(kind, conv)));
        let error = resize(&old, [1, 5, 10, 12]).unwrap_err();
        assert!(error.contains("5 channels"), "{error}");
        assert!(error.contains("expected 4"), "{error}");
    }
}

/// Too small for a kernel, and too large for anything.
#[test]
fn impossible_sizes_are_refused() {
    let conv = "convolution_param { num_output: 64 kernel_size: 5 }";
    let old = graph(&with_input(&text(OLD), &layer("Convolution", conv)));
    for (dims, word) in [
        ([1, 4, 3, 12], "kernel_h"),
        ([1, 4, 20_000, 20_000], "2147483648"),
    ] {
        let error = resize(&old, dims).unwrap_err();
        assert!(
            error.contains("layer \"it\"") && error.contains(word),
            "{error}"
        );
    }
}

fn real(data: &Path, name: &str, shape: Option<[u32; 4]>) -> Result<Graph, String> {
    let folder = data.join("models").join(name);
    let options = ImportOptions {
        input_shape: shape.map(|dims| Shape::new(dims).unwrap()),
        ..ImportOptions::default()
    };
    let weights = [folder.join("model.caffemodel")];
    let imported = load(Some(&folder.join("deploy.prototxt")), &weights, &options);
    imported
        .map(|imported| imported.graph)
        .map_err(|error| error.to_string())
}

#[test]
fn real_networks_become_what_an_import_gives() {
    let Some(data) = data("") else { return };
    let cases = [
        ("mtcnn_det1", [1, 3, 61, 88]),
        ("mtcnn_det1", [5, 3, 12, 12]),
        ("rfb320_face", [1, 3, 120, 160]),
        ("squeezenet_v1.0_dc", [2, 3, 256, 300]),
        ("wechat_sr", [1, 1, 50, 71]),
        ("alexnet_pruned_convs", [1, 3, 195, 240]),
    ];
    for (name, dims) in cases {
        if skimjit_testing::data(&format!("models/{name}/model.caffemodel")).is_none() {
            continue;
        }
        let base = real(&data, name, None).unwrap();
        let input = base.value(base.inputs[0]).name.clone();
        let shape = Shape::new(dims).unwrap();
        let found = base.with_input_shapes(&[(&input, shape)]).unwrap();
        assert_same(&found, &real(&data, name, Some(dims)).unwrap(), name);
    }
}

/// The prototxt files of other projects, resized from their own size to another: refused, or the same
/// as imported for it (where layers without weights get zeros of the right shape).
#[test]
fn public_topologies_follow_or_are_refused() {
    let Some(data) = data("") else { return };
    let (mut followed, mut refused) = (0, 0);
    for folder in [
        "BVLC__caffe",
        "shicai__MobileNet-Caffe",
        "yihui-he__resnet-cifar10-caffe",
    ] {
        let files = std::fs::read_dir(data.join("prototxt_corpus").join(folder)).unwrap();
        for file in files {
            let path = file.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            if !text.contains("layer") || text.contains("net:") {
                continue;
            }
            let import = |shape: Option<Shape>| {
                let options = ImportOptions {
                    input_shape: shape,
                    allow_missing_weights: true,
                    data_to_input: true,
                    strip_losses: true,
                    ..ImportOptions::default()
                };
                load(Some(&path), &[], &options).map(|imported| imported.graph)
            };
            let Ok(base) = import(None) else { continue };
            let [input] = base.inputs[..] else { continue };
            let &[n, c, h, w] = base.shape(input).dims() else {
                continue;
            };
            let shape = Shape::new([n + 1, c, h + 32, w + 64]).unwrap();
            let name = &base.value(input).name;
            match base.with_input_shapes(&[(name, shape.clone())]) {
                Ok(found) => {
                    let expected = import(Some(shape)).unwrap();
                    assert_same(&found, &expected, &path.display().to_string());
                    followed += 1;
                }
                Err(error) => {
                    assert!(error.layer.is_some(), "{}: {error}", path.display());
                    refused += 1;
                }
            }
        }
    }
    println!("{followed} followed, {refused} refused");
    assert!(followed > 0 && refused > 0);
}
