//! The skimjit command line.

mod cli;
mod knobs;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
