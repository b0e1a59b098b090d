//! The table of fields is true: fields that are honoured change what is imported, ignored ones do not,
//! and the others are refused.

mod import_support;

use import_support::with_input;
use skimjit_caffe::import::{FieldUse, ImportOptions, Use, fields_of, import, supported_types};
use skimjit_models::Op;
use skimjit_models::ops::BatchNorm;
use std::hash::{DefaultHasher, Hash, Hasher};

/// A layer that is accepted, for types that need more than one bottom and no parameters: dims of the
/// bottoms, tops, and each parameter message with its body.
type Base = (
    &'static [&'static str],
    &'static [(&'static str, &'static str)],
);

fn base(kind: &str) -> Base {
    const IMAGE: &[&str] = &["2 4 8 8"];
    const CONV: (&str, &str) = ("convolution_param", "num_output: 4 kernel_size: 3");
    const POOL: (&str, &str) = ("pooling_param", "kernel_size: 2 stride: 2");
    const IP: (&str, &str) = ("inner_product_param", "num_output: 4");
    match kind {
        "Accuracy" | "SoftmaxWithLoss" | "MultinomialLogisticLoss" => (&["2 3 4", "2 4"], &[]),
        "HingeLoss" => (&["2 3", "2"], &[]),
        "InfogainLoss" => (&["2 3", "2", "3 3"], &[]),
        "BatchReindex" => (&["2 3", "2"], &[]),
        "Scale" => (IMAGE, &[("scale_param", "bias_term: true")]),
        "Clip" => (IMAGE, &[("clip_param", "min: -1 max: 1")]),
        "Concat" | "EuclideanLoss" | "SigmoidCrossEntropyLoss" | "Eltwise" => {
            (&["2 4 8 8", "2 4 8 8"], &[])
        }
        "ContrastiveLoss" => (&["2 3", "2 3", "2"], &[]),
        "Convolution"
        | "ConvolutionDepthwise"
        | "Deconvolution"
        | "DepthwiseConvolution"
        | "MKLConvolution"
        | "Winograd"
        | "Im2col"
        | "ConvolutionReLU" => (IMAGE, &[CONV]),
        "ConvolutionReLUPool" | "ConvolutionReLUPoolLRN" => (IMAGE, &[CONV, POOL]),
        "Crop" => (&["2 4 8 8", "2 4 5 5"], &[]),
        "DetectionOutput" => (
            &["1 32", "1 32", "1 2 32"],
            &[(
                "detection_output_param",
                "num_classes: 4 nms_param { top_k: 5 } keep_top_k: 6",
            )],
        ),
        "DummyData" => (
            &[],
            &[("dummy_data_param", "num: 2 channels: 2 height: 3 width: 3")],
        ),
        "Embed" => (&["2 3"], &[("embed_param", "num_output: 4 input_dim: 5")]),
        "HDF5Output" => (&["2 3"], &[("hdf5_output_param", "file_name: 'x'")]),
        "InnerProduct" | "InnerProductReLUDropout" => (IMAGE, &[IP]),
        "Input" => (&[], &[("input_param", "shape { dim: 2 dim: 3 }")]),
        "LSTM" | "RNN" => (&["2 2 3", "2 2"], &[("recurrent_param", "num_output: 4")]),
        "MemoryData" => (
            &[],
            &[(
                "memory_data_param",
                "batch_size: 2 channels: 3 height: 4 width: 5",
            )],
        ),
        "MKLPooling" | "Pooling" | "ReLUPooling" => (IMAGE, &[POOL]),
        "Parameter" => (&[], &[("parameter_param", "shape { dim: 2 dim: 3 }")]),
        "PriorBox" => (
            &["2 4 8 8", "2 3 64 64"],
            &[("prior_box_param", "min_size: 9 aspect_ratio: 2")],
        ),
        "MKLBatchNorm" => (IMAGE, &[("batch_norm_param", "use_weight_bias: false")]),
        "Reshape" => (IMAGE, &[("reshape_param", "shape { dim: 0 dim: -1 }")]),
        "SPP" => (IMAGE, &[("spp_param", "pyramid_height: 2")]),
        "Tile" => (IMAGE, &[("tile_param", "tiles: 2")]),
        _ => (IMAGE, &[]),
    }
}

/// Values to try for a field.
fn probes(field: &FieldUse) -> Vec<String> {
    let kind = field.field.kind.trim_start_matches("list of ");
    let name = field.field.name;
    let text = |values: &[&str]| {
        values
            .iter()
            .map(|value| format!("{name}: {value}"))
            .collect()
    };
    match kind {
        "int32" | "int64" | "uint32" => text(&["0", "1", "2", "3", "4", "5", "9"]),
        "float" | "double" => text(&["0.25", "3", "-2", "1e-3"]),
        "bool" => text(&["true", "false"]),
        "string" => text(&["'a'", "'b'"]),
        "FillerParameter" => text(&["{ type: 'constant' value: 3 }"]),
        "BlobShape" => text(&["{ dim: 2 dim: 4 }", "{ dim: 2 dim: 4 dim: -1 }"]),
        "NonMaximumSuppressionParameter" => text(&["{ eta: 0.5 }", "{ top_k: 2 }"]),
        "SaveOutputParameter" => text(&["{ output_directory: 'x' }"]),
        values => text(&values.split(", ").collect::<Vec<_>>()),
    }
}

/// The network with one layer of that type and `extra` in its message `parameter`.
fn network(kind: &str, parameter: &str, extra: &str) -> String {
    let (bottoms, bodies) = base(kind);
    let mut layers = String::new();
    let mut names = String::new();
    for (index, dims) in bottoms.iter().enumerate() {
        if index > 0 {
            let input = with_input(dims, "").replace("'in'", &format!("'in{index}'"));
            layers.push_str(&input.replace("'data'", &format!("'data{index}'")));
        }
        names.push_str(&format!(
            "bottom: 'data{}' ",
            if index == 0 {
                String::new()
            } else {
                index.to_string()
            }
        ));
    }
    let mut body = String::new();
    for (message, text) in bodies {
        // A list in the base is replaced, not extended.
        let field = extra.split(':').next().unwrap_or_default();
        let kept = text.split_inclusive(' ').collect::<Vec<_>>().join("");
        let text = if *message == parameter && !extra.is_empty() {
            format!("{} {extra}", without(&kept, field))
        } else {
            kept
        };
        body.push_str(&format!("{message} {{ {text} }} "));
    }
    if !extra.is_empty() && !bodies.iter().any(|(message, _)| *message == parameter) {
        body.push_str(&format!("{parameter} {{ {extra} }}"));
    }
    let top = if kind == "HDF5Output" {
        ""
    } else {
        "top: 'out'"
    };
    layers.push_str(&format!(
        "layer {{ name: 'it' type: '{kind}' {names} {top} {body} }}"
    ));
    match bottoms.first() {
        Some(dims) => with_input(dims, &layers),
        None => layers,
    }
}

/// A body without the field of that name.
fn without(body: &str, field: &str) -> String {
    let Some(start) = body
        .find(&format!("{field}:"))
        .or_else(|| body.find(&format!("{field} {{")))
    else {
        return body.to_owned();
    };
    let rest = &body[start..];
    let end = match (rest.find('{'), rest.find(": ")) {
        (Some(brace), colon)
            if colon.is_none_or(|colon| brace < colon || rest[colon + 2..].starts_with('{')) =>
        {
            rest.find('}').map_or(rest.len(), |at| at + 1)
        }
        (_, Some(colon)) => rest[colon + 2..]
            .find(' ')
            .map_or(rest.len(), |at| colon + 2 + at),
        _ => rest.len(),
    };
    format!("{}{}", &body[..start], &rest[end..])
}

/// What is imported: everything but warnings.
fn outcome(text: &str) -> Result<(String, usize), String> {
    let options = ImportOptions {
        allow_missing_weights: true,
        ..ImportOptions::default()
    };
    let imported =
        import(import_support::net(text), vec![], &options).map_err(|error| error.to_string())?;
    let graph = imported.graph;
    let mut hash = DefaultHasher::new();
    for weight in &graph.weights {
        weight
            .data()
            .iter()
            .for_each(|x| x.to_bits().hash(&mut hash));
    }
    let shapes: Vec<_> = graph
        .values
        .iter()
        .map(|value| (&value.name, &value.shape))
        .collect();
    // Of what training does, an inference knows nothing.
    let ops = graph.nodes.iter().map(|node| match node.op.clone() {
        Op::BatchNorm(op) => Op::BatchNorm(BatchNorm {
            momentum: BatchNorm::MOMENTUM,
            ..op
        }),
        op => op,
    });
    let ops: Vec<Op> = ops.collect();
    let wiring: Vec<_> = graph
        .nodes
        .iter()
        .map(|node| (&node.name, &node.inputs, node.output))
        .collect();
    let described = format!("{ops:?} {wiring:?} {shapes:?} {:x}", hash.finish());
    Ok((described, imported.warnings.len()))
}

#[test]
fn every_field_does_what_the_table_says() {
    for kind in supported_types() {
        let fields = fields_of(kind);
        if fields.is_empty() {
            continue;
        }
        let plain = outcome(&network(kind, "", ""));
        // SoftmaxWithLoss and the like are accepted as they are; nothing else needs a parameter.
        let plain =
            plain.unwrap_or_else(|error| panic!("{kind}: {error}\n{}", network(kind, "", "")));
        // The matrix of an InfogainLoss is a file or, as here, a bottom; its file has tests of its own.
        let has_own_test = |field: &&FieldUse| field.field.name != "source";
        for field in fields.iter().filter(has_own_test) {
            let results: Vec<_> = probes(field)
                .into_iter()
                .map(|probe| (outcome(&network(kind, field.parameter, &probe)), probe))
                .collect();
            let what = format!(
                "{kind}: {}.{}: {:?}",
                field.parameter, field.field.name, field.usage
            );
            let same = |result: &Result<(String, usize), String>| {
                result.as_ref().is_ok_and(|(graph, _)| *graph == plain.0)
            };
            match field.usage {
                Use::Honoured => {
                    let counts = results.iter().any(|(result, _)| !same(result));
                    assert!(counts, "{what}: no value makes a difference: {results:?}");
                }
                Use::Ignored(_) => {
                    let changed = results.iter().find(|(result, _)| !same(result));
                    assert!(changed.is_none(), "{what}: {changed:?}");
                }
                Use::Refused => {
                    let default = &field.field.default;
                    let other = results
                        .iter()
                        .find(|(_, probe)| !probe.ends_with(&format!(": {default}")));
                    let refused = |error: &String| error.contains(field.field.name);
                    let ok = results
                        .iter()
                        .any(|(result, _)| result.as_ref().is_err_and(refused));
                    assert!(ok, "{what}: accepted: {other:?}");
                }
            }
        }
    }
}

#[test]
fn parameters_of_other_types_are_a_warning() {
    let text = network("ReLU", "lrn_param", "local_size: 3");
    let (_, warnings) = outcome(&text).unwrap();
    assert_eq!(warnings, 1);
    let imported = import_support::bare(&text).unwrap();
    assert!(
        imported.warnings[0]
            .text
            .contains("lrn_param has no effect on a ReLU layer")
    );
}

#[test]
fn fields_without_meaning_for_a_type_are_refused_unless_they_say_the_default() {
    let moving = |value: &str| outcome(&network("BatchNorm", "batch_norm_param", value));
    assert!(moving("bias_term: true").is_ok());
    let error = moving("bias_term: false").unwrap_err();
    assert!(
        error.contains("batch_norm_param.bias_term") && error.contains("SUPPORTED.md"),
        "{error}"
    );
}

/// Checklist 33, 34, 36: how SkimCaffe should compute a layer is no part of what it computes.
#[test]
fn implementation_hints_change_nothing() {
    let of =
        |kind: &str, parameter: &str, hint: &str| outcome(&network(kind, parameter, hint)).unwrap();
    let conv = of("Convolution", "", "");
    for mode in [
        "LOWERED_GEMM",
        "LOWERED_CCNMM",
        "LOWERED_CSRMM",
        "DIRECT_SCONV",
        "DIRECT_DCONV",
    ] {
        let hint = format!("conv_mode: {mode}");
        assert_eq!(
            of("Convolution", "convolution_param", &hint),
            conv,
            "{mode}"
        );
    }
    let inner = of("InnerProduct", "", "");
    for hint in [
        "gemm_mode: SPMDM",
        "gemm_mode: SPMDM spmdm_transpose_in: false",
        "gemm_mode: SPMDM spmdm_transpose_out: false",
        "gemm_mode: SPMDM spmdm_transpose_in: false spmdm_transpose_out: false",
        "gemm_mode: SPGEMM",
    ] {
        assert_eq!(
            of("InnerProduct", "inner_product_param", hint),
            inner,
            "{hint}"
        );
    }
}

/// Checklist 35: Intel's layer types are the plain ones.
#[test]
fn mkl_types_are_the_plain_ones() {
    for (mkl, plain) in [
        ("MKLConvolution", "Convolution"),
        ("MKLPooling", "Pooling"),
        ("MKLReLU", "ReLU"),
        ("MKLLRN", "LRN"),
    ] {
        assert_eq!(
            outcome(&network(mkl, "", "")),
            outcome(&network(plain, "", "")),
            "{mkl}"
        );
        assert_eq!(fields_of(mkl), fields_of(plain), "{mkl}");
    }
    let own = outcome(&network(
        "MKLBatchNorm",
        "batch_norm_param",
        "use_weight_bias: false",
    ));
    assert_eq!(own, outcome(&network("BatchNorm", "", "")));
}
