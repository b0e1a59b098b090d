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
pub(super) type Strides = [usize; Shape::MAX_RANK];

/// See [`Strides`].
pub(super) fn strides(shape: &Shape) -> Strides {
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

/// The shape when `axis` is reduced: a dim of 1, or none.
pub(super) fn reduced(shape: &Shape, axis: usize, keep: bool) -> Result<Shape> {
    let mut dims = shape.dims().to_vec();
    match keep {
        true => dims[axis] = 1,
        false => drop(dims.remove(axis)),
    }
    Shape::new(dims)
}

/// The shape to which all operands are repeated: axes are counted from the last, and one of 1 element takes
/// the size of the others' (numpy's broadcasting).
pub(super) fn broadcast(shapes: &[&Shape]) -> Result<Shape> {
    let rank = shapes.iter().map(|shape| shape.rank()).max().unwrap_or(0);
    let mut dims = vec![1; rank];
    for (index, shape) in shapes.iter().enumerate() {
        let aligned = &mut dims[rank - shape.rank()..];
        for (dim, &own) in aligned.iter_mut().zip(shape.dims()) {
            match (*dim, own) {
                (1, own) => *dim = own,
                (dim, own) if own == 1 || own == dim => {}
                (dim, _) => {
                    return Err(Error::new(format!("shape {shape}"))
                        .field(format!("input[{index}]"))
                        .expected(format!("1 or {dim} where the other operands have {dim}")));
                }
            }
        }
    }
    Shape::new(dims)
}

/// Strides with which an operand of `shape` is read along the axes of `result`, to which it is broadcast.
pub(super) fn broadcast_strides(shape: &Shape, result: &Shape) -> Strides {
    let mut repeated = [0; Shape::MAX_RANK];
    let first = result.rank() - shape.rank();
    let own = strides(shape);
    for (axis, &dim) in shape.dims().iter().enumerate() {
        if dim > 1 {
            repeated[first + axis] = own[axis];
        }
    }
    repeated
}

/// Offsets of the elements of a row-major array in `N` others, one after the other for ever: after the last
/// comes the first.
#[derive(Clone)]
pub(super) struct Walk<'a, const N: usize> {
    dims: &'a [u32],
    strides: [Strides; N],
    coordinate: [u32; Shape::MAX_RANK],
    offsets: [usize; N],
}

impl<'a, const N: usize> Walk<'a, N> {
    /// Through an array of `dims`, with the others' strides along its axes.
    pub fn new(dims: &'a [u32], strides: [Strides; N]) -> Self {
        Self {
            dims,
            strides,
            coordinate: [0; Shape::MAX_RANK],
            offsets: [0; N],
        }
    }
}

impl<const N: usize> Iterator for Walk<'_, N> {
    type Item = [usize; N];

    fn next(&mut self) -> Option<[usize; N]> {
        let offsets = self.offsets;
        for axis in (0..self.dims.len()).rev() {
            let dim = self.dims[axis];
            let coordinate = &mut self.coordinate[axis];
            *coordinate += 1;
            let full = *coordinate == dim;
            for (offset, strides) in self.offsets.iter_mut().zip(&self.strides) {
                *offset += strides[axis];
                if full {
                    *offset -= strides[axis] * dim as usize;
                }
            }
            if !full {
                break;
            }
            *coordinate = 0;
        }
        Some(offsets)
    }
}

/// Coordinates of element `index` of a row-major array.
pub(super) fn coordinates(shape: &Shape, index: usize) -> [usize; Shape::MAX_RANK] {
    let mut coordinates = [0; Shape::MAX_RANK];
    let mut left = index;
    for (axis, &dim) in shape.dims().iter().enumerate().rev() {
        coordinates[axis] = left % dim as usize;
        left /= dim as usize;
    }
    coordinates
}

/// Fills `dst` (row-major, of `dims`) with `src[begin + Σ coordinate·stride]`.
pub(super) fn gather(src: &[f32], begin: usize, strides: &Strides, dims: &[u32], dst: &mut [f32]) {
    for (value, [offset]) in dst.iter_mut().zip(Walk::new(dims, [*strides])) {
        *value = src[begin + offset];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(dims: &[u32]) -> Shape {
        Shape::new(dims).unwrap()
    }

    #[test]
    fn operands_are_repeated_as_numpy_does() {
        let found = broadcast(&[&shape(&[4, 1]), &shape(&[2, 1, 3]), &shape(&[])]);
        assert_eq!(found, Ok(shape(&[2, 4, 3])));
        let error = broadcast(&[&shape(&[2, 3]), &shape(&[2])]).unwrap_err();
        assert_eq!(error.field.as_deref(), Some("input[1]"));
        let result = shape(&[2, 2, 3]);
        let strides = [shape(&[2, 1]), result.clone()].map(|x| broadcast_strides(&x, &result));
        let offsets: Vec<[usize; 2]> = Walk::new(result.dims(), strides).take(13).collect();
        let own: Vec<usize> = offsets.iter().map(|offsets| offsets[0]).collect();
        assert_eq!(own, [0, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1, 0]);
        assert!((0..12).all(|index| offsets[index][1] == index) && offsets[12] == [0, 0]);
        assert_eq!(coordinates(&result, 10)[..3], [1, 1, 1]);
    }
}
