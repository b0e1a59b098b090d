//! Infinities and NaN: refused as inputs, and treated alike by kernels and references where sums overflow.

#[allow(dead_code, reason = "other tests use the rest")]
mod network;

use network::{Net, Random};
use skimjit_models::ops::{
    Activation, Eltwise, EltwiseOp, PRelu, PoolMethod, Pooling, PostOps, Rounding, Window,
};
use skimjit_models::{Graph, Op, Shape, Tensor, ValueId, interpreter};
use skimjit_runtime::jit::Isa;
use skimjit_runtime::{Options, Plan, RunError, Session, ThreadPool, plan};
use skimjit_testing::isas;
use std::sync::Arc;

fn session(graph: &Graph, isa: Isa, threads: usize) -> (Arc<Plan>, Session) {
    let plan = Arc::new(plan(graph, isa, &Options::default()).unwrap());
    let pool = Arc::new(ThreadPool::new(threads).unwrap());
    (plan.clone(), Session::new(plan, pool))
}

fn run(graph: &Graph, isa: Isa, input: &[f32]) -> Result<Vec<Vec<f32>>, RunError> {
    let (plan, mut session) = session(graph, isa, 2);
    let ports = plan.outputs.iter();
    let mut outputs: Vec<Vec<f32>> = ports.map(|port| vec![7.0; port.shape.count()]).collect();
    let mut slices: Vec<&mut [f32]> = outputs.iter_mut().map(|o| &mut o[..]).collect();
    session.run(&[input], &mut slices)?;
    Ok(outputs)
}

#[test]
fn inputs_that_are_not_finite_are_refused_by_image_and_element() {
    let (mut net, data) = Net::new(4, 3, 150, 150);
    let out = net.add(Op::Activation(Activation::ReLU { slope: 0.0 }), &[data]);
    net.graph.outputs = vec![out];
    let isa = Isa::detect(None).expect("an x86 CPU with AVX2");
    let elems = 3 * 150 * 150;
    let good = Random::new(2).tensor(&[4, 3, 150, 150], 1.0);
    for threads in [1, 3] {
        let (_, mut session) = session(&net.graph, isa, threads);
        for (image, element, value) in [
            (0, 0, f32::NAN),
            (2, 4097, f32::INFINITY),
            (3, elems - 1, f32::NEG_INFINITY),
        ] {
            let mut input = good.data().to_vec();
            input[image * elems + element] = value;
            let mut output = vec![7.0; 4 * elems];
            let error = session.run(&[&input], &mut [&mut output]).unwrap_err();
            let text = error.to_string();
            let at = format!("element {element} of image {image}");
            let found = format!("found {value}");
            assert!(text.contains(&at) && text.contains(&found), "{text}");
            assert!(output.iter().all(|&x| x == 7.0), "nothing was computed");
        }
        let mut output = vec![7.0; 4 * elems];
        session.run(&[good.data()], &mut [&mut output]).unwrap();
        assert_eq!(output[0], good.data()[0].max(0.0));
    }
}

/// Values, and the same times 1e38 twice: infinities of both signs, and their sum, which is NaN.
fn overflowing() -> (Net, [ValueId; 3]) {
    let (mut net, data) = Net::new(2, 3, 5, 7);
    let huge = |net: &mut Net, x, scale| {
        let power = Activation::Power {
            power: 1.0,
            scale,
            shift: 0.0,
        };
        net.add(Op::Activation(power), &[x])
    };
    let large = huge(&mut net, data, 1e38);
    let infinite = huge(&mut net, large, 1e38);
    let large = huge(&mut net, data, -1e38);
    let opposite = huge(&mut net, large, 1e38);
    (net, [data, infinite, opposite])
}

fn sum(coefficients: &[f32], relu: Option<f32>) -> Op {
    Op::Eltwise(Eltwise {
        op: EltwiseOp::Sum {
            coefficients: coefficients.to_vec(),
        },
        post: PostOps::from(relu),
    })
}

#[test]
fn layers_without_weights_treat_infinities_and_nan_as_their_references_do() {
    let (mut net, [data, infinite, opposite]) = overflowing();
    let nan = net.add(sum(&[1.0, 1.0], None), &[infinite, opposite]);
    let slopes = net
        .graph
        .add_weight(Tensor::new(Shape::new([3]).unwrap(), vec![0.0, 0.25, -1.5]));
    let mut outputs = vec![];
    for x in [infinite, opposite, nan] {
        for slope in [0.0, 0.1] {
            outputs.push(net.add(Op::Activation(Activation::ReLU { slope }), &[x]));
            outputs.push(net.add(sum(&[1.0, 1.0], Some(slope)), &[x, data]));
        }
        outputs.push(net.add(Op::PRelu(PRelu { slope: slopes }), &[x]));
        for (op, post) in [(EltwiseOp::Max, Some(0.0)), (EltwiseOp::Product, None)] {
            let post = PostOps::from(post);
            outputs.push(net.add(Op::Eltwise(Eltwise { op, post }), &[x, data]));
        }
        for relu in [false, true] {
            let pooling = Pooling {
                method: PoolMethod::Max,
                window: Window::square(3, 2, 0),
                global: false,
                made_for: None,
                rounding: Rounding::Up,
                relu,
                mask: false,
            };
            outputs.push(net.add(Op::Pooling(pooling), &[x]));
        }
    }
    net.graph.outputs = outputs;
    let input = Random::new(11).tensor(&[2, 3, 5, 7], 0.9);
    let expected = interpreter::run_outputs(&net.graph, std::slice::from_ref(&input)).unwrap();
    let special = |tensor: &Tensor| tensor.data().iter().any(|x| !x.is_finite());
    assert!(expected.iter().filter(|tensor| special(tensor)).count() > 10);
    for isa in isas() {
        let found = run(&net.graph, isa, input.data()).unwrap();
        for (o, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let producer = net.graph.outputs[o];
            let node = net.graph.nodes.iter().find(|node| node.output == producer);
            for (i, (&a, &b)) in found.iter().zip(expected.data()).enumerate() {
                let close = (a - b).abs() <= 1e-5 * b.abs();
                assert!(
                    a == b || (a.is_nan() && b.is_nan()) || close,
                    "{isa}, {:?}, element {i}: found {a}, expected {b}",
                    node.map(|node| &node.op)
                );
            }
        }
    }
}

/// A kernel might multiply an infinite weight by the zeros around a plane.
#[test]
fn layers_with_weights_that_are_not_finite_run_on_their_references() {
    for bad in [f32::NAN, f32::INFINITY] {
        let (mut net, data) = Net::new(4, 3, 6, 6);
        let conv = net.conv(data, 4, Window::square(3, 1, 1), 1, 0.4, true);
        let second = net.conv(conv, 4, Window::square(3, 1, 1), 1, 0.4, false);
        let total = net.add(sum(&[1.0, 1.0], Some(0.0)), &[conv, second]);
        let fc = net.fc(total, 200, 0.5);
        net.graph.outputs = vec![conv, total, fc];
        let weights: Vec<_> = net
            .graph
            .nodes
            .iter()
            .map(|node| node.op.weights())
            .collect();
        // The second convolution, which a sum follows, and the inner product.
        for node in [1, 3] {
            let weight = Arc::make_mut(&mut net.graph.weights[weights[node][0].0 as usize]);
            weight.data_mut()[5] = bad;
        }
        let input = Random::new(4).tensor(&[4, 3, 6, 6], 1.0);
        let expected = interpreter::run_outputs(&net.graph, std::slice::from_ref(&input)).unwrap();
        for isa in isas() {
            let (plan, _) = session(&net.graph, isa, 1);
            let variants: Vec<&str> = plan.choices.iter().map(|c| &c.variant[..]).collect();
            assert_ne!(variants[0], "reference");
            assert_eq!(&variants[1..], ["reference"; 3]);
            let found = run(&net.graph, isa, input.data()).unwrap();
            for (found, expected) in found.iter().zip(&expected) {
                for (&a, &b) in found.iter().zip(expected.data()) {
                    let close = (a - b).abs() <= 1e-4 * b.abs().max(1.0);
                    assert!(a == b || (a.is_nan() && b.is_nan()) || close, "{a} {b}");
                }
            }
        }
    }
}
