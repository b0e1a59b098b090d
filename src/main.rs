//! The skimjit command line.
#![forbid(unsafe_code)]

mod commands;
mod knobs;
mod program;
mod support;

use std::process::ExitCode;

fn main() -> ExitCode {
    program::main()
}
