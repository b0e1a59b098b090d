//! ISA-neutral vector macro-assembler: one emitter source, two back ends.
//!
//! One method is about one instruction; where a back end needs two, the method says so. Nothing here
//! allocates registers, spills, or knows what a convolution is.

mod avx2;
mod avx512;
mod detection;
mod evex;
mod inst;
mod opcodes;
mod scalar;
mod vex;

pub use avx2::Avx2Asm;
pub use avx512::Avx512Asm;
pub use detection::detection;

use crate::{Code, Isa};

/// General-purpose registers, by hardware number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
#[allow(missing_docs, reason = "hardware names")]
pub enum Gp {
    Rax = 0,
    Rcx = 1,
    Rdx = 2,
    Rbx = 3,
    Rsp = 4,
    Rbp = 5,
    Rsi = 6,
    Rdi = 7,
    R8 = 8,
    R9 = 9,
    R10 = 10,
    R11 = 11,
    R12 = 12,
    R13 = 13,
    R14 = 14,
    R15 = 15,
}

/// Vector register (`ymm` or `zmm`), below [`VectorAsm::VREGS`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct V(pub u8);

/// Lane mask. AVX-512: opmask register `k1..k7` (number 1..=7). AVX2: a vector register (number
/// below 16) whose lanes are all ones or all zeros. [`VectorAsm::load_mask`] reads the form that
/// [`VectorAsm::mask_bytes`] writes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct M(pub u8);

/// Jump target.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Label(pub u32);

/// Memory operand `[base + index·scale + disp]`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Mem {
    /// Base register.
    pub base: Gp,
    /// Index register (not `Rsp`) and scale (1, 2, 4 or 8).
    pub index: Option<(Gp, u8)>,
    /// Displacement in bytes.
    pub disp: i32,
}

impl Mem {
    /// `[base + disp]`.
    pub fn new(base: Gp, disp: i32) -> Self {
        Self {
            base,
            index: None,
            disp,
        }
    }
    /// `[base + index·scale + disp]`.
    pub fn indexed(base: Gp, index: Gp, scale: u8, disp: i32) -> Self {
        Self {
            base,
            index: Some((index, scale)),
            disp,
        }
    }
    /// The operand `bytes` further on.
    pub fn plus(self, bytes: i32) -> Self {
        Self {
            disp: self.disp + bytes,
            ..self
        }
    }
}

/// Condition of a jump after [`VectorAsm::cmp`], [`VectorAsm::cmp_imm`] or
/// [`VectorAsm::sub_imm`] / [`VectorAsm::dec`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cond {
    /// Equal / zero.
    Equal,
    /// Not equal / not zero.
    NotEqual,
    /// Below, unsigned.
    Below,
    /// Above or equal, unsigned.
    AboveEqual,
    /// Less, signed.
    Less,
    /// Greater or equal, signed.
    GreaterEqual,
}

/// ISA-neutral vector emitter.
///
/// Vector arithmetic is on `f32` lanes unless the name says `i32`. Three-operand methods are
/// `dst, a, b` = `dst = a op b`. Memory operands need no alignment.
pub trait VectorAsm: Sized {
    /// The instruction set of this back end.
    const ISA: Isa;
    /// `f32` lanes per vector register.
    const LANES: usize = Self::ISA.lanes() as usize;
    /// Vector registers.
    const VREGS: u8 = Self::ISA.descriptor().vector_registers;

    /// An empty assembler.
    fn new() -> Self;
    /// This assembler as the one for AVX-512, for instructions that only that has.
    fn avx512(&mut self) -> Option<&mut Avx512Asm> {
        None
    }
    /// Resolves labels and returns the bytes. Panics if a jump or call has an unbound label (our bug).
    fn finish(self) -> Code;
    /// Bytes emitted so far.
    fn offset(&self) -> usize;
    /// Pads to `align` bytes (a power of two), then marks the position as the entry `name` of the
    /// finished [`Code`].
    fn entry(&mut self, name: &str, align: usize);
    /// Pads with one-byte-or-longer no-ops to `align` bytes.
    fn align(&mut self, align: usize);

    /// A fresh label.
    fn new_label(&mut self) -> Label;
    /// Binds a label here.
    fn bind(&mut self, label: Label);
    /// Jump.
    fn jmp(&mut self, label: Label);
    /// Conditional jump.
    fn jcc(&mut self, cond: Cond, label: Label);
    /// Return. `vzeroupper` is emitted first (two instructions).
    fn ret(&mut self);
    /// Push a 64-bit register.
    fn push(&mut self, reg: Gp);
    /// Pop a 64-bit register.
    fn pop(&mut self, reg: Gp);
    /// Near call of a label in the same code (for shared subroutines). The callee ends with
    /// [`VectorAsm::ret_near`].
    fn call(&mut self, label: Label);
    /// `ret` without `vzeroupper`.
    fn ret_near(&mut self);
    /// Near call of an address in a register.
    fn call_reg(&mut self, target: Gp);
    /// `dst = address of something outside this code`: returns the offset of the four bytes that a
    /// linker fills with the distance from their end.
    fn lea_outside(&mut self, dst: Gp) -> usize;

    /// `dst = imm` in the shortest form that leaves the flags alone.
    fn mov_imm(&mut self, dst: Gp, imm: i64);
    /// `dst = src`.
    fn mov(&mut self, dst: Gp, src: Gp);
    /// 64-bit load.
    fn load64(&mut self, dst: Gp, mem: Mem);
    /// 32-bit load, zero-extended to 64.
    fn load32(&mut self, dst: Gp, mem: Mem);
    /// 32-bit load, sign-extended to 64.
    fn load_i32(&mut self, dst: Gp, mem: Mem);
    /// 16-bit load, zero-extended to 64.
    fn load16(&mut self, dst: Gp, mem: Mem);
    /// `dst` = the low 16 bits of `src`, zero-extended to 64.
    fn low16(&mut self, dst: Gp, src: Gp);
    /// 8-bit load, zero-extended to 64.
    fn load8(&mut self, dst: Gp, mem: Mem);
    /// 64-bit store.
    fn store64(&mut self, mem: Mem, src: Gp);
    /// `dst = address of mem`.
    fn lea(&mut self, dst: Gp, mem: Mem);
    /// `dst += src`.
    fn add(&mut self, dst: Gp, src: Gp);
    /// `dst -= src`.
    fn sub(&mut self, dst: Gp, src: Gp);
    /// `dst += imm`; emits nothing for 0.
    fn add_imm(&mut self, dst: Gp, imm: i32);
    /// `dst -= imm` and sets flags; always emitted.
    fn sub_imm(&mut self, dst: Gp, imm: i32);
    /// `dst -= 1` and sets flags.
    fn dec(&mut self, dst: Gp);
    /// Stores MXCSR (4 bytes).
    fn store_mxcsr(&mut self, mem: Mem);
    /// Loads MXCSR (4 bytes).
    fn load_mxcsr(&mut self, mem: Mem);
    /// `dst = a · imm`, 64-bit.
    fn imul_imm(&mut self, dst: Gp, a: Gp, imm: i32);
    /// `dst *= src`, 64-bit.
    fn imul(&mut self, dst: Gp, src: Gp);
    /// `dst <<= bits`.
    fn shl_imm(&mut self, dst: Gp, bits: u8);
    /// `dst >>= bits`, unsigned.
    fn shr_imm(&mut self, dst: Gp, bits: u8);
    /// `dst &= imm`.
    fn and_imm(&mut self, dst: Gp, imm: i32);
    /// Compares (64-bit).
    fn cmp(&mut self, a: Gp, b: Gp);
    /// Compares with an immediate (64-bit, sign-extended).
    fn cmp_imm(&mut self, a: Gp, imm: i32);

    /// `dst` = the address of this code's constants.
    fn lea_constants(&mut self, dst: Gp);
    /// A vector that holds `bits` in every lane, behind the code; `base` holds the address of the constants.
    fn constant(&mut self, base: Gp, bits: u32) -> Mem;

    /// The subroutine of this name, if it has been emitted.
    fn subroutine(&self, name: &[u8]) -> Option<Label>;
    /// A label for the subroutine of this name.
    fn new_subroutine(&mut self, name: Vec<u8>) -> Label;
    /// Calls the code that has this name. Where that is first wanted, `body` emits it there: long code that many
    /// places share is decoded once.
    fn call_shared(&mut self, name: Vec<u8>, body: impl FnOnce(&mut Self)) {
        let label = self.subroutine(&name).unwrap_or_else(|| {
            let behind = self.new_label();
            self.jmp(behind);
            self.align(64);
            let label = self.new_subroutine(name);
            self.bind(label);
            body(self);
            self.ret_near();
            self.bind(behind);
            label
        });
        self.call(label);
    }

    /// Runs `body` `count` (in a register) times; `count` is 0 afterwards. `count` must not be 0.
    fn counted_loop(&mut self, count: Gp, body: impl FnOnce(&mut Self)) {
        let top = self.new_label();
        self.bind(top);
        body(self);
        self.dec(count);
        self.jcc(Cond::NotEqual, top);
    }

    /// The same for a count that may be 0.
    fn counted_loop_if_any(&mut self, count: Gp, body: impl FnOnce(&mut Self)) {
        let done = self.new_label();
        self.cmp_imm(count, 0);
        self.jcc(Cond::Equal, done);
        self.counted_loop(count, body);
        self.bind(done);
    }

    /// Runs `body` for groups of `group`, then one by one, until it has run for `count` (in a register, of the same
    /// kind as of [`Self::counted_loop`]); `body` is told for how many.
    fn counted_loop_by(&mut self, count: Gp, group: usize, body: impl Fn(&mut Self, usize)) {
        let (top, rest, done) = (self.new_label(), self.new_label(), self.new_label());
        self.bind(top);
        self.cmp_imm(count, group as i32);
        self.jcc(Cond::Less, rest);
        body(self, group);
        self.add_imm(count, -(group as i32));
        self.jmp(top);
        self.bind(rest);
        self.cmp_imm(count, 0);
        self.jcc(Cond::Equal, done);
        self.counted_loop(count, |asm| body(asm, 1));
        self.bind(done);
    }

    /// `dst = 0`.
    fn zero(&mut self, dst: V);
    /// `dst = src`.
    fn vmov(&mut self, dst: V, src: V);
    /// Loads a vector.
    fn load(&mut self, dst: V, mem: Mem);
    /// Loads the lanes of `mask`, zero elsewhere; lanes outside the mask do not touch memory.
    fn load_masked(&mut self, dst: V, mem: Mem, mask: M);
    /// Stores a vector.
    fn store(&mut self, mem: Mem, src: V);
    /// Stores the lanes of `mask`; other lanes do not touch memory.
    fn store_masked(&mut self, mem: Mem, src: V, mask: M);
    /// Stores lane 0.
    fn store_lane0(&mut self, mem: Mem, src: V);
    /// Loads lane 0, zero elsewhere.
    fn load_lane0(&mut self, dst: V, mem: Mem);
    /// One `f32` from memory to all lanes.
    fn broadcast(&mut self, dst: V, mem: Mem);
    /// Four `f32` from memory to each 128-bit part.
    fn broadcast_quad(&mut self, dst: V, mem: Mem);
    /// A constant to all lanes, through `tmp` (two or three instructions).
    fn broadcast_imm(&mut self, dst: V, value: f32, tmp: Gp);
    /// A 32-bit integer constant to all lanes, through `tmp` (two or three instructions).
    fn broadcast_imm_i32(&mut self, dst: V, value: i32, tmp: Gp);

    /// `acc += a · b`.
    fn fma(&mut self, acc: V, a: V, b: V);
    /// `acc += a · [mem]`.
    fn fma_mem(&mut self, acc: V, a: V, mem: Mem);
    /// `x = x · a + [mem]`.
    fn fma_then_mem(&mut self, x: V, a: V, mem: Mem);
    /// `acc += a · broadcast [mem]`; AVX2 loads the broadcast into `tmp` first (two instructions),
    /// AVX-512 uses an embedded broadcast and leaves `tmp` alone.
    fn fma_bcast(&mut self, acc: V, a: V, mem: Mem, tmp: V);
    /// `acc −= a · b`.
    fn fnma(&mut self, acc: V, a: V, b: V);
    /// `dst = a + b`.
    fn vadd(&mut self, dst: V, a: V, b: V);
    /// `dst = a + [mem]`.
    fn vadd_mem(&mut self, dst: V, a: V, mem: Mem);
    /// `dst = a − b`.
    fn vsub(&mut self, dst: V, a: V, b: V);
    /// `dst = a · b`.
    fn vmul(&mut self, dst: V, a: V, b: V);
    /// `dst = a · [mem]`.
    fn vmul_mem(&mut self, dst: V, a: V, mem: Mem);
    /// `dst = a / b`.
    fn vdiv(&mut self, dst: V, a: V, b: V);
    /// `dst = max(a, b)`: `a > b ? a : b` (so `b` when either is NaN).
    fn vmax(&mut self, dst: V, a: V, b: V);
    /// `dst = max(a, [mem])`.
    fn vmax_mem(&mut self, dst: V, a: V, mem: Mem);
    /// `dst = min(a, b)`.
    fn vmin(&mut self, dst: V, a: V, b: V);
    /// `dst = √a`.
    fn vsqrt(&mut self, dst: V, a: V);
    /// Rounds to the nearest integer (ties to even), as `f32`.
    fn vround(&mut self, dst: V, a: V);
    /// `f32` to `i32`, rounded to nearest.
    fn cvt_i32(&mut self, dst: V, a: V);
    /// Bitwise and.
    fn vand(&mut self, dst: V, a: V, b: V);
    /// `i32` lanes: `dst = a + b`.
    fn add_i32(&mut self, dst: V, a: V, b: V);
    /// `i32` lanes: `dst = a − b`.
    fn sub_i32(&mut self, dst: V, a: V, b: V);
    /// `i32` lanes: `dst = a << bits`.
    fn shl_i32(&mut self, dst: V, a: V, bits: u8);
    /// `u32` lanes: `dst = a >> bits`.
    fn shr_i32(&mut self, dst: V, a: V, bits: u8);

    /// `dst[i] = src[idx[i]]` (`i32` lanes of `idx`, modulo LANES).
    fn permute(&mut self, dst: V, idx: V, src: V);
    /// `dst[i] = [base + idx[i]·scale]` for all lanes. Clobbers `tmp` (a mask: AVX-512 opmask, AVX2
    /// vector register). `dst`, `idx` and the mask register must differ. Two instructions.
    fn gather(&mut self, dst: V, base: Gp, idx: V, scale: u8, tmp: M);
    /// LANES `u8` from memory, zero-extended to `i32`.
    fn load_u8_i32(&mut self, dst: V, mem: Mem);
    /// LANES `u16` from memory, zero-extended to `i32`.
    fn load_u16_i32(&mut self, dst: V, mem: Mem);
    /// Sum of all lanes into lane 0 of `dst`; `dst` may be `src`; clobbers `tmp` (several
    /// instructions; the order of the additions is fixed).
    fn sum_lanes(&mut self, dst: V, src: V, tmp: V);
    /// Maximum of all lanes into lane 0 of `dst`; as [`VectorAsm::sum_lanes`].
    fn max_lanes(&mut self, dst: V, src: V, tmp: V);
    /// Lane 0 to all lanes.
    fn broadcast_lane0(&mut self, dst: V, src: V);
    /// In each 128-bit part: four lanes of `src`, chosen by the 2-bit fields of `lanes` (`vpermilps`).
    fn select_in_quads(&mut self, dst: V, src: V, lanes: u8);
    /// In each 128-bit part: lanes 0 and 1 of `a` and `b`, alternating (`vunpcklps`).
    fn unpack_low(&mut self, dst: V, a: V, b: V);
    /// In each 128-bit part: lanes 2 and 3 of `a` and `b`, alternating (`vunpckhps`).
    fn unpack_high(&mut self, dst: V, a: V, b: V);
    /// In each 128-bit part: two lanes of `a`, then two of `b`, chosen by the 2-bit fields of
    /// `lanes` (`vshufps`).
    fn shuffle(&mut self, dst: V, a: V, b: V, lanes: u8);
    /// The 128-bit parts of `a`, then of `b`, that have an even number.
    fn even_parts(&mut self, dst: V, a: V, b: V);
    /// The 128-bit parts of `a`, then of `b`, that have an odd number.
    fn odd_parts(&mut self, dst: V, a: V, b: V);

    /// `dst = (hi:lo) >> 32·shift`: lanes `lo[shift..]` followed by `hi[..shift]`, `shift` below LANES.
    /// `dst` may be `lo` or `hi`. AVX2 needs two instructions and clobbers `tmp`, which must differ
    /// from the sources; AVX-512 leaves `tmp` alone.
    fn splice(&mut self, dst: V, hi: V, lo: V, shift: u8, tmp: V);

    /// Loads a lane mask in this ISA's form.
    fn load_mask(&mut self, dst: M, mem: Mem);
    /// Memory form of a lane mask (bit i = lane i): 2 bytes on AVX-512 (read as 16 bits), 32 on AVX2.
    fn mask_bytes(bits: u32) -> Vec<u8>;
    /// Memory form of the mask of the first `count` lanes.
    fn first_lanes(count: u32) -> Vec<u8> {
        Self::mask_bytes(((1u64 << count) - 1) as u32)
    }
    /// Where a lane mask is kept: in opmask register `opmask`, or where there are none in `vector`.
    fn mask(opmask: u8, vector: V) -> M {
        match Self::ISA.descriptor().mask_registers {
            0 => M(vector.0),
            _ => M(opmask),
        }
    }
    /// `dst[lane] = mask[lane] ? src[lane] : 0`.
    fn vmask_zero(&mut self, dst: V, src: V, mask: M);

    /// Prefetch into all levels.
    fn prefetch(&mut self, mem: Mem);
    /// Prefetch into the second level and beyond.
    fn prefetch_l2(&mut self, mem: Mem);
    /// Prefetch of a line that will be written.
    fn prefetch_write(&mut self, mem: Mem);
}

/// Evaluates an expression with `$asm` naming the assembler of an [`Isa`]: the one place where code
/// for a chosen instruction set becomes code for a type.
#[macro_export]
macro_rules! with_assembler {
    ($isa:expr, $asm:ident => $body:expr) => {
        match $isa {
            $crate::Isa::Avx2 => {
                type $asm = $crate::asm::Avx2Asm;
                $body
            }
            $crate::Isa::Avx512 => {
                type $asm = $crate::asm::Avx512Asm;
                $body
            }
        }
    };
}
