//! `skimjit completions`.

use crate::support::output::Output;
use clap_complete::{Shell, generate};
use skimjit::Result;

/// Prints what lets a shell complete commands and options.
#[derive(clap::Args)]
#[command(after_help = "Example:
  skimjit completions bash > skimjit.bash")]
pub struct Arguments {
    /// The shell
    shell: Shell,
}

pub fn run(arguments: &Arguments, out: &mut Output) -> Result<()> {
    let mut script = Vec::new();
    generate(
        arguments.shell,
        &mut crate::program::command(),
        "skimjit",
        &mut script,
    );
    out.text(&String::from_utf8_lossy(&script));
    Ok(())
}
