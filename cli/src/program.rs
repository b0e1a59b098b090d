//! A program: the options of all its commands, and how a run ends.

use crate::complaints::{WARNINGS, error, note, warn};
use crate::files::{self, FileArguments};
use crate::pages::{self, Completions, Manual};
use clap::error::ErrorKind;
use clap::{Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand};
use skimjit_host::{interrupt, memory, printable};
use skimjit_models::{Error, Result, Warning};
use std::io::{self, Write};
use std::process::ExitCode;

/// A program.
pub struct Program {
    /// Its name.
    pub name: &'static str,
    /// With the commit, where it is known.
    pub version: &'static str,
    /// What it does.
    pub about: &'static str,
    /// What its help ends in.
    pub after_help: &'static str,
    /// Which arguments name files.
    pub files: FileArguments,
}

/// What a command line asks for, with options of one program.
pub struct Asked<O, C> {
    /// The program's own options of all commands.
    pub options: O,
    /// Memory that the contents of a file may take.
    pub memory_limit: Option<u64>,
    /// The program's own command.
    pub command: C,
}

/// What ended a run.
pub struct Failed {
    /// The exit code.
    pub code: u8,
    /// What was odd before.
    pub warnings: Vec<Warning>,
    /// What is wrong.
    pub text: String,
}

impl Failed {
    fn usage(text: String) -> Self {
        Self {
            code: 2,
            warnings: Vec::new(),
            text,
        }
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self {
            code: 3,
            text: error.to_string(),
            warnings: error.warnings,
        }
    }
}

#[derive(Parser)]
#[command(max_term_width = 100, arg_required_else_help = false)]
struct Line<O: Args, C: Subcommand> {
    #[command(flatten)]
    options: O,
    /// Memory that the contents of a file may take: bytes, or with K, M, G [default: what is free]
    #[arg(long, value_name = "SIZE", global = true, value_parser = memory::parse_size)]
    #[arg(display_order = 1001)]
    memory_limit: Option<u64>,
    #[command(subcommand)]
    command: Any<C>,
    /// Warnings are errors; notes, which tell of the machine and of what was assumed, are not
    #[arg(long, global = true, display_order = 1002)]
    strict: bool,
}

#[derive(Subcommand)]
enum Any<C: Subcommand> {
    #[command(flatten)]
    Own(C),
    Completions(Completions),
    Man(Manual),
}

impl Program {
    fn command<O: Args, C: Subcommand>(&self) -> Command {
        let command = Line::<O, C>::command().name(self.name);
        let command = command.version(self.version).about(self.about);
        pages::with_examples(command.after_help(self.after_help), self.name)
    }

    fn run<O: Args, C: Subcommand>(
        &self,
        line: Line<O, C>,
        run: impl FnOnce(Asked<O, C>) -> std::result::Result<ExitCode, Failed>,
    ) -> std::result::Result<ExitCode, Failed> {
        if line.strict {
            WARNINGS.be_strict();
        }
        let code = match line.command {
            Any::Own(command) => run(Asked {
                options: line.options,
                memory_limit: line.memory_limit,
                command,
            })?,
            Any::Completions(asked) => print(&asked.script(self.command::<O, C>(), self.name))?,
            Any::Man(asked) => print(&asked.write(self.command::<O, C>())?)?,
        };
        WARNINGS.check()?;
        Ok(code)
    }
}

/// Parses the command line, runs the command, reports.
pub fn main<O: Args, C: Subcommand>(
    program: &Program,
    run: impl FnOnce(Asked<O, C>) -> std::result::Result<ExitCode, Failed>,
) -> ExitCode {
    if let Err(error) = interrupt::clean_up_on_signals() {
        note(format!(
            "signals cannot be caught: {error}; what is interrupted may leave .part files"
        ));
    }
    let done = match parse::<O, C>(program) {
        Ok(line) => line.and_then(|line| program.run(line, run)),
        Err(error) => explain(&error),
    };
    done.unwrap_or_else(|failed| {
        failed.warnings.iter().for_each(warn);
        error(failed.text);
        ExitCode::from(failed.code)
    })
}

/// Reads the arguments. Lines of examples are kept whole, however narrow the terminal: they are there to
/// be copied. clap breaks lines at spaces, so it sees other ones there, which [`explain()`] turns back.
fn parse<O: Args, C: Subcommand>(
    program: &Program,
) -> std::result::Result<std::result::Result<Line<O, C>, Failed>, clap::Error> {
    let whole = |command: Command| match command.get_after_help() {
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
    let mut command = whole(program.command::<O, C>()).mut_subcommands(whole);
    let matches = command.try_get_matches_from_mut(std::env::args_os())?;
    let line = Line::from_arg_matches(&matches)?;
    let checked = files::check(&program.files, &command, &matches);
    Ok(checked.map(|()| line).map_err(Failed::usage))
}

/// A space at which no line is broken.
const UNBROKEN: &str = "\u{a0}";

/// Help and version are printed; complaints become one line.
fn explain(error: &clap::Error) -> std::result::Result<ExitCode, Failed> {
    let text = error.to_string().replace(UNBROKEN, " ");
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Ok(print(&text)?),
        _ => {
            let text = printable::complaint(&text);
            Err(Failed::usage(format!("{text}; see --help")))
        }
    }
}

/// Prints on standard output. A reader that goes away only ends the printing.
fn print(text: &str) -> Result<ExitCode> {
    let mut out = io::stdout();
    let written = out.write_all(printable::lines(text).as_bytes());
    match written.and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::new(error.to_string()).file("standard output"))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// For tests: panics when arguments contradict each other, or a command has no example.
pub fn assert_consistent<O: Args, C: Subcommand>(program: &Program) {
    let command = program.command::<O, C>();
    command.clone().debug_assert();
    for command in command.get_subcommands() {
        let help = command.get_after_help().map(ToString::to_string);
        let help = help.unwrap_or_default();
        let example = format!("  {} {}", program.name, command.get_name());
        assert!(help.contains(&example), "{help}");
    }
}
