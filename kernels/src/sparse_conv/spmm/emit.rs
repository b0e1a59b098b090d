//! Code of a tile.

use super::geometry::{Geometry, Pixels};
use super::{Cuts, sums};
use crate::emit::{
    AUX, BIAS, COUNT, DST, RES, SRC, TMP, WEI, load_arg, load_args, store, vector_bytes,
};
use crate::epilogue::Epilogue;
use crate::variant::last_lanes;
use crate::{AlignedBuf, ConvProblem, KernelArgs};
use skimjit_jit::asm::{Cond, Gp, Mem, V, VectorAsm};
use std::mem::offset_of;
use std::ops::Range;

/// Non-zeros of a trip.
pub const TRIP: usize = 8;
/// Bytes of a group's header.
pub const GROUP_BYTES: i32 = 16;
/// Bytes of a row's record.
const RECORD_BYTES: i32 = 8;
/// In front of a task's records: mask of the last vector of a row.
const MASK: i32 = 0;
/// Of vectors of several rows: mask of all their outputs, and the order that moves rows together.
const ROWS_MASK: i32 = 64;
const ROWS_ORDER: i32 = 128;
const CONSTANT: usize = 64;

fn constant_bytes(geometry: &Geometry) -> i32 {
    match geometry.has_holes() {
        false => ROWS_MASK,
        true => ROWS_ORDER + CONSTANT as i32,
    }
}

/// Appends what the code reads in front of the records.
pub fn write_constants<A: VectorAsm>(packed: &mut AlignedBuf, geometry: &Geometry) {
    let mut put = |bytes: Vec<u8>| {
        packed.extend(&bytes);
        packed.align(CONSTANT);
    };
    let [row, pitch] = geometry.row();
    put(A::first_lanes(last_lanes(row, A::LANES as u32)));
    if geometry.has_holes() {
        put(A::first_lanes(geometry.rows_per_vector() * row));
        let source = |lane: u32| (lane / row * pitch + lane % row) % A::LANES as u32;
        put((0..A::LANES as u32)
            .flat_map(|lane| source(lane).to_le_bytes())
            .collect());
    }
}

/// Which part of its sums a block adds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Everything, from the bias to the result.
    Only,
    /// From the bias; the sums wait in scratch memory.
    First,
    /// To what waits there.
    Middle,
    /// What remains, to the result.
    Last,
}

impl Mode {
    /// That of a block.
    pub fn of(block: u32, blocks: u32) -> Self {
        match (block, block + 1 == blocks) {
            (0, true) => Self::Only,
            (0, false) => Self::First,
            (_, false) => Self::Middle,
            (_, true) => Self::Last,
        }
    }

    fn begins(self) -> bool {
        matches!(self, Self::Only | Self::First)
    }

    fn ends(self) -> bool {
        matches!(self, Self::Only | Self::Last)
    }

    /// Words of a row: where its sums come from (bias, or bytes into scratch memory), and where they go (bytes
    /// from the first row's result, or into scratch memory).
    pub fn record(self, slot: u32, bias: u32, result: u32) -> [u32; 2] {
        [
            if self.begins() { bias } else { slot },
            if self.ends() { result } else { slot },
        ]
    }
}

/// One entry: code for a tile.
#[derive(PartialEq)]
pub struct Entry {
    /// Outputs of its vectors, from the first one on.
    pixels: Vec<Pixels>,
}

impl Entry {
    /// For these vectors of a plane.
    pub fn new(geometry: &Geometry, vectors: Range<u32>) -> Self {
        let start = geometry.pixels(vectors.start).first;
        let from_start = |Pixels { first, count }| Pixels {
            first: first - start,
            count,
        };
        Self {
            pixels: vectors
                .map(|vector| from_start(geometry.pixels(vector)))
                .collect(),
        }
    }

    fn vectors(&self) -> u32 {
        self.pixels.len() as u32
    }
}

const SCRATCH: Gp = Gp::Rbp;
/// Offsets, moving.
const OFFSETS: Gp = WEI;
/// Weights, moving.
const VALUES: Gp = BIAS;
/// Records, moving.
const RECORDS: Gp = AUX;
/// Trips of the rows of this group, trips left, rows left.
const TRIPS: Gp = Gp::R9;
const LEFT: Gp = COUNT;
const ROWS: Gp = Gp::R15;
/// Offsets that are used next, and words of those behind them.
const NEXT: [Gp; 4] = [TMP, Gp::R12, Gp::R13, Gp::R14];
const WORDS: [Gp; 2] = [Gp::Rbx, RES];
/// Where a row's sums go, and its residual.
const TO: Gp = NEXT[1];
const RESIDUAL: Gp = NEXT[2];
const SAVED: [Gp; 6] = [Gp::Rbx, SCRATCH, Gp::R12, Gp::R13, Gp::R14, ROWS];

/// On the stack: blocks and rest of a row that are left, the residual, and where the constants are.
const BLOCKS_LEFT: Mem = on_stack(0);
const REST: Mem = on_stack(8);
const RESIDUALS: Mem = on_stack(16);
const CONSTANTS: Mem = on_stack(24);

const fn on_stack(disp: i32) -> Mem {
    Mem {
        base: Gp::Rsp,
        index: None,
        disp,
    }
}

pub fn entry<A: VectorAsm>(
    asm: &mut A,
    problem: &ConvProblem,
    geometry: &Geometry,
    cuts: &Cuts,
    entry: &Entry,
) -> usize {
    let emitter = Emitter {
        problem,
        geometry,
        cuts,
        entry,
        sums: sums(A::ISA, entry.vectors()),
    };
    crate::emit::entry(asm, &SAVED, |asm| emitter.emit(asm))
}

struct Emitter<'a> {
    problem: &'a ConvProblem,
    geometry: &'a Geometry,
    cuts: &'a Cuts,
    entry: &'a Entry,
    sums: u32,
}

impl Emitter<'_> {
    fn emit<A: VectorAsm>(&self, asm: &mut A) {
        load_arg(asm, SCRATCH, Gp::Rdi, offset_of!(KernelArgs, scratch));
        load_args(asm);
        // The last two are room for what the code counts.
        let kept = [AUX, RES, TMP, TMP];
        kept.iter().for_each(|&register| asm.push(register));
        asm.add_imm(RECORDS, constant_bytes(self.geometry));
        let block = (self.cuts.channels * self.geometry.channel) as i32 * 4;
        let middle = self.cuts.blocks.saturating_sub(2);
        self.block(asm, Mode::of(0, self.cuts.blocks));
        if middle > 0 {
            asm.mov_imm(TMP, i64::from(middle));
            let top = asm.new_label();
            asm.bind(top);
            asm.store64(BLOCKS_LEFT, TMP);
            asm.add_imm(SRC, block);
            self.block(asm, Mode::Middle);
            asm.load64(TMP, BLOCKS_LEFT);
            asm.dec(TMP);
            asm.jcc(Cond::NotEqual, top);
        }
        if self.cuts.blocks > 1 {
            asm.add_imm(SRC, block);
            self.block(asm, Mode::Last);
        }
        kept.iter().rev().for_each(|&register| asm.pop(register));
    }

    /// All groups of a block.
    fn block<A: VectorAsm>(&self, asm: &mut A, mode: Mode) {
        let (top, done) = (asm.new_label(), asm.new_label());
        asm.bind(top);
        asm.load32(TRIPS, Mem::new(RECORDS, 0));
        asm.load32(TMP, Mem::new(RECORDS, 4));
        asm.load32(ROWS, Mem::new(RECORDS, 8));
        asm.add_imm(RECORDS, GROUP_BYTES);
        asm.store64(REST, TMP);
        asm.cmp_imm(ROWS, 0);
        asm.jcc(Cond::Equal, done);
        asm.counted_loop(ROWS, |asm| self.row(asm, mode));
        asm.jmp(top);
        asm.bind(done);
    }

    fn sum(&self, sum: u32, vector: u32) -> V {
        V((sum * self.entry.vectors() + vector) as u8)
    }

    fn row<A: VectorAsm>(&self, asm: &mut A, mode: Mode) {
        self.begin(asm, mode);
        asm.load64(WORDS[1], Mem::new(OFFSETS, 0));
        NEXT.iter().for_each(|&next| self.take(asm, next, WORDS[1]));
        asm.load64(WORDS[0], Mem::new(OFFSETS, 8));
        asm.load64(WORDS[1], Mem::new(OFFSETS, 16));
        let rest = asm.new_label();
        asm.mov(LEFT, TRIPS);
        asm.cmp_imm(TRIPS, 0);
        asm.jcc(Cond::Equal, rest);
        asm.counted_loop(LEFT, |asm| self.trip(asm));
        asm.bind(rest);
        self.rest(asm);
        self.end(asm, mode);
        asm.add_imm(RECORDS, RECORD_BYTES);
    }

    /// The next offset of a word.
    fn take<A: VectorAsm>(&self, asm: &mut A, to: Gp, word: Gp) {
        asm.low16(to, word);
        asm.shr_imm(word, 16);
        if self.cuts.unit == 64 {
            asm.shl_imm(to, 3);
        }
    }

    fn advance<A: VectorAsm>(&self, asm: &mut A, count: usize) {
        asm.add_imm(OFFSETS, 2 * count as i32);
        asm.add_imm(VALUES, 4 * count as i32);
    }

    /// Eight products. Offsets are taken out of their words four ahead.
    fn trip<A: VectorAsm>(&self, asm: &mut A) {
        for k in 0..TRIP {
            self.product(asm, k);
            self.take(asm, NEXT[k % 4], WORDS[k / 4]);
            if k % 4 == 3 {
                asm.load64(WORDS[k / 4], Mem::new(OFFSETS, 24 + k as i32 / 4 * 8));
            }
        }
        self.advance(asm, TRIP);
    }

    /// Four, two and one more, as far as there are: the same for all rows of a group.
    fn rest<A: VectorAsm>(&self, asm: &mut A) {
        asm.load64(LEFT, REST);
        for count in [4, 2, 1] {
            let fewer = asm.new_label();
            asm.cmp_imm(LEFT, count as i32);
            asm.jcc(Cond::Below, fewer);
            for (k, &next) in NEXT.iter().enumerate().take(count) {
                self.product(asm, k);
                if count == NEXT.len() {
                    self.take(asm, next, WORDS[0]);
                }
            }
            if count == 2 {
                asm.mov(NEXT[0], NEXT[2]);
            }
            asm.sub_imm(LEFT, count as i32);
            self.advance(asm, count);
            asm.bind(fewer);
        }
    }

    /// Product `k` of those whose weights come next.
    fn product<A: VectorAsm>(&self, asm: &mut A, k: usize) {
        let (four, weight) = (V(A::VREGS - 2), V(A::VREGS - 1));
        let scale = if self.cuts.unit == 4 { 4 } else { 8 };
        if k.is_multiple_of(4) {
            asm.broadcast_quad(four, Mem::new(VALUES, 4 * k as i32));
        }
        asm.select_in_quads(weight, four, (k % 4) as u8 * 0x55);
        for t in 0..self.entry.vectors() {
            let pixels = Mem::indexed(SRC, NEXT[k % 4], scale, t as i32 * vector_bytes::<A>());
            asm.fma_mem(self.sum(k as u32 % self.sums, t), weight, pixels);
        }
    }

    /// Sums = bias, or what waits in scratch memory.
    fn begin<A: VectorAsm>(&self, asm: &mut A, mode: Mode) {
        let vectors = 0..self.entry.vectors();
        if mode.begins() {
            asm.broadcast(self.sum(0, 0), Mem::new(RECORDS, 0));
            vectors
                .skip(1)
                .for_each(|t| asm.vmov(self.sum(0, t), self.sum(0, 0)));
        } else {
            asm.load32(TMP, Mem::new(RECORDS, 0));
            for t in vectors {
                let slot = Mem::indexed(SCRATCH, TMP, 1, t as i32 * vector_bytes::<A>());
                asm.load(self.sum(0, t), slot);
            }
        }
        for sum in 1..self.sums {
            (0..self.entry.vectors()).for_each(|t| asm.zero(self.sum(sum, t)));
        }
    }

    /// Sums to scratch memory, or with residual and activation to the result.
    fn end<A: VectorAsm>(&self, asm: &mut A, mode: Mode) {
        let mut sums = self.sums;
        while sums > 1 {
            let half = sums.div_ceil(2);
            for (sum, t) in
                (half..sums).flat_map(|s| (0..self.entry.vectors()).map(move |t| (s, t)))
            {
                let to = self.sum(sum - half, t);
                asm.vadd(to, to, self.sum(sum, t));
            }
            sums = half;
        }
        asm.load32(TO, Mem::new(RECORDS, 4));
        let bytes = |t: u32| t as i32 * vector_bytes::<A>();
        if !mode.ends() {
            for t in 0..self.entry.vectors() {
                asm.store(Mem::indexed(SCRATCH, TO, 1, bytes(t)), self.sum(0, t));
            }
            return;
        }
        let results: Vec<V> = (0..self.entry.vectors()).map(|t| self.sum(0, t)).collect();
        self.finish(asm, &results);
    }

    /// Residual, activation and stores.
    fn finish<A: VectorAsm>(&self, asm: &mut A, results: &[V]) {
        let [tmp, constant] = [2, 1].map(|back| V(A::VREGS - back));
        // Either there are other sums, which are added by now, or registers behind them.
        let zero = V(results.len() as u8);
        if self.geometry.has_holes() {
            asm.load64(TMP, CONSTANTS);
            asm.load(tmp, Mem::new(TMP, ROWS_ORDER));
            results.iter().for_each(|&x| asm.permute(x, tmp, x));
        }
        let spare = (zero.0 + 1..tmp.0.min(constant.0)).map(V);
        let epilogue = Epilogue::new(self.problem.post, [zero, tmp, constant]).with_spare(spare);
        epilogue.prepare(asm);
        let at = |pixels: &Pixels| pixels.first as i32 * 4;
        if self.problem.residual {
            asm.load64(RESIDUAL, RESIDUALS);
            asm.add(RESIDUAL, TO);
            for (&x, pixels) in results.iter().zip(&self.entry.pixels) {
                asm.vadd_mem(x, x, Mem::new(RESIDUAL, at(pixels)));
            }
        }
        epilogue.activate(asm, results);
        let mask = A::mask(7, tmp);
        let mut loaded = None;
        for (&x, pixels) in results.iter().zip(&self.entry.pixels) {
            let masked = self.mask_of::<A>(pixels);
            if let Some(wanted) = masked.filter(|_| masked != loaded) {
                asm.load64(TMP, CONSTANTS);
                asm.load_mask(mask, Mem::new(TMP, wanted));
                loaded = masked;
            }
            let to = Mem::indexed(DST, TO, 1, at(pixels));
            store(asm, to, x, masked.map(|_| mask));
        }
    }

    /// Where the mask of a vector's outputs is, if it needs one.
    fn mask_of<A: VectorAsm>(&self, pixels: &Pixels) -> Option<i32> {
        let lanes = A::LANES as u32;
        let tile = self
            .entry
            .pixels
            .last()
            .map_or(0, |last| last.first + last.count);
        // Where masked stores are slow and the excess lanes belong to later pixels of the tile, the vector is stored
        // whole.
        let slow = !A::ISA.descriptor().masked_stores_are_free;
        if pixels.count == lanes || (slow && pixels.first + lanes <= tile) {
            return None;
        }
        let [row, _] = self.geometry.row();
        Some(match self.geometry.has_holes() && pixels.count > row {
            true => ROWS_MASK,
            false => MASK,
        })
    }
}
