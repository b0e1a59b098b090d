//! Caps on what an artifact may declare, so that a damaged or hostile file cannot ask for more
//! memory or time than its contents could need.

/// Sections of one file.
pub const MAX_SECTIONS: usize = 1 << 16;
/// Bytes of a section's name.
pub const MAX_NAME_BYTES: usize = 256;
/// Elements of one weight tensor (1 GiB of `f32`; VGG's largest layer has 103 million).
pub const MAX_TENSOR_ELEMENTS: usize = 1 << 28;
/// Elements of all weights of a graph (4 GiB of `f32`).
pub const MAX_GRAPH_ELEMENTS: usize = 1 << 30;
/// Bytes of decoded weights that any file may ask for.
pub const BASE_WEIGHT_BYTES: u64 = 1 << 30;
/// The same for every byte of the file beyond that: a thousandth of the weights, as indices into a codebook.
pub const WEIGHT_BYTES_PER_BYTE: u64 = 4096;
/// Bytes of the graph section.
pub const MAX_GRAPH_BYTES: usize = 1 << 26;
/// Values, and also nodes, of a graph.
pub const MAX_GRAPH_VALUES: usize = 1 << 18;
/// Bytes of the section that says how pictures become inputs: a mean image of 4096 × 4096 pixels.
pub const MAX_PREPROCESS_BYTES: usize = 1 << 28;
/// Names of classes.
pub const MAX_LABELS: usize = 1 << 20;
/// Bytes of all names of classes.
pub const MAX_LABELS_BYTES: usize = 1 << 26;
