//! What a command writes is never a file that it reads, nor the same file twice.
//!
//! The check goes by the arguments, before anything is done, and so holds for every command: an argument that takes
//! a file is one that is read unless [`FileArguments`] says that it is written.

use clap::parser::ArgMatches;
use clap::{Arg, Command};
use skimjit_host::whole::same_file;
use std::any::TypeId;
use std::path::{Path, PathBuf};

/// The file in a value.
pub type FileOf = fn(&str) -> Option<PathBuf>;

/// Which arguments name files.
pub struct FileArguments {
    /// Arguments that name what is written; of some commands only.
    pub written: &'static [(&'static str, &'static [&'static str])],
    /// Commands that may be told to replace what they read, and say how.
    pub replacing: &'static [&'static str],
    /// For arguments of a type of the program's own.
    pub own: Option<(TypeId, FileOf)>,
}

/// A file that an argument names.
struct Named {
    argument: String,
    path: PathBuf,
    is_written: bool,
}

/// Refuses a command line on which one file is written and also read, or written twice.
pub(crate) fn check(
    rules: &FileArguments,
    command: &Command,
    matches: &ArgMatches,
) -> Result<(), String> {
    let mut files = Vec::new();
    let (mut command, mut matches, mut name) = (command, matches, String::new());
    while let Some((next, below)) = matches.subcommand() {
        if name.is_empty() {
            name = next.to_owned();
        }
        let Some(found) = command.find_subcommand(next) else {
            break;
        };
        (command, matches) = (found, below);
        let arguments = command.get_arguments();
        arguments.for_each(|argument| named(rules, &name, argument, matches, &mut files));
    }
    if rules.replacing.contains(&name.as_str()) {
        return Ok(());
    }
    for (index, written) in files.iter().enumerate() {
        let taken = |(other, file): (usize, &Named)| {
            let (first, second) = (index.min(other), index.max(other));
            // Of two that are written the second is to blame.
            let counts = other != index && (!file.is_written || index == second && first == other);
            counts && clash(&written.path, &file.path)
        };
        if written.is_written && files.iter().enumerate().any(taken) {
            return Err(format!(
                "{}: found {}, which is another file of this command, expected a file of its own",
                written.argument,
                written.path.display()
            ));
        }
    }
    Ok(())
}

/// The files of one argument.
fn named(
    rules: &FileArguments,
    command: &str,
    argument: &Arg,
    matches: &ArgMatches,
    files: &mut Vec<Named>,
) {
    let kind = argument.get_value_parser().type_id();
    let own = rules.own.filter(|(own, _)| kind == *own);
    if own.is_none() && kind != TypeId::of::<PathBuf>() {
        return;
    }
    let id = argument.get_id().as_str();
    let is_written = rules
        .written
        .iter()
        .any(|(name, only)| *name == id && (only.is_empty() || only.contains(&command)));
    let long = argument.get_long().map(|long| format!("--{long}"));
    let value = argument.get_value_names().and_then(|names| names.first());
    let shown = long.or(value.map(ToString::to_string)).unwrap_or_default();
    let values = matches.try_get_raw(id).ok().flatten();
    for value in values.into_iter().flatten() {
        let found = own.and_then(|(_, file)| file(value.to_str()?));
        let path = found.unwrap_or_else(|| PathBuf::from(value));
        if is_file_name(&path) {
            files.push(Named {
                argument: shown.clone(),
                path,
                is_written,
            });
        }
    }
}

/// Neither `-` nor a device or pipe, into which everything may be written.
fn is_file_name(path: &Path) -> bool {
    let is_special = |path: &Path| path.exists() && !path.is_file() && !path.is_dir();
    path != Path::new("-") && !is_special(path)
}

/// The same file, or one inside a data base (not inside any folder: pictures may lie beside results).
fn clash(written: &Path, other: &Path) -> bool {
    let is_base = other.join("data.mdb").is_file() || other.join("CURRENT").is_file();
    let inside = || {
        let (written, other) = (written.canonicalize().ok()?, other.canonicalize().ok()?);
        Some(written.starts_with(other))
    };
    same_file(written, other) || is_base && inside().unwrap_or(false)
}
