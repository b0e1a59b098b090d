//! The messages as tables: what the text parser and the binary check need to know of them.

use super::schema_table::{ENUMS, MESSAGES};

/// Element type of a field, spelled as in proto files.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Varint, sign-extended to 64 bits.
    int32,
    /// Varint.
    int64,
    /// Varint.
    uint32,
    /// Varint.
    bool,
    /// Four bytes.
    float,
    /// Eight bytes.
    double,
    /// UTF-8, once the bytes of files are in this program's form.
    string,
    /// Any bytes.
    bytes,
    /// Index into [`ENUMS`].
    Enum(usize),
    /// Index into [`MESSAGES`].
    Message(usize),
}

/// One field of a message.
#[derive(Debug)]
pub struct Field {
    pub name: &'static str,
    pub number: u32,
    pub kind: Kind,
    /// Packed and unpacked elements are both read, whichever is written.
    pub repeated: bool,
    /// Value where the file says none, as text; `None`: the type's zero, or no value at all.
    pub default: Option<&'static str>,
}

/// One message type.
#[derive(Debug)]
pub struct Message {
    pub name: &'static str,
    /// Bytes of the decoded struct itself.
    pub size: usize,
    pub fields: &'static [Field],
}

/// One enum type.
#[derive(Debug)]
pub struct Enum {
    pub name: &'static str,
    pub values: &'static [(&'static str, i32)],
}

/// Names of other forks for values, all of which are hints about the implementation: enum name,
/// value name, value that stands for it.
const VALUE_ALIASES: [(&str, &str, &str); 5] = [
    // wenwei202/caffe, and SkimCaffe before December 2016.
    ("ConvMode", "LOWERED_CSRMM", "DIRECT_SCONV"),
    // As SkimCaffe's own README spells them.
    (
        "ConnectivityMode",
        "DISCONNECT_ELTWISE",
        "DISCONNECTED_ELTWISE",
    ),
    (
        "ConnectivityMode",
        "DISCONNECT_GRPWISE",
        "DISCONNECTED_GRPWISE",
    ),
    // Intel Caffe.
    ("Engine", "MKL2017", "DEFAULT"),
    ("Engine", "MKLDNN", "DEFAULT"),
];

/// What is added to the number of a field where another fork's field has the number.
const RENUMBERED: u32 = 2000;

impl Field {
    pub const fn one(name: &'static str, number: u32, kind: Kind) -> Self {
        Self {
            name,
            number,
            kind,
            repeated: false,
            default: None,
        }
    }
    pub const fn many(name: &'static str, number: u32, kind: Kind) -> Self {
        Self {
            name,
            number,
            kind,
            repeated: true,
            default: None,
        }
    }
    /// Its number in files, where wire types tell it from another fork's.
    pub fn file_number(&self) -> u32 {
        match self.number.checked_sub(RENUMBERED) {
            Some(number) => number,
            None => self.number,
        }
    }
    /// Whether values of that wire type are this field's; packed lists are taken too.
    pub fn takes(&self, wire_type: u8) -> bool {
        self.is_packed(wire_type) || wire_type == self.kind.wire_type()
    }
    /// Whether a value of that wire type is a packed list.
    pub fn is_packed(&self, wire_type: u8) -> bool {
        self.repeated && self.kind.is_numeric() && wire_type == wire::LENGTH
    }
    pub const fn or(self, default: &'static str) -> Self {
        Self {
            default: Some(default),
            ..self
        }
    }
}

impl Message {
    pub fn get(index: usize) -> &'static Self {
        &MESSAGES[index]
    }
    pub fn by_name(&self, name: &str) -> Option<(usize, &'static Field)> {
        self.fields
            .iter()
            .enumerate()
            .find(|(_, field)| field.name == name)
    }
    /// The field that a file's number and wire type are, and its index. One of another wire type is of
    /// another fork, which uses the number for something else.
    pub fn in_file(&self, number: u32, wire_type: u8) -> Option<(usize, &'static Field)> {
        let is =
            |(_, field): &(usize, &Field)| field.file_number() == number && field.takes(wire_type);
        self.fields.iter().enumerate().find(is)
    }
    pub fn by_number(&self, number: u32) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.number == number)
    }
}

impl Enum {
    pub fn get(index: usize) -> &'static Self {
        &ENUMS[index]
    }
    /// Number of a value or of what it is an alias of.
    pub fn number(&self, name: &str) -> Option<i32> {
        let alias = VALUE_ALIASES
            .iter()
            .find(|(of, alias, _)| *of == self.name && *alias == name);
        let name = alias.map_or(name, |(_, _, value)| value);
        self.values
            .iter()
            .find(|(value, _)| *value == name)
            .map(|(_, number)| *number)
    }
    pub fn has(&self, number: i32) -> bool {
        self.values.iter().any(|(_, value)| *value == number)
    }
}

/// Wire types of the encoding.
pub mod wire {
    pub const VARINT: u8 = 0;
    pub const FIXED64: u8 = 1;
    pub const LENGTH: u8 = 2;
    pub const FIXED32: u8 = 5;
}

impl Kind {
    /// Wire type of one element.
    pub fn wire_type(self) -> u8 {
        match self {
            Self::int32 | Self::int64 | Self::uint32 | Self::bool | Self::Enum(_) => wire::VARINT,
            Self::float => wire::FIXED32,
            Self::double => wire::FIXED64,
            Self::string | Self::bytes | Self::Message(_) => wire::LENGTH,
        }
    }
    /// Bytes of one decoded element of a numeric type.
    pub fn element_size(self) -> u64 {
        match self {
            Self::bool => 1,
            Self::int32 | Self::uint32 | Self::float | Self::Enum(_) => 4,
            Self::int64 | Self::double => 8,
            Self::string | Self::bytes | Self::Message(_) => 0,
        }
    }
    /// True for types that may be packed.
    pub fn is_numeric(self) -> bool {
        self.wire_type() != wire::LENGTH
    }
}
