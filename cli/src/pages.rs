//! What is made of a command line: completions for shells, man pages.

use clap::Command;
use clap_complete::{Shell, generate};
use clap_mangen::Man;
use skimjit_host::whole;
use skimjit_models::{Error, Result};
use std::fmt::Write;
use std::path::PathBuf;

/// Prints what lets a shell complete commands and options.
#[derive(clap::Args)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

/// Writes the manual as man pages: one of the program, and one of each command.
#[derive(clap::Args)]
pub(crate) struct Manual {
    /// Folder that they are written to
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

/// Adds the examples, which have the program's name.
pub(crate) fn with_examples(program: Command, name: &str) -> Command {
    let completions = format!("Example:\n  {name} completions bash > {name}.bash");
    let man = format!("Example:\n  {name} man ~/.local/share/man/man1");
    program
        .mut_subcommand("completions", |command| command.after_help(completions))
        .mut_subcommand("man", |command| command.after_help(man))
}

impl Completions {
    pub(crate) fn script(&self, mut program: Command, name: &str) -> String {
        let mut script = Vec::new();
        generate(self.shell, &mut program, name, &mut script);
        String::from_utf8_lossy(&script).into_owned()
    }
}

impl Manual {
    /// Writes the pages; their files, a line each.
    pub(crate) fn write(&self, program: Command) -> Result<String> {
        let folder = &self.folder;
        std::fs::create_dir_all(folder).map_err(|error| Error::unwritable(folder, &error))?;
        let mut program = program.disable_help_subcommand(true);
        program.build();
        let commands = program.get_subcommands().cloned();
        let mut files = String::new();
        for command in std::iter::once(program.clone()).chain(commands) {
            let man = Man::new(command);
            let file = folder.join(man.get_filename());
            let mut page = Vec::new();
            let written = man.render(&mut page);
            written
                .and_then(|()| whole::write(&file, page))
                .map_err(|error| Error::unwritable(&file, &error))?;
            // Writing to a String cannot fail.
            let _ = writeln!(files, "{}", file.display());
        }
        Ok(files)
    }
}
