//! `skimjit-train completions`.

use super::trial::print;
use clap_complete::{Shell, generate};
use skimjit_models::Result;

/// Prints what lets a shell complete commands and options.
#[derive(clap::Args)]
#[command(after_help = "Example:
  skimjit-train completions bash > skimjit-train.bash")]
pub struct Arguments {
    /// The shell
    shell: Shell,
}

pub fn run(arguments: &Arguments, program: &mut clap::Command) -> Result<()> {
    let mut script = Vec::new();
    generate(arguments.shell, program, "skimjit-train", &mut script);
    print(String::from_utf8_lossy(&script).trim_end())
}
