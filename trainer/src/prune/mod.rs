//! Pruning: regularisation, thresholds, masks, and how sparse the result is.

pub mod connectivity;
pub mod gradual;
pub mod guided;
pub mod lasso;
pub mod regularization;
pub mod sparsity;
pub mod winograd;
