//! MatrixMarket files as weight matrices.

use skimjit::Result;
use skimjit::models::Error as InputError;
use std::path::Path;

/// Largest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// Reads a coordinate file of real numbers as a dense row-major matrix of the expected size.
pub fn read(path: &Path, expected: [u32; 2]) -> Result<Vec<f32>> {
    let unreadable = |error: std::io::Error| InputError::new(error.to_string()).file(path);
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > MAX_FILE_BYTES {
        let error = InputError::new(format!("a file of {size} bytes")).file(path);
        return Err(error.expected(format!("at most {MAX_FILE_BYTES}")).into());
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    Ok(parse(&String::from_utf8_lossy(&bytes), expected).map_err(|error| error.file(path))?)
}

fn parse(text: &str, [rows, columns]: [u32; 2]) -> std::result::Result<Vec<f32>, InputError> {
    let mut lines = (1..).zip(text.lines());
    let header = lines
        .next()
        .map_or("", |(_, line)| line)
        .to_ascii_lowercase();
    let mut words = header.split_whitespace();
    let wanted = ["%%matrixmarket", "matrix", "coordinate", "real", "general"];
    if !wanted.iter().all(|word| words.next() == Some(word)) {
        return Err(InputError::new("another header")
            .position(1, 1)
            .expected("%%MatrixMarket matrix coordinate real general"));
    }
    let mut lines = lines.filter(|(_, line)| !line.starts_with('%') && !line.trim().is_empty());
    let fault = |number: u32, line: &str, expected: String| {
        let start: String = line.chars().take(40).collect();
        InputError::new(format!("{start:?}"))
            .position(number, 1)
            .expected(expected)
    };
    let (number, line) = lines.next().unwrap_or((2, ""));
    let size: Vec<Option<u32>> = line
        .split_whitespace()
        .map(|word| word.parse().ok())
        .collect();
    let [Some(found_rows), Some(found_columns), Some(count)] = size[..] else {
        return Err(fault(
            number,
            line,
            "rows, columns and the number of entries".to_owned(),
        ));
    };
    if [found_rows, found_columns] != [rows, columns] {
        return Err(fault(
            number,
            line,
            format!("{rows} rows and {columns} columns"),
        ));
    }
    let mut matrix = vec![0.0; rows as usize * columns as usize];
    let mut entries = 0;
    for (number, line) in lines {
        let mut words = line.split_whitespace();
        let mut index = |most: u32| {
            let index = words.next()?.parse::<u32>().ok()?;
            (1..=most).contains(&index).then(|| index as usize - 1)
        };
        let place = index(rows).zip(index(columns));
        let value = words
            .next()
            .and_then(|word| word.parse::<f32>().ok())
            .filter(|x| x.is_finite());
        let Some(((row, column), value)) = place.zip(value) else {
            return Err(fault(
                number,
                line,
                "row, column, counted from 1, and a number".to_owned(),
            ));
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
