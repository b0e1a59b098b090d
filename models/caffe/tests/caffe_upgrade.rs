//! Old formats and layer rules.

use skimjit_caffe::filter::filter_net;
use skimjit_caffe::proto::{NetParameter, NetState, Phase};
use skimjit_caffe::upgrade::{upgrade_net, upgrade_solver};
use skimjit_caffe::{parse_prototxt, text};

fn parse(text: &str) -> NetParameter {
    let (net, warnings) = parse_prototxt(text, "net.prototxt").unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(warnings, []);
    net
}

#[track_caller]
fn upgrades(old: &str, new: &str) {
    assert_eq!(upgrade_net(parse(old)).unwrap(), parse(new));
}

#[track_caller]
fn refuses(old: &str, found: &str) {
    let error = upgrade_net(parse(old)).unwrap_err().to_string();
    assert!(error.contains(found), "{error}");
}

#[test]
fn nets_of_today_stay() {
    let net = "name: 'n' layer { name: 'a' type: 'ReLU' bottom: 'x' top: 'x' blobs { data: 1 } }";
    upgrades(net, net);
}

/// Checklist 2.
#[test]
fn v1_layers() {
    upgrades(
        "layers { name: 'c' type: CONVOLUTION bottom: 'x' top: 'y' blobs { data: 1 } loss_weight: 2 \
         convolution_param { num_output: 3 } include { phase: TEST } exclude { stage: 's' } \
         transform_param { scale: 2 } loss_param { ignore_label: 1 } }",
        "layer { name: 'c' type: 'Convolution' bottom: 'x' top: 'y' blobs { data: 1 } loss_weight: 2 \
         convolution_param { num_output: 3 } include { phase: TEST } exclude { stage: 's' } \
         transform_param { scale: 2 } loss_param { ignore_label: 1 } }",
    );
    upgrades(
        "layers { param: 'w' param: 'b' blob_share_mode: PERMISSIVE blobs_lr: 1 blobs_lr: 2 \
         blobs_lr: 3 weight_decay: 0 }",
        "layer { type: '' param { name: 'w' share_mode: PERMISSIVE lr_mult: 1 decay_mult: 0 } \
         param { name: 'b' lr_mult: 2 } param { lr_mult: 3 } }",
    );
    for (old, new) in [
        ("SOFTMAX_LOSS", "SoftmaxWithLoss"),
        ("LRN", "LRN"),
        ("BNLL", "BNLL"),
        ("TANH", "TanH"),
        ("HDF5_DATA", "HDF5Data"),
        ("ABSVAL", "AbsVal"),
        ("SIGMOID_CROSS_ENTROPY_LOSS", "SigmoidCrossEntropyLoss"),
        ("39", "Deconvolution"),
    ] {
        upgrades(
            &format!("layers {{ type: {old} }}"),
            &format!("layer {{ type: '{new}' }}"),
        );
    }
    refuses(
        "layers { name: 'a' } layer { name: 'b' }",
        "both \"layer\" and \"layers\"",
    );
}

#[test]
fn v1_parameters_of_every_type_survive() {
    let params = "accuracy_param { top_k: 5 } argmax_param { top_k: 2 } concat_param { concat_dim: 0 } \
        contrastive_loss_param { margin: 2 } data_param { batch_size: 2 } dropout_param { dropout_ratio: 0.1 } \
        dummy_data_param { num: 1 } eltwise_param { operation: MAX } exp_param { base: 2 } \
        hdf5_data_param { batch_size: 3 } hdf5_output_param { file_name: 'f' } hinge_loss_param { norm: L2 } \
        image_data_param { new_height: 4 } infogain_loss_param { source: 's' } \
        inner_product_param { num_output: 5 } lrn_param { k: 2 } memory_data_param { width: 1 } \
        mvn_param { across_channels: true } pooling_param { pad: 1 } power_param { shift: 1 } \
        relu_param { negative_slope: 0.1 } sigmoid_param { engine: CUDNN } slice_param { slice_point: 2 } \
        softmax_param { engine: CAFFE } tanh_param { engine: CAFFE } threshold_param { threshold: 1 } \
        window_data_param { crop_mode: 'square' }";
    upgrades(
        &format!("layers {{ {params} }}"),
        &format!("layer {{ type: '' {params} }}"),
    );
}

#[test]
fn v1_data_layers_give_their_transformation_away() {
    for (kind, new, param) in [
        ("DATA", "Data", "data_param"),
        ("IMAGE_DATA", "ImageData", "image_data_param"),
        ("WINDOW_DATA", "WindowData", "window_data_param"),
    ] {
        upgrades(
            &format!(
                "layers {{ type: {kind} {param} {{ source: 's' scale: 0.5 mean_file: 'm' \
                 crop_size: 227 mirror: true }} transform_param {{ crop_size: 1 }} }}"
            ),
            &format!(
                "layer {{ type: '{new}' {param} {{ source: 's' }} transform_param {{ scale: 0.5 \
                 mean_file: 'm' crop_size: 227 mirror: true }} }}"
            ),
        );
    }
    // Deprecated fields of layers of today have no effect, as in Caffe.
    let today = "layer { type: 'Data' data_param { scale: 0.5 } }";
    upgrades(today, today);
}

/// Checklist 2.
#[test]
fn v0_layers() {
    upgrades(
        "layers { layer { name: 'c' type: 'conv' num_output: 4 biasterm: false pad: 1 kernelsize: 3 \
         group: 2 stride: 2 weight_filler { type: 'xavier' } bias_filler { value: 1 } blobs { data: 1 } \
         blobs_lr: 1 weight_decay: 0 } bottom: 'x' top: 'y' }",
        "layer { name: 'c' type: 'Convolution' bottom: 'x' top: 'y' blobs { data: 1 } \
         param { lr_mult: 1 decay_mult: 0 } convolution_param { num_output: 4 bias_term: false pad: 1 \
         kernel_size: 3 group: 2 stride: 2 weight_filler { type: 'xavier' } bias_filler { value: 1 } } }",
    );
    for (old, new) in [
        (
            "type: 'pool' pool: AVE kernelsize: 3 stride: 2 pad: 1",
            "type: 'Pooling' pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }",
        ),
        (
            "type: 'innerproduct' num_output: 5 biasterm: true",
            "type: 'InnerProduct' inner_product_param { num_output: 5 bias_term: true }",
        ),
        (
            "type: 'lrn' local_size: 3 alpha: 2 beta: 1 k: 2",
            "type: 'LRN' lrn_param { local_size: 3 alpha: 2 beta: 1 k: 2 }",
        ),
        (
            "type: 'dropout' dropout_ratio: 0.3",
            "type: 'Dropout' dropout_param { dropout_ratio: 0.3 }",
        ),
        (
            "type: 'concat' concat_dim: 0",
            "type: 'Concat' concat_param { concat_dim: 0 }",
        ),
        (
            "type: 'infogain_loss' source: 'm'",
            "type: 'InfogainLoss' infogain_loss_param { source: 'm' }",
        ),
        (
            "type: 'data' source: 's' batchsize: 8 scale: 2 meanfile: 'm' cropsize: 4 mirror: true rand_skip: 1",
            "type: 'Data' data_param { source: 's' batch_size: 8 rand_skip: 1 } \
          transform_param { scale: 2 mean_file: 'm' crop_size: 4 mirror: true }",
        ),
        (
            "type: 'images' source: 's' new_height: 5 new_width: 6 shuffle_images: true batchsize: 1",
            "type: 'ImageData' image_data_param { source: 's' new_height: 5 new_width: 6 shuffle: true batch_size: 1 }",
        ),
        (
            "type: 'window_data' source: 's' det_fg_threshold: 0.4 det_context_pad: 16 det_crop_mode: 'warp'",
            "type: 'WindowData' window_data_param { source: 's' fg_threshold: 0.4 context_pad: 16 crop_mode: 'warp' }",
        ),
        (
            "type: 'hdf5_data' source: 's' batchsize: 3",
            "type: 'HDF5Data' hdf5_data_param { source: 's' batch_size: 3 }",
        ),
        (
            "type: 'hdf5_output' hdf5_output_param { file_name: 'f' }",
            "type: 'HDF5Output' hdf5_output_param { file_name: 'f' }",
        ),
        ("type: 'relu'", "type: 'ReLU'"),
        ("type: 'softmax_loss'", "type: 'SoftmaxWithLoss'"),
    ] {
        upgrades(
            &format!("layers {{ layer {{ {old} }} }}"),
            &format!("layer {{ {new} }}"),
        );
    }
    refuses(
        "layers { layer { name: 'l' type: 'banana' } }",
        "layer \"l\": type: found layer type \"banana\"",
    );
    refuses(
        "layers { layer { name: 'l' type: 'relu' stride: 2 } }",
        "layer \"l\": found parameters of another",
    );
}

#[test]
fn v0_padding_layers_go_into_their_readers() {
    upgrades(
        "layers { layer { name: 'p' type: 'padding' pad: 2 } bottom: 'x' top: 'x_pad' } \
         layers { layer { name: 'c' type: 'conv' } bottom: 'x_pad' top: 'c' } \
         layers { layer { name: 'd' type: 'pool' } bottom: 'x_pad' top: 'd' }",
        "layer { name: 'c' type: 'Convolution' bottom: 'x' top: 'c' convolution_param { pad: 2 } } \
         layer { name: 'd' type: 'Pooling' bottom: 'x' top: 'd' pooling_param { pad: 2 } }",
    );
    let padding = "layers { layer { name: 'p' type: 'padding' pad: 2 } bottom: 'x' top: 'y' }";
    refuses(
        &format!("{padding} layers {{ layer {{ name: 'r' type: 'relu' }} bottom: 'y' top: 'z' }}"),
        "padding",
    );
    refuses(
        "layers { layer { name: 'p' type: 'padding' } top: 'y' }",
        "number of bottoms",
    );
}

/// Checklist 4.
#[test]
fn inputs_become_a_layer() {
    upgrades(
        "input: 'a' input: 'b' input_dim: [1, 2, 3, 4, 5, 6, 7, 8] layer { name: 'l' }",
        "layer { name: 'input' type: 'Input' top: 'a' top: 'b' input_param { \
         shape { dim: [1, 2, 3, 4] } shape { dim: [5, 6, 7, 8] } } } layer { name: 'l' }",
    );
    upgrades(
        "input: 'a' input_shape { dim: [2, 3] }",
        "layer { name: 'input' type: 'Input' top: 'a' input_param { shape { dim: [2, 3] } } }",
    );
    upgrades("input: 'a' layer { name: 'l' }", "layer { name: 'l' }");
    refuses(
        "input: 'a' input_dim: [1, 2, 3]",
        "input_dim: found 3 numbers",
    );
    refuses(
        "input: 'a' input: 'b' input_shape { dim: 1 }",
        "input_shape: found 1 shapes",
    );
}

#[test]
fn batch_norm_statistics_are_not_learned() {
    upgrades(
        "layer { type: 'BatchNorm' param { lr_mult: 1 } param { name: 'v' } param { decay_mult: 2 } }",
        "layer { type: 'BatchNorm' param { lr_mult: 0 decay_mult: 0 } \
         param { name: 'v' lr_mult: 0 decay_mult: 0 } param { lr_mult: 0 decay_mult: 0 } }",
    );
    let two = "layer { type: 'BatchNorm' param { lr_mult: 1 } param { lr_mult: 1 } }";
    upgrades(two, two);
}

#[test]
fn solver_types() {
    let upgraded = |text: &str| {
        let mut solver = text::solver(text.as_bytes()).unwrap().0;
        upgrade_solver(&mut solver).map(|()| solver.r#type().to_owned())
    };
    assert_eq!(upgraded("solver_type: ADAGRAD").unwrap(), "AdaGrad");
    assert_eq!(upgraded("solver_type: 5").unwrap(), "Adam");
    assert_eq!(upgraded("type: 'Nesterov'").unwrap(), "Nesterov");
    assert_eq!(upgraded("").unwrap(), "SGD");
    assert!(upgraded("solver_type: SGD type: 'Adam'").is_err());
}

/// Names of the layers of a net with one layer of these rules that survive.
#[track_caller]
fn included(rules: &str, state: &NetState) -> bool {
    let net = parse(&format!("layer {{ name: 'l' {rules} }}"));
    !filter_net(net, state).unwrap().layer.is_empty()
}

fn state(phase: Phase, level: i32, stages: &[&str]) -> NetState {
    let stage = stages.iter().map(ToString::to_string).collect();
    NetState {
        phase: Some(phase.into()),
        level: Some(level),
        stage,
        ..NetState::default()
    }
}

/// Checklist 5.
#[test]
fn rules_of_phase_level_and_stage() {
    let test = state(Phase::Test, 2, &["deploy", "quantised"]);
    for (rules, expected) in [
        ("", true),
        ("include {}", true),
        ("exclude {}", false),
        ("include { phase: TEST }", true),
        ("include { phase: TRAIN }", false),
        ("exclude { phase: TEST }", false),
        ("exclude { phase: TRAIN }", true),
        ("include { phase: TRAIN } include { phase: TEST }", true),
        (
            "exclude { phase: TRAIN } exclude { stage: 'deploy' }",
            false,
        ),
        ("include { min_level: 2 }", true),
        ("include { min_level: 3 }", false),
        ("include { max_level: 2 }", true),
        ("include { max_level: 1 }", false),
        ("include { min_level: -1 max_level: 5 }", true),
        ("include { stage: 'deploy' }", true),
        ("include { stage: 'deploy' stage: 'quantised' }", true),
        ("include { stage: 'deploy' stage: 'other' }", false),
        ("include { not_stage: 'other' }", true),
        ("include { not_stage: 'other' not_stage: 'deploy' }", false),
        ("include { phase: TEST stage: 'other' }", false),
    ] {
        assert_eq!(included(rules, &test), expected, "{rules}");
    }
    let both = parse("layer { name: 'l' include { phase: TEST } exclude { phase: TRAIN } }");
    let error = filter_net(both, &test).unwrap_err().to_string();
    assert!(
        error.contains("layer \"l\": include: found both"),
        "{error}"
    );
}

#[test]
fn the_state_of_the_net_is_the_base() {
    let net = "state { phase: TRAIN level: 3 stage: 'own' } \
        layer { name: 'a' include { phase: TEST min_level: 3 stage: 'own' stage: 'given' } }";
    let given = NetState {
        phase: Some(Phase::Test.into()),
        level: None,
        stage: vec!["given".to_owned()],
        ..NetState::default()
    };
    assert_eq!(filter_net(parse(net), &given).unwrap().layer.len(), 1);
    let other_level = NetState {
        level: Some(0),
        ..given
    };
    assert_eq!(filter_net(parse(net), &other_level).unwrap().layer.len(), 0);
}
