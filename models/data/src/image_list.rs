//! Lists of pictures with labels: a path and, after the last space, a label per line.

use crate::random::Random;
use crate::unpack;
use skimjit_models::{Error, Result};
use std::path::Path;

/// Largest list, in bytes.
const MAX_BYTES: u64 = 1 << 32;

const LIST: &str = "a text file with a path and a label per line";

/// A line of a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Path as the list has it.
    pub path: String,
    /// Class.
    pub label: i32,
    /// Line, from 1.
    pub line: u32,
}

/// Reads a list; blank lines are left out.
pub fn read(path: &Path) -> Result<Vec<Entry>> {
    let bytes = unpack::read(path, MAX_BYTES, LIST)?;
    let text = String::from_utf8(bytes).map_err(|error| {
        Error::new(format!(
            "no UTF-8 text at byte {}",
            error.utf8_error().valid_up_to()
        ))
        .file(path)
        .expected(LIST)
    })?;
    let lines = (1..).zip(text.lines());
    let lines = lines.filter(|(_, line)| !line.trim().is_empty());
    let entries = lines.map(|(number, line)| parse(number, line).map_err(|error| error.file(path)));
    let entries = entries.collect::<Result<Vec<Entry>>>()?;
    if entries.is_empty() {
        return Err(Error::new("no lines")
            .file(path)
            .expected("a path and a label per line"));
    }
    Ok(entries)
}

fn parse(number: u32, line: &str) -> Result<Entry> {
    let line = line.trim();
    let fault = |found: String| {
        let error = Error::new(found).position(number, 1);
        error.expected("a path, a space and a label, which is a whole number")
    };
    let (path, label) = line
        .rsplit_once([' ', '\t'])
        .ok_or_else(|| fault(format!("{line:?} without a label")))?;
    let path = path.trim_end().to_owned();
    match label.parse() {
        Ok(label) => Ok(Entry {
            path,
            label,
            line: number,
        }),
        Err(_) => Err(fault(format!("label {label:?}"))),
    }
}

/// Brings entries into an order that depends on the seed alone.
pub fn shuffle<T>(entries: &mut [T], seed: u64) {
    Random::new(seed, 0, 0).shuffle(entries);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_behind_the_last_space() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list.txt");
        std::fs::write(&path, "a b.jpg 3\n\n  c.png  -1 \r\n").unwrap();
        let entries = read(&path).unwrap();
        let found: Vec<_> = entries
            .iter()
            .map(|entry| (&*entry.path, entry.label, entry.line))
            .collect();
        assert_eq!(found, [("a b.jpg", 3, 1), ("c.png", -1, 3)]);
        for (text, word) in [
            ("a.jpg 1\nb.jpg", "list.txt:2:1"),
            ("b.jpg one", "label \"one\""),
            ("b.jpg 99999999999", "label"),
            ("\n \n", "no lines"),
        ] {
            std::fs::write(&path, text).unwrap();
            let text = read(&path).unwrap_err().to_string();
            assert!(text.contains(word), "{text}");
        }
        std::fs::write(&path, b"\xff\xfe 1").unwrap();
        assert!(read(&path).is_err());
    }

    #[test]
    fn shuffling_keeps_all_and_depends_on_the_seed() {
        let order = |seed| {
            let mut numbers: Vec<u32> = (0..100).collect();
            shuffle(&mut numbers, seed);
            numbers
        };
        let mut sorted = order(1);
        assert!(order(1) == sorted && order(2) != sorted);
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..100));
    }
}
