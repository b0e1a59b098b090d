//! Finished machine code before it becomes executable: plain bytes, so that it can be compared,
//! disassembled, counted and stored without a mapping.

/// Position-independent machine code with named entries.
///
/// Jumps and calls are relative and stay inside `bytes`, and so do addresses of constants: the code runs at any
/// address.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Code {
    /// The instructions, then constants.
    pub bytes: Vec<u8>,
    /// Bytes of the constants.
    pub constant_bytes: usize,
    /// Entry names and their byte offsets, in the order of emission.
    pub entries: Vec<(String, usize)>,
}

impl Code {
    /// The bytes without the constants.
    pub fn instructions(&self) -> &[u8] {
        &self.bytes[..self.end()]
    }

    /// The bytes of the constants.
    pub fn constants(&self) -> &[u8] {
        &self.bytes[self.end()..]
    }

    fn end(&self) -> usize {
        self.bytes.len().saturating_sub(self.constant_bytes)
    }

    /// Byte offset of the entry called `name`.
    pub fn entry_offset(&self, name: &str) -> Option<usize> {
        let mut entries = self.entries.iter();
        entries
            .find(|(entry, _)| entry == name)
            .map(|&(_, offset)| offset)
    }
}
