//! The C interface and the examples: built with the system's compilers and run.

mod header;
mod install;
mod kernels;
#[path = "../cli/support.rs"]
#[allow(dead_code, reason = "shared with the tests of the command line")]
mod network;
mod programs;
mod support;
