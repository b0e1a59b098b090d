//! The program: options of all commands, and how a run ends.

use crate::commands::Command;
use crate::support::files;
use crate::support::output::{self, Output};
use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser};
use skimjit::{Error, Result};
use skimjit_host::{memory, printable};
use std::process::ExitCode;

/// Runs pruned Caffe networks fast on x86 CPUs.
#[derive(Parser)]
#[command(name = "skimjit", version = VERSION, max_term_width = 100, after_help = AFTER_HELP)]
#[command(arg_required_else_help = false)]
struct Cli {
    /// Tables with all their columns, lines as wide as they come [otherwise: at most 100 characters]
    #[arg(long, global = true, display_order = 1000)]
    wide: bool,
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
    fn run(&self, out: &mut Output) -> Result<()> {
        if self.strict {
            output::WARNINGS.be_strict();
        }
        if self.wide {
            out.widen();
        }
        limit_memory(self.memory_limit)?;
        self.command.run(out)?;
        Ok(output::WARNINGS.check()?)
    }
}

/// With the commit, where it is known (build.rs).
const VERSION: &str = env!("SKIMJIT_VERSION");

const AFTER_HELP: &str = "\
Exit codes: 0 ok, 1 a check failed, 2 wrong usage, 3 bad input.

With any command, --memory-limit SIZE (512M, 4G) bounds the memory that a file may ask for; without
it, what is free does.

Report faults to whoever you have the program from, with the command, its output and `skimjit --version`.

Example:
  skimjit bench --net caffenet";

/// The command line, for what is made of it.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Parses the command line, runs the command, reports.
pub fn main() -> ExitCode {
    if let Err(error) = skimjit_host::interrupt::clean_up_on_signals() {
        let text =
            format!("signals cannot be caught: {error}; what is interrupted may leave .part files");
        output::note(text);
    }
    let mut out = Output::stdout();
    let result = match parse() {
        Ok(cli) => cli.and_then(|cli| cli.run(&mut out)),
        Err(error) => explain(&error, &mut out),
    };
    match result.and_then(|()| out.finish()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let warnings = error.warnings().iter();
            warnings.for_each(output::warn);
            output::error(&error);
            ExitCode::from(exit_code(&error))
        }
    }
}

/// Reads the arguments. Lines of examples are kept whole, however narrow the terminal: they are there to
/// be copied. clap breaks lines at spaces, so it sees other ones there, which [`explain()`] turns back.
fn parse() -> std::result::Result<Result<Cli>, clap::Error> {
    let whole = |command: clap::Command| match command.get_after_help() {
        None => command,
        Some(text) => {
            let lines = text.to_string();
            let lines = lines.lines().map(|line| match line.starts_with("  ") {
                true => line.replace(' ', UNBROKEN),
                false => line.to_owned(),
            });
            command.after_help(lines.collect::<Vec<_>>().join("\n"))
        }
    };
    let mut command = whole(Cli::command()).mut_subcommands(whole);
    let matches = command.try_get_matches_from_mut(std::env::args_os())?;
    let cli = Cli::from_arg_matches(&matches)?;
    Ok(files::check(&command, &matches).map(|()| cli))
}

/// A space at which no line is broken.
const UNBROKEN: &str = "\u{a0}";

/// What the command line says, or else the environment.
fn limit_memory(bytes: Option<u64>) -> Result<()> {
    let limit = match bytes {
        Some(bytes) => Some(bytes),
        None => crate::knobs::memory_limit()?,
    };
    memory::set_limit(limit);
    Ok(())
}

fn exit_code(error: &Error) -> u8 {
    match error {
        Error::Check(_) => 1,
        Error::Usage(_) | Error::Isa(_) => 2,
        Error::Input(_) | Error::Plan(_) | Error::Run(_) => 3,
    }
}

/// Help and version are printed; complaints become one line.
fn explain(error: &clap::Error, out: &mut Output) -> Result<()> {
    let text = error.to_string().replace(UNBROKEN, " ");
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        out.text(&text);
        return Ok(());
    }
    let text = printable::complaint(&text);
    Err(Error::Usage(format!("{text}; see --help")))
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
                help.contains(&format!("  skimjit {}", command.get_name())),
                "{help}"
            );
        }
    }
}
