//! Padded copies of a source.

use crate::emit::{AUX, COUNT, DST, SRC, TMP, entry, load_args, vector_bytes};
use crate::problem::{check_elems, check_planes, refuse};
use crate::stage::Rows;
use crate::variant::{
    Built, Cost, KernelError, Task, TypedVariant, Unsupported, Weighting, Weights, balanced,
};
use crate::{AlignedBuf, CopyProblem, Extent, Footprint};
use skimjit_jit::Isa;
use skimjit_jit::asm::{Gp, M, Mem, V, VectorAsm};
use skimjit_models::Pattern;
use std::ops::Range;

/// The copy that a staged kernel reads ([`crate::stage::Staging`]), row by row in vectors.
///
/// A row is written in whole vectors, whose excess lanes are written again by what follows; only at the end of a channel
/// they are masked, since the next channel may be another thread's.
/// * src: planes. dst: channels of the copy, all of it.
/// * task = some channels.
/// * refused: strides other than 1, 2 and 4, thousands of planes.
pub struct PaddedCopy;

const TASKS: u32 = 16;
/// Strides whose elements shuffles bring together.
const STRIDES: [u32; 3] = [1, 2, 4];
/// Most planes of a channel: there is code for each.
const MOST_PLANES: u64 = 4096;
/// Vectors of zeros, or rows, that are written without a loop.
const UNROLLED: u32 = 8;

impl TypedVariant for PaddedCopy {
    type Problem = CopyProblem;
    const NAME: &'static str = "padded_copy";
    const WEIGHTING: Weighting = Weighting::Unweighted;
    const EXAMPLE: &'static str =
        "copy src=3x9x9x96 out=5x5 k=3x3 s=2x2 p=1x1 d=1x1 density=100 scale=1 seed=1";

    fn supports(problem: &CopyProblem, _isa: Isa) -> Result<(), Unsupported> {
        let staging = &problem.staging;
        check_planes(&staging.src)?;
        check_elems(staging.elems() as u64, "a padded copy")?;
        let stride = staging.line_stride();
        if !STRIDES.contains(&stride) {
            return refuse(format!("a stride of {stride}, expected 1, 2 or 4"));
        }
        let planes = u64::from(staging.phases[0]) * u64::from(staging.phases[1]);
        match planes <= MOST_PLANES {
            true => Ok(()),
            false => refuse(format!("{planes} planes, expected at most {MOST_PLANES}")),
        }
    }
    fn cost(problem: &CopyProblem, _pattern: &Pattern, isa: Isa) -> Cost {
        Cost {
            cycles: problem.staging.cycles(isa.lanes()),
            code_bytes: 2048,
        }
    }
    fn build<A: VectorAsm>(
        problem: &CopyProblem,
        _weights: Weights<'_>,
    ) -> Result<Built, KernelError> {
        let staging = &problem.staging;
        let mut constants = Constants { masks: Vec::new() };
        let mut asm = A::new();
        let channel = Channel {
            rows: staging.rows(),
            pitch: staging.row_pitch,
            stride: staging.line_stride(),
            len: staging.channel,
        };
        let start = entry(&mut asm, &[], |asm| {
            load_args(asm);
            asm.zero(ZERO);
            if channel.stride > 1 {
                asm.load(HALVES, Mem::new(AUX, 0));
            }
            asm.counted_loop(COUNT, |asm| {
                channel.emit(asm, &mut constants);
                asm.add_imm(SRC, staging.src.pitch as i32 * 4);
                asm.add_imm(DST, staging.channel as i32 * 4);
            });
        });
        let channels = balanced(staging.src.c, staging.src.c.div_ceil(TASKS));
        let task = |channels: Range<u32>| Task {
            src: i64::from(channels.start) * i64::from(staging.src.pitch) * 4,
            dst: i64::from(channels.start) * i64::from(staging.channel) * 4,
            count: channels.len() as u64,
            cost: channels.len() as f32,
            ..Task::default()
        };
        let footprint =
            Footprint::new(Extent::of(&staging.src), Extent::from_base(staging.elems()));
        let (packed, tasks) = (constants.pack::<A>(), channels.map(task).collect());
        Ok(Built::new(asm, [start], packed, tasks, footprint))
    }
}

const ZERO: V = V(0);
const VALUES: [V; 4] = [V(1), V(2), V(3), V(4)];
/// Lanes that are the first of each pair, in the order in which `shuffle` leaves them.
const HALVES: V = V(5);
/// The masks of a row of vectors.
const MASKS: Range<u8> = 1..7;
/// The vectors that hold them where there are no mask registers.
const MASK_VECTORS: u8 = 6;
/// Source and result of a row in a loop.
const ROW_SRC: Gp = Gp::R9;
const ROW_DST: Gp = Gp::R10;

/// What the code reads: the order of halves, then masks.
struct Constants {
    masks: Vec<u32>,
}

impl Constants {
    const MASK_BYTES: i32 = 32;
    const ORDER_BYTES: i32 = 64;

    fn mask(&mut self, bits: u32) -> Mem {
        let index = crate::variant::index_of(&mut self.masks, bits);
        Mem::new(AUX, Self::ORDER_BYTES + Self::MASK_BYTES * index as i32)
    }

    fn pack<A: VectorAsm>(&self) -> AlignedBuf {
        let mut packed = AlignedBuf::new();
        let half = A::LANES as u32 / 2;
        let lane = |i: u32| 4 * (i % half / 2) + i % 2 + if i < half { 0 } else { 2 };
        (0..2 * half).for_each(|i| packed.extend(&lane(i).to_le_bytes()));
        packed.align(Self::ORDER_BYTES as usize);
        for &bits in &self.masks {
            packed.extend(&A::mask_bytes(bits));
            packed.align(Self::MASK_BYTES as usize);
        }
        packed
    }
}

/// One channel of the copy; lengths in elements.
struct Channel {
    rows: Vec<Rows>,
    pitch: u32,
    stride: u32,
    len: u32,
}

/// A vector to load: elements from the first one of the row, and which lanes.
#[derive(Clone, Copy)]
struct Load {
    from: i32,
    lanes: u32,
}

impl Channel {
    fn emit<A: VectorAsm>(&self, asm: &mut A, constants: &mut Constants) {
        for rows in &self.rows {
            let start = rows.dst.start;
            self.zeros(
                asm,
                constants,
                start..start + rows.filled.start * self.pitch,
            );
            self.filled(asm, constants, rows);
            self.zeros(
                asm,
                constants,
                start + rows.filled.end * self.pitch..rows.dst.end,
            );
        }
        let end = self.rows.last().map_or(0, |rows| rows.dst.end);
        self.zeros(asm, constants, end..self.len);
    }

    /// Stores a vector at an element of the channel, but for what lies behind the channel.
    fn store<A: VectorAsm>(&self, asm: &mut A, constants: &mut Constants, at: u32, x: V) {
        let to = Mem::new(DST, at as i32 * 4);
        let left = self.len.saturating_sub(at);
        if left >= A::LANES as u32 {
            return asm.store(to, x);
        }
        if left > 0 {
            let mask = A::mask(MASKS.end, V(MASK_VECTORS + MASKS.len() as u8));
            let bits = constants.mask((1 << left) - 1);
            asm.load_mask(mask, bits);
            asm.store_masked(to, x, mask);
        }
    }

    fn zeros<A: VectorAsm>(&self, asm: &mut A, constants: &mut Constants, range: Range<u32>) {
        let lanes = A::LANES as u32;
        let whole = range.len() as u32 / lanes;
        let mut at = range.start;
        if whole > UNROLLED {
            asm.lea(ROW_DST, Mem::new(DST, at as i32 * 4));
            asm.mov_imm(TMP, whole.into());
            asm.counted_loop(TMP, |asm| {
                asm.store(Mem::new(ROW_DST, 0), ZERO);
                asm.add_imm(ROW_DST, vector_bytes::<A>());
            });
            at += whole * lanes;
        }
        while at < range.end {
            self.store(asm, constants, at, ZERO);
            at += lanes;
        }
    }

    /// Rows with elements of the source.
    fn filled<A: VectorAsm>(&self, asm: &mut A, constants: &mut Constants, rows: &Rows) {
        let (lanes, filled) = (A::LANES as u32, &rows.filled);
        let masks = self.load_masks(asm, constants, rows);
        let written = self.pitch.next_multiple_of(lanes);
        let at = |row: u32| rows.dst.start + row * self.pitch;
        let inside = filled.clone().filter(|&row| at(row) + written <= self.len);
        let inside = inside.count() as u32;
        let looped = if inside > UNROLLED / 2 { inside } else { 0 };
        if looped > 0 {
            asm.lea(ROW_SRC, Mem::new(SRC, rows.first as i32 * 4));
            asm.lea(ROW_DST, Mem::new(DST, at(filled.start) as i32 * 4));
            asm.mov_imm(TMP, looped.into());
            asm.counted_loop(TMP, |asm| {
                for vector in 0..self.pitch.div_ceil(lanes) {
                    let x = self.vector(asm, &masks, rows, vector, Mem::new(ROW_SRC, 0));
                    let to = vector as i32 * vector_bytes::<A>();
                    asm.store(Mem::new(ROW_DST, to), x);
                }
                asm.add_imm(ROW_SRC, rows.step as i32 * 4);
                asm.add_imm(ROW_DST, self.pitch as i32 * 4);
            });
        }
        for row in filled.start + looped..filled.end {
            let first = rows.first + (row - filled.start) * rows.step;
            for vector in 0..self.pitch.div_ceil(lanes) {
                let from = Mem::new(SRC, first as i32 * 4);
                let x = self.vector(asm, &masks, rows, vector, from);
                self.store(asm, constants, at(row) + vector * lanes, x);
            }
        }
    }

    /// Loads of a vector of a row; none where it is zero.
    fn loads(&self, rows: &Rows, vector: u32, lanes: u32) -> Vec<Load> {
        let first = vector * lanes;
        let columns = rows.columns.start.max(first)..rows.columns.end.min(first + lanes);
        if columns.is_empty() {
            return vec![];
        }
        let offset = |column: u32| self.stride as i32 * (column as i32 - rows.columns.start as i32);
        // Elements from the first to the last that is wanted, counted from the vector's first.
        let wanted = [columns.start, columns.end - 1].map(|column| (column - first) * self.stride);
        let load = |part: u32| {
            let inside = |lane: &u32| (wanted[0]..=wanted[1]).contains(&(part * lanes + lane));
            Load {
                from: offset(first) + (part * lanes) as i32,
                lanes: (0..lanes)
                    .filter(inside)
                    .fold(0, |bits, lane| bits | 1 << lane),
            }
        };
        (0..self.stride).map(load).collect()
    }

    /// Loads the masks of a row's vectors, and returns where they are. Only vectors at its ends and the last of
    /// several loads of a vector have one.
    fn load_masks<A: VectorAsm>(
        &self,
        asm: &mut A,
        constants: &mut Constants,
        rows: &Rows,
    ) -> Vec<(u32, M)> {
        let lanes = A::LANES as u32;
        let vectors = 0..self.pitch.div_ceil(lanes);
        let loads = vectors.flat_map(|vector| self.loads(rows, vector, lanes));
        let mut bits: Vec<u32> = loads.map(|load| load.lanes).collect();
        bits.sort_unstable();
        bits.dedup();
        bits.retain(|&bits| bits != 0 && bits.count_ones() < lanes);
        let registers = MASKS.zip(MASK_VECTORS..);
        let masks = bits.into_iter().zip(registers);
        let masks = masks.map(|(bits, (opmask, vector))| {
            let mask = A::mask(opmask, V(vector));
            asm.load_mask(mask, constants.mask(bits));
            (bits, mask)
        });
        masks.collect()
    }

    /// A vector of a row, in the register that is returned.
    fn vector<A: VectorAsm>(
        &self,
        asm: &mut A,
        masks: &[(u32, M)],
        rows: &Rows,
        vector: u32,
        row: Mem,
    ) -> V {
        let loads = self.loads(rows, vector, A::LANES as u32);
        for (load, &x) in loads.iter().zip(&VALUES) {
            let from = Mem {
                disp: row.disp + load.from * 4,
                ..row
            };
            match load.lanes.count_ones() as usize {
                0 => asm.zero(x),
                all if all == A::LANES => asm.load(x, from),
                _ => {
                    let mut masks = masks.iter();
                    let (_, mask) = masks
                        .find(|(bits, _)| *bits == load.lanes)
                        .expect("a row's ends have few masks");
                    asm.load_masked(x, from, *mask);
                }
            }
        }
        let [a, b, c, d] = VALUES;
        match loads.len() {
            0 => return ZERO,
            1 => {}
            2 => every_second(asm, a, b),
            _ => {
                every_second(asm, a, b);
                every_second(asm, c, d);
                every_second(asm, a, c);
            }
        }
        a
    }
}

/// Every second lane of two vectors, into the first.
fn every_second<A: VectorAsm>(asm: &mut A, a: V, b: V) {
    asm.shuffle(a, a, b, 0x88);
    asm.permute(a, HALVES, a);
}
