//! Encoded messages field by field, without decoding them, and what they become when some fields change.

use super::schema::{Field, Message, wire};

/// A field of an encoded message whose lengths are known to fit.
pub(super) struct Raw<'a> {
    pub number: u32,
    pub wire_type: u8,
    /// The value, without key and length.
    pub contents: &'a [u8],
    /// Key, length and value.
    pub all: &'a [u8],
    /// Length and value.
    value: &'a [u8],
}

impl<'a> Raw<'a> {
    /// The first field of `bytes`, which then begin behind it.
    pub fn next(bytes: &mut &'a [u8]) -> Option<Self> {
        let whole = *bytes;
        let mut rest = whole;
        let key = varint(&mut rest)?;
        let wire_type = (key & 7) as u8;
        let value = rest;
        let contents = match wire_type {
            wire::VARINT => {
                let start = rest;
                varint(&mut rest)?;
                start.get(..start.len() - rest.len())?
            }
            wire::FIXED64 => take(&mut rest, 8)?,
            wire::FIXED32 => take(&mut rest, 4)?,
            wire::LENGTH => {
                let length = varint(&mut rest)?;
                take(&mut rest, length)?
            }
            _ => return None,
        };
        let all = whole.get(..whole.len() - rest.len())?;
        *bytes = rest;
        Some(Self {
            number: u32::try_from(key >> 3).ok()?,
            wire_type,
            contents,
            all,
            value: value.get(..value.len() - rest.len())?,
        })
    }

    /// The field of the tables that it is, and its index there. One of another wire type is of another
    /// fork, which uses the number for something else.
    pub fn known(&self, message: &'static Message) -> Option<(usize, &'static Field)> {
        let index = message
            .fields
            .iter()
            .position(|field| field.number == self.number)?;
        let field = message.fields.get(index)?;
        field.takes(self.wire_type).then_some((index, field))
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    prost::encoding::decode_varint(bytes).ok()
}

fn take<'a>(bytes: &mut &'a [u8], count: u64) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(usize::try_from(count).ok()?)?;
    *bytes = rest;
    Some(taken)
}

/// A field with a length.
pub(super) fn put(out: &mut Vec<u8>, number: u32, contents: &[u8]) {
    let key = u64::from(number) << 3 | u64::from(wire::LENGTH);
    prost::encoding::encode_varint(key, out);
    prost::encoding::encode_varint(contents.len() as u64, out);
    out.extend_from_slice(contents);
}

/// A field under another number.
pub(super) fn put_as(out: &mut Vec<u8>, number: u32, raw: &Raw<'_>) {
    let key = u64::from(number) << 3 | u64::from(raw.wire_type);
    prost::encoding::encode_varint(key, out);
    out.extend_from_slice(raw.value);
}

/// A message of which some fields become others; nothing is copied before the first of them.
pub(super) struct Rewriting<'a> {
    bytes: &'a [u8],
    /// What it becomes; `None`: it stays as it is.
    pub out: Option<Vec<u8>>,
}

impl<'a> Rewriting<'a> {
    pub fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, out: None }
    }

    /// What is written, begun with all that is before `rest`, less one field.
    pub fn changed(&mut self, rest: &[u8], raw: &Raw<'_>) -> &mut Vec<u8> {
        let done = self.bytes.len() - rest.len() - raw.all.len();
        let bytes = self.bytes;
        self.out
            .get_or_insert_with(|| bytes.get(..done).unwrap_or_default().to_vec())
    }

    pub fn unchanged(&mut self, raw: &Raw<'_>) {
        if let Some(out) = &mut self.out {
            out.extend_from_slice(raw.all);
        }
    }
}
