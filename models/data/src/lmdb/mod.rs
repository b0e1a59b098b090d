//! LMDB data bases, Caffe's usual form of a data set: a folder with `data.mdb` in it, whose unnamed
//! data base has a record per picture.

mod page;
mod reader;
#[allow(unsafe_code)]
mod writer;

pub use reader::{Reader, show};
pub use writer::Writer;

/// The file in a data base's folder that holds the records.
pub const DATA_FILE: &str = "data.mdb";

/// A key and its value.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Record {
    /// Key; the order of records is the order of their keys' bytes.
    pub key: Vec<u8>,
    /// Value: an encoded `Datum`.
    pub value: Vec<u8>,
}
