//! Rows of the HDF5 files that a text file lists: a data set for each top.

use super::{Raw, Source};
use crate::random::Random;
use crate::transform::find;
use hdf5_pure::{Dataset, File};
use skimjit_caffe::limits::{BASE_MEMORY, HDF5_MEMORY, MAX_TEXT_BYTES};
use skimjit_caffe::proto::Hdf5DataParameter;
use skimjit_caffe::{Numbers, check_hdf5_end, read_hdf5_numbers};
use skimjit_host::{foreign, memory};
use skimjit_models::{Error, Result};
use std::io::Read;
use std::path::{Path, PathBuf};

/// The start of a file in which it says how large it is, at most.
const SUPERBLOCK_BYTES: u64 = 128;

/// See the module.
pub struct Hdf5List {
    files: Vec<PathBuf>,
    tops: Vec<String>,
    /// Dims of a row of each top, as the first file has them.
    rows: Vec<Vec<u32>>,
    /// Place of the current file in the list.
    file: usize,
    current: Table,
    shuffle: Option<Random>,
}

/// The data sets of a file.
#[derive(Default)]
struct Table {
    /// Values of each top, row by row.
    values: Vec<Vec<f32>>,
    /// Dims of a row of each top.
    dims: Vec<Vec<u32>>,
    /// Numbers of the rows in the order in which they are used.
    order: Vec<usize>,
    next: usize,
}

impl Hdf5List {
    /// Reads the list and its first file.
    pub fn open(
        param: &Hdf5DataParameter,
        tops: &[String],
        folder: Option<&Path>,
        random: Random,
    ) -> Result<Self> {
        let path = find(param.source(), folder);
        let mut files = read_list(&path, folder)?;
        let mut shuffle = param.shuffle().then_some(random);
        let first = Table::read(&files[0], tops, None)?;
        if let Some(random) = &mut shuffle {
            random.shuffle(&mut files);
        }
        let mut list = Self {
            rows: first.dims.clone(),
            tops: tops.to_vec(),
            file: 0,
            current: Table::default(),
            shuffle,
            files,
        };
        list.load()?;
        Ok(list)
    }

    /// Dims of a row of each top.
    pub fn rows(&self) -> &[Vec<u32>] {
        &self.rows
    }

    fn load(&mut self) -> Result<()> {
        self.current = Table::read(&self.files[self.file], &self.tops, Some(&self.rows))?;
        if let Some(random) = &mut self.shuffle {
            random.shuffle(&mut self.current.order);
        }
        Ok(())
    }
}

fn read_list(path: &Path, folder: Option<&Path>) -> Result<Vec<PathBuf>> {
    const LIST: &str = "a text file with the path of an HDF5 file per line";
    let unreadable = |found: String| Error::new(found).file(path).expected(LIST);
    let bytes = memory::read_file(path, MAX_TEXT_BYTES as u64);
    let bytes = bytes.map_err(|error| Error::unreadable(path, &error, LIST))?;
    if bytes.len() > MAX_TEXT_BYTES {
        return Err(unreadable("a larger file".to_owned()));
    }
    let text = String::from_utf8(bytes).map_err(|_| unreadable("no UTF-8 text".to_owned()))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    // Beside the list too: copies of definitions lie elsewhere.
    let place = |line: &str| match find(line, folder) {
        found if found.exists() => found,
        _ => find(line, path.parent()),
    };
    let files: Vec<PathBuf> = lines.map(place).collect();
    match files.is_empty() {
        true => Err(unreadable("no lines".to_owned())),
        false => Ok(files),
    }
}

impl Table {
    /// Rows must be of the dims `wanted`, if they are given.
    fn read(path: &Path, tops: &[String], wanted: Option<&[Vec<u32>]>) -> Result<Self> {
        let unreadable = |error: hdf5_pure::Error| {
            Error::new(format!("HDF5 that cannot be read ({error})"))
                .hint("the file is cut off, damaged, or no HDF5 file")
        };
        let size = std::fs::metadata(path).map_or(0, |file| file.len());
        let mut allowed = BASE_MEMORY + size * HDF5_MEMORY;
        let read = || {
            memory::check(size)?;
            check_end(path, size)?;
            let file = File::open(path).map_err(unreadable)?;
            let mut table = Self::default();
            let mut count = None;
            for (index, top) in tops.iter().enumerate() {
                let set = file
                    .root()
                    .dataset(top)
                    .map_err(|error| unreadable(error).field(format!("data set {top:?}")))?;
                let (rows, dims, values) = read_set(&set, &mut allowed)
                    .map_err(|error| error.field(format!("data set {top:?}")))?;
                if let Some(wanted) = wanted.filter(|wanted| wanted[index] != dims) {
                    return Err(Error::new(format!("rows of {dims:?}"))
                        .field(format!("data set {top:?}"))
                        .expected(format!("{:?}, as in the first file", wanted[index])));
                }
                if *count.get_or_insert(rows) != rows {
                    return Err(Error::new(format!("{rows} rows"))
                        .field(format!("data set {top:?}"))
                        .expected(format!("{}, as in the first data set", count.unwrap_or(0))));
                }
                table.values.push(values);
                table.dims.push(dims);
            }
            table.order = (0..count.unwrap_or(0)).collect();
            match table.order.is_empty() {
                true => Err(Error::new("no rows").expected("at least one")),
                false => Ok(table),
            }
        };
        let gave_up = |_| Error::new("HDF5 that cannot be read").hint("the file is damaged");
        let read = foreign::call(read).map_err(gave_up);
        read.and_then(|read| read).map_err(|error| error.file(path))
    }

    fn row(&self, number: usize) -> Vec<Vec<f32>> {
        let rows = self.values.iter().map(|values| {
            let len = values.len() / self.order.len();
            values[number * len..][..len].to_vec()
        });
        rows.collect()
    }
}

/// Refuses a file that is cut off. What cannot be opened is refused later.
fn check_end(path: &Path, size: u64) -> Result<()> {
    let mut start = Vec::new();
    if let Ok(file) = std::fs::File::open(path) {
        let unreadable = |error| Error::unreadable(path, &error, "an HDF5 file");
        file.take(SUPERBLOCK_BYTES)
            .read_to_end(&mut start)
            .map_err(unreadable)?;
    }
    check_hdf5_end(&start, size)
}

/// Rows, dims of a row, values.
fn read_set(set: &Dataset, memory: &mut u64) -> Result<(usize, Vec<u32>, Vec<f32>)> {
    let Numbers { dims, values } = read_hdf5_numbers(set, memory)?;
    let [rows, row @ ..] = &*dims else {
        return Err(Error::new("a single value").expected("rows: at least one dim"));
    };
    Ok((*rows as usize, row.to_vec(), values))
}

impl Source for Hdf5List {
    fn next(&mut self) -> Result<Raw> {
        if self.current.next == self.current.order.len() {
            self.file += 1;
            if self.file == self.files.len() {
                self.file = 0;
                if let Some(random) = &mut self.shuffle {
                    random.shuffle(&mut self.files);
                }
            }
            if self.files.len() > 1 {
                self.load()?;
            } else if let Some(random) = &mut self.shuffle {
                random.shuffle(&mut self.current.order);
            }
            self.current.next = 0;
        }
        let number = self.current.order[self.current.next];
        self.current.next += 1;
        Ok(Raw::Rows(self.current.row(number)))
    }
    fn len(&self) -> Option<u64> {
        None
    }
    fn path(&self) -> &Path {
        &self.files[self.file]
    }
}
