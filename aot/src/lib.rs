//! Networks as object files and shared libraries: generated kernels with their weights, which run without
//! this crate and without memory that is both written and executed. docs/AHEAD-OF-TIME.md describes what
//! is in them and how they are called.
//!
//! ```no_run
//! # fn write(plans: &[&skimjit_runtime::Plan]) -> skimjit_aot::Result<()> {
//! let ahead = skimjit_aot::AheadOfTime::new("net", plans, None)?;
//! ahead.write_shared_library("libnet.so".as_ref())?;
//! ahead.write_header("net.h".as_ref())
//! # }
//! ```

mod assembly;
mod elf;
mod error;
mod header;
mod linker;
mod program;

pub use error::{Error, Result};
pub use program::{Interface, Program};

use skimjit_host::whole;
use skimjit_runtime::{Plan, PlanError, PlanErrorKind};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// See the module.
pub struct AheadOfTime {
    program: Program,
}

impl AheadOfTime {
    /// Makes a program of plans of one network that differ in the instruction set only. `name`, a C
    /// identifier, begins the names of all its functions. `layers`: only these; otherwise the whole
    /// network and its layers.
    pub fn new(name: &str, plans: &[&Plan], layers: Option<&[String]>) -> Result<Self> {
        if !is_identifier(name) {
            return Err(Error::Usage(format!(
                "name: found \"{name}\", expected letters, digits and underscores, not beginning with a \
                 digit"
            )));
        }
        let mut isas: Vec<_> = plans.iter().map(|plan| plan.isa).collect();
        isas.sort_unstable();
        if isas.is_empty() || isas.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(Error::Usage(format!(
                "plans: found {}, expected one for each instruction set, and at least one",
                isas.len()
            )));
        }
        let program = program::program(name, plans, layers)?;
        Ok(Self { program })
    }

    /// Code, data and symbols.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// How the program is called.
    pub fn interface(&self) -> &Interface {
        &self.program.interface
    }

    /// A relocatable ELF object.
    pub fn object(&self) -> Result<Vec<u8>> {
        let failed = |error: io::Error| {
            let message = format!("the object could not be made: {error}");
            PlanError::new(PlanErrorKind::Io, message)
        };
        Ok(elf::object(&self.program).map_err(failed)?)
    }

    /// The C header.
    pub fn header(&self) -> String {
        header::header(&self.program.interface)
    }

    /// Writes the object.
    pub fn write_object(&self, path: &Path) -> Result<()> {
        let object = self.object()?;
        write(path, |out| out.write_all(&object))
    }

    /// Writes the header.
    pub fn write_header(&self, path: &Path) -> Result<()> {
        let header = self.header();
        write(path, |out| out.write_all(header.as_bytes()))
    }

    /// Writes a listing that the GNU assembler makes the same code and data of.
    pub fn write_assembly(&self, path: &Path) -> Result<()> {
        write(path, |out| assembly::write(&self.program, out))
    }

    /// Writes a shared library, with the system's linker.
    pub fn write_shared_library(&self, path: &Path) -> Result<()> {
        let name = path.file_name().unwrap_or_default();
        let contents = self.object()?;
        let mut linked = Ok(());
        let written = whole::write_by_name(path, |library| {
            // What the linker reads lies beside what it writes, and is gone afterwards.
            let unfinished = whole::Scratch::create(&path.with_extension("o"))?;
            unfinished.file()?.write_all(&contents)?;
            linked = linker::link(unfinished.path(), library, name);
            match linked {
                Ok(()) => Ok(()),
                Err(_) => Err(io::Error::other("the linker failed")),
            }
        });
        // Why it failed says more than that it did.
        linked.and(written.map_err(|error: io::Error| unwritable(path, &error)))
    }
}

/// A C identifier from any text, such as a file's name.
pub fn identifier(text: &str) -> String {
    let name = program::identifier(text);
    match name.chars().next() {
        Some(first) if !first.is_ascii_digit() => name,
        _ => format!("net_{name}"),
    }
}

fn is_identifier(name: &str) -> bool {
    !name.is_empty() && identifier(name) == name
}

fn write(path: &Path, contents: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<()> {
    whole::write_with(path, contents).map_err(|error| unwritable(path, &error))
}

fn unwritable(path: &Path, error: &io::Error) -> Error {
    skimjit_models::Error::unwritable(path, error).into()
}
