//! What files say in another form than the messages of this program: strings that are not UTF-8, which
//! Caffe never asks for, and fields under numbers that two forks use.
//!
//! A string that is not UTF-8 is kept byte by byte ([`octets`]), the same in a text and in a binary file,
//! so that names match, and a file that is written back has its bytes.

use super::proto::{LayerParameter, NetParameter, V1LayerParameter};
use super::rewrite::{Raw, Rewriting, put, put_as};
use super::schema::{Field, Kind, Message};
use skimjit_host::octets;
use skimjit_models::Warning;

/// A message of a file as this program decodes it. `None`: as it is.
pub(super) fn from_file(bytes: &[u8], message: &'static Message) -> Option<Vec<u8>> {
    convert(bytes, message, Form::Own)
}

/// A message that this program encoded as files have it. `None`: as it is.
pub(super) fn to_file(bytes: &[u8], message: &'static Message) -> Option<Vec<u8>> {
    convert(bytes, message, Form::File)
}

/// What a message becomes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    File,
    Own,
}

impl Form {
    fn field(self, message: &'static Message, raw: &Raw<'_>) -> Option<&'static Field> {
        let known = match self {
            Self::Own => message.in_file(raw.number, raw.wire_type),
            Self::File => raw.known(message),
        };
        known.map(|(_, field)| field)
    }

    fn number(self, field: &Field) -> u32 {
        match self {
            Self::Own => field.number,
            Self::File => field.file_number(),
        }
    }

    fn string(self, contents: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Own if octets::are_text(contents) => None,
            Self::Own => Some(octets::text(contents).into_owned().into_bytes()),
            Self::File => {
                let text = std::str::from_utf8(contents).ok()?;
                octets::any_in(text).then(|| octets::bytes(text).into_owned())
            }
        }
    }
}

fn convert(bytes: &[u8], message: &'static Message, to: Form) -> Option<Vec<u8>> {
    let mut made = Rewriting::of(bytes);
    let mut rest = bytes;
    while let Some(raw) = Raw::next(&mut rest) {
        let Some(field) = to.field(message, &raw) else {
            made.unchanged(&raw);
            continue;
        };
        let number = to.number(field);
        let contents = match field.kind {
            Kind::Message(inner) => convert(raw.contents, Message::get(inner), to),
            Kind::string => to.string(raw.contents),
            _ => None,
        };
        match contents {
            Some(contents) => put(made.changed(rest, &raw), number, &contents),
            None if number != raw.number => put_as(made.changed(rest, &raw), number, &raw),
            None => made.unchanged(&raw),
        }
    }
    made.out
}

/// What is said of a file that has so many strings that are not UTF-8.
pub(super) fn warning(strings: usize) -> Warning {
    let (plural, whose) = match strings {
        1 => ("", "its"),
        _ => ("s", "their"),
    };
    Warning::new(format!(
        "{strings} string{plural} not in UTF-8: {whose} bytes are kept, and shown like \\xe9"
    ))
}

/// The same of weights, which are read without warnings: of names that are not UTF-8.
pub fn odd_names(net: &NetParameter) -> Option<Warning> {
    let today = net.layer.iter().map(LayerParameter::name);
    let names = today.chain(net.layers.iter().map(V1LayerParameter::name));
    let odd = names.filter(|name| octets::any_in(name)).count();
    (odd > 0).then(|| warning(odd))
}
