//! Sparse weights as callers have them.

use crate::error::{Error, Result};
use skimjit_runtime::kernels::jit::SpecHasher;
use std::hash::Hasher;

/// A sparse matrix, row by row. Convolutions: a row is an output channel, and a column is input
/// channel of the group × kernel row × kernel column, the last one running fastest.
#[derive(Clone, Copy, Debug)]
pub struct Csr<'a> {
    /// Where each row starts in `columns` and `values`, and where the last one ends.
    pub row_start: &'a [u32],
    /// Column of each value; ascending within a row.
    pub columns: &'a [u32],
    /// Values.
    pub values: &'a [f32],
}

impl Csr<'_> {
    /// The matrix with its zeros, if it is one of this size.
    pub(super) fn expand(&self, rows: u32, columns: u32) -> Result<Vec<f32>> {
        self.check(rows)?;
        let mut dense = vec![0.0; rows as usize * columns as usize];
        let lines = dense.chunks_exact_mut((columns as usize).max(1));
        for ((row, bounds), line) in self.row_start.windows(2).enumerate().zip(lines) {
            let range = bounds[0] as usize..bounds[1] as usize;
            let mut least = 0;
            for (&column, &value) in self.columns[range.clone()].iter().zip(&self.values[range]) {
                if column < least || column >= columns {
                    return Err(Error::Usage(format!(
                        "csr.columns: found {column} in row {row}, expected {least} to {}, \
                         ascending; sort each row and add up what is listed twice",
                        columns - 1
                    )));
                }
                line[column as usize] = value;
                least = column + 1;
            }
        }
        Ok(dense)
    }

    /// Refuses row starts that do not lead through all values.
    fn check(&self, rows: u32) -> Result<()> {
        let (starts, values) = (self.row_start, self.values.len());
        if starts.len() != rows as usize + 1 {
            let found = starts.len();
            return refuse(
                "row_start",
                found,
                format!("{} entries", u64::from(rows) + 1),
            );
        }
        if self.columns.len() != values {
            let found = self.columns.len();
            return refuse("columns", found, format!("{values} entries, one per value"));
        }
        let falls = starts.windows(2).position(|pair| pair[0] > pair[1]);
        let ends = [starts[0] as usize, starts[rows as usize] as usize];
        match falls {
            Some(row) => refuse(
                "row_start",
                starts[row + 1] as usize,
                format!("{} or more after row {row}", starts[row]),
            ),
            None if ends != [0, values] => refuse(
                "row_start",
                ends[usize::from(ends[0] == 0)],
                format!("0 first and {values}, the number of values, last"),
            ),
            None => Ok(()),
        }
    }

    pub(super) fn hash(&self, hasher: &mut SpecHasher) {
        for words in [self.row_start, self.columns] {
            hash_words(hasher, words.iter().copied());
        }
        hash_words(hasher, self.values.iter().map(|value| value.to_bits()));
    }
}

fn refuse(field: &str, found: usize, expected: String) -> Result<()> {
    Err(Error::Usage(format!(
        "csr.{field}: found {found}, expected {expected}"
    )))
}

/// Two words at a time.
pub(super) fn hash_words(hasher: &mut SpecHasher, words: impl ExactSizeIterator<Item = u32>) {
    hasher.write_usize(words.len());
    let mut words = words.map(u64::from);
    while let Some(low) = words.next() {
        hasher.write_u64(low | words.next().unwrap_or(0) << 32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_gets_its_zeros() {
        let csr = Csr {
            row_start: &[0, 2, 2, 3],
            columns: &[0, 2, 1],
            values: &[1.0, 2.0, 3.0],
        };
        let dense = [1.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0, 3.0, 0.0];
        assert_eq!(csr.expand(3, 3).unwrap(), dense);
    }

    #[test]
    fn broken_matrices_are_refused() {
        let refused = |row_start: &[u32], columns: &[u32], values: &[f32], part: &str| {
            let csr = Csr {
                row_start,
                columns,
                values,
            };
            let error = csr.expand(2, 3).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        refused(&[0, 1], &[0], &[1.0], "expected 3 entries");
        refused(&[], &[0], &[1.0], "expected 3 entries");
        refused(&[0, 1, 1], &[], &[1.0], "one per value");
        refused(&[0, 2, 1], &[0, 1], &[1.0, 2.0], "2 or more after row 1");
        refused(
            &[0, 1, 1],
            &[0, 1],
            &[1.0, 2.0],
            "found 1, expected 0 first and 2",
        );
        refused(&[1, 1, 1], &[0], &[1.0], "found 1, expected 0 first");
        refused(
            &[0, 1, 1],
            &[3],
            &[1.0],
            "found 3 in row 0, expected 0 to 2",
        );
        refused(
            &[0, 2, 2],
            &[1, 1],
            &[1.0, 2.0],
            "found 1 in row 0, expected 2 to 2",
        );
        refused(
            &[0, 2, 2],
            &[2, 1],
            &[1.0, 2.0],
            "found 1 in row 0, expected 3 to 2",
        );
    }
}
