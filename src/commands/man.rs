//! `skimjit man`.

use crate::support::output::{Output, write_file};
use clap_mangen::Man;
use skimjit::Result;
use std::io;
use std::path::{Path, PathBuf};

/// Writes the manual as man pages: one of the program, and one of each command.
#[derive(clap::Args)]
#[command(after_help = "Example:
  skimjit man ~/.local/share/man/man1")]
pub struct Arguments {
    /// Folder that they are written to
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

pub fn run(arguments: &Arguments, out: &mut Output) -> Result<()> {
    let folder = &arguments.folder;
    let unwritable =
        |path: &Path, error: &io::Error| skimjit_models::Error::unwritable(path, error);
    std::fs::create_dir_all(folder).map_err(|error| unwritable(folder, &error))?;
    let mut program = crate::program::command().disable_help_subcommand(true);
    program.build();
    let commands = program.get_subcommands().cloned();
    for command in std::iter::once(program.clone()).chain(commands) {
        let man = Man::new(command);
        let file = folder.join(man.get_filename());
        let mut page = Vec::new();
        man.render(&mut page)
            .map_err(|error| unwritable(&file, &error))?;
        write_file(&file, page)?;
        out.line(file.display());
    }
    Ok(())
}
