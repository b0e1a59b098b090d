//! Code and data of a program under construction.

use super::{Interface, MOST_BYTES, Program, Reference, Section, Symbol};
use crate::error;
use skimjit_jit::asm::{Gp, Mem, VectorAsm};
use skimjit_kernels::jit::Code;
use skimjit_runtime::PlanError;

/// Start of code and data of their own: a cache line.
const ALIGN: usize = 64;
/// `int3`: a jump into the gap between two codes traps.
const PADDING: u8 = 0xCC;

/// A place in a section.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    Text(usize),
    Data(usize),
}

/// Sections that grow, and references between them.
pub(super) struct Image {
    text: Vec<u8>,
    data: Vec<u8>,
    symbols: Vec<Symbol>,
    references: Vec<Reference>,
}

/// An assembler that refers to parts of an image.
pub(super) struct Emitter<A> {
    pub asm: A,
    references: Vec<(usize, Target)>,
}

impl<A: VectorAsm> Emitter<A> {
    pub fn new() -> Self {
        let (asm, references) = (A::new(), Vec::new());
        Self { asm, references }
    }
    /// `dst = address of target`.
    pub fn address(&mut self, dst: Gp, target: Target) {
        let at = self.asm.lea_outside(dst);
        self.references.push((at, target));
    }
    /// `dst = base + bytes`; clobbers `rax`.
    pub fn displaced(&mut self, dst: Gp, base: Gp, bytes: usize) {
        match i32::try_from(bytes) {
            Ok(bytes) => self.asm.lea(dst, Mem::new(base, bytes)),
            Err(_) => {
                self.asm.mov_imm(Gp::Rax, bytes as i64);
                self.asm.lea(dst, Mem::indexed(base, Gp::Rax, 1, 0));
            }
        }
    }
}

impl Image {
    pub fn new() -> Self {
        Self {
            text: Vec::new(),
            data: Vec::new(),
            symbols: Vec::new(),
            references: Vec::new(),
        }
    }

    /// Appends data under a name.
    pub fn add_data(&mut self, name: String, bytes: &[u8]) -> Target {
        let start = self.data.len().next_multiple_of(ALIGN);
        self.data.resize(start, 0);
        self.data.extend_from_slice(bytes);
        self.symbol(name, Section::Data, start, bytes.len(), false);
        Target::Data(start)
    }

    /// Appends the code of a kernel under a name.
    pub fn add_kernel(&mut self, name: String, bytes: &[u8]) -> Target {
        let start = self.add_bytes(bytes);
        self.symbol(name, Section::Text, start, bytes.len(), false);
        Target::Text(start)
    }

    /// Appends finished code; its entries become functions. Returns where each is.
    pub fn add_code<A: VectorAsm>(&mut self, emitter: Emitter<A>, public: bool) -> Vec<Target> {
        let code = emitter.asm.finish();
        let start = self.add_bytes(&code.bytes);
        for (at, target) in emitter.references {
            self.refer(start + at, target);
        }
        self.add_entries(&code, start, public)
    }

    fn add_entries(&mut self, code: &Code, start: usize, public: bool) -> Vec<Target> {
        let ends = code.entries.iter().skip(1).map(|&(_, offset)| offset);
        let ends: Vec<usize> = ends.chain([code.bytes.len()]).collect();
        let mut targets = Vec::with_capacity(ends.len());
        for ((name, offset), end) in code.entries.iter().zip(ends) {
            let at = start + offset;
            self.symbol(name.clone(), Section::Text, at, end - offset, public);
            targets.push(Target::Text(at));
        }
        targets
    }

    fn add_bytes(&mut self, bytes: &[u8]) -> usize {
        let start = self.text.len().next_multiple_of(ALIGN);
        self.text.resize(start, PADDING);
        self.text.extend_from_slice(bytes);
        start
    }

    /// Code before this is in place already; data may lie anywhere.
    fn refer(&mut self, at: usize, target: Target) {
        match target {
            Target::Data(to) => self.references.push(Reference { at, to }),
            Target::Text(to) => {
                // Beyond the limit of `finish`, distances do not matter any more.
                let distance = (to as i64 - (at as i64 + 4)) as i32;
                self.text[at..at + 4].copy_from_slice(&distance.to_le_bytes());
            }
        }
    }

    fn symbol(&mut self, name: String, section: Section, start: usize, len: usize, public: bool) {
        self.symbols.push(Symbol {
            name,
            section,
            start,
            len,
            public,
        });
    }

    /// What tells this program from others, as far as it is complete.
    pub fn identity(&self) -> u64 {
        use std::hash::Hasher;
        let mut hasher = skimjit_kernels::jit::SpecHasher::new();
        hasher.write(&self.text);
        hasher.write(&self.data);
        hasher.finish128().0 as u64
    }

    pub fn finish(self, interface: Interface) -> Result<Program, PlanError> {
        let bytes = self.text.len() + self.data.len();
        if bytes > MOST_BYTES {
            return Err(error::program_size(bytes, MOST_BYTES));
        }
        Ok(Program {
            text: self.text,
            data: self.data,
            symbols: self.symbols,
            references: self.references,
            interface,
        })
    }
}
