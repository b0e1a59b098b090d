//! Standard output.

use crate::support::table::{Table, WIDTH, wrap};
use skimjit::{Error, Result};
use skimjit_host::{printable, whole};
pub use skimjit_program::{WARNINGS, note, warn};
use std::io::{self, BufWriter, ErrorKind, Stdout, Write};
use std::path::Path;

/// Standard output. A reader that goes away (`| head`) only ends the printing; other errors are kept
/// for [`Output::finish`].
pub struct Output {
    sink: BufWriter<Stdout>,
    /// Lines as wide as they come.
    wide: bool,
    failed: Option<io::Error>,
}

impl Output {
    pub fn stdout() -> Self {
        Self {
            sink: BufWriter::new(io::stdout()),
            wide: false,
            failed: None,
        }
    }
    /// From now on lines are as wide as they come, and tables have all their columns.
    pub fn widen(&mut self) {
        self.wide = true;
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
    /// Prints a table. Its cells are single lines.
    pub fn table(&mut self, table: &Table) {
        self.text(&table.text(self.wide));
        self.write("\n");
    }
    /// Prints a sentence, broken between words where it is long.
    pub fn sentence(&mut self, text: impl Line) {
        let text = text.lines();
        match self.wide {
            true => self.text(&text),
            false => self.text(&wrap(&text, WIDTH).join("\n")),
        }
        self.write("\n");
    }
    /// Prints a JSON document.
    pub fn json(&mut self, value: &impl serde::Serialize) -> Result<()> {
        let text = serde_json::to_string_pretty(value);
        let text =
            text.map_err(|error| skimjit_models::Error::new(error.to_string()).field("JSON"))?;
        self.write(&printable::json(&text));
        self.write("\n");
        Ok(())
    }
    /// Prints a JSON document on one line.
    pub fn json_line(&mut self, value: &impl serde::Serialize) -> Result<()> {
        let text = serde_json::to_string(value);
        let text =
            text.map_err(|error| skimjit_models::Error::new(error.to_string()).field("JSON"))?;
        self.write(&printable::json(&text));
        self.write("\n");
        Ok(())
    }
    /// Writes bytes that are no text.
    pub fn bytes(&mut self, bytes: &[u8]) {
        if self.failed.is_none() {
            self.failed = self.sink.write_all(bytes).err();
        }
    }
    /// Brings out what was printed until now, so that it is not lost when the program is stopped.
    pub fn flush(&mut self) {
        if self.failed.is_none() {
            self.failed = self.sink.flush().err();
        }
    }
    /// Nothing more can be printed.
    pub fn is_closed(&self) -> bool {
        self.failed.is_some()
    }
    /// Brings everything out.
    pub fn finish(mut self) -> Result<()> {
        let flushed = self.sink.flush();
        match self.failed.or(flushed.err()) {
            Some(error) if error.kind() != ErrorKind::BrokenPipe => {
                let error = skimjit_models::Error::new(error.to_string()).file("standard output");
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
    Ok(written.map_err(|error| skimjit_models::Error::unwritable(path, &error))?)
}
