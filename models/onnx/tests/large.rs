//! Models of very many nodes take time in proportion.

mod support;

use skimjit_models::passes;
use skimjit_onnx::ExportOptions;
use skimjit_onnx::proto::{GraphProto, NodeProto};
use std::time::{Duration, Instant};
use support::{floats, import, info, model, node};

const NODES: usize = 40_000;

/// Far more than it takes, far less than a quadratic way of doing it would.
const LIMIT: Duration = Duration::from_secs(60);

fn chain(of: impl Fn(&str, &str, &mut Vec<NodeProto>)) -> GraphProto {
    let mut nodes = Vec::new();
    for index in 0..NODES {
        let name = |index: usize| {
            if index == 0 {
                "x".to_owned()
            } else {
                format!("v{index}")
            }
        };
        of(&name(index), &name(index + 1), &mut nodes);
    }
    GraphProto {
        node: nodes,
        input: vec![info("x", &[0, 2])],
        output: vec![info(&format!("v{NODES}"), &[0, 2])],
        ..GraphProto::default()
    }
}

#[test]
fn long_chains_are_read_recognised_and_written() {
    let start = Instant::now();
    let graph = chain(|from, to, nodes| {
        let gate = format!("{to}.gate");
        nodes.push(node("Sigmoid", &[from], &[&gate], &[]));
        // All of one name.
        let mut product = node("Mul", &[from, &gate], &[to], &[]);
        product.name = Some("same".to_owned());
        nodes.push(product);
    });
    let imported = import(&model(graph)).unwrap();
    let (written, _) = skimjit_onnx::exported(&imported.graph, ExportOptions::default()).unwrap();
    assert_eq!(written.graph.unwrap().node.len(), 2 * NODES);
    assert_eq!(passes::optimize(imported.graph).unwrap().nodes.len(), NODES);
    assert!(start.elapsed() < LIMIT, "{:?}", start.elapsed());
}

#[test]
fn many_inputs_initializers_and_outputs() {
    let start = Instant::now();
    let name = |kind: &str, index: usize| format!("{kind}{index}");
    let graph = GraphProto {
        node: (0..NODES)
            .map(|index| {
                node(
                    "Add",
                    &[&name("x", index), &name("w", index)],
                    &[&name("y", index)],
                    &[],
                )
            })
            .collect(),
        initializer: (0..NODES)
            .map(|index| floats(&name("w", index), &[1], &[1.0]))
            .collect(),
        input: (0..NODES)
            .flat_map(|index| {
                [
                    info(&name("x", index), &[0, 2]),
                    info(&name("w", index), &[1]),
                ]
            })
            .collect(),
        output: (0..NODES)
            .map(|index| info(&name("y", index), &[0, 2]))
            .collect(),
        ..GraphProto::default()
    };
    let imported = import(&model(graph)).unwrap();
    assert_eq!(imported.graph.outputs.len(), NODES);
    assert!(start.elapsed() < LIMIT, "{:?}", start.elapsed());
}
