//! Shape rules refuse what does not fit and say which field.

mod ops_cases;

use ops_cases::Random;
use skimjit_models::ops::*;
use skimjit_models::{Derived, Graph, Op, Shape, Tensor, Weight, WeightId};
use std::sync::Arc;

fn conv() -> Convolution {
    Convolution {
        window: Window::square(3, 1, 1),
        oc: 4,
        groups: 2,
        weights: WeightId(0),
        bias: Some(WeightId(1)),
        post: PostOps::default(),
    }
}

/// Weights of [`conv`] and of an inner product of 36 inputs and 4 outputs.
fn weights() -> Vec<Arc<Weight>> {
    let mut random = Random::new(1);
    let dims: [&[u32]; 3] = [&[4, 3, 3, 3], &[4], &[4, 54]];
    dims.map(|dims| random.tensor(dims).into()).into()
}

#[track_caller]
fn refuses(op: Op, inputs: &[&[u32]], field: &str) {
    let shapes: Vec<Shape> = inputs
        .iter()
        .map(|&dims| Shape::new(dims).unwrap())
        .collect();
    let shapes: Vec<&Shape> = shapes.iter().collect();
    let error = op.infer_shape(&shapes, &weights()).unwrap_err();
    assert_eq!(error.field.as_deref(), Some(field), "{error}");
    assert_eq!(op.macs(&shapes, &weights()), 0);
}

#[test]
fn convolutions() {
    let image: &[u32] = &[1, 6, 5, 5];
    let op = |change: fn(&mut Convolution)| {
        let mut conv = conv();
        change(&mut conv);
        Op::Convolution(conv)
    };
    let shape = Shape::new(image).unwrap();
    let output = op(|_| {}).infer_shape(&[&shape], &weights()).unwrap();
    assert_eq!(output.dims(), [1, 4, 5, 5]);
    refuses(op(|_| {}), &[], "inputs");
    refuses(op(|_| {}), &[&[6, 5, 5]], "input[0]");
    refuses(op(|_| {}), &[&[1, 5, 5, 5]], "groups");
    refuses(op(|_| {}), &[&[1, 8, 5, 5]], "weights[0].shape");
    refuses(op(|c| c.groups = 0), &[image], "groups");
    refuses(op(|c| c.oc = 0), &[image], "outputs");
    refuses(op(|c| c.window.stride[1] = 0), &[image], "stride_w");
    refuses(op(|c| c.window.kernel = [8, 3]), &[image], "kernel_h");
    refuses(op(|c| c.weights = WeightId(9)), &[image], "weights[0]");
    refuses(
        op(|c| c.bias = Some(WeightId(0))),
        &[image],
        "weights[1].shape",
    );
    let mut wide = conv();
    wide.window.pad_begin = [9, 0];
    wide.window.pad_end = [9, 0];
    refuses(Op::Deconvolution(wide), &[image], "pad_h");
}

#[test]
fn others() {
    let fc = |axis, outputs| {
        let (weights, bias, post) = (WeightId(2), None, PostOps::default());
        Op::InnerProduct(InnerProduct {
            outputs,
            axis,
            transpose: false,
            weights,
            bias,
            post,
        })
    };
    refuses(fc(4, 4), &[&[1, 6, 3, 3]], "axis");
    refuses(fc(1, 5), &[&[1, 6, 3, 3]], "weights[0].shape");
    let sum = EltwiseOp::Sum {
        coefficients: vec![1.0],
    };
    let sum = Op::Eltwise(Eltwise {
        op: sum,
        post: PostOps::default(),
    });
    refuses(sum.clone(), &[&[2], &[3]], "input[1]");
    refuses(sum.clone(), &[&[2], &[2]], "coefficients");
    refuses(sum, &[&[2]], "inputs");
    refuses(Op::Concat { axis: 1 }, &[&[2, 3], &[3, 3]], "input[1]");
    refuses(Op::Softmax { axis: 2 }, &[&[2, 3]], "axis");
    let slice = Slice {
        axis: 1,
        begin: 2,
        end: 4,
    };
    refuses(Op::Slice(slice), &[&[2, 3]], "range");
    let accuracy = Accuracy {
        top_k: 4,
        axis: 1,
        ignore_label: None,
        per_class: false,
    };
    refuses(Op::Accuracy(accuracy.clone()), &[&[2, 3], &[2]], "top_k");
    refuses(Op::Accuracy(accuracy), &[&[2, 9], &[3]], "input[1]");
    let pooling = Pooling {
        method: PoolMethod::Average,
        window: Window::square(2, 2, 2),
        global: false,
        made_for: None,
        rounding: Rounding::Up,
        relu: false,
        mask: false,
    };
    refuses(Op::Pooling(pooling.clone()), &[&[1, 1, 4, 4]], "pad_h");
    let masked = Pooling {
        window: Window::square(2, 2, 0),
        mask: true,
        ..pooling
    };
    refuses(Op::Pooling(masked), &[&[1, 1, 4, 4]], "pool");
}

/// A layer whose attributes were computed from shapes keeps them.
#[test]
fn derived_attributes_do_not_follow() {
    let mut graph = Graph::default();
    let data = graph.add_value("data", Shape::new([1, 3, 8, 8]).unwrap());
    graph.inputs = vec![data];
    let pad = Op::Pad(Pad {
        begin: vec![0, 0, 1, 1],
        end: vec![0; 4],
        mode: PadMode::Edge,
    });
    let result = graph.add_node("pad1", pad, vec![data], "pad1").unwrap();
    graph.outputs = vec![result];
    let resized = |derived: Derived, dims: [u32; 4]| {
        let mut graph = graph.clone();
        graph.nodes[0].derived = derived;
        graph.with_input_shapes(&[("data", Shape::new(dims).unwrap())])
    };
    let (batch, size) = ([2, 3, 8, 8], [1, 3, 9, 8]);
    assert!(resized(Derived::No, size).is_ok());
    assert!(resized(Derived::Sizes, batch).is_ok());
    assert!(resized(Derived::Shapes, [1, 3, 8, 8]).is_ok());
    assert!(resized(Derived::Shapes, batch).is_err());
    let error = resized(Derived::Sizes, size).unwrap_err();
    assert_eq!(error.layer.as_deref(), Some("pad1"));
    let text = error.to_string();
    assert!(text.contains("--input-shape data=1x3x9x8"), "{text}");
    assert!(
        text.contains("made for input \"data\" of 1x3x8x8"),
        "{text}"
    );
}

/// Spec appendix A.1: conv2 and fc6 of CaffeNet.
#[test]
fn multiply_adds() {
    let conv2 = Convolution {
        window: Window::square(5, 1, 2),
        oc: 256,
        bias: None,
        ..conv()
    };
    let weights = |dims: &[u32]| {
        vec![Arc::<Weight>::from(Tensor::zeros(
            Shape::new(dims).unwrap(),
        ))]
    };
    let shape = Shape::new([1, 96, 27, 27]).unwrap();
    let macs = Op::Convolution(conv2).macs(&[&shape], &weights(&[256, 48, 5, 5]));
    assert_eq!(macs, 223_948_800);
    let fc6 = InnerProduct {
        outputs: 4096,
        axis: 1,
        transpose: false,
        weights: WeightId(0),
        bias: None,
        post: PostOps::default(),
    };
    let shape = Shape::new([2, 256, 6, 6]).unwrap();
    let macs = Op::InnerProduct(fc6).macs(&[&shape], &weights(&[4096, 9216]));
    assert_eq!(macs, 2 * 37_748_736);
}
