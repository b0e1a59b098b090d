//! How the format names what the graph's ops name in their own words.

use skimjit_models::Error;

/// Attributes by the words of the graph's ops.
const WORDS: [(&str, &str); 12] = [
    ("groups", "group"),
    ("kernel_h", "kernel_shape"),
    ("kernel_w", "kernel_shape"),
    ("stride_h", "strides"),
    ("stride_w", "strides"),
    ("pad_h", "pads"),
    ("pad_w", "pads"),
    ("dilation", "dilations"),
    ("outputs", "input[1]"),
    ("dims", "shape"),
    ("order", "perm"),
    ("range", "starts"),
];

/// An error of an op in the words of the format.
pub(super) fn spelled(mut error: Error) -> Error {
    let Some(field) = &error.field else {
        return error;
    };
    let word = WORDS.iter().find(|(word, _)| word == field);
    if let Some((_, format)) = word {
        error.field = Some((*format).to_owned());
    } else if let Some(rest) = field.strip_prefix("weights[") {
        // The first weight of an op is the operand behind the data.
        let (index, _) = rest.split_once(']').unwrap_or((rest, ""));
        if let Ok(index) = index.parse::<usize>() {
            error.field = Some(format!("input[{}]", index + 1));
        }
    }
    error
}
