//! Generated code that asks the CPU for its instruction set, for objects that run without this crate.

use super::scalar::{Scalar, x64};
use crate::Code;
use dynasmrt::{DynasmApi, dynasm};

/// Leaf 1, ecx: FMA, OSXSAVE, AVX.
const FMA_OSXSAVE_AVX: i32 = 1 << 12 | 1 << 27 | 1 << 28;
/// Leaf 7, ebx.
const AVX2: i32 = 1 << 5;
/// Leaf 7, ebx: F, DQ, BW and VL.
const AVX512: i32 = 1 << 16 | 1 << 17 | 1 << 30 | 1 << 31;
/// XCR0: the system saves `xmm` and `ymm`.
const SAVES_YMM: i32 = 0x06;
/// XCR0: it saves opmasks and `zmm` as well.
const SAVES_ZMM: i32 = 0xE6;

/// A function of the System V convention that returns 0 below AVX2, 1 for [`crate::Isa::Avx2`] and 2
/// for [`crate::Isa::Avx512`]: the same conditions as [`crate::Isa::detect`]. Uses no vector register.
pub fn detection() -> Code {
    let mut scalar = Scalar::new();
    let done = scalar.new_label();
    scalar.entry("detection", 1);
    x64!(scalar, push rbx; xor edi, edi; xor eax, eax; cpuid; cmp eax, 7);
    scalar.jcc(super::Cond::Below, done);
    x64!(scalar, mov eax, 1; cpuid; and ecx, FMA_OSXSAVE_AVX; cmp ecx, FMA_OSXSAVE_AVX);
    scalar.jcc(super::Cond::NotEqual, done);
    // Without OSXSAVE, reading XCR0 would be an invalid instruction.
    x64!(scalar, xor ecx, ecx; xgetbv; mov esi, eax; and eax, SAVES_YMM; cmp eax, SAVES_YMM);
    scalar.jcc(super::Cond::NotEqual, done);
    x64!(scalar, mov eax, 7; xor ecx, ecx; cpuid; test ebx, AVX2);
    scalar.jcc(super::Cond::Equal, done);
    x64!(scalar, mov edi, 1; and esi, SAVES_ZMM; cmp esi, SAVES_ZMM);
    scalar.jcc(super::Cond::NotEqual, done);
    x64!(scalar, and ebx, AVX512; cmp ebx, AVX512);
    scalar.jcc(super::Cond::NotEqual, done);
    x64!(scalar, mov edi, 2);
    scalar.bind(done);
    x64!(scalar, mov eax, edi; pop rbx);
    scalar.ret_near();
    scalar.finish(0)
}
