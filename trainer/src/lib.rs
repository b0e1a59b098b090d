//! Trains, prunes and fine-tunes Caffe networks; prunes ONNX networks without training.
//!
//! A [`net::Net`] is a definition in one phase; [`layer`] and [`plan`] say what its nodes do and in what order. An
//! [`engine::Engine`] runs it forward and backward and holds its parameters: the [`executor`], on a kind of
//! [`memory`] with its layers. The solver decides what becomes of parameters, by the rules of [`update`].
#![deny(unsafe_code)]

mod columns;
pub mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod engine;
pub mod executor;
mod gradients;
pub mod history;
mod host;
pub mod layer;
pub mod memory;
pub mod net;
pub mod onnx;
pub mod param;
pub mod plan;
pub mod prune;
pub mod recipe;
pub mod solver;
pub mod trial;
pub mod update;
pub mod weights;
