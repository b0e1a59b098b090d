//! Every pruned layer of the three reference networks: the sparse variants beside the dense one.
//!
//! `cargo bench --bench layers -- caffenet` runs those whose name contains "caffenet".

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use skimjit::models::{Op, Shape, Tensor, import, zoo};
use skimjit::{CompileOptions, Model, layer};
use std::hint::black_box;
use std::time::Duration;

const NETS: [&str; 3] = ["caffenet", "googlenet", "resnet-50"];
const CONVOLUTIONS: [&str; 4] = [
    "dense_conv.rolled",
    "sparse_conv.baked",
    "sparse_conv.streamed",
    "sparse_conv.phase",
];
const INNER_PRODUCTS: [&str; 3] = ["dense_fc.gemv", "sparse_fc.ell", "sparse_fc.sell"];

fn bench_net(c: &mut Criterion, name: &str) {
    let net = zoo::find(name).expect("a network of the zoo");
    let weights = zoo::synthesize(net, zoo::Sparsity::Published, 1).expect("weights");
    let graph = import::import(weights, vec![], &import::ImportOptions::default())
        .expect("zoo networks import")
        .graph;
    let mut group = c.benchmark_group(name);
    group
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600));
    for (layer, _) in net.published.unwrap_or_default() {
        let Some(index) = graph.nodes.iter().position(|node| node.name == *layer) else {
            continue;
        };
        let model = layer::single(&graph, index)
            .expect("one layer")
            .expect("a layer with weights");
        let variants = match graph.nodes[index].op {
            Op::Convolution(_) => CONVOLUTIONS,
            _ => INNER_PRODUCTS,
        };
        for variant in variants {
            bench_variant(&mut group, &model, layer, variant);
        }
    }
    group.finish();
}

fn bench_variant(
    group: &mut criterion::BenchmarkGroup<'_, criterion::measurement::WallTime>,
    model: &Model,
    name: &str,
    variant: &str,
) {
    let options = CompileOptions {
        threads: 1,
        batch: Some(1),
        ..Default::default()
    };
    // A variant may refuse the layer or this machine's instruction set.
    let Ok(engine) = layer::force(model, &options, variant) else {
        return;
    };
    let shape: &Shape = &engine.plan().inputs[0].shape;
    let input = Tensor::new(shape.clone(), vec![0.5; shape.count()]);
    let mut output = vec![0.0; engine.plan().outputs[0].elems];
    let mut session = engine.session();
    group.throughput(Throughput::Elements(engine.plan().choices[0].macs_nonzero));
    group.bench_function(BenchmarkId::new(name, variant), |b| {
        b.iter(|| {
            session
                .run(&[black_box(input.data())], &mut [&mut output])
                .expect("fitting arrays");
        });
    });
}

fn layers(c: &mut Criterion) {
    NETS.iter().for_each(|name| bench_net(c, name));
}

criterion_group!(benches, layers);
criterion_main!(benches);
