//! Bytes that are no UTF-8 as text that is, and back: strangers' files are in Latin-1, GBK and others, and do not
//! say which.
//!
//! In a string that is not UTF-8 every byte of 0x80 and more becomes a character of its own, U+EF80 to U+EFFF.
//! Nobody else uses these, and a string that has one of them all the same is taken apart like that too, so every
//! string comes back as it was.

use std::borrow::Cow;
use std::path::PathBuf;

/// What a byte's number is added to.
const BASE: u32 = 0xef00;

/// Whether bytes are the same as text.
pub fn are_text(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| !any_in(text))
}

/// The text that stands for bytes.
pub fn text(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !any_in(text) => Cow::Borrowed(text),
        _ => Cow::Owned(bytes.iter().copied().map(character).collect()),
    }
}

/// The bytes that a text stands for.
pub fn bytes(text: &str) -> Cow<'_, [u8]> {
    if !any_in(text) {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut bytes = Vec::with_capacity(text.len());
    for c in text.chars() {
        match byte(c) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Cow::Owned(bytes)
}

/// Whether a text stands for bytes that are no UTF-8.
pub fn any_in(text: &str) -> bool {
    text.chars().any(|c| byte(c).is_some())
}

/// The byte that a character stands for.
pub fn byte(c: char) -> Option<u8> {
    let byte = u8::try_from(u32::from(c).checked_sub(BASE)?).ok()?;
    (!byte.is_ascii()).then_some(byte)
}

fn character(byte: u8) -> char {
    match byte.is_ascii() {
        true => char::from(byte),
        // No surrogate, so always there.
        false => char::from_u32(BASE + u32::from(byte)).unwrap_or(char::REPLACEMENT_CHARACTER),
    }
}

/// The path that a text stands for.
#[cfg(unix)]
pub fn path(text: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    std::ffi::OsString::from_vec(bytes(text).into_owned()).into()
}

/// The path that a text stands for; paths are no bytes here.
#[cfg(not(unix))]
pub fn path(text: &str) -> PathBuf {
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_strings_come_back_and_differ() {
        let latin = b"caf\xe9".as_slice();
        let strings = [
            b"conv1".as_slice(),
            "café".as_bytes(),
            latin,
            b"\xbe\xed\xbb\xfd",
            b"\x80\xff",
            "caf\u{efe9}".as_bytes(),
        ];
        let texts: std::collections::BTreeSet<_> =
            strings.iter().map(|bytes| text(bytes)).collect();
        assert_eq!(texts.len(), strings.len());
        for string in strings {
            assert_eq!(bytes(&text(string)), string);
        }
        assert_eq!(text(latin), "caf\u{efe9}");
        assert!(matches!(text("café".as_bytes()), Cow::Borrowed("café")));
        assert!(are_text("café".as_bytes()) && !are_text(latin));
        assert!(any_in(&text(latin)) && !any_in("caf\u{ef7f}\u{f000}"));
    }
}
