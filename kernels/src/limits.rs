//! Caps on everything a kernel may cost; beyond them a variant refuses and the next one is tried.

/// Most bytes of generated code in one kernel.
pub const CODE_BYTES: usize = 64 << 20;
/// Most taps (kh·kw) that the dense convolution unrolls.
pub const UNROLLED_TAPS: u32 = 256;
/// Most columns of a pooling window (unrolled).
pub const POOL_KERNEL: u32 = 256;
/// Most elements of a padded pooling line (unrolled).
pub const POOL_LINE: u32 = 1 << 16;
/// Most elements of one operand of one image, so that byte offsets fit `i32` displacements.
pub const OPERAND_ELEMS: u64 = 1 << 28;
/// Largest stride of a deconvolution: code and weights repeat with it.
pub const DECONV_STRIDE: u32 = 64;
/// Largest across-channel LRN window kept in registers.
pub const LRN_SIZE: u32 = 9;
/// Most rows and columns of planes that are resized (a table has what counts for each).
pub const RESAMPLED: u32 = 1 << 15;
