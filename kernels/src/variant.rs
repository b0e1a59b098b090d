//! What every kernel variant provides.

use crate::{AlignedBuf, Problem, stage::Staging};
use skimjit_jit::{Code, Isa};
use skimjit_models::Pattern;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Why a variant cannot compute a problem. Shown by `skimjit compile -v`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported(pub String);

impl Unsupported {
    /// The variant is for other layers.
    pub(crate) fn family(expected: &str) -> Self {
        Self(format!("{OTHER_FAMILY}{expected}"))
    }
    /// True when the reason is only that the variant is for other layers.
    pub fn other_family(&self) -> bool {
        self.0.starts_with(OTHER_FAMILY)
    }
}

const OTHER_FAMILY: &str = "only for ";

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a kernel could not be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelError {
    /// The variant refuses the problem.
    Unsupported(Unsupported),
    /// More code than [`crate::limits::CODE_BYTES`].
    CodeTooLarge(usize),
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported(reason) => reason.fmt(f),
            Self::CodeTooLarge(bytes) => write!(
                f,
                "{bytes} bytes of code, expected at most {}",
                crate::limits::CODE_BYTES
            ),
        }
    }
}

impl std::error::Error for KernelError {}

impl From<Unsupported> for KernelError {
    fn from(reason: Unsupported) -> Self {
        Self::Unsupported(reason)
    }
}

/// Estimate of a variant for one problem.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Cycles of one image (convolutions) or of the whole batch (inner products) on one core.
    pub cycles: f64,
    /// Bytes of generated code.
    pub code_bytes: u64,
}

/// Weights that a kernel streams once per call, in bytes, from which on they come from memory.
const UNCACHED_BYTES: f64 = 12e6;
/// Bytes that memory delivers per cycle of one core; measured on Zen 5 (30 GB/s at 4 GHz).
const MEMORY_BYTES_PER_CYCLE: f64 = 7.5;

/// `cycles`, or the time that memory takes to deliver the weights when that is longer.
pub(crate) fn at_least_memory(cycles: f64, weight_bytes: f64) -> f64 {
    if weight_bytes < UNCACHED_BYTES {
        cycles
    } else {
        cycles.max(weight_bytes / MEMORY_BYTES_PER_CYCLE)
    }
}

/// Weights of a layer: dense row-major values and where they are not zero.
#[derive(Clone, Copy)]
pub struct Weights<'a> {
    /// Row-major values; empty for layers without weights.
    pub values: &'a [f32],
    /// Non-zeros of `values`.
    pub pattern: &'a Pattern,
    /// One per output channel; empty: zeros.
    pub bias: &'a [f32],
}

/// A unit of work: tasks of a kernel write disjoint parts of `dst` and may run in any order.
/// Offsets are in bytes from the operand's base (plane 0).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Task {
    /// Index into [`Built::entries`].
    pub entry: u32,
    /// Added to `src`.
    pub src: i64,
    /// Added to `dst` (and to the residual).
    pub dst: i64,
    /// Offset into the packed weights.
    pub wei: u64,
    /// Offset into the packed data of the bias.
    pub bias: u64,
    /// Offset into the packed data of the tables.
    pub aux: u64,
    /// A count the code reads (loop trips).
    pub count: u64,
    /// Relative cost, for the partition over threads.
    pub cost: f32,
}

/// Elements around an operand's base that a kernel may touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Extent {
    /// Elements before the base (allowed over-read; zero for `dst`).
    pub before: usize,
    /// Elements from the base on.
    pub after: usize,
}

/// What a kernel may touch. The over-read part of `src` must be mapped memory; its values only
/// reach masked-off lanes, except for the gap, which must be zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Footprint {
    /// Read (every operand has the same extent).
    pub src: Extent,
    /// Written.
    pub dst: Extent,
    /// Bytes of scratch memory of the calling thread.
    pub scratch_bytes: usize,
}

/// Result of [`Variant::build`].
pub struct Built {
    /// Machine code, relocation-free.
    pub code: Code,
    /// Offsets of the entries in `code` that tasks refer to.
    pub entries: Vec<usize>,
    /// Packed weights and tables.
    pub packed: Arc<AlignedBuf>,
    /// Units of work.
    pub tasks: Vec<Task>,
    /// Copy of the source that has to be made first; `src` is then that copy.
    pub staging: Option<Staging>,
    /// Memory touched.
    pub footprint: Footprint,
}

/// One implementation of a family of problems.
pub trait Variant: Sync {
    /// `family.variant`, the same on every ISA.
    fn name(&self) -> &'static str;
    /// Whether the variant can compute the problem, and if not, why.
    fn supports(&self, problem: &Problem, isa: Isa) -> Result<(), Unsupported>;
    /// Estimate; only called when supported.
    fn cost(&self, problem: &Problem, pattern: &Pattern, isa: Isa) -> Cost;
    /// Generates code and packs weights. Pure: the same arguments give the same bytes.
    fn build(
        &self,
        problem: &Problem,
        weights: Weights<'_>,
        isa: Isa,
    ) -> Result<Built, KernelError>;
}

/// Splits `count` items into chunks of at most `most`, sizes balanced.
pub(crate) fn balanced(count: u32, most: u32) -> impl Iterator<Item = Range<u32>> {
    let chunks = count.div_ceil(most.max(1));
    (0..chunks).map(move |i| {
        let at = |i: u32| (u64::from(count) * u64::from(i) / u64::from(chunks)) as u32;
        at(i)..at(i + 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_balanced_and_cover_everything_once() {
        for count in 0..70 {
            for most in 0..33 {
                let chunks: Vec<Range<u32>> = balanced(count, most).collect();
                let mut next = 0;
                for chunk in &chunks {
                    assert_eq!(chunk.start, next);
                    next = chunk.end;
                }
                assert_eq!(next, count);
                let sizes = || chunks.iter().map(|chunk| chunk.len() as u32);
                let (least, largest) = (sizes().min().unwrap_or(0), sizes().max().unwrap_or(0));
                assert!(
                    largest <= most.max(1) && largest - least <= 1,
                    "{count} by {most}"
                );
            }
        }
        let mut one = balanced(u32::MAX, u32::MAX);
        assert_eq!((one.next(), one.next()), (Some(0..u32::MAX), None));
    }
}
