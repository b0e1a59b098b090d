//! AVX-512 (F, BW, DQ, VL) back end: 32 `zmm` registers, lane masks in `k1..k7`.
//!
//! dynasm has no AVX-512: vector instructions come from [`super::evex`], opmask ones from
//! [`super::vex`]; only the general-purpose half is dynasm's.

use super::evex::{self, Mode};
use super::inst::{Address, Rm};
use super::opcodes::{self as op, Opcode};
use super::scalar::{Scalar, forward_to_scalar};
use super::vex::{self, Length};
use super::{Cond, Gp, Label, M, Mem, V, VectorAsm};
use crate::{Code, Isa};

/// `vrndscaleps`: no scaling, to nearest even whatever MXCSR says, no precision exception.
const ROUND_NEAREST_QUIET: u8 = 8;
/// Lane orders of the reductions: swap 256-bit halves, 128-bit quarters, 64-bit pairs, neighbours.
const SWAP_HALVES: u8 = 0x4E;
const SWAP_QUARTERS: u8 = 0xB1;
const SWAP_PAIRS: u8 = 0x4E;
const SWAP_NEIGHBOURS: u8 = 0xB1;
/// 128-bit quarters 0 and 2, or 1 and 3, of both operands.
const EVEN_QUARTERS: u8 = 0x88;
const ODD_QUARTERS: u8 = 0xDD;

/// Emits AVX-512 instructions.
pub struct Avx512Asm {
    scalar: Scalar,
}

/// Number of a `zmm` register.
#[inline(always)]
fn z(v: V) -> u8 {
    assert!(v.0 < Avx512Asm::VREGS, "{v:?} does not exist on AVX-512");
    v.0
}

/// Number of an opmask register; `k0` would mean "no mask".
#[inline(always)]
fn k(mask: M) -> u8 {
    assert!((1..=7).contains(&mask.0), "{mask:?} is not one of k1..k7");
    mask.0
}

impl Avx512Asm {
    /// `op reg, [mem]`.
    #[inline]
    fn mem2(&mut self, op: Opcode, mode: Mode, reg: V, mem: Mem) {
        let rm = Rm::Mem(Address::from(mem));
        self.scalar.put(evex::encode(op, mode, z(reg), 0, &rm));
    }

    /// `op reg, a, [mem]`.
    #[inline]
    fn mem3(&mut self, op: Opcode, mode: Mode, reg: V, a: V, mem: Mem) {
        let rm = Rm::Mem(Address::from(mem));
        self.scalar.put(evex::encode(op, mode, z(reg), z(a), &rm));
    }

    /// `op dst, a`.
    #[inline]
    fn reg2(&mut self, op: Opcode, dst: V, a: V) {
        self.scalar
            .put(evex::encode(op, Mode::PLAIN, z(dst), 0, &Rm::Reg(z(a))));
    }

    /// Shift by an immediate: the destination is in vvvv, the reg field extends the opcode.
    fn shift(&mut self, extension: u8, dst: V, a: V, bits: u8) {
        assert!(bits < 32, "shift by {bits} bits");
        let rm = Rm::Reg(z(a));
        let inst = evex::encode(op::VPSHIFTD_IMM, Mode::PLAIN, extension, z(dst), &rm);
        self.scalar.put(inst.imm8(bits));
    }

    /// `op dst, a, imm`.
    #[inline]
    fn reg2_imm(&mut self, op: Opcode, dst: V, a: V, imm: u8) {
        let inst = evex::encode(op, Mode::PLAIN, z(dst), 0, &Rm::Reg(z(a)));
        self.scalar.put(inst.imm8(imm));
    }

    /// `op dst, a, b`.
    #[inline]
    fn reg3(&mut self, op: Opcode, mode: Mode, dst: V, a: V, b: V) {
        self.scalar
            .put(evex::encode(op, mode, z(dst), z(a), &Rm::Reg(z(b))));
    }

    /// `op dst, a, b, imm`.
    #[inline]
    fn reg3_imm(&mut self, op: Opcode, mode: Mode, [dst, a, b]: [V; 3], imm: u8) {
        let inst = evex::encode(op, mode, z(dst), z(a), &Rm::Reg(z(b)));
        self.scalar.put(inst.imm8(imm));
    }

    fn align_lanes_in(&mut self, mode: Mode, [dst, hi, lo]: [V; 3], shift: u8) {
        assert!(usize::from(shift) < Self::LANES, "{shift} is not a lane");
        self.reg3_imm(op::VALIGND, mode, [dst, hi, lo], shift);
    }

    /// Folds the lanes of `src` by `combine`, halving the distance each time; all lanes of `dst` get
    /// the result.
    fn fold_lanes(&mut self, dst: V, src: V, tmp: V, combine: fn(&mut Self, V, V, V)) {
        assert!(
            tmp != dst && tmp != src,
            "the reduction needs {tmp:?} for itself"
        );
        self.reg3_imm(op::VSHUFF32X4, Mode::PLAIN, [tmp, src, src], SWAP_HALVES);
        combine(self, dst, src, tmp);
        self.reg3_imm(op::VSHUFF32X4, Mode::PLAIN, [tmp, dst, dst], SWAP_QUARTERS);
        combine(self, dst, dst, tmp);
        self.reg2_imm(op::VPERMILPS_IMM, tmp, dst, SWAP_PAIRS);
        combine(self, dst, dst, tmp);
        self.reg2_imm(op::VPERMILPS_IMM, tmp, dst, SWAP_NEIGHBOURS);
        combine(self, dst, dst, tmp);
    }
}

/// `fn name(dst, a, b)` = one three-register instruction.
macro_rules! three_registers {
    ($($name:ident = $opcode:ident;)*) => {
        $(
            #[inline]
            fn $name(&mut self, dst: V, a: V, b: V) {
                self.reg3(op::$opcode, Mode::PLAIN, dst, a, b);
            }
        )*
    };
}

impl VectorAsm for Avx512Asm {
    const ISA: Isa = Isa::Avx512;

    fn avx512(&mut self) -> Option<&mut Avx512Asm> {
        Some(self)
    }

    forward_to_scalar!();

    three_registers! {
        fma = VFMADD231PS;
        fnma = VFNMADD231PS;
        vadd = VADDPS;
        vsub = VSUBPS;
        vmul = VMULPS;
        vdiv = VDIVPS;
        vmax = VMAXPS;
        vmin = VMINPS;
        vand = VPANDD;
        add_i32 = VPADDD;
        sub_i32 = VPSUBD;
        permute = VPERMPS;
        unpack_low = VUNPCKLPS;
        unpack_high = VUNPCKHPS;
    }

    fn shuffle(&mut self, dst: V, a: V, b: V, lanes: u8) {
        self.reg3_imm(op::VSHUFPS, Mode::PLAIN, [dst, a, b], lanes);
    }
    fn select_in_quads(&mut self, dst: V, src: V, lanes: u8) {
        self.reg2_imm(op::VPERMILPS_IMM, dst, src, lanes);
    }
    fn even_parts(&mut self, dst: V, a: V, b: V) {
        self.reg3_imm(op::VSHUFF32X4, Mode::PLAIN, [dst, a, b], EVEN_QUARTERS);
    }
    fn odd_parts(&mut self, dst: V, a: V, b: V) {
        self.reg3_imm(op::VSHUFF32X4, Mode::PLAIN, [dst, a, b], ODD_QUARTERS);
    }

    fn zero(&mut self, dst: V) {
        self.reg3(op::VPXORD, Mode::PLAIN, dst, dst, dst);
    }
    #[inline]
    fn vmov(&mut self, dst: V, src: V) {
        self.reg2(op::VMOVAPS, dst, src);
    }
    #[inline]
    fn load(&mut self, dst: V, mem: Mem) {
        self.mem2(op::VMOVUPS_LOAD, Mode::PLAIN, dst, mem);
    }
    fn load_masked(&mut self, dst: V, mem: Mem, mask: M) {
        self.mem2(op::VMOVUPS_LOAD, Mode::zero(k(mask)), dst, mem);
    }
    #[inline]
    fn store(&mut self, mem: Mem, src: V) {
        self.mem2(op::VMOVUPS_STORE, Mode::PLAIN, src, mem);
    }
    fn store_masked(&mut self, mem: Mem, src: V, mask: M) {
        self.mem2(op::VMOVUPS_STORE, Mode::merge(k(mask)), src, mem);
    }
    fn store_lane0(&mut self, mem: Mem, src: V) {
        self.mem2(op::VMOVSS_STORE, Mode::SCALAR, src, mem);
    }
    fn load_lane0(&mut self, dst: V, mem: Mem) {
        self.mem2(op::VMOVSS_LOAD, Mode::SCALAR, dst, mem);
    }
    #[inline]
    fn broadcast(&mut self, dst: V, mem: Mem) {
        self.mem2(op::VBROADCASTSS, Mode::PLAIN, dst, mem);
    }
    fn broadcast_quad(&mut self, dst: V, mem: Mem) {
        self.mem2(op::VBROADCAST_QUAD, Mode::PLAIN, dst, mem);
    }
    fn broadcast_imm(&mut self, dst: V, value: f32, tmp: Gp) {
        self.broadcast_imm_i32(dst, value.to_bits() as i32, tmp);
    }
    fn broadcast_imm_i32(&mut self, dst: V, value: i32, tmp: Gp) {
        self.mov_imm(tmp, i64::from(value as u32));
        let rm = Rm::Reg(tmp as u8);
        self.scalar.put(evex::encode(
            op::VPBROADCASTD_GP,
            Mode::PLAIN,
            z(dst),
            0,
            &rm,
        ));
    }

    #[inline]
    fn fma_mem(&mut self, acc: V, a: V, mem: Mem) {
        self.mem3(op::VFMADD231PS, Mode::PLAIN, acc, a, mem);
    }
    #[inline]
    fn fma_then_mem(&mut self, x: V, a: V, mem: Mem) {
        self.mem3(op::VFMADD213PS, Mode::PLAIN, x, a, mem);
    }
    #[inline]
    fn fma_bcast(&mut self, acc: V, a: V, mem: Mem, _tmp: V) {
        self.mem3(op::VFMADD231PS, Mode::BROADCAST, acc, a, mem);
    }
    #[inline]
    fn vadd_mem(&mut self, dst: V, a: V, mem: Mem) {
        self.mem3(op::VADDPS, Mode::PLAIN, dst, a, mem);
    }
    #[inline]
    fn vmul_mem(&mut self, dst: V, a: V, mem: Mem) {
        self.mem3(op::VMULPS, Mode::PLAIN, dst, a, mem);
    }
    #[inline]
    fn vmax_mem(&mut self, dst: V, a: V, mem: Mem) {
        self.mem3(op::VMAXPS, Mode::PLAIN, dst, a, mem);
    }
    fn vsqrt(&mut self, dst: V, a: V) {
        self.reg2(op::VSQRTPS, dst, a);
    }
    fn vround(&mut self, dst: V, a: V) {
        self.reg2_imm(op::VRNDSCALEPS, dst, a, ROUND_NEAREST_QUIET);
    }
    fn cvt_i32(&mut self, dst: V, a: V) {
        self.reg2(op::VCVTPS2DQ, dst, a);
    }
    fn shl_i32(&mut self, dst: V, a: V, bits: u8) {
        self.shift(op::VPSLLD_IMM_EXT, dst, a, bits);
    }
    fn shr_i32(&mut self, dst: V, a: V, bits: u8) {
        self.shift(op::VPSRLD_IMM_EXT, dst, a, bits);
    }

    fn gather(&mut self, dst: V, base: Gp, idx: V, scale: u8, tmp: M) {
        let (dst, index, mask) = (z(dst), z(idx), k(tmp));
        assert!(
            dst != index,
            "vgatherdps needs two different registers, not {dst} twice"
        );
        self.scalar.put(vex::encode(
            op::KXNORW,
            Length::L1,
            mask,
            mask,
            &Rm::Reg(mask),
        ));
        let rm = Rm::Mem(Address::vsib(base, index, scale));
        self.scalar.put(evex::encode_vsib(
            op::VGATHERDPS,
            Mode::merge(mask),
            dst,
            &rm,
        ));
    }
    fn load_u8_i32(&mut self, dst: V, mem: Mem) {
        self.mem2(op::VPMOVZXBD, Mode::PLAIN, dst, mem);
    }
    fn load_u16_i32(&mut self, dst: V, mem: Mem) {
        self.mem2(op::VPMOVZXWD, Mode::PLAIN, dst, mem);
    }
    fn sum_lanes(&mut self, dst: V, src: V, tmp: V) {
        self.fold_lanes(dst, src, tmp, Self::vadd);
    }
    fn max_lanes(&mut self, dst: V, src: V, tmp: V) {
        self.fold_lanes(dst, src, tmp, Self::vmax);
    }
    fn broadcast_lane0(&mut self, dst: V, src: V) {
        self.reg2(op::VBROADCASTSS, dst, src);
    }
    fn splice(&mut self, dst: V, hi: V, lo: V, shift: u8, _tmp: V) {
        self.align_lanes_in(Mode::PLAIN, [dst, hi, lo], shift);
    }

    fn load_mask(&mut self, dst: M, mem: Mem) {
        let rm = Rm::Mem(Address::from(mem));
        self.scalar
            .put(vex::encode(op::KMOVW_LOAD, Length::L0, k(dst), 0, &rm));
    }
    fn mask_bytes(bits: u32) -> Vec<u8> {
        (bits as u16).to_le_bytes().to_vec()
    }
    fn vmask_zero(&mut self, dst: V, src: V, mask: M) {
        let inst = evex::encode(
            op::VMOVAPS,
            Mode::zero(k(mask)),
            z(dst),
            0,
            &Rm::Reg(z(src)),
        );
        self.scalar.put(inst);
    }
}

/// Instructions that only AVX-512 has.
impl Avx512Asm {
    /// `dst = (hi:lo) >> 32·shift`: lanes `lo[shift..]` followed by `hi[..shift]` (`valignd`).
    pub fn align_lanes(&mut self, dst: V, hi: V, lo: V, shift: u8) {
        self.align_lanes_in(Mode::PLAIN, [dst, hi, lo], shift);
    }
    /// The same; lanes outside `mask` become zero.
    pub fn align_lanes_masked(&mut self, dst: V, hi: V, lo: V, shift: u8, mask: M) {
        self.align_lanes_in(Mode::zero(k(mask)), [dst, hi, lo], shift);
    }
    /// `idx[i] = (idx[i] bit 4 ? hi : lo)[idx[i] & 15]` (`vpermi2ps`).
    pub fn permute2(&mut self, idx: V, lo: V, hi: V) {
        self.reg3(op::VPERMI2PS, Mode::PLAIN, idx, lo, hi);
    }
    /// Lanes whose `a & b` (`i32`) is not zero become the mask (`vptestmd`).
    pub fn test_mask(&mut self, dst: M, a: V, b: V) {
        let inst = evex::encode(op::VPTESTMD, Mode::PLAIN, k(dst), z(a), &Rm::Reg(z(b)));
        self.scalar.put(inst);
    }
    /// `dst[lane] = mask[lane] ? b[lane] : a[lane]` (`vblendmps`).
    pub fn blend(&mut self, dst: V, a: V, b: V, mask: M) {
        self.reg3(op::VBLENDMPS, Mode::merge(k(mask)), dst, a, b);
    }
}
