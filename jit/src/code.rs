//! Finished machine code before it becomes executable: plain bytes, so that it can be compared,
//! disassembled, counted and stored without a mapping.

/// Position-independent machine code with named entries.
///
/// Jumps and calls are relative and stay inside `bytes`, so the code runs at any address.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Code {
    /// The instructions.
    pub bytes: Vec<u8>,
    /// Entry names and their byte offsets, in the order of emission.
    pub entries: Vec<(String, usize)>,
}

impl Code {
    /// Byte offset of the entry called `name`.
    pub fn entry_offset(&self, name: &str) -> Option<usize> {
        let mut entries = self.entries.iter();
        entries
            .find(|(entry, _)| entry == name)
            .map(|&(_, offset)| offset)
    }
}
