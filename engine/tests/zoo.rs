//! The three reference networks at their published sparsities: engine against the reference
//! interpreter, on every instruction set, at several batch sizes, with one and two threads.

use skimjit::{CompileOptions, Model};
use skimjit_caffe::{import, zoo};
use skimjit_models::{Graph, Shape, Tensor, interpreter};
use skimjit_testing::{Noise, isas};

fn graph(name: &str) -> Graph {
    let net = zoo::find(name).expect("a network of the zoo");
    let weights = zoo::synthesize(net, zoo::Sparsity::Published, 7).unwrap();
    import::import(weights, vec![], &import::ImportOptions::default())
        .unwrap()
        .graph
}

/// Reproducible pixels of −128 to 127.
fn pixels(shape: &Shape) -> Tensor {
    Tensor::new(shape.clone(), Noise::new(1).pixels(shape.count()))
}

fn check(name: &str) {
    let graph = graph(name).with_batch(2).unwrap();
    let input = pixels(graph.shape(graph.inputs[0]));
    let expected = interpreter::run_outputs(&graph, std::slice::from_ref(&input)).unwrap();
    let model = Model::from_graph(graph).unwrap();
    for isa in isas() {
        for (batch, threads) in [(1, 1), (1, 2), (3, 2), (16, 2)] {
            let options = CompileOptions {
                isa: Some(isa),
                batch: Some(batch),
                threads,
                ..Default::default()
            };
            let engine = model.compile(&options).unwrap();
            let found = engine
                .run(&mut engine.session(), std::slice::from_ref(&input))
                .unwrap();
            for (found, expected) in found.iter().zip(&expected) {
                let scale = expected
                    .data()
                    .iter()
                    .fold(0f32, |most, x| most.max(x.abs()));
                for (a, b) in found.data().iter().zip(expected.data()) {
                    let what = format!("{name}, {isa}, batch {batch}, {threads} threads");
                    assert!(
                        (a - b).abs() <= 1e-4 * scale,
                        "{what}: found {a}, expected {b}"
                    );
                }
            }
        }
    }
}

#[test]
fn caffenet() {
    check("caffenet");
}

#[test]
fn googlenet() {
    check("googlenet");
}

#[test]
fn resnet_50() {
    check("resnet-50");
}
