//! Standard output and complaints on standard error.

use super::table::Table;
use skimjit::models;
use skimjit::{Error, Result};
use skimjit_host::{printable, whole};
use std::io::{self, BufWriter, ErrorKind, Stdout, Write};
use std::path::Path;

/// Standard output. A reader that goes away (`| head`) only ends the printing; other errors are kept
/// for [`Output::finish`].
pub struct Output {
    sink: BufWriter<Stdout>,
    failed: Option<io::Error>,
}

impl Output {
    pub fn stdout() -> Self {
        Self {
            sink: BufWriter::new(io::stdout()),
            failed: None,
        }
    }
    /// Prints lines; what a terminal would obey or hide is escaped, here for all commands.
    pub fn text(&mut self, text: &str) {
        self.write(&printable::lines(text));
    }
    /// Prints a line, or the lines of a table.
    pub fn line(&mut self, line: impl Line) {
        self.write(&line.lines());
        self.write("\n");
    }
    fn write(&mut self, text: &str) {
        if self.failed.is_none() {
            self.failed = self.sink.write_all(text.as_bytes()).err();
        }
    }
    /// Prints a JSON document.
    pub fn json(&mut self, value: &impl serde::Serialize) -> Result<()> {
        let text = serde_json::to_string_pretty(value);
        let text = text.map_err(|error| models::Error::new(error.to_string()).field("JSON"))?;
        self.write(&printable::json(&text));
        self.write("\n");
        Ok(())
    }
    /// Brings everything out.
    pub fn finish(mut self) -> Result<()> {
        let flushed = self.sink.flush();
        match self.failed.or(flushed.err()) {
            Some(error) if error.kind() != ErrorKind::BrokenPipe => {
                let error = models::Error::new(error.to_string()).file("standard output");
                Err(Error::from(error))
            }
            _ => Ok(()),
        }
    }
}

/// What is printed on a line of its own.
pub trait Line {
    /// Its text, in which names can end no line.
    fn lines(&self) -> String;
}

impl Line for Table {
    fn lines(&self) -> String {
        // Its cells are single lines.
        printable::lines(&self.to_string()).into_owned()
    }
}

macro_rules! single_line {
    ($($text:ty),*) => {$(
        impl Line for $text {
            fn lines(&self) -> String {
                printable::line(&self.to_string()).into_owned()
            }
        }
    )*};
}

single_line!(&str, String, &String, std::path::Display<'_>);

/// Writes a file, whole or not at all.
pub fn write_file(path: &Path, contents: impl AsRef<[u8]>) -> Result<()> {
    let written = whole::write(path, contents);
    Ok(written.map_err(|error| models::Error::unwritable(path, &error))?)
}

/// Prints `<what>: <text>` on standard error, as one line whatever names the text contains.
pub fn complain(what: &str, text: &str) {
    // Nobody is left to tell when this fails.
    let _ = writeln!(io::stderr(), "{what}: {}", printable::line(text));
}
