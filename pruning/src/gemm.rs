#![allow(unsafe_code)]
//! Matrix products: the one place that knows the library.

/// A matrix inside a slice.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Rows one after the other.
    pub fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        assert!(
            data.len() >= rows * columns,
            "{} for {rows}x{columns}",
            data.len()
        );
        Self {
            data,
            rows,
            columns,
            row_stride: columns,
            column_stride: 1,
        }
    }
    /// Rows that begin `stride` elements after each other: part of a wider matrix.
    pub fn strided(data: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        let matrix = Self {
            data,
            rows,
            columns,
            row_stride: stride,
            column_stride: 1,
        };
        assert!(
            matrix.is_inside(),
            "{} for {rows}x{columns} by {stride}",
            data.len()
        );
        matrix
    }
    /// The transposed matrix, of the same elements.
    pub fn t(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }
    /// Some of its rows.
    pub fn slice(self, first: usize, count: usize) -> Self {
        assert!(
            first + count <= self.rows,
            "{first} + {count} of {} rows",
            self.rows
        );
        Self {
            data: &self.data[(first * self.row_stride).min(self.data.len())..],
            rows: count,
            ..self
        }
    }
    /// True when every element lies in the slice.
    fn is_inside(&self) -> bool {
        let last = (self.rows.max(1) - 1) * self.row_stride
            + (self.columns.max(1) - 1) * self.column_stride;
        self.rows * self.columns == 0 || last < self.data.len()
    }
}

/// `c = a·b`, or `c += a·b` with `accumulate`; rows of `c` one after the other. One thread: whoever
/// calls it splits the work, so that sums do not depend on the number of threads.
///
/// # Panics
/// When the sizes do not match.
pub fn multiply(a: Matrix<'_>, b: Matrix<'_>, c: &mut [f32], accumulate: bool) {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    assert_eq!(k, b.rows, "columns of a, rows of b");
    assert_eq!(c.len(), m * n, "c is {m}x{n}");
    assert!(
        a.is_inside() && b.is_inside(),
        "operands inside their slices"
    );
    if m == 0 || n == 0 {
        return;
    }
    // SAFETY: the lines above have checked that all elements of a, b and c lie in their slices; c does
    // not overlap the others as it is borrowed mutably.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            1,
            n as isize,
            accumulate,
            a.data.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_and_transposes() {
        let a = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let b = [1.0, -1.0, 0.5, 2.0, 0.0, 1.0];
        let mut c = [0.0; 4];
        multiply(Matrix::new(&a, 2, 3), Matrix::new(&b, 3, 2), &mut c, false);
        assert_eq!(c, [2.0, 6.0, 6.5, 12.0]);
        multiply(
            Matrix::new(&a, 2, 3),
            Matrix::new(&b, 2, 3).t(),
            &mut c,
            true,
        );
        assert_eq!(c, [2.0 + 0.5, 6.0 + 5.0, 6.5 + 2.0, 12.0 + 14.0]);
        let mut d = [0.0; 9];
        multiply(
            Matrix::new(&a, 2, 3).t(),
            Matrix::new(&b, 2, 3),
            &mut d,
            false,
        );
        assert_eq!(d[..3], [1.0 + 8.0, -1.0, 0.5 + 4.0]);
    }
}
