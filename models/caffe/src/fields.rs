//! The parameters of layers as the message tables describe them, and those that a layer sets.

use super::proto::LayerParameter;
use super::schema::{Enum, Field, Kind, Message, wire};
use super::schema_table::MESSAGES;
use prost::Message as _;

/// A field that a layer sets in one of its parameter messages.
#[derive(Debug)]
pub struct Set {
    /// The message: `convolution_param`.
    pub parameter: &'static str,
    /// The field in it: `num_output`.
    pub field: &'static str,
    /// True when it says what the field's absence says.
    pub is_default: bool,
}

/// A field that a parameter message has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Described {
    /// Name.
    pub name: &'static str,
    /// `uint32`, `list of float`, the values of an enum, or the name of a message.
    pub kind: String,
    /// Value in its absence, empty when there is none.
    pub default: String,
}

/// What the end of the name of each parameter message is.
const SUFFIX: &str = "_param";

fn message_of_layers() -> &'static Message {
    let layer = MESSAGES
        .iter()
        .find(|message| message.name == "LayerParameter");
    layer.expect("a message of the tables")
}

/// Fields of the parameter messages that a layer sets, in the order of their numbers.
pub fn set_by(layer: &LayerParameter) -> Vec<Set> {
    let mut found = Vec::new();
    let bytes = layer.encode_to_vec();
    for (parameter, value) in values(&bytes, message_of_layers()) {
        let (Kind::Message(index), Value::Bytes(bytes)) = (parameter.kind, value) else {
            continue;
        };
        if !parameter.name.ends_with(SUFFIX) {
            continue;
        }
        found.extend(
            values(bytes, Message::get(index)).map(|(field, value)| Set {
                parameter: parameter.name,
                field: field.name,
                is_default: !field.repeated && is_default(field, &value),
            }),
        );
    }
    found
}

/// Fields of a parameter message (`convolution_param`); none when layers have no such message.
pub fn of_parameter(parameter: &str) -> Vec<Described> {
    match message_of_layers().by_name(parameter) {
        Some((_, field)) => match field.kind {
            Kind::Message(index) => Message::get(index).fields.iter().map(describe).collect(),
            _ => Vec::new(),
        },
        None => Vec::new(),
    }
}

fn describe(field: &Field) -> Described {
    let kind = match field.kind {
        Kind::Enum(index) => {
            let names: Vec<&str> = Enum::get(index)
                .values
                .iter()
                .map(|(name, _)| *name)
                .collect();
            names.join(", ")
        }
        Kind::Message(index) => Message::get(index).name.to_owned(),
        kind => format!("{kind:?}"),
    };
    Described {
        name: field.name,
        kind: if field.repeated {
            format!("list of {kind}")
        } else {
            kind
        },
        default: field.default.unwrap_or_default().to_owned(),
    }
}

/// An encoded value.
enum Value<'a> {
    Number(u64),
    Fixed32(u32),
    Fixed64(u64),
    Bytes(&'a [u8]),
}

/// Known fields of an encoded message that this crate has written itself.
fn values<'a>(
    mut bytes: &'a [u8],
    message: &'static Message,
) -> impl Iterator<Item = (&'static Field, Value<'a>)> {
    std::iter::from_fn(move || {
        loop {
            let key = varint(&mut bytes)?;
            let value = match (key & 7) as u8 {
                wire::VARINT => Value::Number(varint(&mut bytes)?),
                wire::FIXED32 => {
                    Value::Fixed32(u32::from_le_bytes(take(&mut bytes, 4)?.try_into().ok()?))
                }
                wire::FIXED64 => {
                    Value::Fixed64(u64::from_le_bytes(take(&mut bytes, 8)?.try_into().ok()?))
                }
                _ => {
                    let length = varint(&mut bytes)?;
                    Value::Bytes(take(&mut bytes, usize::try_from(length).ok()?)?)
                }
            };
            let number = u32::try_from(key >> 3).ok()?;
            if let Some(field) = message.by_number(number) {
                return Some((field, value));
            }
        }
    })
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    prost::encoding::decode_varint(bytes).ok()
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

/// Whether a value is the one that the tables give for its absence, or the type's zero.
fn is_default(field: &Field, value: &Value<'_>) -> bool {
    let number = |default: &str| default.parse::<f64>().unwrap_or(0.0);
    let default = field.default.unwrap_or_default();
    match (field.kind, value) {
        (Kind::Message(_), _) => false,
        (Kind::bool, Value::Number(x)) => (*x != 0) == (default == "true"),
        (Kind::Enum(index), Value::Number(x)) => {
            let of = Enum::get(index);
            let default = of
                .number(default)
                .or(of.values.first().map(|(_, number)| *number));
            default == Some(*x as i32)
        }
        // Exact: numbers of this size are settings, not identifiers.
        (_, Value::Number(x)) => *x as i64 as f64 == number(default),
        (_, Value::Fixed32(x)) => {
            f64::from(f32::from_bits(*x)) == f64::from(number(default) as f32)
        }
        (_, Value::Fixed64(x)) => f64::from_bits(*x) == number(default),
        (_, Value::Bytes(x)) => *x == default.as_bytes(),
    }
}
