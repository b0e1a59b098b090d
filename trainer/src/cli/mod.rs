//! The command line of the trainer: one file per command.
#![forbid(unsafe_code)]

mod completions;
mod console;
mod cost;
mod files;
mod man;
mod net;
mod oneshot;
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

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use console::{WARNINGS, complain};
use skimjit_host::{memory, printable};
use skimjit_models::Result;
use std::process::ExitCode;

/// Trains, prunes and fine-tunes Caffe networks for skimjit.
#[derive(Parser)]
#[command(name = "skimjit-train", version = VERSION, max_term_width = 100, after_help = AFTER_HELP)]
#[command(arg_required_else_help = false)]
struct Cli {
    /// Memory that the contents of a file may take: bytes, or with K, M, G [default: what is free]
    #[arg(long, value_name = "SIZE", global = true, value_parser = memory::parse_size)]
    #[arg(display_order = 1001)]
    memory_limit: Option<u64>,
    #[command(subcommand)]
    command: Command,
    /// Warnings are errors; notes, which tell of the machine and of what was assumed, are not
    #[arg(long, global = true, display_order = 1002)]
    strict: bool,
}

impl Cli {
    fn run(&self) -> Result<()> {
        if self.strict {
            WARNINGS.be_strict();
        }
        self.command.run()?;
        WARNINGS.check()
    }
}

/// With the commit, where it is known (build.rs).
const VERSION: &str = env!("SKIMJIT_VERSION");

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
    Completions(completions::Arguments),
    Man(man::Arguments),
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
            Self::Completions(arguments) => completions::run(arguments, &mut Cli::command()),
            Self::Man(arguments) => man::run(arguments, Cli::command()),
        }
    }
}

/// Parses the command line, runs the command, reports.
pub fn main() -> ExitCode {
    if let Err(error) = skimjit_host::interrupt::clean_up_on_signals() {
        let text =
            format!("signals cannot be caught: {error}; what is interrupted may leave .part files");
        complain("note", &text);
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return explain(&error),
    };
    memory::set_limit(cli.memory_limit);
    match cli.run() {
        Ok(()) => session::stop_code().map_or(ExitCode::SUCCESS, ExitCode::from),
        Err(error) => {
            let warnings = error.warnings.iter();
            warnings.for_each(|warning| complain("warning", &warning.to_string()));
            complain("error", &error.to_string());
            ExitCode::from(3)
        }
    }
}

/// Help and version are printed; complaints become one line.
fn explain(error: &clap::Error) -> ExitCode {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        // Nobody is left to tell when this fails.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let text = printable::complaint(&error.to_string());
    complain("error", &format!("{text}; see --help"));
    ExitCode::from(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        for command in Cli::command().get_subcommands() {
            let help = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(
                help.contains(&format!("  skimjit-train {}", command.get_name())),
                "{help}"
            );
        }
    }
}
