//! Memory of a plan against what its values need: what lives at the same time, no more.

use skimjit_caffe::{import, zoo};
use skimjit_models::{Graph, ValueId, passes};
use skimjit_runtime::jit::Isa;
use skimjit_runtime::plan::Work;
use skimjit_runtime::{Options, Plan, plan};
use std::collections::HashMap;

/// The network with weights of zeros: which of them are zero changes no activation's size.
fn network(net: &zoo::Net) -> Graph {
    let (topology, _) = skimjit_caffe::parse_prototxt(net.prototxt, net.name).unwrap();
    let options = import::ImportOptions {
        allow_missing_weights: true,
        ..Default::default()
    };
    let imported = import::import(topology, vec![], &options).unwrap();
    passes::optimize(imported.graph).unwrap()
}

/// Segment of each node, from the steps that have one; a node without steps goes with those around it.
fn segments(graph: &Graph, plan: &Plan) -> Vec<usize> {
    let mut segment_of = vec![None; graph.nodes.len()];
    for (index, segment) in plan.segments.iter().enumerate() {
        for node in segment.steps.iter().filter_map(|step| step.node) {
            segment_of[node] = Some(index);
        }
    }
    let mut last = 0;
    let known = segment_of.into_iter().map(|segment| {
        last = segment.unwrap_or(last);
        last
    });
    known.collect()
}

/// Where a value is used.
struct Life {
    first: usize,
    last: usize,
    /// Outside of one segment of layers that are computed image by image.
    batch: bool,
}

fn lives(graph: &Graph, plan: &Plan) -> HashMap<ValueId, Life> {
    let segment_of = segments(graph, plan);
    let end = graph.nodes.len();
    let mut touched: HashMap<ValueId, Vec<usize>> = HashMap::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        for &id in node.inputs.iter().chain([&node.output]) {
            touched.entry(id).or_default().push(index);
        }
    }
    let life = |(id, nodes): (ValueId, Vec<usize>)| {
        let segments: Vec<usize> = nodes.iter().map(|&node| segment_of[node]).collect();
        let batch = segments
            .iter()
            .any(|&segment| segment != segments[0] || !plan.segments[segment].per_image);
        let last = match graph.outputs.contains(&id) {
            true => end,
            false => nodes[nodes.len() - 1],
        };
        let first = nodes[0];
        (id, Life { first, last, batch })
    };
    touched.into_iter().map(life).collect()
}

/// Elements that live at the same time: of all images, and of one.
fn needed(graph: &Graph, plan: &Plan) -> [usize; 2] {
    let lives = lives(graph, plan);
    let mut most = [0; 2];
    for node in 0..graph.nodes.len() {
        let mut sums = [0; 2];
        for (&id, life) in &lives {
            if (life.first..=life.last).contains(&node) {
                let count = graph.shape(id).count();
                match life.batch {
                    true => sums[0] += count,
                    false => sums[1] += count / plan.batch,
                }
            }
        }
        most = [most[0].max(sums[0]), most[1].max(sums[1])];
    }
    most
}

/// Elements of the largest padded copy.
fn staged(plan: &Plan) -> usize {
    let steps = plan.segments.iter().flat_map(|segment| &segment.steps);
    let copies = steps.filter_map(|step| match &step.work {
        Work::Stage(staging, _) => Some(staging.elems()),
        _ => None,
    });
    copies.max().unwrap_or(0)
}

/// Of the batch, every value once, in a second form while it is converted; gaps and slots that are larger
/// than who uses them take the rest.
const BATCH_FACTOR: usize = 3;
/// Of an image, whose planes have gaps, and whose buffers take what was freed last where it is large enough.
const IMAGE_FACTOR: usize = 4;
/// Slack of slots, in elements.
const SLACK: usize = 1 << 16;

#[test]
fn memory_is_what_lives_at_the_same_time_for_any_batch() {
    let isa = Isa::detect(None).expect("an x86 CPU with AVX2");
    for net in zoo::all() {
        let graph = network(net);
        for batch in [1, 64, 1024] {
            let graph = match graph.with_batch(batch) {
                Ok(graph) => graph,
                // No blob has more elements than a shape may.
                Err(error) => {
                    assert!(
                        net.name == "vgg-16" && batch == 1024,
                        "{}: {error}",
                        net.name
                    );
                    continue;
                }
            };
            let plan = plan(&graph, isa, &Options::default()).unwrap();
            let [of_batch, of_image] = needed(&graph, &plan);
            let (name, batch_elems, image_elems) = (net.name, plan.batch_elems, plan.image_elems);
            println!(
                "{name}, batch {batch}: {batch_elems} for {of_batch}, {image_elems} for {of_image} and {}",
                staged(&plan)
            );
            assert!(
                batch_elems <= BATCH_FACTOR * of_batch + SLACK,
                "{name}, batch {batch}"
            );
            let most = IMAGE_FACTOR * (of_image + staged(&plan)) + SLACK;
            assert!(image_elems <= most, "{name}, batch {batch}");
        }
    }
}

#[test]
fn lenet_takes_a_few_kilobytes_an_image() {
    let isa = Isa::detect(None).expect("an x86 CPU with AVX2");
    let graph = network(zoo::find("lenet").unwrap());
    for batch in [1024u32, 65_536] {
        let graph = graph.with_batch(batch).unwrap();
        let plan = plan(&graph, isa, &Options::default()).unwrap();
        let bytes = plan.session_bytes(2);
        assert!(
            bytes < u64::from(batch) * 10_000,
            "batch {batch}: {bytes} bytes"
        );
    }
}
