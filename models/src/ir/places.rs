//! Where the stored elements of a sparse weight are, in little memory.

use super::Pattern;
use std::sync::Arc;

/// So many zeros, and no element behind them yet.
const MORE: u8 = u8::MAX;

/// Places in a row-major matrix, ascending: the number of zeros in front of each, which takes a byte where a [`Pattern`]
/// takes four. Clones share them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Places {
    rows: u32,
    cols: u32,
    count: usize,
    gaps: Arc<Vec<u8>>,
}

impl Places {
    /// From row-major indices, ascending, in a matrix of rows and columns.
    ///
    /// # Panics
    /// When they do not ascend, or one is beyond the matrix.
    pub fn collect((rows, cols): (u32, u32), places: impl IntoIterator<Item = usize>) -> Self {
        let mut writer = PlacesWriter::default();
        places.into_iter().for_each(|place| writer.push(place));
        writer.finish(rows, cols)
    }
    /// Bytes that so many places take in a matrix of `elements`, at most.
    pub fn most_bytes(count: usize, elements: usize) -> usize {
        count + elements.saturating_sub(count) / usize::from(MORE)
    }
    /// Rows of the matrix.
    pub fn rows(&self) -> u32 {
        self.rows
    }
    /// Columns of the matrix.
    pub fn cols(&self) -> u32 {
        self.cols
    }
    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }
    /// Row-major index of each.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        let mut next = 0;
        self.gaps.iter().filter_map(move |&gap| {
            next += usize::from(gap);
            let place = next;
            next += usize::from(gap != MORE);
            (gap != MORE).then_some(place)
        })
    }
    /// The same by rows, as kernels want it.
    ///
    /// # Panics
    /// When there are 2³² places or more.
    pub fn pattern(&self) -> Pattern {
        let mut row_start = Vec::with_capacity(self.rows as usize + 1);
        let mut col = Vec::with_capacity(self.count);
        let (cols, mut row_end) = (self.cols as usize, 0);
        for place in self.iter() {
            while place >= row_end {
                row_start.push(col.len() as u32);
                row_end += cols;
            }
            col.push((place + cols - row_end) as u32);
        }
        let nnz = u32::try_from(col.len()).expect("fewer than 2^32 non-zeros");
        row_start.resize(self.rows as usize + 1, nnz);
        Pattern::from_rows(self.cols, row_start, col)
    }
}

/// Takes down places one after the other.
#[derive(Default)]
pub(crate) struct PlacesWriter {
    count: usize,
    /// Index behind the last.
    next: usize,
    gaps: Vec<u8>,
}

impl PlacesWriter {
    /// With room for so many places in a matrix of `elements`.
    pub fn with_room(count: usize, elements: usize) -> Self {
        Self {
            gaps: Vec::with_capacity(Places::most_bytes(count, elements)),
            ..Self::default()
        }
    }
    /// Appends the row-major index of a place.
    ///
    /// # Panics
    /// When it is not greater than those before.
    pub fn push(&mut self, place: usize) {
        assert!(place >= self.next, "place {place} before {}", self.next);
        let mut gap = place - self.next;
        while gap >= usize::from(MORE) {
            self.gaps.push(MORE);
            gap -= usize::from(MORE);
        }
        self.gaps.push(gap as u8);
        self.next = place + 1;
        self.count += 1;
    }
    /// All of them.
    ///
    /// # Panics
    /// When one is beyond a matrix of that size.
    pub fn finish(self, rows: u32, cols: u32) -> Places {
        let elements = rows as usize * cols as usize;
        assert!(self.next <= elements, "{rows} rows, {cols} columns");
        Places {
            rows,
            cols,
            count: self.count,
            gaps: Arc::new(self.gaps),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_back_at_any_distance() {
        let places = [0, 1, 255, 256, 511, 767, 1276, 5000, 5119];
        let mut writer = PlacesWriter::with_room(places.len(), 5120);
        places.iter().for_each(|&place| writer.push(place));
        let found = writer.finish(5, 1024);
        assert!(found.iter().eq(places));
        assert_eq!((found.count(), found.rows(), found.cols()), (9, 5, 1024));
        assert!(found.gaps.len() <= Places::most_bytes(9, 5120));
        let pattern = found.pattern();
        assert_eq!(pattern.row(0), [0, 1, 255, 256, 511, 767]);
        assert_eq!((pattern.row(1), pattern.nnz()), (&[252][..], 9));
        assert!(pattern.row(2).is_empty() && pattern.row(3).is_empty());
        assert_eq!(pattern.row(4), [904, 1023]);
        let none = PlacesWriter::default().finish(3, 0);
        assert_eq!((none.iter().count(), none.pattern().rows()), (0, 3));
    }
}
