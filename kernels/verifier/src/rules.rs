//! The list of instructions that kernels may contain. Everything else is refused.
//!
//! An instruction is named by its encoding (iced's `Code` says mnemonic, VEX or EVEX, operand classes
//! and sizes). Beyond that a rule says which of the forms of its last operand is allowed, whether it
//! may be masked, and what its immediate may be. Prefixes, segments, other address sizes, embedded
//! rounding and addresses without a base register are refused for all.

use crate::action::{
    Action, Address, Arithmetic, Lanewise, Mask, Meaning, Operand, Place, Shuffle, Vector, When,
};
use crate::extremes::Extreme;
use iced_x86::{Code, Instruction, OpKind, Register};
use skimjit_kernels::jit::Isa;

/// Why an instruction is refused.
pub type Reason = &'static str;

const UNKNOWN: Reason = "an instruction that kernels may not contain";
const FORM: Reason = "a form of this instruction that kernels may not contain";

/// What an instruction of code for `isa` does, if it may be there. `bytes` are its own.
pub fn admit(bytes: &[u8], i: &Instruction, isa: Isa) -> Result<Action, Reason> {
    if i.code() == Code::INVALID {
        return Err("bytes that are no instruction");
    }
    check_prefixes(bytes, i.code())?;
    if let Some(action) = general(i) {
        return action;
    }
    let rule = RULES
        .iter()
        .find(|rule| rule.code == i.code())
        .ok_or(UNKNOWN)?;
    if !isa.contains(rule.isa) {
        return Err("an instruction of AVX-512 in code for AVX2");
    }
    rule.vector(i).map(Action::Vector)
}

/// Operand size, address size, lock, repeat, segments.
const LEGACY_PREFIXES: [u8; 11] = [
    0x66, 0x67, 0xF0, 0xF2, 0xF3, 0x2E, 0x36, 0x3E, 0x26, 0x64, 0x65,
];

/// Processors disagree about prefixes that have no meaning: there is none but that of two no-ops.
fn check_prefixes(bytes: &[u8], code: Code) -> Result<(), Reason> {
    let legacy = |byte: &&u8| LEGACY_PREFIXES.contains(byte);
    let prefixes = bytes.iter().take_while(legacy).count();
    let allowed = match code {
        Code::Nopw | Code::Nop_rm16 => bytes.first() == Some(&0x66) && prefixes == 1,
        _ => prefixes == 0,
    };
    if !allowed {
        return Err("a prefix that kernels may not contain");
    }
    let rex = |byte: Option<&u8>| byte.is_some_and(|byte| byte >> 4 == 4);
    let behind = bytes.get(prefixes + 1);
    if rex(bytes.get(prefixes)) && (rex(behind) || behind.as_ref().is_some_and(legacy)) {
        return Err("a prefix that kernels may not contain");
    }
    Ok(())
}

/// Number of a 64-bit register.
fn wide(register: Register) -> Result<u8, Reason> {
    match register.is_gpr64() {
        true => Ok(register.number() as u8),
        false => Err(FORM),
    }
}

/// Number of a 32-bit register.
fn narrow(register: Register) -> Result<u8, Reason> {
    match register.is_gpr32() {
        true => Ok(register.number() as u8),
        false => Err(FORM),
    }
}

/// A register that may be written: all but the stack pointer, which only pushes and pops move.
fn target(number: u8) -> Result<u8, Reason> {
    match number == Register::RSP.number() as u8 {
        true => Err("the stack pointer is changed by other means than push and pop"),
        false => Ok(number),
    }
}

/// The memory operand; a vector index is left to the caller.
fn address(i: &Instruction) -> Result<Address, Reason> {
    let base = wide(i.memory_base())
        .map_err(|_| "an address that does not start from a 64-bit register")?;
    let index = match i.memory_index() {
        Register::None => None,
        index if index.is_vector_register() => None,
        index => Some((wide(index)?, i.memory_index_scale() as u8)),
    };
    Ok(Address {
        base,
        index,
        displacement: i.memory_displacement64() as i64,
    })
}

/// Instructions without vector registers.
fn general(i: &Instruction) -> Option<Result<Action, Reason>> {
    use Code as C;
    let jump = |when: When| {
        Ok(Action::Jump {
            to: i.near_branch64(),
            when,
        })
    };
    Some(match i.code() {
        C::Nopd | C::Nopw | C::Nop_rm16 | C::Nop_rm32 => Ok(Action::Nothing),
        C::Prefetcht0_m8 | C::Prefetcht1_m8 | C::Prefetchw_m8 => {
            address(i).map(|_| Action::Nothing)
        }
        C::Jmp_rel8_64 | C::Jmp_rel32_64 => jump(When::Always),
        C::Je_rel8_64 | C::Je_rel32_64 => jump(When::Equal),
        C::Jne_rel8_64 | C::Jne_rel32_64 => jump(When::NotEqual),
        C::Jb_rel8_64 | C::Jb_rel32_64 => jump(When::Below),
        C::Jae_rel8_64 | C::Jae_rel32_64 => jump(When::AboveEqual),
        C::Jl_rel8_64 | C::Jl_rel32_64 => jump(When::Less),
        C::Jge_rel8_64 | C::Jge_rel32_64 => jump(When::GreaterEqual),
        C::Call_rel32_64 => Ok(Action::Call(i.near_branch64())),
        C::Retnq => Ok(Action::Return),
        C::Push_r64 => wide(i.op0_register()).and_then(target).map(Action::Push),
        C::Pop_r64 => wide(i.op0_register()).and_then(target).map(Action::Pop),
        C::VEX_Vzeroupper => Ok(Action::ZeroUpper),
        C::Mov_r64_imm64 | C::Mov_rm64_imm32 | C::Mov_r32_imm32 => constant(i),
        C::Mov_r64_rm64 | C::Mov_rm64_r64 => movement(i),
        C::Mov_r32_rm32 => load(i, 4, false),
        C::Movsxd_r64_rm32 => load(i, 4, true),
        C::Movzx_r32_rm16 if i.op1_kind() == OpKind::Register => low_bytes(i),
        C::Movzx_r32_rm16 => load(i, 2, false),
        C::Movzx_r32_rm8 => load(i, 1, false),
        C::Lea_r64_m => address_of(i),
        code => return arithmetic(code).map(|what| operate(i, what)),
    })
}

fn constant(i: &Instruction) -> Result<Action, Reason> {
    if i.op0_kind() != OpKind::Register {
        return Err(FORM);
    }
    let to = wide(i.op0_register()).or_else(|_| narrow(i.op0_register()))?;
    let from = Operand::Number(i.immediate(1));
    Ok(Action::Set {
        to: target(to)?,
        from,
    })
}

fn movement(i: &Instruction) -> Result<Action, Reason> {
    match (i.op0_kind(), i.op1_kind()) {
        (OpKind::Register, OpKind::Register) => Ok(Action::Set {
            to: wide(i.op0_register()).and_then(target)?,
            from: Operand::Register(wide(i.op1_register())?),
        }),
        (OpKind::Memory, OpKind::Register) => Ok(Action::Store {
            to: address(i)?,
            from: wide(i.op1_register())?,
        }),
        _ => load(i, 8, false),
    }
}

fn load(i: &Instruction, bytes: u8, signed: bool) -> Result<Action, Reason> {
    if i.op1_kind() != OpKind::Memory {
        return Err(FORM);
    }
    let to = wide(i.op0_register()).or_else(|_| narrow(i.op0_register()))?;
    Ok(Action::Load {
        to: target(to)?,
        from: address(i)?,
        bytes,
        signed,
    })
}

/// The low 16 bits of a register.
fn low_bytes(i: &Instruction) -> Result<Action, Reason> {
    let full = i.op1_register().full_register();
    Ok(Action::LowBits {
        to: target(narrow(i.op0_register())?)?,
        from: wide(full)?,
        bits: 16,
    })
}

fn address_of(i: &Instruction) -> Result<Action, Reason> {
    if i.memory_base() == Register::RIP {
        return Ok(Action::Constants {
            to: wide(i.op0_register()).and_then(target)?,
            from: i.ip_rel_memory_address(),
        });
    }
    Ok(Action::AddressOf {
        to: wide(i.op0_register()).and_then(target)?,
        from: address(i)?,
    })
}

fn arithmetic(code: Code) -> Option<Arithmetic> {
    use Code as C;
    Some(match code {
        C::Add_rm64_r64 | C::Add_r64_rm64 | C::Add_rm64_imm8 | C::Add_rm64_imm32 => Arithmetic::Add,
        C::Sub_rm64_r64 | C::Sub_r64_rm64 | C::Sub_rm64_imm8 | C::Sub_rm64_imm32 => Arithmetic::Sub,
        C::Cmp_rm64_r64 | C::Cmp_r64_rm64 | C::Cmp_rm64_imm8 | C::Cmp_rm64_imm32 => {
            Arithmetic::Compare
        }
        C::And_rm64_imm8 | C::And_rm64_imm32 => Arithmetic::And,
        C::Imul_r64_rm64 | C::Imul_r64_rm64_imm8 | C::Imul_r64_rm64_imm32 => Arithmetic::Multiply,
        C::Shl_rm64_imm8 => Arithmetic::ShiftLeft,
        C::Shr_rm64_imm8 => Arithmetic::ShiftRight,
        _ => return None,
    })
}

/// Registers and immediates only.
fn operate(i: &Instruction, what: Arithmetic) -> Result<Action, Reason> {
    let to = wide(i.op0_register())?;
    let last = i.op_count() - 1;
    let b = match i.op_kind(last) {
        OpKind::Register => Operand::Register(wide(i.op_register(last))?),
        OpKind::Memory => return Err(FORM),
        _ => Operand::Number(i.immediate(last)),
    };
    let a = match i.op_count() {
        3 => wide(i.op1_register())?,
        _ => to,
    };
    let to = match what {
        Arithmetic::Compare => to,
        _ => target(to)?,
    };
    Ok(Action::Arithmetic { what, to, a, b })
}

/// Forms of the operand that may be memory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Register,
    Memory,
    Either,
    /// A register, memory, or one lane of memory for all.
    Broadcast,
}

/// How an instruction may be masked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Masked {
    Never,
    /// It may be; other lanes keep their value.
    Merging,
    /// It may be; other lanes become zero.
    Zeroing,
    /// It must be; the mask is an operand.
    Always,
}

/// Immediates that are allowed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Immediate {
    None,
    Any,
    /// To nearest even whatever MXCSR says, without an exception.
    RoundToNearest,
    /// Whole lanes of the two operands.
    WholeLanes,
    /// Bits that the instruction ignores are zero.
    Halves,
}

impl Immediate {
    fn allows(self, immediate: u8) -> bool {
        match self {
            Self::None | Self::Any => true,
            Self::RoundToNearest => immediate == 8,
            Self::WholeLanes => immediate.is_multiple_of(4) && immediate < 32,
            Self::Halves => immediate & 0x44 == 0,
        }
    }
}

/// A line of the list.
struct Rule {
    code: Code,
    isa: Isa,
    width: u8,
    form: Form,
    masked: Masked,
    immediate: Immediate,
    meaning: Meaning,
}

impl Rule {
    /// The instruction, if all of its parts are as the rule says.
    fn vector(&self, i: &Instruction) -> Result<Vector, Reason> {
        if i.rounding_control() != iced_x86::RoundingControl::None || i.suppress_all_exceptions() {
            return Err("embedded rounding");
        }
        let immediate = self.immediate_of(i)?;
        let mut places = [Place::None; 4];
        for (index, place) in places.iter_mut().enumerate().take(i.op_count() as usize) {
            *place = self.place(i, index as u32)?;
        }
        let [to, a, b, _] = places;
        let mut vector = Vector {
            meaning: self.meaning,
            width: self.width,
            to,
            a,
            b,
            mask: self.mask(i)?,
            immediate,
        };
        match self.code {
            Code::VEX_Vmaskmovps_ymm_ymm_m256 | Code::VEX_Vmaskmovps_m256_ymm_ymm => {
                vector.mask = signs(a)?;
                (vector.a, vector.b) = (b, Place::None);
            }
            Code::VEX_Vgatherdps_ymm_vm32y_ymm => {
                vector.mask = signs(b)?;
                vector.b = gathered(i, to, Some(b))?;
            }
            Code::EVEX_Vgatherdps_zmm_k1_vm32z => vector.b = gathered(i, to, None)?,
            _ => {}
        }
        if self.meaning == Meaning::Gather {
            vector.immediate = i.memory_index_scale() as u8;
        }
        Ok(vector)
    }

    fn immediate_of(&self, i: &Instruction) -> Result<u8, Reason> {
        let last = i.op_count().saturating_sub(1);
        let immediate = match i.op_kind(last) {
            OpKind::Immediate8 if self.immediate != Immediate::None => i.immediate8(),
            OpKind::Immediate8 => return Err(FORM),
            _ if self.immediate == Immediate::None => 0,
            _ => return Err(FORM),
        };
        match self.immediate.allows(immediate) {
            true => Ok(immediate),
            false => Err("an immediate that kernels may not contain"),
        }
    }

    fn place(&self, i: &Instruction, index: u32) -> Result<Place, Reason> {
        let has_memory = (0..i.op_count()).any(|index| i.op_kind(index) == OpKind::Memory);
        match i.op_kind(index) {
            OpKind::Register if self.form == Form::Memory && !has_memory => Err(FORM),
            OpKind::Register => Ok(Place::Register(i.op_register(index).number() as u8)),
            OpKind::Memory if self.form == Form::Register => Err(FORM),
            OpKind::Memory if !i.is_broadcast() => Ok(Place::Memory(address(i)?)),
            OpKind::Memory if self.form == Form::Broadcast => Ok(Place::Broadcast(address(i)?)),
            OpKind::Immediate8 => Ok(Place::None),
            _ => Err(FORM),
        }
    }

    fn mask(&self, i: &Instruction) -> Result<Mask, Reason> {
        let number = i.op_mask().number() as u8;
        let allowed = match (i.op_mask(), i.zeroing_masking()) {
            (Register::None, false) => self.masked != Masked::Always,
            (Register::None, true) => false,
            (_, false) => matches!(self.masked, Masked::Merging | Masked::Always),
            (_, true) => self.masked == Masked::Zeroing,
        };
        match (allowed, i.op_mask(), i.zeroing_masking()) {
            (false, ..) => Err("a mask that kernels may not use here"),
            (true, Register::None, _) => Ok(Mask::All),
            (true, _, false) => Ok(Mask::Merge(number)),
            (true, _, true) => Ok(Mask::Zero(number)),
        }
    }
}

fn signs(place: Place) -> Result<Mask, Reason> {
    match place {
        Place::Register(register) => Ok(Mask::Signs(register)),
        _ => Err(FORM),
    }
}

/// The vector of indices; it, the result and the mask must be different registers.
fn gathered(i: &Instruction, to: Place, mask: Option<Place>) -> Result<Place, Reason> {
    if !i.memory_index().is_vector_register() {
        return Err(FORM);
    }
    let index = Place::Register(i.memory_index().number() as u8);
    if index == to || mask.is_some_and(|mask| mask == to || mask == index) {
        return Err("a gather that uses one register twice");
    }
    Ok(index)
}

macro_rules! rules {
    ($($code:ident: $isa:ident, $width:literal, $form:ident, $masked:ident, $immediate:ident, $meaning:expr;)*) => {
        &[$(Rule {
            code: Code::$code,
            isa: Isa::$isa,
            width: $width,
            form: Form::$form,
            masked: Masked::$masked,
            immediate: Immediate::$immediate,
            meaning: $meaning,
        }),*]
    };
}

use Lanewise as L;
use Meaning as M;
use Shuffle as S;

/// The list: encoding, instruction set, lanes, form of the operand that may be memory, mask, immediate,
/// meaning. A form that no kernel uses is not on it.
#[rustfmt::skip]
static RULES: &[Rule] = rules! {
    VEX_Vmovups_ymm_ymmm256: Avx2, 8, Either, Never, None, M::Move;
    VEX_Vmovups_ymmm256_ymm: Avx2, 8, Either, Never, None, M::Move;
    VEX_Vmovaps_ymm_ymmm256: Avx2, 8, Either, Never, None, M::MoveAligned;
    VEX_Vmovaps_ymmm256_ymm: Avx2, 8, Either, Never, None, M::MoveAligned;
    VEX_Vmaskmovps_ymm_ymm_m256: Avx2, 8, Memory, Never, None, M::Move;
    VEX_Vmaskmovps_m256_ymm_ymm: Avx2, 8, Memory, Never, None, M::Move;
    VEX_Vmovss_xmm_m32: Avx2, 1, Memory, Never, None, M::MoveLane;
    VEX_Vmovss_m32_xmm: Avx2, 1, Memory, Never, None, M::MoveLane;
    VEX_Vmovd_xmm_rm32: Avx2, 1, Register, Never, None, M::FromGeneral;
    VEX_Vbroadcastss_ymm_m32: Avx2, 8, Memory, Never, None, M::BroadcastLane;
    VEX_Vbroadcastf128_ymm_m128: Avx2, 8, Memory, Never, None, M::BroadcastQuad;
    VEX_Vbroadcastss_ymm_xmm: Avx2, 8, Register, Never, None, M::BroadcastLane;
    VEX_Vfmadd213ps_ymm_ymm_ymmm256: Avx2, 8, Memory, Never, None, M::MultiplyThenAdd;
    VEX_Vfmadd231ps_ymm_ymm_ymmm256: Avx2, 8, Either, Never, None, M::MultiplyAdd;
    VEX_Vfnmadd231ps_ymm_ymm_ymmm256: Avx2, 8, Either, Never, None, M::NegatedMultiplyAdd;
    VEX_Vaddps_ymm_ymm_ymmm256: Avx2, 8, Either, Never, None, M::Lanewise(L::Add);
    VEX_Vsubps_ymm_ymm_ymmm256: Avx2, 8, Either, Never, None, M::Lanewise(L::Subtract);
    VEX_Vmulps_ymm_ymm_ymmm256: Avx2, 8, Either, Never, None, M::Lanewise(L::Multiply);
    VEX_Vdivps_ymm_ymm_ymmm256: Avx2, 8, Either, Never, None, M::Lanewise(L::Divide);
    VEX_Vmaxps_ymm_ymm_ymmm256: Avx2, 8, Either, Never, None, M::Lanewise(L::Extreme(Extreme::Max));
    VEX_Vminps_ymm_ymm_ymmm256: Avx2, 8, Either, Never, None, M::Lanewise(L::Extreme(Extreme::Min));
    VEX_Vsqrtps_ymm_ymmm256: Avx2, 8, Register, Never, None, M::Lanewise(L::SquareRoot);
    VEX_Vroundps_ymm_ymmm256_imm8: Avx2, 8, Register, Never, RoundToNearest, M::Lanewise(L::Round);
    VEX_Vcvtps2dq_ymm_ymmm256: Avx2, 8, Register, Never, None, M::Lanewise(L::ToInteger);
    VEX_Vandps_ymm_ymm_ymmm256: Avx2, 8, Register, Never, None, M::Lanewise(L::And);
    VEX_Vxorps_ymm_ymm_ymmm256: Avx2, 8, Register, Never, None, M::Lanewise(L::Xor);
    VEX_Vpaddd_ymm_ymm_ymmm256: Avx2, 8, Register, Never, None, M::Lanewise(L::AddIntegers);
    VEX_Vpsubd_ymm_ymm_ymmm256: Avx2, 8, Register, Never, None, M::Lanewise(L::SubtractIntegers);
    VEX_Vpslld_ymm_ymm_imm8: Avx2, 8, Register, Never, Any, M::Lanewise(L::ShiftLeft);
    VEX_Vpsrld_ymm_ymm_imm8: Avx2, 8, Register, Never, Any, M::Lanewise(L::ShiftRight);
    VEX_Vpcmpeqd_ymm_ymm_ymmm256: Avx2, 8, Register, Never, None, M::Lanewise(L::EqualIntegers);
    VEX_Vunpcklps_ymm_ymm_ymmm256: Avx2, 8, Register, Never, None, M::Shuffle(S::UnpackLow);
    VEX_Vunpckhps_ymm_ymm_ymmm256: Avx2, 8, Register, Never, None, M::Shuffle(S::UnpackHigh);
    VEX_Vshufps_ymm_ymm_ymmm256_imm8: Avx2, 8, Register, Never, Any, M::Shuffle(S::Pairs);
    VEX_Vpermps_ymm_ymm_ymmm256: Avx2, 8, Register, Never, None, M::Shuffle(S::Permute);
    VEX_Vpermilps_ymm_ymmm256_imm8: Avx2, 8, Register, Never, Any, M::Shuffle(S::PermuteInParts);
    VEX_Vpalignr_ymm_ymm_ymmm256_imm8: Avx2, 8, Register, Never, WholeLanes, M::Shuffle(S::AlignInParts);
    VEX_Vperm2f128_ymm_ymm_ymmm256_imm8: Avx2, 8, Register, Never, Halves, M::Shuffle(S::Halves);
    VEX_Vgatherdps_ymm_vm32y_ymm: Avx2, 8, Memory, Never, None, M::Gather;
    VEX_Vpmovzxbd_ymm_xmmm64: Avx2, 8, Memory, Never, None, M::Widen(1);
    VEX_Vpmovzxwd_ymm_xmmm128: Avx2, 8, Memory, Never, None, M::Widen(2);

    VEX_Kmovw_kr_km16: Avx512, 1, Memory, Never, None, M::LoadMask;
    VEX_Kxnorw_kr_kr_kr: Avx512, 1, Register, Never, None, M::Xnor;
    EVEX_Vptestmd_kr_k1_zmm_zmmm512b32: Avx512, 16, Register, Never, None, M::Test;
    EVEX_Vmovups_zmm_k1z_zmmm512: Avx512, 16, Either, Zeroing, None, M::Move;
    EVEX_Vmovups_zmmm512_k1z_zmm: Avx512, 16, Memory, Merging, None, M::Move;
    EVEX_Vmovaps_zmm_k1z_zmmm512: Avx512, 16, Either, Zeroing, None, M::MoveAligned;
    EVEX_Vmovaps_zmmm512_k1z_zmm: Avx512, 16, Memory, Merging, None, M::MoveAligned;
    EVEX_Vmovss_xmm_k1z_m32: Avx512, 1, Memory, Never, None, M::MoveLane;
    EVEX_Vmovss_m32_k1_xmm: Avx512, 1, Memory, Never, None, M::MoveLane;
    EVEX_Vbroadcastss_zmm_k1z_xmmm32: Avx512, 16, Either, Never, None, M::BroadcastLane;
    EVEX_Vbroadcastf32x4_zmm_k1z_m128: Avx512, 16, Memory, Never, None, M::BroadcastQuad;
    EVEX_Vpbroadcastd_zmm_k1z_r32: Avx512, 16, Register, Never, None, M::BroadcastGeneral;
    EVEX_Vfmadd213ps_zmm_k1z_zmm_zmmm512b32_er: Avx512, 16, Memory, Never, None, M::MultiplyThenAdd;
    EVEX_Vfmadd231ps_zmm_k1z_zmm_zmmm512b32_er: Avx512, 16, Broadcast, Never, None, M::MultiplyAdd;
    EVEX_Vfnmadd231ps_zmm_k1z_zmm_zmmm512b32_er: Avx512, 16, Broadcast, Never, None, M::NegatedMultiplyAdd;
    EVEX_Vaddps_zmm_k1z_zmm_zmmm512b32_er: Avx512, 16, Broadcast, Never, None, M::Lanewise(L::Add);
    EVEX_Vsubps_zmm_k1z_zmm_zmmm512b32_er: Avx512, 16, Broadcast, Never, None, M::Lanewise(L::Subtract);
    EVEX_Vmulps_zmm_k1z_zmm_zmmm512b32_er: Avx512, 16, Broadcast, Never, None, M::Lanewise(L::Multiply);
    EVEX_Vdivps_zmm_k1z_zmm_zmmm512b32_er: Avx512, 16, Broadcast, Never, None, M::Lanewise(L::Divide);
    EVEX_Vmaxps_zmm_k1z_zmm_zmmm512b32_sae: Avx512, 16, Broadcast, Never, None, M::Lanewise(L::Extreme(Extreme::Max));
    EVEX_Vminps_zmm_k1z_zmm_zmmm512b32_sae: Avx512, 16, Broadcast, Never, None, M::Lanewise(L::Extreme(Extreme::Min));
    EVEX_Vsqrtps_zmm_k1z_zmmm512b32_er: Avx512, 16, Register, Never, None, M::Lanewise(L::SquareRoot);
    EVEX_Vrndscaleps_zmm_k1z_zmmm512b32_imm8_sae: Avx512, 16, Register, Never, RoundToNearest, M::Lanewise(L::Round);
    EVEX_Vcvtps2dq_zmm_k1z_zmmm512b32_er: Avx512, 16, Register, Never, None, M::Lanewise(L::ToInteger);
    EVEX_Vpandd_zmm_k1z_zmm_zmmm512b32: Avx512, 16, Register, Never, None, M::Lanewise(L::And);
    EVEX_Vpxord_zmm_k1z_zmm_zmmm512b32: Avx512, 16, Register, Never, None, M::Lanewise(L::Xor);
    EVEX_Vpaddd_zmm_k1z_zmm_zmmm512b32: Avx512, 16, Register, Never, None, M::Lanewise(L::AddIntegers);
    EVEX_Vpsubd_zmm_k1z_zmm_zmmm512b32: Avx512, 16, Register, Never, None, M::Lanewise(L::SubtractIntegers);
    EVEX_Vpslld_zmm_k1z_zmmm512b32_imm8: Avx512, 16, Register, Never, Any, M::Lanewise(L::ShiftLeft);
    EVEX_Vpsrld_zmm_k1z_zmmm512b32_imm8: Avx512, 16, Register, Never, Any, M::Lanewise(L::ShiftRight);
    EVEX_Vunpcklps_zmm_k1z_zmm_zmmm512b32: Avx512, 16, Register, Never, None, M::Shuffle(S::UnpackLow);
    EVEX_Vunpckhps_zmm_k1z_zmm_zmmm512b32: Avx512, 16, Register, Never, None, M::Shuffle(S::UnpackHigh);
    EVEX_Vshufps_zmm_k1z_zmm_zmmm512b32_imm8: Avx512, 16, Register, Never, Any, M::Shuffle(S::Pairs);
    EVEX_Vpermps_zmm_k1z_zmm_zmmm512b32: Avx512, 16, Register, Never, None, M::Shuffle(S::Permute);
    EVEX_Vpermi2ps_zmm_k1z_zmm_zmmm512b32: Avx512, 16, Register, Never, None, M::Shuffle(S::PermuteTwo);
    EVEX_Vpermilps_zmm_k1z_zmmm512b32_imm8: Avx512, 16, Register, Never, Any, M::Shuffle(S::PermuteInParts);
    EVEX_Valignd_zmm_k1z_zmm_zmmm512b32_imm8: Avx512, 16, Register, Zeroing, Any, M::Shuffle(S::Align);
    EVEX_Vshuff32x4_zmm_k1z_zmm_zmmm512b32_imm8: Avx512, 16, Register, Never, Any, M::Shuffle(S::Quarters);
    EVEX_Vblendmps_zmm_k1z_zmm_zmmm512b32: Avx512, 16, Register, Always, None, M::Blend;
    EVEX_Vgatherdps_zmm_k1_vm32z: Avx512, 16, Memory, Always, None, M::Gather;
    EVEX_Vpmovzxbd_zmm_k1z_xmmm128: Avx512, 16, Memory, Never, None, M::Widen(1);
    EVEX_Vpmovzxwd_zmm_k1z_ymmm256: Avx512, 16, Memory, Never, None, M::Widen(2);
};

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::{Decoder, DecoderOptions};

    fn admitted(bytes: &[u8], isa: Isa) -> Result<Action, Reason> {
        let instruction = Decoder::new(64, bytes, DecoderOptions::NONE).decode();
        assert_eq!(instruction.len(), bytes.len());
        admit(bytes, &instruction, isa)
    }

    #[test]
    fn an_encoding_is_listed_once() {
        for (index, rule) in RULES.iter().enumerate() {
            assert!(RULES[..index].iter().all(|other| other.code != rule.code));
        }
    }

    #[test]
    fn what_is_not_listed_is_refused() {
        let refused: [(&str, &[u8]); 22] = [
            ("syscall", &[0x0F, 0x05]),
            ("int3", &[0xCC]),
            ("ud2", &[0x0F, 0x0B]),
            ("hlt", &[0xF4]),
            ("xor rbx, rbx", &[0x48, 0x31, 0xDB]),
            ("std", &[0xFD]),
            ("ldmxcsr [rdi]", &[0x0F, 0xAE, 0x17]),
            ("inc [rdi]", &[0x48, 0xFF, 0x07]),
            ("lock xadd [rdi], rax", &[0xF0, 0x48, 0x0F, 0xC1, 0x07]),
            ("or [rdi], 1", &[0x83, 0x0F, 0x01]),
            ("stosq", &[0x48, 0xAB]),
            ("mov rax, fs:[rdi]", &[0x64, 0x48, 0x8B, 0x07]),
            ("rdtsc", &[0x0F, 0x31]),
            ("jmp rax", &[0xFF, 0xE0]),
            ("ret 8", &[0xC2, 0x08, 0x00]),
            ("66 ret", &[0x66, 0xC3]),
            ("mov eax, [edi]", &[0x67, 0x8B, 0x07]),
            ("mov rax, [rip]", &[0x48, 0x8B, 0x05, 0, 0, 0, 0]),
            ("pop rsp", &[0x5C]),
            ("sub rsp, 8", &[0x48, 0x83, 0xEC, 0x08]),
            (
                "vaddps zmm0, zmm0, zmm0, {rz-sae}",
                &[0x62, 0xF1, 0x7C, 0x78, 0x58, 0xC0],
            ),
            (
                "vaddps zmm0 {k1}, zmm0, zmm0",
                &[0x62, 0xF1, 0x7C, 0x49, 0x58, 0xC0],
            ),
        ];
        for (name, bytes) in refused {
            assert!(admitted(bytes, Isa::Avx512).is_err(), "{name}");
        }
    }

    #[test]
    fn code_for_avx2_has_no_instruction_of_avx512() {
        let vaddps = [0x62, 0xF1, 0x7C, 0x48, 0x58, 0xC0];
        assert!(admitted(&vaddps, Isa::Avx512).is_ok());
        assert!(admitted(&vaddps, Isa::Avx2).is_err());
        // The same with VEX.
        assert!(admitted(&[0xC5, 0xFC, 0x58, 0xC0], Isa::Avx2).is_ok());
    }
}
