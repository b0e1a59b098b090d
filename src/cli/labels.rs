//! Names of classes.

use skimjit::Result;
use skimjit::models::Error as InputError;
use std::collections::HashMap;
use std::path::Path;

/// Names by class.
pub struct Labels(HashMap<usize, String>);

/// Largest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 26;

impl Labels {
    /// One name per line; or class, tab and name, with or without a line of titles.
    pub fn read(path: &Path) -> Result<Self> {
        let unreadable = |error: std::io::Error| InputError::new(error.to_string()).file(path);
        let size = std::fs::metadata(path).map_err(unreadable)?.len();
        if size > MAX_FILE_BYTES {
            let error = InputError::new(format!("a file of {size} bytes")).file(path);
            return Err(error.expected(format!("at most {MAX_FILE_BYTES}")).into());
        }
        let bytes = std::fs::read(path).map_err(unreadable)?;
        Ok(Self::parse(&String::from_utf8_lossy(&bytes)))
    }
    fn parse(text: &str) -> Self {
        let numbered = |line: &str| -> Option<(usize, String)> {
            let (class, name) = line.split_once('\t')?;
            Some((class.trim().parse().ok()?, name.replace('\t', " ")))
        };
        let lines: Vec<&str> = text.lines().collect();
        let mut body = lines
            .iter()
            .skip(1)
            .filter(|line| !line.trim().is_empty())
            .peekable();
        let has_body = body.peek().is_some();
        if has_body && body.all(|line| numbered(line).is_some()) {
            return Self(lines.iter().filter_map(|line| numbered(line)).collect());
        }
        let name = |line: &str| {
            line.split_once('\t')
                .map_or(line, |(_, name)| name)
                .replace('\t', " ")
        };
        Self(lines.iter().map(|line| name(line)).enumerate().collect())
    }
    /// Name of a class.
    pub fn of(&self, class: usize) -> Option<&str> {
        self.0.get(&class).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_from_zero() {
        let labels = Labels::parse("cat\ndog, hound\n");
        assert_eq!(
            (labels.of(0), labels.of(1), labels.of(2)),
            (Some("cat"), Some("dog, hound"), None)
        );
    }

    #[test]
    fn numbered_lines_go_by_their_number() {
        let labels = Labels::parse("class\tid\tname\n3\tn1\tcat\n7\tn2\tdog\n");
        assert_eq!(
            (labels.of(3), labels.of(7), labels.of(0)),
            (Some("n1 cat"), Some("n2 dog"), None)
        );
        let labels = Labels::parse("0\tcat\n1\tdog\n");
        assert_eq!((labels.of(0), labels.of(1)), (Some("cat"), Some("dog")));
    }

    #[test]
    fn other_tabs_end_a_prefix() {
        let labels = Labels::parse("n1\tcat\nn2\tdog");
        assert_eq!((labels.of(0), labels.of(1)), (Some("cat"), Some("dog")));
    }
}
