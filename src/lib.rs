//! skimjit.

pub mod array;
pub mod picture;
