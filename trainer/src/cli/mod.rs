//! The command line of the trainer: one file per command.
#![forbid(unsafe_code)]

mod console;
mod cost;
mod inputs;
mod net;
mod oneshot;
mod pictures;
mod plot;
mod quick;
mod recalibrate;
mod recipe;
mod results;
mod sensitivity;
mod session;
mod time;
mod train;
mod trial;

use clap::Subcommand;
use inputs::NamedFile;
use skimjit_host::memory;
use skimjit_models::Result;
use skimjit_program::{FileArguments, Program};
use std::any::TypeId;
use std::process::ExitCode;

/// There are no options of all commands that others do not have.
#[derive(clap::Args)]
struct Options {}

const PROGRAM: Program = Program {
    name: "skimjit-train",
    version: env!("SKIMJIT_VERSION"),
    about: "Trains, prunes and fine-tunes Caffe networks for skimjit, and prunes ONNX networks",
    after_help: AFTER_HELP,
    files: FileArguments {
        written: &[("output", &[]), ("solver_out", &[])],
        replacing: &[],
        own: Some((TypeId::of::<NamedFile>(), |text| {
            NamedFile::parse(text).ok().map(|named| named.file)
        })),
    },
};

const AFTER_HELP: &str = "\
Exit codes: 0 ok, 1 a goal was missed, 2 wrong usage, 3 bad input or a run that failed,
130 a run that Ctrl-C stopped, behind a snapshot (143: SIGTERM).

With any command, --memory-limit SIZE (512M, 4G) bounds the memory that a file may ask for; without
it, what is free does.

Report faults to whoever you have the program from, with the command, its output and `skimjit-train --version`.

Example:
  skimjit-train train --solver solver.prototxt --log run";

#[derive(Subcommand)]
enum Command {
    Train(train::Arguments),
    Prune(quick::PruneArguments),
    Finetune(quick::FinetuneArguments),
    Recipe(recipe::Arguments),
    Cost(cost::Arguments),
    Plot(plot::Arguments),
    Oneshot(oneshot::Arguments),
    Recalibrate(recalibrate::Arguments),
    Sensitivity(sensitivity::Arguments),
    Net(net::Arguments),
    Time(time::Arguments),
}

impl Command {
    fn run(&self) -> Result<()> {
        match self {
            Self::Train(arguments) => train::run(arguments),
            Self::Prune(arguments) => quick::prune(arguments),
            Self::Finetune(arguments) => quick::finetune(arguments),
            Self::Recipe(arguments) => recipe::run(arguments),
            Self::Cost(arguments) => cost::run(arguments),
            Self::Plot(arguments) => plot::run(arguments),
            Self::Oneshot(arguments) => oneshot::run(arguments),
            Self::Recalibrate(arguments) => recalibrate::run(arguments),
            Self::Sensitivity(arguments) => sensitivity::run(arguments),
            Self::Net(arguments) => net::run(arguments),
            Self::Time(arguments) => time::run(arguments),
        }
    }
}

/// Runs what the command line asks for.
pub fn main() -> ExitCode {
    skimjit_program::main::<Options, Command>(&PROGRAM, |asked| {
        memory::set_limit(asked.memory_limit);
        asked.command.run()?;
        Ok(session::stop_code().map_or(ExitCode::SUCCESS, ExitCode::from))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_consistent_and_every_command_has_an_example() {
        skimjit_program::assert_consistent::<Options, Command>(&PROGRAM);
    }
}
