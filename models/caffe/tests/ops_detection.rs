//! SSD's layers: small heads against the results of OpenCV 4.14's own implementation, codes of boxes by
//! hand, and what is refused.

mod import_support;

use import_support::{bare, dims, graph, layer, refusal, weights, with_input};
use skimjit_caffe::import::{ImportOptions, import};
use skimjit_models::ops::{BoxCode, DetectionOutput};
use skimjit_models::{Op, Shape, Tensor, TensorRef, interpreter, passes};

/// Spread values from −`size` to `size`.
fn ramp(count: usize, size: f32) -> Vec<f32> {
    let value = |index: usize| ((index * 37 + 11) % 101) as f32 / 50.5 - 0.995;
    (0..count).map(|index| value(index) * size).collect()
}

/// A head with all of SSD's layers; `loc` are the offsets at a position.
fn head(loc: u32, priors: &str, output: &str) -> String {
    let chain = |name: &str, bottom: &str, kind: &str, param: &str| {
        format!(
            "layer {{ name: '{name}' type: '{kind}' bottom: '{bottom}' top: '{name}' {param} }}\n"
        )
    };
    let order = "permute_param { order: 0 order: 2 order: 3 order: 1 }";
    let conv =
        |outputs: u32, rest: &str| format!("convolution_param {{ num_output: {outputs} {rest} }}");
    let layers = [
        chain(
            "conv1",
            "data",
            "Convolution",
            &conv(8, "kernel_size: 3 pad: 1 stride: 4"),
        ),
        chain(
            "norm",
            "conv1",
            "Normalize",
            "norm_param { across_spatial: false channel_shared: false }",
        ),
        chain("loc", "norm", "Convolution", &conv(loc, "kernel_size: 1")),
        chain("loc_perm", "loc", "Permute", order),
        chain("loc_flat", "loc_perm", "Flatten", ""),
        chain("conf", "norm", "Convolution", &conv(24, "kernel_size: 1")),
        chain("conf_perm", "conf", "Permute", order),
        chain("conf_flat", "conf_perm", "Flatten", ""),
        chain(
            "conf_reshape",
            "conf_flat",
            "Reshape",
            "reshape_param { shape { dim: 0 dim: -1 dim: 4 } }",
        ),
        chain(
            "conf_softmax",
            "conf_reshape",
            "Softmax",
            "softmax_param { axis: 2 }",
        ),
        chain("conf_out", "conf_softmax", "Flatten", ""),
    ];
    let ends = format!(
        "layer {{ name: 'priors' type: 'PriorBox' bottom: 'norm' bottom: 'data' top: 'priors'
           prior_box_param {{ min_size: 8 max_size: 14 aspect_ratio: 2 aspect_ratio: 3 flip: true {priors} }} }}
         layer {{ name: 'det' type: 'DetectionOutput' bottom: 'loc_flat' bottom: 'conf_out' bottom: 'priors'
           top: 'det' detection_output_param {{ num_classes: 4 background_label_id: 0 keep_top_k: 12
           nms_param {{ nms_threshold: 0.45 top_k: 30 }} confidence_threshold: 0.2 {output} }} }}"
    );
    with_input("1 3 24 32", &(layers.concat() + &ends))
}

/// Detections of the head, best score first.
fn detections(loc: i64, priors: &str, output: &str) -> Vec<[f32; 7]> {
    let blobs = |name: &str, dims: &[i64], size: f32, offset: f32| {
        let count = dims.iter().product::<i64>() as usize;
        let bias = ramp(dims[0] as usize, 0.1);
        let values: Vec<f32> = ramp(count, size).iter().map(|x| x + offset).collect();
        match name {
            "norm" => weights(name, &[(dims, &values)]),
            _ => weights(name, &[(dims, &values), (&dims[..1], &bias)]),
        }
    };
    let files = vec![
        blobs("conv1", &[8, 3, 3, 3], 0.5, 0.0),
        blobs("norm", &[8], 1.0, 20.0),
        blobs("loc", &[loc, 8, 1, 1], 0.15, 0.0),
        blobs("conf", &[24, 8, 1, 1], 0.08, 0.0),
    ];
    let text = head(loc as u32, priors, output);
    let graph = import(import_support::net(&text), files, &ImportOptions::default())
        .unwrap()
        .graph;
    let input = Tensor::new(Shape::new([1, 3, 24, 32]).unwrap(), ramp(3 * 24 * 32, 1.0));
    let result = interpreter::run_outputs(&graph, std::slice::from_ref(&input)).unwrap();
    // Folding the prior boxes changes nothing.
    let optimized = passes::optimize(graph.clone()).unwrap();
    assert!(
        !optimized
            .nodes
            .iter()
            .any(|node| matches!(node.op, Op::PriorBox(_)))
    );
    let folded = interpreter::run_outputs(&optimized, &[input]).unwrap();
    assert_eq!(result, folded);
    assert_eq!(result[0].shape().dims(), [1, 1, 12, 7]);
    let rows = result[0].data().chunks_exact(7);
    let mut rows: Vec<[f32; 7]> = rows.map(|row| row.try_into().unwrap()).collect();
    assert!(rows.is_sorted_by(|a, b| (a[0], a[1], -a[2]) <= (b[0], b[1], -b[2])));
    rows.sort_by(|a, b| b[2].total_cmp(&a[2]));
    rows
}

fn assert_close(found: &[[f32; 7]], expected: &[[f32; 7]]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        let close = |(a, b): (&f32, &f32)| (a - b).abs() < 2e-5;
        assert!(
            found.iter().zip(expected).all(close),
            "{found:?}, expected {expected:?}"
        );
    }
}

const VARIANCE: &str = "variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2";

#[test]
fn centre_and_size_as_opencv() {
    let found = detections(24, VARIANCE, "code_type: CENTER_SIZE");
    #[rustfmt::skip]
    let expected = [
        [0.0, 3.0, 0.679329, 0.833134, -0.519862, 0.996999, 0.518987],
        [0.0, 3.0, 0.665851, 0.584639, -0.516399, 0.755332, 0.551869],
        [0.0, 3.0, 0.648256, 0.336324, -0.50992, 0.514139, 0.584236],
        [0.0, 1.0, 0.630744, -0.0543354, 0.475499, 0.169014, 1.03698],
        [0.0, 1.0, 0.628461, 0.310982, 0.0529372, 0.635245, 0.262732],
        [0.0, 1.0, 0.62549, 0.553738, 0.0495413, 0.878856, 0.26103],
        [0.0, 1.0, 0.618973, 0.796381, 0.0456114, 1.12257, 0.258904],
        [0.0, 1.0, 0.613585, 0.432372, 0.29473, 0.648137, 0.845556],
        [0.0, 1.0, 0.609854, 0.303999, 0.371674, 0.513193, 0.511279],
        [0.0, 1.0, 0.605232, 0.679867, 0.123887, 0.895093, 0.674155],
        [0.0, 2.0, 0.602956, -0.251798, -0.0146739, 0.455725, 0.185883],
        [0.0, 3.0, 0.6025, 0.140637, 0.360172, 0.492521, 1.1988],
    ];
    assert_close(&found, &expected);
}

#[test]
fn corners_as_opencv() {
    let found = detections(24, "clip: true variance: 0.1", "");
    #[rustfmt::skip]
    let expected = [
        [0.0, 3.0, 0.679329, 0.709908, -0.145095, 1.06344, 0.665718],
        [0.0, 3.0, 0.665851, 0.493988, -0.11362, 0.843523, 0.67968],
        [0.0, 3.0, 0.648256, 0.280333, -0.0799788, 0.613962, 0.691653],
        [0.0, 1.0, 0.630744, -0.0291929, 0.714416, 0.267814, 0.906463],
        [0.0, 1.0, 0.628461, 0.361453, 0.316082, 0.571037, 0.142964],
        [0.0, 1.0, 0.62549, 0.592174, 0.305268, 0.822354, 0.146986],
        [0.0, 1.0, 0.618973, 0.822878, 0.292421, 0.95972, 0.151232],
        [0.0, 1.0, 0.613585, 0.348271, 0.506536, 0.75054, 0.73022],
        [0.0, 1.0, 0.612517, -0.0722258, 0.517107, 0.256294, 0.731604],
        [0.0, 1.0, 0.609854, 0.17897, 0.404075, 0.351889, 0.27264],
        [0.0, 1.0, 0.605232, 0.582575, 0.330419, 0.999289, 0.563046],
        [0.0, 2.0, 0.602956, -0.197539, 0.0118022, 0.649508, 0.20019],
    ];
    assert_close(&found, &expected);
}

#[test]
fn boxes_of_each_class_as_opencv() {
    let found = detections(96, VARIANCE, "share_location: false code_type: CENTER_SIZE");
    #[rustfmt::skip]
    let expected = [
        [0.0, 3.0, 0.679329, 0.832987, -0.534736, 0.999194, 0.518961],
        [0.0, 3.0, 0.665851, 0.584433, -0.531672, 0.757694, 0.552671],
        [0.0, 3.0, 0.648256, 0.33605, -0.525594, 0.51668, 0.585885],
        [0.0, 1.0, 0.630744, -0.0283506, 0.350555, 0.157816, 0.800207],
        [0.0, 1.0, 0.628461, 0.148181, 0.00353531, 0.803085, 0.216341],
        [0.0, 1.0, 0.62549, 0.397303, -0.00128085, 1.03869, 0.212251],
        [0.0, 1.0, 0.618973, 0.647594, -0.00617249, 1.27318, 0.208222],
        [0.0, 1.0, 0.613585, 0.473237, 0.184443, 0.623675, 0.553436],
        [0.0, 1.0, 0.612517, -0.0206641, 0.202477, 0.148694, 0.614263],
        [0.0, 1.0, 0.609854, 0.19067, 0.331833, 0.622172, 0.46973],
        [0.0, 1.0, 0.605232, 0.724202, 0.0199081, 0.869713, 0.377346],
        [0.0, 2.0, 0.602956, -0.116656, -0.0518008, 0.333929, 0.145548],
    ];
    assert_close(&found, &expected);
}

fn output(code: BoxCode) -> DetectionOutput {
    DetectionOutput {
        classes: 2,
        share_location: true,
        background: Some(0),
        code,
        variance_encoded: false,
        confidence_threshold: None,
        nms_threshold: 0.5,
        top_k: None,
        eta: 1.0,
        keep_top_k: None,
    }
}

/// Rows for priors of (0.2, 0.4, 0.4, 0.8) with variances of 0.5.
fn rows(op: &DetectionOutput, n: u32, offsets: &[f32], scores: &[f32]) -> Vec<[f32; 7]> {
    let priors = scores.len() as u32 / n / op.classes;
    let boxes = [0.2, 0.4, 0.4, 0.8].repeat(priors as usize);
    let all = [boxes, vec![0.5; 4 * priors as usize]].concat();
    let shape = |dims: &[u32]| Shape::new(dims).unwrap();
    let (a, b) = (shape(&[n, 4 * priors]), shape(&[n, op.classes * priors]));
    let c = shape(&[1, 2, 4 * priors]);
    let op = Op::DetectionOutput(op.clone());
    let out = op.infer_shape(&[&a, &b, &c], &[]).unwrap();
    let mut data = vec![f32::NAN; out.count()];
    let operand = |shape, data| TensorRef { shape, data };
    op.evaluate(
        &[operand(&a, offsets), operand(&b, scores), operand(&c, &all)],
        &[],
        &out,
        &mut data,
    );
    data.chunks_exact(7)
        .map(|row| row.try_into().unwrap())
        .collect()
}

#[test]
fn codes_of_boxes() {
    let offsets = [0.1, -0.2, 0.4, 0.6];
    let found = |op: &DetectionOutput| rows(op, 1, &offsets, &[0.3, 0.7]);
    assert_close(
        &found(&output(BoxCode::Corner)),
        &[[0.0, 1.0, 0.7, 0.25, 0.3, 0.6, 1.1]],
    );
    assert_close(
        &found(&output(BoxCode::CornerSize)),
        &[[0.0, 1.0, 0.7, 0.21, 0.36, 0.44, 0.92]],
    );
    // Centre (0.3 + 0.05·0.2, 0.6 − 0.1·0.4), size 0.2·e^0.2 by 0.4·e^0.3.
    let centre = [0.0, 1.0, 0.7, 0.18786, 0.29003, 0.43214, 0.82997];
    assert_close(&found(&output(BoxCode::CenterSize)), &[centre]);
    let encoded = DetectionOutput {
        variance_encoded: true,
        ..output(BoxCode::Corner)
    };
    assert_close(&found(&encoded), &[[0.0, 1.0, 0.7, 0.3, 0.2, 0.8, 1.4]]);
}

#[test]
fn the_best_of_overlapping_boxes_stay_and_the_rest_is_padding() {
    // Two images of three priors: the second overlaps the first by 0.6, the third lies apart.
    let offsets = [0.0, 0.0, 0.0, 0.0, 0.1, 0.0, 0.1, 0.0, 2.0, 0.0, 2.0, 0.0].repeat(2);
    let scores = [0.1, 0.9, 0.2, 0.8, 0.3, 0.7, 0.1, 0.2, 0.9, 0.8, 0.9, 0.1];
    let classes = |found: &[[f32; 7]]| -> Vec<(f32, f32)> {
        found.iter().map(|row| (row[0], row[2])).collect()
    };
    let mut op = output(BoxCode::Corner);
    let found = rows(&op, 2, &offsets, &scores);
    assert_eq!(
        classes(&found),
        [
            (0.0, 0.9),
            (0.0, 0.7),
            (1.0, 0.8),
            (1.0, 0.1),
            (-1.0, -1.0),
            (-1.0, -1.0)
        ]
    );
    assert!(found[4].iter().all(|&x| x == -1.0));
    // A threshold that falls with each box that is kept.
    (op.nms_threshold, op.eta) = (0.7, 0.8);
    assert_eq!(
        classes(&rows(&op, 1, &offsets[..12], &scores[..6])).len(),
        3
    );
    assert_eq!(rows(&op, 1, &offsets[..12], &scores[..6])[2][0], -1.0);
    op.eta = 1.0;
    assert_eq!(rows(&op, 1, &offsets[..12], &scores[..6])[2][0], 0.0);
    (op.confidence_threshold, op.keep_top_k) = (Some(0.7), Some(1));
    assert_eq!(
        classes(&rows(&op, 2, &offsets, &scores)),
        [(0.0, 0.9), (1.0, 0.8)]
    );
    (op.background, op.keep_top_k, op.top_k) = (None, None, Some(1));
    let found = rows(&op, 1, &offsets[..12], &scores[..6]);
    assert_eq!(found.len(), 2);
    assert_eq!((found[0][1], found[0][2]), (1.0, 0.9));
}

#[test]
fn attributes_and_refusals() {
    let priors = |body: &str| {
        let text = format!(
            "layer {{ name: 'it' type: 'PriorBox' bottom: 'data' bottom: 'data' top: 'out' \
             prior_box_param {{ {body} }} }}"
        );
        with_input("1 3 4 6", &text)
    };
    let op = |body: &str| match import_support::last_op(&graph(&priors(body))) {
        Op::PriorBox(op) => op.clone(),
        op => panic!("{op:?}"),
    };
    let plain = op("min_size: 7.9 aspect_ratio: 2 aspect_ratio: 0.5 aspect_ratio: 1");
    assert_eq!(
        (&plain.min_sizes[..], &plain.aspect_ratios[..]),
        (&[7][..], &[1.0, 2.0, 0.5][..])
    );
    assert_eq!(
        (plain.clip, plain.variance, plain.offset),
        (false, [0.1; 4], 0.5)
    );
    assert_eq!((plain.image, plain.step), (None, None));
    let full = op("min_size: 7 flip: false aspect_ratio: 2 img_h: 30 img_w: 40 step: 8 offset: 0");
    assert_eq!(
        (full.image, full.step, full.offset),
        (Some([30, 40]), Some([8.0; 2]), 0.0)
    );
    assert_eq!(full.aspect_ratios, [1.0, 2.0]);
    assert_eq!(
        dims(&graph(&priors("min_size: 7 aspect_ratio: 2")), "out"),
        [1, 2, 4 * 4 * 6 * 3]
    );
    let warned = bare(&priors("min_size: 7.9")).unwrap();
    assert!(
        warned.warnings.iter().any(|w| w.text.contains("fractions")),
        "{:?}",
        warned.warnings
    );
    for (body, words) in [
        ("", "prior_box_param.min_size"),
        ("min_size: 0", "prior_box_param.min_size"),
        ("min_size: 5 max_size: 5", "prior_box_param.max_size"),
        (
            "min_size: 5 max_size: 6 max_size: 7",
            "prior_box_param.max_size",
        ),
        (
            "min_size: 5 aspect_ratio: -1",
            "prior_box_param.aspect_ratio",
        ),
        (
            "min_size: 5 variance: 1 variance: 2",
            "prior_box_param.variance",
        ),
        (
            "min_size: 5 img_size: 3 img_h: 3",
            "prior_box_param.img_size",
        ),
        ("min_size: 5 step_h: 3", "prior_box_param.step"),
        ("min_size: 5 step: 0", "prior_box_param.step"),
    ] {
        let error = refusal(&priors(body));
        assert!(error.contains(words), "{body}: {error}");
    }
    for (kind, words) in [
        ("MultiBoxLoss", "labelled"),
        ("DetectionEvaluate", "labelled"),
    ] {
        let error = refusal(&with_input("1 3 4 4", &layer(kind, "")));
        assert!(error.contains(words) && error.contains(kind), "{error}");
    }
    for (body, words) in [
        ("", "num_classes"),
        ("num_classes: 4 keep_top_k: 0", "keep_top_k"),
        ("num_classes: 4 nms_param { top_k: 0 }", "top_k"),
        ("num_classes: 4 nms_param { eta: 1.5 }", "eta"),
        (
            "num_classes: 4 nms_param { nms_threshold: -1 }",
            "nms_threshold",
        ),
        ("num_classes: 3", "bottom[1]"),
        ("num_classes: 4 share_location: false", "bottom[0]"),
    ] {
        let text = head(24, "", "");
        let start = text.find("detection_output_param").unwrap();
        let error = refusal(&format!(
            "{}detection_output_param {{ {body} }} }}",
            &text[..start]
        ));
        assert!(error.contains(words), "{body}: {error}");
    }
    let saved = bare(&head(24, "", "save_output_param { output_directory: 'x' }")).unwrap();
    assert!(
        saved.warnings.iter().any(|w| w.text.contains("not saved")),
        "{:?}",
        saved.warnings
    );
}

#[test]
fn names_of_mobilenet() {
    let conv = |kind: &str, rest: &str| {
        let body = format!("convolution_param {{ num_output: 6 kernel_size: 3 {rest} }}");
        match import_support::last_op(&graph(&with_input("1 6 8 8", &layer(kind, &body)))) {
            Op::Convolution(op) => op.groups,
            op => panic!("{op:?}"),
        }
    };
    assert_eq!(conv("DepthwiseConvolution", ""), 6);
    assert_eq!(conv("ConvolutionDepthwise", ""), 6);
    assert_eq!(conv("DepthwiseConvolution", "group: 3"), 3);
    let relu6 = graph(&with_input("1 6 8 8", &layer("ReLU6", "")));
    let clip = skimjit_models::ops::Activation::Clip { min: 0.0, max: 6.0 };
    assert_eq!(import_support::last_op(&relu6), &Op::Activation(clip));
}

#[test]
fn annotated_data_becomes_an_input() {
    let text = "layer { name: 'data' type: 'AnnotatedData' top: 'data' top: 'label' \
                include { phase: TEST } data_param { batch_size: 8 source: 'x' } \
                transform_param { resize_param { height: 30 width: 40 prob: 1 resize_mode: WARP } } }
                layer { name: 'relu' type: 'ReLU' bottom: 'data' top: 'out' }
                layer { name: 'eval' type: 'DetectionEvaluate' bottom: 'out' bottom: 'label' top: 'e' }";
    let options = ImportOptions {
        data_to_input: true,
        ..ImportOptions::default()
    };
    let graph = import(import_support::net(text), vec![], &options)
        .unwrap()
        .graph;
    assert_eq!(dims(&graph, "data"), [8, 3, 30, 40]);
    assert_eq!(import_support::outputs(&graph), ["out"]);
    assert!(refusal(text).contains("data_to_input"));
}

#[test]
fn a_head_follows_its_input() {
    let text = head(24, "", "");
    let shape = Shape::new([3, 3, 40, 48]).unwrap();
    let resized = graph(&text).with_input_shapes(&[("data", shape)]).unwrap();
    let anew = graph(&text.replace(
        "dim: 1 dim: 3 dim: 24 dim: 32",
        "dim: 3 dim: 3 dim: 40 dim: 48",
    ));
    assert_eq!(
        (&resized.nodes, &resized.values),
        (&anew.nodes, &anew.values)
    );
    assert_eq!(dims(&anew, "det"), [1, 1, 36, 7]);
}
