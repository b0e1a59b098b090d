//! Row-major index arithmetic that several references share.

use crate::{Error, Result, Shape};

/// Elements before `axis`, along it and behind it.
pub(super) fn split(shape: &Shape, axis: usize) -> [usize; 3] {
    let rank = shape.rank();
    [
        shape.count_of(0, axis),
        shape.dim(axis) as usize,
        shape.count_of(axis + 1, rank),
    ]
}

/// Distance in elements between neighbours along each axis.
pub(super) fn strides(shape: &Shape) -> [usize; Shape::MAX_RANK] {
    let mut strides = [0; Shape::MAX_RANK];
    for (axis, stride) in strides.iter_mut().enumerate().take(shape.rank()) {
        *stride = shape.count_of(axis + 1, shape.rank());
    }
    strides
}

/// The same shape with another dim at `axis`.
pub(super) fn with_dim(shape: &Shape, axis: usize, dim: u64) -> Result<Shape> {
    let mut dims = shape.dims().to_vec();
    dims[axis] = u32::try_from(dim).map_err(|_| {
        Error::new(format!("{dim} elements along axis {axis}")).expected("a size that fits 32 bits")
    })?;
    Shape::new(dims)
}

/// Fills `dst` (row-major, of shape `dst_shape`) with `src[begin + Σ coordinate·stride]`.
pub(super) fn gather(
    src: &[f32],
    begin: usize,
    strides: &[usize; Shape::MAX_RANK],
    dst_shape: &Shape,
    dst: &mut [f32],
) {
    let dims = dst_shape.dims();
    let mut coordinate = [0u32; Shape::MAX_RANK];
    let mut offset = begin;
    for value in dst {
        *value = src[offset];
        for axis in (0..dims.len()).rev() {
            coordinate[axis] += 1;
            offset += strides[axis];
            if coordinate[axis] < dims[axis] {
                break;
            }
            offset -= strides[axis] * dims[axis] as usize;
            coordinate[axis] = 0;
        }
    }
}
