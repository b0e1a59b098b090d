//! Where the non-zeros of a weight matrix are.

/// Positions of the non-zeros of a weight matrix in CSR form, without values.
///
/// Convolution: `rows` = oc (all groups), `cols` = (ic / groups)·kh·kw, column = (ic·kh + y)·kw + x.
/// Inner product: `rows` = outputs, `cols` = inputs. Columns ascend within a row.
#[derive(Clone, PartialEq, Eq, Hash, Debug, serde::Serialize, serde::Deserialize)]
pub struct Pattern {
    rows: u32,
    cols: u32,
    row_start: Vec<u32>,
    col: Vec<u32>,
}

/// What a pattern looks like to someone choosing a kernel.
#[derive(Clone, Copy, PartialEq, Debug, serde::Serialize)]
pub struct PatternStats {
    /// Non-zeros.
    pub nnz: u32,
    /// Non-zeros over rows·cols.
    pub density: f64,
    /// Rows without a non-zero.
    pub empty_rows: u32,
    /// Columns without a non-zero.
    pub empty_cols: u32,
    /// Rows whose columns equal an earlier row's (empty rows not counted).
    pub duplicate_rows: u32,
    /// Longest row.
    pub max_row_nnz: u32,
}

impl Pattern {
    /// Positions where `weights` (row-major `rows × cols`) differ from zero. NaN counts as non-zero.
    ///
    /// # Panics
    /// When `weights.len() != rows·cols`, or there are 2³² non-zeros or more.
    pub fn from_weights(rows: u32, cols: u32, weights: &[f32]) -> Self {
        assert_eq!(
            weights.len(),
            rows as usize * cols as usize,
            "{rows} rows, {cols} columns"
        );
        let mut row_start = vec![0];
        let mut col = Vec::new();
        for row in weights.chunks_exact((cols as usize).max(1)) {
            col.extend(
                (0..cols)
                    .zip(row)
                    .filter(|&(_, &w)| w != 0.0)
                    .map(|(c, _)| c),
            );
            row_start.push(u32::try_from(col.len()).expect("fewer than 2^32 non-zeros"));
        }
        Self {
            rows,
            cols,
            row_start,
            col,
        }
    }
    /// From the index of each row's first position (`rows + 1` of them) and the columns.
    ///
    /// # Panics
    /// When they are no pattern: columns ascend within a row and are less than `cols`.
    pub fn from_rows(cols: u32, row_start: Vec<u32>, col: Vec<u32>) -> Self {
        let ends = (row_start.first(), row_start.last());
        assert_eq!(ends, (Some(&0), Some(&(col.len() as u32))), "row starts");
        for row in row_start.windows(2) {
            let columns = &col[row[0] as usize..row[1] as usize];
            assert!(columns.is_sorted_by(|a, b| a < b), "ascending columns");
            assert!(columns.last().is_none_or(|&last| last < cols), "columns");
        }
        let rows = row_start.len() as u32 - 1;
        Self {
            rows,
            cols,
            row_start,
            col,
        }
    }
    /// Rows of the matrix.
    pub fn rows(&self) -> u32 {
        self.rows
    }
    /// Columns of the matrix.
    pub fn cols(&self) -> u32 {
        self.cols
    }
    /// Non-zeros in all.
    pub fn nnz(&self) -> u32 {
        self.col.len() as u32
    }
    /// Columns of the non-zeros of `row`, ascending.
    pub fn row(&self, row: u32) -> &[u32] {
        let range =
            self.row_start[row as usize] as usize..self.row_start[row as usize + 1] as usize;
        &self.col[range]
    }
    /// How many places come before (row, col), which is one of them; `None` when it is none.
    pub fn place(&self, row: u32, col: u32) -> Option<usize> {
        let in_row = self.row(row).binary_search(&col).ok()?;
        Some(self.row_start[row as usize] as usize + in_row)
    }
    /// Non-zeros over rows·cols.
    pub fn density(&self) -> f64 {
        f64::from(self.nnz()) / (f64::from(self.rows) * f64::from(self.cols)).max(1.0)
    }
    /// Counts empty and duplicate rows and the like.
    pub fn stats(&self) -> PatternStats {
        let mut seen = std::collections::HashSet::new();
        let mut used = vec![false; self.cols as usize];
        let (mut empty_rows, mut duplicate_rows, mut max_row_nnz) = (0, 0, 0);
        for row in (0..self.rows).map(|row| self.row(row)) {
            max_row_nnz = max_row_nnz.max(row.len() as u32);
            row.iter().for_each(|&c| used[c as usize] = true);
            if row.is_empty() {
                empty_rows += 1;
            } else if !seen.insert(row) {
                duplicate_rows += 1;
            }
        }
        PatternStats {
            nnz: self.nnz(),
            density: self.density(),
            empty_rows,
            empty_cols: used.iter().filter(|&&used| !used).count() as u32,
            duplicate_rows,
            max_row_nnz,
        }
    }
}
