//! The command line and the solver, on a tiny network with data that the tests make.

mod cost;
mod files;
mod hdf5;
mod help;
mod interruption;
mod nets;
mod onnx;
mod quick;
mod recipes;
mod refusals;
mod silence;
mod solver;
mod support;
mod unknown_fields;
mod whole;
