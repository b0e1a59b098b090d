//! Training definitions become networks that classify.

mod import_support;

use import_support::{dims, net, outputs};
use skimjit_caffe::import::{ImportOptions, import, load};
use skimjit_models::{BlockLasso, Connectivity, Graph, Op, Parameter, Shape};
use skimjit_testing::data;

const NET: &str = "
    layer { name: 'd' type: 'Data' top: 'data' top: 'label' include { phase: TRAIN }
            data_param { batch_size: 64 } transform_param { crop_size: 6 } }
    layer { name: 'd' type: 'Data' top: 'data' top: 'label' include { phase: TEST }
            data_param { batch_size: 5 } transform_param { crop_size: 4 } }
    layer { name: 'fc' type: 'InnerProduct' bottom: 'data' top: 'fc'
            inner_product_param { num_output: 3 } }
    layer { name: 'acc' type: 'Accuracy' bottom: 'fc' bottom: 'label' top: 'acc' }
    layer { name: 'half' type: 'Power' bottom: 'acc' top: 'half' }
    layer { name: 'loss' type: 'SoftmaxWithLoss' bottom: 'fc' bottom: 'label' top: 'loss' }";

fn options() -> ImportOptions {
    ImportOptions {
        data_to_input: true,
        strip_losses: true,
        allow_missing_weights: true,
        ..ImportOptions::default()
    }
}

fn stripped(text: &str, options: &ImportOptions) -> Graph {
    import(net(text), Vec::new(), options)
        .unwrap_or_else(|error| panic!("{error}"))
        .graph
}

#[test]
fn data_becomes_input_and_labels_go() {
    let graph = stripped(NET, &options());
    assert_eq!(dims(&graph, "data"), [5, 3, 4, 4]);
    assert_eq!((outputs(&graph), graph.inputs.len()), (vec!["prob"], 1));
    assert_eq!(graph.nodes.last().unwrap().op, Op::Softmax { axis: 1 });
    assert_eq!(graph.nodes.len(), 2);
    let without = ImportOptions {
        strip_losses: false,
        ..options()
    };
    assert_eq!(outputs(&stripped(NET, &without)), ["fc"]);
    let shape = Some(Shape::new([1, 1, 28, 28]).unwrap());
    let given = stripped(
        NET,
        &ImportOptions {
            input_shape: shape,
            ..options()
        },
    );
    assert_eq!(dims(&given, "data"), [1, 1, 28, 28]);
}

#[test]
fn the_softmax_finds_a_name() {
    let second = NET.replace("top: 'loss'", "top: 'loss' top: 'p'");
    assert_eq!(outputs(&stripped(&second, &options())), ["p"]);
    let taken = NET.replace("'fc'", "'prob'");
    assert_eq!(outputs(&stripped(&taken, &options())), ["loss"]);
    let two = format!(
        "{NET} layer {{ name: 'aux' type: 'SoftmaxWithLoss' bottom: 'fc' bottom: 'label' }}"
    );
    assert_eq!(outputs(&stripped(&two, &options())), ["aux", "loss"]);
}

#[test]
fn shapes_are_deduced_or_asked_for() {
    let input = |layer: &str| {
        let text = format!("{layer} layer {{ name: 'r' type: 'ReLU' bottom: 'x' top: 'y' }}");
        import(net(&text), Vec::new(), &options()).map(|done| dims(&done.graph, "x").to_vec())
    };
    let image = "layer { name: 'd' type: 'ImageData' top: 'x' top: 'l' image_data_param {
        batch_size: 2 new_height: 5 new_width: 6 is_color: false } }";
    assert_eq!(input(image).unwrap(), [2, 1, 5, 6]);
    let memory = "layer { name: 'd' type: 'MemoryData' top: 'x' top: 'l' memory_data_param {
        batch_size: 2 channels: 4 height: 5 width: 6 } }";
    assert_eq!(input(memory).unwrap(), [2, 4, 5, 6]);
    let window = "layer { name: 'd' type: 'WindowData' top: 'x' top: 'l'
        window_data_param { batch_size: 2 } transform_param { crop_size: 7 } }";
    assert_eq!(input(window).unwrap(), [2, 3, 7, 7]);
    let gray = "layer { name: 'd' type: 'Data' top: 'x' top: 'l'
        transform_param { crop_size: 7 force_gray: true } }";
    assert_eq!(input(gray).unwrap(), [1, 1, 7, 7]);
    for kind in ["Data", "HDF5Data"] {
        let layer = format!("layer {{ name: 'd' type: '{kind}' top: 'x' top: 'l' }}");
        let error = input(&layer).unwrap_err().to_string();
        assert!(
            error.contains("layer \"d\"") && error.contains("--input-shape"),
            "{error}"
        );
    }
}

/// HDF5Data has no transformations: its files tell its shapes.
#[test]
fn hdf5_data_without_a_shape_names_its_files() {
    let text = "layer { name: 'd' type: 'HDF5Data' top: 'x' hdf5_data_param { source: 'list.txt' batch_size: 2 } }
        layer { name: 'r' type: 'ReLU' bottom: 'x' top: 'y' }";
    let refused = import(net(text), Vec::new(), &options()).expect_err("no shape");
    let refused = refused.to_string();
    for words in ["layer \"d\"", "hdf5_data_param.source", "--input-shape"] {
        assert!(refused.contains(words), "{refused}");
    }
    assert!(!refused.contains("crop_size"), "{refused}");
    let shape = Some(Shape::new([2, 7]).unwrap());
    let given = ImportOptions {
        input_shape: shape,
        ..options()
    };
    assert_eq!(dims(&stripped(text, &given), "x"), [2, 7]);
}

#[test]
fn labels_that_are_inputs_go_with_the_losses() {
    let text = "
        layer { name: 'in' type: 'Input' top: 'data' top: 'label'
                input_param { shape { dim: 2 dim: 3 } shape { dim: 2 } } }
        layer { name: 'loss' type: 'SoftmaxWithLoss' bottom: 'data' bottom: 'label' top: 'loss' }";
    let graph = stripped(
        text,
        &ImportOptions {
            strip_losses: true,
            ..ImportOptions::default()
        },
    );
    assert_eq!((graph.inputs.len(), outputs(&graph)), (1, vec!["prob"]));
    let kept = stripped(text, &ImportOptions::default());
    assert_eq!((kept.inputs.len(), outputs(&kept)), (2, vec!["loss"]));
}

#[test]
fn silence_of_labels_goes() {
    let text = NET.replace(
        "type: 'Accuracy' bottom: 'fc' bottom: 'label' top: 'acc'",
        "type: 'Silence' bottom: 'label'",
    );
    let text = text.replace(
        "layer { name: 'half' type: 'Power' bottom: 'acc' top: 'half' }",
        "",
    );
    assert_eq!(outputs(&stripped(&text, &options())), ["prob"]);
}

/// Real definitions: every train_val file of the corpus with images as data.
#[test]
fn published_training_definitions() {
    let Some(root) = data("") else { return };
    let corpus = root.join("prototxt_corpus");
    for (file, dims, names) in [
        (
            "BVLC__caffe/models__bvlc_reference_caffenet__train_val.prototxt",
            &[1, 3, 227, 227][..],
            &["prob"][..],
        ),
        (
            "BVLC__caffe/models__bvlc_alexnet__train_val.prototxt",
            &[1, 3, 227, 227],
            &["prob"],
        ),
        (
            "BVLC__caffe/models__bvlc_googlenet__train_val.prototxt",
            &[1, 3, 224, 224],
            &["loss1/loss1", "loss2/loss2", "loss3/loss3"],
        ),
        (
            "BVLC__caffe/examples__mnist__lenet_train_test.prototxt",
            &[1, 1, 28, 28],
            &["prob"],
        ),
        (
            "BVLC__caffe/examples__cifar10__cifar10_full_train_test.prototxt",
            &[1, 3, 32, 32],
            &["prob"],
        ),
        (
            "yihui-he__resnet-cifar10-caffe/resnet-20__trainval.prototxt",
            &[1, 3, 32, 32],
            &["prob", "softmax"],
        ),
    ] {
        let input_shape = Some(Shape::new(dims).unwrap());
        let imported = load(
            Some(&corpus.join(file)),
            &[],
            &ImportOptions {
                input_shape,
                ..options()
            },
        );
        let graph = imported.unwrap_or_else(|error| panic!("{error}")).graph;
        graph.check().expect("a sound graph");
        assert_eq!(outputs(&graph), names, "{file}");
    }
}

/// Every network of the corpus imports with a made-up input shape, or says in which file and layer
/// the fault is.
#[test]
fn corpus_imports_or_says_why() {
    let Some(root) = data("") else { return };
    let (mut imported, mut refused) = (0, 0);
    for folder in std::fs::read_dir(root.join("prototxt_corpus"))
        .expect("folders")
        .flatten()
    {
        for file in std::fs::read_dir(folder.path()).expect("files").flatten() {
            let path = file.path();
            let text = std::fs::read(&path).expect("a readable file");
            if skimjit_caffe::text::is_solver(&text) {
                continue;
            }
            let done = load(Some(&path), &[], &options()).or_else(|_| {
                let input_shape = Some(Shape::new([1, 3, 32, 32]).unwrap());
                load(
                    Some(&path),
                    &[],
                    &ImportOptions {
                        input_shape,
                        ..options()
                    },
                )
            });
            match done {
                Ok(done) => {
                    done.graph.check().expect("a sound graph");
                    imported += 1;
                }
                Err(error) => {
                    println!("{error}");
                    assert_eq!(error.file, Some(path));
                    refused += 1;
                }
            }
        }
    }
    println!("{imported} imported, {refused} refused");
    assert!(imported > 30, "{imported} imported, {refused} refused");
}

/// All that a trainer needs beside the graph, by layers and weights.
#[test]
fn what_a_definition_says_of_training_is_kept() {
    let text = "
        force_backward: true
        layer { name: 'd' type: 'DummyData' top: 'x' top: 't'
                dummy_data_param { shape { dim: 2 dim: 4 dim: 6 dim: 6 } shape { dim: 2 dim: 3 } } }
        layer { name: 'conv' type: 'Convolution' bottom: 'x' top: 'conv' connectivity_mode: DISCONNECTED_GRPWISE
                param { name: 'w' lr_mult: 2 } param { lr_mult: 0.5 decay_mult: 0 regularization_type: 'L1' }
                convolution_param { num_output: 4 kernel_size: 3 pad: 1 } }
        layer { name: 'norm' type: 'BatchNorm' bottom: 'conv' top: 'conv'
                batch_norm_param { moving_average_fraction: 0.5 } }
        layer { name: 'again' type: 'Convolution' bottom: 'conv' top: 'again' propagate_down: false
                param { name: 'w' breadth_decay_mult: 3 block_group_lasso { xdimen: 9 } }
                convolution_param { num_output: 4 kernel_size: 3 pad: 1 bias_term: false } }
        layer { name: 'draw' type: 'Pooling' bottom: 'again' top: 'draw' pooling_param { pool: STOCHASTIC kernel_size: 2 } }
        layer { name: 'drop' type: 'Dropout' bottom: 'draw' top: 'draw' dropout_param { dropout_ratio: 0.25 } }
        layer { name: 'fc' type: 'InnerProduct' bottom: 'draw' top: 'fc' inner_product_param { num_output: 3 } }
        layer { name: 'loss' type: 'EuclideanLoss' bottom: 'fc' bottom: 't' top: 'loss' loss_weight: 7 }";
    let imported = |to_train, training| {
        let options = ImportOptions {
            allow_missing_weights: true,
            training,
            to_train,
            ..ImportOptions::default()
        };
        import(net(text), Vec::new(), &options).unwrap_or_else(|error| panic!("{error}"))
    };
    let trained = imported(true, true);
    let (graph, training) = (&trained.graph, &trained.training);
    let node = |name: &str| {
        let position = graph.nodes.iter().position(|node| node.name == name);
        position.unwrap()
    };
    assert!(training.force_backward && training.losses[0].1 == 7.0);
    assert_eq!(training.draws, [node("draw")].into());
    assert!(matches!(&graph.nodes[node("draw")].op, Op::Pooling(_)));
    assert_eq!(graph.nodes[node("drop")].op, Op::Dropout { ratio: 0.25 });
    let Op::BatchNorm(norm) = &graph.nodes[node("norm")].op else {
        panic!("no BatchNorm");
    };
    assert!(norm.momentum == 0.5 && !norm.uses_running() && norm.statistics.is_some());
    assert_eq!(training.propagates, [((node("again"), 0), false)].into());
    let places = |parameter: &Parameter| -> Vec<(String, usize)> {
        let places = parameter.places.iter();
        places
            .map(|place| (place.layer.clone(), place.index))
            .collect()
    };
    let names: Vec<_> = training.parameters.iter().map(places).collect();
    let one = |layer: &str, index| vec![(layer.to_owned(), index)];
    let shared = [one("conv", 0), one("again", 0)].concat();
    let norms = (0..3).map(|index| one("norm", index));
    let expected = [shared, one("conv", 1)].into_iter().chain(norms);
    let expected: Vec<_> = expected.chain([one("fc", 0), one("fc", 1)]).collect();
    assert_eq!(names, expected);
    let [weights, bias, ..] = &training.parameters[..] else {
        panic!("no parameters");
    };
    assert_eq!((weights.lr_mult, weights.decay_mult), (Some(2.0), None));
    assert_eq!(weights.breadth_decay_mult, 3.0);
    assert_eq!(weights.connectivity, Connectivity::Groups);
    let block = BlockLasso {
        columns: 9,
        rows: 1,
        decay_mult: 1.0,
    };
    assert_eq!(weights.block_group_lasso, [block]);
    assert_eq!((bias.lr_mult, bias.decay_mult), (Some(0.5), Some(0.0)));
    assert_eq!(bias.regularization.as_deref(), Some("L1"));
    // In tests the pooling is what it is there, of the same layer.
    let tested = imported(true, false);
    let parts = tested
        .graph
        .nodes
        .iter()
        .filter(|node| node.layer() == "draw");
    assert_eq!((parts.count(), tested.training.draws.len()), (5, 0));
    assert!(imported(false, false).training.parameters.is_empty());
}
