//! The files of MNIST: idx arrays of bytes, gzipped or not.

use crate::unpack;
use skimjit_models::{Error, Result};
use std::path::Path;

/// Most values of an array.
const MAX_BYTES: u64 = 1 << 31;
/// Element type of bytes without a sign.
const UNSIGNED_BYTE: u8 = 8;

/// Gray pictures of one size.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Images {
    /// Pictures.
    pub count: u32,
    /// Rows of each.
    pub height: u32,
    /// Columns of each.
    pub width: u32,
    /// Pixels, picture by picture, row by row.
    pub pixels: Vec<u8>,
}

impl Images {
    /// Pixels of each picture in turn.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let size = self.height as usize * self.width as usize;
        self.pixels.chunks_exact(size.max(1))
    }
}

/// Reads an array of pictures (`…-images-idx3-ubyte`).
pub fn read_images(path: &Path) -> Result<Images> {
    let (dims, pixels) = read(path, 3).map_err(|error| error.file(path))?;
    let dim = |axis: usize| dims.get(axis).copied().unwrap_or(1);
    Ok(Images {
        count: dim(0),
        height: dim(1),
        width: dim(2),
        pixels,
    })
}

/// Reads an array of labels (`…-labels-idx1-ubyte`).
pub fn read_labels(path: &Path) -> Result<Vec<u8>> {
    let (_, labels) = read(path, 1).map_err(|error| error.file(path))?;
    Ok(labels)
}

/// Dims and elements of an array of bytes with `axes` axes.
fn read(path: &Path, axes: u8) -> Result<(Vec<u32>, Vec<u8>)> {
    let header_bytes = 4 + 4 * u64::from(axes);
    let bytes = unpack::read(path, header_bytes + MAX_BYTES, "an IDX file")?;
    let (magic, rest) = bytes
        .split_first_chunk::<4>()
        .ok_or_else(|| Error::new("a file that ends inside its header"))?;
    if *magic != [0, 0, UNSIGNED_BYTE, axes] {
        let found = format!("a file that begins with {magic:02x?}");
        return Err(Error::new(found).expected(format!(
            "[00, 00, 08, {axes:02x}]: an idx array of bytes with {axes} axes"
        )));
    }
    let (header, elements) = rest
        .split_at_checked(4 * usize::from(axes))
        .ok_or_else(|| Error::new("a file that ends inside its header"))?;
    let (dims, _) = header.as_chunks::<4>();
    let dims: Vec<u32> = dims.iter().map(|&dim| u32::from_be_bytes(dim)).collect();
    let count = dims
        .iter()
        .try_fold(1u64, |count, &dim| count.checked_mul(dim.into()))
        .filter(|&count| (1..=MAX_BYTES).contains(&count));
    let count = count.ok_or_else(|| {
        Error::new(format!("an array of {dims:?}")).expected(format!(
            "dims of 1 or more and at most {MAX_BYTES} elements"
        ))
    })?;
    if count != elements.len() as u64 {
        return Err(Error::new(format!("{} bytes of elements", elements.len()))
            .expected(format!("{count}, as the dims {dims:?} say"))
            .hint("the download or the copy did not finish"));
    }
    Ok((dims, elements.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn labels(count: u8) -> Vec<u8> {
        let mut file = vec![0, 0, 8, 1, 0, 0, 0, count];
        file.extend(0..count);
        file
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(bytes).unwrap();
        packed.finish().unwrap()
    }

    #[test]
    fn arrays_are_read_packed_or_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for file in [labels(5), gzip(&labels(5))] {
            std::fs::write(&path, file).unwrap();
            assert_eq!(read_labels(&path).unwrap(), [0, 1, 2, 3, 4]);
        }
        let images = [
            0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6,
        ];
        std::fs::write(&path, images).unwrap();
        let images = read_images(&path).unwrap();
        assert_eq!((images.count, images.height, images.width), (2, 1, 3));
        let rows: Vec<&[u8]> = images.iter().collect();
        assert_eq!(rows, [[1, 2, 3], [4, 5, 6]]);
    }

    #[test]
    fn damaged_arrays_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let whole = labels(9);
        let packed = gzip(&whole);
        let cut = (0..whole.len()).map(|length| whole[..length].to_vec());
        let cut = cut.chain((0..packed.len()).map(|length| packed[..length].to_vec()));
        let huge = vec![0, 0, 8, 1, 255, 255, 255, 255, 0];
        let other = vec![0, 0, 13, 1, 0, 0, 0, 1, 0];
        for file in cut.chain([huge, other, labels(0)]) {
            std::fs::write(&path, &file).unwrap();
            assert!(read_labels(&path).is_err(), "{file:?}");
        }
    }
}
