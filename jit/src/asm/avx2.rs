//! AVX2 + FMA back end: 16 `ymm` registers, lane masks in vector registers.
//!
//! Register forms come from dynasm; memory forms from [`super::vex`], which finds shorter bytes (the
//! reason is in [`super::inst`]).

use dynasmrt::{DynasmApi, dynasm};

use super::inst::{Address, Rm};
use super::opcodes::{self as op, Opcode};
use super::scalar::{Scalar, forward_to_scalar, x64};
use super::vex::{self, Length};
use super::{Cond, Gp, Label, M, Mem, V, VectorAsm};
use crate::{Code, Isa};

/// `vroundps`: to nearest even whatever MXCSR says, and without a precision exception.
const ROUND_NEAREST_QUIET: i8 = 8;
/// `vperm2f128`: the first source's upper half, then the second's lower half.
const MIDDLE_HALVES: i8 = 0x21;
/// Lane orders of the reductions: swap the 128-bit halves, then 64-bit pairs, then neighbours.
const SWAP_HALVES: i8 = 0x01;
const SWAP_PAIRS: i8 = 0x4E;
const SWAP_NEIGHBOURS: i8 = 0xB1u8 as i8;
/// The low, or high, halves of both operands.
const LOW_HALVES: i8 = 0x20;
const HIGH_HALVES: i8 = 0x31;

/// Emits AVX2 and FMA instructions.
pub struct Avx2Asm {
    scalar: Scalar,
}

/// Number of a `ymm` register.
#[inline(always)]
fn y(v: V) -> u8 {
    assert!(v.0 < Avx2Asm::VREGS, "{v:?} does not exist on AVX2");
    v.0
}

/// Number of the `ymm` register that holds a mask.
#[inline(always)]
fn m(mask: M) -> u8 {
    y(V(mask.0))
}

impl Avx2Asm {
    /// `op reg, [mem]`.
    #[inline]
    fn mem2(&mut self, op: Opcode, reg: u8, mem: Mem) {
        self.mem3(op, reg, 0, mem);
    }

    /// `op reg, vvvv, [mem]`.
    #[inline]
    fn mem3(&mut self, op: Opcode, reg: u8, vvvv: u8, mem: Mem) {
        let rm = Rm::Mem(Address::from(mem));
        self.scalar.put(vex::encode(op, Length::L1, reg, vvvv, &rm));
    }

    /// Scalar `op reg, [mem]`.
    #[inline]
    fn lane0(&mut self, op: Opcode, reg: V, mem: Mem) {
        let rm = Rm::Mem(Address::from(mem));
        self.scalar.put(vex::encode(op, Length::L0, y(reg), 0, &rm));
    }

    /// Folds the lanes of `src` by `combine`, halving the distance each time; all lanes of `dst` get
    /// the result.
    fn fold_lanes(&mut self, dst: V, src: V, tmp: V, combine: fn(&mut Self, V, V, V)) {
        assert!(
            tmp != dst && tmp != src,
            "the reduction needs {tmp:?} for itself"
        );
        x64!(self.scalar, vperm2f128 Ry(y(tmp)), Ry(y(src)), Ry(y(src)), SWAP_HALVES);
        combine(self, dst, src, tmp);
        x64!(self.scalar, vpermilps Ry(y(tmp)), Ry(y(dst)), SWAP_PAIRS);
        combine(self, dst, dst, tmp);
        x64!(self.scalar, vpermilps Ry(y(tmp)), Ry(y(dst)), SWAP_NEIGHBOURS);
        combine(self, dst, dst, tmp);
    }
}

/// `fn name(dst, a, b)` = one three-register instruction.
macro_rules! three_registers {
    ($($name:ident = $mnemonic:ident;)*) => {
        $(
            #[inline]
            fn $name(&mut self, dst: V, a: V, b: V) {
                x64!(self.scalar, $mnemonic Ry(y(dst)), Ry(y(a)), Ry(y(b)));
            }
        )*
    };
}

impl VectorAsm for Avx2Asm {
    const ISA: Isa = Isa::Avx2;

    forward_to_scalar!();

    three_registers! {
        fma = vfmadd231ps;
        fnma = vfnmadd231ps;
        vadd = vaddps;
        vsub = vsubps;
        vmul = vmulps;
        vdiv = vdivps;
        vmax = vmaxps;
        vmin = vminps;
        vand = vandps;
        add_i32 = vpaddd;
        sub_i32 = vpsubd;
        permute = vpermps;
        unpack_low = vunpcklps;
        unpack_high = vunpckhps;
    }

    fn shuffle(&mut self, dst: V, a: V, b: V, lanes: u8) {
        // dynasm swaps the two sources of this one.
        let inst = vex::encode(op::VSHUFPS, Length::L1, y(dst), y(a), &Rm::Reg(y(b)));
        self.scalar.put(inst.imm8(lanes));
    }
    fn select_in_quads(&mut self, dst: V, src: V, lanes: u8) {
        x64!(self.scalar, vpermilps Ry(y(dst)), Ry(y(src)), lanes as i8);
    }
    fn even_parts(&mut self, dst: V, a: V, b: V) {
        x64!(self.scalar, vperm2f128 Ry(y(dst)), Ry(y(a)), Ry(y(b)), LOW_HALVES);
    }
    fn odd_parts(&mut self, dst: V, a: V, b: V) {
        x64!(self.scalar, vperm2f128 Ry(y(dst)), Ry(y(a)), Ry(y(b)), HIGH_HALVES);
    }

    fn zero(&mut self, dst: V) {
        x64!(self.scalar, vxorps Ry(y(dst)), Ry(y(dst)), Ry(y(dst)));
    }
    #[inline]
    fn vmov(&mut self, dst: V, src: V) {
        x64!(self.scalar, vmovaps Ry(y(dst)), Ry(y(src)));
    }
    #[inline]
    fn load(&mut self, dst: V, mem: Mem) {
        self.mem2(op::VMOVUPS_LOAD, y(dst), mem);
    }
    fn load_masked(&mut self, dst: V, mem: Mem, mask: M) {
        self.mem3(op::VMASKMOVPS_LOAD, y(dst), m(mask), mem);
    }
    #[inline]
    fn store(&mut self, mem: Mem, src: V) {
        self.mem2(op::VMOVUPS_STORE, y(src), mem);
    }
    fn store_masked(&mut self, mem: Mem, src: V, mask: M) {
        self.mem3(op::VMASKMOVPS_STORE, y(src), m(mask), mem);
    }
    fn store_lane0(&mut self, mem: Mem, src: V) {
        self.lane0(op::VMOVSS_STORE, src, mem);
    }
    fn load_lane0(&mut self, dst: V, mem: Mem) {
        self.lane0(op::VMOVSS_LOAD, dst, mem);
    }
    #[inline]
    fn broadcast(&mut self, dst: V, mem: Mem) {
        self.mem2(op::VBROADCASTSS, y(dst), mem);
    }
    fn broadcast_quad(&mut self, dst: V, mem: Mem) {
        self.mem2(op::VBROADCAST_QUAD, y(dst), mem);
    }
    fn broadcast_imm(&mut self, dst: V, value: f32, tmp: Gp) {
        self.broadcast_imm_i32(dst, value.to_bits() as i32, tmp);
    }
    fn broadcast_imm_i32(&mut self, dst: V, value: i32, tmp: Gp) {
        self.mov_imm(tmp, i64::from(value as u32));
        x64!(self.scalar, vmovd Rx(y(dst)), Rd(tmp as u8));
        self.broadcast_lane0(dst, dst);
    }

    #[inline]
    fn fma_mem(&mut self, acc: V, a: V, mem: Mem) {
        self.mem3(op::VFMADD231PS, y(acc), y(a), mem);
    }
    #[inline]
    fn fma_then_mem(&mut self, x: V, a: V, mem: Mem) {
        self.mem3(op::VFMADD213PS, y(x), y(a), mem);
    }
    #[inline]
    fn fma_bcast(&mut self, acc: V, a: V, mem: Mem, tmp: V) {
        assert!(
            tmp != acc && tmp != a,
            "the broadcast needs {tmp:?} for itself"
        );
        self.broadcast(tmp, mem);
        self.fma(acc, a, tmp);
    }
    #[inline]
    fn vadd_mem(&mut self, dst: V, a: V, mem: Mem) {
        self.mem3(op::VADDPS, y(dst), y(a), mem);
    }
    #[inline]
    fn vmul_mem(&mut self, dst: V, a: V, mem: Mem) {
        self.mem3(op::VMULPS, y(dst), y(a), mem);
    }
    #[inline]
    fn vmax_mem(&mut self, dst: V, a: V, mem: Mem) {
        self.mem3(op::VMAXPS, y(dst), y(a), mem);
    }
    fn vsqrt(&mut self, dst: V, a: V) {
        x64!(self.scalar, vsqrtps Ry(y(dst)), Ry(y(a)));
    }
    fn vround(&mut self, dst: V, a: V) {
        x64!(self.scalar, vroundps Ry(y(dst)), Ry(y(a)), ROUND_NEAREST_QUIET);
    }
    fn cvt_i32(&mut self, dst: V, a: V) {
        x64!(self.scalar, vcvtps2dq Ry(y(dst)), Ry(y(a)));
    }
    fn shl_i32(&mut self, dst: V, a: V, bits: u8) {
        assert!(bits < 32, "shift by {bits} bits");
        x64!(self.scalar, vpslld Ry(y(dst)), Ry(y(a)), bits as i8);
    }
    fn shr_i32(&mut self, dst: V, a: V, bits: u8) {
        assert!(bits < 32, "shift by {bits} bits");
        x64!(self.scalar, vpsrld Ry(y(dst)), Ry(y(a)), bits as i8);
    }

    fn gather(&mut self, dst: V, base: Gp, idx: V, scale: u8, tmp: M) {
        let (dst, index, mask) = (y(dst), y(idx), m(tmp));
        assert!(
            dst != index && dst != mask && index != mask,
            "vgatherdps needs three different registers: {dst}, {index}, {mask}"
        );
        x64!(self.scalar, vpcmpeqd Ry(mask), Ry(mask), Ry(mask));
        let rm = Rm::Mem(Address::vsib(base, index, scale));
        self.scalar
            .put(vex::encode(op::VGATHERDPS, Length::L1, dst, mask, &rm));
    }
    fn load_u8_i32(&mut self, dst: V, mem: Mem) {
        self.mem2(op::VPMOVZXBD, y(dst), mem);
    }
    fn load_u16_i32(&mut self, dst: V, mem: Mem) {
        self.mem2(op::VPMOVZXWD, y(dst), mem);
    }
    fn sum_lanes(&mut self, dst: V, src: V, tmp: V) {
        self.fold_lanes(dst, src, tmp, Self::vadd);
    }
    fn max_lanes(&mut self, dst: V, src: V, tmp: V) {
        self.fold_lanes(dst, src, tmp, Self::vmax);
    }
    fn broadcast_lane0(&mut self, dst: V, src: V) {
        x64!(self.scalar, vbroadcastss Ry(y(dst)), Rx(y(src)));
    }
    fn splice(&mut self, dst: V, hi: V, lo: V, shift: u8, tmp: V) {
        assert!(usize::from(shift) < Self::LANES, "{shift} is not a lane");
        assert!(
            tmp != hi && tmp != lo,
            "the splice needs {tmp:?} for itself"
        );
        // The 128-bit halves in the middle; vpalignr then works within halves.
        x64!(self.scalar, vperm2f128 Ry(y(tmp)), Ry(y(lo)), Ry(y(hi)), MIDDLE_HALVES);
        let half = Self::LANES as u8 / 2;
        let (upper, lower, lanes) = match shift.checked_sub(half) {
            Some(lanes) => (hi, tmp, lanes),
            None => (tmp, lo, shift),
        };
        // dynasm swaps the sources of vpalignr.
        let rm = Rm::Reg(y(lower));
        let inst = vex::encode(op::VPALIGNR, Length::L1, y(dst), y(upper), &rm);
        self.scalar.put(inst.imm8(4 * lanes));
    }

    fn load_mask(&mut self, dst: M, mem: Mem) {
        self.mem2(op::VMOVUPS_LOAD, m(dst), mem);
    }
    fn mask_bytes(bits: u32) -> Vec<u8> {
        (0..Self::LANES)
            .flat_map(|lane| [if bits >> lane & 1 == 1 { 0xFF } else { 0 }; 4])
            .collect()
    }
    fn vmask_zero(&mut self, dst: V, src: V, mask: M) {
        x64!(self.scalar, vandps Ry(y(dst)), Ry(y(src)), Ry(m(mask)));
    }
}
