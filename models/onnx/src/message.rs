//! What the tables of the format say of its messages.

/// What the tables say of a message.
pub(super) struct Message {
    pub name: &'static str,
    /// Bytes of the decoded struct.
    pub size: usize,
    pub fields: &'static [Field],
}

/// What the tables say of a field.
pub(super) struct Field {
    pub number: u64,
    pub kind: Kind,
}

/// How a field is encoded.
pub(super) enum Kind {
    /// One of [`MESSAGES`].
    Message(usize),
    Bytes,
    ManyBytes,
    Varint,
    Fixed32,
    /// Integers of so many bytes when decoded, packed or one by one.
    Varints(u64),
    /// Floats of so many bytes, packed or one by one.
    Numbers(u64),
}

pub(super) const VARINT: u64 = 0;
pub(super) const FIXED64: u64 = 1;
pub(super) const LENGTH: u64 = 2;
pub(super) const FIXED32: u64 = 5;

impl Kind {
    pub(super) fn takes(&self, wire_type: u64) -> bool {
        match self {
            Self::Message(_) | Self::Bytes | Self::ManyBytes => wire_type == LENGTH,
            Self::Varint => wire_type == VARINT,
            Self::Fixed32 => wire_type == FIXED32,
            Self::Varints(_) => matches!(wire_type, VARINT | LENGTH),
            Self::Numbers(4) => matches!(wire_type, FIXED32 | LENGTH),
            Self::Numbers(_) => matches!(wire_type, FIXED64 | LENGTH),
        }
    }
}
