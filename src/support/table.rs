//! Text tables and the numbers in them.

use skimjit_host::printable;

/// Widest line of a table or sentence, in characters, unless `--wide` is given: what a terminal beside an
/// editor shows, and what a mail keeps.
pub const WIDTH: usize = 100;

/// Narrowest that a column of names becomes.
const LEAST_NAME: usize = 12;

/// Narrowest that a column of words becomes.
const LEAST_WORDS: usize = 24;

/// A column.
#[derive(Clone)]
pub struct Column {
    title: String,
    left: bool,
    extra: bool,
}

/// A column of names.
pub fn left(title: impl Into<String>) -> Column {
    Column {
        title: title.into(),
        left: true,
        extra: false,
    }
}

/// A column of numbers.
pub fn right(title: impl Into<String>) -> Column {
    Column {
        left: false,
        ..left(title)
    }
}

impl Column {
    /// Shown with `--wide` only.
    pub fn extra(self) -> Self {
        Self {
            extra: true,
            ..self
        }
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
    /// The lines. Without `wide`, extra columns are left out, and what is still wider than [`WIDTH`] is
    /// made narrower: words go on in the next line, names lose their middle.
    pub fn text(&self, wide: bool) -> String {
        let shown: Vec<usize> = (0..self.columns.len())
            .filter(|&index| wide || !self.columns[index].extra)
            .collect();
        let mut widths: Vec<usize> = shown.iter().map(|&index| self.width(index)).collect();
        if !wide {
            self.narrow(&shown, &mut widths);
        }
        let titles = self.columns.iter().map(|column| column.title.clone());
        let titles = Row::Cells(titles.collect());
        let rows = std::iter::once(&titles).chain(&self.rows);
        let lines = rows.flat_map(|row| match row {
            Row::Cells(cells) => self.lines(cells, &shown, &widths),
            Row::Note(text) if wide => vec![text.clone()],
            Row::Note(text) => wrap(text, WIDTH),
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    fn cells(&self, index: usize) -> impl Iterator<Item = &String> {
        self.rows.iter().filter_map(move |row| match row {
            Row::Cells(cells) => cells.get(index),
            Row::Note(_) => None,
        })
    }
    fn width(&self, index: usize) -> usize {
        let title = length(&self.columns[index].title);
        self.cells(index)
            .map(|cell| length(cell))
            .fold(title, usize::max)
    }
    /// A column whose cells go on in the next line: the last one, of words.
    fn wraps(&self, shown: &[usize]) -> bool {
        let last = shown.last().filter(|&&index| self.columns[index].left);
        last.is_some_and(|&index| self.cells(index).any(|cell| cell.contains(' ')))
    }
    /// Takes from the columns what the lines are too wide.
    fn narrow(&self, shown: &[usize], widths: &mut [usize]) {
        let over = |widths: &[usize]| {
            let gaps = 2 * widths.len().saturating_sub(1);
            (widths.iter().sum::<usize>() + gaps).saturating_sub(WIDTH)
        };
        if self.wraps(shown) {
            let (last, too_wide) = (widths.len() - 1, over(widths));
            let least = LEAST_WORDS.min(widths[last]);
            widths[last] = widths[last].saturating_sub(too_wide).max(least);
        }
        while over(widths) > 0 {
            let names = (0..widths.len()).filter(|&at| self.columns[shown[at]].left);
            let widest = names.max_by_key(|&at| widths[at]);
            match widest.filter(|&at| widths[at] > LEAST_NAME) {
                Some(at) => widths[at] -= 1,
                None => break,
            }
        }
    }
    /// The lines of a row: more than one where its last cell is wrapped.
    fn lines(&self, cells: &[String], shown: &[usize], widths: &[usize]) -> Vec<String> {
        let mut cells: Vec<String> = shown
            .iter()
            .map(|&index| cells.get(index).cloned().unwrap_or_default())
            .collect();
        let mut rest = Vec::new();
        if let (true, Some(last), Some(&width)) =
            (self.wraps(shown), cells.last_mut(), widths.last())
        {
            let mut lines = wrap(last, width).into_iter();
            *last = lines.next().unwrap_or_default();
            rest = lines.collect();
        }
        let mut lines = vec![self.line(&cells, shown, widths)];
        for text in rest {
            let mut cells = vec![String::new(); shown.len() - 1];
            cells.push(text);
            lines.push(self.line(&cells, shown, widths));
        }
        lines
    }
    fn line(&self, cells: &[String], shown: &[usize], widths: &[usize]) -> String {
        let mut line = String::new();
        for (at, (cell, &width)) in cells.iter().zip(widths).enumerate() {
            let cell = shortened(cell, width);
            let gap = if at == 0 { "" } else { "  " };
            line += &match self.columns[shown[at]].left {
                true => format!("{gap}{cell:<width$}"),
                false => format!("{gap}{cell:>width$}"),
            };
        }
        line.trim_end().to_owned()
    }
}

fn length(text: &str) -> usize {
    text.chars().count()
}

/// A name of at most `width` characters: what is too long loses its middle, since names of layers tell
/// their place by the beginning and their kind by the end.
fn shortened(text: &str, width: usize) -> String {
    let most = length(text);
    if most <= width || width == 0 {
        return text.to_owned();
    }
    let head = (width - 1) / 2;
    let tail = width - 1 - head;
    let begin: String = text.chars().take(head).collect();
    let end: String = text.chars().skip(most - tail).collect();
    format!("{begin}…{end}")
}

/// Lines of at most `width` characters, broken between words; lines after the first are indented by two
/// more than the text. A word that is longer stays whole.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let indent: String = text.chars().take_while(|&c| c == ' ').collect();
    let mut lines: Vec<String> = Vec::new();
    let mut line = indent.clone();
    let mut empty = true;
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let gap = usize::from(!empty);
        if !empty && length(&line) + gap + length(word) > width {
            lines.push(line);
            line = format!("{indent}  {word}");
            continue;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    lines.push(line);
    lines
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
        assert_eq!(table.text(false), "layer\na\\n\\u{1b}[2Jb");
    }

    #[test]
    fn columns_are_aligned_and_lines_not_padded() {
        let mut table = Table::new([left("layer"), right("ms"), left("variant")]);
        table.row(["conv1".into(), "10.5".into(), "x".into()]);
        table.note("  a note as long as it wants to be".to_owned());
        table.row(["total".into(), "9".into()]);
        let text =
            "layer    ms  variant\nconv1  10.5  x\n  a note as long as it wants to be\ntotal     9";
        assert_eq!(table.text(false), text);
    }

    #[test]
    fn extra_columns_are_for_wide_tables() {
        let mut table = Table::new([left("layer"), right("ms").extra(), left("by")]);
        table.row(["conv1".into(), "10.5".into(), "x".into()]);
        assert_eq!(table.text(false), "layer  by\nconv1  x");
        assert_eq!(table.text(true), "layer    ms  by\nconv1  10.5  x");
    }

    #[test]
    fn lines_are_no_wider_than_the_limit() {
        let name = |part: &str| part.repeat(30);
        let mut table = Table::new([left("layer"), right("ms"), left("other")]);
        table.row([name("abc"), "1.0".into(), name("xy")]);
        table.note(format!("  note {}", "word ".repeat(50)));
        let text = table.text(false);
        assert!(text.lines().all(|line| length(line) <= WIDTH), "{text}");
        assert!(text.contains("abcabc") && text.contains('…'), "{text}");
        assert!(table.text(true).contains(&name("abc")));
    }

    #[test]
    fn words_go_on_in_the_next_line() {
        let mut table = Table::new([left("name"), left("effect")]);
        table.row(["a".into(), "word ".repeat(40)]);
        let text = table.text(false);
        assert!(text.lines().all(|line| length(line) <= WIDTH), "{text}");
        assert_eq!(text.matches("word").count(), 40);
        assert_eq!(wrap("  one two three", 9), ["  one two", "    three"]);
        assert_eq!(wrap("", 9), [""]);
    }
}
