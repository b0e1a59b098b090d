//! `skimjit install-dev`.

use crate::support::output::Output;
use skimjit::{Error, Result};
use skimjit_host::whole;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Installs the C library: header, shared and static library, and pkg-config file.
///
/// The libraries are those that were built with this program (`cargo build --release`); they lie beside
/// it. What is installed can be moved as a whole. Files of an earlier version are replaced. The licences
/// of all that is in the libraries go to share/doc/skimjit.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  skimjit install-dev --prefix ~/.local
  skimjit install-dev --prefix /usr --destdir package
  cc classify.c $(pkg-config --cflags --libs skimjit)")]
pub struct Arguments {
    /// Folder to install into: include, lib, lib/pkgconfig and share/doc are made there
    #[arg(long, value_name = "FOLDER")]
    prefix: PathBuf,
    /// Folder that stands for / while a package is made: files go below it, as if it were not there
    #[arg(long, value_name = "FOLDER")]
    destdir: Option<PathBuf>,
    /// Folder of libskimjit.so and libskimjit.a [default: that of this program]
    #[arg(long, value_name = "FOLDER")]
    from: Option<PathBuf>,
}

const HEADER: &str = include_str!("../../capi/include/skimjit.h");
const PKG_CONFIG: &str = include_str!("../../capi/include/skimjit.pc.in");
const LICENSE: &str = include_str!("../../LICENSE");
/// Whose work is in the libraries, and on what terms; made by a test.
const NOTICES: &str = include_str!("../../THIRD-PARTY.txt");
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
            return Err(skimjit_models::Error::new("no file")
                .file(library)
                .expected("the library")
                .hint("build it with cargo build --release, or say where it is with --from")
                .into());
        }
    }
    let root = arguments.root();
    let place = |file: &str| root.join(file);
    let libraries = place("lib");
    let versioned = format!("libskimjit.so.{VERSION}");
    let config = PKG_CONFIG.replace("@VERSION@", VERSION);
    let mut written = Vec::new();
    let mut install = |target: PathBuf, make: &dyn Fn(&Path) -> io::Result<()>| {
        let folder = target.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)
            .and_then(|()| make(&target))
            .map_err(|error| skimjit_models::Error::unwritable(&target, &error))?;
        written.push(target);
        Ok::<(), Error>(())
    };
    let text = |text: &'static str| move |to: &Path| whole::write(to, text);
    install(place("include/skimjit.h"), &text(HEADER))?;
    install(libraries.join("libskimjit.a"), &|to| copy(&fixed, to))?;
    install(libraries.join(&versioned), &|to| copy(&shared, to))?;
    install(libraries.join(SONAME), &|to| {
        whole::link(to, Path::new(&versioned))
    })?;
    install(libraries.join("libskimjit.so"), &|to| {
        whole::link(to, Path::new(SONAME))
    })?;
    install(place("lib/pkgconfig/skimjit.pc"), &|to| {
        whole::write(to, &config)
    })?;
    let documents = place("share/doc/skimjit");
    install(documents.join("LICENSE"), &text(LICENSE))?;
    install(documents.join("THIRD-PARTY.txt"), &text(NOTICES))?;
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

impl Arguments {
    /// Where files go.
    fn root(&self) -> PathBuf {
        match &self.destdir {
            None => self.prefix.clone(),
            Some(folder) => {
                let below = self.prefix.components();
                let below = below.filter(|part| matches!(part, Component::Normal(_)));
                folder.join(below.collect::<PathBuf>())
            }
        }
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut from = fs::File::open(from)?;
    let mode = from.metadata()?.permissions();
    whole::write_with(to, |out| {
        io::copy(&mut from, out)?;
        out.get_ref().set_permissions(mode)
    })
}
