//! The text format of protocol buffers (prototxt), as Caffe files use it.
//!
//! The text is encoded field by field into the binary form, by way of the message tables, and that
//! is decoded: so there is one way from bytes to messages, and no code per message.

mod encode;
mod lexer;
mod literal;
mod print;

use super::binary;
use super::forms;
use super::limits::{MAX_TEXT_BYTES, TEXT_MEMORY};
use super::proto::{NetParameter, SolverParameter};
use super::schema::Message;
use super::schema_table::{NET_PARAMETER, SOLVER_PARAMETER};
use super::unknown;
use prost::Message as _;
use skimjit_models::Warning;
use skimjit_models::{Error, Result};

/// Parses a network definition, dropping the warnings.
pub fn parse_net(text: &str) -> Result<NetParameter> {
    Ok(net(text.as_bytes())?.0)
}

/// Parses a network definition. Comments may be in any encoding; names too, which is a warning.
pub fn net(text: &[u8]) -> Result<(NetParameter, Vec<Warning>)> {
    parse(text, NET_PARAMETER)
}

/// Parses a solver definition, the same way.
pub fn solver(text: &[u8]) -> Result<(SolverParameter, Vec<Warning>)> {
    parse(text, SOLVER_PARAMETER)
}

/// A network definition as text, without the fields that are unknown: see [`unknown::refuse_in_text`].
pub fn net_text(net: &NetParameter) -> String {
    print::print(&net.encode_to_vec(), NET_PARAMETER)
}

/// A solver definition as text.
pub fn solver_text(solver: &SolverParameter) -> String {
    print::print(&solver.encode_to_vec(), SOLVER_PARAMETER)
}

/// Whether a text is a solver definition rather than a network definition: its first top-level
/// field decides that only one of the two has.
pub fn is_solver(text: &[u8]) -> bool {
    encode::top_level_fields(text)
        .iter()
        .map(|name| (NET_PARAMETER.by_name(name), SOLVER_PARAMETER.by_name(name)))
        .find(|(net, solver)| net.is_some() != solver.is_some())
        .is_some_and(|(net, _)| net.is_none())
}

/// Whether a text is a network definition, as far as its top-level fields can be read.
pub fn is_network(text: &[u8]) -> bool {
    let layers = ["input", "layer", "layers"];
    let fields = encode::top_level_fields(text);
    fields.iter().any(|name| layers.contains(&name.as_str())) && !is_solver(text)
}

fn parse<M: prost::Message + Default>(
    text: &[u8],
    message: &'static Message,
) -> Result<(M, Vec<Warning>)> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(Error::new(format!("{} bytes of text", text.len()))
            .expected(format!("at most {MAX_TEXT_BYTES}")));
    }
    if text.contains(&0) {
        return Err(Error::new("a binary file")
            .expected("a text file (prototxt)")
            .hint("weights are given beside the prototxt, not instead of it"));
    }
    let encoded = encode::encode(text, message)?;
    let allowance = text.len() as u64 * TEXT_MEMORY;
    let message = binary::decode_text(&encoded.bytes, message, allowance)?;
    let mut warnings = unknown::warnings(&encoded.unknown);
    if let Some(&(line, column)) = encoded.odd_strings.first() {
        warnings.push(forms::warning(encoded.odd_strings.len()).position(line, column));
    }
    Ok((message, warnings))
}
