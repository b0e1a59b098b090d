//! Which weights of a network become zero, and when: the decisions of pruning, on plain arrays.
//!
//! A [`method::Method`] decides; a [`method::Run`] has the weights, wherever they lie, and puts masks in front of them.
//! `skimjit-train` runs methods on its own networks, the Python package on those of PyTorch. [`recipe`] is how a method
//! is written down; [`reconstruction`] prunes a layer without training, by the moments of its inputs ([`calibration`]).
#![deny(unsafe_code)]

pub mod acdc;
pub mod allocation;
pub mod calibration;
mod cholesky;
pub mod cost;
pub mod frozen;
pub mod gemm;
pub mod gradual;
pub mod guided;
pub mod layer;
pub mod magnitude;
pub mod method;
pub mod recipe;
pub mod reconstruction;
pub mod surgery;
pub mod written;
