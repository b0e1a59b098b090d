//! The three reference networks at their published sparsities: engine against the reference
//! interpreter, on every instruction set, at several batch sizes, with one and two threads.

use skimjit::models::{Graph, Shape, Tensor, import, interpreter, zoo};
use skimjit::{CompileOptions, Isa, Model};

/// Instruction sets that run here.
fn isas() -> Vec<Isa> {
    let cap = std::env::var("SKIMJIT_MAX_ISA")
        .ok()
        .and_then(|name| name.parse().ok());
    let best = Isa::detect(None)
        .expect("an x86 CPU with AVX2")
        .min(cap.unwrap_or(Isa::Avx512));
    if best < Isa::Avx512 {
        println!("skipped: AVX-512 (the CPU lacks it, or SKIMJIT_MAX_ISA caps it)");
    }
    [Isa::Avx2, Isa::Avx512]
        .into_iter()
        .filter(|&isa| isa <= best)
        .collect()
}

fn graph(name: &str) -> Graph {
    let net = zoo::find(name).expect("a network of the zoo");
    let weights = zoo::synthesize(net, zoo::Sparsity::Published, 7).unwrap();
    import::import(weights, vec![], &import::ImportOptions::default())
        .unwrap()
        .graph
}

/// Reproducible pixels of −128 to 127.
fn pixels(shape: &Shape) -> Tensor {
    let mut state = 1u32;
    let data = (0..shape.count())
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as f32 - 128.0
        })
        .collect();
    Tensor::new(shape.clone(), data)
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
