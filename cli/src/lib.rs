//! What the command lines share: arguments of every command, how a program begins and ends, complaints,
//! completions, man pages, progress. Errors and warnings are all that it knows of networks.
#![forbid(unsafe_code)]

mod complaints;
mod files;
mod named;
mod pages;
mod program;
pub mod progress;

pub use complaints::{WARNINGS, complain, error, note, warn};
pub use files::{FileArguments, FileOf};
pub use named::name_and_file;
pub use program::{Asked, Failed, Program, assert_consistent, main};
