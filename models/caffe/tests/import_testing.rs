//! Test definitions keep their labels, judges and losses when data layers become inputs.

mod import_support;

use import_support::{dims, net, outputs};
use skimjit_caffe::import::{ImportOptions, import};
use skimjit_models::Imported;
use skimjit_models::{Shape, Tensor, interpreter};

const NET: &str = "
    layer { name: 'd' type: 'Data' top: 'data' top: 'label' include { phase: TRAIN } }
    layer { name: 'd' type: 'Data' top: 'data' top: 'label' include { phase: TEST }
            data_param { source: 'lmdb' batch_size: 2 } transform_param { crop_size: 4 } }
    layer { name: 'more' type: 'HDF5Data' top: 'side' hdf5_data_param { source: 'list' batch_size: 2 } }
    layer { name: 'join' type: 'Concat' bottom: 'data' bottom: 'side' top: 'all' }
    layer { name: 'acc' type: 'Accuracy' bottom: 'all' bottom: 'label' top: 'acc' top: 'each' }
    layer { name: 'loss' type: 'SoftmaxWithLoss' bottom: 'all' bottom: 'label' top: 'loss'
            loss_weight: 0.5 }
    layer { name: 'size' type: 'Reduction' bottom: 'all' top: 'size' loss_weight: 2 }
    layer { name: 'half' type: 'Power' bottom: 'size' top: 'half' power_param { scale: 0.5 } }
    layer { name: 'hush' type: 'Silence' bottom: 'half' }";

fn shapes(list: &[(&str, &[u32])]) -> Vec<(String, Shape)> {
    let shape = |(name, dims): &(&str, &[u32])| ((*name).to_owned(), Shape::new(*dims).unwrap());
    list.iter().map(shape).collect()
}

fn options() -> ImportOptions {
    let data: [(&str, &[u32]); 3] = [("data", &[2, 2]), ("label", &[2]), ("side", &[2, 1])];
    ImportOptions {
        data_shapes: shapes(&data),
        ..ImportOptions::default()
    }
}

fn imported(text: &str) -> Imported {
    import(net(text), Vec::new(), &options()).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn data_layers_become_inputs_with_their_labels() {
    let graph = imported(NET).graph;
    let inputs: Vec<&str> = graph
        .inputs
        .iter()
        .map(|&id| graph.value(id).name.as_str())
        .collect();
    assert_eq!(inputs, ["data", "label", "side"]);
    assert_eq!(dims(&graph, "side"), [2, 1]);
    assert_eq!(outputs(&graph), ["acc", "each", "loss"]);
}

#[test]
fn losses_have_weights() {
    let done = imported(NET);
    let losses: Vec<(&str, f32)> = done
        .training
        .losses
        .iter()
        .map(|&(id, weight)| (done.graph.value(id).name.as_str(), weight))
        .collect();
    assert_eq!(losses, [("loss", 0.5), ("size", 2.0)]);
    let usual = imported(&NET.replace("loss_weight: 0.5", ""));
    assert_eq!(usual.training.losses[0].1, 1.0);
    let none = imported(&NET.replace("loss_weight: 0.5", "loss_weight: 0"));
    assert_eq!(none.training.losses.len(), 1);
    let error = NET.replace("loss_weight: 0.5", "loss_weight: 1 loss_weight: 0");
    let error = import(net(&error), Vec::new(), &options()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("layer \"loss\"") && text.contains("loss_weight"),
        "{text}"
    );
}

#[test]
fn the_judges_judge() {
    let graph = imported(NET).graph;
    let tensor = |dims: &[u32], data: Vec<f32>| Tensor::new(Shape::new(dims).unwrap(), data);
    let inputs = [
        tensor(&[2, 2], vec![0.0, 3.0, 1.0, 2.0]),
        tensor(&[2], vec![1.0, 2.0]),
        tensor(&[2, 1], vec![1.0, 0.0]),
    ];
    let found = interpreter::run_outputs(&graph, &inputs).unwrap();
    assert_eq!(found[0].data(), [0.5]);
    assert_eq!(found[1].data(), [0.0, 1.0, 0.0]);
    let loss = |scores: [f64; 3], class: usize| {
        scores.iter().map(|x| x.exp()).sum::<f64>().ln() - scores[class]
    };
    let expected = (loss([0.0, 3.0, 1.0], 1) + loss([1.0, 2.0, 0.0], 2)) / 2.0;
    assert!((f64::from(found[2].data()[0]) - expected).abs() < 1e-6);
}

#[test]
fn layers_with_other_blobs_stay() {
    let only = ImportOptions {
        data_shapes: shapes(&[("data", &[2, 2])]),
        ..ImportOptions::default()
    };
    let error = import(net(NET), Vec::new(), &only).unwrap_err().to_string();
    assert!(error.contains("which reads files"), "{error}");
}
