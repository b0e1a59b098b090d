//! Text tables and the numbers in them.

use skimjit_host::printable;
use std::fmt;

/// A column.
pub struct Column {
    title: String,
    left: bool,
}

/// A column of names.
pub fn left(title: impl Into<String>) -> Column {
    Column {
        title: title.into(),
        left: true,
    }
}

/// A column of numbers.
pub fn right(title: impl Into<String>) -> Column {
    Column {
        title: title.into(),
        left: false,
    }
}

/// Rows under titles, columns aligned.
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Row>,
}

enum Row {
    Cells(Vec<String>),
    /// A line across all columns.
    Note(String),
}

impl Table {
    pub fn new(columns: impl Into<Vec<Column>>) -> Self {
        Self {
            columns: columns.into(),
            rows: Vec::new(),
        }
    }
    /// Adds a row; missing cells are empty.
    pub fn row(&mut self, cells: impl Into<Vec<String>>) {
        let mut cells = cells.into();
        for cell in &mut cells {
            *cell = printable::cell(cell).into_owned();
        }
        self.rows.push(Row::Cells(cells));
    }
    /// Adds a line across all columns.
    pub fn note(&mut self, text: String) {
        self.rows
            .push(Row::Note(printable::line(&text).into_owned()));
    }
    fn width(&self, index: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| match row {
            Row::Cells(cells) => cells.get(index),
            Row::Note(_) => None,
        });
        let title = self.columns[index].title.chars().count();
        cells
            .map(|cell| cell.chars().count())
            .fold(title, usize::max)
    }
    fn line(&self, cells: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for (index, (column, &width)) in self.columns.iter().zip(widths).enumerate() {
            let cell = cells.get(index).map_or("", String::as_str);
            let gap = if index == 0 { "" } else { "  " };
            line += &match column.left {
                true => format!("{gap}{cell:<width$}"),
                false => format!("{gap}{cell:>width$}"),
            };
        }
        line.trim_end().to_owned()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|index| self.width(index))
            .collect();
        let titles: Vec<String> = self
            .columns
            .iter()
            .map(|column| column.title.clone())
            .collect();
        f.write_str(&self.line(&titles, &widths))?;
        for row in &self.rows {
            match row {
                Row::Cells(cells) => write!(f, "\n{}", self.line(cells, &widths))?,
                Row::Note(text) => write!(f, "\n{text}")?,
            }
        }
        Ok(())
    }
}

/// Bytes in KiB, empty for none.
pub fn kib(bytes: usize) -> String {
    if bytes == 0 {
        String::new()
    } else {
        format!("{:.1}", bytes as f64 / 1024.0)
    }
}

/// A share as a percentage.
pub fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

/// A count in millions, empty for none.
pub fn millions(count: u64) -> String {
    if count == 0 {
        String::new()
    } else {
        format!("{:.3}", count as f64 / 1e6)
    }
}

/// Milliseconds with the digits that matter.
pub fn milliseconds(ms: f64) -> String {
    match ms {
        ms if ms >= 100.0 => format!("{ms:.1}"),
        ms if ms >= 1.0 => format!("{ms:.3}"),
        _ => format!("{ms:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_single_lines() {
        let mut table = Table::new([left("layer")]);
        table.row(["a\n\u{1b}[2Jb".into()]);
        assert_eq!(table.to_string(), "layer\na\\n\\u{1b}[2Jb");
    }

    #[test]
    fn columns_are_aligned_and_lines_not_padded() {
        let mut table = Table::new([left("layer"), right("ms"), left("variant")]);
        table.row(["conv1".into(), "10.5".into(), "x".into()]);
        table.note("  a note as long as it wants to be".to_owned());
        table.row(["total".into(), "9".into()]);
        let text =
            "layer    ms  variant\nconv1  10.5  x\n  a note as long as it wants to be\ntotal     9";
        assert_eq!(table.to_string(), text);
    }
}
