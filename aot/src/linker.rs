//! The system's linker.

use crate::{Error, Result};
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

/// Linkers in the order they are tried: programs and what they need beside the files.
const LINKERS: [(&str, &[&str]); 2] = [
    (
        "cc",
        &[
            "-shared",
            "-nostdlib",
            "-Wl,-z,noexecstack",
            "-Xlinker",
            "-soname",
        ],
    ),
    ("ld", &["-shared", "-z", "noexecstack", "-soname"]),
];

/// Makes a shared library called `name` of an object.
pub fn link(object: &Path, library: &Path, name: &OsStr) -> Result<()> {
    for (linker, arguments) in LINKERS {
        let mut command = Command::new(linker);
        command.args(arguments);
        // Compilers pass on what follows "-Wl,".
        match linker {
            "ld" => command.arg(name),
            _ => command.arg("-Xlinker").arg(name),
        };
        match command.arg("-o").arg(library).arg(object).output() {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                let said = said.lines().next_back().unwrap_or("no message");
                return Err(failed(library, format!("an error of {linker}: {said}")));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                return Err(failed(library, format!("an error of {linker}: {error}")));
            }
        }
    }
    Err(failed(library, "no linker on this system".to_owned()))
}

fn failed(library: &Path, found: String) -> Error {
    let error = skimjit_models::Error::new(found).file(library);
    let error = error.expected("cc or ld to make a shared library");
    error
        .hint("install one, or write an object (compile --emit obj) and link it elsewhere")
        .into()
}
