//! Caps on what a file may hold or ask for, so that a damaged or hostile one cannot take far more
//! memory or time than its size justifies.

/// Bytes of a binary file, as in Caffe: 2 GiB − 1.
pub const MAX_FILE_BYTES: u64 = (1 << 31) - 1;
/// Bytes of a text file.
pub const MAX_TEXT_BYTES: usize = 1 << 28;
/// Messages inside messages of a text. The deepest real ones are five deep.
pub const MAX_TEXT_DEPTH: usize = 64;

/// Bytes that the contents of any file may take once decoded, whatever its size.
pub const BASE_MEMORY: u64 = 64 << 20;
/// Decoded bytes beyond that for every byte of a binary file. Real files are nearly all packed
/// floats, which stay as large as they are.
pub const BINARY_MEMORY: u64 = 3;
/// The same for a text, whose worst real case is `layer{}` with a few short fields.
pub const TEXT_MEMORY: u64 = 32;
/// The same for HDF5, whose datasets can be compressed. Caffe itself never compresses.
pub const HDF5_MEMORY: u64 = 64;

/// Blobs of one layer in an HDF5 file. Caffe's own layers have at most 5.
pub const MAX_HDF5_BLOBS: usize = 64;
/// Groups inside each other in an HDF5 file, for layer names with slashes.
pub const MAX_HDF5_DEPTH: usize = 16;
/// Groups in an HDF5 file.
pub const MAX_HDF5_GROUPS: usize = 1 << 16;
/// Arrays in the history of a solver state in HDF5: two for each parameter.
pub const MAX_HDF5_HISTORY: usize = 1 << 16;
/// Bytes of the path in a solver state in HDF5.
pub const MAX_HDF5_TEXT: u64 = 1 << 16;
