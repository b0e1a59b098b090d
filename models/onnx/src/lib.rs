//! ONNX files: how a model becomes a [`skimjit_models::Graph`], and a graph a model.
//!
//! Weights may be in the file or beside it, dense or by their non-zeros, which stay what they are. Constants and
//! shapes are computed at import; the batch stays open. What is not understood is refused: operators and attributes
//! with all nodes that have them, fields of messages by their numbers.
#![forbid(unsafe_code)]

mod constant;
mod element;
mod export;
mod external;
mod import;
mod message;
mod model;
#[rustfmt::skip]
#[allow(missing_docs, clippy::doc_markdown, clippy::enum_variant_names)]
pub mod proto;
#[rustfmt::skip]
mod schema;
mod supported;
mod tensor;
mod wire;

pub use export::{ExportOptions, Written, model as exported, write};
pub use import::{ImportOptions, Refused, import, refused};
pub use model::Model;
pub use supported::supported_markdown;

/// Whether a file that starts so is an ONNX model: it has a version of the format, a number, and a graph or versions
/// of operators, messages.
pub fn is_model(start: &[u8]) -> bool {
    let has = |number, kind| wire::keys(start).any(|key| key == (number, kind));
    has(1, message::VARINT) && (has(7, message::LENGTH) || has(8, message::LENGTH))
}
