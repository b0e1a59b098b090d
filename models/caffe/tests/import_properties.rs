//! Random attributes are imported or refused, never a panic, and what is imported is sound.

mod import_support;

use import_support::{bare, with_input};
use proptest::prelude::*;

/// Numbers around the limits that attributes have.
fn number() -> impl Strategy<Value = i64> {
    prop_oneof![
        9 => 0i64..7,
        1 => -3i64..0,
        1 => prop::sample::select(vec![0, 255, 65535, i64::from(i32::MAX), i64::from(u32::MAX)]),
    ]
}

/// A field with some values.
fn field(names: &'static [&'static str]) -> impl Strategy<Value = String> {
    (prop::sample::select(names), number()).prop_map(|(name, value)| format!("{name}: {value} "))
}

fn fields(names: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::collection::vec(field(names), 0..5).prop_map(|fields| fields.concat())
}

const WINDOW: &[&str] = &[
    "num_output",
    "num_output",
    "kernel_size",
    "kernel_size",
    "kernel_h",
    "kernel_w",
    "stride",
    "stride_h",
    "stride_w",
    "pad",
    "pad_h",
    "pad_w",
    "group",
    "dilation",
    "axis",
];
const POOL: &[&str] = &[
    "kernel_size",
    "kernel_size",
    "kernel_h",
    "kernel_w",
    "stride",
    "stride_h",
    "stride_w",
    "pad",
    "pad_h",
    "pad_w",
];

fn layer() -> impl Strategy<Value = String> {
    let one = |kinds: &'static [&'static str], param: &'static str, names| {
        (prop::sample::select(kinds), fields(names))
            .prop_map(move |(kind, body)| format!("type: '{kind}' top: 'out' {param} {{ {body} }}"))
    };
    let convolutions: &[&str] = &[
        "Convolution",
        "Deconvolution",
        "Winograd",
        "ConvolutionReLU",
    ];
    prop_oneof![
        one(convolutions, "convolution_param", WINDOW),
        one(&["Pooling", "ReLUPooling"], "pooling_param", POOL),
        one(
            &["InnerProduct"],
            "inner_product_param",
            &["num_output", "axis"]
        ),
        one(&["Scale"], "scale_param", &["axis", "num_axes"]),
        one(&["Bias"], "bias_param", &["axis", "num_axes"]),
        one(&["Flatten"], "flatten_param", &["axis", "end_axis"]),
        one(&["Permute"], "permute_param", &["order"]),
        one(&["Tile"], "tile_param", &["axis", "tiles"]),
        one(&["ArgMax"], "argmax_param", &["axis", "top_k"]),
        one(&["Reduction"], "reduction_param", &["axis", "coeff"]),
        one(&["Softmax"], "softmax_param", &["axis"]),
        one(&["LRN"], "lrn_param", &["local_size"]),
        one(&["Concat"], "concat_param", &["axis", "concat_dim"]),
        one(
            &["Slice"],
            "top: 'b' slice_param",
            &["axis", "slice_dim", "slice_point"]
        ),
        one(&["Reshape"], "reshape_param", &["axis", "num_axes"]),
        fields(&["dim"]).prop_map(|dims| {
            format!("type: 'Reshape' top: 'out' reshape_param {{ shape {{ {dims} }} }}")
        }),
    ]
}

/// Shapes, images more often than others.
fn dims() -> impl Strategy<Value = Vec<u32>> {
    prop_oneof![
        prop::collection::vec(1u32..7, 4),
        prop::collection::vec(1u32..7, 0..6)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]
    #[test]
    fn attributes_never_panic(dims in dims(), layer in layer()) {
        let dims: Vec<String> = dims.iter().map(u32::to_string).collect();
        let text =
            with_input(&dims.join(" "), &format!("layer {{ name: 'it' bottom: 'data' {layer} }}"));
        // Some texts are no prototxt: a field that may not be given twice, or a number out of range.
        if skimjit_caffe::text::parse_net(&text).is_ok() {
            match bare(&text) {
                Ok(imported) => imported.graph.check().expect("a sound graph"),
                Err(error) => prop_assert!(error.layer.is_some(), "{}", error),
            }
        }
    }
}
