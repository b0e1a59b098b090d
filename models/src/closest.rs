//! Names that may have been meant, for messages about names that nothing has.

/// Letters of a name that are compared: one from a file can be of any length, and its start tells
/// enough.
const MOST_LETTERS: usize = 64;

/// The known name that `name` may be a misspelling of: at most a quarter of its letters differ, or one, not
/// counting case. `None` where nothing is that close: a name that shares a few letters only misleads.
///
/// The one place for such hints: fields, layers, layer types, options.
pub fn closest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let letters = name.chars().take(MOST_LETTERS).count();
    let allowed = (letters / 4).max(1).min(letters.saturating_sub(1));
    known
        .into_iter()
        .map(|known| (distance(name, known), known))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// Edits between two names, letter case not counted; two neighbours that changed places are one.
fn distance(a: &str, b: &str) -> usize {
    let letters = |name: &str| -> Vec<char> {
        let lower = name.chars().map(|letter| letter.to_ascii_lowercase());
        lower.take(MOST_LETTERS).collect()
    };
    let (a, b) = (letters(a), letters(b));
    // Rows of the two letters before, and of the last one.
    let (mut older, mut old) = (Vec::new(), (0..=a.len()).collect::<Vec<usize>>());
    for (index, &letter) in b.iter().enumerate() {
        let mut row = vec![index + 1];
        for (column, &other) in a.iter().enumerate() {
            let replaced = old[column] + usize::from(other != letter);
            let mut least = replaced.min(old[column + 1] + 1).min(row[column] + 1);
            if let (Some(before), Some(beside)) = (index.checked_sub(1), column.checked_sub(1))
                && (b[before], a[beside]) == (other, letter)
            {
                least = least.min(older[beside] + 1);
            }
            row.push(least);
        }
        older = std::mem::replace(&mut old, row);
    }
    old[a.len()]
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
        assert_eq!(closest("base_rl", ["base_lr", "gamma"]), Some("base_lr"));
        for other in ["ShuffleChannel", "Interp", "x", "", "ceil_mode"] {
            assert_eq!(closest(other, known), None, "{other}");
        }
        assert_eq!(closest("x", ["k"]), None);
        assert_eq!(closest("new_param", ["relu_param", "elu_param"]), None);
        assert_eq!(closest(&"long".repeat(1 << 20), known), None);
    }
}
