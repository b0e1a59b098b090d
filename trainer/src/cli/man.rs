//! `skimjit-train man`.

use super::console::{say, write_file};
use clap_mangen::Man;
use skimjit_models::{Error, Result};
use std::path::PathBuf;

/// Writes the manual as man pages: one of the program, and one of each command.
#[derive(clap::Args)]
#[command(after_help = "Example:
  skimjit-train man ~/.local/share/man/man1")]
pub struct Arguments {
    /// Folder that they are written to
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

pub fn run(arguments: &Arguments, program: clap::Command) -> Result<()> {
    let mut program = program.disable_help_subcommand(true);
    program.build();
    let commands = program.get_subcommands().cloned();
    for command in std::iter::once(program.clone()).chain(commands) {
        let man = Man::new(command);
        let file = arguments.folder.join(man.get_filename());
        let mut page = Vec::new();
        man.render(&mut page)
            .map_err(|error| Error::unwritable(&file, &error))?;
        write_file(&file, page)?;
        say(&file.display().to_string());
    }
    Ok(())
}
