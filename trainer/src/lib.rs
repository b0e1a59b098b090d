//! Trains, prunes and fine-tunes Caffe networks.
//!
//! A [`net::Net`] is a definition in one phase; an [`engine::Engine`] runs it forward and backward and
//! holds its parameters; the solver decides what becomes of them.
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
pub mod param;
pub mod paths;
pub mod plan;
pub mod prune;
pub mod recipe;
pub mod solver;
pub mod trial;
pub mod update;
pub mod weights;
