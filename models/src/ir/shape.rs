//! Shapes of blobs: row-major dims, at most [`Shape::MAX_RANK`] of them.

use crate::{Error, Result};
use std::fmt;

/// Dims of a blob, outermost first (`N, C, H, W` for images). Rank 0 is a scalar of one element.
#[derive(Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Shape(Vec<u32>);

impl Shape {
    /// Most axes a blob may have (Caffe's own limit is 32; no known layer uses more than 6).
    pub const MAX_RANK: usize = 8;
    /// Most elements a blob may have, so that every offset in bytes fits `i32` addressing per image
    /// plane and every count fits `u32`.
    pub const MAX_COUNT: u64 = 1 << 31;

    /// Checks rank and element count. Dims of 0 are refused.
    pub fn new(dims: impl Into<Vec<u32>>) -> Result<Self> {
        let dims = dims.into();
        if dims.len() > Self::MAX_RANK {
            return Err(Error::new(format!("a shape of {} axes", dims.len()))
                .expected(format!("at most {}", Self::MAX_RANK)));
        }
        let count = dims
            .iter()
            .try_fold(1u64, |count, &dim| count.checked_mul(u64::from(dim)));
        match count {
            Some(1..=Self::MAX_COUNT) => Ok(Self(dims)),
            _ => Err(
                Error::new(format!("shape {}", join(&dims))).expected(format!(
                    "dims of 1 or more and at most {} elements",
                    Self::MAX_COUNT
                )),
            ),
        }
    }
    /// Dims, outermost first.
    pub fn dims(&self) -> &[u32] {
        &self.0
    }
    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.0.len()
    }
    /// Elements in all.
    pub fn count(&self) -> usize {
        self.count_of(0, self.rank())
    }
    /// Product of dims `begin..end`; 1 when empty.
    pub fn count_of(&self, begin: usize, end: usize) -> usize {
        self.0[begin..end].iter().map(|&dim| dim as usize).product()
    }
    /// Dim of `axis`, 1 beyond the rank (Caffe's legacy 4-D view).
    pub fn dim(&self, axis: usize) -> u32 {
        self.0.get(axis).copied().unwrap_or(1)
    }
    /// Rows and columns as a matrix: the first axis, and all others; 1 row without axes.
    pub fn matrix(&self) -> (u32, u32) {
        let rows = self.dims().first().copied().unwrap_or(1);
        // A count fits 32 bits.
        (rows, (self.count() / rows.max(1) as usize) as u32)
    }
    /// Axis as Caffe counts it: negative from the end. `None` when outside the rank.
    pub fn axis(&self, axis: i32) -> Option<usize> {
        let rank = self.rank() as i32;
        let axis = if axis < 0 { axis + rank } else { axis };
        (0..rank).contains(&axis).then_some(axis as usize)
    }
    /// The same shape with another batch (axis 0).
    pub fn with_batch(&self, batch: u32) -> Self {
        let mut dims = self.0.clone();
        if let Some(first) = dims.first_mut() {
            *first = batch;
        }
        Self(dims)
    }
}

fn join(dims: &[u32]) -> String {
    dims.iter()
        .map(u32::to_string)
        .collect::<Vec<_>>()
        .join("x")
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&if self.0.is_empty() {
            "scalar".to_owned()
        } else {
            join(&self.0)
        })
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
