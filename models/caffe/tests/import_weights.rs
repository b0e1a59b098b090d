//! Weights: matched by name, checked, shared, replaced, pruned, or missing.

mod import_support;

use import_support::{named, net, weights, with_input};
use skimjit_caffe::import::{ImportOptions, import};
use skimjit_caffe::proto::{BlobProto, NetParameter};
use skimjit_models::Imported;
use skimjit_models::{Error, Op};

const FC: &str = "layer { name: 'fc' type: 'InnerProduct' bottom: 'data' top: 'fc'
                          inner_product_param { num_output: 2 } }";

fn fc() -> NetParameter {
    net(&with_input("1 3", FC))
}

fn import_fc(files: Vec<NetParameter>) -> Result<Imported, Error> {
    import(fc(), files, &ImportOptions::default())
}

fn fc_weights(scale: f32) -> NetParameter {
    let data = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0].map(|x: f32| x * scale);
    weights("fc", &[(&[2, 3], &data), (&[2], &[0.5, -0.5])])
}

fn refused(files: Vec<NetParameter>, words: &[&str]) {
    let error = import_fc(files).expect_err("refused").to_string();
    for word in ["layer \"fc\""].iter().chain(words) {
        assert!(error.contains(word), "no {word:?} in {error}");
    }
}

/// Checklist 8.
#[test]
fn matched_by_name_and_later_files_win() {
    let imported = import_fc(vec![fc_weights(1.0), fc_weights(2.0)]).unwrap();
    let weights = &imported.graph.weights;
    assert_eq!(weights[0].data(), [2.0, 4.0, 6.0, 8.0, 10.0, 12.0]);
    assert_eq!(weights[1].data(), [0.5, -0.5]);
    assert!(imported.warnings.is_empty());
}

#[test]
fn unused_weights_are_warned_of() {
    let other = weights("fc9", &[(&[1], &[1.0])]);
    let imported = import_fc(vec![fc_weights(1.0), other]).unwrap();
    let warnings: Vec<String> = imported.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("\"fc9\""), "{warnings:?}");
}

#[test]
fn counts_and_shapes_are_checked() {
    refused(vec![], &["blobs[0]", "no weights", "2x3"]);
    refused(
        vec![weights("fc", &[(&[2, 3], &[0.0; 6])])],
        &["1 blobs", "expected 2"],
    );
    let three = weights(
        "fc",
        &[(&[2, 3], &[0.0; 6]), (&[2], &[0.0; 2]), (&[1], &[0.0])],
    );
    refused(vec![three], &["3 blobs", "expected 2"]);
    let turned = weights("fc", &[(&[3, 2], &[0.0; 6]), (&[2], &[0.0; 2])]);
    refused(vec![turned], &["blobs[0].shape", "3x2", "2x3"]);
    let four = weights("fc", &[(&[1, 1, 2, 3], &[0.0; 6]), (&[2], &[0.0; 2])]);
    refused(vec![four], &["blobs[0].shape", "1x1x2x3"]);
    let nan = weights("fc", &[(&[2, 3], &[f32::NAN; 6]), (&[2], &[0.0; 2])]);
    refused(vec![nan], &["blobs[0]"]);
    let short = weights("fc", &[(&[2, 3], &[0.0; 5]), (&[2], &[0.0; 2])]);
    refused(vec![short], &["blobs[0]"]);
}

fn legacy([num, channels, height, width]: [i32; 4], data: &[f32]) -> BlobProto {
    BlobProto {
        num: Some(num),
        channels: Some(channels),
        height: Some(height),
        width: Some(width),
        data: data.to_vec(),
        ..BlobProto::default()
    }
}

/// Checklist 8.
#[test]
fn legacy_shapes_have_leading_ones() {
    let file = |weight: [i32; 4], bias: [i32; 4]| {
        let blobs = vec![legacy(weight, &[1.0; 6]), legacy(bias, &[2.0; 2])];
        NetParameter {
            layer: vec![named("fc", blobs)],
            ..NetParameter::default()
        }
    };
    let imported = import_fc(vec![file([1, 1, 2, 3], [1, 1, 1, 2])]).unwrap();
    assert_eq!(imported.graph.weights[0].shape().dims(), [2, 3]);
    assert_eq!(imported.graph.weights[1].shape().dims(), [2]);
    refused(vec![file([2, 3, 1, 1], [1, 1, 1, 2])], &["blobs[0].shape"]);
    refused(vec![file([1, 1, 2, 3], [2, 1, 1, 1])], &["blobs[1].shape"]);
}

#[test]
fn missing_weights_are_zero_on_request() {
    let options = ImportOptions {
        allow_missing_weights: true,
        ..ImportOptions::default()
    };
    let imported = import(fc(), Vec::new(), &options).unwrap();
    assert_eq!(imported.graph.weights[0].data(), [0.0; 6]);
}

#[test]
fn small_weights_become_zero_biases_do_not() {
    let options = ImportOptions {
        zero_below: Some(3.0),
        ..ImportOptions::default()
    };
    let imported = import(fc(), vec![fc_weights(-1.0)], &options).unwrap();
    let data = imported.graph.weights[0].data();
    assert_eq!(data, [0.0, 0.0, 0.0, -4.0, -5.0, -6.0]);
    assert!(data[0].is_sign_positive());
    assert_eq!(imported.graph.weights[1].data(), [0.5, -0.5]);
}

fn two_layers(second: &str, outputs: u32) -> NetParameter {
    net(&with_input(
        "1 2",
        &format!(
            "layer {{ name: 'a' type: 'InnerProduct' bottom: 'data' top: 'a' param {{ name: 'w' }}
                      inner_product_param {{ num_output: 2 bias_term: false }} }}
             layer {{ name: 'b' type: 'InnerProduct' bottom: 'a' top: 'b' {second}
                      inner_product_param {{ num_output: {outputs} bias_term: false }} }}"
        ),
    ))
}

/// Checklist 7.
#[test]
fn shared_parameters_are_one_weight() {
    let own = weights("a", &[(&[2, 2], &[1.0, 2.0, 3.0, 4.0])]);
    let shared = two_layers("param { name: 'w' }", 2);
    let options = ImportOptions::default();
    for files in [
        vec![own.clone()],
        vec![weights("b", &[(&[2, 2], &[1.0, 2.0, 3.0, 4.0])])],
    ] {
        let imported = import(shared.clone(), files, &options).unwrap();
        assert_eq!(imported.graph.weights.len(), 1);
        assert_eq!(imported.graph.weights[0].data(), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(imported.graph.nodes[0].op, imported.graph.nodes[1].op);
    }
    let error = import(
        two_layers("param { name: 'w' }", 1),
        vec![own.clone()],
        &options,
    );
    let error = error.expect_err("another shape").to_string();
    assert!(
        error.contains("layer \"b\"") && error.contains("PERMISSIVE"),
        "{error}"
    );
    let permissive = two_layers("param { name: 'w' share_mode: PERMISSIVE }", 1);
    let error = import(permissive, vec![own], &options)
        .expect_err("another count")
        .to_string();
    assert!(error.contains("2 elements"), "{error}");
}

/// Checklist 7.
#[test]
fn permissive_sharing_reshapes() {
    let text = with_input(
        "1 1 2 2",
        "layer { name: 'c' type: 'Convolution' bottom: 'data' top: 'c' param { name: 'w' }
                 convolution_param { num_output: 1 kernel_size: 2 bias_term: false } }
         layer { name: 'f' type: 'InnerProduct' bottom: 'data' top: 'f'
                 param { name: 'w' share_mode: PERMISSIVE }
                 inner_product_param { num_output: 1 bias_term: false } }",
    );
    let file = weights("c", &[(&[1, 1, 2, 2], &[1.0, 2.0, 3.0, 4.0])]);
    let graph = import(net(&text), vec![file], &ImportOptions::default())
        .unwrap()
        .graph;
    assert_eq!(graph.weights[0].data(), graph.weights[1].data());
    assert_eq!(graph.weights[1].shape().dims(), [1, 4]);
}

#[test]
fn winograd_weights_decide_the_op() {
    let text = with_input(
        "1 3 6 6",
        "layer { name: 'w' type: 'Winograd' bottom: 'data' top: 'w'
                 convolution_param { num_output: 2 kernel_size: 3 pad: 1 bias_term: false } }",
    );
    let op = |dims: &[i64], count: usize| {
        let file = weights("w", &[(dims, &vec![1.0; count])]);
        let imported = import(net(&text), vec![file], &ImportOptions::default());
        imported.map(|imported| imported.graph.nodes[0].op.clone())
    };
    assert!(matches!(op(&[2, 3, 3, 3], 54), Ok(Op::Convolution(_))));
    assert!(matches!(op(&[6, 6, 2, 3], 216), Ok(Op::WinogradConvolution(w)) if w.pad == [1, 1]));
    assert!(op(&[6, 6, 3, 2], 216).is_err());
}

/// Spatial weights go to the Winograd domain when asked, once for all layers that share them.
#[test]
fn winograd_weights_are_transformed() {
    let layer = |name: &str| {
        format!(
            "layer {{ name: '{name}' type: 'Winograd' bottom: 'data' top: '{name}' param {{ name: 'shared' }}
             convolution_param {{ num_output: 2 kernel_size: 3 bias_term: false }} }}"
        )
    };
    let text = with_input("1 3 6 6", &format!("{}{}", layer("v"), layer("w")));
    let kernels: Vec<f32> = (0..54).map(|i| i as f32 / 54.0).collect();
    let options = ImportOptions {
        to_train: true,
        ..ImportOptions::default()
    };
    let file = weights("v", &[(&[2, 3, 3, 3], &kernels)]);
    let graph = import(net(&text), vec![file], &options).unwrap().graph;
    assert_eq!(graph.weights.len(), 1);
    assert_eq!(graph.weights[0].shape().dims(), [6, 6, 2, 3]);
    // The corners of U = G·w·Gᵀ are those of the kernel, times 1/16 and 1.
    let transformed = graph.weights[0].data();
    assert!((transformed[1] - kernels[9] / 16.0).abs() < 1e-6);
    assert!((transformed[35 * 6 + 5] - kernels[53]).abs() < 1e-6);
    let again = weights("v", &[(&[6, 6, 2, 3], transformed)]);
    let second = import(net(&text), vec![again], &options).unwrap().graph;
    assert_eq!(second.weights[0].data(), transformed);
}

#[test]
fn batch_statistics_need_no_weights() {
    let text = with_input(
        "1 2",
        "layer { name: 'n' type: 'BatchNorm' bottom: 'data' top: 'n'
                 batch_norm_param { use_global_stats: false } }",
    );
    let file = weights("n", &[(&[2], &[0.0; 2]), (&[2], &[0.0; 2]), (&[1], &[0.0])]);
    for files in [vec![], vec![file]] {
        let imported = import(net(&text), files, &ImportOptions::default()).unwrap();
        assert!(imported.warnings.is_empty() && imported.graph.weights.is_empty());
    }
}

#[test]
fn a_caffemodel_can_be_its_own_topology() {
    let text = "layer { name: 'data' type: 'Data' top: 'data' top: 'label'
              include { phase: TRAIN } phase: TRAIN
              data_param { batch_size: 7 } transform_param { crop_size: 2 } }
        layer { name: 'split' type: 'Split' bottom: 'data' top: 'd0' top: 'd1' phase: TRAIN }
        layer { name: 'fc' type: 'InnerProduct' bottom: 'd0' top: 'fc' phase: TRAIN
              inner_product_param { num_output: 1 bias_term: false } }
        layer { name: 'q' type: 'Silence' bottom: 'd1' phase: TRAIN }
        layer { name: 'loss' type: 'SoftmaxWithLoss' bottom: 'fc' bottom: 'label' top: 'loss' }";
    let mut topology = net(text);
    let blob = weights("fc", &[(&[1, 12], &[1.0; 12])])
        .layer
        .remove(0)
        .blobs;
    topology.layer[2].blobs = blob;
    let options = ImportOptions {
        data_to_input: true,
        strip_losses: true,
        ..ImportOptions::default()
    };
    let graph = import(topology, Vec::new(), &options).unwrap().graph;
    assert_eq!(import_support::dims(&graph, "data"), [7, 3, 2, 2]);
    assert_eq!(import_support::outputs(&graph), ["prob"]);
    assert_eq!(graph.weights[0].data(), [1.0; 12]);
}

fn shared_pair() -> NetParameter {
    net(&with_input(
        "1 1",
        "layer { name: 'a' type: 'InnerProduct' bottom: 'data' top: 'x' param { name: 'w' }
                 inner_product_param { num_output: 1 bias_term: false } }
         layer { name: 'b' type: 'InnerProduct' bottom: 'x' top: 'y' param { name: 'w' }
                 inner_product_param { num_output: 1 bias_term: false } }",
    ))
}

/// Weights of layers, in the order of the file.
fn file(layers: &[(&str, f32)]) -> NetParameter {
    let mut file = NetParameter::default();
    for &(name, value) in layers {
        file.layer
            .append(&mut weights(name, &[(&[1, 1], &[value])]).layer);
    }
    file
}

/// As Net::CopyTrainedLayersFrom does: layer after layer, file after file, into the same memory.
#[test]
fn the_last_copy_of_a_shared_parameter_wins() {
    type Files<'a> = &'a [&'a [(&'a str, f32)]];
    let cases: &[(Files<'_>, f32, bool)] = &[
        (&[&[("a", 2.0), ("b", 10.0)]], 10.0, true),
        (&[&[("b", 10.0), ("a", 2.0)]], 2.0, true),
        (&[&[("a", 2.0), ("b", 10.0)], &[("a", 3.0)]], 3.0, true),
        (&[&[("b", 10.0)], &[("a", 3.0)], &[("b", 4.0)]], 4.0, true),
        (&[&[("a", 5.0), ("b", 5.0)]], 5.0, false),
        (&[&[("b", 6.0)]], 6.0, false),
    ];
    for (files, value, warned) in cases {
        let files = files.iter().map(|layers| file(layers)).collect();
        let imported = import(shared_pair(), files, &ImportOptions::default()).unwrap();
        assert_eq!(imported.graph.weights.len(), 1);
        assert_eq!(imported.graph.weights[0].data(), [*value], "{cases:?}");
        assert_eq!(import_support::run(&imported.graph)[0].data(), [0.0]);
        let warnings: Vec<String> = imported.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(warnings.len(), usize::from(*warned), "{warnings:?}");
        for words in ["\"a\"", "\"b\"", "parameter \"w\"", "different weights"] {
            assert!(
                warnings.iter().all(|warning| warning.contains(words)),
                "{warnings:?}"
            );
        }
    }
}

/// A copy that only the number of elements of has to fit has the shape of its own layer.
#[test]
fn the_last_copy_of_a_permissive_parameter_is_reshaped() {
    let text = with_input(
        "1 1 2 2",
        "layer { name: 'c' type: 'Convolution' bottom: 'data' top: 'c' param { name: 'w' }
                 convolution_param { num_output: 1 kernel_size: 2 bias_term: false } }
         layer { name: 'f' type: 'InnerProduct' bottom: 'data' top: 'f'
                 param { name: 'w' share_mode: PERMISSIVE }
                 inner_product_param { num_output: 1 bias_term: false } }",
    );
    let mut both = weights("c", &[(&[1, 1, 2, 2], &[1.0, 2.0, 3.0, 4.0])]);
    let mut second = weights("f", &[(&[1, 4], &[5.0, 6.0, 7.0, 8.0])]);
    both.layer.append(&mut second.layer);
    let imported = import(net(&text), vec![both], &ImportOptions::default()).unwrap();
    for weight in &imported.graph.weights {
        assert_eq!(weight.data(), [5.0, 6.0, 7.0, 8.0]);
    }
    assert_eq!(imported.warnings.len(), 1);
}

#[test]
fn missing_weights_name_the_option_and_the_layer_under_another_name() {
    let stored = |name: &str| {
        let data = [0.0; 6];
        weights(name, &[(&[2, 3], &data), (&[2], &[0.0; 2])])
    };
    let refusal = |files| import_fc(files).expect_err("refused").to_string();
    let renamed = refusal(vec![stored("fc_ms")]);
    for words in [
        "--allow-missing-weights",
        "\"fc_ms\"",
        "2x3",
        "the same name",
    ] {
        assert!(renamed.contains(words), "{renamed}");
    }
    // By shape, whatever the name; by name, whatever the shape.
    assert!(refusal(vec![stored("other")]).contains("\"other\""));
    let near = weights("fd", &[(&[9], &[0.0; 9])]);
    assert!(refusal(vec![near]).contains("\"fd\""));
    let far = refusal(vec![weights("conv1", &[(&[9], &[0.0; 9])])]);
    assert!(
        !far.contains("conv1") && far.contains("--allow-missing-weights"),
        "{far}"
    );
    assert!(refusal(vec![]).contains("no weight file"));
}

const BATCH_NORM: &str =
    "layer { name: 'b' type: 'BatchNorm' bottom: 'data' top: 'b' batch_norm_param { eps: 0 } }";

fn five(factor: f32) -> NetParameter {
    let blobs: [(&[i64], &[f32]); 5] = [
        (&[2], &[1.0, 2.0]),
        (&[2], &[4.0, 16.0]),
        (&[1], &[factor]),
        (&[2], &[3.0, 5.0]),
        (&[2], &[10.0, 20.0]),
    ];
    weights("b", &blobs)
}

/// NVIDIA's BatchNorm with scale_bias: mean, variance, 1, scale, offset.
#[test]
fn five_blobs_are_a_batch_norm_and_a_scale() {
    let text = with_input("1 2 1 1", BATCH_NORM);
    let imported = import(net(&text), vec![five(1.0)], &ImportOptions::default()).unwrap();
    // The input is 0 and 0.25.
    let found = import_support::run(&imported.graph)[0].data().to_vec();
    let expected = [
        (0.0 - 1.0) / 2.0 * 3.0 + 10.0,
        (0.25 - 2.0) / 4.0 * 5.0 + 20.0,
    ];
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-4, "{found} {expected}");
    }
    assert_eq!(imported.warnings.len(), 1);
    assert!(imported.warnings[0].text.contains("NVIDIA"));
    let scaled = import(net(&text), vec![five(2.0)], &ImportOptions::default());
    let refused = scaled.expect_err("refused").to_string();
    for words in ["NVIDIA", "blobs[2]", "expected 1", "Scale layer"] {
        assert!(refused.contains(words), "{refused}");
    }
    let training = ImportOptions {
        training: true,
        ..ImportOptions::default()
    };
    assert!(import(net(&text), vec![five(1.0)], &training).is_err());
}

/// NVIDIA's own fields: with `scale_bias`, or a filler of scale or offset, the layer is both.
#[test]
fn scale_bias_is_a_scale_in_a_batch_norm() {
    let with = |fields: &str| with_input("1 2 1 1", &BATCH_NORM.replace("eps: 0", fields));
    let read = |fields: &str, files| import(net(&with(fields)), files, &ImportOptions::default());
    // The input is 0 and 0.25; eps is the least that NVIDIA takes.
    let norm = |x: f64, mean: f64, variance: f64| (x - mean) / (variance + 1e-5).sqrt();
    let expected = [
        norm(0.0, 1.0, 4.0) * 3.0 + 10.0,
        norm(0.25, 2.0, 16.0) * 5.0 + 20.0,
    ];
    for fields in [
        "scale_bias: true eps: 0",
        "scale_bias: true engine: CUDNN use_global_stats: false",
        "scale_filler { type: 'constant' value: 1 }",
        "bias_filler { value: 0 }",
    ] {
        let imported = read(fields, vec![five(1.0)]).unwrap_or_else(|error| panic!("{error}"));
        assert!(imported.warnings.is_empty(), "{:?}", imported.warnings);
        let found = import_support::run(&imported.graph);
        for (found, expected) in found[0].data().iter().zip(expected) {
            let error = f64::from(*found) - expected;
            assert!(error.abs() < 1e-5, "{fields}: {found} {expected}");
        }
    }
    let three = || weights("b", &[(&[2], &[0.0; 2]), (&[2], &[1.0; 2]), (&[1], &[1.0])]);
    for (fields, file, words) in [
        (
            "scale_bias: true",
            three(),
            ["scale_bias", "3 blobs", "expected 5"],
        ),
        (
            "scale_filler {}",
            three(),
            ["scale_filler", "3 blobs", "expected 5"],
        ),
        (
            "scale_bias: false",
            five(1.0),
            ["scale_bias", "false", "5 blobs"],
        ),
    ] {
        let error = read(fields, vec![file]).expect_err(fields).to_string();
        for word in words.iter().chain(&["layer \"b\""]) {
            assert!(error.contains(word), "no {word:?} in {error}");
        }
    }
    assert!(read("scale_bias: false", vec![three()]).is_ok());
}

/// Without weights scale and offset come from their fillers; who trains is told what to write instead.
#[test]
fn scale_bias_without_weights() {
    let fields = "scale_bias: true scale_filler { value: 3 } bias_filler { value: 4 }";
    let text = with_input("1 2 1 1", &BATCH_NORM.replace("eps: 0", fields));
    let missing = ImportOptions {
        allow_missing_weights: true,
        ..ImportOptions::default()
    };
    let imported = import(net(&text), Vec::new(), &missing).unwrap();
    let blobs: Vec<&[f32]> = imported
        .graph
        .weights
        .iter()
        .map(|blob| blob.data())
        .collect();
    assert_eq!(
        blobs,
        [&[0.0; 2][..], &[0.0; 2], &[1.0], &[3.0; 2], &[4.0; 2]]
    );
    let training = ImportOptions {
        training: true,
        ..missing
    };
    let refused = import(net(&text), Vec::new(), &training).expect_err("refused");
    let refused = refused.to_string();
    for words in ["layer \"b\"", "scale_bias", "training", "Scale layer"] {
        assert!(refused.contains(words), "{refused}");
    }
}

#[test]
fn an_error_carries_the_warnings_before_it() {
    let other = weights("a", &[(&[1, 1], &[2.0])]);
    let text = with_input(
        "1 2 1 1",
        "layer { name: 'b' type: 'BatchNorm' bottom: 'data' top: 'b' }
         layer { name: 'c' type: 'Nothing' bottom: 'b' top: 'c' }",
    );
    let refused = import(
        net(&text),
        vec![five(1.0), other],
        &ImportOptions::default(),
    );
    let error = refused.expect_err("refused");
    assert_eq!(error.warnings.len(), 1, "{:?}", error.warnings);
    assert!(error.warnings[0].text.contains("5 blobs"));
    assert!(!error.to_string().contains("5 blobs"));
}
