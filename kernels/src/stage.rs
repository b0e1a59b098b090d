//! Padded, phase-split copies of a source.
//!
//! A strided or padded window becomes a set of unit-stride taps on copies of the source ("phase
//! planes"): phase (py, px) holds the padded source's rows py, py + sh, … and columns px, px + sw, ….
//! Zero columns at the end of a row and at the start of the next one are shared.
//!
//! An *aligned* copy has rows of whole vectors (or half vectors), each a ring of its own: a tap that
//! reaches over the end of a row reads the zeros at its start.
//!
//! A *shifted* copy has a plane for every column of the window, which begins where that column's tap lies for
//! the first output: every tap of a row of outputs begins at a vector.

use crate::Planes;
use skimjit_models::ops::Window;
use std::ops::Range;

/// Elements of a cache line.
const LINE: u32 = 16;

/// How the rows of a copy are arranged.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Arrangement {
    /// As short as they can be.
    Plain,
    /// Of a multiple of some elements, in planes of whole vectors of some lanes.
    Aligned([u32; 2]),
    /// The same, a plane for each column of the window.
    Shifted([u32; 2]),
}

/// Layout of a staged copy: for every source channel, `phases_h × phases_w` planes of
/// `rows × row_pitch` elements, followed by `tail` zeros after the last channel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Staging {
    /// What is copied.
    pub src: Planes,
    /// For what: its stride is the number of possible phases.
    pub window: Window,
    /// Rows and columns of outputs.
    pub outputs: [u32; 2],
    /// How rows are arranged.
    pub arrangement: Arrangement,
    /// Phases that any tap reads, per axis; of a shifted copy the second is the columns of the window.
    pub phases: [u32; 2],
    /// Rows of a phase plane.
    pub rows: u32,
    /// Elements from one row to the next.
    pub row_pitch: u32,
    /// Elements from one phase plane to the next.
    pub plane: u32,
    /// Elements from a phase plane to its twin, the same rows without the first; 0: no twins.
    twin: u32,
    /// Elements of one channel (all phases).
    pub channel: u32,
}

/// Rows of a staged channel that follow each other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Rows {
    /// The first one, and what begins behind the last.
    pub dst: Range<u32>,
    /// Those that hold source elements, in these columns; zeros elsewhere.
    pub filled: Range<u32>,
    /// See `filled`.
    pub columns: Range<u32>,
    /// The source element of the first of these columns in the first of these rows.
    pub first: u32,
    /// Elements of the source from one such row to the next.
    pub step: u32,
}

/// A run of elements of a staged channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Line {
    /// First element in the channel of the copy.
    pub dst: u32,
    /// First element in the source plane, the next ones a stride apart; `None`: zeros.
    pub src: Option<u32>,
    /// Elements.
    pub len: u32,
}

impl Staging {
    /// Layout for a window over `src` with an output of `oh × ow`.
    pub fn new(src: Planes, window: &Window, oh: u32, ow: u32) -> Self {
        let reach = |axis: usize| (window.kernel[axis] - 1) * window.dilation[axis];
        let phases = [0, 1].map(|axis| window.stride[axis].min(reach(axis) + 1));
        let rows = oh + reach(0) / window.stride[0];
        let columns = ow + reach(1) / window.stride[1];
        let mut staging = Self {
            src,
            window: *window,
            outputs: [oh, ow],
            arrangement: Arrangement::Plain,
            phases,
            rows,
            row_pitch: columns,
            plane: 0,
            twin: 0,
            channel: 0,
        };
        let shared = (0..phases[1])
            .map(|px| {
                let valid = staging.columns_of_phase(px);
                valid.start.min(columns.saturating_sub(valid.end))
            })
            .min()
            .unwrap_or(0)
            // A row must hold a position for each of its outputs.
            .min(columns - ow);
        staging.row_pitch = columns - shared;
        staging.plane = rows * staging.row_pitch + shared;
        staging.channel = staging.plane * phases[0] * phases[1];
        staging
    }

    /// The same with rows of a multiple of `unit` elements, in planes of whole vectors of `lanes`. Where
    /// a vector holds two rows, every plane has a twin, so that any row can start a vector.
    pub fn aligned(self, unit: u32, lanes: u32) -> Self {
        let (phases, row_pitch) = (self.phases, self.row_pitch.next_multiple_of(unit));
        let rows = self.rows.next_multiple_of((lanes / unit).max(1));
        let (twin, plane) = match row_pitch < lanes {
            true => (rows * row_pitch, 2 * rows * row_pitch),
            false => (0, rows * row_pitch),
        };
        Self {
            arrangement: Arrangement::Aligned([unit, lanes]),
            rows,
            row_pitch,
            plane,
            twin,
            channel: plane * phases[0] * phases[1],
            ..self
        }
    }

    /// A shifted copy, with rows of a multiple of `unit` elements; `unit` 1 is for windows of one tap, whose
    /// rows follow each other. Channels are an odd number of cache lines apart.
    pub fn shifted(
        src: Planes,
        window: &Window,
        [oh, ow]: [u32; 2],
        unit: u32,
        lanes: u32,
    ) -> Self {
        let reach = (window.kernel[0] - 1) * window.dilation[0];
        let staging = Self {
            src,
            window: *window,
            outputs: [oh, ow],
            arrangement: Arrangement::Plain,
            phases: [window.stride[0].min(reach + 1), window.kernel[1]],
            rows: oh + reach / window.stride[0],
            row_pitch: ow,
            plane: oh * ow,
            twin: 0,
            channel: oh * ow,
        };
        let staging = match unit {
            1 => staging,
            _ => staging.aligned(unit, lanes),
        };
        let lines = staging.channel.div_ceil(LINE);
        Self {
            arrangement: Arrangement::Shifted([unit, lanes]),
            channel: (lines + u32::from(lines.is_multiple_of(2))) * LINE,
            ..staging
        }
    }

    /// Where a shifted copy has the row of tap y (already multiplied by the dilation) of a column of the window.
    pub fn shifted_tap(&self, y: u32, column: u32) -> u32 {
        let phase = (y % self.window.stride[0]) * self.phases[1] + column;
        phase * self.plane + self.aligned_row(y / self.window.stride[0])
    }

    /// The column of the padded source where phase `px` begins.
    fn start_of_phase(&self, px: u32) -> u32 {
        match self.arrangement {
            Arrangement::Shifted(_) => px * self.window.dilation[1],
            _ => px,
        }
    }

    /// Columns of phase `px` that hold source columns.
    fn columns_of_phase(&self, px: u32) -> Range<u32> {
        let (stride, pad) = (self.window.stride[1], self.window.pad_begin[1]);
        span(self.start_of_phase(px), stride, pad, self.src.w)
    }

    /// The source column of a column of phase `px`.
    fn source_column(&self, px: u32, column: u32) -> u32 {
        column * self.window.stride[1] + self.start_of_phase(px) - self.window.pad_begin[1]
    }

    /// Element offset of tap (ky, kx) (already multiplied by the dilation) from the plane of its
    /// channel.
    pub fn tap(&self, y: u32, x: u32) -> u32 {
        let phase = (y % self.window.stride[0]) * self.phases[1] + x % self.window.stride[1];
        phase * self.plane + y / self.window.stride[0] * self.row_pitch + x / self.window.stride[1]
    }

    /// Where an aligned copy has tap (ky, kx) (already multiplied by the dilation): the element offset of
    /// its row, at a vector, and the position in the row.
    pub fn aligned_tap(&self, y: u32, x: u32) -> (u32, u32) {
        let phase = (y % self.window.stride[0]) * self.phases[1] + x % self.window.stride[1];
        let row = self.aligned_row(y / self.window.stride[0]);
        (phase * self.plane + row, x / self.window.stride[1])
    }

    /// Where a plane has a row, at a vector.
    fn aligned_row(&self, row: u32) -> u32 {
        match self.twin {
            twin if twin > 0 && row % 2 == 1 => twin + (row - 1) * self.row_pitch,
            _ => row * self.row_pitch,
        }
    }

    /// Elements of the copy.
    pub fn elems(&self) -> usize {
        self.channel as usize * self.src.c as usize
    }

    /// Cycles that the copy takes: of a row, and of its vectors.
    pub(crate) fn cycles(&self, lanes: u32) -> f64 {
        let planes = self.phases[0] * self.phases[1] * if self.twin > 0 { 2 } else { 1 };
        let rows = f64::from(self.src.c) * f64::from(self.rows * planes);
        let vectors = f64::from(self.row_pitch.div_ceil(lanes));
        rows * (3.0 + vectors * (1.5 + f64::from(self.window.stride[1])))
    }

    /// Elements of the source plane from one element of a line to the next.
    pub fn line_stride(&self) -> u32 {
        self.window.stride[1]
    }

    /// What [`Staging::copy_channel`] writes, in ascending order and without holes: for generated code.
    pub fn lines(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut end = 0;
        let zeros = |lines: &mut Vec<Line>, from: u32, to: u32| {
            let (src, len) = (None, to - from);
            lines.extend((len > 0).then_some(Line {
                dst: from,
                src,
                len,
            }));
        };
        for rows in self.rows() {
            let sources = (rows.first..).step_by(rows.step as usize);
            for (row, src) in rows.filled.zip(sources) {
                let line = Line {
                    dst: rows.dst.start + row * self.row_pitch + rows.columns.start,
                    src: Some(src),
                    len: rows.columns.len() as u32,
                };
                zeros(&mut lines, end, line.dst);
                end = line.dst + line.len;
                lines.push(line);
            }
        }
        zeros(&mut lines, end, self.channel);
        lines
    }

    /// What [`Staging::copy_channel`] writes, in ascending order, but for the zeros behind it.
    pub(crate) fn rows(&self) -> Vec<Rows> {
        let mut all = Vec::new();
        for phase in 0..self.phases[0] * self.phases[1] {
            let rows = self.rows_of_phase(phase);
            let twin = (self.twin > 0).then(|| self.twin_of(&rows));
            all.push(rows);
            all.extend(twin);
        }
        all
    }

    fn rows_of_phase(&self, phase: u32) -> Rows {
        let (py, px) = (phase / self.phases[1], phase % self.phases[1]);
        let columns = self.columns_of_phase(px);
        let columns = columns.start..columns.end.min(self.row_pitch);
        let filled = span(
            py,
            self.window.stride[0],
            self.window.pad_begin[0],
            self.src.h,
        );
        let filled = filled.start..filled.end.min(self.rows);
        let start = phase * self.plane;
        let len = if self.twin > 0 { self.twin } else { self.plane };
        let empty = columns.is_empty() || filled.is_empty();
        Rows {
            dst: start..start + len,
            filled: if empty { 0..0 } else { filled.clone() },
            first: match empty {
                true => 0,
                false => {
                    let y = filled.start * self.window.stride[0] + py - self.window.pad_begin[0];
                    y * self.src.w + self.source_column(px, columns.start)
                }
            },
            columns,
            step: self.window.stride[0] * self.src.w,
        }
    }

    /// The same rows without the first.
    fn twin_of(&self, rows: &Rows) -> Rows {
        let filled = &rows.filled;
        let skipped = u32::from(filled.start == 0 && !filled.is_empty());
        Rows {
            dst: rows.dst.end..rows.dst.end + self.twin,
            filled: filled.start.saturating_sub(1)..filled.end.saturating_sub(1),
            first: rows.first + skipped * rows.step,
            ..rows.clone()
        }
    }

    /// Copies one channel, element by element; `src` starts at the channel's plane, `dst` is that channel of the
    /// copy. Writes all of `dst`.
    pub fn copy_channel(&self, src: &[f32], dst: &mut [f32]) {
        dst.fill(0.0);
        for rows in self.rows() {
            let columns = rows.columns.start as usize..rows.columns.end as usize;
            for (row, from) in rows.filled.zip((rows.first..).step_by(rows.step as usize)) {
                let to = &mut dst[(rows.dst.start + row * self.row_pitch) as usize..];
                let from = src[from as usize..]
                    .iter()
                    .step_by(self.window.stride[1] as usize);
                let pairs = to[columns.clone()].iter_mut().zip(from);
                pairs.for_each(|(to, from)| *to = *from);
            }
        }
    }
}

/// Indices j of phase p for which `pad ≤ j·stride + p < pad + size`.
fn span(phase: u32, stride: u32, pad: u32, size: u32) -> Range<u32> {
    let first = pad.saturating_sub(phase).div_ceil(stride);
    let end = (pad + size).saturating_sub(phase).div_ceil(stride);
    first..end.max(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The source pixel under a tap, zero beside the plane.
    fn pixel(src: &[f32], size: [u32; 2], at: [i64; 2]) -> f32 {
        let inside = (0..2).all(|axis| (0..i64::from(size[axis])).contains(&at[axis]));
        if inside {
            src[(at[0] * i64::from(size[1]) + at[1]) as usize]
        } else {
            0.0
        }
    }

    /// The lines say what the copy does.
    fn same_lines(staging: &Staging, src: &[f32], copy: &[f32]) -> Result<(), TestCaseError> {
        let mut next = 0;
        for Line {
            dst,
            src: from,
            len,
        } in staging.lines()
        {
            prop_assert_eq!(dst, next);
            next += len;
            for i in 0..len {
                let pixel =
                    from.map_or(0.0, |from| src[(from + i * staging.line_stride()) as usize]);
                prop_assert_eq!(copy[(dst + i) as usize], pixel);
            }
        }
        prop_assert_eq!(next, staging.channel);
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn every_tap_reads_its_pixel_or_zero(
            kernel in [1..6u32, 1..6u32], stride in [1..6u32, 1..6u32], pad in [0..7u32, 0..7u32], pad_end in [0..7u32, 0..7u32],
            dilation in [1..4u32, 1..4u32], more in [0..12u32, 0..12u32],
        ) {
            let window = Window { kernel, stride, pad_begin: pad, pad_end, dilation };
            let size = [0, 1].map(|axis| {
                (window.extent(axis) as u32).saturating_sub(window.pads(axis) as u32).max(1) + more[axis]
            });
            let [oh, ow] = [0, 1].map(|axis| window.output_size(axis, size[axis]).unwrap());
            let staging = Staging::new(Planes::compact(1, size[0], size[1]), &window, oh, ow);
            prop_assert!(staging.row_pitch >= ow, "each output needs a position of its own");
            let src: Vec<f32> = (1..=size[0] * size[1]).map(|i| i as f32).collect();
            let mut copy = vec![f32::NAN; staging.elems()];
            staging.copy_channel(&src, &mut copy);
            same_lines(&staging, &src, &copy)?;
            for (y, x) in (0..oh).flat_map(|y| (0..ow).map(move |x| (y, x))) {
                for (i, j) in (0..kernel[0]).flat_map(|i| (0..kernel[1]).map(move |j| (i, j))) {
                    let tap = [i * dilation[0], j * dilation[1]];
                    let at = [0, 1].map(|axis| {
                        let output = [y, x][axis] * stride[axis];
                        i64::from(output + tap[axis]) - i64::from(pad[axis])
                    });
                    let position = y * staging.row_pitch + x;
                    let found = copy[(staging.tap(tap[0], tap[1]) + position) as usize];
                    prop_assert_eq!(found, pixel(&src, size, at), "output {:?} tap {:?}", (y, x), tap);
                }
            }
        }

        #[test]
        fn every_shifted_tap_reads_its_pixel_or_zero(
            kernel in [1..6u32, 1..6u32], stride in [1..4u32, 1..4u32], pad in [0..7u32, 0..7u32], pad_end in [0..7u32, 0..7u32],
            dilation in [1..4u32, 1..4u32], more in [0..20u32, 0..20u32], avx512 in any::<bool>(),
        ) {
            let window = Window { kernel, stride, pad_begin: pad, pad_end, dilation };
            let size = [0, 1].map(|axis| {
                (window.extent(axis) as u32).saturating_sub(window.pads(axis) as u32).max(1) + more[axis]
            });
            let [oh, ow] = [0, 1].map(|axis| window.output_size(axis, size[axis]).unwrap());
            let lanes = if avx512 { 16 } else { 8 };
            let unit = match (kernel, ow) {
                ([1, 1], _) => 1,
                (_, ..=8) => 8,
                _ => lanes,
            };
            let staging = Staging::shifted(Planes::compact(1, size[0], size[1]), &window, [oh, ow], unit, lanes);
            let src: Vec<f32> = (1..=size[0] * size[1]).map(|i| i as f32).collect();
            let mut copy = vec![f32::NAN; staging.elems()];
            staging.copy_channel(&src, &mut copy);
            same_lines(&staging, &src, &copy)?;
            prop_assert!(copy.iter().all(|x| !x.is_nan()));
            prop_assert_eq!(staging.channel / 16 % 2, 1);
            for (i, j) in (0..kernel[0]).flat_map(|i| (0..kernel[1]).map(move |j| (i, j))) {
                let row = staging.shifted_tap(i * dilation[0], j);
                prop_assert!(unit == 1 || row.is_multiple_of(lanes), "a row of a tap starts a vector");
                let rows = if unit == 1 { oh } else { oh.next_multiple_of((lanes / unit).max(1)) };
                prop_assert!(row + rows * staging.row_pitch <= staging.channel);
                for (y, x) in (0..oh).flat_map(|y| (0..ow).map(move |x| (y, x))) {
                    let at = [0, 1].map(|axis| {
                        let output = [y, x][axis] * stride[axis];
                        let tap = [i, j][axis] * dilation[axis];
                        i64::from(output + tap) - i64::from(pad[axis])
                    });
                    let found = copy[(row + y * staging.row_pitch + x) as usize];
                    prop_assert_eq!(found, pixel(&src, size, at), "output {:?} tap {:?}", (y, x), (i, j));
                }
            }
        }

        #[test]
        fn every_aligned_tap_reads_its_pixel_or_zero(
            kernel in [1..6u32, 1..6u32], stride in [1..4u32, 1..4u32], pad in [0..7u32, 0..7u32], pad_end in [0..7u32, 0..7u32],
            dilation in [1..4u32, 1..4u32], more in [0..20u32, 0..20u32], avx512 in any::<bool>(),
        ) {
            let window = Window { kernel, stride, pad_begin: pad, pad_end, dilation };
            let size = [0, 1].map(|axis| {
                (window.extent(axis) as u32).saturating_sub(window.pads(axis) as u32).max(1) + more[axis]
            });
            let [oh, ow] = [0, 1].map(|axis| window.output_size(axis, size[axis]).unwrap());
            let staging = Staging::new(Planes::compact(1, size[0], size[1]), &window, oh, ow);
            let lanes = if avx512 { 16 } else { 8 };
            let unit = if staging.row_pitch <= 8 { 8 } else { lanes };
            let staging = staging.aligned(unit, lanes);
            let src: Vec<f32> = (1..=size[0] * size[1]).map(|i| i as f32).collect();
            let mut copy = vec![f32::NAN; staging.elems()];
            staging.copy_channel(&src, &mut copy);
            same_lines(&staging, &src, &copy)?;
            prop_assert!(copy.iter().all(|x| !x.is_nan()));
            for (i, j) in (0..kernel[0]).flat_map(|i| (0..kernel[1]).map(move |j| (i, j))) {
                let tap = [i * dilation[0], j * dilation[1]];
                let (row, position) = staging.aligned_tap(tap[0], tap[1]);
                prop_assert_eq!(row % lanes, 0, "a row of a tap starts a vector");
                // A vector may hold a row behind the last one.
                let rows = oh.next_multiple_of((lanes / unit).max(1));
                prop_assert!(row + rows * staging.row_pitch <= staging.channel);
                for (y, x) in (0..oh).flat_map(|y| (0..ow).map(move |x| (y, x))) {
                    let at = [0, 1].map(|axis| {
                        let output = [y, x][axis] * stride[axis];
                        i64::from(output + tap[axis]) - i64::from(pad[axis])
                    });
                    let column = (x + position) % staging.row_pitch;
                    let found = copy[(row + y * staging.row_pitch + column) as usize];
                    prop_assert_eq!(found, pixel(&src, size, at), "output {:?} tap {:?}", (y, x), tap);
                }
            }
        }
    }
}
