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

/// Elements of a cache line.
const LINE: u32 = 16;

/// Layout of a staged copy: for every source channel, `phases_h × phases_w` planes of
/// `rows × row_pitch` elements, followed by `tail` zeros after the last channel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Staging {
    /// What is copied.
    pub src: Planes,
    /// Stride (number of possible phases), padding.
    stride: [u32; 2],
    pad: [u32; 2],
    /// Phases that any tap reads, per axis; of a shifted copy the second is the columns of the window.
    pub phases: [u32; 2],
    /// Columns of the padded source from where one phase begins to where the next one does.
    shift: u32,
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
            stride: window.stride,
            pad: window.pad_begin,
            phases,
            shift: 1,
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
            stride: window.stride,
            pad: window.pad_begin,
            phases: [window.stride[0].min(reach + 1), window.kernel[1]],
            shift: window.dilation[1],
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
            channel: (lines + u32::from(lines.is_multiple_of(2))) * LINE,
            ..staging
        }
    }

    /// Where a shifted copy has the row of tap y (already multiplied by the dilation) of a column of the window.
    pub fn shifted_tap(&self, y: u32, column: u32) -> u32 {
        let phase = (y % self.stride[0]) * self.phases[1] + column;
        phase * self.plane + self.aligned_row(y / self.stride[0])
    }

    /// Columns of phase `px` that hold source columns.
    fn columns_of_phase(&self, px: u32) -> std::ops::Range<u32> {
        span(px * self.shift, self.stride[1], self.pad[1], self.src.w)
    }

    /// The source column of a column of phase `px`.
    fn source_column(&self, px: u32, column: u32) -> u32 {
        column * self.stride[1] + px * self.shift - self.pad[1]
    }

    /// Element offset of tap (ky, kx) (already multiplied by the dilation) from the plane of its
    /// channel.
    pub fn tap(&self, y: u32, x: u32) -> u32 {
        let phase = (y % self.stride[0]) * self.phases[1] + x % self.stride[1];
        phase * self.plane + y / self.stride[0] * self.row_pitch + x / self.stride[1]
    }

    /// Where an aligned copy has tap (ky, kx) (already multiplied by the dilation): the element offset of
    /// its row, at a vector, and the position in the row.
    pub fn aligned_tap(&self, y: u32, x: u32) -> (u32, u32) {
        let phase = (y % self.stride[0]) * self.phases[1] + x % self.stride[1];
        let row = self.aligned_row(y / self.stride[0]);
        (phase * self.plane + row, x / self.stride[1])
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

    /// Cycles that the copy takes: of an element, and of a line.
    pub(crate) fn cycles(&self) -> f64 {
        let lines = f64::from(self.src.c * self.rows * self.phases[0] * self.phases[1]);
        0.6 * self.elems() as f64 + 15.0 * lines
    }

    /// Elements of the source plane from one element of a line to the next.
    pub fn line_stride(&self) -> u32 {
        self.stride[1]
    }

    /// What [`Staging::copy_channel`] writes, in ascending order and without holes: for generated code.
    pub fn lines(&self) -> Vec<Line> {
        let mut copied = Vec::new();
        for phase in 0..self.phases[0] * self.phases[1] {
            let (py, px) = (phase / self.phases[1], phase % self.phases[1]);
            self.phase_lines(phase * self.plane, py, px, &mut copied);
        }
        copied.sort_by_key(|line| line.dst);
        let mut lines = Vec::with_capacity(2 * copied.len() + 1);
        let mut end = 0;
        let zeros = |lines: &mut Vec<Line>, from: u32, to: u32| {
            let (src, len) = (None, to - from);
            lines.extend((len > 0).then_some(Line {
                dst: from,
                src,
                len,
            }));
        };
        for line in copied {
            zeros(&mut lines, end, line.dst);
            end = line.dst + line.len;
            lines.push(line);
        }
        zeros(&mut lines, end, self.channel);
        lines
    }

    /// Source rows of a phase, and of its twin.
    fn phase_lines(&self, plane: u32, py: u32, px: u32, lines: &mut Vec<Line>) {
        let columns = self.columns_of_phase(px);
        let columns = columns.start..columns.end.min(self.row_pitch);
        if columns.is_empty() {
            return;
        }
        let rows = span(py, self.stride[0], self.pad[0], self.src.h);
        for row in rows.start..rows.end.min(self.rows) {
            let y = row * self.stride[0] + py - self.pad[0];
            let x = self.source_column(px, columns.start);
            let line = Line {
                dst: plane + row * self.row_pitch + columns.start,
                src: Some(y * self.src.w + x),
                len: columns.len() as u32,
            };
            lines.push(line);
            if self.twin > 0 && row > 0 {
                let dst = line.dst + self.twin - self.row_pitch;
                lines.push(Line { dst, ..line });
            }
        }
    }

    /// Copies one channel; `src` starts at the channel's plane, `dst` is that channel of the copy.
    /// Writes all of `dst`.
    pub fn copy_channel(&self, src: &[f32], dst: &mut [f32]) {
        for py in 0..self.phases[0] {
            for px in 0..self.phases[1] {
                let plane = (py * self.phases[1] + px) * self.plane;
                let dst = &mut dst[plane as usize..];
                self.copy_phase(src, dst, py, px);
                if self.twin > 0 {
                    let (rows, twin) = dst.split_at_mut(self.twin as usize);
                    let later = &rows[self.row_pitch as usize..];
                    let (twin, last) = twin.split_at_mut(later.len());
                    twin.copy_from_slice(later);
                    clear(last, self.row_pitch as usize);
                }
            }
        }
        let planes = self.phases[0] * self.phases[1] * self.plane;
        dst[planes as usize..].fill(0.0);
    }

    /// The plane at the start of `dst`, in ascending order: a row may write some elements behind it, which are
    /// written again.
    fn copy_phase(&self, src: &[f32], dst: &mut [f32], py: u32, px: u32) {
        let columns = self.columns_of_phase(px);
        // Columns that no tap reads would fall into the next row.
        let columns = columns.start..columns.end.min(self.row_pitch);
        let rows = match columns.is_empty() {
            true => 0..0,
            false => span(py, self.stride[0], self.pad[0], self.src.h),
        };
        let [start, end] = [columns.start, columns.end].map(|column| column as usize);
        let (pitch, width) = (self.row_pitch as usize, self.src.w as usize);
        for row in 0..self.rows {
            let out = &mut dst[row as usize * pitch..];
            if !rows.contains(&row) {
                clear(out, pitch);
                continue;
            }
            let y = row * self.stride[0] + py - self.pad[0];
            let x = self.source_column(px, columns.start);
            let from = &src[y as usize * width + x as usize..];
            clear(out, start);
            copy_run(
                from,
                &mut out[start..],
                end - start,
                self.stride[1] as usize,
            );
            clear(&mut out[end..], pitch - end);
        }
        let written = self.rows * self.row_pitch;
        let plane = if self.twin > 0 { self.twin } else { self.plane };
        clear(&mut dst[written as usize..], (plane - written) as usize);
    }
}

/// Elements that are written at once where rows are short.
const BLOCK: usize = 8;

/// Zeros, and maybe some behind them.
fn clear(to: &mut [f32], len: usize) {
    match to.first_chunk_mut::<BLOCK>() {
        _ if len == 0 => {}
        Some(block) if len <= BLOCK => *block = [0.0; BLOCK],
        _ => to[..len].fill(0.0),
    }
}

/// Every `stride`-th element, and maybe some behind them.
fn copy_run(from: &[f32], to: &mut [f32], len: usize, stride: usize) {
    match stride {
        1 if len > 2 * BLOCK => to[..len].copy_from_slice(&from[..len]),
        1 => copy_blocks::<1>(from, to, len),
        2 => copy_blocks::<2>(from, to, len),
        4 => copy_blocks::<4>(from, to, len),
        _ => copy_elements(from, to, len, stride),
    }
}

fn copy_elements(from: &[f32], to: &mut [f32], len: usize, stride: usize) {
    let from = from.iter().step_by(stride);
    to[..len]
        .iter_mut()
        .zip(from)
        .for_each(|(to, from)| *to = *from);
}

/// With the stride known to the compiler, in blocks that become vectors as far as there is something behind them.
fn copy_blocks<const S: usize>(from: &[f32], to: &mut [f32], len: usize) {
    for start in (0..len).step_by(BLOCK) {
        let (from, to) = (&from[start * S..], &mut to[start..]);
        match (from.get(..BLOCK * S), to.first_chunk_mut::<BLOCK>()) {
            (Some(from), Some(block)) => {
                for (i, to) in block.iter_mut().enumerate() {
                    *to = from[i * S];
                }
            }
            _ => copy_elements(from, to, BLOCK.min(len - start), S),
        }
    }
}

/// Indices j of phase p for which `pad ≤ j·stride + p < pad + size`.
fn span(phase: u32, stride: u32, pad: u32, size: u32) -> std::ops::Range<u32> {
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
                prop_assert!(unit == 1 || row % lanes == 0, "a row of a tap starts a vector");
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
