//! Pruning: regularisation, thresholds, masks, and how sparse the result is.

pub mod acdc;
pub mod allocation;
pub mod calibration;
pub mod change;
mod cholesky;
pub mod connectivity;
pub mod distillation;
pub mod gradual;
pub mod guided;
pub mod lasso;
pub mod magnitude;
pub mod mask;
pub mod one_shot;
pub mod recalibration;
pub mod reconstruction;
pub mod regularization;
pub mod sensitivity;
pub mod sparsity;
pub mod surgery;
pub mod winograd;
pub mod written;
