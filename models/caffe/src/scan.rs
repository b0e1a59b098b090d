//! A pass over binary messages before they are decoded: lengths fit, and decoding cannot take far
//! more memory than the file's size justifies.
//!
//! A message of two bytes can become a struct of hundreds, so a file of a few megabytes could ask
//! for gigabytes. Nesting needs no limit of its own: only messages that the tables know are entered,
//! and none of them contains itself.

use super::limits::BASE_MEMORY;
use super::proto::UnknownField;
use super::schema::{Field, Kind, Message, wire};
use super::unknown;
use skimjit_host::{memory, octets};
use skimjit_models::{Error, Result};

/// Bookkeeping of one heap allocation, and the unused part of the list that holds it.
const ALLOCATION: u64 = 32;

/// What holds unknown fields, beside their bytes.
const RECORD: u64 = size_of::<UnknownField>() as u64 + 2 * ALLOCATION;

/// What a message has that is not decoded as it is.
#[derive(Clone, Copy, Default)]
pub(super) struct Found {
    /// Some field is unknown.
    pub unknown: bool,
    /// Something has another form in this program: see [`super::forms`].
    pub foreign: bool,
}

/// Checks `bytes` as a message; what there is in it. `allowance` is the decoded size
/// that is fine beyond 64 MiB.
///
/// Where a field has another wire type than the tables say, another fork uses its number for
/// something else; as Caffe does, such a field is treated as unknown.
pub(super) fn scan(bytes: &[u8], message: &'static Message, allowance: u64) -> Result<Found> {
    let limit = BASE_MEMORY.saturating_add(allowance);
    let mut scan = Scan {
        memory: 0,
        limit,
        path: Vec::new(),
        found: Found::default(),
    };
    scan.message(bytes, 0, message)?;
    memory::check(scan.memory)?;
    Ok(scan.found)
}

struct Scan {
    memory: u64,
    limit: u64,
    /// Field names from the outermost message to the current one, each with its index.
    path: Vec<(&'static str, u32)>,
    found: Found,
}

/// A cursor over one message.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Offset of `bytes` in the file.
    base: usize,
}

impl Cursor<'_> {
    fn offset(&self) -> usize {
        self.base + self.at
    }

    fn varint(&mut self) -> std::result::Result<u64, String> {
        let start = self.offset();
        let mut value = 0;
        for shift in (0..70).step_by(7) {
            let Some(&byte) = self.bytes.get(self.at) else {
                return Err(format!(
                    "the end of the data inside a number at byte {start}"
                ));
            };
            self.at += 1;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(format!("a number of more than 64 bits at byte {start}"))
    }

    /// Moves on over `length` bytes and returns where they began.
    fn skip(&mut self, length: u64) -> std::result::Result<usize, String> {
        let start = self.at;
        let left = self.bytes.len() - start;
        match usize::try_from(length) {
            Ok(length) if length <= left => {
                self.at += length;
                Ok(start)
            }
            _ => Err(format!(
                "a length of {length} at byte {}, where {left} bytes are left",
                self.offset()
            )),
        }
    }
}

impl Scan {
    fn message(&mut self, bytes: &[u8], base: usize, message: &'static Message) -> Result<()> {
        let mut cursor = Cursor { bytes, at: 0, base };
        let mut counts = vec![0; message.fields.len()];
        let before = std::mem::take(&mut self.found.unknown);
        while cursor.at < cursor.bytes.len() {
            self.field(&mut cursor, message, &mut counts)?;
        }
        if self.found.unknown {
            self.add_memory(RECORD)?;
        }
        self.found.unknown |= before;
        Ok(())
    }

    fn field(
        &mut self,
        cursor: &mut Cursor<'_>,
        message: &'static Message,
        counts: &mut [u32],
    ) -> Result<()> {
        let key_start = cursor.at;
        let key = cursor.varint().map_err(|found| self.fault(found))?;
        let number = u32::try_from(key >> 3)
            .ok()
            .filter(|number| (1..1 << 29).contains(number));
        let Some(number) = number else {
            return Err(self.fault(format!(
                "field number {} at byte {}",
                key >> 3,
                cursor.offset()
            )));
        };
        let wire_type = (key & 7) as u8;
        let Some((index, field)) = message.in_file(number, wire_type) else {
            self.skip_value(cursor, wire_type)?;
            return self.note_unknown(number, cursor.at - key_start);
        };
        let index = counts.get_mut(index).map_or(0, |count| {
            *count += 1;
            *count - 1
        });
        self.found.foreign |= field.number != number;
        self.path.push((field.name, index));
        self.value(cursor, field, field.is_packed(wire_type))?;
        self.path.pop();
        Ok(())
    }

    /// Counts the memory of what is kept of an unknown field: those of a message in one record, which
    /// [`Scan::message`] counts, or in a record of its own, as the text parser has it.
    fn note_unknown(&mut self, number: u32, bytes: usize) -> Result<()> {
        let own = if number == unknown::NUMBER { RECORD } else { 0 };
        self.found.unknown = true;
        self.add_memory(bytes as u64 + own)
    }

    /// Checks the value of a known field.
    fn value(&mut self, cursor: &mut Cursor<'_>, field: &Field, packed: bool) -> Result<()> {
        let start = self.skip_value(
            cursor,
            if packed {
                wire::LENGTH
            } else {
                field.kind.wire_type()
            },
        )?;
        let base = cursor.base + start;
        let contents = cursor.bytes.get(start..cursor.at).unwrap_or_default();
        let length = contents.len() as u64;
        match field.kind {
            Kind::Message(inner) => {
                let inner = Message::get(inner);
                self.add_memory(inner.size as u64 + ALLOCATION)?;
                self.message(contents, base, inner)
            }
            Kind::string => {
                self.found.foreign |= !octets::are_text(contents);
                self.add_memory(octets::text(contents).len() as u64 + ALLOCATION)
            }
            Kind::bytes => self.add_memory(length + ALLOCATION),
            kind if !packed => self.add_memory(kind.element_size()),
            kind if kind.wire_type() == wire::VARINT => {
                let mut cursor = Cursor {
                    bytes: contents,
                    at: 0,
                    base,
                };
                let mut elements = 0;
                while cursor.at < cursor.bytes.len() {
                    cursor.varint().map_err(|found| self.fault(found))?;
                    elements += 1;
                }
                self.add_memory(elements * kind.element_size())
            }
            kind if length.is_multiple_of(kind.element_size()) => self.add_memory(length),
            kind => Err(self
                .fault(format!("{length} bytes at byte {base}"))
                .expected(format!("a multiple of {}", kind.element_size()))),
        }
    }

    /// Moves on over a value of any field; returns where its contents began.
    fn skip_value(&self, cursor: &mut Cursor<'_>, wire_type: u8) -> Result<usize> {
        let skipped = match wire_type {
            wire::VARINT => {
                let start = cursor.at;
                cursor.varint().map(|_| start)
            }
            wire::FIXED64 => cursor.skip(8),
            wire::LENGTH => cursor.varint().and_then(|length| cursor.skip(length)),
            wire::FIXED32 => cursor.skip(4),
            other => Err(format!("wire type {other} at byte {}", cursor.offset())),
        };
        skipped.map_err(|found| self.fault(found))
    }

    fn add_memory(&mut self, bytes: u64) -> Result<()> {
        self.memory = self.memory.saturating_add(bytes);
        if self.memory <= self.limit {
            return Ok(());
        }
        Err(self
            .fault("so many small messages that they take far more memory than the file")
            .expected(format!("at most {} MiB", self.limit >> 20))
            .hint("no program that saves networks writes such a file"))
    }

    fn fault(&self, found: impl Into<String>) -> Error {
        let names: Vec<String> = self
            .path
            .iter()
            .map(|(name, index)| format!("{name}[{index}]"))
            .collect();
        let error = Error::new(found).hint("the file is cut off, damaged, or of another format");
        if names.is_empty() {
            error
        } else {
            error.field(names.join("."))
        }
    }
}
