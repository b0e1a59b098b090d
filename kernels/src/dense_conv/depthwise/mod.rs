//! Depthwise convolution: each source row is read once and added to all the rows of the result that it is under.

mod columns;
mod rows;

use crate::emit::{AUX, COUNT, DST, RES, SRC, WEI, load_args, store, vector_bytes};
use crate::epilogue::Epilogue;
use crate::problem::refuse;
use crate::variant::{
    Built, Cost, KernelError, Task, TypedVariant, Unsupported, Weighting, Weights, balanced,
    index_of,
};
use crate::{AlignedBuf, ConvProblem, Extent, Footprint};
use columns::{Fetch, Strip, fetches, strips};
use rows::{Row, Rows, accumulators, all_have_sources};
use skimjit_jit::Isa;
use skimjit_jit::asm::{Gp, M, Mem, V, VectorAsm};
use skimjit_models::Pattern;
use std::ops::Range;

/// Depthwise convolution: as many groups as channels.
///
/// A strip of the result, as wide as a vector, is computed from top to bottom. A source row's vectors, one for each
/// column of the window, are multiplied with the window's rows into as many accumulators; each of these is
/// stored when the last row under it has been read. Beside the plane lanes are masked off, above and below rows
/// are left out, so that planes are read where they lie and need no gaps.
///
/// With a stride of 2 even and odd lanes of two vectors are taken apart inside each 128-bit part; the result's
/// lanes are put in order when it is stored.
///
/// Formula and layouts as [`crate::sparse_conv::baked::Baked`], over all weights.
/// * wei: per channel its bias, then the window, row-major, `f32`.
/// * task = some channels.
/// * refused: several output channels for an input channel, columns further apart than 2, windows of more than
///   `MOST_TAPS` taps or too tall for the registers, rows of the result without any source row.
pub struct Depthwise;

const TASKS: u32 = 16;
const MOST_TAPS: u32 = 121;
/// Registers besides weights and accumulators.
const TEMPORARIES: u8 = 3;

impl TypedVariant for Depthwise {
    type Problem = ConvProblem;
    const NAME: &'static str = "dense_conv.depthwise";
    const WEIGHTING: Weighting = Weighting::Dense;
    const EXAMPLE: &'static str = "conv src=3x9x9x96 dst=3x5x5x32 k=3x3 s=2x2 p=1x1 d=1x1 g=3 relu=0 density=100 bias=1 scale=1 seed=1";

    fn supports(problem: &ConvProblem, isa: Isa) -> Result<(), Unsupported> {
        problem.check()?;
        let channels = [problem.src.c, problem.dst.c];
        if channels != [problem.groups; 2] {
            let groups = problem.groups;
            return refuse(format!(
                "{groups} groups of {channels:?} channels, expected as many"
            ));
        }
        let (window, taps) = (&problem.window, problem.taps());
        if window.stride[1] > 2 || taps > MOST_TAPS {
            return refuse(format!(
                "{taps} taps every {} columns, expected at most {MOST_TAPS} and 2",
                window.stride[1]
            ));
        }
        let (rows, registers) = (accumulators(problem), isa.descriptor().vector_registers);
        let most = u32::from(registers - TEMPORARIES - 1);
        if rows > most {
            return refuse(format!("{rows} rows at once, expected at most {most}"));
        }
        if !all_have_sources(problem) {
            return refuse("rows that are sums of padding only".into());
        }
        Ok(())
    }
    fn cost(problem: &ConvProblem, _pattern: &Pattern, isa: Isa) -> Cost {
        let window = &problem.window;
        let vectors = f64::from(problem.dst.w.div_ceil(isa.lanes()));
        let loads: f64 = fetches(problem)
            .iter()
            .map(|fetch| f64::from(fetch.vectors))
            .sum();
        let read = f64::from(problem.src.h.min(problem.dst.h * window.stride[0])) * loads;
        let taps = f64::from(problem.taps()) * f64::from(problem.dst.h);
        let strip = 0.5 * taps + 0.5 * read + 1.5 * f64::from(problem.dst.h) + 15.0;
        let period = accumulators(problem) * window.stride[0];
        Cost {
            cycles: f64::from(problem.dst.c) * (vectors * strip + 20.0)
                + problem.post_cycles(isa, 9),
            code_bytes: u64::from(problem.taps()) * u64::from(period) * 60,
        }
    }
    fn build<A: VectorAsm>(
        problem: &ConvProblem,
        weights: Weights<'_>,
    ) -> Result<Built, KernelError> {
        let mut packed = AlignedBuf::new();
        let taps = problem.taps() as usize;
        for (channel, window) in (0..).zip(weights.all().chunks_exact(taps)) {
            packed.extend_f32([weights.bias_of(channel)]);
            packed.extend_f32(window.iter().copied());
        }
        let values = 1 + problem.taps();
        let mut emitter = Emitter::new::<A>(problem);
        let mut asm = A::new();
        emitter.emit(&mut asm);
        let table = emitter.write_table::<A>(&mut packed);
        let channels = balanced(problem.dst.c, problem.dst.c.div_ceil(TASKS));
        let tasks = channels.map(|channels| Task {
            wei: u64::from(channels.start) * u64::from(values) * 4,
            aux: table,
            ..Task::of_channels(channels, &problem.src, &problem.dst)
        });
        let tasks = tasks.collect();
        // A residual is read in whole vectors.
        let beyond = if problem.residual { A::LANES } else { 0 };
        let mut dst = Extent::of(&problem.dst);
        dst.after += beyond;
        let footprint = Footprint::new(Extent::of(&problem.src), dst);
        Ok(Built::new(asm, [0], packed, tasks, footprint))
    }
}

/// Row 0 of the strip's source, later a few rows further on.
const ROW: Gp = Gp::R9;
/// The same of the result.
const OUT: Gp = Gp::R10;
/// The same of the residual.
const OUT_RES: Gp = Gp::R12;
/// Periods left.
const PERIODS: Gp = Gp::Rbx;
/// Strips left.
const STRIPS: Gp = Gp::R13;
/// Opmasks that keep the masks of a strip's loads; the last register is the store's.
const LOAD_MASKS: Range<u8> = 1..7;
const STORE_MASK: u8 = 7;
/// Bytes of a mask in the table, with what fills it up.
const MASK_BYTES: i32 = 32;

/// Even and odd lanes inside each 128-bit part of two vectors.
const EVEN: u8 = 0x88;
const ODD: u8 = 0xDD;

struct Emitter<'a> {
    problem: &'a ConvProblem,
    fetches: Vec<Fetch>,
    lanes: u32,
    accumulators: u32,
    /// Values of a channel, bias and window, of which the first so many are in registers.
    in_registers: u32,
    /// Lanes of masks in the table.
    masks: Vec<u32>,
}

impl<'a> Emitter<'a> {
    fn new<A: VectorAsm>(problem: &'a ConvProblem) -> Self {
        let (accumulators, values) = (accumulators(problem), 1 + problem.taps());
        let free = u32::from(A::VREGS - TEMPORARIES) - accumulators;
        // What is multiplied from memory needs another register.
        let in_registers = if values <= free { values } else { free - 1 };
        Self {
            problem,
            fetches: fetches(problem),
            lanes: A::LANES as u32,
            accumulators,
            in_registers,
            masks: Vec::new(),
        }
    }

    fn accumulator(&self, number: u32) -> V {
        V(number as u8)
    }

    /// Registers that hold nothing between two rows. The last may be in use where all weights are in registers.
    fn temporaries(&self) -> [V; 4] {
        let first = (self.accumulators + self.in_registers) as u8;
        [0, 1, 2, 3].map(|i| V(first + i))
    }

    /// Order of lanes in which a strip is stored, then the masks.
    fn write_table<A: VectorAsm>(&self, packed: &mut AlignedBuf) -> u64 {
        let table = packed.align(64);
        for lane in 0..self.lanes {
            let half = self.lanes / 2;
            let (vector, pair) = (lane / half, lane % half);
            let from = pair / 2 * 4 + vector * 2 + pair % 2;
            packed.extend(&from.to_le_bytes());
        }
        for &bits in &self.masks {
            let mask = A::mask_bytes(bits);
            packed.extend(&mask);
            packed.extend(&[0; MASK_BYTES as usize][mask.len()..]);
        }
        table
    }

    /// Where a mask is in the table.
    fn mask(&mut self, bits: u32) -> Mem {
        let index = index_of(&mut self.masks, bits) as i32;
        Mem::new(AUX, self.lanes as i32 * 4 + index * MASK_BYTES)
    }

    fn emit<A: VectorAsm>(&mut self, asm: &mut A) {
        let saved = [PERIODS, OUT_RES, STRIPS];
        saved.iter().for_each(|&register| asm.push(register));
        load_args(asm);
        let (src, dst) = (self.problem.src, self.problem.dst);
        asm.counted_loop(COUNT, |asm| {
            for value in 0..self.in_registers {
                let register = V((self.accumulators + value) as u8);
                asm.broadcast(register, Mem::new(WEI, value as i32 * 4));
            }
            // From right to left: what the last strip stores beside a row is overwritten by the first.
            for (range, strip) in strips(self.problem, &self.fetches, self.lanes).iter().rev() {
                self.run(asm, range, strip);
            }
            asm.add_imm(WEI, (1 + self.problem.taps() as i32) * 4);
            asm.add_imm(SRC, src.pitch as i32 * 4);
            asm.add_imm(DST, dst.pitch as i32 * 4);
            if self.problem.residual {
                asm.add_imm(RES, dst.pitch as i32 * 4);
            }
        });
        saved.iter().rev().for_each(|&register| asm.pop(register));
        asm.ret();
    }

    /// Strips with the same code.
    fn run<A: VectorAsm>(&mut self, asm: &mut A, range: &Range<u32>, strip: &Strip) {
        let stride = self.problem.window.stride[1] as i32;
        let bytes = vector_bytes::<A>();
        let first = range.start as i32 * bytes;
        asm.lea(ROW, Mem::new(SRC, first * stride));
        asm.lea(OUT, Mem::new(DST, first));
        if self.problem.residual {
            asm.lea(OUT_RES, Mem::new(RES, first));
        }
        let kept = self.load_masks(asm, strip);
        if range.len() == 1 {
            self.strip(asm, strip, &kept, range.start);
            return;
        }
        asm.mov_imm(STRIPS, range.len() as i64);
        asm.counted_loop(STRIPS, |asm| {
            let [rows, outs] = self.strip(asm, strip, &kept, range.start);
            asm.add_imm(ROW, bytes * stride - rows);
            self.advance_result(asm, bytes - outs);
        });
    }

    fn advance_result<A: VectorAsm>(&self, asm: &mut A, bytes: i32) {
        asm.add_imm(OUT, bytes);
        if self.problem.residual {
            asm.add_imm(OUT_RES, bytes);
        }
    }

    /// Loads as many masks of a strip's loads as there are registers for; returns them.
    fn load_masks<A: VectorAsm>(&mut self, asm: &mut A, strip: &Strip) -> Vec<u32> {
        let mut kept = Vec::new();
        if A::ISA.descriptor().mask_registers == 0 {
            return kept;
        }
        for &bits in strip.loads.iter().flatten() {
            let partial = bits != 0 && bits != self.all_lanes();
            if partial && !kept.contains(&bits) && kept.len() < LOAD_MASKS.len() - 1 {
                let register = M(LOAD_MASKS.start + kept.len() as u8);
                let mask = self.mask(bits);
                asm.load_mask(register, mask);
                kept.push(bits);
            }
        }
        let store = self.mask(strip.store);
        asm.load_mask(M(STORE_MASK), store);
        kept
    }

    fn all_lanes(&self) -> u32 {
        ((1u64 << self.lanes) - 1) as u32
    }

    /// Whether row `y` of the result must be stored with a mask: what a whole vector stores beside it is
    /// overwritten later, unless it lies behind the plane, or rows are not completed one after the other.
    fn is_masked<A: VectorAsm>(&self, strip: &Strip, first: u32, y: u32) -> bool {
        let dst = &self.problem.dst;
        let end = u64::from(y) * u64::from(dst.w) + u64::from((first + 1) * self.lanes);
        let spills = end > u64::from(dst.hw()) || self.problem.window.dilation[0] > 1;
        let free = A::ISA.descriptor().masked_stores_are_free;
        strip.store != self.all_lanes() && (free || spills)
    }

    /// One strip from top to bottom. Returns the bytes that source and result have moved on.
    fn strip<A: VectorAsm>(
        &mut self,
        asm: &mut A,
        strip: &Strip,
        kept: &[u32],
        first: u32,
    ) -> [i32; 2] {
        let masked = |y: u32| self.is_masked::<A>(strip, first, y);
        let rows = Rows::new(self.problem, masked);
        let widths = [self.problem.src.w, self.problem.dst.w].map(|w| w as i32 * 4);
        let results = (rows.accumulators as i32) * widths[1];
        let looped = rows.looped.clone();
        let mut walk = Walk {
            strip,
            kept,
            first,
            moved: [0; 2],
        };
        for (index, row) in rows.rows.iter().enumerate() {
            if index == looped.start && !looped.is_empty() {
                let trips = looped.len() / rows.period;
                asm.mov_imm(PERIODS, trips as i64);
                asm.counted_loop(PERIODS, |asm| {
                    for index in looped.start..looped.start + rows.period {
                        self.row(asm, index as i32, &rows.rows[index], &walk);
                    }
                    asm.add_imm(ROW, rows.period as i32 * widths[0]);
                    self.advance_result(asm, results);
                });
                walk.moved = [rows.period as i32 * widths[0], results].map(|b| b * trips as i32);
            }
            if !looped.contains(&index) {
                self.row(asm, index as i32, row, &walk);
            }
        }
        walk.moved
    }

    fn row<A: VectorAsm>(&mut self, asm: &mut A, index: i32, row: &Row, walk: &Walk<'_>) {
        if row.taps.is_empty() {
            return;
        }
        for tap in row.taps.iter().filter(|tap| tap.first) {
            let register = self.accumulator(tap.accumulator);
            match self.in_registers {
                0 => asm.broadcast(register, Mem::new(WEI, 0)),
                _ => asm.vmov(register, V(self.accumulators as u8)),
            }
        }
        let at = Mem::new(ROW, index * self.problem.src.w as i32 * 4 - walk.moved[0]);
        for fetch in 0..self.fetches.len() {
            self.fetch(asm, fetch, at, row, walk);
        }
        for &y in &row.complete {
            self.complete(asm, y, walk);
        }
    }

    /// Loads the vectors of a fetch, and multiplies what comes of them.
    fn fetch<A: VectorAsm>(
        &mut self,
        asm: &mut A,
        index: usize,
        row: Mem,
        taps: &Row,
        walk: &Walk<'_>,
    ) {
        let [low, high, third, _] = self.temporaries();
        let lanes = &walk.strip.loads[index];
        if lanes.iter().all(|&bits| bits == 0) {
            return;
        }
        for (vector, (&bits, to)) in (0..).zip(lanes.iter().zip([low, high])) {
            let from = row.plus(self.fetches[index].offset(vector, self.lanes) * 4);
            self.load(asm, to, from, bits, walk.kept);
        }
        let kx = self.fetches[index].kx;
        let parts = [(EVEN, third), (ODD, low)];
        for (kx, (part, x)) in kx.into_iter().zip(parts) {
            let Some(kx) = kx else { continue };
            let x = match lanes.len() {
                1 => low,
                _ => {
                    asm.shuffle(x, low, high, part);
                    x
                }
            };
            self.multiply(asm, x, kx, taps);
        }
    }

    fn load<A: VectorAsm>(&mut self, asm: &mut A, to: V, from: Mem, bits: u32, kept: &[u32]) {
        if bits == 0 {
            return asm.zero(to);
        }
        if bits == self.all_lanes() {
            return asm.load(to, from);
        }
        let mask = match kept.iter().position(|&one| one == bits) {
            Some(index) => M(LOAD_MASKS.start + index as u8),
            None => {
                let [_, _, third, _] = self.temporaries();
                let mask = A::mask(LOAD_MASKS.end - 1, third);
                let at = self.mask(bits);
                asm.load_mask(mask, at);
                mask
            }
        };
        asm.load_masked(to, from, mask);
    }

    /// Adds a column of the window times `x`.
    fn multiply<A: VectorAsm>(&self, asm: &mut A, x: V, kx: u32, row: &Row) {
        let [.., broadcast] = self.temporaries();
        for tap in &row.taps {
            let value = 1 + tap.ky * self.problem.window.kernel[1] + kx;
            let sum = self.accumulator(tap.accumulator);
            if value < self.in_registers {
                asm.fma(sum, V((self.accumulators + value) as u8), x);
            } else {
                asm.fma_bcast(sum, x, Mem::new(WEI, value as i32 * 4), broadcast);
            }
        }
    }

    /// Post-ops and store of a row of the result.
    fn complete<A: VectorAsm>(&mut self, asm: &mut A, y: u32, walk: &Walk<'_>) {
        let [zero, tmp, constant, _] = self.temporaries();
        let sum = self.accumulator(y % self.accumulators);
        if self.problem.window.stride[1] == 2 {
            asm.load(tmp, Mem::new(AUX, 0));
            asm.permute(sum, tmp, sum);
        }
        let at = y as i32 * self.problem.dst.w as i32 * 4 - walk.moved[1];
        let residual = (self.problem.residual).then_some(Mem::new(OUT_RES, at));
        let epilogue = Epilogue::new(self.problem.post, [zero, tmp, constant]);
        epilogue.prepare(asm);
        epilogue.apply(asm, sum, residual);
        let mask = A::mask(STORE_MASK, tmp);
        let masked = self.is_masked::<A>(walk.strip, walk.first, y);
        if masked && A::ISA.descriptor().mask_registers == 0 {
            let bits = self.mask(walk.strip.store);
            asm.load_mask(mask, bits);
        }
        store(asm, Mem::new(OUT, at), sum, masked.then_some(mask));
    }
}

/// A strip while it is computed.
struct Walk<'s> {
    strip: &'s Strip,
    /// Lanes of the masks that are in registers.
    kept: &'s [u32],
    /// Number of the first strip with this code.
    first: u32,
    /// Bytes that source and result have moved on.
    moved: [i32; 2],
}
