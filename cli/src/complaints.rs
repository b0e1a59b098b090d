//! Complaints on standard error.

use skimjit_host::printable;
use skimjit_models::Tally;
use std::fmt::Display;
use std::io::{self, Write};

/// Warnings that were printed.
pub static WARNINGS: Tally = Tally::new();

/// Prints a warning on standard error: what files and arguments say may not be what is wanted. With
/// `--strict` it ends in an error.
pub fn warn(text: impl Display) {
    WARNINGS.add();
    complain("warning", text);
}

/// Prints a note on standard error: what was assumed, and what the machine does to the results. No other files or
/// arguments would keep a busy machine quiet, so `--strict` lets it pass.
pub fn note(text: impl Display) {
    complain("note", text);
}

/// Prints an error on standard error.
pub fn error(text: impl Display) {
    complain("error", text);
}

/// Prints `<what>: <text>` on standard error, as one line whatever names the text contains.
pub fn complain(what: &str, text: impl Display) {
    let text = text.to_string();
    // Nobody is left to tell when this fails.
    let _ = writeln!(io::stderr(), "{what}: {}", printable::line(&text));
}
