//! Every pruned layer of the three reference networks: all kernels that can compute it, on every
//! instruction set, for one image and for a batch.
//!
//! `cargo bench --bench layers -- "caffenet, avx512, batch 1/"` runs those whose name contains this.

use criterion::measurement::WallTime;
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
};
use skimjit::{CompileOptions, Model, layer};
use skimjit_caffe::{import, zoo};
use skimjit_models::{Graph, Shape, Tensor};
use skimjit_testing::isas;
use std::hint::black_box;
use std::time::Duration;

const NETS: [&str; 3] = ["caffenet", "googlenet", "resnet-50"];
const BATCHES: [u32; 2] = [1, 16];

fn bench_net(c: &mut Criterion, name: &str) {
    let net = zoo::find(name).expect("a network of the zoo");
    let weights = zoo::synthesize(net, zoo::Sparsity::Published, 1).expect("weights");
    let graph = import::import(weights, vec![], &import::ImportOptions::default())
        .expect("zoo networks import")
        .graph;
    let pruned = net.published.unwrap_or_default().iter();
    let models: Vec<Model> = pruned
        .filter_map(|(name, _)| single(&graph, name))
        .collect();
    for isa in isas().into_iter().rev() {
        for batch in BATCHES {
            let options = CompileOptions {
                isa: Some(isa),
                threads: 1,
                batch: Some(batch),
                ..CompileOptions::default()
            };
            let mut group = c.benchmark_group(format!("{name}, {isa}, batch {batch}"));
            group
                .sample_size(20)
                .warm_up_time(Duration::from_millis(100))
                .measurement_time(Duration::from_millis(400));
            for model in &models {
                bench_layer(&mut group, model, &options);
            }
            group.finish();
        }
    }
}

/// The layer of that name on its own.
fn single(graph: &Graph, name: &str) -> Option<Model> {
    let index = graph.nodes.iter().position(|node| node.name == name)?;
    let model = layer::single(graph, index).expect("one layer");
    Some(model.expect("a layer with weights"))
}

/// All variants that the planner could choose.
fn bench_layer(group: &mut BenchmarkGroup<'_, WallTime>, model: &Model, options: &CompileOptions) {
    let planned = model.compile(options).expect("a plan for every layer");
    for candidate in &planned.plan().choices[0].candidates {
        bench_variant(group, model, options, &candidate.variant);
    }
}

fn bench_variant(
    group: &mut BenchmarkGroup<'_, WallTime>,
    model: &Model,
    options: &CompileOptions,
    variant: &str,
) {
    // A variant may still find that its code would be too large.
    let Ok(engine) = layer::force(model, options, variant) else {
        return;
    };
    let plan = engine.plan();
    let shape: &Shape = &plan.inputs[0].shape;
    let input = Tensor::new(shape.clone(), vec![0.5; shape.count()]);
    let mut output = vec![0.0; plan.outputs[0].elems * plan.batch];
    let mut session = engine.session();
    let macs = plan.choices[0].macs_nonzero * plan.batch as u64;
    group.throughput(Throughput::Elements(macs));
    let id = BenchmarkId::new(&model.graph().name, variant);
    group.bench_function(id, |b| {
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
