//! Kinds of data bases.

use clap::ValueEnum;
use skimjit_data::data_base::Backend;

/// Kind of the data base that is made.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BackendArgument {
    /// A folder with data.mdb
    Lmdb,
    /// A folder of tables
    Leveldb,
}

impl From<BackendArgument> for Backend {
    fn from(backend: BackendArgument) -> Self {
        match backend {
            BackendArgument::Lmdb => Self::Lmdb,
            BackendArgument::Leveldb => Self::LevelDb,
        }
    }
}
