//! Standard output and complaints on standard error.

use super::table::{Table, WIDTH, wrap};
use skimjit::models;
use skimjit::models::caffe::Tally;
use skimjit::{Error, Result};
use std::fmt::Display;
use std::io::{self, BufWriter, ErrorKind, Stdout, Write};

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
    /// Prints text as it is.
    pub fn text(&mut self, text: &str) {
        if self.failed.is_none() {
            self.failed = self.sink.write_all(text.as_bytes()).err();
        }
    }
    /// Prints a table.
    pub fn table(&mut self, table: &Table) {
        self.line(table.text(self.wide));
    }
    /// Prints a sentence, broken between words where it is long.
    pub fn sentence(&mut self, text: impl Display) {
        let text = text.to_string();
        match self.wide {
            true => self.line(text),
            false => self.line(wrap(&text, WIDTH).join("\n")),
        }
    }
    /// Prints a line as it is.
    pub fn line(&mut self, line: impl Display) {
        self.text(&format!("{line}\n"));
    }
    /// Prints a JSON document.
    pub fn json(&mut self, value: &impl serde::Serialize) -> Result<()> {
        let text = serde_json::to_string_pretty(value);
        let text = text.map_err(|error| models::Error::new(error.to_string()).field("JSON"))?;
        self.line(text);
        Ok(())
    }
    /// Prints a JSON document on one line.
    pub fn json_line(&mut self, value: &impl serde::Serialize) -> Result<()> {
        let text = serde_json::to_string(value);
        let text = text.map_err(|error| models::Error::new(error.to_string()).field("JSON"))?;
        self.line(text);
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
                let error = models::Error::new(error.to_string()).file("standard output");
                Err(Error::from(error))
            }
            _ => Ok(()),
        }
    }
}

/// Warnings that were printed.
pub static WARNINGS: Tally = Tally::new();

/// Prints a warning on standard error.
pub fn warn(text: impl Display) {
    WARNINGS.add();
    complain("warning", &text.to_string());
}

/// Prints `<what>: <text>` on standard error, as one line whatever names the text contains.
pub fn complain(what: &str, text: &str) {
    let text: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    // Nobody is left to tell when this fails.
    let _ = writeln!(io::stderr(), "{what}: {text}");
}
