//! Every converter: attributes, defaults, and what is refused.

mod import_support;

use import_support::{bare, dims, graph, last_op, layer, outputs, refusal, run, with_input};
use skimjit_models::Op;
use skimjit_models::ops::{
    Activation, EltwiseOp, Loss, Normalization, PoolMethod, PostOps, ReductionOp, Rounding, Scale,
    Window,
};

/// Op and output dims of a single layer behind an input.
fn single(input: &str, kind: &str, body: &str) -> (Op, Vec<u32>) {
    let graph = graph(&with_input(input, &layer(kind, body)));
    (last_op(&graph).clone(), dims(&graph, "out").to_vec())
}

/// Fails unless the layer is refused with all of these words.
fn refused(input: &str, kind: &str, body: &str, words: &[&str]) {
    let error = refusal(&with_input(input, &layer(kind, body)));
    assert!(error.contains("layer \"it\""), "{error}");
    for word in words {
        assert!(error.contains(word), "no {word:?} in {error}");
    }
}

/// Checklist 9, 29.
#[test]
fn convolution() {
    let conv = |body: &str| {
        let body = format!("convolution_param {{ {body} }}");
        let (op, dims) = single("2 4 9 11", "Convolution", &body);
        let Op::Convolution(conv) = op else {
            panic!("{op:?}")
        };
        (conv, dims)
    };
    let (op, dims) = conv("num_output: 6 kernel_size: 3");
    assert_eq!(
        (op.window, op.oc, op.groups),
        (Window::square(3, 1, 0), 6, 1)
    );
    assert_eq!((op.bias.is_some(), op.post), (true, PostOps::default()));
    assert_eq!(dims, [2, 6, 7, 9]);

    let (op, dims) =
        conv("num_output: 6 kernel_h: 1 kernel_w: 3 pad_w: 1 stride_h: 2 stride_w: 1 group: 2");
    let window = Window {
        kernel: [1, 3],
        stride: [2, 1],
        pad_begin: [0, 1],
        pad_end: [0, 1],
        dilation: [1, 1],
    };
    assert_eq!((op.window, op.groups), (window, 2));
    assert_eq!(dims, [2, 6, 5, 11]);

    let (op, dims) = conv(
        "num_output: 1 bias_term: false kernel_size: 3 kernel_size: 2 stride: 1 stride: 2 pad: 2 \
         dilation: 2 conv_mode: DIRECT_SCONV",
    );
    let window = Window {
        kernel: [3, 2],
        stride: [1, 2],
        pad_begin: [2, 2],
        pad_end: [2, 2],
        dilation: [2, 2],
    };
    assert_eq!((op.window, op.bias), (window, None));
    assert_eq!(dims, [2, 1, 9, 7]);
    assert_eq!(
        single(
            "1 4 5 5",
            "MKLConvolution",
            "convolution_param { num_output: 1 kernel_size: 1 }"
        )
        .1,
        [1, 1, 5, 5]
    );
}

#[test]
fn convolution_refusals() {
    let refused = |body: &str, words: &[&str]| {
        refused(
            "1 4 8 8",
            "Convolution",
            &format!("convolution_param {{ {body} }}"),
            words,
        );
    };
    refused(
        "kernel_size: 3",
        &["convolution_param.num_output", "found nothing"],
    );
    refused(
        "num_output: 0 kernel_size: 3",
        &["convolution_param.num_output", "found 0"],
    );
    refused("num_output: 2", &["convolution_param.kernel_size"]);
    refused(
        "num_output: 2 kernel_size: 3 kernel_h: 3 kernel_w: 3",
        &["one or the other"],
    );
    refused(
        "num_output: 2 kernel_h: 3",
        &["convolution_param.kernel_size", "found 0"],
    );
    refused(
        "num_output: 2 kernel_size: 3 stride: 0",
        &["convolution_param.stride", "found 0"],
    );
    refused(
        "num_output: 2 kernel_size: 3 dilation: 0",
        &["convolution_param.dilation"],
    );
    refused(
        "num_output: 2 kernel_size: 3 pad: [1, 1, 1]",
        &["convolution_param.pad", "3 values"],
    );
    refused(
        "num_output: 2 kernel_size: 9",
        &["convolution_param.kernel_h", "at most 8"],
    );
    refused(
        "num_output: 6 kernel_size: 3 group: 3",
        &["convolution_param.group", "4 input"],
    );
    refused(
        "num_output: 6 kernel_size: 3 group: 4",
        &["convolution_param.group", "6 output"],
    );
    refused(
        "num_output: 6 kernel_size: 3 group: 0",
        &["convolution_param.group"],
    );
    refused("num_output: 6 kernel_size: 3 axis: 2", &["two-dimensional"]);
    refused(
        "num_output: 4294967295 kernel_size: 3",
        &["convolution_param.num_output"],
    );
}

#[test]
fn one_convolution_of_several_bottoms_shares_weights() {
    let text = with_input(
        "1 4 8 8",
        "layer { name: 's' type: 'Slice' bottom: 'data' top: 'a' top: 'b' }
         layer { name: 'c' type: 'Convolution' bottom: 'a' bottom: 'b' top: 'x' top: 'y'
                 convolution_param { num_output: 3 kernel_size: 3 } }",
    );
    let graph = graph(&text);
    assert_eq!(outputs(&graph), ["x", "y"]);
    assert_eq!(graph.weights.len(), 2);
    let [.., first, second] = graph.nodes.as_slice() else {
        panic!()
    };
    assert_eq!(first.op, second.op);
    assert_eq!((first.name.as_str(), second.name.as_str()), ("c", "c[1]"));
    let refused = refusal(&text.replace("top: 'x' top: 'y'", "top: 'x'"));
    assert!(refused.contains("one per bottom"), "{refused}");
}

/// Checklist 12.
#[test]
fn deconvolution_and_winograd() {
    let body = "convolution_param { num_output: 6 kernel_size: 4 stride: 2 pad: 1 group: 2 }";
    let (op, dims) = single("1 4 5 5", "Deconvolution", body);
    let Op::Deconvolution(conv) = op else {
        panic!("{op:?}")
    };
    assert_eq!(
        (conv.oc, conv.groups, dims.as_slice()),
        (6, 2, &[1, 6, 10, 10][..])
    );

    let body = "convolution_param { num_output: 6 kernel_size: 3 pad: 1 }";
    assert!(matches!(
        single("1 4 5 5", "Winograd", body).0,
        Op::Convolution(_)
    ));
    refused(
        "1 4 9 9",
        "Winograd",
        &body.replace("kernel_size: 3", "kernel_size: 7"),
        &["3x3"],
    );
    refused(
        "1 4 9 9",
        "Winograd",
        &body.replace("pad: 1", "stride: 2"),
        &["stride"],
    );
}

/// Checklist 13.
#[test]
fn pooling() {
    let pool = |kind: &str, body: &str| {
        let (op, dims) = single("1 2 7 9", kind, &format!("pooling_param {{ {body} }}"));
        let Op::Pooling(pool) = op else {
            panic!("{op:?}")
        };
        (pool, dims)
    };
    let (op, dims) = pool("Pooling", "kernel_size: 2 stride: 2");
    assert_eq!(
        (op.method, op.window, op.relu),
        (PoolMethod::Max, Window::square(2, 2, 0), false)
    );
    assert_eq!(dims, [1, 2, 4, 5]);
    let (op, dims) = pool(
        "Pooling",
        "pool: AVE kernel_size: 2 stride: 2 round_mode: FLOOR",
    );
    assert_eq!(
        (op.method, op.rounding),
        (PoolMethod::Average, Rounding::Down)
    );
    assert_eq!(dims, [1, 2, 3, 4]);
    for (said, rounding, width) in [
        ("ceil_mode: false", Rounding::Down, 4),
        ("ceil_mode: true", Rounding::Up, 5),
        ("ceil_mode: false round_mode: FLOOR", Rounding::Down, 4),
        ("ceil_mode: true round_mode: CEIL", Rounding::Up, 5),
    ] {
        let (op, dims) = pool("Pooling", &format!("kernel_size: 2 stride: 2 {said}"));
        assert_eq!((op.rounding, dims[3]), (rounding, width), "{said}");
    }
    let (op, dims) = pool("MKLPooling", "pool: AVE global_pooling: true");
    assert!(op.global && dims == [1, 2, 1, 1]);
    let (op, _) = pool(
        "Pooling",
        "kernel_h: 3 kernel_w: 2 stride_h: 2 stride_w: 1 pad_h: 1 pad_w: 0",
    );
    let window = Window {
        kernel: [3, 2],
        stride: [2, 1],
        pad_begin: [1, 0],
        pad_end: [1, 0],
        dilation: [1, 1],
    };
    assert_eq!(op.window, window);
    assert!(pool("ReLUPooling", "kernel_size: 2").0.relu);
}

/// Offsets of such windows wrapped in 32 bits, and the numbers were wrong.
#[test]
fn windows_whose_offsets_would_wrap_are_refused() {
    for kind in ["Convolution", "Deconvolution", "Im2col", "Winograd"] {
        for (body, field, found) in [
            ("stride_h: 1 stride_w: 2147483647", "stride_w", "2147483647"),
            ("pad_h: 1 pad_w: 4294967295", "pad_w", "4294967295"),
            ("dilation: 65537", "dilation", "65537"),
        ] {
            let body = format!("convolution_param {{ num_output: 2 kernel_size: 3 {body} }}");
            let error = refusal(&with_input("1 2 7 9", &layer(kind, &body)));
            let winograd = kind == "Winograd" && field != "pad_w";
            let said = format!("convolution_param.{field}: found {found}, expected");
            assert!(error.contains(&said) || winograd, "{kind}: {error}");
        }
    }
    let wide =
        "convolution_param { num_output: 1 kernel_h: 60001 kernel_w: 1 pad_h: 30000 pad_w: 0 }";
    let error = refusal(&with_input("1 1 1 131072", &layer("Convolution", wide)));
    assert!(
        error.contains("planes of 60001x131072 with their padding"),
        "{error}"
    );
}

#[test]
fn pooling_refusals() {
    let refused = |kind: &str, body: &str, words: &[&str]| {
        refused(
            "1 2 7 9",
            kind,
            &format!("pooling_param {{ {body} }}"),
            words,
        );
    };
    refused(
        "ReLUPooling",
        "pool: STOCHASTIC kernel_size: 2",
        &["STOCHASTIC", "MAX"],
    );
    refused("Pooling", "", &["pooling_param.kernel_size"]);
    refused(
        "Pooling",
        "kernel_size: 2 stride: 2 ceil_mode: true round_mode: FLOOR",
        &[
            "pooling_param.ceil_mode",
            "ceil_mode: true beside round_mode: FLOOR",
            "one rounding",
        ],
    );
    refused(
        "Pooling",
        "kernel_size: 2 stride_h: 1 stride_w: 2147483647",
        &["pooling_param.stride_w", "found 2147483647", "1 to 32768"],
    );
    refused(
        "Pooling",
        "kernel_size: 4294967295 pad: 4294967294",
        &["pooling_param.pad_h", "0 to 32768"],
    );
    refused("Pooling", "kernel_size: 0", &["pooling_param.kernel_size"]);
    refused(
        "Pooling",
        "kernel_size: 2 stride: 0",
        &["pooling_param.stride"],
    );
    refused(
        "Pooling",
        "kernel_size: 2 pad: 2",
        &["pooling_param.pad", "less than the kernel"],
    );
    refused(
        "Pooling",
        "kernel_size: 2 global_pooling: true",
        &["one or the other"],
    );
    refused("Pooling", "global_pooling: true pad: 1", &["pad 0"]);
    refused(
        "Pooling",
        "kernel_h: 2",
        &["pooling_param.kernel_size", "both"],
    );
    refused("Pooling", "kernel_size: 10", &["pooling_param.kernel_h"]);
    refused(
        "ReLUPooling",
        "pool: AVE kernel_size: 2",
        &["pooling_param.pool"],
    );
}

#[test]
fn second_pooling_top_is_the_mask() {
    let text = with_input(
        "1 1 2 2",
        "layer { name: 'p' type: 'Pooling' bottom: 'data' top: 'max' top: 'where'
                 pooling_param { kernel_size: 2 } }",
    );
    let graph = graph(&text);
    assert_eq!(outputs(&graph), ["max", "where"]);
    let results = run(&graph);
    assert_eq!(
        (results[0].data(), results[1].data()),
        (&[0.75][..], &[3.0][..])
    );
    assert!(refusal(&text.replace("kernel_size", "pool: AVE kernel_size")).contains("AVE"));
}

/// Checklist 15.
#[test]
fn inner_product() {
    let body = "inner_product_param { num_output: 5 gemm_mode: SPMDM }";
    let (op, dims) = single("2 3 4 5", "InnerProduct", body);
    let Op::InnerProduct(inner) = op else {
        panic!("{op:?}")
    };
    assert_eq!((inner.outputs, inner.axis, inner.transpose), (5, 1, false));
    assert_eq!((inner.bias.is_some(), dims.as_slice()), (true, &[2, 5][..]));
    let body = "inner_product_param { num_output: 5 axis: -1 transpose: true bias_term: false }";
    let (op, dims) = single("2 3 4 5", "InnerProduct", body);
    let Op::InnerProduct(inner) = op else {
        panic!("{op:?}")
    };
    assert_eq!((inner.axis, inner.transpose, inner.bias), (3, true, None));
    assert_eq!(dims, [2, 3, 4, 5]);
    refused(
        "2 3",
        "InnerProduct",
        "",
        &["inner_product_param.num_output"],
    );
    let body = "inner_product_param { num_output: 5 axis: 2 }";
    refused("2 3", "InnerProduct", body, &["inner_product_param.axis"]);
}

/// Checklist 16.
#[test]
fn activations() {
    let is = |kind: &str, body: &str, expected: Activation| {
        assert_eq!(
            single("1 2 3 3", kind, body).0,
            Op::Activation(expected),
            "{kind}"
        );
    };
    is("ReLU", "", Activation::ReLU { slope: 0.0 });
    is(
        "MKLReLU",
        "relu_param { negative_slope: 0.5 }",
        Activation::ReLU { slope: 0.5 },
    );
    is("ELU", "", Activation::Elu { alpha: 1.0 });
    is("Sigmoid", "", Activation::Sigmoid);
    is("TanH", "", Activation::TanH);
    is("AbsVal", "", Activation::AbsVal);
    is("BNLL", "", Activation::Bnll);
    is(
        "Power",
        "",
        Activation::Power {
            power: 1.0,
            scale: 1.0,
            shift: 0.0,
        },
    );
    let power = "power_param { power: 2 scale: 3 shift: -1 }";
    is(
        "Power",
        power,
        Activation::Power {
            power: 2.0,
            scale: 3.0,
            shift: -1.0,
        },
    );
    is(
        "Exp",
        "",
        Activation::Exp {
            base: -1.0,
            scale: 1.0,
            shift: 0.0,
        },
    );
    let log = "log_param { base: 2 scale: 3 shift: 1 }";
    is(
        "Log",
        log,
        Activation::Log {
            base: 2.0,
            scale: 3.0,
            shift: 1.0,
        },
    );
    is(
        "Threshold",
        "threshold_param { threshold: 2 }",
        Activation::Threshold { threshold: 2.0 },
    );
    is("Swish", "", Activation::Swish { beta: 1.0 });
    is(
        "Clip",
        "clip_param { min: -1 max: 6 }",
        Activation::Clip {
            min: -1.0,
            max: 6.0,
        },
    );
    assert_eq!(
        single("1 2 3 3", "Dropout", "").0,
        Op::Dropout { ratio: 0.5 }
    );
    refused("1 2", "Clip", "clip_param { min: -1 }", &["clip_param"]);
    refused(
        "1 2",
        "Clip",
        "clip_param { min: 2 max: 1 }",
        &["clip_param.min"],
    );
    refused("1 2", "Exp", "exp_param { base: 0 }", &["exp_param.base"]);
    refused(
        "1 2",
        "Dropout",
        "dropout_param { dropout_ratio: 1.5 }",
        &["dropout_ratio"],
    );
}

/// Checklist 16.
#[test]
fn prelu() {
    for (body, count) in [("", 2), ("prelu_param { channel_shared: true }", 1)] {
        let graph = graph(&with_input("1 2 3 3", &layer("PReLU", body)));
        assert_eq!(graph.weights[0].shape().count(), count);
    }
    refused("3", "PReLU", "", &["bottom[0]"]);
}

/// Checklist 17, 18.
#[test]
fn normalizations() {
    let (op, _) = single(
        "1 8 3 3",
        "LRN",
        "lrn_param { local_size: 3 alpha: 0.5 k: 2 }",
    );
    let Op::Lrn(lrn) = op else { panic!("{op:?}") };
    assert_eq!(
        (lrn.size, lrn.alpha, lrn.beta, lrn.k, lrn.within_channel),
        (3, 0.5, 0.75, 2.0, false)
    );
    let within = "lrn_param { norm_region: WITHIN_CHANNEL }";
    let (op, _) = single("1 8 3 3", "LRN", within);
    assert!(matches!(op, Op::Lrn(lrn) if lrn.within_channel && lrn.size == 5));
    refused("1 8 3 3", "MKLLRN", within, &["lrn_param.norm_region"]);
    refused(
        "1 8 3 3",
        "LRN",
        "lrn_param { local_size: 4 }",
        &["lrn_param.local_size", "odd"],
    );

    let (op, _) = single("1 8 3 3", "BatchNorm", "");
    assert!(matches!(op, Op::BatchNorm(norm) if norm.statistics.is_some() && norm.eps == 1e-5));
    let body = "batch_norm_param { use_global_stats: false }";
    let (op, _) = single("1 8 3 3", "BatchNorm", body);
    assert!(matches!(op, Op::BatchNorm(norm) if norm.statistics.is_none()));
    refused(
        "1 8 3 3",
        "MKLBatchNorm",
        "",
        &["batch_norm_param.use_weight_bias"],
    );
    let body = "batch_norm_param { use_weight_bias: false }";
    assert!(matches!(
        single("1 8 3 3", "MKLBatchNorm", body).0,
        Op::BatchNorm(_)
    ));

    assert_eq!(single("1 8 3 3", "Softmax", "").0, Op::Softmax { axis: 1 });
    assert_eq!(
        single("1 8", "Softmax", "softmax_param { axis: -1 }").0,
        Op::Softmax { axis: 1 }
    );
    refused(
        "1 8",
        "Softmax",
        "softmax_param { axis: 2 }",
        &["softmax_param.axis"],
    );
}

/// Checklist 18.
#[test]
fn scale_and_bias() {
    let shapes = |kind: &str, body: &str| -> Vec<Vec<u32>> {
        let graph = graph(&with_input("2 3 4 5", &layer(kind, body)));
        graph
            .weights
            .iter()
            .map(|weight| weight.shape().dims().to_vec())
            .collect()
    };
    assert_eq!(shapes("Scale", ""), [[3]]);
    assert_eq!(
        shapes("Scale", "scale_param { bias_term: true }"),
        [[3], [3]]
    );
    assert_eq!(
        shapes("Scale", "scale_param { axis: -3 num_axes: 2 }"),
        [[3, 4]]
    );
    assert_eq!(
        shapes("Scale", "scale_param { axis: 0 num_axes: -1 }"),
        [[2, 3, 4, 5]]
    );
    assert_eq!(shapes("Bias", "bias_param { num_axes: 0 }"), [[0; 0]]);
    refused(
        "2 3",
        "Scale",
        "scale_param { num_axes: 2 }",
        &["scale_param.num_axes"],
    );
    refused(
        "2 3",
        "Scale",
        "scale_param { num_axes: -2 }",
        &["scale_param.num_axes"],
    );
    refused(
        "2 3",
        "Bias",
        "bias_param { axis: 2 }",
        &["bias_param.axis"],
    );
}

#[test]
fn scale_and_bias_by_a_second_bottom() {
    let text = |kind: &str, body: &str| {
        with_input(
            "2 3",
            &format!(
                "layer {{ name: 'r' type: 'Reduction' bottom: 'data' top: 'r' reduction_param {{ axis: 1 }} }}
                 layer {{ name: 'it' type: '{kind}' bottom: 'data' bottom: 'r' top: 'out' {body} }}"
            ),
        )
    };
    let graph = graph(&text("Scale", "scale_param { axis: 0 bias_term: true }"));
    let Op::Scale(scale) = last_op(&graph) else {
        panic!()
    };
    assert_eq!(
        (scale.axis, scale.scale, scale.bias.is_some()),
        (0, None, true)
    );
    assert_eq!(graph.weights[0].shape().dims(), [2]);
    let bias = import_support::graph(&text("Bias", "bias_param { axis: 0 }"));
    let expected = Scale {
        axis: 0,
        scale: None,
        bias: None,
        add_operand: true,
    };
    assert_eq!(last_op(&bias), &Op::Scale(expected));
    assert_eq!(run(&bias)[0].data(), [0.75, 1.0, 1.25, 3.75, 4.0, 4.25]);
    assert!(refusal(&text("Bias", "")).contains("bottom[1]"));
}

/// Checklist 19.
#[test]
fn eltwise() {
    let text = |body: &str| {
        with_input(
            "1 2",
            &format!(
                "layer {{ name: 'p' type: 'Power' bottom: 'data' top: 'p' }}
                 layer {{ name: 'it' type: 'Eltwise' bottom: 'data' bottom: 'p' top: 'out'
                          eltwise_param {{ {body} }} }}"
            ),
        )
    };
    let op = |body: &str| match last_op(&graph(&text(body))) {
        Op::Eltwise(eltwise) => eltwise.op.clone(),
        op => panic!("{op:?}"),
    };
    assert_eq!(
        op(""),
        EltwiseOp::Sum {
            coefficients: vec![1.0, 1.0]
        }
    );
    assert_eq!(
        op("coeff: 1 coeff: -1"),
        EltwiseOp::Sum {
            coefficients: vec![1.0, -1.0]
        }
    );
    assert_eq!(
        (op("operation: MAX"), op("operation: PROD")),
        (EltwiseOp::Max, EltwiseOp::Product)
    );
    for body in ["coeff: 1", "operation: MAX coeff: 1 coeff: 1"] {
        assert!(refusal(&text(body)).contains("eltwise_param.coeff"));
    }
    let one = refusal(&with_input("1 2", &layer("Eltwise", "")));
    assert!(
        one.contains("1 bottoms") && one.contains("2 or more"),
        "{one}"
    );
}

/// Checklist 19.
#[test]
fn concat_and_slice() {
    let text = |slice: &str, concat: &str| {
        with_input(
            "1 6 4",
            &format!(
                "layer {{ name: 's' type: 'Slice' bottom: 'data' top: 'a' top: 'b' top: 'c'
                          slice_param {{ {slice} }} }}
                 layer {{ name: 'it' type: 'Concat' bottom: 'c' bottom: 'a' bottom: 'b' top: 'out'
                          concat_param {{ {concat} }} }}"
            ),
        )
    };
    let parts = graph(&text("", ""));
    assert_eq!(["a", "b", "c"].map(|name| dims(&parts, name)[1]), [2, 2, 2]);
    assert_eq!(dims(&parts, "out"), [1, 6, 4]);
    let points = graph(&text("slice_dim: 1 slice_point: [1, 3]", "axis: -2"));
    assert_eq!(
        ["a", "b", "c"].map(|name| dims(&points, name)[1]),
        [1, 2, 3]
    );
    assert_eq!(dims(&graph(&text("", "concat_dim: 2")), "out"), [1, 2, 12]);
    let refused = |slice: &str, concat: &str, word: &str| {
        let error = refusal(&text(slice, concat));
        assert!(error.contains(word), "{error}");
    };
    refused("axis: 2", "", "do not divide");
    refused("slice_point: 2", "", "1 points");
    refused("slice_point: [3, 3]", "", "ascending");
    refused("slice_point: [3, 6]", "", "ascending");
    refused("slice_dim: 1 axis: 1", "", "one or the other");
    refused("", "concat_dim: 1 axis: 1", "one or the other");
    refused("", "concat_dim: 3", "concat_param.concat_dim");
    refused("slice_point: [1, 3]", "axis: 2", "layer \"it\"");
}

/// Checklist 19.
#[test]
fn movers() {
    assert_eq!(single("2 3 4 5", "Flatten", "").1, [2, 60]);
    assert_eq!(
        single(
            "2 3 4 5",
            "Flatten",
            "flatten_param { axis: 0 end_axis: -3 }"
        )
        .1,
        [6, 4, 5]
    );
    refused(
        "2 3",
        "Flatten",
        "flatten_param { axis: 2 }",
        &["flatten_param.axis"],
    );
    refused(
        "2 3",
        "Flatten",
        "flatten_param { end_axis: 0 }",
        &["flatten_param.end_axis"],
    );
    let reshape = |body: &str| format!("reshape_param {{ {body} }}");
    assert_eq!(
        single("2 3 4", "Reshape", &reshape("shape { dim: 0 dim: -1 }")).1,
        [2, 12]
    );
    let span = "shape { dim: 2 dim: 2 } axis: 2 num_axes: 1";
    assert_eq!(single("2 3 4", "Reshape", &reshape(span)).1, [2, 3, 2, 2]);
    refused("2 3 4", "Reshape", "", &["reshape_param.shape"]);
    refused(
        "2 3 4",
        "Reshape",
        &reshape("shape { dim: 5 }"),
        &["reshape_param.shape"],
    );
    assert_eq!(
        single(
            "2 3 4 5",
            "Permute",
            "permute_param { order: [0, 2, 3, 1] }"
        )
        .1,
        [2, 4, 5, 3]
    );
    assert_eq!(
        single("2 3 4 5", "Permute", "permute_param { order: 3 }").1,
        [5, 2, 3, 4]
    );
    refused(
        "2 3",
        "Permute",
        "permute_param { order: [0, 0] }",
        &["permute_param.order"],
    );
    assert_eq!(single("2 3", "Tile", "tile_param { tiles: 4 }").1, [2, 12]);
    refused("2 3", "Tile", "", &["tile_param.tiles"]);
    refused(
        "2 3",
        "Tile",
        "tile_param { tiles: -1 }",
        &["tile_param.tiles"],
    );
    assert_eq!(
        single("2 3 4", "ArgMax", "argmax_param { top_k: 2 }").1,
        [2, 1, 2]
    );
    assert_eq!(
        single("2 3 4", "ArgMax", "argmax_param { axis: 1 }").1,
        [2, 1, 4]
    );
    refused(
        "2 3",
        "ArgMax",
        "argmax_param { top_k: 0 }",
        &["argmax_param.top_k"],
    );
    let body = "reduction_param { operation: MEAN axis: 1 coeff: 2 }";
    let (op, dims) = single("2 3 4", "Reduction", body);
    assert!(matches!(op, Op::Reduction(r) if r.op == ReductionOp::Mean && r.coeff == 2.0));
    assert_eq!(dims, [2]);
}

#[test]
fn crop_takes_the_size_of_the_second_bottom() {
    let text = |body: &str| {
        with_input(
            "1 2 6 6",
            &format!(
                "layer {{ name: 'p' type: 'Pooling' bottom: 'data' top: 'p'
                          pooling_param {{ kernel_size: 2 stride: 2 }} }}
                 layer {{ name: 'it' type: 'Crop' bottom: 'data' bottom: 'p' top: 'out'
                          crop_param {{ {body} }} }}"
            ),
        )
    };
    assert_eq!(
        dims(&graph(&text("offset: 1 offset: 2")), "out"),
        [1, 2, 3, 3]
    );
    assert!(refusal(&text("offset: 4")).contains("crop_param.offset"));
    assert!(refusal(&text("axis: 4")).contains("crop_param.axis"));
}

/// Checklist 20.
#[test]
fn split_silence_and_dropout() {
    let text = with_input(
        "1 2",
        "layer { name: 's' type: 'Split' bottom: 'data' top: 'a' top: 'b' }
         layer { name: 'q' type: 'Silence' bottom: 'b' }
         layer { name: 'd' type: 'Dropout' bottom: 'a' top: 'a' }",
    );
    let graph = graph(&text);
    assert_eq!(outputs(&graph), ["a"]);
    assert_eq!(graph.nodes.len(), 3);
    let dropout = Op::Dropout { ratio: 0.5 };
    let copies = |op: &Op| *op == Op::Identity || *op == dropout;
    assert!(graph.nodes.iter().all(|node| copies(&node.op)));
}

/// Scores from `data`, labels from a second input.
fn with_labels(kind: &str, labels: &str, tops: &str, body: &str) -> String {
    format!(
        "layer {{ name: 'in' type: 'Input' top: 'data' top: 'label'
                  input_param {{ shape {{ dim: 2 dim: 3 }} shape {{ {labels} }} }} }}
         layer {{ name: 'it' type: '{kind}' bottom: 'data' bottom: 'label' {tops} {body} }}"
    )
}

/// Checklist 21, 23.
#[test]
fn losses() {
    let loss = |kind: &str, labels: &str, body: &str| {
        let graph = graph(&with_labels(kind, labels, "top: 'loss'", body));
        assert_eq!(outputs(&graph), ["loss"]);
        match last_op(&graph) {
            Op::Loss(loss) => loss.clone(),
            op => panic!("{op:?}"),
        }
    };
    let softmax = loss(
        "SoftmaxWithLoss",
        "dim: 2",
        "loss_param { ignore_label: 5 }",
    );
    let (ignore_label, normalization) = (Some(5), Normalization::Valid);
    assert_eq!(
        softmax,
        Loss::SoftmaxWithLoss {
            axis: 1,
            ignore_label,
            normalization
        }
    );
    for (body, expected) in [
        ("loss_param { normalize: false }", Normalization::BatchSize),
        ("loss_param { normalize: true }", Normalization::Valid),
        (
            "loss_param { normalize: true normalization: FULL }",
            Normalization::Full,
        ),
        ("loss_param { normalization: NONE }", Normalization::None),
    ] {
        let found = loss("SoftmaxWithLoss", "dim: 2", body);
        assert!(
            matches!(found, Loss::SoftmaxWithLoss { normalization, .. } if normalization == expected)
        );
    }
    assert_eq!(loss("EuclideanLoss", "dim: 2 dim: 3", ""), Loss::Euclidean);
    let (ignore_label, normalization) = (None, Normalization::BatchSize);
    let cross = Loss::SigmoidCrossEntropy {
        ignore_label,
        normalization,
    };
    assert_eq!(loss("SigmoidCrossEntropyLoss", "dim: 2 dim: 3", ""), cross);
    assert_eq!(
        loss("HingeLoss", "dim: 2", "hinge_loss_param { norm: L2 }"),
        Loss::Hinge { l2: true }
    );
    assert_eq!(
        loss("MultinomialLogisticLoss", "dim: 2", ""),
        Loss::MultinomialLogistic
    );
}

#[test]
fn losses_with_more_tops_or_none() {
    let tops = "top: 'loss' top: 'p'";
    let two = graph(&with_labels("SoftmaxWithLoss", "dim: 2", tops, ""));
    assert_eq!(outputs(&two), ["loss", "p"]);
    assert_eq!(dims(&two, "p"), [2, 3]);
    let none = graph(&with_labels("SoftmaxWithLoss", "dim: 2", "", ""));
    assert_eq!(outputs(&none), ["it"]);
    let accuracy = graph(&with_labels("Accuracy", "dim: 2", "top: 'a' top: 'b'", ""));
    assert_eq!(
        (dims(&accuracy, "a"), dims(&accuracy, "b")),
        (&[][..], &[3][..])
    );
    let body = "accuracy_param { top_k: 4 }";
    assert!(refusal(&with_labels("Accuracy", "dim: 2", "top: 'a'", body)).contains("top_k"));
    assert!(refusal(&with_labels("Accuracy", "dim: 3", "top: 'a'", "")).contains("bottom[1]"));
}

/// Checklist 22.
#[test]
fn losses_of_three_bottoms() {
    let text = |kind: &str, body: &str, third: &str| {
        format!(
            "layer {{ name: 'in' type: 'Input' top: 'a' top: 'b' top: 'c' input_param {{
                      shape {{ dim: 2 dim: 3 }} shape {{ {third} }} shape {{ dim: 2 }} }} }}
             layer {{ name: 'it' type: '{kind}' {body} top: 'loss' }}"
        )
    };
    let bottoms = "bottom: 'a' bottom: 'b' bottom: 'c' contrastive_loss_param { margin: 2 }";
    let contrastive = graph(&text("ContrastiveLoss", bottoms, "dim: 2 dim: 3"));
    let expected = Loss::Contrastive {
        margin: 2.0,
        legacy: false,
    };
    assert_eq!(last_op(&contrastive), &Op::Loss(expected));

    let bottoms = "bottom: 'a' bottom: 'c' bottom: 'b'";
    let infogain = graph(&text("InfogainLoss", bottoms, "dim: 3 dim: 3"));
    assert_eq!(infogain.nodes.len(), 1);
    let scores = format!("{bottoms} infogain_loss_param {{ axis: 1 }}");
    let infogain = graph(&text("InfogainLoss", &scores, "dim: 3 dim: 3"));
    assert_eq!(infogain.nodes[0].op, Op::Softmax { axis: 1 });
    let no_matrix = refusal(&text("InfogainLoss", "bottom: 'a' bottom: 'c'", "dim: 3"));
    assert!(
        no_matrix.contains("infogain_loss_param.source"),
        "{no_matrix}"
    );
}

/// Checklist 27.
#[test]
fn data_sources() {
    let memory = "layer { name: 'm' type: 'MemoryData' top: 'data' top: 'label'
        memory_data_param { batch_size: 2 channels: 3 height: 4 width: 5 } }";
    let memory = graph(memory);
    assert_eq!(memory.inputs.len(), 2);
    assert_eq!(
        (dims(&memory, "data"), dims(&memory, "label")),
        (&[2, 3, 4, 5][..], &[2][..])
    );

    let dummy = graph(
        "layer { name: 'd' type: 'DummyData' top: 'a' top: 'b' dummy_data_param {
           shape { dim: 2 dim: 3 } data_filler { value: 7 }
           data_filler { type: 'gaussian' std: 0.5 } } }",
    );
    let results = run(&dummy);
    assert_eq!(results[0].data(), [7.0; 6]);
    assert!(results[1].data().iter().all(|x| *x != 0.0 && x.abs() < 3.1));
    assert_eq!(run(&dummy)[1].data(), results[1].data());
    let legacy = graph(
        "layer { name: 'd' type: 'DummyData' top: 'a' top: 'b' dummy_data_param {
           num: 2 num: 4 channels: 3 height: 1 width: 1 } }",
    );
    assert_eq!(
        (dims(&legacy, "a"), dims(&legacy, "b")),
        (&[2, 3, 1, 1][..], &[4, 3, 1, 1][..])
    );
    let refused = refusal("layer { name: 'd' type: 'Data' top: 'data' }");
    assert!(refused.contains("data_to_input"), "{refused}");
    let refused = refusal("layer { name: 'd' type: 'DummyData' top: 'a' }");
    assert!(refused.contains("dummy_data_param.shape"), "{refused}");
    let no_dims = refusal("layer { name: 'd' type: 'Input' top: 'a' }");
    assert!(no_dims.contains("--input-shape"), "{no_dims}");
    let zero = refusal(&with_input("1 0 4", ""));
    assert!(zero.contains("input_param.shape"), "{zero}");
}

/// Checklist 31, 32, 37.
#[test]
fn fused_layers() {
    let conv = "convolution_param { num_output: 2 kernel_size: 1 conv_mode: DIRECT_SCONV }";
    let text =
        |kind: &str, body: &str| with_input("1 4 6 6", &layer(kind, &format!("{conv} {body}")));
    let relu = graph(&text("ConvolutionReLU", ""));
    assert!(matches!(last_op(&relu), Op::Convolution(c) if c.post == PostOps::relu(0.0)));
    let pool = graph(&text(
        "ConvolutionReLUPool",
        "pooling_param { kernel_size: 2 stride: 2 }",
    ));
    assert_eq!(
        pool.nodes.iter().map(|n| n.op.name()).collect::<Vec<_>>(),
        ["Convolution", "ReLUPooling"]
    );
    assert_eq!(
        (outputs(&pool), dims(&pool, "out")),
        (vec!["out"], &[1, 2, 3, 3][..])
    );
    let lrn = "pooling_param { kernel_size: 2 stride: 2 } lrn_param { local_size: 3 }";
    let lrn = graph(&text("ConvolutionReLUPoolLRN", lrn));
    assert_eq!(
        lrn.nodes.iter().map(|n| n.op.name()).collect::<Vec<_>>(),
        ["Convolution", "ReLUPooling", "LRN"]
    );
    let slope = "relu_param { negative_slope: 0.1 }";
    assert!(refusal(&text("ConvolutionReLU", slope)).contains("relu_param.negative_slope"));

    let inner = format!("inner_product_param {{ num_output: 2 }} {slope}");
    let (op, _) = single("1 4", "InnerProductReLUDropout", &inner);
    assert!(matches!(op, Op::InnerProduct(inner) if inner.post == PostOps::relu(0.1)));
}

#[test]
fn nothing_is_refused() {
    assert!(
        bare("")
            .expect_err("no layers")
            .to_string()
            .contains("no layers")
    );
}
