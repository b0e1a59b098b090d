//! Direct sparse convolution: no im2col, one multiply-add per non-zero weight and output vector.

pub mod baked;
pub mod cluster;
pub mod phase;
pub mod schedule;
pub mod spmm;
pub mod streamed;
