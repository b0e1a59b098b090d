//! MobileNet-SSD whole: engine against the reference interpreter, one image and a batch of two.

use skimjit::{CompileOptions, Engine, Isa, Model};
use skimjit_caffe::{import, zoo};
use skimjit_models::{Graph, Op, Shape, Tensor, interpreter, passes};
use skimjit_testing::{Noise, isas};

/// The network with made-up weights; its scores are low, so more of them count.
fn network() -> Graph {
    let net = zoo::find("mobilenet-ssd").expect("a network of the zoo");
    let weights = zoo::synthesize(net, zoo::Sparsity::Percent(60.0), 3).unwrap();
    let imported = import::import(weights, vec![], &import::ImportOptions::default()).unwrap();
    let mut graph = imported.graph;
    for node in &mut graph.nodes {
        if let Op::DetectionOutput(op) = &mut node.op {
            op.confidence_threshold = Some(0.06);
        }
    }
    graph
}

fn pixels(images: u32) -> Tensor {
    let shape = Shape::new([images, 3, 300, 300]).unwrap();
    let data = Noise::new(1).values(shape.count());
    Tensor::new(shape, data)
}

fn rows(detections: &Tensor) -> Vec<&[f32]> {
    let rows = detections.data().chunks_exact(7);
    rows.take_while(|row| row[0] >= 0.0).collect()
}

fn assert_same(found: &Tensor, expected: &Tensor, what: &str) {
    assert_eq!(found.shape(), expected.shape(), "{what}");
    let (found, expected) = (rows(found), rows(expected));
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        let close = found
            .iter()
            .zip(expected)
            .all(|(a, b)| (a - b).abs() < 1e-3);
        assert!(close, "{what}: {found:?}, expected {expected:?}");
    }
}

fn engine(model: &Model, isa: Isa, batch: u32) -> Engine {
    let options = CompileOptions {
        isa: Some(isa),
        batch: Some(batch),
        threads: 2,
        ..Default::default()
    };
    model.compile(&options).unwrap()
}

#[test]
fn mobilenet_ssd() {
    let graph = network();
    let input = pixels(2);
    let both = graph.with_batch(2).unwrap();
    let expected = interpreter::run_outputs(&both, std::slice::from_ref(&input)).unwrap();
    let per_image = |image: f32| {
        rows(&expected[0])
            .iter()
            .filter(|row| row[0] == image)
            .count()
    };
    assert_eq!((per_image(0.0), per_image(1.0)), (100, 100));
    let model = Model::from_graph(graph).unwrap();
    for isa in isas() {
        let engine_of_two = engine(&model, isa, 2);
        let found = engine_of_two.run(&mut engine_of_two.session(), std::slice::from_ref(&input));
        assert_same(
            &found.unwrap()[0],
            &expected[0],
            &format!("{isa}, batch of 2"),
        );
        // One by one each image is number 0.
        let engine_of_one = engine(&model, isa, 1);
        let found = engine_of_one.run(&mut engine_of_one.session(), std::slice::from_ref(&input));
        let found = found.unwrap().remove(0);
        assert_eq!(found.shape().dims(), [2, 1, 100, 7]);
        for (found, expected) in found
            .data()
            .chunks_exact(7)
            .zip(expected[0].data().chunks_exact(7))
        {
            let close = found[1..]
                .iter()
                .zip(&expected[1..])
                .all(|(a, b)| (a - b).abs() < 1e-3);
            assert!(found[0] == 0.0 && close, "{found:?}, expected {expected:?}");
        }
    }
}

#[test]
fn nothing_of_the_prior_boxes_is_left_to_compute() {
    let optimized = passes::optimize(network()).unwrap();
    let priors =
        |node: &&skimjit_models::Node| matches!(node.op, Op::PriorBox(_) | Op::Concat { axis: 2 });
    assert_eq!(optimized.nodes.iter().filter(priors).count(), 0);
}
