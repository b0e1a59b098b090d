//! The operators in words: what `SUPPORTED.md` says.

use crate::import::table::ROWS;
use crate::model::OPSETS;

/// The operators as Markdown: what `SUPPORTED.md` must say.
pub fn supported_markdown() -> String {
    let mut text = format!(
        "# ONNX operators\n\nWritten by `SKIMJIT_BLESS=1 cargo test -p skimjit-onnx --test supported`; do not edit.\n\n\
         Of the domain `ai.onnx`, versions {} to {}, in all forms that these have (what became an operand in a newer \
         version is read as an attribute in an older one). *Known* is what initializers, constants and shapes give. \
         An attribute that is not in the list is refused.\n\n| Operator | Attributes | Limits |\n|---|---|---|\n",
        OPSETS.start(),
        OPSETS.end()
    );
    for row in ROWS {
        let attributes = row.attributes.replace(' ', ", ");
        text.push_str(&format!("| {} | {attributes} | {} |\n", row.op, row.limits));
    }
    text
}
