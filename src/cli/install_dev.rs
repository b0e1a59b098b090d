//! `skimjit install-dev`.

use super::output::Output;
use skimjit::{Error, Result, models};
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Installs the C library: header, shared and static library, and pkg-config file.
///
/// The libraries are those that were built with this program (`cargo build --release`); they lie beside
/// it. What is installed can be moved as a whole. Files of an earlier version are replaced.
#[derive(clap::Args)]
#[command(after_help = "Example:
  skimjit install-dev --prefix ~/.local
  cc classify.c $(pkg-config --cflags --libs skimjit)")]
pub struct Arguments {
    /// Folder to install into: include, lib and lib/pkgconfig are made there
    #[arg(long, value_name = "FOLDER")]
    prefix: PathBuf,
    /// Folder of libskimjit.so and libskimjit.a [default: that of this program]
    #[arg(long, value_name = "FOLDER")]
    from: Option<PathBuf>,
}

const HEADER: &str = include_str!("../../include/skimjit.h");
const PKG_CONFIG: &str = include_str!("../../include/skimjit.pc.in");
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// What the loader looks for: programs name it, and it names the version.
const SONAME: &str = concat!("libskimjit.so.", env!("CARGO_PKG_VERSION_MAJOR"));

pub fn run(arguments: &Arguments, out: &mut Output) -> Result<()> {
    let from = match &arguments.from {
        Some(folder) => folder.clone(),
        None => beside_this_program()?,
    };
    let (shared, fixed) = (from.join("libskimjit.so"), from.join("libskimjit.a"));
    for library in [&shared, &fixed] {
        // Before anything is written.
        if !library.is_file() {
            return Err(models::Error::new("no file")
                .file(library)
                .expected("the library")
                .hint("build it with cargo build --release, or say where it is with --from")
                .into());
        }
    }
    let place = |file: &str| arguments.prefix.join(file);
    let libraries = place("lib");
    let versioned = format!("libskimjit.so.{VERSION}");
    let config = PKG_CONFIG.replace("@VERSION@", VERSION);
    let mut written = Vec::new();
    let mut install = |target: PathBuf, make: &dyn Fn(&Path) -> io::Result<()>| {
        replace(&target, make)?;
        written.push(target);
        Ok::<(), Error>(())
    };
    let copy = |from: &Path, to: &Path| fs::copy(from, to).map(|_| ());
    install(place("include/skimjit.h"), &|part| fs::write(part, HEADER))?;
    install(libraries.join("libskimjit.a"), &|part| copy(&fixed, part))?;
    install(libraries.join(&versioned), &|part| copy(&shared, part))?;
    install(libraries.join(SONAME), &|part| symlink(&versioned, part))?;
    install(libraries.join("libskimjit.so"), &|part| {
        symlink(SONAME, part)
    })?;
    install(place("lib/pkgconfig/skimjit.pc"), &|part| {
        fs::write(part, &config)
    })?;
    for file in &written {
        out.line(file.display());
    }
    Ok(())
}

fn beside_this_program() -> Result<PathBuf> {
    let program = std::env::current_exe().and_then(fs::canonicalize);
    let folder = program
        .ok()
        .and_then(|program| Some(program.parent()?.to_owned()));
    folder.ok_or_else(|| Error::Usage("--from: found none, expected the libraries' folder".into()))
}

/// Makes a file beside its place and renames it, so that a program that has the old one open keeps it.
fn replace(target: &Path, make: &dyn Fn(&Path) -> io::Result<()>) -> Result<()> {
    let mut part = target.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let made = match target.parent() {
        Some(folder) => fs::create_dir_all(folder),
        None => Ok(()),
    };
    let _ = fs::remove_file(&part);
    let made = made
        .and_then(|()| make(&part))
        .and_then(|()| fs::rename(&part, target));
    made.map_err(|error| {
        let _ = fs::remove_file(&part);
        let error = models::Error::new(format!("an error when writing: {error}"));
        Error::from(
            error
                .file(target)
                .hint("check the path, its permissions and the free space"),
        )
    })
}
