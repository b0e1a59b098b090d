//! Trains, prunes and fine-tunes Caffe networks.
//!
//! A [`net::Net`] is a definition in one phase; an [`engine::Engine`] runs it forward and backward and
//! holds its parameters; the solver decides what becomes of them.
#![deny(unsafe_code)]

pub mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod engine;
pub mod history;
pub mod net;
pub mod param;
pub mod paths;
pub mod prune;
pub mod recipe;
pub mod solver;
pub mod trial;
pub mod weights;
