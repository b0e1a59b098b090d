//! Names that may have been meant, for messages about names that nothing has.

/// Letters of a name that are compared: one from a file can be of any length, and its start tells
/// enough.
const MOST_LETTERS: usize = 64;

/// The known name that `name` may be a misspelling of: at most a third of its letters differ, not
/// counting case. `None` where nothing is that close: a name that shares a few letters only misleads.
///
/// The one place for such hints: fields, layers, layer types, options.
pub fn closest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (name.chars().take(MOST_LETTERS).count() / 3).max(1);
    known
        .into_iter()
        .map(|known| (distance(name, known), known))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// Edits between two names, letter case not counted.
fn distance(a: &str, b: &str) -> usize {
    let letters = |name: &str| -> Vec<char> {
        let lower = name.chars().map(|letter| letter.to_ascii_lowercase());
        lower.take(MOST_LETTERS).collect()
    };
    let (a, b) = (letters(a), letters(b));
    let mut row: Vec<usize> = (0..=a.len()).collect();
    for (index, letter) in b.into_iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (column, &other) in a.iter().enumerate() {
            let replaced = diagonal + usize::from(other != letter);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[a.len()]
}

#[cfg(test)]
mod tests {
    use super::closest;

    #[test]
    fn misspellings_are_found_and_other_names_are_not() {
        let known = [
            "regularization_type",
            "stride_h",
            "Silence",
            "Filter",
            "pad",
        ];
        assert_eq!(
            closest("regularisation_type", known),
            Some("regularization_type")
        );
        assert_eq!(closest("Stride_H", known), Some("stride_h"));
        assert_eq!(closest("pads", known), Some("pad"));
        for other in ["ShuffleChannel", "Interp", "x", "", "ceil_mode"] {
            assert_eq!(closest(other, known), None, "{other}");
        }
        assert_eq!(closest(&"long".repeat(1 << 20), known), None);
    }
}
