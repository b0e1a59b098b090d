//! EVEX encoding: all AVX-512 vector instructions (dynasm has none of them).
//!
//! Covers all 32 registers, opmasks with merging or zeroing, embedded broadcast, vector indices and
//! the compressed one-byte displacement.

use super::inst::{Inst, Rm};
use super::opcodes::{LANE, Opcode};

/// What the last prefix byte selects.
#[derive(Clone, Copy)]
pub(super) struct Mode {
    /// Opmask number; 0 means unmasked.
    pub mask: u8,
    /// Lanes outside the mask become zero instead of keeping their value.
    pub zeroing: bool,
    /// The memory operand is one `f32` for all lanes.
    pub broadcast: bool,
    /// Vector length: 0 for scalars, 2 for 512 bits.
    length: u8,
}

impl Mode {
    pub const PLAIN: Self = Self {
        mask: 0,
        zeroing: false,
        broadcast: false,
        length: 2,
    };
    pub const SCALAR: Self = Self {
        length: 0,
        ..Self::PLAIN
    };
    pub const BROADCAST: Self = Self {
        broadcast: true,
        ..Self::PLAIN
    };

    #[inline(always)]
    pub fn merge(mask: u8) -> Self {
        Self {
            mask,
            ..Self::PLAIN
        }
    }

    #[inline(always)]
    pub fn zero(mask: u8) -> Self {
        Self {
            mask,
            zeroing: true,
            ..Self::PLAIN
        }
    }
}

/// Bits of a register number that EVEX keeps apart.
#[inline(always)]
fn bit3(number: u8) -> u8 {
    number >> 3 & 1
}
#[inline(always)]
fn bit4(number: u8) -> u8 {
    number >> 4 & 1
}

/// Encodes `op reg, vvvv, rm`. An unused `vvvv` is 0.
#[inline(always)]
pub(super) fn encode(op: Opcode, mode: Mode, reg: u8, vvvv: u8, rm: &Rm) -> Inst {
    // A register operand borrows X for its fifth bit; an index has its fourth bit there.
    let (x, b) = match rm {
        Rm::Reg(rm) => (bit4(*rm), bit3(*rm)),
        Rm::Mem(address) => (bit3(address.index), bit3(address.base)),
    };
    finish(op, mode, reg, vvvv, rm, [x, b, bit4(vvvv)])
}

/// Encodes `op reg{mask}, [base + index·scale]` with a vector index, whose fifth bit is in V'.
#[inline(always)]
pub(super) fn encode_vsib(op: Opcode, mode: Mode, reg: u8, rm: &Rm) -> Inst {
    let Rm::Mem(address) = rm else {
        unreachable!("a vector index needs a memory operand")
    };
    let extension = [bit3(address.index), bit3(address.base), bit4(address.index)];
    finish(op, mode, reg, 0, rm, extension)
}

#[inline(always)]
fn finish(op: Opcode, mode: Mode, reg: u8, vvvv: u8, rm: &Rm, [x, b, v]: [u8; 3]) -> Inst {
    let mut inst = Inst::new();
    // All register extension bits are stored inverted.
    let not_rxb = (bit3(reg) << 7 | x << 6 | b << 5 | bit4(reg) << 4) ^ 0xF0;
    inst.push(0x62);
    inst.push(not_rxb | op.map as u8);
    inst.push((!vvvv & 15) << 3 | 0b100 | op.prefix as u8);
    inst.push(
        u8::from(mode.zeroing) << 7
            | mode.length << 5
            | u8::from(mode.broadcast) << 4
            | (v ^ 1) << 3
            | mode.mask,
    );
    inst.push(op.byte);
    let disp8_shift = if mode.broadcast { LANE } else { op.disp8_shift };
    inst.modrm(reg, rm, disp8_shift.into());
    inst
}
