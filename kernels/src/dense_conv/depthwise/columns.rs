//! Which vectors of a source row are loaded for a strip of the result.

use crate::ConvProblem;
use crate::variant::last_lanes;
use std::ops::Range;

/// Columns of the window that come from vectors that are loaded together.
#[derive(Debug)]
pub struct Fetch {
    /// Source column of the first lane, for column 0 of the result; may lie beside the plane.
    column: i32,
    /// Vectors, one behind the other: as many as the stride.
    pub vectors: u32,
    /// The column of the window that has their even lanes (of one vector: all), and the next one's lanes.
    pub kx: [Option<u32>; 2],
}

/// Vectors of the result that the same code computes.
#[derive(PartialEq, Debug)]
pub struct Strip {
    /// Lanes of each fetch's vectors that lie in the plane.
    pub loads: Vec<Vec<u32>>,
    /// Lanes that are results.
    pub store: u32,
}

/// Fetches of a source row.
pub fn fetches(problem: &ConvProblem) -> Vec<Fetch> {
    let window = &problem.window;
    let column = |kx: u32| (kx * window.dilation[1]) as i32 - window.pad_begin[1] as i32;
    let stride = window.stride[1];
    let mut fetches: Vec<Fetch> = Vec::new();
    for kx in 0..window.kernel[1] {
        if let Some(before) = fetches.last_mut()
            && stride == 2
            && before.kx[1].is_none()
            && column(kx) == before.column + 1
        {
            before.kx[1] = Some(kx);
            continue;
        }
        fetches.push(Fetch {
            column: column(kx),
            vectors: stride,
            kx: [Some(kx), None],
        });
    }
    fetches
}

impl Fetch {
    /// Elements from a strip's first source column, stride times its first column, to a vector.
    pub fn offset(&self, vector: u32, lanes: u32) -> i32 {
        self.column + (vector * lanes) as i32
    }
}

/// Strips from left to right, those with the same code together.
pub fn strips(problem: &ConvProblem, fetches: &[Fetch], lanes: u32) -> Vec<(Range<u32>, Strip)> {
    let (width, stride) = (problem.dst.w, problem.window.stride[1]);
    let count = width.div_ceil(lanes);
    let inside = |first: i32| {
        let valid = |lane: &u32| (0..problem.src.w as i32).contains(&(first + *lane as i32));
        (0..lanes)
            .filter(valid)
            .fold(0, |bits, lane| bits | 1 << lane)
    };
    let mut runs: Vec<(Range<u32>, Strip)> = Vec::new();
    for index in 0..count {
        let first = (index * lanes * stride) as i32;
        let vectors = |fetch: &Fetch| {
            let vectors = 0..fetch.vectors;
            vectors
                .map(|vector| inside(first + fetch.offset(vector, lanes)))
                .collect()
        };
        let stored = match index + 1 == count {
            true => last_lanes(width, lanes),
            false => lanes,
        };
        let strip = Strip {
            loads: fetches.iter().map(vectors).collect(),
            store: ((1u64 << stored) - 1) as u32,
        };
        match runs.last_mut() {
            Some((range, same)) if *same == strip => range.end += 1,
            _ => runs.push((index..index + 1, strip)),
        }
    }
    runs
}
