//! What every kernel variant provides.

use crate::{AlignedBuf, ConvProblem, Family, FamilyProblem, Planes, Problem, stage::Staging};
use skimjit_jit::asm::VectorAsm;
use skimjit_jit::{Code, Features, Isa, with_assembler};
use skimjit_models::{ElementType, Pattern};
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Why a variant cannot compute a problem. Shown by `skimjit compile -v`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unsupported {
    /// The variant is for layers of this family.
    Family(Family),
    /// The instruction set lacks these extensions.
    Features(Features),
    /// What was found in the problem, and what was expected.
    Problem(String),
}

impl Unsupported {
    /// True when the reason is only that the variant is for other layers.
    pub fn other_family(&self) -> bool {
        matches!(self, Self::Family(_))
    }
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Family(family) => write!(f, "only for {family}"),
            Self::Features(features) => write!(f, "only with {features}"),
            Self::Problem(reason) => f.write_str(reason),
        }
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

/// Cycles of a task besides what its loops take: arguments, a call, code that was not there yet.
pub(crate) const TASK_CYCLES: f64 = 110.0;

/// `cycles`, or the time that memory takes to deliver the weights when that is longer.
pub(crate) fn at_least_memory(cycles: f64, weight_bytes: f64) -> f64 {
    if weight_bytes < UNCACHED_BYTES {
        cycles
    } else {
        cycles.max(weight_bytes / MEMORY_BYTES_PER_CYCLE)
    }
}

/// Values of a layer's weights.
#[derive(Clone, Copy)]
pub enum Values<'a> {
    /// All of them, row-major; none for layers without weights.
    All(&'a [f32]),
    /// Those of the pattern, row after row: the others are zero.
    NonZeros(&'a [f32]),
}

/// Weights of a layer: values and where they are not zero.
#[derive(Clone, Copy)]
pub struct Weights<'a> {
    /// Values.
    pub values: Values<'a>,
    /// Where they are not zero.
    pub pattern: &'a Pattern,
    /// One per output channel; empty: zeros.
    pub bias: &'a [f32],
    /// Type that has all values: kernels may store them as that.
    pub element: ElementType,
}

impl<'a> Weights<'a> {
    /// Number of values, zeros included.
    pub fn elems(&self) -> usize {
        match self.values {
            Values::All(values) => values.len(),
            Values::NonZeros(_) => self.pattern.rows() as usize * self.pattern.cols() as usize,
        }
    }
    /// All values, row-major.
    pub fn all(&self) -> Cow<'a, [f32]> {
        let values = match self.values {
            Values::All(values) => return Cow::Borrowed(values),
            Values::NonZeros(values) => values,
        };
        let mut all = vec![0.0; self.elems()];
        let rows = all.chunks_exact_mut((self.pattern.cols() as usize).max(1));
        let mut values = values.iter();
        for (row, to) in (0..).zip(rows) {
            for (&col, &value) in self.pattern.row(row).iter().zip(&mut values) {
                to[col as usize] = value;
            }
        }
        Cow::Owned(all)
    }
    /// The value at a place.
    pub fn value(&self, row: u32, col: u32) -> f32 {
        match self.values {
            Values::All(values) => {
                values[row as usize * self.pattern.cols() as usize + col as usize]
            }
            Values::NonZeros(values) => {
                let place = self.pattern.place(row, col);
                place.map_or(0.0, |place| values[place])
            }
        }
    }
    /// Columns of the non-zeros of a row; none in rows beyond the last.
    pub(crate) fn cols(&self, row: u32) -> &[u32] {
        match row < self.pattern.rows() {
            true => self.pattern.row(row),
            false => &[],
        }
    }
    pub(crate) fn bias_of(&self, row: u32) -> f32 {
        self.bias.get(row as usize).copied().unwrap_or(0.0)
    }
    /// Appends the bias of some rows on a cache line, and returns where.
    pub(crate) fn pack_bias(
        &self,
        packed: &mut AlignedBuf,
        rows: impl IntoIterator<Item = u32>,
    ) -> u64 {
        let at = packed.align(64);
        packed.extend_f32(rows.into_iter().map(|row| self.bias_of(row)));
        at
    }
}

/// A unit of work: tasks of a kernel write disjoint parts of `dst` and may run in any order.
/// Offsets are in bytes from the operand's base (plane 0).
#[derive(Clone, Copy, Debug, PartialEq, Default)]
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

impl Task {
    /// Output channels of a convolution from `row` on, entry 0; source channels are `channel` elements
    /// apart.
    pub(crate) fn of_rows(problem: &ConvProblem, channel: u32, row: u32) -> Self {
        let group = row / problem.ocg();
        Self {
            src: i64::from(group * problem.icg()) * i64::from(channel) * 4,
            dst: i64::from(row) * i64::from(problem.dst.pitch) * 4,
            ..Self::default()
        }
    }
    /// Some channels of planes, entry 0.
    pub(crate) fn of_channels(channels: Range<u32>, src: &Planes, dst: &Planes) -> Self {
        let offset = |planes: &Planes| i64::from(channels.start) * i64::from(planes.pitch) * 4;
        Self {
            src: offset(src),
            dst: offset(dst),
            count: channels.len() as u64,
            cost: channels.len() as f32,
            ..Self::default()
        }
    }
}

/// Elements around an operand's base that a kernel may touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Extent {
    /// Elements before the base (allowed over-read; zero for `dst`).
    pub before: usize,
    /// Elements from the base on.
    pub after: usize,
}

impl Extent {
    /// Nothing before the base.
    pub(crate) fn from_base(after: usize) -> Self {
        Self { before: 0, after }
    }
    /// The pixels of planes and what lies between them.
    pub(crate) fn of(planes: &Planes) -> Self {
        Self::from_base(planes.last_plane() + planes.hw() as usize)
    }
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

impl Footprint {
    /// Without scratch memory.
    pub(crate) fn new(src: Extent, dst: Extent) -> Self {
        Self {
            src,
            dst,
            scratch_bytes: 0,
        }
    }
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

impl Built {
    /// Without a copy of the source.
    pub(crate) fn new(
        asm: impl VectorAsm,
        entries: impl Into<Vec<usize>>,
        packed: AlignedBuf,
        tasks: Vec<Task>,
        footprint: Footprint,
    ) -> Self {
        Self {
            code: asm.finish(),
            entries: entries.into(),
            packed: packed.into(),
            tasks,
            staging: None,
            footprint,
        }
    }
}

impl Built {
    /// Gives up the memory that only growing needed.
    pub fn shrink_to_fit(&mut self) {
        self.code.bytes.shrink_to_fit();
        if let Some(packed) = Arc::get_mut(&mut self.packed) {
            packed.shrink_to_fit();
        }
    }
}

/// What a variant does with a matrix of weights.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Weighting {
    /// There is none.
    Unweighted,
    /// It multiplies with all of them.
    Dense,
    /// It leaves those out that are zero.
    Sparse,
}

/// One implementation of a family of problems, as it is written: with the type of its problems.
/// Everything else about it ([`Variant`]) follows, its tests included.
pub trait TypedVariant: Sync {
    /// Problems of its family.
    type Problem: FamilyProblem;
    /// `family.variant`, the same on every ISA.
    const NAME: &'static str;
    /// What it does with weights.
    const WEIGHTING: Weighting;
    /// Extensions without which it cannot be built.
    const NEEDS: Features = Features::NONE;
    /// A small problem, in the words of the suite in `kernels/tests`, whose code is shown for review.
    const EXAMPLE: &'static str;
    /// Whether the variant can compute the problem, and if not, why.
    fn supports(problem: &Self::Problem, isa: Isa) -> Result<(), Unsupported>;
    /// Estimate; only called when supported.
    fn cost(problem: &Self::Problem, pattern: &Pattern, isa: Isa) -> Cost;
    /// Generates code and packs weights; only called when supported. Pure: the same arguments give the
    /// same bytes.
    fn build<A: VectorAsm>(
        problem: &Self::Problem,
        weights: Weights<'_>,
    ) -> Result<Built, KernelError>;
}

/// One implementation of a family of problems, as it is used: for any problem.
pub trait Variant: Sync {
    /// `family.variant`, the same on every ISA.
    fn name(&self) -> &'static str;
    /// What it does with weights.
    fn weighting(&self) -> Weighting;
    /// Extensions without which it cannot be built.
    fn needs(&self) -> Features;
    /// A small problem, in the words of the suite in `kernels/tests`, whose code is shown for review.
    fn example(&self) -> &'static str;
    /// Whether the variant can compute the problem, and if not, why.
    fn supports(&self, problem: &Problem, isa: Isa) -> Result<(), Unsupported>;
    /// Estimate.
    fn cost(&self, problem: &Problem, pattern: &Pattern, isa: Isa) -> Result<Cost, Unsupported>;
    /// Generates code and packs weights. Pure: the same arguments give the same bytes.
    fn build(
        &self,
        problem: &Problem,
        weights: Weights<'_>,
        isa: Isa,
    ) -> Result<Built, KernelError>;
}

/// The problem of a variant, if it supports it.
fn supported<T: TypedVariant>(problem: &Problem, isa: Isa) -> Result<&T::Problem, Unsupported> {
    let problem = T::Problem::of(problem)?;
    if !isa.descriptor().features.contains(T::NEEDS) {
        return Err(Unsupported::Features(T::NEEDS));
    }
    T::supports(problem, isa).map(|()| problem)
}

impl<T: TypedVariant> Variant for T {
    fn name(&self) -> &'static str {
        T::NAME
    }
    fn weighting(&self) -> Weighting {
        T::WEIGHTING
    }
    fn needs(&self) -> Features {
        T::NEEDS
    }
    fn example(&self) -> &'static str {
        T::EXAMPLE
    }
    fn supports(&self, problem: &Problem, isa: Isa) -> Result<(), Unsupported> {
        supported::<T>(problem, isa).map(|_| ())
    }
    fn cost(&self, problem: &Problem, pattern: &Pattern, isa: Isa) -> Result<Cost, Unsupported> {
        Ok(T::cost(supported::<T>(problem, isa)?, pattern, isa))
    }
    fn build(
        &self,
        problem: &Problem,
        weights: Weights<'_>,
        isa: Isa,
    ) -> Result<Built, KernelError> {
        let problem = supported::<T>(problem, isa)?;
        if T::WEIGHTING == Weighting::Sparse {
            return with_assembler!(isa, A => T::build::<A>(problem, weights));
        }
        // What keeps the zeros wants them side by side.
        let all = weights.all();
        let values = Values::All(&all);
        let weights = Weights { values, ..weights };
        with_assembler!(isa, A => T::build::<A>(problem, weights))
    }
}

/// Number of an entry's parameters in a list without duplicates, to which they are added.
pub(crate) fn index_of<T: PartialEq>(entries: &mut Vec<T>, entry: T) -> u32 {
    let index = entries.iter().position(|known| *known == entry);
    let index = index.unwrap_or_else(|| {
        entries.push(entry);
        entries.len() - 1
    });
    index as u32
}

/// Lanes that the last vector of `elems` elements uses.
pub(crate) fn last_lanes(elems: u32, lanes: u32) -> u32 {
    (elems - 1) % lanes + 1
}

/// Tasks over `count` blocks of which the last needs code of its own: at most about `tasks` tasks of
/// entry 0 for the others, and one of entry 1. `task` is told the first block and their number.
pub(crate) fn whole_and_last(count: u32, tasks: u32, task: impl Fn(u32, u32) -> Task) -> Vec<Task> {
    let whole = count - 1;
    let mut all: Vec<Task> = balanced(whole, whole.div_ceil(tasks))
        .map(|range| task(range.start, range.len() as u32))
        .collect();
    all.push(Task {
        entry: 1,
        ..task(whole, 1)
    });
    all
}

/// The same for the vectors of `elems` consecutive elements of source and result.
pub(crate) fn vector_tasks(elems: u32, lanes: u32, tasks: u32) -> Vec<Task> {
    whole_and_last(elems.div_ceil(lanes), tasks, |first, count| {
        let offset = i64::from(first) * i64::from(lanes) * 4;
        Task {
            src: offset,
            dst: offset,
            count: count.into(),
            cost: count as f32,
            ..Task::default()
        }
    })
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
