//! Numbers of the text format.

use super::super::schema::Kind;

/// Integer of decimal, hexadecimal (`0x`) or octal (leading 0) digits.
pub(super) fn integer(text: &str) -> Option<u64> {
    let hexadecimal = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let (digits, base) = match (hexadecimal, text) {
        (Some(digits), _) => (digits, 16),
        (None, "0") => ("0", 10),
        (None, _) => text
            .strip_prefix('0')
            .map_or((text, 10), |digits| (digits, 8)),
    };
    // `from_str_radix` would also take a sign.
    let is_number = digits.bytes().all(|byte| char::from(byte).is_digit(base));
    is_number.then(|| u64::from_str_radix(digits, base).ok())?
}

/// Number with or without point, exponent and the suffix of C's float.
pub(super) fn float(text: &str) -> Option<f64> {
    if let Some(value) = integer(text) {
        return Some(value as f64);
    }
    let digits = text.strip_suffix(['f', 'F']).unwrap_or(text);
    let is_decimal = digits
        .bytes()
        .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    is_decimal.then(|| digits.parse().ok())?
}

/// `inf`, `infinity`, `nan` in any case.
pub(super) fn special_float(word: &str) -> Option<f64> {
    match word.to_ascii_lowercase().as_str() {
        "inf" | "infinity" | "inff" => Some(f64::INFINITY),
        "nan" | "nanf" => Some(f64::NAN),
        _ => None,
    }
}

/// `true`, `false` and their short forms.
pub(super) fn boolean(word: &str) -> Option<bool> {
    match word {
        "true" | "True" | "t" => Some(true),
        "false" | "False" | "f" => Some(false),
        _ => None,
    }
}

/// What a value of that type looks like, for error messages.
pub(super) fn expected(kind: Kind) -> &'static str {
    match kind {
        Kind::int32 => "an integer of -2147483648 to 2147483647",
        Kind::int64 => "an integer of 64 bits",
        Kind::uint32 => "an integer of 0 to 4294967295",
        Kind::bool => "true or false",
        Kind::float | Kind::double => "a number",
        Kind::string => "a string in quotes, in UTF-8",
        Kind::bytes => "a string in quotes",
        Kind::Enum(_) => "a name",
        Kind::Message(_) => "a message in braces",
    }
}

/// The integer as a varint of that type, when it is in range.
pub(super) fn varint(kind: Kind, negative: bool, magnitude: u64) -> Option<u64> {
    let value = i128::from(magnitude) * if negative { -1 } else { 1 };
    match kind {
        Kind::int32 => i32::try_from(value)
            .ok()
            .map(|value| i64::from(value) as u64),
        Kind::int64 => i64::try_from(value).ok().map(|value| value as u64),
        Kind::uint32 => u32::try_from(value).ok().map(u64::from),
        Kind::bool => u64::try_from(value).ok().filter(|&value| value <= 1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(integer("0"), Some(0));
        assert_eq!(integer("017"), Some(15));
        assert_eq!(integer("0x1F"), Some(31));
        assert_eq!(integer("18446744073709551615"), Some(u64::MAX));
        for wrong in ["", "08", "0x", "1a", "+1", "18446744073709551616", "1_0"] {
            assert_eq!(integer(wrong), None, "{wrong}");
        }
        for (text, value) in [
            ("1.", 1.0),
            (".5", 0.5),
            ("1e-4", 1e-4),
            ("1f", 1.0),
            ("1.5F", 1.5),
            ("2E+3", 2e3),
        ] {
            assert_eq!(float(text), Some(value), "{text}");
        }
        for wrong in ["1.2.3", "1e", "f", "1x", "1.5ff", "."] {
            assert_eq!(float(wrong), None, "{wrong}");
        }
        assert_eq!(special_float("-inf"), None);
        assert_eq!(varint(Kind::int32, true, 1), Some(u64::MAX));
        assert_eq!(varint(Kind::uint32, true, 1), None);
        assert_eq!(
            varint(Kind::int32, true, 1 << 31),
            Some(0xffff_ffff_8000_0000)
        );
        assert_eq!(varint(Kind::int32, false, 1 << 31), None);
    }
}
