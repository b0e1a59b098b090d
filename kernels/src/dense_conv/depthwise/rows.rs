//! Which rows of the result a source row contributes to.

use crate::ConvProblem;
use std::ops::Range;

/// What one source row contributes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Row {
    /// Products with it.
    pub taps: Vec<Tap>,
    /// Rows of the result that are complete behind it, ascending.
    pub complete: Vec<u32>,
}

/// A product of a source row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tap {
    /// Accumulator that it is added to.
    pub accumulator: u32,
    /// Row of the window.
    pub ky: u32,
    /// Nothing was added to it before.
    pub first: bool,
}

/// All source rows, of which some repeat.
#[derive(Debug)]
pub struct Rows {
    /// From the first to the last.
    pub rows: Vec<Row>,
    /// Accumulators in use at once; a row of the result has its number modulo theirs.
    pub accumulators: u32,
    /// Source rows after which the code is the same.
    pub period: usize,
    /// Rows that are a whole number of periods, at least two; or none.
    pub looped: Range<usize>,
}

/// Accumulators that a window keeps in use.
pub fn accumulators(problem: &ConvProblem) -> u32 {
    let extent = problem.window.extent(0).min(u64::from(u32::MAX)) as u32;
    extent.div_ceil(problem.window.stride[0])
}

/// Source rows under a row of the result, and which of the window's they meet.
fn taps(problem: &ConvProblem, y: u32) -> impl Iterator<Item = (u32, u32)> {
    let (window, h) = (problem.window, i64::from(problem.src.h));
    (0..window.kernel[0]).filter_map(move |ky| {
        let row = i64::from(y * window.stride[0] + ky * window.dilation[0])
            - i64::from(window.pad_begin[0]);
        (0..h).contains(&row).then_some((row as u32, ky))
    })
}

/// Whether every row of the result has a source row under it.
pub fn all_have_sources(problem: &ConvProblem) -> bool {
    (0..problem.dst.h).all(|y| taps(problem, y).next().is_some())
}

impl Rows {
    /// `masked(y)`: row y of the result is stored with other code than rows without.
    pub fn new(problem: &ConvProblem, masked: impl Fn(u32) -> bool) -> Self {
        let accumulators = accumulators(problem);
        let mut rows = vec![Row::default(); problem.src.h as usize];
        for y in 0..problem.dst.h {
            let mut first = true;
            let mut last = 0;
            for (row, ky) in taps(problem, y) {
                rows[row as usize].taps.push(Tap {
                    accumulator: y % accumulators,
                    ky,
                    first,
                });
                (first, last) = (false, row as usize);
            }
            rows[last].complete.push(y);
        }
        let period = (accumulators * problem.window.stride[0]) as usize;
        let repeats = |row: usize| {
            let (Some(a), Some(b)) = (rows.get(row), rows.get(row + period)) else {
                return false;
            };
            let pairs = a.complete.iter().zip(&b.complete);
            let mut same = pairs.map(|(&a, &b)| b == a + accumulators && masked(a) == masked(b));
            a.taps == b.taps && a.complete.len() == b.complete.len() && same.all(|same| same)
        };
        let looped = longest(rows.len(), repeats).map_or(0..0, |run| {
            let trips = (run.len() + period) / period;
            run.start..run.start + trips * period
        });
        Self {
            rows,
            accumulators,
            period,
            looped,
        }
    }
}

/// The longest run of indices that have a property.
fn longest(count: usize, has: impl Fn(usize) -> bool) -> Option<Range<usize>> {
    let mut longest = 0..0;
    let mut start = 0;
    for index in 0..count {
        match has(index) {
            true if index + 1 - start > longest.len() => longest = start..index + 1,
            true => {}
            false => start = index + 1,
        }
    }
    (!longest.is_empty()).then_some(longest)
}
