//! Programs of other people that tests call.

use crate::skip;
use std::process::{Command, Stdio};

/// Whether a program is there, that is, whether it can say its version; says so where it cannot.
pub fn has(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null());
    let found = command.output().is_ok_and(|said| said.status.success());
    if !found {
        skip(format!("no {program} on this system"));
    }
    found
}
