//! Names of classes from files of several forms.
//!
//! Whatever the form, the result is one name for each class, that of class 0 first; a file that could be read
//! in more than one way is refused. How many there must be is checked by [`crate::Model::set_labels`].

use skimjit_models::{Error, Result};
use std::path::Path;

/// Largest file that is read, in bytes.
pub const MAX_FILE_BYTES: u64 = 1 << 26;

/// Titles by which a first line is known to be no name.
const TITLES: [&str; 18] = [
    "class",
    "classes",
    "class_id",
    "class_index",
    "class_name",
    "class_names",
    "description",
    "id",
    "idx",
    "index",
    "label",
    "labels",
    "name",
    "names",
    "number",
    "synset",
    "synsets",
    "wnid",
];
/// Titles of a column of class numbers.
const NUMBER_TITLES: [&str; 8] = [
    "class",
    "class_id",
    "class_index",
    "id",
    "idx",
    "index",
    "label",
    "number",
];

/// Reads a file of names: one per line (also Caffe's `synset_words.txt`); number and name with a tab, a comma
/// or a space between; CSV or TSV with or without a line of titles; JSON, a list of names or names by number;
/// a label map of SSD (`item { name: … label: … }`).
pub fn read(path: &Path) -> Result<Vec<String>> {
    let unreadable = |error: std::io::Error| Error::new(error.to_string()).file(path);
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > MAX_FILE_BYTES {
        let error = Error::new(format!("a file of {size} bytes")).file(path);
        return Err(error.expected(format!("at most {MAX_FILE_BYTES}")));
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    let is_csv = path
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
    parse(&bytes, is_csv).map_err(|error| error.file(path))
}

/// Reads what such a file contains; `is_csv`: commas separate columns for certain.
pub fn parse(bytes: &[u8], is_csv: bool) -> Result<Vec<String>> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = 1 + bytes[..error.valid_up_to()]
            .iter()
            .filter(|&&b| b == b'\n')
            .count();
        at_line(line, "bytes that are no UTF-8").hint("convert the file: iconv -f latin1 -t utf8")
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some(control) = text
        .chars()
        .find(|c| c.is_control() && !"\t\r\n".contains(*c))
    {
        return Err(Error::new(format!("the character {control:?}")).expected("a file of names"));
    }
    let names = match text.trim_start() {
        json if json.starts_with(['{', '[']) => from_json(json)?,
        map if is_label_map(map) => from_label_map(map)?,
        _ => from_lines(text, is_csv)?,
    };
    match names.iter().position(|name| name.trim().is_empty()) {
        Some(class) => {
            Err(Error::new(format!("no name for class {class}")).expected("a name for each class"))
        }
        None if names.is_empty() => Err(Error::new("no names").expected("a name for each class")),
        None => Ok(names),
    }
}

fn at_line(line: usize, found: impl Into<String>) -> Error {
    Error::new(found).position(u32::try_from(line).unwrap_or(u32::MAX), 1)
}

/// A line of a file that is not empty, and its number.
struct Row {
    line: usize,
    cells: Vec<String>,
}

fn from_lines(text: &str, is_csv: bool) -> Result<Vec<String>> {
    let lines = numbered_lines(text)?;
    let all = |separator: char| lines.iter().all(|(_, line)| line.contains(separator));
    if is_csv {
        return from_table(csv(text, ',')?);
    }
    if !lines.is_empty() && all('\t') {
        return from_table(csv(text, '\t')?);
    }
    // Names may have commas and spaces: these separate only where the numbers of all classes come before.
    for separator in [',', ' '] {
        let rows = rows_split_once(&lines, separator);
        let has_titles = rows.first().is_some_and(is_title_row);
        let body = &rows[usize::from(has_titles)..];
        if rows.len() == lines.len()
            && numbers(body, 0).is_some_and(|numbers| is_complete(&numbers))
        {
            return from_table(rows);
        }
    }
    for separator in [',', ' '] {
        refuse_wrong_numbers(&rows_split_once(&lines, separator), lines.len())?;
    }
    let has_title = lines.len() > 1 && is_title(lines[0].1);
    let names = lines.iter().skip(usize::from(has_title));
    Ok(names.map(|(_, line)| (*line).to_owned()).collect())
}

/// Refuses numbers before all names that leave classes out or name one twice: whether they are the classes, or
/// counted from 1, or part of the names cannot be told.
fn refuse_wrong_numbers(rows: &[Row], lines: usize) -> Result<()> {
    let body = &rows[usize::from(rows.first().is_some_and(is_title_row))..];
    let counts = |numbers: &[usize]| {
        let near = |&&number: &&usize| number <= 2 * numbers.len();
        numbers.len() > 1 && numbers.iter().filter(near).count() * 2 > numbers.len()
    };
    match numbers(body, 0).filter(|numbers| rows.len() == lines && counts(numbers)) {
        None => Ok(()),
        Some(numbers) => {
            let names = body.iter().map(|row| row.cells[1].clone());
            let sorted = by_number(numbers.into_iter().zip(names).collect());
            sorted.map(drop).map_err(|error| {
                error.hint("classes are counted from 0; where the numbers belong to the names, make it a JSON list")
            })
        }
    }
}

/// Lines and their numbers, empty ones at the end left out; one in between would shift names.
fn numbered_lines(text: &str) -> Result<Vec<(usize, &str)>> {
    let lines = text.trim_end().lines().map(str::trim_end);
    let lines: Vec<(usize, &str)> = (1..)
        .zip(lines)
        .filter(|_| !text.trim().is_empty())
        .collect();
    match lines.iter().find(|(_, line)| line.trim().is_empty()) {
        Some((line, _)) => Err(at_line(*line, "an empty line").expected("a name on every line")),
        None => Ok(lines),
    }
}

fn rows_split_once(lines: &[(usize, &str)], separator: char) -> Vec<Row> {
    let rows = lines.iter().filter_map(|&(line, text)| {
        let (number, name) = text.trim_start().split_once(separator)?;
        let cells = vec![number.trim().to_owned(), unquoted(name.trim())];
        Some(Row { line, cells })
    });
    rows.collect()
}

/// Without the quotes that enclose all of it.
fn unquoted(text: &str) -> String {
    match text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
    {
        Some(inner) => inner.replace("\"\"", "\""),
        None => text.to_owned(),
    }
}

fn is_title(cell: &str) -> bool {
    TITLES.contains(
        &cell
            .trim()
            .to_ascii_lowercase()
            .replace([' ', '-'], "_")
            .as_str(),
    )
}

fn is_title_row(row: &Row) -> bool {
    row.cells.iter().any(|cell| is_title(cell))
        && row
            .cells
            .iter()
            .all(|cell| cell.trim().parse::<i64>().is_err())
}

/// Numbers in a column, if there are only such.
fn numbers(rows: &[Row], column: usize) -> Option<Vec<usize>> {
    let number = |row: &Row| row.cells.get(column)?.trim().parse().ok();
    rows.iter().map(number).collect()
}

/// Whether each class from 0 on occurs once.
fn is_complete(numbers: &[usize]) -> bool {
    let mut seen = vec![false; numbers.len()];
    numbers.iter().all(|&number| match seen.get_mut(number) {
        Some(seen) => !std::mem::replace(seen, true),
        None => false,
    })
}

/// Names of a table: what is left of each row without the class's number.
fn from_table(mut rows: Vec<Row>) -> Result<Vec<String>> {
    let columns = rows.first().map_or(0, |row| row.cells.len());
    if let Some(row) = rows.iter().find(|row| row.cells.len() != columns) {
        return Err(at_line(row.line, format!("{} columns", row.cells.len()))
            .expected(format!("{columns}, as in the first line"))
            .hint("names with commas need quotes in a CSV file"));
    }
    let titles = match rows.first() {
        Some(first) if rows.len() > 1 && is_title_row(first) => Some(rows.remove(0).cells),
        _ => None,
    };
    let is_number_column = |&column: &usize| match &titles {
        Some(titles) => {
            let title = titles[column]
                .trim()
                .to_ascii_lowercase()
                .replace([' ', '-'], "_");
            NUMBER_TITLES.contains(&title.as_str()) && numbers(&rows, column).is_some()
        }
        None => columns > 1 && numbers(&rows, column).is_some(),
    };
    let number_columns: Vec<usize> = (0..columns).filter(is_number_column).collect();
    let name = |row: &Row, without: Option<usize>| {
        let cells = row.cells.iter().enumerate();
        let cells = cells.filter(|(column, cell)| Some(*column) != without && !cell.is_empty());
        cells
            .map(|(_, cell)| cell.trim())
            .collect::<Vec<_>>()
            .join(" ")
    };
    match number_columns[..] {
        [] => Ok(rows.iter().map(|row| name(row, None)).collect()),
        [column] => {
            let entries = rows.iter().zip(numbers(&rows, column).unwrap_or_default());
            by_number(
                entries
                    .map(|(row, number)| (number, name(row, Some(column))))
                    .collect(),
            )
        }
        _ => Err(
            Error::new(format!("{} columns of numbers", number_columns.len()))
                .expected("one, with the number of the class")
                .hint("leave the others out"),
        ),
    }
}

/// Names in the order of their numbers, which must be all from 0 on.
fn by_number(mut entries: Vec<(usize, String)>) -> Result<Vec<String>> {
    entries.sort_by_key(|(number, _)| *number);
    let wrong = entries
        .iter()
        .enumerate()
        .find(|(class, (number, _))| class != number);
    let Some((class, (number, name))) = wrong else {
        return Ok(entries.into_iter().map(|(_, name)| name).collect());
    };
    let count = entries.len();
    Err(if *number < class {
        Error::new(format!("class {number} twice, the second time as {name:?}"))
            .expected("one name")
    } else {
        let error = Error::new(format!("no class {class}, and {number} as the next one"));
        let error = error.expected(format!("each class from 0 to {}", count - 1));
        match class {
            0 => error.hint("classes are counted from 0"),
            _ => error,
        }
    })
}

/// Rows of cells, which quotes may enclose, as RFC 4180 says.
fn csv(text: &str, separator: char) -> Result<Vec<Row>> {
    let text = text.trim_end();
    let mut rows = Vec::new();
    let (mut cells, mut cell) = (Vec::new(), String::new());
    let (mut line, mut first_line, mut quoted) = (1, 1, false);
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                cell.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if cell.trim().is_empty() => {
                cell.clear();
                quoted = true;
            }
            _ if c == separator && !quoted => cells.push(std::mem::take(&mut cell)),
            '\r' if !quoted && characters.peek() == Some(&'\n') => {}
            '\n' => {
                line += 1;
                if quoted {
                    cell.push(' ');
                    continue;
                }
                cells.push(std::mem::take(&mut cell));
                let cells = std::mem::take(&mut cells);
                rows.push(Row {
                    line: first_line,
                    cells,
                });
                first_line = line;
            }
            c => cell.push(c),
        }
    }
    if quoted {
        return Err(at_line(first_line, "a quote without its end").expected("a closing quote"));
    }
    cells.push(cell);
    rows.push(Row {
        line: first_line,
        cells,
    });
    let is_empty = |row: &&Row| row.cells.iter().all(|cell| cell.trim().is_empty());
    match rows.iter().find(is_empty) {
        Some(row) => Err(at_line(row.line, "an empty line").expected("a name on every line")),
        None => Ok(rows),
    }
}

/// A list of names, names by number, or numbers by name.
fn from_json(text: &str) -> Result<Vec<String>> {
    use serde_json::Value;
    let value: Value = serde_json::from_str(text).map_err(|error| {
        Error::new(format!("no JSON ({error})"))
            .expected("a list of names, or an object of names by number")
    })?;
    let unlike = |what: &str| {
        Error::new(what)
            .expected("a list of names, or an object of names by number (or numbers by name)")
    };
    // Several words for a class, like ["n01440764", "tench"].
    let name = |value: &Value| match value {
        Value::String(name) => Some(name.clone()),
        Value::Array(words) => {
            let words: Option<Vec<&str>> = words.iter().map(Value::as_str).collect();
            words.map(|words| words.join(" "))
        }
        _ => None,
    };
    match &value {
        Value::Array(names) => {
            let names: Option<Vec<String>> = names.iter().map(name).collect();
            names.ok_or_else(|| unlike("a list of other things than names"))
        }
        Value::Object(object) => {
            // The form of Hugging Face's config.json.
            let object = match object.get("id2label") {
                Some(Value::Object(inner)) => inner,
                _ => object,
            };
            let named =
                |(key, value): (&String, &Value)| Some((key.trim().parse().ok()?, name(value)?));
            let by_key: Option<Vec<(usize, String)>> = object.iter().map(named).collect();
            let counted = |(key, value): (&String, &Value)| {
                Some((usize::try_from(value.as_u64()?).ok()?, key.clone()))
            };
            let by_value: Option<Vec<(usize, String)>> = object.iter().map(counted).collect();
            let entries = by_key.or(by_value);
            by_number(entries.ok_or_else(|| unlike("an object without numbers of classes"))?)
        }
        _ => Err(unlike("a single value")),
    }
}

fn is_label_map(text: &str) -> bool {
    let rest = text.strip_prefix("item").map(str::trim_start);
    rest.is_some_and(|rest| rest.starts_with('{') || rest.starts_with(":"))
}

/// SSD's `item { name: "n01440764" label: 1 display_name: "tench" }`.
fn from_label_map(text: &str) -> Result<Vec<String>> {
    let mut entries = Vec::new();
    for item in text.split("item").skip(1) {
        let Some(inner) = item
            .trim_start()
            .trim_start_matches(':')
            .trim_start()
            .strip_prefix('{')
        else {
            continue;
        };
        let inner = inner.split('}').next().unwrap_or_default();
        let field = |name: &str| {
            let mut rest = inner;
            loop {
                let at = rest.find(name)?;
                let starts = !rest[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
                rest = &rest[at + name.len()..];
                if let (true, Some(value)) = (starts, rest.trim_start().strip_prefix(':')) {
                    return Some(value.trim_start());
                }
            }
        };
        let quoted = |name: &str| {
            let value = field(name)?;
            let quote = value.chars().next().filter(|c| "\"'".contains(*c))?;
            value[1..].split(quote).next().map(str::to_owned)
        };
        let number = field("label").or_else(|| field("id"));
        let digits = number.map(|text| {
            text.split(|c: char| !c.is_ascii_digit())
                .next()
                .unwrap_or_default()
        });
        let number = digits.and_then(|digits| digits.parse().ok());
        let name = quoted("display_name").or_else(|| quoted("name"));
        let (Some(number), Some(name)) = (number, name) else {
            return Err(
                Error::new(format!("item {} without label or name", entries.len() + 1))
                    .expected("item { name: \"…\" label: N }"),
            );
        };
        entries.push((number, name));
    }
    by_number(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        parse(text.as_bytes(), false).unwrap_or_else(|error| panic!("{text:?}: {error}"))
    }
    fn csv_names(text: &str) -> Vec<String> {
        parse(text.as_bytes(), true).unwrap_or_else(|error| panic!("{text:?}: {error}"))
    }
    fn refused(text: &str, is_csv: bool) -> String {
        parse(text.as_bytes(), is_csv).expect_err(text).to_string()
    }

    #[test]
    fn every_line_is_a_name_with_all_its_words() {
        assert_eq!(names("cat\ndog, hound\r\n\n"), ["cat", "dog, hound"]);
        let synsets = names("n01440764 tench, Tinca tinca\nn01443537 goldfish, Carassius auratus");
        assert_eq!(synsets[1], "n01443537 goldfish, Carassius auratus");
        assert_eq!(names("\u{feff}cat\ndog"), ["cat", "dog"]);
        // A number is a name where it is not the class's.
        assert_eq!(names("7\n3"), ["7", "3"]);
        assert_eq!(names("2019 ford\n1987 opel"), ["2019 ford", "1987 opel"]);
        assert_eq!(names("9 volts\nbattery"), ["9 volts", "battery"]);
    }

    #[test]
    fn numbers_that_could_be_wrong_classes_are_refused() {
        for text in [
            "1 a\n2 b\n3 c",
            "1 euro\n2 euro",
            "0 a\n1 b\n1 c\n3 d",
            "1,a\n2,b",
        ] {
            let error = refused(text, false);
            assert!(
                error.contains("counted from 0") && error.contains("JSON"),
                "{text:?}: {error}"
            );
        }
        assert_eq!(names(r#"["1 euro", "2 euro"]"#), ["1 euro", "2 euro"]);
    }

    #[test]
    fn numbers_say_the_class_in_any_order() {
        for text in [
            "0\tcat\n1\tdog\n",
            "1 dog\n0 cat",
            "0,cat\n1,dog",
            "index,name\n0,cat\n1,dog",
        ] {
            assert_eq!(names(text), ["cat", "dog"], "{text:?}");
        }
        let table = "class_index\tsynset\tclass_name\n1\tn2\tdog\n0\tn1\tcat\n";
        assert_eq!(names(table), ["n1 cat", "n2 dog"]);
        assert_eq!(names("n1\tcat\nn2\tdog"), ["n1 cat", "n2 dog"]);
    }

    #[test]
    fn a_line_of_titles_shifts_nothing() {
        assert_eq!(csv_names("name\ncat\ndog\n"), ["cat", "dog"]);
        assert_eq!(
            csv_names("id,name\n0,cat\n1,\"dog, hound\"\n"),
            ["cat", "dog, hound"]
        );
        assert_eq!(
            csv_names("Class Name,ID\n\"the \"\"cat\"\"\",1\ndog,0\n"),
            ["dog", "the \"cat\""]
        );
        assert_eq!(names("Class\ncat\ndog"), ["cat", "dog"]);
        assert_eq!(csv_names("cat\ndog"), ["cat", "dog"]);
        assert_eq!(csv_names("0,cat\n1,dog"), ["cat", "dog"]);
    }

    #[test]
    fn json_is_a_list_or_goes_by_number() {
        assert_eq!(names(r#"["cat", "dog"]"#), ["cat", "dog"]);
        assert_eq!(names(r#"{"1": "dog", "0": "cat"}"#), ["cat", "dog"]);
        assert_eq!(
            names(r#"{"0": ["n1", "cat"], "1": ["n2", "dog"]}"#),
            ["n1 cat", "n2 dog"]
        );
        assert_eq!(names(r#"{"dog": 1, "cat": 0}"#), ["cat", "dog"]);
        assert_eq!(names(r#"{"id2label": {"0": "cat"}, "x": 5}"#), ["cat"]);
    }

    #[test]
    fn label_maps_go_by_their_labels() {
        let map = "item {\n  name: \"none\"\n  label: 0\n  display_name: \"background\"\n}\n\
                   item { name: 'n1' label: 1 display_name: 'cat' }";
        assert_eq!(names(map), ["background", "cat"]);
    }

    #[test]
    fn what_could_shift_names_is_refused_by_line() {
        for (text, is_csv, words) in [
            ("cat\n\ndog", false, &["line 2", "empty"][..]),
            ("1\tcat\n2\tdog", false, &["no class 0", "counted from 0"]),
            ("0\tcat\n2\tdog", false, &["no class 1", "0 to 1"]),
            ("0\tcat\n0\tdog", false, &["class 0 twice"]),
            ("cat,1,3\ndog,0,4", true, &["2 columns of numbers"]),
            ("cat,a\ndog", true, &["line 2", "1 columns", "quotes"]),
            ("\"cat\ndog", true, &["line 1", "quote"]),
            ("", false, &["no names"]),
            ("{0: 'tench',\n 1: 'goldfish'}", false, &["JSON", "list"]),
            ("[1, 2]", false, &["other things"]),
            ("{\"a\": \"b\"}", false, &["numbers of classes"]),
            ("{\"5\": \"cat\"}", false, &["no class 0"]),
            ("item { name: \"x\" }", false, &["item 1"]),
        ] {
            let error = refused(text, is_csv);
            assert!(
                words.iter().all(|word| error.contains(word)),
                "{text:?}: {error}"
            );
        }
        let latin1 = parse(b"cat\nch\xe2t\n", false).unwrap_err().to_string();
        assert!(
            latin1.contains("line 2") && latin1.contains("UTF-8"),
            "{latin1}"
        );
    }
}
