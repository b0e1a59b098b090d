//! One instruction under construction, and the ModRM/SIB/displacement bytes that every encoding
//! shares.
//!
//! dynasm picks the form of a memory operand at compile time; with registers and displacements
//! known only at run time it must always spend a SIB byte, a 3-byte VEX prefix and, unless told
//! otherwise, four displacement bytes. Baked kernels are limited by their code size, so memory
//! operands are encoded here, in the shortest form.

use super::{Gp, Mem};

/// Mandatory prefix, as VEX and EVEX number it.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Prefix {
    None = 0,
    P66 = 1,
    F3 = 2,
}

/// Opcode map, as VEX and EVEX number it.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Map {
    M0F = 1,
    M0F38 = 2,
    M0F3A = 3,
}

/// What the r/m field names.
#[derive(Clone, Copy)]
pub(super) enum Rm {
    Reg(u8),
    Mem(Address),
}

/// Number of "no index" in a SIB byte.
const NO_INDEX: u8 = Gp::Rsp as u8;

/// Memory operand in hardware numbers; the index may be a vector register (VSIB).
#[derive(Clone, Copy)]
pub(super) struct Address {
    pub base: u8,
    pub index: u8,
    scale_log2: u8,
    needs_sib: bool,
    disp: i32,
}

impl Address {
    /// `[base + index·scale]` with a vector index.
    #[inline]
    pub fn vsib(base: Gp, index: u8, scale: u8) -> Self {
        Self {
            base: base as u8,
            index,
            scale_log2: scale_log2(scale),
            needs_sib: true,
            disp: 0,
        }
    }
}

impl From<Mem> for Address {
    #[inline]
    fn from(mem: Mem) -> Self {
        let base = mem.base as u8;
        let (index, scale_log2, needs_sib) = match mem.index {
            // base & 7 == 4 (rsp, r12) in the r/m field means "a SIB byte follows".
            None => (NO_INDEX, 0, base & 7 == 4),
            Some((index, scale)) => {
                assert!(index != Gp::Rsp, "rsp cannot be an index register: {mem:?}");
                (index as u8, scale_log2(scale), true)
            }
        };
        Self {
            base,
            index,
            scale_log2,
            needs_sib,
            disp: mem.disp,
        }
    }
}

#[inline]
fn scale_log2(scale: u8) -> u8 {
    assert!(
        matches!(scale, 1 | 2 | 4 | 8),
        "scale {scale} is not 1, 2, 4 or 8"
    );
    scale.trailing_zeros() as u8
}

/// Longest instruction is 15 bytes; 16 lets an index be masked instead of checked.
const CAPACITY: usize = 16;

/// Bytes of one instruction.
#[derive(Clone, Copy)]
pub(super) struct Inst {
    bytes: [u8; CAPACITY],
    len: usize,
}

impl Inst {
    #[inline(always)]
    pub fn new() -> Self {
        Self {
            bytes: [0; CAPACITY],
            len: 0,
        }
    }

    #[inline(always)]
    pub fn push(&mut self, byte: u8) {
        self.bytes[self.len & (CAPACITY - 1)] = byte;
        self.len += 1;
    }

    #[inline(always)]
    pub fn extend(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.push(byte);
        }
    }

    /// Appends an immediate byte.
    #[inline(always)]
    pub fn imm8(mut self, imm: u8) -> Self {
        self.push(imm);
        self
    }

    #[inline(always)]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len.min(CAPACITY)]
    }

    /// ModRM and what follows it. `disp8_shift`: log2 of the unit of a one-byte displacement (EVEX
    /// counts it in memory operands, older encodings in bytes).
    #[inline(always)]
    pub fn modrm(&mut self, reg: u8, rm: &Rm, disp8_shift: u32) {
        match rm {
            Rm::Reg(rm) => self.push(0xC0 | (reg & 7) << 3 | rm & 7),
            Rm::Mem(address) => self.memory(reg, address, disp8_shift),
        }
    }

    #[inline(always)]
    fn memory(&mut self, reg: u8, address: &Address, disp8_shift: u32) {
        let disp = address.disp;
        let units = disp >> disp8_shift;
        let fits_disp8 = units << disp8_shift == disp && i8::try_from(units).is_ok();
        // base & 7 == 5 (rbp, r13) without a displacement means something else.
        let mode = match (disp, fits_disp8) {
            (0, _) if address.base & 7 != 5 => 0,
            (_, true) => 1,
            (_, false) => 2,
        };
        let rm = if address.needs_sib {
            4
        } else {
            address.base & 7
        };
        self.push(mode << 6 | (reg & 7) << 3 | rm);
        if address.needs_sib {
            self.push(address.scale_log2 << 6 | (address.index & 7) << 3 | address.base & 7);
        }
        match mode {
            0 => {}
            1 => self.push(units as u8),
            _ => self.extend(&disp.to_le_bytes()),
        }
    }

    /// Legacy-encoded instruction on a general-purpose register and memory; `opcode` is one byte, or
    /// two starting with 0F.
    #[inline(always)]
    pub fn legacy(wide: bool, opcode: &[u8], reg: u8, address: Address) -> Self {
        let mut inst = Self::new();
        let rex = u8::from(wide) << 3
            | (reg >> 3 & 1) << 2
            | (address.index >> 3 & 1) << 1
            | address.base >> 3 & 1;
        if rex != 0 {
            inst.push(0x40 | rex);
        }
        inst.extend(opcode);
        inst.memory(reg, &address, 0);
        inst
    }
}
