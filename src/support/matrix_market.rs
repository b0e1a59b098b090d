//! MatrixMarket files as weight matrices.

use skimjit::Result;
use skimjit_host::whole;
use skimjit_models::{Error as InputError, Shape, Tensor};
use std::io::{self, Write};
use std::path::Path;

/// Largest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// The only form that is read, in lower case.
const HEADER: &str = "%%matrixmarket matrix coordinate real general";

/// Reads a coordinate file of real numbers as a dense row-major matrix of the expected size.
pub fn read(path: &Path, expected: [u32; 2]) -> Result<Vec<f32>> {
    Ok(parse(&text(path)?, expected).map_err(|error| error.file(path))?)
}

/// Writes the elements of a dense row-major matrix whose magnitude is above a threshold; `note` becomes a
/// comment.
pub fn write(
    path: &Path,
    size: [usize; 2],
    data: &[f32],
    threshold: f32,
    note: &str,
) -> Result<()> {
    let written = whole::write_with(path, |out| write_to(out, size, data, threshold, note));
    Ok(written.map_err(|error: io::Error| InputError::unwritable(path, &error))?)
}

fn write_to(
    mut out: impl Write,
    [rows, columns]: [usize; 2],
    data: &[f32],
    threshold: f32,
    note: &str,
) -> io::Result<()> {
    let kept = || {
        let elements = data.iter().enumerate();
        elements.filter(|(_, value)| value.abs() > threshold)
    };
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    let note: String = note.chars().map(printable).collect();
    writeln!(
        out,
        "%%MatrixMarket matrix coordinate real general\n% {note}"
    )?;
    writeln!(out, "{rows} {columns} {}", kept().count())?;
    for (index, value) in kept() {
        let (row, column) = (index / columns + 1, index % columns + 1);
        // The shortest text that is read as the same number.
        writeln!(out, "{row} {column} {value:e}")?;
    }
    out.flush()
}

/// Beginning of the name of a layer's files: layers may have slashes, files may not.
pub fn file_stem(layer: &str) -> String {
    let allowed = |c: char| c.is_alphanumeric() || "._-".contains(c);
    let safe = |c: char| if allowed(c) { c } else { '_' };
    layer.chars().map(safe).collect()
}

/// Rows and columns of the matrix in a file.
pub fn size(path: &Path) -> Result<[u32; 2]> {
    let text = text(path)?;
    let (_, [rows, columns, _]) = header(&mut lines(&text)).map_err(|error| error.file(path))?;
    Ok([rows, columns])
}

fn text(path: &Path) -> Result<String> {
    let unreadable = |error: std::io::Error| InputError::new(error.to_string()).file(path);
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > MAX_FILE_BYTES {
        let error = InputError::new(format!("a file of {size} bytes")).file(path);
        return Err(error.expected(format!("at most {MAX_FILE_BYTES}")).into());
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A line and its number, counted from 1.
type Line<'a> = (u32, &'a str);

/// The first line, then those that are neither comments nor empty.
fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    let lines = (1..).zip(text.lines());
    lines.filter(|&(number, line)| number == 1 || !line.starts_with('%') && !line.trim().is_empty())
}

/// The size line, and its rows, columns and number of entries.
fn header<'a>(
    lines: &mut impl Iterator<Item = Line<'a>>,
) -> std::result::Result<(Line<'a>, [u32; 3]), InputError> {
    let (_, header) = lines.next().unwrap_or_default();
    let header = header.to_ascii_lowercase();
    if !header.split_whitespace().eq(HEADER.split_whitespace()) {
        let error = InputError::new("another header").position(1, 1);
        return Err(error.expected("%%MatrixMarket matrix coordinate real general"));
    }
    let size = lines.next().unwrap_or((2, ""));
    let numbers: Vec<Option<u32>> = size
        .1
        .split_whitespace()
        .map(|word| word.parse().ok())
        .collect();
    match numbers[..] {
        [Some(rows), Some(columns), Some(count)] => Ok((size, [rows, columns, count])),
        _ => Err(fault(
            size,
            "rows, columns and the number of entries".to_owned(),
        )),
    }
}

fn parse(text: &str, [rows, columns]: [u32; 2]) -> std::result::Result<Vec<f32>, InputError> {
    let mut lines = lines(text);
    let (size, [found_rows, found_columns, count]) = header(&mut lines)?;
    if [found_rows, found_columns] != [rows, columns] {
        return Err(fault(size, format!("{rows} rows and {columns} columns")));
    }
    let mut matrix = Tensor::zeros(Shape::new([rows, columns])?).into_data();
    let mut entries = 0;
    for line in lines {
        let Some((row, column, value)) = entry(line.1, [rows, columns]) else {
            let expected = "row, column, counted from 1, and a number";
            return Err(fault(line, expected.to_owned()));
        };
        matrix[row * columns as usize + column] = value;
        entries += 1;
    }
    if entries != count {
        let error = InputError::new(format!("{entries} entries"));
        return Err(error.expected(format!("{count}, as the size line says")));
    }
    Ok(matrix)
}

/// Row and column, counted from 0, and value.
fn entry(line: &str, [rows, columns]: [u32; 2]) -> Option<(usize, usize, f32)> {
    let mut words = line.split_whitespace();
    let mut index = |most: u32| {
        let index = words.next()?.parse::<u32>().ok()?;
        (1..=most).contains(&index).then(|| index as usize - 1)
    };
    let (row, column) = (index(rows)?, index(columns)?);
    let value: f32 = words.next()?.parse().ok()?;
    value.is_finite().then_some((row, column, value))
}

/// An error about a line.
fn fault((number, line): Line<'_>, expected: String) -> InputError {
    let start: String = line.chars().take(40).collect();
    let error = InputError::new(format!("{start:?}")).position(number, 1);
    error.expected(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "%%MatrixMarket matrix coordinate real general\n% comment\n";

    #[test]
    fn entries_are_placed() {
        let text = format!("{HEADER}2 3 2\n1 3  0.5\n2 1 -1e-2\n");
        assert_eq!(
            parse(&text, [2, 3]).unwrap(),
            [0.0, 0.0, 0.5, -0.01, 0.0, 0.0]
        );
    }

    #[test]
    fn what_is_written_is_read() {
        let data = [
            0.1,
            -0.0,
            f32::MIN_POSITIVE,
            -f32::MAX,
            0.3,
            f32::from_bits(1),
        ];
        let text = |threshold| {
            let mut text = Vec::new();
            write_to(&mut text, [2, 3], &data, threshold, "a\nb").unwrap();
            String::from_utf8(text).unwrap()
        };
        let bits = |data: &[f32]| data.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        let mut expected = data;
        expected[1] = 0.0;
        assert_eq!(bits(&parse(&text(0.0), [2, 3]).unwrap()), bits(&expected));
        let kept = parse(&text(0.1), [2, 3]).unwrap();
        assert_eq!(kept, [0.0, 0.0, 0.0, -f32::MAX, 0.3, 0.0]);
    }

    #[test]
    fn faulty_files_are_refused() {
        for (body, size) in [
            ("2 3 1\n1 1 1\n", [3, 2]),
            ("2 3 2\n1 1 1\n", [2, 3]),
            ("2 3 1\n0 1 1\n", [2, 3]),
            ("2 3 1\n1 4 1\n", [2, 3]),
            ("2 3 1\n1 1 nan\n", [2, 3]),
            ("2 3 1\n1 1\n", [2, 3]),
            ("2 3\n", [2, 3]),
            ("", [2, 3]),
        ] {
            assert!(parse(&format!("{HEADER}{body}"), size).is_err(), "{body}");
        }
        assert!(parse("2 3 1\n1 1 1\n", [2, 3]).is_err());
    }
}
