//! The fields of a binary message, without the ones inside them: enough to tell kinds of files apart.

use super::schema::wire;

/// Fields that are looked at: what tells files apart comes early, or often.
const MOST_FIELDS: usize = 1 << 14;

/// Numbers and wire types of a message's own fields, with the contents of the first of each kind.
#[derive(Debug, Default)]
pub(super) struct TopLevel<'a> {
    fields: Vec<(u32, u8, &'a [u8])>,
}

impl<'a> TopLevel<'a> {
    /// Fields of what may be a message; `None` when it cannot be one.
    pub fn of(bytes: &'a [u8]) -> Option<Self> {
        let mut fields = Vec::new();
        let mut rest = bytes;
        for _ in 0..MOST_FIELDS {
            if rest.is_empty() {
                break;
            }
            let key = varint(&mut rest)?;
            let (number, kind) = (u32::try_from(key >> 3).ok()?, (key & 7) as u8);
            let length = match kind {
                wire::VARINT => {
                    let before = rest;
                    varint(&mut rest)?;
                    rest = before;
                    before.iter().position(|byte| byte & 0x80 == 0)? + 1
                }
                wire::FIXED64 => 8,
                wire::FIXED32 => 4,
                wire::LENGTH => usize::try_from(varint(&mut rest)?).ok()?,
                _ => return None,
            };
            let contents;
            (contents, rest) = rest.split_at_checked(length)?;
            let known = |(n, k, _): &(u32, u8, &[u8])| (*n, *k) == (number, kind);
            if number == 0 {
                return None;
            }
            if !fields.iter().any(known) {
                fields.push((number, kind, contents));
            }
        }
        (!fields.is_empty()).then_some(Self { fields })
    }

    /// Whether the field is there as a number.
    pub fn has_number(&self, number: u32) -> bool {
        self.find(number, wire::VARINT).is_some()
    }

    /// Whether the field is there as a string, a message or a packed list.
    pub fn has_bytes(&self, number: u32) -> bool {
        self.find(number, wire::LENGTH).is_some()
    }

    /// Contents of the first such field.
    pub fn bytes(&self, number: u32) -> Option<&'a [u8]> {
        self.find(number, wire::LENGTH)
    }

    /// Whether no others are there.
    pub fn only(&self, numbers: &[u32]) -> bool {
        self.fields
            .iter()
            .all(|(number, _, _)| numbers.contains(number))
    }

    fn find(&self, number: u32, kind: u8) -> Option<&'a [u8]> {
        let found = |(n, k, _): &&(u32, u8, &'a [u8])| (*n, *k) == (number, kind);
        self.fields
            .iter()
            .find(found)
            .map(|(_, _, contents)| *contents)
    }
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}
