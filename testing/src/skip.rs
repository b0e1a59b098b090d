//! What tests did not test.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Says that a test, or a part of it, does not test something here, and why.
///
/// Prints `skipped: …`, and appends a line of test, tab and reason to `skipped.txt` in the target folder
/// (`target/release` for instance): what a test prints is not shown when it passes. A test that gives a reason many
/// times gives it once.
///
/// # Panics
///
/// Where the line cannot be written: then nobody would know.
pub fn skip(reason: impl Display) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let program = std::env::current_exe().expect("the path of this test program");
    let line = line(&program, &reason.to_string());
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if !said.insert(line.clone()) {
        return;
    }
    println!("skipped: {reason}");
    let path = folder(&program).join("skipped.txt");
    // One write at the end of the file, so that lines of programs that run side by side do not mix.
    let file = OpenOptions::new().create(true).append(true).open(&path);
    let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
    written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// The folder of what cargo builds in one profile: tests lie below it, in `deps`.
fn folder(program: &Path) -> PathBuf {
    let folder = program.parent().unwrap_or(Path::new("."));
    match folder.parent() {
        Some(above) if folder.ends_with("deps") => above.to_owned(),
        _ => folder.to_owned(),
    }
}

/// Test program without the hash of its name, test, reason.
fn line(program: &Path, reason: &str) -> String {
    let file = program.file_name().unwrap_or_default().to_string_lossy();
    let program = file.rsplit_once('-').map_or(&*file, |(name, _)| name);
    let thread = std::thread::current();
    let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("{program} {}\t{reason}\n", thread.name().unwrap_or("?"))
}
