//! What is wrong with a kernel.

use std::fmt;

/// Which part of the contract a kernel breaks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// Code that is not on the list of instructions, or depends on what is not defined: nothing is
    /// known of what it does.
    Refused,
    /// Memory outside of the footprint, or memory that is not the kernel's to read or write.
    Access,
    /// The calling convention: registers of the caller, the stack, vector registers at the end; or
    /// code that does not end.
    Convention,
    /// A result that is missing or not the layer's.
    Value,
}

/// How a kernel differs from its layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which part of the contract.
    pub kind: Kind,
    /// The task that ran, if code was at fault.
    pub task: Option<u32>,
    /// Offset in the code.
    pub offset: Option<u64>,
    /// Bytes of the instruction there.
    pub bytes: Vec<u8>,
    /// The instruction there.
    pub instruction: String,
    /// What it does.
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(task), Some(offset)) = (self.task, self.offset) {
            write!(f, "task {task}, {offset:#x} (")?;
            for byte in &self.bytes {
                write!(f, "{byte:02x} ")?;
            }
            write!(f, "= {}): ", self.instruction)?;
        }
        f.write_str(&self.what)
    }
}

impl std::error::Error for Fault {}

impl Fault {
    /// Of the results, not of an instruction.
    pub(crate) fn of_results(what: String) -> Self {
        Self {
            kind: Kind::Value,
            task: None,
            offset: None,
            bytes: vec![],
            instruction: String::new(),
            what,
        }
    }
}

/// What an instruction does wrong.
#[derive(Debug)]
pub struct Wrong {
    pub kind: Kind,
    pub what: String,
}

impl Wrong {
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        let what = what.into();
        Self { kind, what }
    }

    pub fn refused(what: impl Into<String>) -> Self {
        Self::new(Kind::Refused, what)
    }

    pub fn access(what: impl Into<String>) -> Self {
        Self::new(Kind::Access, what)
    }

    pub fn convention(what: impl Into<String>) -> Self {
        Self::new(Kind::Convention, what)
    }
}
