//! Dense convolution: the baseline of every sparse one, and what runs layers that are not pruned.

pub mod channels;
pub mod depthwise;
pub mod rolled;
mod tiles;
