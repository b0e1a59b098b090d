//! The layer types and their fields in words: what `SUPPORTED.md` says.

use super::fields::{Part, Use};
use super::table::{REFUSED, SUPPORTED, range};
use crate::fields::{self, Described};

/// The layer types as Markdown: what `SUPPORTED.md` must say.
pub fn supported_markdown() -> String {
    types() + &parameters()
}

/// Names of the layer types that are understood.
pub fn supported_types() -> impl Iterator<Item = &'static str> {
    SUPPORTED.iter().map(|row| row.name)
}

/// The tables as Markdown, for SUPPORTED.md.
fn types() -> String {
    let mut text = String::from(
        "# Layer types\n\nWritten by `SKIMJIT_BLESS=1 cargo test -p skimjit-caffe --test \
         import_table`; do not edit.\n\n## Supported\n\n| Type | Bottoms | Tops | Notes |\n\
         |---|---|---|---|\n",
    );
    for row in SUPPORTED {
        let (bottoms, tops) = (range(&row.bottoms), range(&row.tops));
        text.push_str(&format!(
            "| {} | {bottoms} | {tops} | {} |\n",
            row.name, row.note
        ));
    }
    text.push_str("\n## Known and refused\n\n| Type | Reason |\n|---|---|\n");
    for (name, reason) in REFUSED {
        text.push_str(&format!("| {name} | {reason} |\n"));
    }
    text
}

/// A field of a layer type.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FieldUse {
    /// Message it is in: `convolution_param`.
    pub parameter: &'static str,
    /// The field.
    pub field: Described,
    /// What happens to it.
    pub usage: Use,
}

/// Fields of a layer type's parameters.
pub fn of_type(kind: &str) -> Vec<FieldUse> {
    let of_part = |part: &'static Part| {
        let fields = fields::of_parameter(part.parameter).into_iter();
        fields.map(|field| FieldUse {
            parameter: part.parameter,
            usage: part.use_of(field.name),
            field,
        })
    };
    let row = SUPPORTED.iter().find(|row| row.name == kind);
    let parts = row.map_or(&[][..], |row| row.parts);
    parts.iter().flat_map(of_part).collect()
}

/// Layer types with parameters, those with the same fields together.
fn same_fields() -> Vec<(Vec<&'static str>, &'static [Part])> {
    let mut groups: Vec<(Vec<&str>, &[Part])> = Vec::new();
    for row in SUPPORTED.iter().filter(|row| !row.parts.is_empty()) {
        match groups.iter_mut().find(|(_, parts)| *parts == row.parts) {
            Some((kinds, _)) => kinds.push(row.name),
            None => groups.push((vec![row.name], row.parts)),
        }
    }
    groups
}

/// All fields of all types as Markdown, types with the same fields together.
fn parameters() -> String {
    let mut text = String::from(
        "\n## Parameters\n\nA field that is *refused* may be given with its default value only. \
         Parameters of other layer types are ignored with a warning. Fields of every layer: name, type, \
         bottom, top, blobs, include, exclude and param (name, share_mode) are honoured; loss_weight, \
         propagate_down, phase, connectivity_mode and the multipliers in param are for training and \
         ignored.\n\nA field that is not known at all, anywhere inside a layer that is used, is refused by \
         name and line: it may change what the layer means. `--ignore-unknown-fields` reads the layer \
         without it, with a warning. Unknown fields are warnings outside of layers and in layers that are \
         not used: those of the other phase, data layers that become inputs, losses that are dropped. In a \
         caffemodel that says its own topology the same goes by numbers; where a prototxt is given, the \
         definition inside a caffemodel does not count.\n\nNames may be in any encoding, as in Caffe. The bytes \
         of a string that is not UTF-8 are kept, so that names of a prototxt and a caffemodel match when their \
         bytes do, and files that are written have them; a terminal shows `\\xe9`, JSON and artifacts have \
         U+EF80 to U+EFFF for the bytes 0x80 to 0xFF. One warning for each file tells of them. Paths in a \
         prototxt have to be UTF-8, and names in HDF5 that is written.\n",
    );
    for (kinds, parts) in same_fields() {
        let rows = |part: &Part| -> String {
            let fields = fields::of_parameter(part.parameter);
            let row = |field: &Described| {
                let usage = match part.use_of(field.name) {
                    Use::Honoured => "honoured".to_owned(),
                    Use::Ignored(reason) => format!("ignored: {reason}"),
                    Use::Refused => "refused".to_owned(),
                };
                let (name, kind, default) = (field.name, &field.kind, &field.default);
                format!(
                    "| {}.{name} | {kind} | {default} | {usage} |\n",
                    part.parameter
                )
            };
            fields.iter().map(row).collect()
        };
        text.push_str(&format!(
            "\n### {}\n\n| Field | Type | Default | Use |\n|---|---|---|---|\n",
            kinds.join(", ")
        ));
        text.extend(parts.iter().map(rows));
    }
    text
}

/// Names that the tables have and layers do not: mistakes of this file.
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_exists() {
        for row in SUPPORTED {
            for part in row.parts {
                let known = fields::of_parameter(part.parameter);
                let ignored = part.ignored.iter().map(|(name, _)| name);
                for name in part.read.iter().chain(ignored) {
                    let found = known.iter().any(|field| field.name == *name);
                    assert!(found, "{}.{name}", part.parameter);
                }
            }
        }
    }
}
