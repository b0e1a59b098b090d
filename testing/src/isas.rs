//! Which generated code can be run here.

use crate::skip;
use skimjit_jit::Isa;

/// The instruction sets that run here, smallest first; says which are left out.
///
/// # Panics
///
/// On machines without any, where skimjit runs nothing.
pub fn isas() -> Vec<Isa> {
    let isas: Vec<Isa> = Isa::ALL.into_iter().filter(|&isa| runs(isa)).collect();
    assert!(!isas.is_empty(), "tests need an x86 CPU with AVX2");
    isas
}

/// Whether code for an instruction set may be run here; says so where it may not.
///
/// # Panics
///
/// Where `SKIMJIT_MAX_ISA` is no instruction set: no cap would be another test run than was asked for.
pub fn runs(isa: Isa) -> bool {
    if Isa::detect(None).is_ok_and(|best| best.contains(isa)) {
        let Some(cap) = cap().filter(|cap| !cap.contains(isa)) else {
            return true;
        };
        skip(format!(
            "code for {isa}, which SKIMJIT_MAX_ISA={cap} rules out"
        ));
    } else {
        skip(format!("code for {isa}, which this CPU lacks"));
    }
    false
}

fn cap() -> Option<Isa> {
    let name = std::env::var_os("SKIMJIT_MAX_ISA").filter(|name| !name.is_empty())?;
    let isa = name.to_str().and_then(|name| name.parse().ok());
    Some(isa.unwrap_or_else(|| panic!("SKIMJIT_MAX_ISA={name:?}, expected avx2 or avx512")))
}
