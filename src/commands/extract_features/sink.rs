//! Where features go: data bases, HDF5 or npy.

use clap::ValueEnum;
use serde::Serialize;
use skimjit::{Error, Result, array};
use skimjit_caffe::datum::{Datum, Pixels};
use skimjit_data::arrays::write_hdf5;
use skimjit_data::data_base::{Backend, Writer};
use skimjit_models::{Shape, Tensor};
use std::path::{Path, PathBuf};

/// What stands for a blob's name in the name of a file.
const PLACE_OF_NAME: &str = "{blob}";

/// Form of the files that are made.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A data base per blob; keys are the number of the image with 10 digits
    Lmdb,
    /// The same as LevelDB
    Leveldb,
    /// One file with a dataset per blob
    Hdf5,
    /// A file per blob
    Npy,
}

impl Format {
    /// By the ending of a name; one that says something else is refused.
    pub fn of(path: &Path) -> Result<Self> {
        let end = path
            .extension()
            .map(|end| end.to_string_lossy().to_ascii_lowercase());
        match end.as_deref() {
            Some("h5" | "hdf5") => Ok(Self::Hdf5),
            Some("npy") => Ok(Self::Npy),
            Some("leveldb") => Ok(Self::Leveldb),
            None => Ok(Self::Lmdb),
            Some(end) if end.contains("lmdb") => Ok(Self::Lmdb),
            Some(_) => Err(Error::Usage(format!(
                "--output: found {}, expected a name that ends in .h5, .hdf5, .npy, .lmdb or .leveldb, one \
                 without ending for LMDB, or --format",
                path.display()
            ))),
        }
    }
}

/// A blob whose values are kept.
struct Sink {
    blob: String,
    file: PathBuf,
    /// Shape of one row, with a batch of 1.
    row: Shape,
    rows: u64,
    kept: Kept,
}

enum Kept {
    /// Rows that are written at the end.
    Rows(Vec<f32>),
    DataBase(Writer),
}

/// What was written of a blob.
#[derive(Serialize)]
pub struct Written {
    pub blob: String,
    pub shape: String,
    pub file: PathBuf,
}

/// All blobs.
pub struct Sinks {
    format: Format,
    sinks: Vec<Sink>,
}

impl Sinks {
    /// Prepares files for blobs of these shapes, whose first dim is the batch.
    pub fn open(format: Format, output: &Path, blobs: &[(&str, &Shape)]) -> Result<Self> {
        let name = output.to_string_lossy();
        if blobs.len() > 1 && format != Format::Hdf5 && !name.contains(PLACE_OF_NAME) {
            return Err(Error::Usage(format!(
                "--output: found {name} for {} blobs, expected a name with {PLACE_OF_NAME} in it, \
                 or a file for all of them (.h5)",
                blobs.len()
            )));
        }
        let sink = |&(blob, shape): &(&str, &Shape)| {
            let file = name.replace(PLACE_OF_NAME, &blob.replace('/', "_"));
            let file = PathBuf::from(file);
            let kept = match format {
                Format::Lmdb => Kept::DataBase(Writer::create(&file, Backend::Lmdb)?),
                Format::Leveldb => Kept::DataBase(Writer::create(&file, Backend::LevelDb)?),
                Format::Hdf5 | Format::Npy => Kept::Rows(Vec::new()),
            };
            let (blob, row) = (blob.to_owned(), shape.with_batch(1));
            Ok(Sink {
                blob,
                file,
                row,
                rows: 0,
                kept,
            })
        };
        let sinks = blobs.iter().map(sink).collect::<Result<_>>()?;
        Ok(Self { format, sinks })
    }

    /// Adds rows of blob `index`.
    pub fn put(&mut self, index: usize, rows: &[f32]) -> Result<()> {
        let sink = &mut self.sinks[index];
        let size = sink.row.count();
        match &mut sink.kept {
            Kept::Rows(kept) => {
                kept.extend_from_slice(rows);
                sink.rows += (rows.len() / size) as u64;
            }
            Kept::DataBase(writer) => {
                for row in rows.chunks_exact(size) {
                    let key = format!("{:010}", sink.rows);
                    writer.put(key.as_bytes(), datum(&sink.row, row).encode()?)?;
                    sink.rows += 1;
                }
            }
        }
        Ok(())
    }

    /// Writes what is left.
    pub fn finish(self) -> Result<Vec<Written>> {
        let mut written = Vec::new();
        let mut arrays: Vec<(String, Tensor)> = Vec::new();
        let mut hdf5 = None;
        for sink in self.sinks {
            let rows = u32::try_from(sink.rows).unwrap_or(u32::MAX);
            let shape = sink.row.with_batch(rows);
            written.push(Written {
                blob: sink.blob.clone(),
                shape: shape.to_string(),
                file: sink.file.clone(),
            });
            match sink.kept {
                Kept::DataBase(writer) => drop(writer.finish()?),
                Kept::Rows(values) => {
                    let array = Tensor::new(Shape::new(shape.dims())?, values);
                    if self.format == Format::Npy {
                        array::write_npy(&sink.file, &array)?;
                    } else {
                        arrays.push((sink.blob, array));
                        hdf5 = Some(sink.file);
                    }
                }
            }
        }
        if let Some(file) = hdf5 {
            let named = arrays.iter().map(|(name, array)| (name.as_str(), array));
            write_hdf5(&file, &named.collect::<Vec<_>>())?;
        }
        Ok(written)
    }
}

/// A row as Caffe stores it: channels, height and width, where the row has that many axes.
fn datum(row: &Shape, values: &[f32]) -> Datum {
    Datum {
        channels: row.dim(1),
        height: row.dim(2),
        width: row.count_of(3.min(row.rank()), row.rank()) as u32,
        label: None,
        pixels: Pixels::F32(values.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_the_sizes_of_their_blob() {
        let sizes = |dims: &[u32]| {
            let shape = Shape::new(dims).unwrap();
            let datum = datum(&shape, &vec![0.0; shape.count()]);
            assert!(datum.encode().is_ok());
            [datum.channels, datum.height, datum.width]
        };
        assert_eq!(sizes(&[1, 10]), [10, 1, 1]);
        assert_eq!(sizes(&[1]), [1, 1, 1]);
        assert_eq!(sizes(&[1, 3, 5]), [3, 5, 1]);
        assert_eq!(sizes(&[1, 3, 5, 7]), [3, 5, 7]);
        assert_eq!(sizes(&[1, 3, 5, 7, 2]), [3, 5, 14]);
    }

    #[test]
    fn endings_say_the_format() {
        for (path, format) in [
            ("a.npy", Format::Npy),
            ("a.H5", Format::Hdf5),
            ("a.hdf5", Format::Hdf5),
            ("a_lmdb", Format::Lmdb),
            ("v2.1_lmdb", Format::Lmdb),
            ("a.leveldb", Format::Leveldb),
        ] {
            let found = Format::of(Path::new(path)).unwrap();
            assert!(found == format, "{path}");
        }
        for path in ["a.csv", "a.txt", "a.npz"] {
            assert!(Format::of(Path::new(path)).is_err(), "{path}");
        }
    }
}
