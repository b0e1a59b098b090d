//! Networks that are pruned and judged without training.

mod support;

use skimjit_caffe::{Definition, Phase, Weights};
use skimjit_data::idx;
use skimjit_models::Care;
use skimjit_pruning::magnitude;
use skimjit_testing::data;
use skimjit_trainer::engine::Engine;
use skimjit_trainer::executor::CpuEngine;
use skimjit_trainer::param;
use skimjit_trainer::param::Role;
use skimjit_trainer::prune::one_shot::{Target, one_shot, prunable};
use skimjit_trainer::prune::recalibration::recalibrate;
use skimjit_trainer::prune::sensitivity::scan;
use skimjit_trainer::trial::Source;
use std::path::Path;

const LAYERS: &str = r#"
layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 6 kernel_size: 3 group: 1 weight_filler { type: "xavier" } } }
layer { name: "n" type: "BatchNorm" bottom: "c" top: "c" }
layer { name: "s" type: "Scale" bottom: "c" top: "c" scale_param { bias_term: true } }
layer { name: "r" type: "ReLU" bottom: "c" top: "c" }
layer { name: "g" type: "Convolution" bottom: "c" top: "g" convolution_param { num_output: 4 kernel_size: 3 group: 2 bias_term: false weight_filler { type: "xavier" } } }
layer { name: "i" type: "InnerProduct" bottom: "g" top: "i" inner_product_param { num_output: 2 transpose: true weight_filler { type: "xavier" } } }
"#;

fn source(folder: &Path) -> Source {
    support::bars(folder);
    let text = format!(
        "{}{LAYERS}{}",
        support::data_layers(folder, 16),
        support::JUDGES
    );
    Source {
        definition: Definition::parse(&text, folder.join("net.prototxt")).unwrap(),
        weights: vec![],
        seed: 3,
    }
}

fn params(engine: &mut dyn Engine) -> Vec<Vec<f32>> {
    let mut all = Vec::new();
    for index in 0..engine.params().len() {
        engine.edit(index, &mut |_, state| all.push(state.data.clone()));
    }
    all
}

#[test]
fn a_scan_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let source = source(folder.path());
    let mut engine = CpuEngine::default();
    let stream = source.add(&mut engine, [Phase::Test; 2], 2).unwrap();
    let before = params(&mut engine);
    let chosen = param::prunable(engine.params(), &[], "layers").unwrap();
    let mut steps = 0;
    let found = scan(&mut engine, &stream, &chosen, &[0.0, 0.5, 1.0], &mut |_| {
        steps += 1;
    });
    let found = found.unwrap();
    assert_eq!((steps, found.points.len()), (9, 9));
    assert_eq!(params(&mut engine), before);
    for layer in found.points.chunks(3) {
        assert_eq!(layer[0].judgement, found.baseline);
        assert!((layer[1].sparsity - 0.5).abs() < 0.01);
        assert_eq!(layer[2].sparsity, 1.0);
        assert_ne!(layer[2].judgement, found.baseline);
    }
    let error = param::prunable(engine.params(), &["x".to_owned()], "layers").unwrap_err();
    assert!(error.to_string().contains("c, g, i"), "{error}");
    let text = serde_json::to_string(&found).unwrap();
    assert!(text.contains("\"baseline\"") && text.contains("\"accuracy\""));
}

#[test]
fn layers_are_reconstructed_one_after_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let source = source(folder.path());
    let mut engine = CpuEngine::default();
    let stream = source
        .add(&mut engine, [Phase::Test, Phase::Train], 4)
        .unwrap();
    let chosen = prunable(&engine, &stream);
    assert_eq!(chosen.len(), 3);
    let target = |&param: &usize| Target {
        param,
        sparsity: 0.5,
    };
    let targets: Vec<Target> = chosen.iter().map(target).collect();
    let reports = one_shot(&mut engine, &stream, &targets, 0.01, &mut |_| ()).unwrap();
    for report in &reports {
        assert!((report.sparsity - 0.5).abs() < 0.01, "{report:?}");
        assert!(report.error < report.magnitude_error, "{report:?}");
        assert_eq!(report.blocks, 1);
    }
    let saved = source.saved(&mut engine, stream.id());
    let blobs = |name: &str| {
        let mut layers = saved.layers();
        layers.find(|(layer, _)| *layer == name).unwrap().1
    };
    assert_eq!(
        (blobs("c"), blobs("g"), blobs("i"), blobs("n")),
        (2, 1, 2, 3)
    );
}

/// Statistics become the mean over the batches, whatever they were.
#[test]
fn statistics_are_gathered_anew() {
    let folder = tempfile::tempdir().unwrap();
    let source = source(folder.path());
    let mut engine = CpuEngine::default();
    let (net, mut feed) = source.open(Phase::Train, Phase::Train).unwrap();
    let id = engine.add(net).unwrap();
    let statistics = |engine: &CpuEngine| -> Vec<usize> {
        let all = engine.params().iter().enumerate();
        all.filter(|(_, param)| param.role == Role::Statistic)
            .map(|(index, _)| index)
            .collect()
    };
    let statistics = statistics(&engine);
    for &index in &statistics {
        engine.edit(index, &mut |_, state| state.data.fill(7.0));
    }
    assert_eq!(recalibrate(&mut engine, id, &mut feed, 4).unwrap(), 1);
    let values = params(&mut engine);
    assert_eq!(values[statistics[2]], [1.0]);
    // Four batches are all pictures: the mean is that of the convolution's results.
    let stream = source
        .add(&mut engine, [Phase::Test, Phase::Train], 4)
        .unwrap();
    let graph = &engine.net(stream.id()).graph;
    let input = graph.inputs[0];
    let convolution = graph.nodes[0].clone();
    let (shape, output) = (
        graph.shape(input).clone(),
        graph.shape(convolution.output).clone(),
    );
    let mut sum = vec![0.0f64; 6];
    let mut count = 0.0;
    let weights: Vec<std::sync::Arc<skimjit_models::Weight>> = [[6, 1, 3, 3].as_slice(), &[6]]
        .iter()
        .zip(&values)
        .map(|(dims, data)| {
            let shape = skimjit_models::Shape::new(dims.to_vec()).unwrap();
            skimjit_models::Tensor::new(shape, data.clone()).into()
        })
        .collect();
    let mut all = engine.net(stream.id()).graph.weights.clone();
    for (id, weight) in convolution.op.weights().iter().zip(weights) {
        all[id.0 as usize] = weight;
    }
    stream
        .run(&mut engine, &mut |engine| {
            let data = engine.value(stream.id(), input);
            let mut result = vec![0.0; output.count()];
            let view = skimjit_models::TensorRef {
                shape: &shape,
                data: &data,
            };
            convolution.op.evaluate(&[view], &all, &output, &mut result);
            for (index, plane) in result.chunks_exact(36).enumerate() {
                sum[index % 6] += f64::from(plane.iter().sum::<f32>());
            }
            count += 36.0 * 16.0;
            Ok(())
        })
        .unwrap();
    for (mean, sum) in values[statistics[0]].iter().zip(sum) {
        assert!((f64::from(*mean) - sum / count).abs() < 1e-4, "{mean}");
    }
}

/// The published LeNet without 90 % of its weights: what reconstruction keeps, magnitude loses.
#[test]
fn lenet_at_nine_tenths() {
    let Some(data) = data("") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let mnist = data.join("data/mnist");
    for (name, images, labels, count) in [
        (
            "train",
            "train-images-idx3-ubyte.gz",
            "train-labels-idx1-ubyte.gz",
            1280,
        ),
        (
            "test",
            "test_first3000-images-idx3-ubyte.gz",
            "test_first3000-labels-idx1-ubyte.gz",
            1000,
        ),
    ] {
        let images = idx::read_images(&mnist.join(images)).unwrap();
        let labels = idx::read_labels(&mnist.join(labels)).unwrap();
        let records = images.iter().zip(labels).take(count);
        let records = records.map(|(pixels, label)| (pixels.to_vec(), i32::from(label)));
        support::data_base(&folder.path().join(name), 28, records);
    }
    let file = data.join("formats/train_lenet_train_test.prototxt");
    let mut definition = Definition::read(&file, Care::default(), &mut |_| ()).unwrap();
    definition.place_data(|source| {
        let name = if source.contains("train") {
            "train"
        } else {
            "test"
        };
        Some(folder.path().join(name))
    });
    let source = Source {
        definition,
        weights: vec![Weights::read(&data.join("models/lenet/model.caffemodel")).unwrap()],
        seed: 1,
    };
    let accuracy = |pruned: &dyn Fn(&mut CpuEngine)| {
        let mut engine = CpuEngine::default();
        let test = source.add(&mut engine, [Phase::Test; 2], 10).unwrap();
        pruned(&mut engine);
        test.judge(&mut engine).unwrap().outputs[0].value
    };
    let dense = accuracy(&|_| ());
    let smallest = accuracy(&|engine| {
        for param in param::prunable(engine.params(), &[], "layers").unwrap() {
            engine.edit(param, &mut |_, state| {
                magnitude::prune(&mut state.data, 0.9)
            });
        }
    });
    let reconstructed = accuracy(&|engine| {
        let phases = [Phase::Test, Phase::Train];
        let stream = source.add(engine, phases, 20).unwrap();
        let targets: Vec<Target> = prunable(engine, &stream)
            .into_iter()
            .map(|param| Target {
                param,
                sparsity: 0.9,
            })
            .collect();
        one_shot(engine, &stream, &targets, 0.01, &mut |_| ()).unwrap();
    });
    println!("dense {dense} magnitude {smallest} reconstructed {reconstructed}");
    assert!(dense > 0.98 && reconstructed > 0.94);
    assert!(reconstructed > smallest + 0.05);
}
