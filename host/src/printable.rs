//! Text of strangers on a terminal: nothing in it is a command to the terminal, moves what others wrote, or
//! looks like something else.

use std::borrow::Cow;
use std::fmt::Write;

/// Text with line ends and tabs as they are, and everything that is not seen escaped (`\u{1b}`).
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_hidden(c) && !matches!(c, '\n' | '\t'), braced)
}

/// The same as one line: line ends are escaped too.
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_hidden(c) && c != '\t', braced)
}

/// The same for a cell of a table, whose columns are counted.
pub fn cell(text: &str) -> Cow<'_, str> {
    escaped(text, is_hidden, braced)
}

/// A JSON document, which stays the same to a reader of JSON.
pub fn json(text: &str) -> Cow<'_, str> {
    escaped(
        text,
        |c| is_hidden(c) && c != '\n',
        |text, c| {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(text, "\\u{unit:04x}");
            }
        },
    )
}

/// Controls of both ranges, and what changes direction or has no width.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

fn braced(text: &mut String, c: char) {
    match c {
        '\n' => text.push_str("\\n"),
        '\r' => text.push_str("\\r"),
        '\t' => text.push_str("\\t"),
        // Writing to a String cannot fail.
        _ => drop(write!(text, "\\u{{{:x}}}", u32::from(c))),
    }
}

fn escaped(
    text: &str,
    hidden: impl Fn(char) -> bool,
    escape: impl Fn(&mut String, char),
) -> Cow<'_, str> {
    if !text.chars().any(&hidden) {
        return Cow::Borrowed(text);
    }
    let mut seen = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match hidden(c) {
            true => escape(&mut seen, c),
            false => seen.push(c),
        }
    }
    Cow::Owned(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_a_terminal_as_a_command() {
        let evil = "a\u{1b}[31mb\u{9b}2Jc\u{202e}d\u{7f}\r\n\té";
        assert_eq!(
            lines(evil),
            "a\\u{1b}[31mb\\u{9b}2Jc\\u{202e}d\\u{7f}\\r\n\té"
        );
        assert_eq!(line("a\nb\tc"), "a\\nb\tc");
        assert_eq!(cell("a\nb\tc"), "a\\nb\\tc");
        assert!(matches!(lines("conv1/3×3\n"), Cow::Borrowed(_)));
    }

    #[test]
    fn json_says_the_same() {
        assert_eq!(json("\"\u{9b}\u{e0041}\"\n"), "\"\\u009b\\udb40\\udc41\"\n");
    }
}
