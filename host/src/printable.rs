//! Text of strangers on a terminal: nothing in it is a command to the terminal, moves what others wrote, or
//! looks like something else. Bytes that are no UTF-8 ([`octets`]) are shown as C writes them: `\xe9`.

use crate::octets;
use std::borrow::Cow;
use std::fmt::Write;

/// Text with line ends and tabs as they are, and everything that is not seen escaped (`\u{1b}`).
pub fn lines(text: &str) -> Cow<'_, str> {
    shown(text, |c| is_hidden(c) && !matches!(c, '\n' | '\t'))
}

/// The same as one line: line ends are escaped too.
pub fn line(text: &str) -> Cow<'_, str> {
    shown(text, |c| is_hidden(c) && c != '\t')
}

/// The same for a cell of a table, whose columns are counted.
pub fn cell(text: &str) -> Cow<'_, str> {
    shown(text, is_hidden)
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

fn shown(text: &str, hidden: impl Fn(char) -> bool) -> Cow<'_, str> {
    let undone = without_debug(text);
    let hidden = |c| hidden(c) || octets::byte(c).is_some();
    match escaped(&undone, hidden, braced) {
        Cow::Owned(seen) => Cow::Owned(seen),
        Cow::Borrowed(_) => undone,
    }
}

/// How a character that is a byte begins where a name is written in quotes, as `{:?}` does.
const IN_DEBUG: &str = "\\u{ef";

/// The text with characters that are bytes as themselves where `{:?}` has escaped them already.
fn without_debug(text: &str) -> Cow<'_, str> {
    let mut parts = text.split(IN_DEBUG);
    let mut undone = parts.next().unwrap_or_default().to_owned();
    if undone.len() == text.len() {
        return Cow::Borrowed(text);
    }
    for part in parts {
        let low = part.split_once('}').filter(|(digits, _)| digits.len() == 2);
        let low = low.and_then(|(digits, rest)| Some((u8::from_str_radix(digits, 16).ok()?, rest)));
        match low.filter(|(byte, _)| !byte.is_ascii()) {
            Some((byte, rest)) => {
                undone.push_str(&octets::text(&[byte]));
                undone.push_str(rest);
            }
            None => {
                undone.push_str(IN_DEBUG);
                undone.push_str(part);
            }
        }
    }
    Cow::Owned(undone)
}

fn braced(text: &mut String, c: char) {
    if let Some(byte) = octets::byte(c) {
        // Writing to a String cannot fail, here and below.
        let _ = write!(text, "\\x{byte:02x}");
        return;
    }
    match c {
        '\n' => text.push_str("\\n"),
        '\r' => text.push_str("\\r"),
        '\t' => text.push_str("\\t"),
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

/// What a command line's parser complains of, as one line: its own lines without the usage, tips behind a
/// semicolon.
pub fn complaint(text: &str) -> String {
    let complaint = text.split("\nUsage:").next().unwrap_or_default();
    let complaint = complaint.strip_prefix("error: ").unwrap_or(complaint);
    let lines = complaint.lines().map(str::trim);
    let telling = |line: &&str| !line.is_empty() && !line.starts_with("For more information");
    let mut text = String::new();
    for line in lines.filter(telling) {
        let gap = match line.starts_with("tip: ") {
            _ if text.is_empty() => "",
            true => "; ",
            false => " ",
        };
        text = format!("{text}{gap}{line}");
    }
    text
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
    fn bytes_are_shown_as_c_writes_them() {
        let name = octets::text(b"caf\xe9").into_owned();
        assert_eq!(line(&name), "caf\\xe9");
        assert_eq!(
            cell(&format!("layer {name:?}: {name}")),
            "layer \"caf\\xe9\": caf\\xe9"
        );
        assert_eq!(
            lines("\\u{ef41} \\u{efzz} \\u{ef"),
            "\\u{ef41} \\u{efzz} \\u{ef"
        );
        assert!(matches!(line("caf\u{f000}é"), Cow::Borrowed(_)));
    }

    #[test]
    fn json_says_the_same() {
        assert_eq!(json("\"\u{9b}\u{e0041}\"\n"), "\"\\u009b\\udb40\\udc41\"\n");
    }
}
