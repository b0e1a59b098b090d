//! Which blob a name means, what is refused, and which blobs are results.

mod import_support;

use import_support::{dims, graph, layer, net, outputs, refusal, with_input};
use skimjit_caffe::import::{ImportOptions, import};
use skimjit_models::{Op, Shape};

/// Checklist 6.
#[test]
fn in_place_layers_get_fresh_values_of_the_same_name() {
    let text = with_input(
        "1 2",
        "layer { name: 'r' type: 'ReLU' bottom: 'data' top: 'x' }
         layer { name: 't' type: 'TanH' bottom: 'x' top: 'x' }
         layer { name: 'a' type: 'AbsVal' bottom: 'x' top: 'x' }",
    );
    let graph = graph(&text);
    let [r, t, a] = graph.nodes.as_slice() else {
        panic!()
    };
    assert_eq!((t.inputs[0], a.inputs[0]), (r.output, t.output));
    assert_eq!((outputs(&graph), graph.outputs[0]), (vec!["x"], a.output));
}

/// Checklist 6.
#[test]
fn results_are_the_blobs_nobody_takes_by_name() {
    let text = with_input(
        "1 4",
        "layer { name: 's' type: 'Slice' bottom: 'data' top: 'z' top: 'b' top: 'm' top: 'a' }
         layer { name: 'r' type: 'ReLU' bottom: 'm' top: 'c' }",
    );
    assert_eq!(outputs(&graph(&text)), ["a", "b", "c", "z"]);
    let unused_input = "layer { name: 'in' type: 'Input' top: 'x' top: 'y'
        input_param { shape { dim: 1 } } } layer { name: 'r' type: 'ReLU' bottom: 'x' top: 'z' }";
    assert_eq!(outputs(&graph(unused_input)), ["y", "z"]);
}

#[test]
fn wiring_faults() {
    let refused = |layers: &str, words: &[&str]| {
        let error = refusal(&with_input("1 4", layers));
        for word in words {
            assert!(error.contains(word), "no {word:?} in {error}");
        }
    };
    let dangling = "layer { name: 'r' type: 'ReLU' bottom: 'nowhere' top: 'x' }";
    refused(dangling, &["layer \"r\"", "bottom[0]", "\"nowhere\""]);
    let forward = "layer { name: 'r' type: 'ReLU' bottom: 'y' top: 'x' }
                   layer { name: 'q' type: 'ReLU' bottom: 'x' top: 'y' }";
    refused(
        forward,
        &["layer \"r\"", "layer \"q\" makes it, but comes later"],
    );
    let own = "layer { name: 'r' type: 'ReLU' bottom: 'x' top: 'x' }";
    refused(own, &["layer \"r\"", "its own result"]);
    let twice = "layer { name: 'r' type: 'ReLU' bottom: 'data' top: 'x' }
                 layer { name: 'q' type: 'ReLU' bottom: 'data' top: 'x' }";
    refused(twice, &["layer \"q\"", "top[0]", "\"x\" a second time"]);
    let same = "layer { name: 's' type: 'Split' bottom: 'data' top: 'x' top: 'x' }";
    refused(same, &["layer \"s\"", "top[1]"]);
    let other_place = "layer { name: 's' type: 'Split' bottom: 'data' top: 'x' top: 'data' }";
    refused(other_place, &["layer \"s\"", "top[1]"]);
    refused(
        &layer("ReLU", "bottom: 'data'"),
        &["2 bottoms of a ReLU layer", "expected 1"],
    );
    refused(&layer("ReLU", "top: 'b'"), &["2 tops of a ReLU layer"]);
    refused(
        "layer { name: 's' type: 'Silence' }",
        &["0 bottoms", "1 or more"],
    );
}

#[test]
fn input_shape_option() {
    let import_with = |text: &str, dims: &[u32]| {
        let input_shape = Some(Shape::new(dims).unwrap());
        let options = ImportOptions {
            input_shape,
            ..ImportOptions::default()
        };
        import(net(text), Vec::new(), &options)
    };
    let relu = "layer { name: 'r' type: 'ReLU' bottom: 'data' top: 'x' }";
    let bigger = import_with(&with_input("1 3 4 4", relu), &[2, 3, 8, 8]).unwrap();
    assert_eq!(dims(&bigger.graph, "x"), [2, 3, 8, 8]);

    let legacy = format!("input: 'data' {relu}");
    assert!(refusal(&legacy).contains("--input-shape"));
    assert_eq!(
        dims(&import_with(&legacy, &[1, 5]).unwrap().graph, "x"),
        [1, 5]
    );
    let legacy_dims = format!("input: 'data' input_dim: [1, 2, 3, 4] {relu}");
    assert_eq!(dims(&graph(&legacy_dims), "x"), [1, 2, 3, 4]);

    let two =
        "layer { name: 'in' type: 'Input' top: 'x' top: 'y' input_param { shape { dim: 1 } } }";
    let error = import_with(two, &[1]).unwrap_err().to_string();
    assert!(error.contains("2 inputs"), "{error}");
}

/// Checklist 5.
#[test]
fn rules_choose_layers() {
    let text = with_input(
        "1 4",
        "layer { name: 'a' type: 'ReLU' bottom: 'data' top: 'x' include { phase: TRAIN } }
         layer { name: 'b' type: 'TanH' bottom: 'data' top: 'x' include { phase: TEST not_stage: 's' } }
         layer { name: 'c' type: 'AbsVal' bottom: 'data' top: 'x' include { stage: 's' min_level: 1 } }",
    );
    let graph_of = |level: i32, stages: &[&str]| {
        let stages = stages.iter().map(|&stage| stage.to_owned()).collect();
        let options = ImportOptions {
            level,
            stages,
            ..ImportOptions::default()
        };
        import(net(&text), Vec::new(), &options).unwrap().graph
    };
    assert_eq!(graph_of(0, &[]).nodes[0].name, "b");
    assert_eq!(graph_of(1, &["s"]).nodes[0].name, "c");
    assert!(graph_of(0, &["s"]).nodes.is_empty());
}

#[test]
fn old_definitions() {
    let text = "input: 'data' input_dim: [1, 1, 4, 4]
        layers { name: 'c' type: CONVOLUTION bottom: 'data' top: 'c'
                 convolution_param { num_output: 2 kernel_size: 3 } }
        layers { name: 'r' type: RELU bottom: 'c' top: 'c' }";
    let graph = graph(text);
    assert!(matches!(graph.nodes[0].op, Op::Convolution(_)));
    assert_eq!(dims(&graph, "c"), [1, 2, 2, 2]);
}

/// A data layer of the other phase is named, with what to do.
#[test]
fn a_blob_of_another_phase_is_named() {
    let train = "layer { name: 'data' type: 'Data' top: 'data' top: 'label' include { phase: TRAIN }
                         data_param { batch_size: 2 } transform_param { crop_size: 6 } }
                 layer { name: 'c' type: 'Pooling' bottom: 'data' top: 'c' pooling_param { kernel_size: 3 } }";
    let refused = refusal(train);
    for words in [
        "bottom[0]",
        "layer \"data\" (Data)",
        "only in phase TRAIN",
        "Input layer",
    ] {
        assert!(refused.contains(words), "{refused}");
    }
    let excluded = train.replace("include { phase: TRAIN }", "exclude { phase: TEST }");
    assert!(refusal(&excluded).contains("not in phase TEST"));
    let staged = train.replace("phase: TRAIN", "stage: 'x'");
    assert!(refusal(&staged).contains("rules leave it out"));
}
