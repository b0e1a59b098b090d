//! Direct sparse convolution with the pattern in the instruction stream.

use super::cluster::{self, StepCost};
use super::schedule::{self, Chunk, Tap};
use crate::emit::{
    AUX, COUNT, SRC, WEI, WEI_START, accumulators, entry, last_registers, load, load_arg,
    load_args, start_from_bias, vector_bytes,
};
use crate::flat::{Flat, Form};
use crate::variant::{
    Built, Cost, KernelError, TASK_CYCLES, Task, TypedVariant, Unsupported, Weighting, Weights,
};
use crate::{AlignedBuf, ConvProblem, Footprint, Fused, KernelArgs, limits};
use skimjit_jit::Isa;
use skimjit_jit::asm::{Avx512Asm, Gp, Mem, V, VectorAsm};
use skimjit_models::Pattern;
use std::mem::offset_of;
use std::ops::Range;

/// Direct sparse convolution, pattern baked into the instruction stream.
///
/// `dst[o][y][x] = post(bias[o] + Σ wei[k] · src[c(k)][y·sh + i(k)·dh − ph][x·sw + j(k)·dw − pw])`
/// over the non-zeros k of row o.
/// * src: flat planes (zero gaps) or their staged copy. dst: planes, gaps untouched.
/// * wei: nnz `f32` in schedule order, read once per step of `per_step` vectors.
/// * task = one chunk of output channels × one segment of the plane; tasks write disjoint parts.
/// * scratch: accumulators handed from one pass over the code to the next.
/// * may read `src` beyond its planes as far as [`Footprint::src`] says.
/// * refused: more than [`limits::CODE_BYTES`] of code, operands beyond [`limits::OPERAND_ELEMS`].
pub struct Baked;

/// Code bytes that one pass over a segment may have: it should stay in the first-level instruction
/// cache while the vectors of the segment go by. Longer chunks are cut into passes that hand the
/// accumulators on through scratch memory.
const PASS_BYTES: usize = 26 << 10;
/// Most steps of a segment when there are several passes, so that the handed-on accumulators stay in
/// the first-level data cache.
const PASS_STEPS: u32 = 16;

/// Code of one layer up to which it is fetched from a cache.
const CACHED_CODE_BYTES: f64 = 8e6;

/// Vectors of a step.
fn vectors(isa: Isa) -> u32 {
    match isa {
        Isa::Avx512 => 1,
        Isa::Avx2 => 3,
    }
}

/// Input channels of which a vector of pixels does not stay in the first-level cache from chunk to chunk.
const FAR_CHANNELS: u32 = 256;

/// What such functions find free, at least.
const REGISTERS_OF_FUNCTIONS: u32 = 6;

/// Output channels × vectors held in accumulators: 28 of 32 registers, or 12 of 16; fewer before functions that want
/// registers to take several vectors side by side.
fn tile(problem: &ConvProblem, isa: Isa) -> (u32, u32) {
    let rows = match (isa, problem.post.is_some_and(Fused::wants_registers)) {
        (Isa::Avx512, false) => 28,
        (Isa::Avx512, true) => 20,
        (Isa::Avx2, false) => 4,
        (Isa::Avx2, true) => 3,
    };
    (rows, vectors(isa))
}

impl TypedVariant for Baked {
    type Problem = ConvProblem;
    const NAME: &'static str = "sparse_conv.baked";
    const WEIGHTING: Weighting = Weighting::Sparse;
    const EXAMPLE: &'static str = "conv src=2x7x7x80 dst=3x7x7x80 k=3x3 s=1x1 p=1x1 d=1x1 g=1 relu=0 density=20 bias=1 scale=1 seed=1";

    fn supports(problem: &ConvProblem, _isa: Isa) -> Result<(), Unsupported> {
        problem.check()
    }
    fn cost(problem: &ConvProblem, pattern: &Pattern, isa: Isa) -> Cost {
        let (rows, _) = tile(problem, isa);
        let flat = geometry(problem, isa);
        let nnz = f64::from(pattern.nnz());
        let per_tap = taps_shared(pattern.density(), rows);
        let taps = nnz / per_tap;
        let mut per = step_cost(&flat, isa);
        // Every pixel of a step comes from the second-level cache again.
        if problem.taps() == 1 && problem.icg() >= FAR_CHANNELS {
            per.tap += 0.85;
        }
        let chunks = f64::from(problem.ocg().div_ceil(rows) * problem.groups);
        let step = nnz * per.nnz + taps * per.tap + 12.0 * chunks + 3.7 * f64::from(problem.dst.c);
        let (nnz_bytes, tap_bytes) = code_bytes(isa);
        let bytes = nnz * nnz_bytes as f64 + taps * tap_bytes as f64;
        // Code of a single pass stays in the first-level instruction cache from step to step.
        let resident = isa == Isa::Avx512 && bytes / chunks < PASS_BYTES as f64;
        let step = if resident { 0.8 * step } else { step };
        // Each segment fetches all code again: from a cache quickly, from memory very slowly.
        let [first, again] = if bytes > CACHED_CODE_BYTES {
            [1.6; 2]
        } else {
            [0.14, 0.05]
        };
        let segments = f64::from(flat.steps().div_ceil(PASS_STEPS));
        Cost {
            cycles: step * f64::from(flat.steps())
                + bytes * (first + again * (segments - 1.0))
                + segments * chunks * TASK_CYCLES
                + problem.post_cycles(isa, REGISTERS_OF_FUNCTIONS)
                + flat.staging_cycles(),
            code_bytes: bytes as u64,
        }
    }
    fn build<A: VectorAsm>(
        problem: &ConvProblem,
        weights: Weights<'_>,
    ) -> Result<Built, KernelError> {
        build::<A>(problem, weights)
    }
}

/// Cycles of a non-zero, and of loading or shifting a tap, per step; fitted on Zen 5, whose two loads a
/// cycle and instruction supply are the limits.
fn step_cost(flat: &Flat, isa: Isa) -> StepCost {
    let vectors = f64::from(vectors(isa));
    let (nnz, tap) = match (isa, &flat.form) {
        (Isa::Avx512, Form::Direct { .. }) => (0.6, 0.45),
        (Isa::Avx512, Form::Staged(_)) => (0.6, 1.0),
        (Isa::Avx2, _) => (0.6 * vectors, 0.65 * vectors),
    };
    StepCost { nnz, tap }
}

/// Mean number of non-zeros that share a loaded tap, for a random pattern.
fn taps_shared(density: f64, rows: u32) -> f64 {
    let used = 1.0 - (1.0 - density).powi(rows as i32);
    if used <= 0.0 {
        1.0
    } else {
        (density * f64::from(rows) / used).max(1.0)
    }
}

fn geometry(problem: &ConvProblem, isa: Isa) -> Flat {
    let (rows, vectors) = tile(problem, isa);
    let chunks = problem.ocg().div_ceil(rows) * problem.groups;
    Flat::new(problem, isa, vectors, chunks).most_steps(PASS_STEPS)
}

/// Estimated code bytes of a non-zero, and of a tap.
fn code_bytes(isa: Isa) -> (usize, usize) {
    let vectors = vectors(isa);
    match isa {
        Isa::Avx512 => (7, 12),
        Isa::Avx2 => (6 + 5 * vectors as usize, 9 * vectors as usize),
    }
}

/// Cuts a chunk's taps into passes of about equal code size; cuts lie between input channels.
fn passes(chunk: &Chunk, isa: Isa) -> Vec<Range<usize>> {
    let (per_nnz, per_tap) = code_bytes(isa);
    let total = chunk.accs.len() * per_nnz + chunk.taps.len() * per_tap;
    let count = total.div_ceil(PASS_BYTES).max(1);
    let mut cuts = vec![0];
    for pass in 1..count {
        let target = chunk.taps.len() * pass / count;
        let rest = chunk.taps[target..].iter().zip(target..);
        let start = rest
            .map(|(tap, at)| (tap.ic, at))
            .find(|&(ic, _)| ic != chunk.taps[target - 1].ic);
        cuts.extend(
            start
                .map(|(_, at)| at)
                .filter(|&at| Some(&at) > cuts.last()),
        );
    }
    cuts.push(chunk.taps.len());
    cuts.windows(2).map(|cut| cut[0]..cut[1]).collect()
}

/// What the emitters of one kernel share.
struct Plan {
    flat: Flat,
    /// Aligned loads and register shifts instead of unaligned loads.
    windowed: bool,
}

fn build<A: VectorAsm>(problem: &ConvProblem, weights: Weights<'_>) -> Result<Built, KernelError> {
    let (rows, _) = tile(problem, A::ISA);
    let flat = geometry(problem, A::ISA);
    let windowed = matches!(flat.form, Form::Direct { .. })
        && problem.src.pitch.is_multiple_of(A::LANES as u32)
        && problem.src.w >= problem.window.kernel[1] * problem.window.dilation[1];
    let plan = Plan { flat, windowed };
    let mut packed = AlignedBuf::with_capacity(weights.pattern.nnz() as usize * 4);
    let table = plan.flat.write_table::<A>(&mut packed);
    let mut asm = A::new();
    let mut tasks = Vec::new();
    let mut entries = Vec::new();
    let mut scratch_bytes = 0;
    let clusters = cluster::rows(
        problem,
        weights.pattern,
        rows,
        step_cost(&plan.flat, A::ISA),
    );
    let cols = weights.pattern.cols();
    for chunk in schedule::chunks(problem, weights.pattern, clusters) {
        let bias = weights.pack_bias(&mut packed, chunk.rows.iter().copied());
        let wei = packed.align(64);
        packed.extend_f32(
            chunk
                .weights
                .iter()
                .map(|&index| weights.value(index / cols, index % cols)),
        );
        let task = Task {
            entry: entries.len() as u32,
            wei,
            bias,
            aux: table,
            cost: chunk.accs.len() as f32 + 30.0,
            ..Task::of_rows(problem, plan.flat.channel_elems(), chunk.rows[0])
        };
        plan.flat.push_tasks::<A>(&mut tasks, task);
        let passes = passes(&chunk, A::ISA);
        if passes.len() > 1 {
            let step = chunk.rows.len() * plan.flat.per_step as usize * 4 * A::LANES;
            scratch_bytes = scratch_bytes.max(step * PASS_STEPS as usize);
        }
        entries.push(emit_chunk(&mut asm, &plan, &chunk, &passes));
        if asm.offset() > limits::CODE_BYTES {
            return Err(KernelError::CodeTooLarge(asm.offset()));
        }
    }
    let footprint = Footprint {
        src: plan.flat.src_extent(plan.windowed),
        dst: plan.flat.dst_extent(),
        scratch_bytes,
    };
    Ok(Built {
        staging: plan.flat.staging(),
        ..Built::new(asm, entries, packed, tasks, footprint)
    })
}

/// Start of the segment's source, tables and count, for the next pass.
const SRC_START: Gp = Gp::Rbx;
const AUX_START: Gp = Gp::R12;
const COUNT_START: Gp = Gp::R13;
/// Accumulators handed on: start, and of the current step.
const HANDED_START: Gp = Gp::R14;
const HANDED: Gp = Gp::R15;
const SAVED: [Gp; 5] = [SRC_START, AUX_START, COUNT_START, HANDED_START, HANDED];

/// One chunk: per pass a loop over the segment's steps. Returns the entry's offset.
fn emit_chunk<A: VectorAsm>(
    asm: &mut A,
    plan: &Plan,
    chunk: &Chunk,
    passes: &[Range<usize>],
) -> usize {
    let several = passes.len() > 1;
    let saved = if several { &SAVED[..] } else { &[] };
    entry(asm, saved, |asm| {
        if several {
            load_arg(asm, HANDED_START, Gp::Rdi, offset_of!(KernelArgs, scratch));
        }
        load_args(asm);
        asm.lea(WEI_START, Mem::new(WEI, WeightCursor::reach::<A>()));
        if several {
            asm.mov(SRC_START, SRC);
            asm.mov(AUX_START, AUX);
            asm.mov(COUNT_START, COUNT);
        }
        for (i, taps) in passes.iter().enumerate() {
            if several {
                asm.mov(SRC, SRC_START);
                asm.mov(AUX, AUX_START);
                asm.mov(COUNT, COUNT_START);
                asm.mov(HANDED, HANDED_START);
            }
            let (first, last) = (i == 0, i + 1 == passes.len());
            emit_pass(asm, plan, chunk, first, last, |asm, cursor| {
                let taps = taps.clone();
                match asm.avx512() {
                    Some(asm) if plan.windowed => emit_windowed(asm, plan, chunk, taps, cursor),
                    _ => emit_body(asm, plan, chunk, taps, cursor),
                }
            });
        }
    })
}

/// The loop of one pass. The first starts from the bias, others from what the previous pass left;
/// the last stores results.
fn emit_pass<A: VectorAsm>(
    asm: &mut A,
    plan: &Plan,
    chunk: &Chunk,
    first: bool,
    last: bool,
    body: impl FnOnce(&mut A, &mut WeightCursor),
) {
    let accs = accumulators(chunk.rows.len() as u32, plan.flat.per_step);
    let handed = |i: usize| Mem::new(HANDED, i as i32 * vector_bytes::<A>());
    let all = || accs.iter().flatten().enumerate();
    let mut cursor = WeightCursor::new::<A>();
    asm.counted_loop(COUNT, |asm| {
        plan.flat.load_masks(asm);
        asm.mov(WEI, WEI_START);
        if first {
            start_from_bias(asm, &accs);
        } else {
            all().for_each(|(i, &acc)| asm.load(acc, handed(i)));
        }
        body(asm, &mut cursor);
        if last {
            let planes: Vec<u32> = chunk.rows.iter().map(|row| row - chunk.rows[0]).collect();
            plan.flat.store(asm, &accs, &planes, last_registers::<A>());
            plan.flat.advance(asm);
        } else {
            all().for_each(|(i, &acc)| asm.store(handed(i), acc));
            plan.flat.advance_source(asm);
        }
        if !(first && last) {
            asm.add_imm(HANDED, (all().count() as i32) * vector_bytes::<A>());
        }
    });
    if !last {
        // The next pass reads on where this one stopped.
        asm.lea(
            WEI_START,
            Mem::new(WEI, cursor.disp + WeightCursor::reach::<A>()),
        );
    }
}

/// Walks the packed weights with displacements that encode in one byte.
struct WeightCursor {
    disp: i32,
    reach: i32,
}

impl WeightCursor {
    /// Half of the bytes that a one-byte displacement reaches.
    fn reach<A: VectorAsm>() -> i32 {
        A::ISA.descriptor().short_reach_bytes
    }
    fn new<A: VectorAsm>() -> Self {
        let reach = Self::reach::<A>();
        Self {
            disp: -reach,
            reach,
        }
    }
    /// Operand of the next weight; moves the register when the displacement runs out.
    fn next<A: VectorAsm>(&mut self, asm: &mut A) -> Mem {
        if self.disp == self.reach {
            asm.add_imm(WEI, 2 * self.reach);
            self.disp = -self.reach;
        }
        let mem = Mem::new(WEI, self.disp);
        self.disp += 4;
        mem
    }
}

/// Source operand of a tap.
fn tap_mem(plan: &Plan, tap: &Tap, t: usize, lanes: usize) -> Mem {
    let elems = tap.ic as i32 * plan.flat.channel_elems() as i32
        + plan.flat.tap(tap.ky, tap.kx)
        + (t * lanes) as i32;
    Mem::new(SRC, elems * 4)
}

/// Unaligned (masked) loads, each shared by the channels of the chunk.
fn emit_body<A: VectorAsm>(
    asm: &mut A,
    plan: &Plan,
    chunk: &Chunk,
    taps: Range<usize>,
    cursor: &mut WeightCursor,
) {
    let accs = accumulators(chunk.rows.len() as u32, plan.flat.per_step);
    let vectors = plan.flat.per_step as usize;
    let spare = last_registers::<A>();
    // With one vector per step consecutive taps use different registers.
    let x = |tap: usize, t: usize| {
        if vectors == 1 {
            spare[tap % 3]
        } else {
            spare[t]
        }
    };
    for (i, (tap, rows)) in chunk.taps(taps).enumerate() {
        for t in 0..vectors {
            let mem = tap_mem(plan, tap, t, A::LANES);
            load(asm, x(i, t), mem, plan.flat.column_mask(tap.kx, t as u32));
        }
        for &row in rows {
            let weight = cursor.next(asm);
            if vectors == 1 {
                asm.fma_bcast(accs[row as usize][0], x(i, 0), weight, spare[3]);
                continue;
            }
            asm.broadcast(spare[3], weight);
            for (t, &acc) in accs[row as usize].iter().enumerate() {
                asm.fma(acc, spare[3], x(i, t));
            }
        }
    }
}

/// Aligned vectors of the source that are in registers.
struct Window {
    /// Register and what it holds: (channel, vector) or a shifted temporary.
    slots: [(V, Option<(u32, i32)>); 4],
    /// Least recently allocated slot first.
    order: [usize; 4],
}

impl Window {
    fn new(registers: [V; 4]) -> Self {
        Self {
            slots: registers.map(|register| (register, None)),
            order: [0, 1, 2, 3],
        }
    }
    /// A register to overwrite that is not in `keep`; temporaries go first, then the oldest vector.
    fn allocate(&mut self, keep: &[V], holds: Option<(u32, i32)>) -> V {
        let free = |&&slot: &&usize| !keep.contains(&self.slots[slot].0);
        let temporary = self
            .order
            .iter()
            .filter(free)
            .find(|&&slot| self.slots[slot].1.is_none())
            .copied();
        let slot = temporary
            .or_else(|| self.order.iter().find(free).copied())
            .expect("at most two registers are kept");
        let at = self
            .order
            .iter()
            .position(|&other| other == slot)
            .expect("slot is listed");
        self.order[at..].rotate_left(1);
        self.slots[slot].1 = holds;
        self.slots[slot].0
    }
    /// Register of aligned vector `q` of channel `ic`, loaded when it is not there.
    fn vector<A: VectorAsm>(
        &mut self,
        asm: &mut A,
        plan: &Plan,
        (ic, q): (u32, i32),
        keep: &[V],
    ) -> V {
        if let Some((register, _)) = self.slots.iter().find(|(_, holds)| *holds == Some((ic, q))) {
            return *register;
        }
        let register = self.allocate(keep, Some((ic, q)));
        let elems = ic as i32 * plan.flat.channel_elems() as i32 + q * A::LANES as i32;
        asm.load(register, Mem::new(SRC, elems * 4));
        register
    }
}

/// Aligned loads only; horizontal and vertical shifts are made in registers (`valignd`), with lanes
/// beside the row zeroed by the column's mask. Taps come in ascending displacement per channel, so
/// each aligned vector is loaded about once.
fn emit_windowed(
    asm: &mut Avx512Asm,
    plan: &Plan,
    chunk: &Chunk,
    taps: Range<usize>,
    cursor: &mut WeightCursor,
) {
    let accs = accumulators(chunk.rows.len() as u32, plan.flat.per_step);
    let mut window = Window::new(last_registers::<Avx512Asm>());
    for (tap, rows) in chunk.taps(taps) {
        let x = emit_tap(asm, plan, &mut window, tap);
        for &row in rows {
            let weight = cursor.next(asm);
            asm.fma_bcast(accs[row as usize][0], x, weight, x);
        }
    }
}

fn emit_tap(asm: &mut Avx512Asm, plan: &Plan, window: &mut Window, tap: &Tap) -> V {
    let lanes = Avx512Asm::LANES as i32;
    let disp = plan.flat.tap(tap.ky, tap.kx);
    let (q, shift) = (disp.div_euclid(lanes), disp.rem_euclid(lanes) as u8);
    let mask = plan.flat.column_mask(tap.kx, 0);
    match (shift, mask) {
        (0, None) => window.vector(asm, plan, (tap.ic, q), &[]),
        (0, Some(mask)) => {
            let x = window.allocate(&[], None);
            asm.load_masked(x, tap_mem(plan, tap, 0, Avx512Asm::LANES), mask);
            x
        }
        _ => {
            let lo = window.vector(asm, plan, (tap.ic, q), &[]);
            let hi = window.vector(asm, plan, (tap.ic, q + 1), &[lo]);
            let x = window.allocate(&[lo, hi], None);
            match mask {
                Some(mask) => asm.align_lanes_masked(x, hi, lo, shift, mask),
                None => asm.align_lanes(x, hi, lo, shift),
            }
            x
        }
    }
}
