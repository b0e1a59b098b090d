//! The code of one tile height.

use super::geometry::Geometry;
use super::table::ENTRY_BYTES;
use crate::emit::{
    AUX, BIAS, COUNT, DST, RES, SRC, TMP, WEI, entry, last_registers, load_arg, load_args, store,
    vector_bytes,
};
use crate::epilogue::Epilogue;
use crate::variant::last_lanes;
use crate::{AlignedBuf, ConvProblem, KernelArgs};
use skimjit_jit::asm::{Gp, Mem, V, VectorAsm};
use std::mem::offset_of;

/// Offset of the row that the current non-zero reads, and the one after.
const OFFSET: Gp = TMP;
const NEXT: Gp = Gp::Rbx;
/// Trips left of the loop over a phase's non-zeros.
const LEFT: Gp = Gp::R9;
/// Accumulators that wait: start, and of the current output channel.
const WAITING_START: Gp = Gp::R14;
const WAITING: Gp = Gp::R13;
/// Output channels left.
const CHANNELS: Gp = Gp::R15;
/// Constants.
const TABLE: Gp = Gp::Rbp;
/// Pairs of blocks left; the bias is used up after the first block.
const BLOCKS: Gp = BIAS;
const SAVED: [Gp; 5] = [NEXT, WAITING, WAITING_START, CHANNELS, TABLE];

/// Mask of the lanes that are stored of a row's last vector.
const MASK: i32 = 0;
/// Mask and order of lanes of a vector of two rows; the mask of its last, where only one row is left.
const PAIR_MASK: i32 = 64;
const PAIR_ORDER: i32 = 128;
/// Lane orders that turn by one phase, up and down, of vectors of two rows.
const TURNS: i32 = 192;
const RECORD: usize = 64;

/// Appends what the code reads through `TABLE`.
pub fn write_constants<A: VectorAsm>(
    packed: &mut AlignedBuf,
    problem: &ConvProblem,
    geometry: &Geometry,
) {
    let ow = problem.dst.w;
    let mut put = |bytes: Vec<u8>| {
        packed.extend(&bytes);
        packed.align(RECORD);
    };
    put(A::first_lanes(last_lanes(ow, geometry.lanes)));
    if geometry.rows_per_vector() == 1 {
        return;
    }
    let order = |source: &dyn Fn(u32) -> u32| {
        let lanes = 0..geometry.lanes;
        lanes.flat_map(|lane| source(lane).to_le_bytes()).collect()
    };
    let ring = geometry.staging.row_pitch;
    put(A::first_lanes(2 * ow));
    put(order(&|lane| (lane / ow).min(1) * ring + lane % ow));
    for pair in geometry.phases.windows(2) {
        let by = (pair[1] - pair[0]) % ring;
        put(order(&|lane| {
            lane / ring * ring + (lane + ring - by) % ring
        }));
        put(order(&|lane| lane / ring * ring + (lane + by) % ring));
    }
}

fn constant_bytes(geometry: &Geometry) -> i32 {
    match geometry.rows_per_vector() {
        1 => PAIR_MASK,
        _ => TURNS + 2 * RECORD as i32 * (geometry.phases.len() as i32 - 1),
    }
}

/// Emits the code of a tile of `rows` rows and returns its entry.
pub fn emit_tile<A: VectorAsm>(
    asm: &mut A,
    problem: &ConvProblem,
    geometry: &Geometry,
    rows: u32,
) -> usize {
    let vectors = geometry.vectors(rows) as u8;
    let tile = Tile {
        problem,
        geometry,
        rows,
        accs: (0..vectors).map(V).collect(),
        free: last_registers::<A>(),
    };
    entry(asm, &SAVED, |asm| {
        load_arg(asm, WAITING_START, Gp::Rdi, offset_of!(KernelArgs, scratch));
        load_args(asm);
        asm.mov(TABLE, AUX);
        asm.add_imm(AUX, constant_bytes(geometry));
        asm.load32(NEXT, Mem::new(WEI, 0));
        tile.blocks(asm);
    })
}

const ENTRY: i32 = ENTRY_BYTES as i32;

/// Which end of the accumulators' way a block is.
#[derive(Clone, Copy)]
struct Block {
    first: bool,
    last: bool,
    /// Phases in descending order.
    descending: bool,
}

struct Tile<'a> {
    problem: &'a ConvProblem,
    geometry: &'a Geometry,
    rows: u32,
    /// Accumulators, row by row.
    accs: Vec<V>,
    /// The highest registers; the first two may be accumulators.
    free: [V; 4],
}

impl Tile<'_> {
    /// All blocks: every other one in descending order of phases, the last one among them, so that the
    /// accumulators end where the plane's rows begin.
    fn blocks<A: VectorAsm>(&self, asm: &mut A) {
        let block = |first: bool, last: bool, descending: bool| Block {
            first,
            last,
            descending,
        };
        let blocks = self.geometry.blocks.len();
        if blocks == 1 {
            return self.block(asm, block(true, true, true));
        }
        self.block(asm, block(true, false, false));
        if blocks > 2 {
            asm.mov_imm(BLOCKS, (blocks as i64 - 2) / 2);
            asm.counted_loop(BLOCKS, |asm| {
                self.block(asm, block(false, false, true));
                self.block(asm, block(false, false, false));
            });
        }
        self.block(asm, block(false, true, true));
    }

    /// One block of input channels: a loop over the output channels.
    fn block<A: VectorAsm>(&self, asm: &mut A, block: Block) {
        asm.mov(CHANNELS, COUNT);
        asm.mov(WAITING, WAITING_START);
        asm.counted_loop(CHANNELS, |asm| {
            self.start(asm, block);
            let phases = self.geometry.phases.len();
            for i in 0..phases {
                let at = |i: usize| if block.descending { phases - 1 - i } else { i };
                self.non_zeros(asm, i);
                if i + 1 < phases {
                    self.turn(asm, at(i), at(i + 1));
                }
            }
            asm.add_imm(AUX, 4 * phases as i32);
            if block.last {
                self.finish(asm);
            } else {
                self.accs_with_memory::<A>()
                    .for_each(|(acc, mem)| asm.store(mem, acc));
            }
            asm.add_imm(WAITING, self.accs.len() as i32 * vector_bytes::<A>());
        });
    }

    fn accs_with_memory<A: VectorAsm>(&self) -> impl Iterator<Item = (V, Mem)> {
        let waiting = |i: usize| Mem::new(WAITING, i as i32 * vector_bytes::<A>());
        self.accs
            .iter()
            .enumerate()
            .map(move |(i, &acc)| (acc, waiting(i)))
    }

    fn start<A: VectorAsm>(&self, asm: &mut A, block: Block) {
        if block.first {
            asm.broadcast(self.accs[0], Mem::new(BIAS, 0));
            asm.add_imm(BIAS, 4);
            self.accs[1..]
                .iter()
                .for_each(|&acc| asm.vmov(acc, self.accs[0]));
        } else {
            self.accs_with_memory::<A>()
                .for_each(|(acc, mem)| asm.load(acc, mem));
        }
    }

    /// The loop over the non-zeros of the i-th phase in the order of the block.
    fn non_zeros<A: VectorAsm>(&self, asm: &mut A, i: usize) {
        let weight = self.free[3];
        asm.load32(LEFT, Mem::new(AUX, 4 * i as i32));
        asm.counted_loop_if_any(LEFT, |asm| {
            // The offset is fetched ahead: the loads that need it would fill the schedulers.
            asm.mov(OFFSET, NEXT);
            asm.load32(NEXT, Mem::new(WEI, ENTRY));
            asm.broadcast(weight, Mem::new(WEI, ENTRY / 2));
            for (t, &acc) in self.accs.iter().enumerate() {
                let at = t as i32 * vector_bytes::<A>();
                asm.fma_mem(acc, weight, Mem::indexed(SRC, OFFSET, 1, at));
            }
            asm.add_imm(WEI, ENTRY);
        });
    }

    /// Turns all rows from one phase to another.
    fn turn<A: VectorAsm>(&self, asm: &mut A, from: usize, to: usize) {
        if self.geometry.rows_per_vector() > 1 {
            let order = self.free[2];
            let record = 2 * from.min(to) + usize::from(to < from);
            asm.load(order, Mem::new(TABLE, TURNS + (record * RECORD) as i32));
            let accs = self.accs.iter();
            accs.for_each(|&acc| asm.permute(acc, order, acc));
            return;
        }
        let phases = &self.geometry.phases;
        for row in self.accs.chunks(self.geometry.row_vectors() as usize) {
            let mut left = phases[from].abs_diff(phases[to]);
            while left > 0 {
                let by = left.min(A::LANES as u32 - 1) as u8;
                if from < to {
                    turn_up(asm, row, by, [self.free[2], self.free[3]]);
                } else {
                    turn_down(asm, row, by, [self.free[2], self.free[3]]);
                }
                left -= u32::from(by);
            }
        }
    }

    /// Lanes of the j-th vector of a row that are outputs.
    fn row_lanes(&self, j: u32) -> u32 {
        let ow = self.problem.dst.w;
        ow.saturating_sub(j * self.geometry.lanes)
            .min(self.geometry.lanes)
    }

    /// Stores: accumulator, first pixel of the tile, number of pixels.
    fn pixels(&self) -> Vec<(V, u32, u32)> {
        let (ow, together) = (self.problem.dst.w, self.geometry.rows_per_vector());
        let row_vectors = self.geometry.row_vectors();
        let accs = self.accs.iter().zip(0..);
        accs.map(|(&acc, i)| {
            let (row, j) = (i / row_vectors * together, i % row_vectors);
            let lanes = match together {
                1 => self.row_lanes(j),
                _ => ow * together.min(self.rows - row),
            };
            (acc, row * ow + j * self.geometry.lanes, lanes)
        })
        .filter(|&(_, _, lanes)| lanes > 0)
        .collect()
    }

    /// Post-ops and stores of one output channel.
    fn finish<A: VectorAsm>(&self, asm: &mut A) {
        let [_, order, zero, last] = self.free;
        let spare = (self.accs.len() as u8..self.free[0].0).map(V);
        let epilogue = Epilogue::new(self.problem.post, [zero, order, last]).with_spare(spare);
        let mask = A::mask(1, last);
        let together = self.geometry.rows_per_vector() > 1;
        let tile = self.rows * self.problem.dst.w;
        let mut loaded = None;
        epilogue.prepare(asm);
        if together {
            asm.load(order, Mem::new(TABLE, PAIR_ORDER));
        }
        for (acc, pixel, _) in self.pixels() {
            if together {
                asm.permute(acc, order, acc);
            }
            if self.problem.residual {
                asm.vadd_mem(acc, acc, Mem::new(RES, pixel as i32 * 4));
            }
        }
        let accs: Vec<V> = self.pixels().into_iter().map(|(acc, ..)| acc).collect();
        epilogue.activate(asm, &accs);
        for (acc, pixel, lanes) in self.pixels() {
            let at = |base| Mem::new(base, pixel as i32 * 4);
            // Where masked stores are slow and the excess lanes belong to later pixels of the tile, the
            // vector is stored whole.
            let full = lanes == self.geometry.lanes;
            let slow = !A::ISA.descriptor().masked_stores_are_free;
            if full || (slow && pixel + self.geometry.lanes <= tile) {
                store(asm, at(DST), acc, None);
                continue;
            }
            let record = match together && lanes > self.problem.dst.w {
                true => PAIR_MASK,
                false => MASK,
            };
            if loaded != Some(record) {
                asm.load_mask(mask, Mem::new(TABLE, record));
                loaded = Some(record);
            }
            store(asm, at(DST), acc, Some(mask));
        }
        let pitch = self.problem.dst.pitch as i32 * 4;
        asm.add_imm(DST, pitch);
        if self.problem.residual {
            asm.add_imm(RES, pitch);
        }
    }
}

/// Moves every lane of a row up by `by`; the last ones become the first.
fn turn_up<A: VectorAsm>(asm: &mut A, row: &[V], by: u8, [first, tmp]: [V; 2]) {
    let shift = A::LANES as u8 - by;
    let last = row[row.len() - 1];
    if let [only] = row {
        return asm.splice(*only, *only, *only, shift, tmp);
    }
    asm.splice(first, row[0], last, shift, tmp);
    for pair in row.windows(2).rev() {
        asm.splice(pair[1], pair[1], pair[0], shift, tmp);
    }
    asm.vmov(row[0], first);
}

/// Moves every lane of a row down by `by`; the first ones become the last.
fn turn_down<A: VectorAsm>(asm: &mut A, row: &[V], by: u8, [last, tmp]: [V; 2]) {
    if let [only] = row {
        return asm.splice(*only, *only, *only, by, tmp);
    }
    let end = row[row.len() - 1];
    asm.splice(last, row[0], end, by, tmp);
    for pair in row.windows(2) {
        asm.splice(pair[0], pair[1], pair[0], by, tmp);
    }
    asm.vmov(end, last);
}
