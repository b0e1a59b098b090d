//! How Caffe spells what the graph's ops call by their own names: `outputs` is
//! `convolution_param.num_output`, `input[0]` is `bottom[0]`.

use super::fields::{self, Part};
use skimjit_models::{Error, Op};

/// Attributes of ops whose fields have other names.
const FIELDS: [(&str, &str); 8] = [
    ("classes", "num_classes"),
    ("coefficients", "coeff"),
    ("dims", "shape"),
    ("groups", "group"),
    ("kernel", "kernel_size"),
    ("outputs", "num_output"),
    ("range", "slice_point"),
    ("size", "local_size"),
];

/// The same of fields that are in a message of their own.
const NESTED: [(&str, &str); 3] = [
    ("eta", "nms_param.eta"),
    ("nms_threshold", "nms_param.nms_threshold"),
    ("nms_top_k", "nms_param.top_k"),
];

/// An op's error as one of a layer with such parameters.
pub(super) fn spell(parts: &[Part], op: &Op, mut error: Error) -> Error {
    error.field = error.field.map(|field| field_of(parts, op, field));
    error.expected = error.expected.map(|text| text.replace("input[", "bottom["));
    error
}

fn field_of(parts: &[Part], op: &Op, field: String) -> String {
    if field == "inputs" {
        return "bottom".to_owned();
    }
    if let Some(rest) = field.strip_prefix("input[") {
        return format!("bottom[{rest}");
    }
    if let Some(rest) = field.strip_prefix("weights[") {
        return format!("blobs[{rest}");
    }
    let find = |table: &[(&str, &'static str)]| {
        let row = table.iter().find(|(own, _)| *own == field);
        row.map(|(_, caffe)| *caffe)
    };
    let nested = find(&NESTED);
    let name = nested.or(find(&FIELDS)).unwrap_or(&field);
    let (outer, _) = name.split_once('.').unwrap_or((name, ""));
    match fields::parameter_of(parts, op.name(), outer) {
        Some(parameter) => format!("{parameter}.{name}"),
        None => name.to_owned(),
    }
}
