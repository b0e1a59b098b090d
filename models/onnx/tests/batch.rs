//! What exporters write for the batch that they saw is read for any.

mod support;

use skimjit_models::{Shape, Tensor, interpreter};
use skimjit_onnx::proto::attribute_proto::AttributeType;
use skimjit_onnx::proto::{GraphProto, ModelProto, NodeProto};
use support::Attribute::{Int, Ints};
use support::{attribute, floats, import, info, ints, model, node};

/// A layer of one unit over sequences of two, with states that the nodes make.
fn lstm(states: &[NodeProto]) -> ModelProto {
    let order = attribute("perm", Ints(&[1, 0, 2]));
    let hidden = attribute("hidden_size", Int(1));
    let operands = ["s", "w", "r", "", "", "state", "state"];
    let mut nodes = vec![node("Transpose", &["x"], &["s"], &[order])];
    nodes.extend_from_slice(states);
    nodes.push(node("LSTM", &operands, &["", "y"], &[hidden]));
    model(GraphProto {
        node: nodes,
        initializer: vec![
            floats("w", &[1, 4, 1], &[0.5, -0.25, 1.0, 0.75]),
            floats("r", &[1, 4, 1], &[0.25, 0.5, -0.5, 1.0]),
            ints("one", &[1], &[1]),
            ints("zero", &[1], &[0]),
        ],
        input: vec![info("x", &[0, 2, 1])],
        output: vec![info("y", &[1, 0, 1])],
        ..GraphProto::default()
    })
}

/// [1, N, 1] of one number, as PyTorch's exporter makes states.
fn filled(value: f32) -> Vec<NodeProto> {
    let mut fill = node("ConstantOfShape", &["dims"], &["state"], &[]);
    let mut number = attribute("value", Int(0));
    number.i = None;
    number.t = Some(floats("", &[1], &[value]));
    number.set_type(AttributeType::Tensor);
    fill.attribute.push(number);
    vec![
        node("Shape", &["s"], &["shape"], &[]),
        node("Gather", &["shape", "one"], &["n"], &[]),
        node(
            "Concat",
            &["one", "n", "one"],
            &["dims"],
            &[attribute("axis", Int(0))],
        ),
        fill,
    ]
}

#[test]
fn states_of_zeros_leave_the_batch_open() {
    let imported = import(&lstm(&filled(0.0))).unwrap();
    assert!(imported.warnings.is_empty(), "{:?}", imported.warnings);
    let run = |data: &[f32]| {
        let images = data.len() as u32 / 2;
        let graph = imported.graph.with_batch(images).unwrap();
        let x = Tensor::new(Shape::new([images, 2, 1]).unwrap(), data.to_vec());
        interpreter::run_outputs(&graph, &[x]).unwrap()[0]
            .data()
            .to_vec()
    };
    let together = run(&[0.5, -1.0, 2.0, 0.25, -0.75, 1.5]);
    let alone = [run(&[0.5, -1.0]), run(&[2.0, 0.25]), run(&[-0.75, 1.5])].concat();
    assert_eq!(together, alone);
    // The equations of the operator in double precision.
    assert!((alone[0] - -0.095_671_82).abs() < 1e-6, "{}", alone[0]);
}

#[test]
fn other_states_are_used_for_the_batch_that_is_asked_for() {
    let imported = import(&lstm(&filled(1.0))).unwrap();
    let [warning] = &imported.warnings[..] else {
        panic!("{:?}", imported.warnings);
    };
    assert!(warning.to_string().contains("a batch of 1"), "{warning}");
    let x = Tensor::new(Shape::new([1, 2, 1]).unwrap(), vec![0.5, -1.0]);
    let found = interpreter::run_outputs(&imported.graph, &[x]).unwrap();
    assert!(
        (found[0].data()[0] - 0.075_923_38).abs() < 1e-6,
        "{:?}",
        found[0].data()
    );
}
