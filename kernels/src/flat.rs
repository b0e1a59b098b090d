//! Convolution geometry on flat planes.
//!
//! Output positions are numbered row by row; a vector is a run of consecutive positions. A tap of the
//! window is then a constant displacement of the source vector. Two forms exist:
//!
//! * *direct*: the output has the source's height and width, so the plane itself is read; lanes whose
//!   tap falls beside the row are masked off, and rows above and below are the zero gaps.
//! * *staged*: taps read a [`Staging`] copy with padded rows. Positions at the end of a row that are
//!   no outputs are dropped by a lane permutation when the vector is stored.

use crate::emit::{AUX, DST, RES, SRC, TMP, store, vector_bytes};
use crate::epilogue::{Epilogue, store_whole_or_masked};
use crate::stage::Staging;
use crate::variant::balanced;
use crate::{AlignedBuf, ConvProblem, Extent, Task};
use skimjit_jit::Isa;
use skimjit_jit::asm::{M, Mem, V, VectorAsm};
use std::ops::Range;

/// Fewest steps in a segment.
const SEGMENT_STEPS: u32 = 8;
/// Tasks that a kernel should have, so that a few threads can share it evenly.
const WANTED_TASKS: u32 = 8;
/// The store's opmask register.
const STORE_MASK: u8 = 7;

/// How the source is read.
#[derive(Clone, PartialEq, Debug)]
pub enum Form {
    /// The plane itself; `columns[i]` is the horizontal shift that mask i belongs to.
    Direct {
        /// Horizontal shifts other than 0.
        columns: Vec<i32>,
    },
    /// A padded copy.
    Staged(Staging),
}

/// Positions, displacements and tables of one convolution problem.
pub struct Flat {
    /// How the source is read.
    pub form: Form,
    problem: ConvProblem,
    /// Lanes of a vector.
    lanes: u32,
    /// Vectors computed per step.
    pub per_step: u32,
    /// Positions of the plane (staged: row ends included).
    positions: u32,
    /// Parts of the plane, in steps, that may be computed by different threads.
    segments: Vec<Range<u32>>,
}

impl Flat {
    /// Geometry with `per_step` vectors per step, cut so that `chunks` channel chunks make enough
    /// tasks for several threads. Direct where the ISA and shape allow it.
    pub fn new(problem: &ConvProblem, isa: Isa, per_step: u32, chunks: u32) -> Self {
        let columns = direct_columns(problem, isa, per_step);
        Self::with_columns(problem, isa, per_step, chunks, columns)
    }

    /// As [`Flat::new`], direct only where no tap needs a column mask.
    pub fn unmasked(problem: &ConvProblem, isa: Isa, per_step: u32, chunks: u32) -> Self {
        let columns = direct_columns(problem, isa, per_step).filter(Vec::is_empty);
        Self::with_columns(problem, isa, per_step, chunks, columns)
    }

    fn with_columns(
        problem: &ConvProblem,
        isa: Isa,
        per_step: u32,
        chunks: u32,
        columns: Option<Vec<i32>>,
    ) -> Self {
        let (form, positions) = match columns {
            Some(columns) => (Form::Direct { columns }, problem.dst.hw()),
            None => {
                let (oh, ow) = (problem.dst.h, problem.dst.w);
                let staging = Staging::new(problem.src, &problem.window, oh, ow);
                (Form::Staged(staging), (oh - 1) * staging.row_pitch + ow)
            }
        };
        let lanes = isa.lanes();
        let steps = positions.div_ceil(lanes * per_step);
        let parts = (WANTED_TASKS.div_ceil(chunks))
            .min(steps / SEGMENT_STEPS)
            .max(1);
        let segments = balanced(steps, steps.div_ceil(parts)).collect();
        Self {
            form,
            problem: problem.clone(),
            lanes,
            per_step,
            positions,
            segments,
        }
    }

    /// The same with segments of at most `steps` steps.
    pub fn most_steps(mut self, steps: u32) -> Self {
        let parts = self.segments.len() as u32;
        let most = self.steps().div_ceil(parts.max(1)).min(steps);
        self.segments = balanced(self.steps(), most).collect();
        self
    }

    /// The copy the source has to be staged into.
    pub fn staging(&self) -> Option<Staging> {
        match &self.form {
            Form::Direct { .. } => None,
            Form::Staged(staging) => Some(*staging),
        }
    }

    /// Cycles that this copy takes.
    pub fn staging_cycles(&self) -> f64 {
        self.staging()
            .map_or(0.0, |staging| staging.cycles(self.lanes))
    }

    /// Steps of the loop over the plane.
    pub fn steps(&self) -> u32 {
        self.segments.last().map_or(0, |segment| segment.end)
    }

    /// Vectors that hold at least one position.
    pub fn vectors(&self) -> u32 {
        self.positions.div_ceil(self.lanes)
    }

    /// Elements from one source channel to the next.
    pub fn channel_elems(&self) -> u32 {
        match &self.form {
            Form::Direct { .. } => self.problem.src.pitch,
            Form::Staged(staging) => staging.channel,
        }
    }

    /// Element displacement of a tap inside its channel.
    pub fn tap(&self, ky: u32, kx: u32) -> i32 {
        let window = &self.problem.window;
        let (y, x) = (ky * window.dilation[0], kx * window.dilation[1]);
        match &self.form {
            Form::Direct { .. } => {
                (y as i32 - window.pad_begin[0] as i32) * self.problem.src.w as i32 + x as i32
                    - window.pad_begin[1] as i32
            }
            Form::Staged(staging) => staging.tap(y, x) as i32,
        }
    }

    /// The mask register (of [`Flat::load_masks`]) that a tap needs in vector `t` of the step.
    pub fn column_mask(&self, kx: u32, t: u32) -> Option<M> {
        let Form::Direct { columns } = &self.form else {
            return None;
        };
        let window = &self.problem.window;
        let shift = (kx * window.dilation[1]) as i32 - window.pad_begin[1] as i32;
        let column = columns.iter().position(|&column| column == shift)?;
        Some(column_register(columns, t, column))
    }

    /// Footprint of the source over all groups. `aligned`: only vectors at multiples of a vector
    /// from the base are loaded, so the first and the last may reach further.
    pub fn src_extent(&self, aligned: bool) -> Extent {
        let [kh, kw] = self.problem.window.kernel;
        let taps = (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx)));
        let (mut low, mut high) = (0, 0);
        for (ky, kx) in taps {
            low = low.min(i64::from(self.tap(ky, kx)));
            high = high.max(i64::from(self.tap(ky, kx)));
        }
        if aligned {
            let lanes = i64::from(self.lanes);
            low = low.div_euclid(lanes) * lanes;
            high = -(-high).div_euclid(lanes) * lanes;
        }
        let channels = i64::from(self.problem.src.c - 1) * i64::from(self.channel_elems());
        let positions = i64::from(self.steps() * self.per_step * self.lanes);
        Extent {
            before: (-low) as usize,
            after: (high + channels + positions) as usize,
        }
    }

    /// Extent of the result, and of the residual, which is read in whole vectors.
    pub fn dst_extent(&self) -> Extent {
        let dst = &self.problem.dst;
        let plane = match &self.form {
            _ if !self.problem.residual => dst.hw(),
            Form::Direct { .. } => self.steps() * self.per_step * self.lanes,
            Form::Staged(_) => dst.hw() + self.lanes,
        };
        Extent::from_base(dst.last_plane() + plane as usize)
    }

    fn mask_size<A: VectorAsm>() -> i32 {
        A::mask_bytes(0).len() as i32
    }

    /// Bytes of the table record of one vector.
    fn record_bytes<A: VectorAsm>(&self) -> i32 {
        match &self.form {
            Form::Direct { columns } => {
                let flag = if Self::has_flag::<A>() { 32 } else { 0 };
                (Self::mask_size::<A>() * (1 + columns.len() as i32) + flag + 3) & !3
            }
            Form::Staged(_) => STAGED_PERMUTATION + vector_bytes::<A>(),
        }
    }

    /// Appends the table: one record per vector.
    pub fn write_table<A: VectorAsm>(&self, packed: &mut AlignedBuf) -> u64 {
        let start = packed.align(64);
        for segment in &self.segments {
            for step in segment.clone() {
                let whole = u32::from(self.whole(step, segment));
                for vector in step * self.per_step..(step + 1) * self.per_step {
                    let mut record = match &self.form {
                        Form::Direct { columns } => self.direct_record::<A>(vector, columns),
                        Form::Staged(staging) => self.staged_record::<A>(vector, staging),
                    };
                    let flag = Self::flag_offset::<A>() as usize;
                    if Self::has_flag::<A>() {
                        record[flag..flag + 4].copy_from_slice(&whole.to_le_bytes());
                    }
                    packed.extend(&record);
                }
            }
        }
        start
    }

    /// Whether records tell if a step may be stored whole.
    fn has_flag<A: VectorAsm>() -> bool {
        !A::ISA.descriptor().masked_stores_are_free
    }

    /// Offset of the flag for that, behind the store mask.
    fn flag_offset<A: VectorAsm>() -> i32 {
        Self::mask_size::<A>()
    }

    fn direct_record<A: VectorAsm>(&self, vector: u32, columns: &[i32]) -> Vec<u8> {
        let (hw, w) = (self.problem.dst.hw(), self.problem.dst.w as i32);
        let lanes = |valid: &dyn Fn(u32) -> bool| {
            (0..self.lanes).fold(0u32, |bits, lane| {
                let position = vector * self.lanes + lane;
                bits | u32::from(position < hw && valid(position)) << lane
            })
        };
        let mut record = A::mask_bytes(lanes(&|_| true));
        for &column in columns {
            let inside = |position: u32| {
                let x = (position as i32 % w) + column;
                (0..w).contains(&x)
            };
            record.extend(A::mask_bytes(lanes(&inside)));
        }
        record.resize(self.record_bytes::<A>() as usize, 0);
        record
    }

    /// Lanes of a staged vector that are outputs.
    fn staged_lanes(&self, vector: u32, staging: &Staging) -> Vec<u32> {
        let first = vector * self.lanes;
        (0..self.lanes)
            .filter(|lane| {
                let position = first + lane;
                let (y, x) = (position / staging.row_pitch, position % staging.row_pitch);
                y < self.problem.dst.h && x < self.problem.dst.w
            })
            .collect()
    }

    fn staged_record<A: VectorAsm>(&self, vector: u32, staging: &Staging) -> Vec<u8> {
        let valid = self.staged_lanes(vector, staging);
        // Also right for a vector without outputs, which is stored whole like any other.
        let output = self.first_output(vector);
        let mut record = A::mask_bytes((1u64 << valid.len()).wrapping_sub(1) as u32);
        record.resize(STAGED_DST as usize, 0);
        record.extend(output.wrapping_mul(4).to_le_bytes());
        record.resize(STAGED_PERMUTATION as usize, 0);
        for lane in 0..self.lanes as usize {
            record.extend(valid.get(lane).copied().unwrap_or(0).to_le_bytes());
        }
        record
    }

    /// Number of outputs before a vector: where its first output goes.
    fn first_output(&self, vector: u32) -> u32 {
        let position = vector * self.lanes;
        match &self.form {
            Form::Direct { .. } => position.min(self.problem.dst.hw()),
            Form::Staged(staging) => {
                let (y, x) = (position / staging.row_pitch, position % staging.row_pitch);
                let (oh, ow) = (self.problem.dst.h, self.problem.dst.w);
                if y >= oh { oh * ow } else { y * ow + x.min(ow) }
            }
        }
    }

    /// Whether all vectors of a step may be stored whole: later steps of the same segment overwrite
    /// the excess lanes, and nothing behind the plane or in another segment is touched.
    fn whole(&self, step: u32, segment: &Range<u32>) -> bool {
        let end = self.first_output(segment.end * self.per_step);
        (step * self.per_step..(step + 1) * self.per_step)
            .all(|vector| self.first_output(vector) + self.lanes <= end)
    }

    /// Appends one task per segment for a chunk: `src` and `dst` are the byte offsets of the chunk's
    /// first source and output channel.
    pub fn push_tasks<A: VectorAsm>(&self, tasks: &mut Vec<Task>, chunk: Task) {
        for segment in &self.segments {
            let first = i64::from(segment.start * self.per_step);
            let moved = first * i64::from(vector_bytes::<A>());
            let direct = matches!(self.form, Form::Direct { .. });
            tasks.push(Task {
                src: chunk.src + moved,
                dst: chunk.dst + if direct { moved } else { 0 },
                aux: chunk.aux + first as u64 * self.record_bytes::<A>() as u64,
                count: segment.len() as u64,
                cost: chunk.cost * segment.len() as f32,
                ..chunk
            });
        }
    }

    /// Loads the column masks of the step's vectors (direct form).
    pub fn load_masks<A: VectorAsm>(&self, asm: &mut A) {
        let Form::Direct { columns } = &self.form else {
            return;
        };
        for t in 0..self.per_step {
            for i in 0..columns.len() {
                let mask = Self::mask_size::<A>() * (1 + i as i32);
                let at = t as i32 * self.record_bytes::<A>() + mask;
                asm.load_mask(column_register(columns, t, i), Mem::new(AUX, at));
            }
        }
    }

    /// Moves source and tables to the next step.
    pub fn advance_source<A: VectorAsm>(&self, asm: &mut A) {
        asm.add_imm(SRC, vector_bytes::<A>() * self.per_step as i32);
        asm.add_imm(AUX, self.record_bytes::<A>() * self.per_step as i32);
    }

    /// Moves to the next step.
    pub fn advance<A: VectorAsm>(&self, asm: &mut A) {
        self.advance_source(asm);
        let bytes = vector_bytes::<A>() * self.per_step as i32;
        if matches!(self.form, Form::Direct { .. }) {
            asm.add_imm(DST, bytes);
            if self.problem.residual {
                asm.add_imm(RES, bytes);
            }
        }
    }

    /// Post-ops and stores of one step. `accs[j][t]` is vector t of the plane `planes[j]` planes behind
    /// the task's first; `free` are four registers that hold nothing any more.
    pub fn store<A: VectorAsm>(&self, asm: &mut A, accs: &[Vec<V>], planes: &[u32], free: [V; 4]) {
        let harmless = Mem::new(AUX, Self::flag_offset::<A>());
        store_whole_or_masked(asm, harmless, |asm, masked| {
            self.store_step(asm, (accs, planes), free, masked);
        });
    }

    fn store_step<A: VectorAsm>(
        &self,
        asm: &mut A,
        (accs, planes): (&[Vec<V>], &[u32]),
        [zero, permutation, mask, tmp]: [V; 4],
        masked: bool,
    ) {
        let used = |register: V| {
            let mut accs = accs.iter().flatten();
            accs.any(|&acc| acc == register) || [zero, permutation, mask, tmp].contains(&register)
        };
        let spare = (0..A::VREGS).map(V).filter(|&register| !used(register));
        let epilogue = Epilogue::new(self.problem.post, [zero, tmp, permutation]).with_spare(spare);
        let mask = masked.then_some(A::mask(STORE_MASK, mask));
        let staged = matches!(self.form, Form::Staged(_));
        epilogue.prepare(asm);
        for t in 0..self.per_step as i32 {
            let record = Mem::new(AUX, t * self.record_bytes::<A>());
            if let Some(mask) = mask {
                asm.load_mask(mask, record);
            }
            let load_place = |asm: &mut A| {
                asm.load_i32(TMP, record.plus(STAGED_DST));
                asm.load(permutation, record.plus(STAGED_PERMUTATION));
            };
            let at = |base, plane: u32| {
                let plane = plane as i32 * self.problem.dst.pitch as i32 * 4;
                match staged {
                    true => Mem::indexed(base, TMP, 1, plane),
                    false => Mem::new(base, t * vector_bytes::<A>() + plane),
                }
            };
            let accs: Vec<V> = accs.iter().map(|accs| accs[t as usize]).collect();
            if staged {
                load_place(asm);
                accs.iter()
                    .for_each(|&acc| asm.permute(acc, permutation, acc));
            }
            if self.problem.residual {
                let add = |(&acc, &plane)| asm.vadd_mem(acc, acc, at(RES, plane));
                accs.iter().zip(planes).for_each(add);
            }
            epilogue.activate(asm, &accs);
            if staged && epilogue.uses_scratch() {
                // Its constants went through both registers.
                load_place(asm);
            }
            for (&acc, &plane) in accs.iter().zip(planes) {
                store(asm, at(DST, plane), acc, mask);
            }
        }
    }
}

/// Offset of the destination offset (bytes) in a staged record; a mask comes before it.
const STAGED_DST: i32 = 48;
/// Offset of the lane permutation in a staged record.
const STAGED_PERMUTATION: i32 = 64;

/// Register of mask `i` of vector `t`.
fn column_register(columns: &[i32], t: u32, i: usize) -> M {
    M((1 + t as usize * columns.len() + i) as u8)
}

/// Horizontal shifts that need a mask, when the direct form is possible.
fn direct_columns(problem: &ConvProblem, isa: Isa, per_step: u32) -> Option<Vec<i32>> {
    let (window, src, dst) = (&problem.window, &problem.src, &problem.dst);
    let same = window.stride == [1, 1]
        && (src.h, src.w) == (dst.h, dst.w)
        && u64::from(src.gap()) >= crate::gap(window, src.w);
    let columns: Vec<i32> = (0..window.kernel[1])
        .map(|kx| (kx * window.dilation[1]) as i32 - window.pad_begin[1] as i32)
        .filter(|&shift| shift != 0)
        .collect();
    // One is kept for the store.
    let masks = 1 + columns.len() * per_step as usize;
    let fits = columns.is_empty() || masks <= isa.descriptor().mask_registers.into();
    (same && fits).then_some(columns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Planes;
    use proptest::prelude::*;
    use skimjit_models::ops::Window;

    fn problem(window: Window, [h, w]: [u32; 2], gap: bool) -> ConvProblem {
        let [oh, ow] = [(0, h), (1, w)].map(|(axis, size)| window.output_size(axis, size).unwrap());
        let gap = if gap {
            crate::gap(&window, w) as u32
        } else {
            0
        };
        ConvProblem {
            src: Planes::with_gap(2, h, w, gap),
            dst: Planes::compact(3, oh, ow),
            window,
            groups: 1,
            post: None,
            residual: false,
        }
    }

    fn any_problem() -> impl Strategy<Value = ConvProblem> {
        let window = prop_oneof![
            (0..4u32).prop_map(|half| Window::square(2 * half + 1, 1, half)),
            (1..12u32, 1..5u32, 0..4u32).prop_map(|(k, s, p)| Window::square(k, s, p)),
        ];
        (window, [0..30u32, 0..30u32], any::<bool>()).prop_map(|(window, more, gap)| {
            let least = window.kernel[0]
                .saturating_sub(window.pads(0) as u32)
                .max(1);
            problem(window, more.map(|more| least + more), gap)
        })
    }

    /// Lanes of a vector that are outputs, and where the first goes.
    fn outputs(flat: &Flat, vector: u32) -> std::ops::Range<u32> {
        let first = flat.first_output(vector);
        let count = match &flat.form {
            Form::Direct { .. } => (flat.problem.dst.hw() - first).min(flat.lanes),
            Form::Staged(staging) => flat.staged_lanes(vector, staging).len() as u32,
        };
        first..first + count
    }

    fn check(flat: &Flat) -> Result<(), TestCaseError> {
        let (mut step, mut output) = (0, 0);
        for segment in &flat.segments {
            prop_assert_eq!(segment.start, step);
            prop_assert!(!segment.is_empty());
            for at in segment.clone() {
                let vectors = at * flat.per_step..(at + 1) * flat.per_step;
                for vector in vectors.clone() {
                    let range = outputs(flat, vector);
                    prop_assert_eq!(range.start, output, "vector {}", vector);
                    output = range.end;
                }
                // What a whole store writes too much, later vectors of the segment overwrite.
                if flat.whole(at, segment) {
                    let last = segment.end * flat.per_step;
                    let end = (vectors.end..last)
                        .map(|v| outputs(flat, v).end)
                        .fold(output, u32::max);
                    for vector in vectors {
                        prop_assert!(outputs(flat, vector).start + flat.lanes <= end);
                    }
                }
            }
            step = segment.end;
        }
        prop_assert_eq!(step, flat.steps());
        prop_assert_eq!(
            output,
            flat.problem.dst.hw(),
            "every output is stored once, in order"
        );
        Ok(())
    }

    /// In the direct form a tap reads its pixel, the zero gap, or a lane that its mask drops.
    fn check_direct(flat: &Flat, columns: &[i32]) -> Result<(), TestCaseError> {
        let (src, window) = (&flat.problem.src, &flat.problem.window);
        let [kh, kw] = window.kernel;
        for position in 0..src.hw() as i32 {
            let (y, x) = (position / src.w as i32, position % src.w as i32);
            for (ky, kx) in (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx))) {
                let at = y + (ky * window.dilation[0]) as i32 - window.pad_begin[0] as i32;
                let column = x + (kx * window.dilation[1]) as i32 - window.pad_begin[1] as i32;
                let beside = !(0..src.w as i32).contains(&column);
                if let Some(M(mask)) = flat.column_mask(kx, 0) {
                    let column = columns[usize::from(mask) - 1];
                    prop_assert_eq!(!(0..src.w as i32).contains(&(x + column)), beside);
                } else {
                    prop_assert!(!beside);
                }
                let element = position + flat.tap(ky, kx);
                if beside {
                    continue;
                }
                prop_assert_eq!(element, at * src.w as i32 + column);
                prop_assert!(element >= -(src.gap() as i32) && element < src.pitch as i32);
            }
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn every_output_is_stored_once(
            problem in any_problem(), per_step in 1..15u32, chunks in 1..10u32, avx512 in any::<bool>(),
        ) {
            let isa = if avx512 { Isa::Avx512 } else { Isa::Avx2 };
            let flat = Flat::new(&problem, isa, per_step, chunks);
            check(&flat)?;
            check(&flat.most_steps(3))?;
            check(&Flat::unmasked(&problem, isa, per_step, chunks))?;
        }

        #[test]
        fn direct_taps_read_the_plane_or_its_gap(problem in any_problem()) {
            let flat = Flat::new(&problem, Isa::Avx512, 1, 1);
            if let Form::Direct { columns } = &flat.form {
                prop_assert!(columns.len() < Isa::Avx512.descriptor().mask_registers.into());
                check_direct(&flat, columns)?;
            }
        }
    }

    #[test]
    fn same_size_convolutions_with_a_gap_are_direct() {
        let direct = |k: u32, gap: bool, isa: Isa| {
            let problem = problem(Window::square(k, 1, k / 2), [13, 13], gap);
            Flat::new(&problem, isa, 1, 1).staging().is_none()
        };
        assert!(direct(7, true, Isa::Avx512) && !direct(9, true, Isa::Avx512));
        assert!(!direct(3, false, Isa::Avx512));
        assert!(direct(1, false, Isa::Avx2) && !direct(3, true, Isa::Avx2));
    }
}
