//! Pruning: regularisation, thresholds, masks, and how sparse the result is. Which weights go is decided by the crate
//! `skimjit-pruning`; [`masked`] runs its methods.

pub mod change;
pub mod connectivity;
pub mod distillation;
pub mod lasso;
mod mask;
pub mod masked;
pub mod one_shot;
pub mod recalibration;
pub mod regularization;
pub mod sensitivity;
pub mod sparsity;
pub mod winograd;
