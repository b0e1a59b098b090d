//! Labels, jumps and general-purpose instructions: the half that both back ends share.

use dynasmrt::x64::X64Relocation;
use dynasmrt::{DynamicLabel, DynasmApi, DynasmLabelApi, VecAssembler, dynasm};

use super::inst::{Address, Inst, Rm};
use super::{Cond, Gp, Label, Mem};
use crate::Code;

/// Bytes reserved at the start, so that small kernels never grow their buffer.
const INITIAL_CODE_BYTES: usize = 4096;
const INITIAL_LABELS: usize = 32;
/// A cache line.
const CONSTANTS_ALIGNMENT: usize = 64;

/// Recommended multi-byte no-ops; entry `n` is `n + 1` bytes long.
const NOPS: [&[u8]; 9] = [
    &[0x90],
    &[0x66, 0x90],
    &[0x0F, 0x1F, 0x00],
    &[0x0F, 0x1F, 0x40, 0x00],
    &[0x0F, 0x1F, 0x44, 0x00, 0x00],
    &[0x66, 0x0F, 0x1F, 0x44, 0x00, 0x00],
    &[0x0F, 0x1F, 0x80, 0x00, 0x00, 0x00, 0x00],
    &[0x0F, 0x1F, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
    &[0x66, 0x0F, 0x1F, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
];

/// `dynasm!` on the byte buffer of a [`Scalar`].
macro_rules! x64 {
    ($scalar:expr, $($instruction:tt)*) => {{
        let ops = &mut $scalar.ops;
        #[allow(clippy::useless_conversion, reason = "dynasm! converts every register number")]
        {
            dynasm!(ops; .arch x64; $($instruction)*);
        };
    }};
}
pub(super) use x64;

/// Operation number in the reg field of the `81`/`83` opcodes.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Arithmetic {
    Add = 0,
    And = 4,
    Sub = 5,
    Cmp = 7,
}

/// Number of a general-purpose register.
#[inline(always)]
fn g(reg: Gp) -> u8 {
    reg as u8
}

struct LabelState {
    dynamic: DynamicLabel,
    bound: bool,
}

/// Byte buffer with labels, entries and the general-purpose instructions. Nothing is mapped.
pub(super) struct Scalar {
    pub ops: VecAssembler<X64Relocation>,
    labels: Vec<LabelState>,
    entries: Vec<(String, usize)>,
    /// Bits of constants, each of which fills a vector, and where they will be.
    constants: Vec<u32>,
    pool: Option<DynamicLabel>,
    /// What names subroutines, and where they are.
    subroutines: Vec<(Vec<u8>, Label)>,
}

impl Scalar {
    pub fn new() -> Self {
        Self {
            ops: VecAssembler::new_with_capacity(
                0,
                INITIAL_CODE_BYTES,
                0,
                0,
                INITIAL_LABELS,
                0,
                INITIAL_LABELS,
            ),
            labels: Vec::with_capacity(INITIAL_LABELS),
            entries: Vec::new(),
            constants: Vec::new(),
            pool: None,
            subroutines: Vec::new(),
        }
    }

    /// `lanes` of a vector, which a constant fills.
    pub fn finish(mut self, lanes: usize) -> Code {
        let constant_bytes = self.constants.len() * lanes * 4;
        if let Some(pool) = self.pool {
            self.align(CONSTANTS_ALIGNMENT);
            x64!(self, =>pool);
            for bits in std::mem::take(&mut self.constants) {
                (0..lanes).for_each(|_| self.ops.extend(&bits.to_le_bytes()));
            }
        }
        let bytes = match self.ops.finalize() {
            Ok(bytes) => bytes,
            Err(error) => panic!("a jump cannot be resolved: {error}"),
        };
        Code {
            bytes,
            constant_bytes,
            entries: self.entries,
        }
    }

    /// Appends one instruction of our own encoders.
    #[inline]
    pub fn put(&mut self, inst: Inst) {
        self.ops.extend(inst.as_bytes());
    }

    #[inline]
    pub fn offset(&self) -> usize {
        self.ops.offset().0
    }

    pub fn entry(&mut self, name: &str, align: usize) {
        self.align(align);
        self.entries.push((name.to_owned(), self.offset()));
    }

    pub fn align(&mut self, align: usize) {
        assert!(
            align.is_power_of_two(),
            "alignment {align} is not a power of two"
        );
        let mut padding = self.offset().wrapping_neg() & (align - 1);
        while padding > 0 {
            let len = padding.min(NOPS.len());
            self.ops.extend(NOPS[len - 1]);
            padding -= len;
        }
    }

    pub fn new_label(&mut self) -> Label {
        let label = Label(u32::try_from(self.labels.len()).expect("fewer than 2^32 labels"));
        let dynamic = self.ops.new_dynamic_label();
        self.labels.push(LabelState {
            dynamic,
            bound: false,
        });
        label
    }

    pub fn bind(&mut self, label: Label) {
        let target = self.dynamic(label);
        let state = &mut self.labels[label.0 as usize];
        assert!(!state.bound, "{label:?} is bound twice");
        state.bound = true;
        x64!(self, =>target);
    }

    fn dynamic(&self, label: Label) -> DynamicLabel {
        match self.labels.get(label.0 as usize) {
            Some(state) => state.dynamic,
            None => panic!("{label:?} belongs to another assembler"),
        }
    }

    pub fn jmp(&mut self, label: Label) {
        let target = self.dynamic(label);
        x64!(self, jmp =>target);
    }

    pub fn jcc(&mut self, cond: Cond, label: Label) {
        let target = self.dynamic(label);
        match cond {
            Cond::Equal => x64!(self, je =>target),
            Cond::NotEqual => x64!(self, jne =>target),
            Cond::Below => x64!(self, jb =>target),
            Cond::AboveEqual => x64!(self, jae =>target),
            Cond::Less => x64!(self, jl =>target),
            Cond::GreaterEqual => x64!(self, jge =>target),
        }
    }

    pub fn call(&mut self, label: Label) {
        let target = self.dynamic(label);
        x64!(self, call =>target);
    }

    pub fn ret(&mut self) {
        x64!(self, vzeroupper; ret);
    }

    pub fn ret_near(&mut self) {
        x64!(self, ret);
    }

    pub fn call_reg(&mut self, target: Gp) {
        x64!(self, call Rq(g(target)));
    }

    /// `lea dst, [rip + disp32]`: r/m 5 without a base.
    pub fn lea_outside(&mut self, dst: Gp) -> usize {
        let number = g(dst);
        let mut inst = Inst::new();
        inst.push(0x48 | number >> 3 << 2);
        inst.push(0x8D);
        inst.push((number & 7) << 3 | 5);
        inst.extend(&[0; 4]);
        self.put(inst);
        self.offset() - 4
    }

    /// `lea dst, [rip + distance]` of the constants.
    pub fn lea_constants(&mut self, dst: Gp) {
        let new = || self.ops.new_dynamic_label();
        let pool = *self.pool.get_or_insert_with(new);
        x64!(self, lea Rq(g(dst)), [=>pool]);
    }

    /// Number of the constant with these bits.
    pub fn constant(&mut self, bits: u32) -> usize {
        let known = self.constants.iter().position(|&other| other == bits);
        known.unwrap_or_else(|| {
            self.constants.push(bits);
            self.constants.len() - 1
        })
    }

    pub fn subroutine(&self, name: &[u8]) -> Option<Label> {
        let mut all = self.subroutines.iter();
        all.find(|(other, _)| other == name)
            .map(|&(_, label)| label)
    }

    pub fn new_subroutine(&mut self, name: Vec<u8>) -> Label {
        let label = self.new_label();
        self.subroutines.push((name, label));
        label
    }

    pub fn push(&mut self, reg: Gp) {
        x64!(self, push Rq(g(reg)));
    }

    pub fn pop(&mut self, reg: Gp) {
        x64!(self, pop Rq(g(reg)));
    }

    /// Keeps the flags (so 0 is not `xor`): emitters set constants between a compare and its jump.
    pub fn mov_imm(&mut self, dst: Gp, imm: i64) {
        if let Ok(unsigned) = u32::try_from(imm) {
            let mut inst = Inst::new();
            let number = g(dst);
            if number >= 8 {
                inst.push(0x41);
            }
            inst.push(0xB8 | number & 7);
            inst.extend(&unsigned.to_le_bytes());
            self.put(inst);
        } else if let Ok(signed) = i32::try_from(imm) {
            x64!(self, mov Rq(g(dst)), DWORD signed);
        } else {
            x64!(self, mov Rq(g(dst)), QWORD imm);
        }
    }

    #[inline]
    pub fn mov(&mut self, dst: Gp, src: Gp) {
        x64!(self, mov Rq(g(dst)), Rq(g(src)));
    }

    #[inline]
    fn memory(&mut self, wide: bool, opcode: &[u8], reg: u8, mem: Mem) {
        self.put(Inst::legacy(wide, opcode, reg, Address::from(mem)));
    }

    #[inline]
    pub fn load64(&mut self, dst: Gp, mem: Mem) {
        self.memory(true, &[0x8B], g(dst), mem);
    }

    #[inline]
    pub fn load32(&mut self, dst: Gp, mem: Mem) {
        self.memory(false, &[0x8B], g(dst), mem);
    }

    #[inline]
    pub fn load_i32(&mut self, dst: Gp, mem: Mem) {
        self.memory(true, &[0x63], g(dst), mem);
    }

    #[inline]
    pub fn load16(&mut self, dst: Gp, mem: Mem) {
        self.memory(false, &[0x0F, 0xB7], g(dst), mem);
    }

    #[inline]
    pub fn low16(&mut self, dst: Gp, src: Gp) {
        x64!(self, movzx Rd(g(dst)), Rw(g(src)));
    }

    #[inline]
    pub fn load8(&mut self, dst: Gp, mem: Mem) {
        self.memory(false, &[0x0F, 0xB6], g(dst), mem);
    }

    #[inline]
    pub fn store64(&mut self, mem: Mem, src: Gp) {
        self.memory(true, &[0x89], g(src), mem);
    }

    #[inline]
    pub fn lea(&mut self, dst: Gp, mem: Mem) {
        self.memory(true, &[0x8D], g(dst), mem);
    }

    /// `prefetcht0`: the 1 in the reg field is the level.
    #[inline]
    pub fn prefetch(&mut self, mem: Mem) {
        self.memory(false, &[0x0F, 0x18], 1, mem);
    }

    /// `prefetchw`; processors without it do nothing.
    #[inline]
    pub fn prefetch_write(&mut self, mem: Mem) {
        self.memory(false, &[0x0F, 0x0D], 1, mem);
    }

    /// `prefetcht1`.
    #[inline]
    pub fn prefetch_l2(&mut self, mem: Mem) {
        self.memory(false, &[0x0F, 0x18], 2, mem);
    }

    /// The 3 in the reg field means `stmxcsr`.
    pub fn store_mxcsr(&mut self, mem: Mem) {
        self.memory(false, &[0x0F, 0xAE], 3, mem);
    }

    /// The 2 in the reg field means `ldmxcsr`.
    pub fn load_mxcsr(&mut self, mem: Mem) {
        self.memory(false, &[0x0F, 0xAE], 2, mem);
    }

    pub fn add(&mut self, dst: Gp, src: Gp) {
        x64!(self, add Rq(g(dst)), Rq(g(src)));
    }

    pub fn sub(&mut self, dst: Gp, src: Gp) {
        x64!(self, sub Rq(g(dst)), Rq(g(src)));
    }

    /// `op dst, imm` for the eight classic operations, which differ in the reg field only; dynasm
    /// knows no run-time choice between one and four immediate bytes.
    fn arithmetic_imm(&mut self, op: Arithmetic, dst: Gp, imm: i32) {
        let mut inst = Inst::new();
        let rm = Rm::Reg(g(dst));
        inst.push(0x48 | g(dst) >> 3);
        match i8::try_from(imm) {
            Ok(short) => {
                inst.push(0x83);
                inst.modrm(op as u8, &rm, 0);
                inst.push(short as u8);
            }
            Err(_) => {
                inst.push(0x81);
                inst.modrm(op as u8, &rm, 0);
                inst.extend(&imm.to_le_bytes());
            }
        }
        self.put(inst);
    }

    pub fn add_imm(&mut self, dst: Gp, imm: i32) {
        if imm != 0 {
            self.arithmetic_imm(Arithmetic::Add, dst, imm);
        }
    }

    pub fn sub_imm(&mut self, dst: Gp, imm: i32) {
        self.arithmetic_imm(Arithmetic::Sub, dst, imm);
    }

    pub fn and_imm(&mut self, dst: Gp, imm: i32) {
        self.arithmetic_imm(Arithmetic::And, dst, imm);
    }

    pub fn cmp_imm(&mut self, a: Gp, imm: i32) {
        self.arithmetic_imm(Arithmetic::Cmp, a, imm);
    }

    /// `sub 1`, because `dec` leaves the carry of an earlier instruction to an unsigned jump.
    pub fn dec(&mut self, dst: Gp) {
        self.sub_imm(dst, 1);
    }

    pub fn imul_imm(&mut self, dst: Gp, a: Gp, imm: i32) {
        match i8::try_from(imm) {
            Ok(short) => x64!(self, imul Rq(g(dst)), Rq(g(a)), BYTE short),
            Err(_) => x64!(self, imul Rq(g(dst)), Rq(g(a)), DWORD imm),
        }
    }

    pub fn imul(&mut self, dst: Gp, src: Gp) {
        x64!(self, imul Rq(g(dst)), Rq(g(src)));
    }

    pub fn shl_imm(&mut self, dst: Gp, bits: u8) {
        assert!(bits < 64, "shift by {bits} bits");
        x64!(self, shl Rq(g(dst)), BYTE bits as i8);
    }

    pub fn shr_imm(&mut self, dst: Gp, bits: u8) {
        assert!(bits < 64, "shift by {bits} bits");
        x64!(self, shr Rq(g(dst)), BYTE bits as i8);
    }

    pub fn cmp(&mut self, a: Gp, b: Gp) {
        x64!(self, cmp Rq(g(a)), Rq(g(b)));
    }
}

/// The methods of `VectorAsm` that are the same on every ISA, forwarded to the field `scalar`.
macro_rules! forward_to_scalar {
    () => {
        forward_to_scalar! { @methods
            entry(name: &str, align: usize);
            align(align: usize);
            bind(label: Label);
            jmp(label: Label);
            jcc(cond: Cond, label: Label);
            ret();
            push(reg: Gp);
            pop(reg: Gp);
            call(label: Label);
            ret_near();
            call_reg(target: Gp);
            mov_imm(dst: Gp, imm: i64);
            mov(dst: Gp, src: Gp);
            load64(dst: Gp, mem: Mem);
            load32(dst: Gp, mem: Mem);
            load_i32(dst: Gp, mem: Mem);
            load16(dst: Gp, mem: Mem);
            low16(dst: Gp, src: Gp);
            load8(dst: Gp, mem: Mem);
            store64(mem: Mem, src: Gp);
            lea(dst: Gp, mem: Mem);
            add(dst: Gp, src: Gp);
            sub(dst: Gp, src: Gp);
            add_imm(dst: Gp, imm: i32);
            sub_imm(dst: Gp, imm: i32);
            dec(dst: Gp);
            imul_imm(dst: Gp, a: Gp, imm: i32);
            imul(dst: Gp, src: Gp);
            shl_imm(dst: Gp, bits: u8);
            shr_imm(dst: Gp, bits: u8);
            and_imm(dst: Gp, imm: i32);
            cmp(a: Gp, b: Gp);
            cmp_imm(a: Gp, imm: i32);
            prefetch(mem: Mem);
            prefetch_l2(mem: Mem);
            prefetch_write(mem: Mem);
            lea_constants(dst: Gp);
            store_mxcsr(mem: Mem);
            load_mxcsr(mem: Mem);
        }
        fn new() -> Self {
            Self { scalar: Scalar::new() }
        }
        fn finish(self) -> Code {
            self.scalar.finish(Self::LANES)
        }
        #[inline]
        fn offset(&self) -> usize {
            self.scalar.offset()
        }
        fn constant(&mut self, base: Gp, bits: u32) -> Mem {
            let index = self.scalar.constant(bits);
            Mem::new(base, (index * Self::LANES * 4) as i32)
        }
        fn subroutine(&self, name: &[u8]) -> Option<Label> {
            self.scalar.subroutine(name)
        }
        fn new_subroutine(&mut self, name: Vec<u8>) -> Label {
            self.scalar.new_subroutine(name)
        }
        fn new_label(&mut self) -> Label {
            self.scalar.new_label()
        }
        fn lea_outside(&mut self, dst: Gp) -> usize {
            self.scalar.lea_outside(dst)
        }
    };
    (@methods $($name:ident($($arg:ident: $ty:ty),*);)*) => {
        $(
            #[inline]
            fn $name(&mut self, $($arg: $ty),*) {
                self.scalar.$name($($arg),*);
            }
        )*
    };
}
pub(super) use forward_to_scalar;
