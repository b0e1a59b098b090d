//! The text format: every form of a value, and where faults are.

use proptest::prelude::*;
use skimjit_caffe::proto::NetParameter;
use skimjit_caffe::proto::blob_proto::Type;
use skimjit_caffe::proto::convolution_parameter::ConvMode;
use skimjit_caffe::proto::layer_parameter::ConnectivityMode;
use skimjit_caffe::{parse_prototxt, text, unknown};
use skimjit_models::Warning;
use skimjit_models::{Error, Result};

fn net(text: &str) -> NetParameter {
    let (net, warnings) = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(warnings, [], "{text}");
    net
}

fn parse(text: &str) -> Result<(NetParameter, Vec<Warning>)> {
    parse_prototxt(text, "net.prototxt")
}

#[track_caller]
fn refused(text: &str, position: (u32, u32), found: &str) -> Error {
    let error = parse(text).expect_err(text);
    assert_eq!(error.position, Some(position), "{error}");
    assert!(error.to_string().contains(found), "{error}");
    assert!(error.to_string().starts_with("net.prototxt:"), "{error}");
    error
}

#[test]
fn an_empty_text_is_an_empty_net() {
    assert_eq!(net(""), NetParameter::default());
    assert_eq!(net(" \n# nothing"), NetParameter::default());
    assert_eq!(net("\u{feff}name: 'a'").name(), "a");
}

#[test]
fn strings() {
    for (text, name) in [
        (r#""plain""#, "plain"),
        ("'single \"quotes\"'", "single \"quotes\""),
        (r#""a" 'b'  "c""#, "abc"),
        ("\"a\" # comment\n \"b\"", "ab"),
        (r#""\n\r\t\\\'\"\?""#, "\n\r\t\\'\"?"),
        (r#""\a\b\f\v""#, "\x07\x08\x0c\x0b"),
        (r#""\101\x42\x4a\0""#, "ABJ\0"),
        (r#""\303\xa9\u00e9\U0001F600""#, "éé😀"),
        ("\"größe\"", "größe"),
        (r#""""#, ""),
    ] {
        assert_eq!(net(&format!("name: {text}")).name(), name, "{text}");
    }
}

#[test]
fn faulty_strings() {
    refused("name: \"abc\nlayer {}", (1, 7), "without end");
    refused("name: \"abc", (1, 7), "without end");
    refused(r#"name: "a\qb""#, (1, 10), "escape");
    refused(r#"name: "\x""#, (1, 9), "escape");
    refused(r#"name: "\ud800""#, (1, 9), "escape");
    refused(r#"name: "\U00110000""#, (1, 9), "escape");
    refused("name: abc", (1, 7), "\"abc\"");
    refused("name: 3", (1, 7), "a string in quotes");
}

#[test]
fn integers_of_all_bases_and_their_ranges() {
    let dims = |text: &str| net(&format!("input_dim: {text}")).input_dim[0];
    assert_eq!(dims("12"), 12);
    assert_eq!(dims("- 12"), -12);
    assert_eq!(dims("0x1F"), 31);
    assert_eq!(dims("017"), 15);
    assert_eq!(dims("-0x80000000"), i32::MIN);
    refused("input_dim: 2147483648", (1, 12), "\"2147483648\"");
    refused("input_dim: 1.0", (1, 12), "\"1.0\"");
    refused("input_dim: 08", (1, 12), "\"08\"");
    refused("input_dim: 1a", (1, 12), "\"1a\"");
    refused("input_dim: true", (1, 12), "\"true\"");
    refused(
        "layer { pooling_param { pad: -1 } }",
        (1, 30),
        "0 to 4294967295",
    );
    assert_eq!(
        net("input_shape { dim: -9223372036854775808 }").input_shape[0].dim,
        [i64::MIN]
    );
}

#[test]
fn floats() {
    let weight =
        |text: &str| net(&format!("layer {{ loss_weight: {text} }}")).layer[0].loss_weight[0];
    for (text, value) in [
        ("1", 1.0),
        ("1.", 1.0),
        (".5", 0.5),
        ("-0.25", -0.25),
        ("1e-4", 1e-4),
        ("1E+3", 1e3),
        ("1f", 1.0),
        ("1.5F", 1.5),
        ("-1.5e2f", -150.0),
        ("inf", f32::INFINITY),
        ("-inf", f32::NEG_INFINITY),
        ("Infinity", f32::INFINITY),
        ("0x10", 16.0),
    ] {
        assert_eq!(weight(text), value, "{text}");
    }
    assert!(weight("nan").is_nan());
    assert!(weight("-nan").is_nan());
    refused("layer { loss_weight: 1.2.3 }", (1, 22), "\"1.2.3\"");
    refused("layer { loss_weight: one }", (1, 22), "\"one\"");
    refused("layer { loss_weight: \"1\" }", (1, 22), "the string \"1\"");
    refused("layer { loss_weight: - }", (1, 22), "'-'");
}

#[test]
fn bools() {
    for (text, value) in [
        ("true", true),
        ("t", true),
        ("True", true),
        ("1", true),
        ("0x1", true),
    ]
    .into_iter()
    .chain([
        ("false", false),
        ("f", false),
        ("False", false),
        ("0", false),
    ]) {
        assert_eq!(
            net(&format!("force_backward: {text}")).force_backward,
            Some(value),
            "{text}"
        );
    }
    refused("force_backward: 2", (1, 17), "true or false");
    refused("force_backward: yes", (1, 17), "true or false");
}

/// Checklist 1.
#[test]
fn enums_by_name_number_and_alias() {
    let mode = |text: &str| {
        let net = net(&format!(
            "layer {{ convolution_param {{ conv_mode: {text} }} }}"
        ));
        net.layer[0].convolution_param.as_ref().unwrap().conv_mode()
    };
    assert_eq!(mode("LOWERED_CCNMM"), ConvMode::LoweredCcnmm);
    assert_eq!(mode("DIRECT_SCONV"), ConvMode::DirectSconv);
    assert_eq!(mode("LOWERED_CSRMM"), ConvMode::DirectSconv);
    assert_eq!(mode("3"), ConvMode::DirectDconv);
    let connectivity =
        net("layer { connectivity_mode: DISCONNECT_ELTWISE }").layer[0].connectivity_mode();
    assert_eq!(connectivity, ConnectivityMode::DisconnectedEltwise);
    net("layer { relu_param { engine: MKL2017 } }");
    let error = refused("layer { phase: TESTING }", (1, 16), "\"TESTING\"");
    assert_eq!(error.expected.as_deref(), Some("one of TRAIN, TEST"));
    assert_eq!(error.field.as_deref(), Some("layer.phase"));
    refused("layer { phase: 7 }", (1, 16), "\"7\"");
}

/// Checklist 1.
#[test]
fn messages_lists_and_separators() {
    let expected = net("layer { name: 'a' bottom: 'x' bottom: 'y' } layer { name: 'b' }");
    for text in [
        "layer: { name: 'a' bottom: 'x' bottom: 'y' } layer: { name: 'b' }",
        "layer < name: 'a'; bottom: ['x', 'y'], > layer: < name: 'b' >",
        "layer [{ name: 'a', bottom: ['x' 'y'] }, < name: 'b' >]",
        "layer: [{ name: 'a' bottom: [] bottom: ['x'] bottom: 'y' }, { name: 'b' }];",
        "layer#comment\n{#comment\nname#\n:#\n'a'#\nbottom:['x',#\n'y']}layer{name:'b'}",
    ] {
        let parsed = parse(text);
        if text.contains("'x' 'y'") {
            // Adjacent strings are one string, even inside a list.
            assert_eq!(parsed.unwrap().0.layer[0].bottom, ["xy"]);
        } else {
            assert_eq!(
                parsed.unwrap_or_else(|e| panic!("{text}: {e}")).0,
                expected,
                "{text}"
            );
        }
    }
    refused("layer { name: 'a'", (1, 18), "the end of the text");
    refused("layer { name: 'a' >", (1, 19), "'>'");
    refused("}", (1, 1), "'}'");
    refused("layer { bottom: ['a' ; 'b'] }", (1, 22), "';'");
    refused("layer { name: ['a'] }", (1, 15), "'['");
    refused("layer 3", (1, 7), "\"3\"");
    refused("name 'a'", (1, 6), "\":\" and a value");
    refused("name: 'a',, name", (1, 11), "','");
    refused("name: 'a' @", (1, 11), "'@'");
    refused("name: 'a' \u{7}", (1, 11), "the byte 0x07");
}

#[test]
fn positions_count_characters_and_lines() {
    refused("# größe\r\nname: 'é' 5", (2, 11), "\"5\"");
    refused("\t\tname: 'é'\n\n  name: 'b'", (3, 3), "a second time");
}

#[test]
fn a_single_field_given_twice_names_the_first() {
    let error = refused(
        "layer {\n  pooling_param { stride: 1 }\n  pooling_param { stride: 2 }\n}",
        (3, 3),
        "pooling_param a second time",
    );
    assert_eq!(
        error.expected.as_deref(),
        Some("one, as on line 2, column 3")
    );
    assert_eq!(error.field.as_deref(), Some("layer.pooling_param"));
}

#[test]
fn unknown_fields_are_warnings() {
    let text = "name: 'n'\nlayer {\n  new_param { a: 1 b { c: [1, 'x', {d: -inf}] } e < f: G > }\n  x: -1.5e3\n  y: \"a\" 'b'\n  z: []\n  name: 'l'\n}";
    let (net, warnings) = parse(text).unwrap();
    assert_eq!((net.name(), net.layer[0].name()), ("n", "l"));
    let lines: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "net.prototxt:3:3: unknown field \"new_param\" of LayerParameter",
            "net.prototxt:4:3: unknown field \"x\" of LayerParameter",
            "net.prototxt:5:3: unknown field \"y\" of LayerParameter",
            "net.prototxt:6:3: unknown field \"z\" of LayerParameter",
        ]
    );
    let text = "layer { param { lr_mul: 1 } param { lr_mul: 2 } pooling_param { Ceil_mod: true } }";
    let (net, warnings) = parse(text).unwrap();
    assert_eq!(
        warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "net.prototxt:1:17: unknown field \"lr_mul\" of ParamSpec, 2 times; the closest is \"lr_mult\"",
            "net.prototxt:1:65: unknown field \"Ceil_mod\" of PoolingParameter; the closest is \"ceil_mode\"",
        ]
    );
    let places = unknown::of_net(&net);
    let places: Vec<&str> = places.iter().map(|place| place.path.as_str()).collect();
    assert_eq!(
        places,
        [
            "layer[0].param[0]",
            "layer[0].param[1]",
            "layer[0].pooling_param"
        ]
    );
    refused("layer { new_param 3 }", (1, 19), "\"3\"");
    refused("layer { new_param: , }", (1, 20), "','");
}

#[test]
fn nesting_is_limited() {
    for open in ["a {", "a: [<"] {
        let error = parse(&open.repeat(100_000)).unwrap_err();
        assert!(error.found.contains("deep"), "{error}");
    }
}

#[test]
fn many_small_messages_are_refused() {
    let error = parse(&"layer{}".repeat(400_000)).unwrap_err();
    assert!(error.found.contains("memory"), "{error}");
}

#[test]
fn fields_of_both_forks_and_of_the_past() {
    let text = b"net: 'n' breadth_decay: 1 kernel_shape_decay: 2 block_group_decay: 3 \
        prune_threshold: 1e-4 measure_threshold: 1e-5 max_threshold_factor: 10 \
        winograd_sparsity_factor: 1 winograd_adjust_threshold: 0 layer_wise_reduce: false \
        weights: 'a' weights: 'b'";
    let (solver, warnings) = text::solver(text).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(solver.weights, ["a", "b"]);
    assert_eq!(solver.layer_wise_reduce, Some(false));
    assert_eq!(solver.kernel_shape_decay(), 2.0);
    assert_eq!(solver.max_threshold_factor(), 10.0);
    let net = net(
        "layer { param { regularization_type: 'L1' block_group_lasso { xdimen: 9 } } \
        pooling_param { round_mode: FLOOR } swish_param { beta: 2 } clip_param { min: 0 max: 6 } \
        permute_param { order: [0, 2, 3, 1] } inner_product_param { gemm_mode: SPMDM \
        spmdm_transpose_out: false } batch_norm_param { use_weight_bias: false } \
        infogain_loss_param { axis: 2 } blobs { raw_data_type: FLOAT16 raw_data: '\\377\\000' } }",
    );
    let layer = &net.layer[0];
    assert_eq!(layer.permute_param.as_ref().unwrap().order, [0, 2, 3, 1]);
    assert_eq!(layer.blobs[0].raw_data(), [255, 0]);
    assert_eq!(layer.blobs[0].raw_data_type(), Type::Float16);
}

#[test]
fn solver_and_net_definitions_are_told_apart() {
    assert!(text::is_solver(b"net: 'a.prototxt' base_lr: 0.1"));
    assert!(text::is_solver(
        b"debug_info: true net_param { name: 'layer' }"
    ));
    assert!(!text::is_solver(b"name: 'a' debug_info: true layer { }"));
    assert!(!text::is_solver(b"name: 'a' layers < name: 'b' >"));
    assert!(!text::is_solver(b"{ 5"));
}

/// Texts that are nearly right.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    const SEED: &[u8] =
        b"name: 'n' # c\ninput: \"d\" input_dim: [1, -3, 0x10]\nlayer { name: 'a\\n\\x41' \
        convolution_param < kernel_size: 3, stride: 1; weight_filler { std: 1e-4f } > phase: TEST \
        loss_weight: [.5, inf] unknown { a: [{b: -1}] } propagate_down: t }";
    prop::collection::vec((0..SEED.len(), any::<u8>()), 0..6).prop_map(|edits| {
        let mut text = SEED.to_vec();
        edits.into_iter().for_each(|(at, byte)| text[at] = byte);
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_text_panics(text in damaged()) {
        let _ = text::net(&text);
        let _ = text::solver(&text);
        text::is_solver(&text);
    }

    #[test]
    fn no_bytes_panic(text: Vec<u8>) {
        let _ = text::net(&text);
    }
}
