//! Opcode table of the vector instructions, shared by the VEX and EVEX encoders: the two encodings
//! number maps, prefixes and opcodes alike, and every instruction here has W = 0.

use super::inst::{Map, Prefix};

/// One instruction form.
#[derive(Clone, Copy)]
pub(super) struct Opcode {
    pub map: Map,
    pub prefix: Prefix,
    pub byte: u8,
    /// log2 of the bytes a 512-bit form touches in memory: the unit of EVEX's one-byte displacement.
    pub disp8_shift: u8,
}

const fn op(map: Map, prefix: Prefix, byte: u8, disp8_shift: u8) -> Opcode {
    Opcode {
        map,
        prefix,
        byte,
        disp8_shift,
    }
}

/// Memory operand sizes of the 512-bit forms, as log2 bytes.
const FULL: u8 = 6;
const HALF: u8 = 5;
const QUARTER: u8 = 4;
/// One `f32`; also the unit of an embedded broadcast.
pub(super) const LANE: u8 = 2;

use Map::{M0F, M0F3A, M0F38};
use Prefix::{F3, None as NP, P66};

pub(super) const VMOVUPS_LOAD: Opcode = op(M0F, NP, 0x10, FULL);
pub(super) const VMOVUPS_STORE: Opcode = op(M0F, NP, 0x11, FULL);
pub(super) const VMOVAPS: Opcode = op(M0F, NP, 0x28, FULL);
pub(super) const VMOVSS_LOAD: Opcode = op(M0F, F3, 0x10, LANE);
pub(super) const VMOVSS_STORE: Opcode = op(M0F, F3, 0x11, LANE);
pub(super) const VBROADCASTSS: Opcode = op(M0F38, P66, 0x18, LANE);
pub(super) const VBROADCAST_QUAD: Opcode = op(M0F38, P66, 0x1A, QUARTER);
pub(super) const VPBROADCASTD_GP: Opcode = op(M0F38, P66, 0x7C, LANE);
pub(super) const VMASKMOVPS_LOAD: Opcode = op(M0F38, P66, 0x2C, FULL);
pub(super) const VMASKMOVPS_STORE: Opcode = op(M0F38, P66, 0x2E, FULL);

pub(super) const VFMADD213PS: Opcode = op(M0F38, P66, 0xA8, FULL);
pub(super) const VFMADD231PS: Opcode = op(M0F38, P66, 0xB8, FULL);
pub(super) const VFNMADD231PS: Opcode = op(M0F38, P66, 0xBC, FULL);
pub(super) const VADDPS: Opcode = op(M0F, NP, 0x58, FULL);
pub(super) const VMULPS: Opcode = op(M0F, NP, 0x59, FULL);
pub(super) const VSUBPS: Opcode = op(M0F, NP, 0x5C, FULL);
pub(super) const VMINPS: Opcode = op(M0F, NP, 0x5D, FULL);
pub(super) const VDIVPS: Opcode = op(M0F, NP, 0x5E, FULL);
pub(super) const VMAXPS: Opcode = op(M0F, NP, 0x5F, FULL);
pub(super) const VSQRTPS: Opcode = op(M0F, NP, 0x51, FULL);
pub(super) const VRNDSCALEPS: Opcode = op(M0F3A, P66, 0x08, FULL);
pub(super) const VCVTPS2DQ: Opcode = op(M0F, P66, 0x5B, FULL);

pub(super) const VPANDD: Opcode = op(M0F, P66, 0xDB, FULL);
pub(super) const VPXORD: Opcode = op(M0F, P66, 0xEF, FULL);
pub(super) const VPADDD: Opcode = op(M0F, P66, 0xFE, FULL);
pub(super) const VPSUBD: Opcode = op(M0F, P66, 0xFA, FULL);
/// Shift by an immediate; one of the following goes into the reg field.
pub(super) const VPSHIFTD_IMM: Opcode = op(M0F, P66, 0x72, FULL);
pub(super) const VPSLLD_IMM_EXT: u8 = 6;
pub(super) const VPSRLD_IMM_EXT: u8 = 2;

pub(super) const VUNPCKLPS: Opcode = op(M0F, NP, 0x14, FULL);
pub(super) const VUNPCKHPS: Opcode = op(M0F, NP, 0x15, FULL);
pub(super) const VSHUFPS: Opcode = op(M0F, NP, 0xC6, FULL);
pub(super) const VPERMPS: Opcode = op(M0F38, P66, 0x16, FULL);
pub(super) const VPERMI2PS: Opcode = op(M0F38, P66, 0x77, FULL);
pub(super) const VPALIGNR: Opcode = op(M0F3A, P66, 0x0F, FULL);
pub(super) const VALIGND: Opcode = op(M0F3A, P66, 0x03, FULL);
pub(super) const VSHUFF32X4: Opcode = op(M0F3A, P66, 0x23, FULL);
pub(super) const VPERMILPS_IMM: Opcode = op(M0F3A, P66, 0x04, FULL);
pub(super) const VBLENDMPS: Opcode = op(M0F38, P66, 0x65, FULL);
pub(super) const VGATHERDPS: Opcode = op(M0F38, P66, 0x92, LANE);
pub(super) const VPMOVZXBD: Opcode = op(M0F38, P66, 0x31, QUARTER);
pub(super) const VPMOVZXWD: Opcode = op(M0F38, P66, 0x33, HALF);

pub(super) const VPTESTMD: Opcode = op(M0F38, P66, 0x27, FULL);
/// Opmask instructions are VEX-encoded.
pub(super) const KMOVW_LOAD: Opcode = op(M0F, NP, 0x90, 1);
pub(super) const KXNORW: Opcode = op(M0F, NP, 0x46, 0);
