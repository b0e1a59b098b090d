//! The program: what it is called, and how a run ends.

use crate::commands::Command;
use crate::support::args::NamedFile;
use crate::support::output::Output;
use skimjit::{Error, Result};
use skimjit_host::memory;
use skimjit_program::{Asked, Failed, FileArguments, Program};
use std::any::TypeId;
use std::process::ExitCode;

/// Options of all commands.
#[derive(clap::Args)]
struct Options {
    /// Tables with all their columns, lines as wide as they come [otherwise: at most 100 characters]
    #[arg(long, global = true, display_order = 1000)]
    wide: bool,
}

const PROGRAM: Program = Program {
    name: "skimjit",
    version: env!("SKIMJIT_VERSION"),
    about: "Runs pruned Caffe networks fast on x86 CPUs",
    after_help: AFTER_HELP,
    files: FileArguments {
        written: &[
            ("output", &[]),
            ("dump_blob", &[]),
            ("trace", &[]),
            ("prototxt_out", &[]),
            ("tune_cache", &[]),
            ("folder", &["dump"]),
            ("database", &["convert-imageset", "convert-dataset"]),
        ],
        replacing: &["upgrade"],
        own: Some((TypeId::of::<NamedFile>(), |text| {
            NamedFile::parse(text).ok().map(|named| named.file)
        })),
    },
};

const AFTER_HELP: &str = "\
Exit codes: 0 ok, 1 a check failed, 2 wrong usage, 3 bad input.

With any command, --memory-limit SIZE (512M, 4G) bounds the memory that a file may ask for; without
it, what is free does.

Report faults to whoever you have the program from, with the command, its output and `skimjit --version`.

Example:
  skimjit bench --net caffenet";

/// Runs what the command line asks for.
pub fn main() -> ExitCode {
    skimjit_program::main(&PROGRAM, |asked| {
        run(&asked)
            .map(|()| ExitCode::SUCCESS)
            .map_err(|error| failed(&error))
    })
}

fn run(asked: &Asked<Options, Command>) -> Result<()> {
    let mut out = Output::stdout();
    if asked.options.wide {
        out.widen();
    }
    // What the command line says, or else the environment.
    let limit = match asked.memory_limit {
        Some(bytes) => Some(bytes),
        None => crate::knobs::memory_limit()?,
    };
    memory::set_limit(limit);
    asked.command.run(&mut out)?;
    out.finish()
}

fn failed(error: &Error) -> Failed {
    Failed {
        code: match error {
            Error::Check(_) => 1,
            Error::Usage(_) | Error::Isa(_) => 2,
            Error::Input(_) | Error::Plan(_) | Error::Run(_) => 3,
        },
        warnings: error.warnings().to_vec(),
        text: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_consistent_and_every_command_has_an_example() {
        skimjit_program::assert_consistent::<Options, Command>(&PROGRAM);
    }
}
