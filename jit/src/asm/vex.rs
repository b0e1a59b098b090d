//! VEX encoding: AVX2 memory forms and AVX-512 opmask instructions.

use super::inst::{Inst, Map, Rm};
use super::opcodes::Opcode;

/// The L bit.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(super) enum Length {
    /// 128 bits, scalars, and opmask moves.
    L0 = 0,
    /// 256 bits, and three-operand opmask instructions.
    L1 = 1,
}

/// Encodes `op reg, vvvv, rm` with the 2-byte prefix where it exists. An unused `vvvv` is 0.
#[inline(always)]
pub(super) fn encode(op: Opcode, length: Length, reg: u8, vvvv: u8, rm: &Rm) -> Inst {
    let (index, base) = match rm {
        Rm::Reg(rm) => (0, *rm),
        Rm::Mem(address) => (address.index, address.base),
    };
    let extends = |number: u8| number >> 3 & 1;
    // All register extension bits are stored inverted.
    let not_r = (extends(reg) ^ 1) << 7;
    let tail = (!vvvv & 15) << 3 | (length as u8) << 2 | op.prefix as u8;
    let mut inst = Inst::new();
    if op.map == Map::M0F && extends(index) | extends(base) == 0 {
        inst.push(0xC5);
        inst.push(not_r | tail);
    } else {
        inst.push(0xC4);
        inst.push(not_r | (extends(index) ^ 1) << 6 | (extends(base) ^ 1) << 5 | op.map as u8);
        inst.push(tail);
    }
    inst.push(op.byte);
    inst.modrm(reg, rm, 0);
    inst
}
