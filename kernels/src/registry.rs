//! The ordered list of variants. Adding a row puts a variant into the planner's choice and into the
//! tests: those against the reference, the proofs, and the code that is shown for review.

use crate::variant::{Cost, Unsupported, Variant};
use crate::{
    Problem, binary, channelwise, deconv, dense_conv, eltwise, fc, function, lrn, padded_copy,
    pool, resample, softmax, sparse_conv, standardize,
};
use skimjit_jit::Isa;
use skimjit_models::Pattern;

/// Version of the kernels: measured times are remembered with it. Add one whenever a change may make
/// any kernel faster or slower, or splits its work differently.
pub const VERSION: u32 = 9;

/// All variants; of equal estimates the first wins.
pub static VARIANTS: &[&dyn Variant] = &[
    &dense_conv::channels::Channels,
    &dense_conv::rolled::Rolled,
    &dense_conv::depthwise::Depthwise,
    &sparse_conv::baked::Baked,
    &sparse_conv::streamed::Streamed,
    &sparse_conv::spmm::Spmm,
    &sparse_conv::phase::Phase,
    &deconv::Depthwise,
    &fc::gemv::Gemv,
    &fc::ell::Ell,
    &fc::sell::Sell,
    &pool::registers::Registers,
    &pool::lines::Lines,
    &lrn::across::AcrossChannels,
    &lrn::within::WithinChannel,
    &channelwise::Channelwise,
    &function::Function,
    &eltwise::Eltwise,
    &binary::Binary,
    &softmax::Softmax,
    &standardize::Standardize,
    &resample::Resample,
    &padded_copy::PaddedCopy,
];

/// A variant with its estimate.
pub struct Candidate {
    /// The variant.
    pub variant: &'static dyn Variant,
    /// Its estimate.
    pub cost: Cost,
}

/// Why a variant is no candidate.
pub struct Refusal {
    /// The variant.
    pub variant: &'static dyn Variant,
    /// Its reason.
    pub reason: Unsupported,
}

/// Variants that can compute the problem, cheapest estimate first, and those of its family that
/// refuse it.
pub fn candidates(
    problem: &Problem,
    pattern: &Pattern,
    isa: Isa,
) -> (Vec<Candidate>, Vec<Refusal>) {
    let (mut able, mut refused) = (Vec::new(), Vec::new());
    for &variant in VARIANTS {
        match variant.cost(problem, pattern, isa) {
            Ok(cost) => able.push(Candidate { variant, cost }),
            Err(reason) => refused.push(Refusal { variant, reason }),
        }
    }
    able.sort_by(|a, b| a.cost.cycles.total_cmp(&b.cost.cycles));
    (able, refused)
}

/// Variant by name.
pub fn find(name: &str) -> Option<&'static dyn Variant> {
    VARIANTS
        .iter()
        .copied()
        .find(|variant| variant.name() == name)
}
