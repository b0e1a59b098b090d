//! From messages to text, guided by the message tables: what [`super::encode`] reads.

use super::super::schema::{Enum, Field, Kind, Message, wire};
use skimjit_host::octets;
use std::fmt::Write;

/// A message as text, two spaces per level. Fields that were never set are left out; numbers have as
/// many digits as are needed to read the same numbers back.
pub(super) fn print(bytes: &[u8], message: &'static Message) -> String {
    let mut text = String::new();
    fields(bytes, message, 0, &mut text);
    text
}

/// Reads the wire format of bytes that this program encoded: whatever does not fit ends the reading.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
    fn field(&mut self) -> Option<(u32, Value<'a>)> {
        let key = self.varint()?;
        let value = match (key & 7) as u8 {
            wire::VARINT => Value::Number(self.varint()?),
            wire::FIXED64 => Value::Bytes(self.take(8)?),
            wire::FIXED32 => Value::Bytes(self.take(4)?),
            wire::LENGTH => {
                let length = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            _ => return None,
        };
        Some((u32::try_from(key >> 3).ok()?, value))
    }
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn fields(bytes: &[u8], message: &'static Message, depth: usize, text: &mut String) {
    let mut reader = Reader(bytes);
    while let Some((number, value)) = reader.field() {
        let Some(field) = message.by_number(number) else {
            continue;
        };
        match value {
            Value::Number(number) => line(field, depth, &scalar(field.kind, number), text),
            Value::Bytes(bytes) => lengthy(field, bytes, depth, text),
        }
    }
}

/// A field that is not one number: text, a message, a number of fixed size, or several packed.
fn lengthy(field: &Field, bytes: &[u8], depth: usize, text: &mut String) {
    match field.kind {
        Kind::Message(index) => {
            indent(depth, text);
            // Writing to a String cannot fail, here and below.
            let _ = writeln!(text, "{} {{", field.name);
            fields(bytes, Message::get(index), depth + 1, text);
            indent(depth, text);
            text.push_str("}\n");
        }
        Kind::string => {
            let contents = String::from_utf8_lossy(bytes);
            line(field, depth, &quoted(&octets::bytes(&contents)), text);
        }
        Kind::bytes => line(field, depth, &quoted(bytes), text),
        Kind::float => {
            for four in bytes.as_chunks::<4>().0 {
                let number = f32::from_le_bytes(*four);
                line(
                    field,
                    depth,
                    &float(number.into(), &number.to_string()),
                    text,
                );
            }
        }
        Kind::double => {
            for eight in bytes.as_chunks::<8>().0 {
                let number = f64::from_le_bytes(*eight);
                line(field, depth, &float(number, &number.to_string()), text);
            }
        }
        kind => {
            let mut packed = Reader(bytes);
            while let Some(number) = packed.varint() {
                line(field, depth, &scalar(kind, number), text);
            }
        }
    }
}

fn indent(depth: usize, text: &mut String) {
    (0..depth).for_each(|_| text.push_str("  "));
}

fn line(field: &Field, depth: usize, value: &str, text: &mut String) {
    indent(depth, text);
    let _ = writeln!(text, "{}: {value}", field.name);
}

fn scalar(kind: Kind, number: u64) -> String {
    match kind {
        Kind::bool => (number != 0).to_string(),
        Kind::uint32 => number.to_string(),
        Kind::Enum(index) => {
            let number = number as i32;
            let named = Enum::get(index)
                .values
                .iter()
                .find(|(_, value)| *value == number);
            named.map_or(number.to_string(), |(name, _)| (*name).to_owned())
        }
        _ => (number as i64).to_string(),
    }
}

/// `shortest` for finite numbers; the format's own words for others.
fn float(number: f64, shortest: &str) -> String {
    match number {
        number if number.is_nan() => "nan".to_owned(),
        number if number == f64::INFINITY => "inf".to_owned(),
        number if number == f64::NEG_INFINITY => "-inf".to_owned(),
        number if number != 0.0 && !(1e-5..1e15).contains(&number.abs()) => exponent(shortest),
        _ => shortest.to_owned(),
    }
}

/// The same digits with an exponent.
fn exponent(shortest: &str) -> String {
    // Both kinds of numbers parse back from the shorter form, as it has the same digits.
    shortest
        .parse::<f64>()
        .map_or(shortest.to_owned(), |number| format!("{number:e}"))
}

fn quoted(bytes: &[u8]) -> String {
    let mut text = "\"".to_owned();
    for &byte in bytes {
        match byte {
            b'"' => text.push_str("\\\""),
            b'\\' => text.push_str("\\\\"),
            b'\n' => text.push_str("\\n"),
            b'\t' => text.push_str("\\t"),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => {
                let _ = write!(text, "\\{byte:03o}");
            }
        }
    }
    text + "\""
}

#[cfg(test)]
mod tests {
    use super::super::{net, net_text, solver, solver_text};

    #[test]
    fn text_reads_back_as_the_same_message() {
        let source = r#"
name: "a \"net\"\n\303\244"
layer { name: "c" type: "Convolution" bottom: "x" top: "c" phase: TEST
  param { lr_mult: 1e-10 decay_mult: -0.1 } loss_weight: [0.5, inf]
  convolution_param { num_output: 4294967295 kernel_size: 3 kernel_size: 5 bias_term: false
    engine: CAFFE weight_filler { type: "gaussian" std: 0.0123456789 sparse: -1 } } }
layer { name: "i" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 dim: -4 } } }
"#;
        let (first, _) = net(source.as_bytes()).unwrap();
        let text = net_text(&first);
        let (second, warnings) = net(text.as_bytes()).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        assert_eq!(first, second, "{text}");
        assert_eq!(net_text(&second), text);
        assert!(
            text.contains("lr_mult: 1e-10") && text.contains("engine: CAFFE"),
            "{text}"
        );
    }

    #[test]
    fn solvers_too() {
        let source =
            "net: \"a\" base_lr: 0.01 stepvalue: 10 stepvalue: 20 type: \"Adam\" solver_mode: CPU";
        let (first, _) = solver(source.as_bytes()).unwrap();
        let (second, _) = solver(solver_text(&first).as_bytes()).unwrap();
        assert_eq!(first, second);
    }
}
