//! What is known when a model is read has the right values, to the integer.

mod support;

use skimjit_models::{Shape, Tensor};
use skimjit_onnx::proto::{ModelProto, NodeProto, TensorProto};
use support::Attribute::Int;
use support::{attribute, floats, ints, node, outputs, single};

/// y = x + k, of a k that the nodes make.
fn plus(nodes: &[NodeProto], initializers: Vec<TensorProto>) -> ModelProto {
    let mut model = single(node("Add", &["x", "k"], &["y"], &[]), &[1, 3], initializers);
    model.graph.as_mut().unwrap().node.extend_from_slice(nodes);
    model
}

#[track_caller]
fn check(nodes: &[NodeProto], initializers: Vec<TensorProto>, expected: [f32; 3]) {
    let zeros = Tensor::zeros(Shape::new([1, 3]).unwrap());
    let found = outputs(&plus(nodes, initializers), &[zeros]).unwrap();
    assert_eq!(found[0].data(), expected);
}

fn to_float(from: &str) -> NodeProto {
    node("Cast", &[from], &["k"], &[attribute("to", Int(1))])
}

/// The numbers around padded integers were places of others.
#[test]
fn integers_are_padded_with_the_number_that_is_said() {
    let padded = node("Pad", &["a", "pads", "value"], &["p"], &[]);
    let initializers = vec![
        ints("a", &[1], &[70]),
        ints("pads", &[2], &[1, 1]),
        ints("value", &[], &[9]),
    ];
    check(&[padded, to_float("p")], initializers, [9.0, 70.0, 9.0]);
}

#[test]
fn constants_are_rounded_to_the_type_they_are_cast_to() {
    let half = node("Cast", &["a"], &["h"], &[attribute("to", Int(10))]);
    let initializers = vec![floats("a", &[3], &[0.1, 1.0, 2049.0])];
    check(
        &[half, to_float("h")],
        initializers,
        [0.099_975_586, 1.0, 2048.0],
    );
}

#[test]
fn integers_at_the_ends_of_their_range() {
    let quotient = node("Div", &["a", "b"], &["q"], &[]);
    let least = node("Min", &["q", "most"], &["m"], &[]);
    let initializers = vec![
        ints("a", &[3], &[i64::MIN, -7, 7]),
        ints("b", &[3], &[-1, 2, -2]),
        ints("most", &[1], &[5]),
    ];
    // The quotient of the first has no integer of 64 bits; the others are rounded towards zero.
    let zeros = Tensor::zeros(Shape::new([1, 3]).unwrap());
    let found = outputs(
        &plus(&[quotient, least, to_float("m")], initializers),
        &[zeros],
    )
    .unwrap();
    assert_eq!(found[0].data()[1..], [-3.0, -3.0]);
}

#[test]
fn remainders_have_the_sign_of_the_divisor_or_with_fmod_of_the_dividend() {
    let initializers = || vec![ints("a", &[3], &[-7, 7, -6]), ints("b", &[3], &[3, -3, 3])];
    let rest = |fmod| node("Mod", &["a", "b"], &["r"], &[attribute("fmod", Int(fmod))]);
    check(&[rest(0), to_float("r")], initializers(), [2.0, -2.0, 0.0]);
    check(&[rest(1), to_float("r")], initializers(), [-1.0, 1.0, 0.0]);
}

/// The reciprocal of such a number is an infinity, while the quotient is none.
#[test]
fn quotients_of_numbers_near_zero() {
    let model = single(
        node("Div", &["x", "d"], &["y"], &[]),
        &[1, 2],
        vec![floats("d", &[2], &[1e-40, 2.0])],
    );
    let x = Tensor::new(Shape::new([1, 2]).unwrap(), vec![0.0, 3.0]);
    assert_eq!(outputs(&model, &[x]).unwrap()[0].data(), [0.0, 1.5]);
}
